//! `edge-rlp adapt`: pictures in, features once, a prompt trained on them, and the prompt kept if it does no harm.

mod adaptation;
mod arguments;
mod report;
mod sisters;
mod unlabelled;
mod view;

pub use arguments::Arguments;

use super::camera::Camera;
use super::output::count;
use super::shots::Retention;
use super::{Context, Exit, usage};
use crate::adapt::pictures::{Choice, LabelledPictures, demo_labels, drawn_class};
use crate::frames::{CameraSource, loose_pictures};
use crate::prompt::region::in_words;
use crate::prompt::{Region, labels};
use crate::store::LABELS_FILE;
use adaptation::{Adaptation, Plan};
use std::path::{Path, PathBuf};

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    Retention::new(context).apply_and_tell();
    arguments.camera.warn(context);
    if arguments.self_training.unlabelled {
        if !arguments.pictures.regions.regions()?.is_empty() {
            return Err(usage(
                "--unlabelled learns from whole pictures: leave --region out",
            ));
        }
        return unlabelled::run(&arguments, context);
    }
    // All that can be wrong with the flags is found before the first picture is touched.
    let mut plan = arguments.plan(context)?;
    plan.check_out(context)?;
    let taught = taught(&arguments, context)?;
    if plan.regions.is_empty() && (taught.is_some() || arguments.pictures.shots_from.is_some()) {
        plan.regions = remembered(&arguments, context)?;
    }
    if let Some((source, title)) = taught {
        return teach((source, title), &arguments, plan, context);
    }
    let pictures = pictures(&arguments, context)?;
    context.output.unused_folders(&pictures.unused);
    context.output.left_out(&pictures.left_out);
    let adaptation = Adaptation::open(plan, pictures.labels.clone(), context)?;
    let set = adaptation.features(&pictures, context)?;
    let features_seconds = adaptation.plan.started.elapsed().as_secs_f64();
    let mut trained = adaptation.train(&set, context)?;
    trained.skipped_images = pictures.len() - set.labels.len();
    trained.seconds.features = features_seconds;
    adaptation.finish(&trained, context)
}

/// The pictures that a person at the terminal is to label, if that is how to learn, and what they are called: a camera's, or
/// those of `--shots-from` where none has a label.
fn taught(
    arguments: &Arguments,
    context: &Context,
) -> anyhow::Result<Option<(view::Source, String)>> {
    if let Some(from) = &arguments.pictures.shots_from {
        let folder = shots_folder(from, &arguments.prompt, context)?;
        let waiting = loose_pictures(&folder).unwrap_or_default();
        if waiting.is_empty() {
            return Ok(None);
        }
        if context.home.shots_in(&folder)?.is_empty() && view::is_there() {
            return Ok(Some((
                view::Source::Kept(waiting),
                folder.display().to_string(),
            )));
        }
        context.output.warn(format!(
            "left out, for no folder of a label holds them: {} in {}",
            count(waiting.len() as u64, "picture"),
            folder.display()
        ));
        return Ok(None);
    }
    let Some(camera) = arguments.camera()? else {
        return Ok(None);
    };
    let labels_itself = matches!(camera.source, CameraSource::Demo(_)) && !arguments.labelling.view;
    if labels_itself {
        return Ok(None);
    }
    if view::is_there() {
        let title = format!("camera {}", camera.source);
        return Ok(Some((
            view::Source::Camera(camera.source, camera.options),
            title,
        )));
    }
    if arguments.labelling.view {
        Err(usage(
            "--view needs a terminal: its picture goes to standard error, and its keys come from standard input",
        ))
    } else {
        Ok(None)
    }
}

