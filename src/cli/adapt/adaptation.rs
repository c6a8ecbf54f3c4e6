//! One adaptation, from pictures to a kept prompt, in steps that can be taken one by one: pictures become features,
//! features a trained and judged prompt, and that a file.

use super::super::output::{check_replaced, percent};
use super::super::{Context, Exit, model, usage};
use super::sisters::{FLEETS, sisters};
use crate::adapt::features::{
    Encode, Extraction, FeatureSet, Monitor, Pictures, encode_views, extract_with,
};
use crate::adapt::{
    self, AdaptError, Comparison, LabelledPictures, Options, Outcome, Progress, Sister, Task,
    check_labels, check_pictures,
};
use crate::clip::{Model, ModelError};
use crate::host::memory;
use crate::host::temperature::Pacing;
use crate::prompt::{FactorsError, Label, Prompt, Region, Template, TokenLayout};
use crate::store::atomic::Replace;
use crate::store::{DiskError, Saved, StoreError, format, json};
use anyhow::Context as _;
use image::RgbImage;
use ndarray::Array1;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// How to adapt, as the flags say.
pub struct Plan {
    pub template: Template,
    pub options: Options,
    pub extraction: Extraction,
    /// `--model`.
    pub model: Option<String>,
    /// What to call the prompt.
    pub prompt: String,
    /// The parts of the camera's pictures that are learnt from; none for whole pictures.
    pub regions: Vec<Region>,
    /// Where to write it instead, outside the home folder.
    pub out: Option<PathBuf>,
    /// Prompts of sister cameras, by name or file.
    pub sisters: Vec<PathBuf>,
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
    pub sisters: Vec<Sister>,
}

/// A trained and judged prompt.
pub struct Trained {
    pub outcome: Outcome<Comparison>,
    /// Pictures that were used, for training or for judging.
    pub images: usize,
    /// Pictures that could not be read.
    pub skipped_images: usize,
    /// The parts of the camera's pictures that it was learnt from.
    pub regions: Vec<Region>,
    pub seconds: Seconds,
}

/// Where the time went.
#[derive(Default)]
pub struct Seconds {
    pub features: f64,
    pub training: f64,
}

impl Plan {
    /// What `out` may replace.
    fn replace(&self) -> Replace {
        if self.force {
            Replace::Anything
        } else {
            Replace::File
        }
    }

    /// Looks at where the prompt is to be written, before any work is done for it.
    ///
    /// # Errors
    /// If it could not be written there.
    pub fn check_out(&self, context: &Context) -> anyhow::Result<()> {
        let hint = "nothing was begun";
        match &self.out {
            Some(path) => {
                if !self.force {
                    check_replaced(path, "a prompt", |begin| {
                        let text = String::from_utf8_lossy(begin);
                        begin.starts_with(&format::MAGIC[..4]) || text.contains(json::FORMAT)
                    })?;
                }
                (context.home.check_export(path, self.replace())).context(hint)
            }
            None => context.home.check_writable().with_context(|| {
                format!("{hint} (--out FILE writes the prompt to a file instead)")
            }),
        }
    }
}

impl Adaptation {
    /// Opens the model and reads the labels with it.
    ///
    /// # Errors
    /// If there are fewer than two labels, or the model cannot be used with them.
    pub fn open(plan: Plan, labels: Vec<Label>, context: &Context) -> anyhow::Result<Adaptation> {
        check_labels(&labels)?;
        let model = model::open(plan.model.as_deref(), context)?;
        let layout = model.layout(&plan.template, &labels)?;
        let task = Task {
            model: &model,
            labels: &labels,
            layout: &layout,
        };
        Ok(Adaptation {
            sisters: sisters(&plan.prompt, &plan.sisters, &plan.template, &task, context)?,
            plan,
            labels,
            model,
            layout,
        })
    }

