//! `edge-rlp adapt`: pictures in, features once, a prompt trained on them, and the prompt kept if it does no harm.

mod adaptation;
mod report;
mod unlabelled;
mod view;

use super::pictures::{LabelledPictures, demo_labels, drawn_class};
use super::{Context, Exit, limits, usage};
use crate::adapt::Options;
use crate::adapt::features::Extraction;
use crate::adapt::trainer::Recipe;
use crate::clip::text_tower::DEFAULT_MEMORY;
use crate::frames::{CameraOptions, CameraSource, CaptureFormat};
use crate::prompt::{Method, Template, labels};
use crate::store::LABELS_FILE;
use adaptation::{Adaptation, Plan};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct Arguments {
    /// Learn from a camera, as `classify --camera` names it: at a terminal a full-screen view opens in which each key
    /// keeps what is shown as a shot of a label. demo or demo:CONDITION draws pictures and labels them itself
    #[arg(long, value_name = "SRC", group = "source")]
    camera: Option<String>,
    /// Learn from a folder with one sub-folder of pictures a label
    #[arg(long, value_name = "DIR", group = "source")]
    images: Option<PathBuf>,
    /// Learn from the shots that were kept when the prompt was last taught at a terminal; of another prompt with its
    /// NAME, or from a folder of shots that was copied here
    #[arg(long, value_name = "NAME|DIR", group = "source", num_args = 0..=1, default_missing_value = "")]
    shots_from: Option<String>,
    /// One label a line, optionally "label = words for the prompt" [default: the labels.txt or sub-folders
    /// of the folder, or all that the demo camera draws]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Label the demo camera's pictures at the terminal too
    #[arg(long)]
    view: bool,
    /// Show the camera's picture as coloured blocks even where the terminal could show its pixels, which a slow line
    /// does not carry
    #[arg(long)]
    blocks: bool,
    /// What to ask a camera for [default: 640x480@30]
    #[arg(long, value_name = "WxH@FPS")]
    format: Option<CaptureFormat>,
    /// Give a camera up that has sent nothing for so long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "30s")]
    camera_timeout: Duration,
    /// A model of the home folder, or a bundle file [default: the one inside the program]
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
    /// What to call the prompt
    #[arg(long, value_name = "NAME", default_value = "default")]
    prompt: String,
    /// Pictures to use of each label [default: all of a folder or all shots, 16 of a camera]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    shots: Option<u32>,
    /// The sentence labels stand in; the words before {} are what is tuned
    #[arg(long, value_name = "TEXT", default_value = "a photo of a {}.")]
    template: String,
    /// Rank of the two factors
    #[arg(long, value_name = "R", default_value_t = 1)]
    rank: usize,
    /// rlp tunes two low-rank factors, coop the whole context
    #[arg(long, value_name = "METHOD", default_value = "rlp")]
    method: String,
    /// Views of each picture to train on: itself and random crops
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    views: u32,
    /// Share of each label's pictures kept from training, to compare with zero-shot on
    #[arg(long, value_name = "F", default_value_t = 0.25)]
    holdout: f32,
    /// Same seed, same pictures: same prompt
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Training steps at most [default: 200; 600 with dropout]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Share of the prompt's change dropped at random in each step
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,
    /// Write the prompt to this file and leave the home folder alone
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    out: Option<PathBuf>,
    /// Learn with nobody there to label: from the pictures that the prompt in use, or zero-shot, is surest of
    #[arg(long, conflicts_with_all = ["shots_from", "view", "out"])]
    unlabelled: bool,
    /// With --unlabelled: pictures to collect at most, near-duplicates left out [default: 40 a label]
    #[arg(long, value_name = "N", requires = "unlabelled", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pool: Option<u32>,
    /// With --unlabelled: collect from a camera for so long at most
    #[arg(long, value_name = "DURATION", requires = "unlabelled", value_parser = humantime::parse_duration, default_value = "10m")]
    collect_for: Duration,
    /// With --unlabelled: times to label the pictures anew with the prompt just trained
    #[arg(long, value_name = "N", requires = "unlabelled", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    rounds: u32,
    /// With --unlabelled: stay, and adapt again whenever the pictures no longer look like those that the prompt in use was
    /// trained on
    #[arg(long, requires_all = ["unlabelled", "camera"])]
    watch: bool,
    /// With --watch: time between two adaptations at least
    #[arg(long, value_name = "DURATION", requires = "watch", value_parser = humantime::parse_duration, default_value = "10m")]
    pause: Duration,
    /// With --watch: time between two looks at a camera [default: 1s; demo scenes as fast as they are drawn]
    #[arg(long, value_name = "DURATION", requires = "watch", value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    /// Keep the prompt even where it is worse than zero-shot
    #[arg(long)]
    force: bool,
    /// Step back behind other programs by so much, from 0 to 19, as `nice` does
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(..=19))]
    pub nice: u8,
    /// Megabytes that a training step may keep for its sweep back; with less, many labels take longer [default: 256, or
    /// half of what a lower limit of the system leaves]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    memory: Option<u32>,
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    if arguments.unlabelled {
        return unlabelled::run(&arguments, context);
    }
    // All that can be wrong with the flags is found before the first picture is touched.
    let plan = plan(&arguments, context)?;
    if let Some(source) = taught(&arguments)? {
        return teach(source, &arguments, plan, context);
    }
    let pictures = pictures(&arguments, context)?;
    let adaptation = Adaptation::open(plan, pictures.labels.clone(), context)?;
    let set = adaptation.features(&pictures, context)?;
    let features_seconds = adaptation.plan.started.elapsed().as_secs_f64();
    let mut trained = adaptation.train(&set, context)?;
    trained.skipped_images = pictures.len() - set.labels.len();
    trained.seconds.features = features_seconds;
    adaptation.finish(&trained, context)
}

