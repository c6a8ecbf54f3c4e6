//! `edge-rlp adapt`: pictures in, features once, a prompt trained on them, and the prompt kept if it does no harm.

use super::output::percent;
use super::pictures::LabelledPictures;
use super::{Context, Exit, model, usage};
use crate::adapt::features::{self, Extraction, FeatureSet};
use crate::adapt::trainer::{Recipe, StepReport};
use crate::adapt::{self, AdaptError, Options, Outcome};
use crate::clip::Model;
use crate::clip::text_tower::DEFAULT_MEMORY;
use crate::frames::CameraSource;
use crate::prompt::{FactorsError, Label, Method, Template, density};
use crate::store::{Metrics, PromptRecord, Provenance, Saved};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Fewer readable pictures a label than this are too few to learn from and to judge by.
const FEWEST_SHOTS: usize = 2;

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct Arguments {
    /// Learn from a camera: demo or demo:CONDITION draws pictures and labels them itself
    #[arg(long, value_name = "SRC", group = "source")]
    camera: Option<String>,
    /// Learn from a folder with one sub-folder of pictures a label
    #[arg(long, value_name = "DIR", group = "source")]
    images: Option<PathBuf>,
    /// One label a line, optionally "label = words for the prompt" [default: the folder's labels.txt or
    /// sub-folders, or all that the demo camera draws]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// A model of the home folder, or a bundle file [default: the one inside the program]
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
    /// What to call the prompt
    #[arg(long, value_name = "NAME", default_value = "default")]
    prompt: String,
    /// Pictures to use of each label [default: all of a folder, 16 of a camera]
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
    let started = Instant::now();
    // All that can be wrong with the flags is found before the first picture is touched.
    let template = Template::parse(&arguments.template).map_err(usage)?;
    let options = options(&arguments)?;
    context.home.prompt_path(&arguments.prompt).map_err(usage)?;
    let pictures = pictures(&arguments, context)?;
    let names: Vec<String> = pictures
        .labels
        .iter()
        .map(|label| label.name.clone())
        .collect();
    if names.len() < 2 {
        return Err(AdaptError::OneClass.into());
    }
    context.home.check_writable()?;
    let model = model::open(arguments.model.as_deref(), context)?;
    let layout = template.layout(
        |text| model.tokenizer.encode(text),
        model.tokenizer.end_token(),
        &pictures.labels,
        model.text.context_length(),
    )?;

    let set = extract(&model, &pictures, &arguments, context)?;
    let features_seconds = started.elapsed().as_secs_f64();
    enough(&set, &pictures.labels)?;

    super::heap::keep_freed_memory();
    let training = Instant::now();
    let bar = context
        .output
        .progress("training", options.recipe.steps as u64);
    let mut progress = |report: &StepReport| {
        bar.set_position(report.step as u64);
        bar.set_message(format!(
            "loss {:.4}, accuracy {}",
            report.loss,
            percent(report.accuracy)
        ));
        if context.stopped() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let outcome = adapt::adapt(
        &model.text,
        &layout,
        &names,
        &set,
        model.logit_scale,
        &options,
        &mut progress,
    );
    bar.finish_and_clear();
    let outcome = outcome.map_err(|error| match error {
        AdaptError::Factors(error @ FactorsError::Rank { .. }) => usage(error),
        error => error.into(),
    })?;
    let adapted = Adapted {
        model: &model,
        pictures: &pictures,
        set: &set,
        options,
        outcome,
        features_seconds,
        training_seconds: training.elapsed().as_secs_f64(),
        started,
    };
    let context_matrix = model.text.token_rows(&layout.context)? + adapted.outcome.delta.matrix();
    let record = adapted.record(template, density::singular_values(context_matrix.view()));
    let kept = adapted.outcome.accepted || arguments.force;
    let saved = match kept {
        true => Some(context.home.save(&arguments.prompt, &record)?),
        false => None,
    };
    context
        .output
        .object(&adapted.report(&arguments.prompt, &record, saved.as_ref()))?;
    adapted.tell(&arguments.prompt, saved.as_ref(), context);
    Ok(if kept {
        Exit::Done
    } else {
        Exit::NothingAccepted
    })
}

/// All that an adaptation used and gave.
struct Adapted<'a> {
    model: &'a Model,
    pictures: &'a LabelledPictures,
    set: &'a FeatureSet,
    options: Options,
    outcome: Outcome,
    features_seconds: f64,
    training_seconds: f64,
    started: Instant,
}