    /// What is to be learnt.
    pub fn task(&self) -> Task<'_> {
        Task {
            model: &self.model,
            labels: &self.labels,
            layout: &self.layout,
        }
    }

    /// Encodes pictures, with a progress bar; those that cannot be read are reported and left out.
    ///
    /// # Errors
    /// If the user stops it, or a label has too few pictures left.
    pub fn features(
        &self,
        pictures: &LabelledPictures,
        context: &Context,
    ) -> anyhow::Result<FeatureSet> {
        let bar = context.output.progress("pictures", pictures.len() as u64);
        let monitor = Monitor {
            done: &|count| bar.set_position(count as u64),
            stop: &context.stop,
        };
        let encode = |index, picture: &RgbImage| self.views(pictures.number(index), picture);
        let set = self.encode(pictures, &encode, monitor);
        bar.finish_and_clear();
        // Training needs texts alone.
        self.model.release_image();
        let unreadable = pictures.unreadable();
        for error in &unreadable {
            context.output.warn(format!("{error}; skipped"));
        }
        if !unreadable.is_empty() {
            context.output.warn(format!(
                "{} of {} pictures were skipped",
                unreadable.len(),
                pictures.len()
            ));
        }
        set
    }

    /// The features of a picture and of its crops, which follow from `number`.
    ///
    /// # Errors
    /// If the image tower refuses it.
    pub fn views(&self, number: usize, picture: &RgbImage) -> Result<Vec<Array1<f32>>, ModelError> {
        encode_views(&self.model, picture, number, self.plan.extraction)
    }

    /// Encodes pictures, each with `encode`.
    ///
    /// # Errors
    /// If it is stopped meanwhile, or a label has too few pictures that can be read.
    pub fn encode(
        &self,
        pictures: &LabelledPictures,
        encode: &Encode,
        monitor: Monitor,
    ) -> anyhow::Result<FeatureSet> {
        let source = Pictures {
            count: pictures.len(),
            load: &|index| pictures.load(index),
        };
        let set = extract_with(encode, source, self.plan.extraction, monitor)?;
        if monitor.stop.load(Ordering::Relaxed) {
            return Err(AdaptError::Stopped.into());
        }
        check_pictures(&self.labels, &set)?;
        Ok(set)
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
            if let Some(warning) = pacing.after_step() {
                bar.suspend(|| context.output.warn(warning));
            }
            bar.set_length(report.steps as u64);
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
        });
        bar.finish_and_clear();
        trained
    }

    /// Trains and judges; `progress` hears of each step and may end it.
    ///
    /// # Errors
    /// If `progress` ends it, or an option does not fit the model.
    pub fn train_with(&self, set: &FeatureSet, progress: &mut Progress) -> anyhow::Result<Trained> {
        memory::keep_freed();
        let training = Instant::now();
        let (task, options) = (self.task(), &self.plan.options);
        let outcome = adapt::adapt_with(&task, set, &self.sisters, options, progress);
        Ok(Trained {
            outcome: outcome.map_err(explained)?,
            images: set.labels.len(),
            skipped_images: 0,
            regions: self.plan.regions.clone(),
            seconds: Seconds {
                training: training.elapsed().as_secs_f64(),
                ..Seconds::default()
            },
        })
    }

    /// Keeps the prompt if it may stay, and reports how it went.
    ///
    /// # Errors
    /// If the prompt cannot be written.
    pub fn finish(&self, trained: &Trained, context: &Context) -> anyhow::Result<Exit> {
        let is_there =
            self.plan.out.is_none() && trained.outcome.sisters.kept.as_deref() == Some(FLEETS);
        let kept = (trained.outcome.accepted() || self.plan.force) && !is_there;
        let saved = if kept {
            Some(self.save(trained, context)?)
        } else {
            None
        };
        self.report(trained, saved.as_ref(), context)?;
        self.describe(trained, saved.as_ref(), context);
        Ok(if kept {
            Exit::Done
        } else {
            Exit::NothingAccepted
        })
    }

    /// Keeps the prompt, whatever the verdict on it: in the home folder, or in the file that was asked for.
    ///
    /// # Errors
    /// If it cannot be written there. If that is because of the home folder, the prompt is left among the temporary files,
    /// and the error says where.
    pub fn save(&self, trained: &Trained, context: &Context) -> anyhow::Result<Saved> {
        let record = Prompt {
            regions: trained.regions.clone(),
            ..self.record(&trained.outcome, self.plan.started)?
        };
        if let Some(path) = &self.plan.out {
            let bytes = context.home.export(&record, path, self.plan.replace())?;
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
        let message = match context.home.export(&record, &left, Replace::File) {
            Ok(_) => format!(
                "the prompt could not be kept, and is left in {0}: bring it home with `edge-rlp prompt import {0} --name {name}`",
                left.display()
            ),
            Err(other) => {
                format!("the prompt is lost, it could not be left elsewhere either ({other})")
            }
        };
        Err(anyhow::Error::from(error).context(message))
    }
}

/// A rank that does not fit is a flag that cannot work.
pub fn explained(error: AdaptError) -> anyhow::Error {
    match error {
        AdaptError::Factors(error @ FactorsError::Rank { .. }) => usage(error),
        error => error.into(),
    }
}