/// The parts of a camera's pictures that the shots to learn from are of, where nothing is said: what is noted beside them,
/// else what the prompt of their name was trained on.
fn remembered(arguments: &Arguments, context: &Context) -> anyhow::Result<Vec<Region>> {
    let from = arguments.pictures.shots_from.as_deref().unwrap_or_default();
    let folder = shots_folder(from, &arguments.prompt, context)?;
    let of_prompt = || {
        let named = !from.is_empty() && !from.contains(['/', '\\']);
        let prompt = if named { from } else { &arguments.prompt };
        Some(context.home.load(prompt).ok()?.record.regions)
    };
    let noted = || match context.home.shots_in(&folder) {
        // Those of a session whose shots are gone say nothing of the next.
        Ok(shots) if shots.is_empty() => None,
        _ => context.home.shot_regions(&folder),
    };
    let regions = noted().or_else(of_prompt);
    let regions = regions.unwrap_or_default();
    if !regions.is_empty() {
        context.output.note(format!(
            "the shots show {} of a camera's pictures",
            in_words(&regions)
        ));
    }
    Ok(regions)
}

/// Opens the view in which the pictures of a source are labelled; it is called `title`.
fn teach(
    (source, title): (view::Source, String),
    arguments: &Arguments,
    plan: Plan,
    context: &Context,
) -> anyhow::Result<Exit> {
    let kept = context.home.shots_folder(&plan.prompt)?.join(LABELS_FILE);
    let drawn = matches!(source, view::Source::Camera(CameraSource::Demo(_), _));
    let labels = match &arguments.labelling.labels {
        Some(file) => labels::read(file)?,
        None if kept.is_file() => labels::read(&kept)?,
        None if drawn => demo_labels(),
        None => match context.home.load(&plan.prompt) {
            Ok(loaded) => loaded.record.labels,
            Err(_) => {
                return Err(usage(
                    "say with --labels FILE what there is to tell apart: one label a line",
                ));
            }
        },
    };
    if drawn {
        labels
            .iter()
            .try_for_each(|label| drawn_class(label).map(drop))?;
    }
    let adaptation = Adaptation::open(plan, labels, context)?;
    let view = view::View {
        source,
        title,
        adaptation: &adaptation,
        blocks: arguments.labelling.blocks,
    };
    view::run(&view, context)
}

fn pictures(arguments: &Arguments, context: &Context) -> anyhow::Result<LabelledPictures> {
    let choice = Choice {
        labels: arguments.labelling.labels.as_deref(),
        shots: arguments.pictures.shots(),
        seed: arguments.training.seed,
    };
    if let Some(from) = &arguments.pictures.shots_from {
        let folder = shots_folder(from, &arguments.prompt, context)?;
        return Ok(LabelledPictures::from_shots(
            &context.home,
            &folder,
            choice,
        )?);
    }
    let regions = arguments.pictures.regions.regions()?;
    match (&arguments.pictures.images, arguments.camera()?) {
        (Some(dir), _) => Ok(LabelledPictures::from_folder(dir, choice)?.cut(regions)),
        (None, Some(Camera { source, .. })) => {
            let CameraSource::Demo(conditions) = &source else {
                return Err(usage(format!(
                    "camera {source} cannot say what it shows, and there is no terminal to label its pictures at: go to \
                     one, or use --shots-from (shots that were kept), --images DIR (one folder of pictures a label) or --unlabelled \
                     (learn from the surest pictures)"
                )));
            };
            let &[condition] = &conditions[..] else {
                return Err(usage(format!(
                    "camera {source} changes its condition, which is for --watch and classify: name one to learn from"
                )));
            };
            Ok(LabelledPictures::from_demo(condition, choice)?.cut(regions))
        }
        (None, None) => Err(usage(
            "say where pictures come from: --camera SRC, --camera-config FILE, --images DIR or --shots-from",
        )),
    }
}

/// The folder that `--shots-from` means: the shots of the prompt that is made where nothing is said, those of another
/// prompt by name, or a folder where there is a separator.
fn shots_folder(from: &str, prompt: &str, context: &Context) -> anyhow::Result<PathBuf> {
    if from.contains(['/', '\\']) {
        return Ok(from.into());
    }
    let name = if from.is_empty() { prompt } else { from };
    let folder = context.home.shots_folder(name).map_err(usage)?;
    if !from.is_empty() && !folder.exists() && Path::new(from).is_dir() {
        return Err(usage(format!(
            "there are no shots of a prompt {from:?}; for the folder of that name write ./{from}"
        )));
    }
    Ok(folder)
}