/// The camera whose pictures a person at the terminal is to label, if that is how to learn.
fn taught(arguments: &Arguments) -> anyhow::Result<Option<CameraSource>> {
    let Some(source) = &arguments.camera else {
        return Ok(None);
    };
    let source: CameraSource = source.parse().map_err(usage)?;
    let labels_itself = matches!(source, CameraSource::Demo(_)) && !arguments.view;
    if labels_itself {
        return Ok(None);
    }
    if view::is_there() {
        return Ok(Some(source));
    }
    match arguments.view {
        true => Err(usage(
            "--view needs a terminal: its picture goes to standard error, and its keys come from standard input",
        )),
        false => Ok(None),
    }
}

/// Opens the view in which `source` is labelled.
fn teach(
    source: CameraSource,
    arguments: &Arguments,
    plan: Plan,
    context: &Context,
) -> anyhow::Result<Exit> {
    let kept = context.home.shots_folder(&plan.prompt)?.join(LABELS_FILE);
    let drawn = matches!(source, CameraSource::Demo(_));
    let labels = match &arguments.labels {
        Some(file) => labels::read(file)?,
        None if kept.is_file() => labels::read(&kept)?,
        None if drawn => demo_labels()?,
        None => {
            return Err(usage(
                "say with --labels FILE what there is to tell apart: one label a line",
            ));
        }
    };
    if drawn {
        labels
            .iter()
            .try_for_each(|label| drawn_class(label).map(drop))?;
    }
    let adaptation = Adaptation::open(plan, labels, context)?;
    let view = view::View {
        source,
        options: camera_options(arguments),
        adaptation: &adaptation,
        blocks: arguments.blocks,
    };
    view::run(&view, context)
}

fn camera_options(arguments: &Arguments) -> CameraOptions {
    CameraOptions::within(arguments.camera_timeout).with_format(arguments.format)
}

/// The flags as one plan, and what is wrong with them.
fn plan(arguments: &Arguments, context: &Context) -> anyhow::Result<Plan> {
    context.home.prompt_path(&arguments.prompt).map_err(usage)?;
    Ok(Plan {
        template: Template::parse(&arguments.template).map_err(usage)?,
        options: options(arguments, context)?,
        extraction: Extraction {
            views: arguments.views as usize,
            seed: arguments.seed,
            threads: context.threads,
        },
        model: arguments.model.clone(),
        prompt: arguments.prompt.clone(),
        out: arguments.out.clone(),
        force: arguments.force,
        started: Instant::now(),
    })
}

fn options(arguments: &Arguments, context: &Context) -> anyhow::Result<Options> {
    let method: Method = arguments.method.parse().map_err(usage)?;
    let default = Recipe::of(method);
    let dropout = arguments.dropout.unwrap_or(default.dropout);
    for (flag, share) in [("--holdout", arguments.holdout), ("--dropout", dropout)] {
        if !(0.0..1.0).contains(&share) {
            return Err(usage(format!(
                "{flag} {share}: give a share from 0 up to, but not including, 1"
            )));
        }
    }
    let default = default.with_dropout(dropout);
    let steps = arguments.steps.map(|steps| steps as usize);
    Ok(Options {
        method,
        rank: arguments.rank,
        holdout: arguments.holdout,
        seed: arguments.seed,
        memory: match arguments.memory {
            Some(megabytes) => (megabytes as usize).saturating_mul(1 << 20),
            None => limits::memory_to_keep(DEFAULT_MEMORY, context.threads),
        },
        recipe: Recipe {
            steps: steps.unwrap_or(default.steps),
            ..default
        },
    })
}

fn pictures(arguments: &Arguments, context: &Context) -> anyhow::Result<LabelledPictures> {
    let labels = arguments.labels.as_deref();
    let shots = arguments.shots.map(|shots| shots as usize);
    let seed = arguments.seed;
    if let Some(from) = &arguments.shots_from {
        let folder = shots_folder(from, &arguments.prompt, context)?;
        return LabelledPictures::from_shots(&folder, labels, shots, seed, context);
    }
    match (&arguments.images, &arguments.camera) {
        (Some(dir), _) => LabelledPictures::from_folder(dir, labels, shots, seed, context),
        (None, Some(source)) => {
            let source: CameraSource = source.parse().map_err(usage)?;
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
            LabelledPictures::from_demo(condition, labels, shots, seed)
        }
        (None, None) => Err(usage(
            "say where pictures come from: --camera SRC, --images DIR or --shots-from",
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
    context.home.shots_folder(name).map_err(usage)
}
