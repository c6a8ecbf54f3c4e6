//! `edge-rlp shots check`: which shots are probably labelled wrong, which are there twice, which hurt, and whether more help.

use super::count;
use crate::adapt::features::{Extraction, FeatureSet, Monitor, Pictures, extract};
use crate::adapt::inspection::{self, Wanted};
use crate::adapt::pictures::Choice;
use crate::adapt::{LabelledPictures, Task};
use crate::cli::output::{aligned, percent};
use crate::cli::{Context, Exit, model, usage};
use crate::clip::Model;
use crate::prompt::Template;
use serde_json::json;
use std::path::PathBuf;

/// Shots that are named where nothing is said.
const NAMED: usize = 10;

#[derive(clap::Args)]
pub struct Arguments {
    /// The prompt that the shots were taken for
    #[arg(value_name = "NAME", required_unless_present = "images")]
    prompt: Option<String>,
    /// Check a folder with one sub-folder of pictures a label instead
    #[arg(long, value_name = "DIR", conflicts_with = "prompt")]
    images: Option<PathBuf>,
    /// A model of the home folder, or a bundle file [default: the one inside the program]
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
    /// Shots to name at most
    #[arg(long, value_name = "N", default_value_t = NAMED)]
    top: usize,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let pictures = match (&arguments.images, &arguments.prompt) {
        (Some(dir), _) => LabelledPictures::from_folder(dir, Choice::default())?,
        (None, Some(prompt)) => {
            let folder = context.home.shots_folder(prompt).map_err(usage)?;
            LabelledPictures::from_shots(&context.home, &folder, Choice::default())?
        }
        (None, None) => return Err(usage("name a prompt, or a folder with --images")),
    };
    let model = model::open(arguments.model.as_deref(), context)?;
    let layout = model.layout(&Template::default(), &pictures.labels)?;
    let task = Task::new(&model, &pictures.labels, &layout)?;
    let checked = Checked::encode(&model, &pictures, context)?;
    checked.suspicions(&task, arguments.top, context)?;
    checked.duplicates(arguments.top, context)?;
    checked.learning_curve(&task, context)?;
    checked.advice(&task, context)?;
    Ok(Exit::Done)
}

/// Pictures with labels, and their features.
struct Checked<'a> {
    pictures: &'a LabelledPictures,
    set: FeatureSet,
    /// The place among the pictures of each that could be read.
    places: Vec<usize>,
}

