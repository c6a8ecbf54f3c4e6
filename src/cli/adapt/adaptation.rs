//! One adaptation, from pictures to a kept prompt, in steps that can be taken one by one: pictures become features,
//! features a trained and judged prompt, and that a file. It must not know where the pictures come from.

use super::super::heat::Pacing;
use super::super::output::percent;
use super::super::pictures::LabelledPictures;
use super::super::{Context, Exit, model, usage};
use crate::adapt::features::{Encode, Extraction, FeatureSet, encode_views, extract_with};
use crate::adapt::trainer::StepReport;
use crate::adapt::{self, AdaptError, Options, Outcome};
use crate::clip::{Model, ModelError};
use crate::memory;
use crate::prompt::{FactorsError, Label, Template, TokenLayout};
use crate::store::{DiskError, Saved, StoreError};
use anyhow::Context as _;
use image::RgbImage;
use ndarray::Array1;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Fewer readable pictures a label than this are too few to learn from and to judge by.
const FEWEST_SHOTS: usize = 2;

/// How to adapt, as the flags say.
pub struct Plan {
    pub template: Template,
    pub options: Options,
    pub extraction: Extraction,
    /// `--model`.
    pub model: Option<String>,
    /// What to call the prompt.
    pub prompt: String,
    /// Where to write it instead, outside the home folder.
    pub out: Option<PathBuf>,
    /// Whether to keep the prompt even where it is worse than zero-shot.
    pub force: bool,
    /// When the command began.
    pub started: Instant,
}

/// A plan with its labels and its model: all that is needed but pictures.
pub struct Adaptation {
    pub plan: Plan,
    pub labels: Vec<Label>,
    pub model: Model,
    pub layout: TokenLayout,
}

/// A trained and judged prompt.
pub struct Trained {
    pub outcome: Outcome,
    /// Pictures that were used, for training or for judging.
    pub images: usize,
    pub skipped_images: usize,
    pub seconds: Seconds,
}

/// Where the time went.
#[derive(Default)]
pub struct Seconds {
    pub features: f64,
    pub training: f64,
}

impl Adaptation {
    /// Opens the model and reads the labels with it.
    ///
    /// # Errors
    /// If there are fewer than two labels, the home folder takes no file, or the model cannot be used with them.
    pub fn open(plan: Plan, labels: Vec<Label>, context: &Context) -> anyhow::Result<Adaptation> {
        if labels.len() < 2 {
            return Err(AdaptError::OneClass.into());
        }
        if plan.out.is_none() {
            let hint = "nothing was begun (--out FILE writes the prompt to a file instead)";
            context.home.check_writable().context(hint)?;
        }
        let model = model::open(plan.model.as_deref(), context)?;
        let layout = model.layout(&plan.template, &labels)?;
        Ok(Adaptation {
            plan,
            labels,
            model,
            layout,
        })
    }

    /// Encodes pictures, with a progress bar; those that cannot be read are told and left out.
    ///
    /// # Errors
    /// If the user stops it, or a label has too few pictures left.
    pub fn features(
        &self,
        pictures: &LabelledPictures,
        context: &Context,
    ) -> anyhow::Result<FeatureSet> {
        let bar = context.output.progress("pictures", pictures.len() as u64);
        let done = |count: usize| bar.set_position(count as u64);
        let set = self.encode(pictures, &done, &context.stop);
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
        set
    }

    /// Encodes pictures; `done` is told how many are finished.
    ///
    /// # Errors
    /// If `stop` is set meanwhile, or a label has too few pictures that can be read.
    pub fn encode(
        &self,
        pictures: &LabelledPictures,
        done: &(dyn Fn(usize) + Sync),
        stop: &AtomicBool,
    ) -> anyhow::Result<FeatureSet> {
        self.encode_with(
            pictures,
            &|index, picture| self.views(pictures.number(index), picture),
            done,
            stop,
        )
    }

    /// The features of a picture and of its crops, which follow from `number`.
    ///
    /// # Errors
    /// If the image tower refuses it.
    pub fn views(&self, number: usize, picture: &RgbImage) -> Result<Vec<Array1<f32>>, ModelError> {
        encode_views(&self.model, picture, number, self.plan.extraction)
    }