impl Adapted<'_> {
    /// The prompt file's content; `spectrum` holds the singular values of the whole context.
    fn record(&self, template: Template, spectrum: Vec<f32>) -> PromptRecord {
        let outcome = &self.outcome;
        PromptRecord {
            model_name: self.model.name.clone(),
            model_fingerprint: self.model.fingerprint.0,
            template,
            labels: self.pictures.labels.clone(),
            delta: outcome.delta.clone(),
            context_singular_values: spectrum,
            seed: self.options.seed,
            recipe: self.options.recipe.in_words(),
            metrics: Metrics {
                zero_shot_accuracy: outcome.zero_shot_accuracy,
                adapted_accuracy: outcome.adapted_accuracy,
                images: (self.set.labels.len() - outcome.holdout_pictures) as u32,
                holdout_images: outcome.holdout_pictures as u32,
                steps: outcome.history.len() as u32,
            },
            calibration: None,
            provenance: Provenance {
                device: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                seconds: self.started.elapsed().as_secs_f32(),
                created_unix: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .ok()
                    .map(|since| since.as_secs()),
                ..Provenance::default()
            },
        }
    }

    /// The object that `--json` ends with.
    fn report(
        &self,
        prompt: &str,
        record: &PromptRecord,
        saved: Option<&Saved>,
    ) -> serde_json::Value {
        let (model, outcome) = (self.model, &self.outcome);
        json!({
            "prompt": prompt,
            "path": saved.map(|saved| saved.path.display().to_string()),
            "bytes": saved.map(|saved| saved.bytes),
            "sequence": saved.map(|saved| saved.sequence),
            "model": { "name": model.name, "fingerprint": model.fingerprint.to_string() },
            "labels": record.labels.iter().map(|label| &label.name).collect::<Vec<_>>(),
            "method": self.options.method.name(),
            "rank": outcome.delta.rank(),
            "parameters": outcome.delta.parameters(),
            "images": self.set.labels.len(),
            "skipped_images": self.pictures.len() - self.set.labels.len(),
            "holdout_images": outcome.holdout_pictures,
            "steps": outcome.history.len(),
            "zero_shot_accuracy": outcome.zero_shot_accuracy,
            "adapted_accuracy": outcome.adapted_accuracy,
            "accepted": outcome.accepted,
            "kept": saved.is_some(),
            "information_density": density::information_density(&record.context_singular_values, 1),
            "seconds": {
                "features": self.features_seconds,
                "training": self.training_seconds,
                "total": self.started.elapsed().as_secs_f64(),
            },
        })
    }

    fn tell(&self, prompt: &str, saved: Option<&Saved>, context: &Context) {
        let judged = match self.outcome.holdout_pictures {
            0 => "the training pictures (none were held out)".to_owned(),
            count => format!("{count} held-out pictures"),
        };
        context.output.line(format!(
            "accuracy on {judged}: zero-shot {}, adapted {}",
            percent(self.outcome.zero_shot_accuracy),
            percent(self.outcome.adapted_accuracy),
        ));
        match saved {
            Some(saved) => context.output.line(format!(
                "kept as prompt {prompt:?}, generation {}: {} numbers, {} bytes, {} ({:.1} s)",
                saved.sequence,
                self.outcome.delta.parameters(),
                saved.bytes,
                saved.path.display(),
                self.started.elapsed().as_secs_f32(),
            )),
            None => context.output.line(
                "not kept: the trained prompt is worse than the plain template on the held-out pictures, so what was in \
                 use stays in use (--force keeps it all the same)",
            ),
        }
    }
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
    match (&arguments.images, &arguments.camera) {
        (Some(dir), _) => {
            LabelledPictures::from_folder(dir, labels, shots, arguments.seed, context)
        }
        (None, Some(source)) => {
            let source: CameraSource = source.parse().map_err(usage)?;
            let CameraSource::Demo(condition) = source else {
                return Err(usage(format!(
                    "camera {source} cannot say what it shows: save its pictures into one folder a label, and use --images DIR"
                )));
            };
            LabelledPictures::from_demo(condition, labels, shots, arguments.seed)
        }
        (None, None) => Err(usage(
            "say where pictures come from: --camera SRC or --images DIR",
        )),
    }
}

fn extract(
    model: &Model,
    pictures: &LabelledPictures,
    arguments: &Arguments,
    context: &Context,
) -> anyhow::Result<FeatureSet> {
    let extraction = Extraction {
        views: arguments.views as usize,
        seed: arguments.seed,
        threads: context.threads,
    };
    let bar = context.output.progress("pictures", pictures.len() as u64);
    let load = |index| pictures.load(index);
    let done = |count: usize| bar.set_position(count as u64);
    let set = features::extract(
        model,
        pictures.len(),
        extraction,
        &load,
        &done,
        &context.stop,
    );
    bar.finish_and_clear();
    let warnings = pictures.warnings();
    for warning in &warnings {
        context.output.warn(format!("{warning}; skipped"));
    }
    if !warnings.is_empty() {
        context.output.warn(format!(
            "{} of {} pictures were skipped",
            warnings.len(),
            pictures.len()
        ));
    }
    if context.stopped() {
        return Err(AdaptError::Stopped.into());
    }
    Ok(set?)
}

fn enough(set: &FeatureSet, labels: &[Label]) -> anyhow::Result<()> {
    for (class, label) in labels.iter().enumerate() {
        let found = set.labels.iter().filter(|&&of| of == class).count();
        anyhow::ensure!(
            found >= FEWEST_SHOTS,
            "the label {:?} has {found} usable picture{}: give it at least {FEWEST_SHOTS}, better 16",
            label.name,
            if found == 1 { "" } else { "s" },
        );
    }
    Ok(())
}
