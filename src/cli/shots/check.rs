//! `edge-rlp shots check`: which shots are probably labelled wrong, which are there twice, which hurt, and whether more help.

use super::count;
use crate::adapt::features::{Extraction, Monitor, Pictures, extract};
use crate::adapt::pictures::Choice;
use crate::adapt::{LabelledPictures, Task, inspection};
use crate::cli::output::{aligned, percent};
use crate::cli::{Context, Exit, model, usage};
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
    let mut set = extract(&model, source, extraction, monitor)?;
    bar.finish_and_clear();
    for warning in pictures.unreadable() {
        context.output.warn(format!("{warning}; skipped"));
    }
    let places = std::mem::take(&mut set.labels);
    set.labels = places.iter().map(|&place| pictures.class(place)).collect();
    let file = |row: usize| {
        let file = pictures.file(places[row]);
        file.map_or_else(String::new, |file| file.display().to_string())
    };
    let name = |class: usize| pictures.labels[class].name.as_str();

    let suspicions = inspection::suspicions(&task, &set)?;
    let harm = inspection::harm(&task, &set)?;
    let mut lines = vec![["label", "looks like", "doubt", "harm", "file"].map(str::to_owned)];
    for suspicion in suspicions
        .iter()
        .filter(|of| of.doubt > 0.0)
        .take(arguments.top)
    {
        let (label, seems) = (name(suspicion.label), name(suspicion.seems));
        let hurts = harm[suspicion.picture];
        context.output.object(&json!({
            "kind": "suspicion",
            "file": file(suspicion.picture),
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
            file(suspicion.picture),
        ]);
    }
    if lines.len() > 1 {
        context
            .output
            .line("suspected wrong labels, the most suspicious first:");
        aligned(&lines)
            .into_iter()
            .for_each(|line| context.output.line(line));
    } else {
        context.output.line("no label looks wrong");
    }
    for pair in inspection::duplicates(&set).iter().take(arguments.top) {
        let [first, second] = pair.pictures;
        let labels = [first, second].map(|row| name(set.labels[row]));
        context.output.object(&json!({
            "kind": "duplicate",
            "files": [file(first), file(second)],
            "labels": labels,
            "cosine": pair.cosine,
        }))?;
        let verdict = match labels[0] == labels[1] {
            true => format!("nearly the same picture twice of {}", labels[0]),
            false => format!(
                "nearly the same picture as {} and as {}",
                labels[0], labels[1]
            ),
        };
        let (first, second) = (file(first), file(second));
        context
            .output
            .line(format!("{verdict}: {first} and {second}"));
    }
    let curve = inspection::learning_curve(&task, &set)?;
    for point in &curve {
        context.output.object(&json!({
            "kind": "learning",
            "shots": point.pictures,
            "accuracy": point.accuracy,
        }))?;
    }
    let points = curve.iter().map(|point| {
        format!(
            "{} after {}",
            percent(point.accuracy),
            count(point.pictures)
        )
    });
    let points: Vec<String> = points.collect();
    if !points.is_empty() {
        context.output.line(format!(
            "right on shots not learnt from: {}",
            points.join(", ")
        ));
    }
    Ok(Exit::Done)
}