    /// As [`Adaptation::encode`], with another way from picture `index` to its views.
    ///
    /// # Errors
    /// The same.
    pub fn encode_with(
        &self,
        pictures: &LabelledPictures,
        encode: &Encode,
        done: &(dyn Fn(usize) + Sync),
        stop: &AtomicBool,
    ) -> anyhow::Result<FeatureSet> {
        let load = |index| pictures.load(index);
        let count = pictures.len();
        let set = extract_with(count, self.plan.extraction, &load, encode, done, stop)?;
        if stop.load(Ordering::Relaxed) {
            return Err(AdaptError::Stopped.into());
        }
        self.enough(&set)?;
        Ok(set)
    }

    fn enough(&self, set: &FeatureSet) -> anyhow::Result<()> {
        for (class, label) in self.labels.iter().enumerate() {
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

    /// Trains and judges, with a progress bar.
    ///
    /// # Errors
    /// If the user stops it, or an option does not fit the model.
    pub fn train(&self, set: &FeatureSet, context: &Context) -> anyhow::Result<Trained> {
        let steps = self.plan.options.recipe.steps as u64;
        let bar = context.output.progress("training", steps);
        let mut pacing = Pacing::begin();
        let trained = self.train_with(set, &mut |report| {
            if let Some(told) = pacing.after_step() {
                bar.suspend(|| context.output.warn(told));
            }
            bar.set_position(report.step as u64);
            bar.set_message(format!(
                "loss {:.4}, accuracy {}",
                report.loss,
                percent(report.accuracy)
            ));
            match context.stopped() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        bar.finish_and_clear();
        trained
    }

    /// Trains and judges; `progress` is told of each step and may end it.
    ///
    /// # Errors
    /// If `progress` ends it, or an option does not fit the model.
    pub fn train_with(
        &self,
        set: &FeatureSet,
        progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> anyhow::Result<Trained> {
        memory::keep_freed();
        let names: Vec<String> = self.labels.iter().map(|label| label.name.clone()).collect();
        let training = Instant::now();
        let outcome = adapt::adapt(
            &self.model.text,
            &self.layout,
            &names,
            set,
            self.model.logit_scale,
            &self.plan.options,
            progress,
        );
        let outcome = outcome.map_err(|error| match error {
            AdaptError::Factors(error @ FactorsError::Rank { .. }) => usage(error),
            error => error.into(),
        })?;
        Ok(Trained {
            outcome,
            images: set.labels.len(),
            skipped_images: 0,
            seconds: Seconds {
                training: training.elapsed().as_secs_f64(),
                ..Seconds::default()
            },
        })
    }

    /// Keeps the prompt if it may stay, and tells how it went.
    ///
    /// # Errors
    /// If the prompt cannot be written.
    pub fn finish(&self, trained: &Trained, context: &Context) -> anyhow::Result<Exit> {
        let kept = trained.outcome.accepted || self.plan.force;
        let saved = match kept {
            true => Some(self.save(trained, context)?),
            false => None,
        };
        self.report(trained, saved.as_ref(), context)?;
        self.tell(trained, saved.as_ref(), context);
        Ok(match kept {
            true => Exit::Done,
            false => Exit::NothingAccepted,
        })
    }

    /// Keeps the prompt, whatever the verdict on it: in the home folder, or in the file that was asked for.
    ///
    /// # Errors
    /// If it cannot be written there. Where that is the home folder's fault, the prompt is left among the temporary files,
    /// and the error says where.
    pub fn save(&self, trained: &Trained, context: &Context) -> anyhow::Result<Saved> {
        let record = self.record(trained, self.plan.started)?;
        if let Some(path) = &self.plan.out {
            let bytes = context.home.export(&record, path, true)?;
            return Ok(Saved {
                path: path.clone(),
                bytes,
                sequence: 0,
            });
        }
        let name = &self.plan.prompt;
        let error = match context.home.save(name, &record) {
            Err(
                error @ (StoreError::Disk(DiskError::WriteHome { .. }) | StoreError::Locked { .. }),
            ) => error,
            result => return Ok(result?),
        };
        let file = format!("edge-rlp-{name}-{}.rlp", std::process::id());
        let left = std::env::temp_dir().join(file);
        let told = match context.home.export(&record, &left, true) {
            Ok(_) => format!(
                "the prompt could not be kept, and is left in {0}: bring it home with `edge-rlp prompt import {0} --name {name}`",
                left.display()
            ),
            Err(other) => {
                format!("the prompt is lost, it could not be left elsewhere either ({other})")
            }
        };
        Err(anyhow::Error::from(error).context(told))
    }
}
