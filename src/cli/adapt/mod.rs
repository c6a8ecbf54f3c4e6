//! `edge-rlp adapt`: pictures in, features once, a prompt trained on them, and the prompt kept if it does no harm.

mod adaptation;
mod report;

use super::pictures::LabelledPictures;
use super::{Context, Exit, usage};
use crate::adapt::Options;
use crate::adapt::features::Extraction;
use crate::adapt::trainer::Recipe;
use crate::clip::text_tower::DEFAULT_MEMORY;
use crate::frames::CameraSource;
use crate::prompt::{Method, Template};
use adaptation::{Adaptation, Plan};
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct Arguments {
    /// Learn from a camera: demo or demo:CONDITION draws pictures and labels them itself
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
    /// Keep the prompt even where it is worse than zero-shot
    #[arg(long)]
    force: bool,
    /// Megabytes that a training step may keep for its sweep back; with less, many labels take longer
    #[arg(long, value_name = "MB", default_value_t = (DEFAULT_MEMORY >> 20) as u32, value_parser = clap::value_parser!(u32).range(1..))]
    memory: u32,
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    // All that can be wrong with the flags is found before the first picture is touched.
    let plan = plan(&arguments, context)?;
    let pictures = pictures(&arguments, context)?;
    let adaptation = Adaptation::open(plan, pictures.labels.clone(), context)?;
    let set = adaptation.features(&pictures, context)?;
    let features_seconds = adaptation.plan.started.elapsed().as_secs_f64();
    let mut trained = adaptation.train(&set, context)?;
    trained.skipped_images = pictures.len() - set.labels.len();
    trained.seconds.features = features_seconds;
    adaptation.finish(&trained, context)
}

/// The flags as one plan, and what is wrong with them.
fn plan(arguments: &Arguments, context: &Context) -> anyhow::Result<Plan> {
    context.home.prompt_path(&arguments.prompt).map_err(usage)?;
    Ok(Plan {
        template: Template::parse(&arguments.template).map_err(usage)?,
        options: options(arguments)?,
        extraction: Extraction {
            views: arguments.views as usize,
            seed: arguments.seed,
            threads: context.threads,
        },
        model: arguments.model.clone(),
        prompt: arguments.prompt.clone(),
        force: arguments.force,
        started: Instant::now(),
    })
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
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
        memory: (arguments.memory as usize).saturating_mul(1 << 20),
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
            let CameraSource::Demo(condition) = source else {
                return Err(usage(format!(
                    "camera {source} cannot say what it shows: save its pictures into one folder a label, and use --images DIR"
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