impl Checked<'_> {
    /// Encodes pictures, with a progress bar; those that cannot be read are reported and left out.
    fn encode<'a>(
        model: &Model,
        pictures: &'a LabelledPictures,
        context: &Context,
    ) -> anyhow::Result<Checked<'a>> {
        let bar = context.output.progress("pictures", pictures.len() as u64);
        let mut extraction = Extraction::new(1, 0);
        extraction.threads = context.threads;
        let source = Pictures {
            count: pictures.len(),
            // The place of each picture stands for its label until it is known which could be read.
            load: &|index| pictures.load(index).map(|(picture, _)| (picture, index)),
        };
        let monitor = Monitor {
            done: &|done| bar.set_position(done as u64),
            stop: &context.stop,
        };
        let mut set = extract(model, source, extraction, monitor)?;
        bar.finish_and_clear();
        for warning in pictures.unreadable() {
            context.output.warn(format!("{warning}; skipped"));
        }
        let places = std::mem::take(&mut set.labels);
        set.labels = places.iter().map(|&place| pictures.class(place)).collect();
        Ok(Checked {
            pictures,
            set,
            places,
        })
    }

    fn file(&self, row: usize) -> String {
        let file = self.pictures.file(self.places[row]);
        file.map_or_else(String::new, |file| file.display().to_string())
    }

    fn name(&self, class: usize) -> &str {
        &self.pictures.labels[class].name
    }

    /// Names the shots whose labels are probably wrong, `top` at most, and how much each hurts.
    fn suspicions(&self, task: &Task, top: usize, context: &Context) -> anyhow::Result<()> {
        let suspicions = inspection::suspicions(task, &self.set)?;
        let harm = inspection::harm(task, &self.set)?;
        let mut lines = vec![["label", "looks like", "doubt", "harm", "file"].map(str::to_owned)];
        let doubtful = suspicions.iter().filter(|of| of.doubt > 0.0);
        for suspicion in doubtful.take(top) {
            let (label, seems) = (self.name(suspicion.label), self.name(suspicion.seems));
            let (file, hurts) = (self.file(suspicion.picture), harm[suspicion.picture]);
            context.output.object(&json!({
                "kind": "suspicion",
                "file": file,
                "label": label,
                "seems": seems,
                "doubt": suspicion.doubt,
                "harm": hurts,
            }))?;
            lines.push([
                label.to_owned(),
                seems.to_owned(),
                format!("{:.1}", suspicion.doubt),
                format!("{hurts:+.3}"),
                file,
            ]);
        }
        if lines.len() == 1 {
            context.output.line("no label looks wrong");
            return Ok(());
        }
        let heading = "suspected wrong labels, the most suspicious first:";
        context.output.line(heading);
        for line in aligned(&lines) {
            context.output.line(line);
        }
        Ok(())
    }

    /// Names pairs of shots that are nearly the same picture, `top` at most.
    fn duplicates(&self, top: usize, context: &Context) -> anyhow::Result<()> {
        for pair in inspection::duplicates(&self.set).iter().take(top) {
            let labels = pair.pictures.map(|row| self.name(self.set.labels[row]));
            let files = pair.pictures.map(|row| self.file(row));
            context.output.object(&json!({
                "kind": "duplicate",
                "files": files,
                "labels": labels,
                "cosine": pair.cosine,
            }))?;
            let ([first, second], [one, other]) = (labels, files);
            let what = if first == second {
                format!("twice of {first}")
            } else {
                format!("as {first} and as {second}")
            };
            let line = format!("nearly the same picture {what}: {one} and {other}");
            context.output.line(line);
        }
        Ok(())
    }

    /// Says how many shots that were not learnt from are named right, after how many that were.
    fn learning_curve(&self, task: &Task, context: &Context) -> anyhow::Result<()> {
        let curve = inspection::learning_curve(task, &self.set)?;
        let mut points = Vec::with_capacity(curve.len());
        for point in &curve {
            context.output.object(&json!({
                "kind": "learning",
                "shots": point.pictures,
                "accuracy": point.accuracy,
            }))?;
            points.push(format!(
                "{} after {}",
                percent(point.accuracy),
                count(point.pictures)
            ));
        }
        if !points.is_empty() {
            let points = points.join(", ");
            let line = format!("right on shots not learnt from: {points}");
            context.output.line(line);
        }
        Ok(())
    }

    /// Says of which labels more shots would help, and of which not.
    fn advice(&self, task: &Task, context: &Context) -> anyhow::Result<()> {
        let mut plenty = Vec::new();
        for advice in inspection::enough(task, &self.set)?.advice {
            let label = self.name(advice.label);
            let mut object = json!({
                "kind": "advice",
                "advice": advice.wanted.name(),
                "label": label,
                "accuracy": advice.accuracy,
            });
            let line = match advice.wanted {
                Wanted::More { pictures, gain } => {
                    object["pictures"] = pictures.into();
                    object["gain"] = gain.into();
                    let more = format!("about {} more of {label}", count(pictures));
                    match gain {
                        Some(gain) => {
                            format!("{more} should bring it {:+.0} points", 100.0 * gain)
                        }
                        None => format!("{more} first: it has too few to tell"),
                    }
                }
                Wanted::Alike { other } => {
                    let other = self.name(other);
                    object["other"] = other.into();
                    format!("more shots will not help {label}: it looks like {other}")
                }
                Wanted::Plenty => {
                    plenty.push(label);
                    String::new()
                }
            };
            context.output.object(&object)?;
            if !line.is_empty() {
                context.output.line(line);
            }
        }
        if !plenty.is_empty() {
            let line = format!("enough shots of {}", plenty.join(", "));
            context.output.line(line);
        }
        Ok(())
    }
}
