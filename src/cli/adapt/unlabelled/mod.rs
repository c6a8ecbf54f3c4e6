//! `adapt --unlabelled`: nobody says what the pictures show. Frames are collected until each label has enough that are sure,
//! a prompt is trained on those, and kept where nothing speaks against it; with `--watch` again whenever the pictures
//! drift.

mod report;
mod source;
mod watch;

use super::super::classify::in_a_sentence;
use super::super::{Context, Exit, usage};
use super::Arguments;
use super::adaptation::{Adaptation, explained};
use super::arguments::UnlabelledArguments;
use crate::adapt::pictures::demo_labels;
use crate::adapt::unlabelled::{
    self, Consistency, InUse, Mounted, Mounting, SelfTraining, Unlabelled,
};
use crate::adapt::{AdaptError, Outcome, StepReport, drift};
use crate::host::memory;
use crate::host::supervisor::Supervisor;
use crate::host::temperature::Pacing;
use crate::prompt::labels::{self, places_among};
use crate::prompt::{FeatureStatistics, Prompt};
use crate::store::Saved;
use anyhow::{Context as _, bail};
use ndarray::Axis;
use source::{Pool, Source};
use std::ops::ControlFlow;
use std::time::Instant;

/// Sure pictures of a label that are trained on, unless `--shots` says otherwise.
const SHOTS: usize = 16;
/// Pictures that are collected for each label at most; the surest are a part of them.
const POOL: usize = 40;

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let plan = arguments.plan(context)?;
    if plan.extraction.views < 2 {
        return Err(usage(
            "--unlabelled takes --views 2 or more: whether they are named alike tells how sure a prompt is",
        ));
    }
    let mut source = Source::open(arguments, context)?;
    let labels = match &arguments.labelling.labels {
        Some(file) => labels::read(file)?,
        None if source.is_drawn() => demo_labels(),
        None => return Err(usage("--unlabelled needs --labels FILE: what may be shown")),
    };
    let writable = context.home.check_writable();
    writable.context("nothing was begun")?;
    let adaptation = Adaptation::open(plan, labels, context)?;
    let flags = &arguments.self_training;
    let options = SelfTraining {
        training: adaptation.plan.options,
        shots: arguments.pictures.shots().unwrap_or(SHOTS),
        rounds: flags.rounds as usize,
    };
    let learner = Learner {
        flags,
        adaptation: &adaptation,
        options,
        context,
        supervisor: Supervisor::starting(),
    };
    if flags.watch {
        learner.watch(&mut source)
    } else {
        Ok(learner.learn(&mut source, Cause::Asked)?.exit)
    }
}

/// Why it learns now.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// The user wants it.
    Asked,
    /// Pictures are unlike those that the prompt in use was learnt from.
    Drifted,
}

/// What came of one time of collecting and adapting.
struct Learnt {
    exit: Exit,
    /// What all pictures that were collected look like.
    statistics: Option<FeatureStatistics>,
}

/// Pictures that were collected.
struct Collected<'a> {
    pool: Pool<'a>,
    /// When collecting began, and how many seconds it took.
    begun: Instant,
    seconds: f64,
}

/// What came of one training.
struct Attempt {
    /// None where there were too few sure pictures of a label.
    outcome: Option<Outcome<Consistency>>,
    /// What speaks against keeping it, if anything does.
    refusal: Option<String>,
    /// What puts the pictures right, where the model is far surer of them then.
    mounting: Option<Mounting>,
}

/// What collecting, adapting and watching share.
struct Learner<'a> {
    flags: &'a UnlabelledArguments,
    adaptation: &'a Adaptation,
    options: SelfTraining,
    context: &'a Context,
    supervisor: Supervisor,
}

impl Learner<'_> {
    /// Whether the user wants it to end. Asked often, so that a supervisor knows that nothing is stuck.
    fn stopped(&self) -> bool {
        self.supervisor.alive();
        self.context.stopped()
    }

    /// Collects pictures, and adapts to them.
    fn learn(&self, source: &mut Source, cause: Cause) -> anyhow::Result<Learnt> {
        let begun = Instant::now();
        let current = self.in_use().unwrap_or_else(|why| {
            let then = "what is learnt is compared with the plain words, and not with it";
            self.context.output.note(format!("{why}: {then}"));
            None
        });
        let in_use = current.as_ref().map(InUse::from).unwrap_or_default();
        let knows = match cause {
            Cause::Asked => in_use,
            // A prompt may be sure of pictures unlike those that it was learnt from.
            Cause::Drifted => InUse::default(),
        };
        let mounted = Mounted::new(self.adaptation.task(), knows)?;
        let pool = self.collect(source, in_use, mounted)?;
        let statistics = drift::statistics(pool.features()?.index_axis(Axis(1), 0));
        let collected = Collected {
            pool,
            begun,
            seconds: begun.elapsed().as_secs_f64(),
        };
        Ok(Learnt {
            exit: self.adapt(&collected, in_use)?,
            statistics,
        })
    }

    /// Collects pictures until every label has enough that are sure, or there are as many as are wanted, or time is up.
    fn collect<'a>(
        &self,
        source: &mut Source,
        in_use: InUse,
        mounted: Mounted<'a>,
    ) -> anyhow::Result<Pool<'a>> {
        let Adaptation { model, labels, .. } = self.adaptation;
        let scorer = in_use.scorer(&self.adaptation.task())?;
        let most = self
            .flags
            .pool
            .map_or(POOL * labels.len(), |most| most as usize);
        let enough = labels.len() * self.options.shots;
        let bar = self.context.output.progress("pictures", most as u64);
        let begun = Instant::now();
        let extraction = self.adaptation.plan.extraction;
        let mut pool = Pool::new(extraction.views, mounted);
        let stop = || self.stopped();
        while pool.len() < most && !(source.is_live() && begun.elapsed() >= self.flags.collect_for)
        {
            let Some(picture) = source.next(&stop, self.context)? else {
                break;
            };
            self.supervisor.ready();
            if !pool.add(model, &picture, extraction)? {
                continue;
            }
            bar.set_position(pool.len() as u64);
            // Looking costs little, but something.
            if source.is_live() && pool.len() >= enough && pool.len().is_multiple_of(16) {
                let (features, shots) = (pool.features()?, self.options.shots);
                if unlabelled::scarcest(features, &scorer, model.logit_scale, shots).is_none() {
                    break;
                }
            }
        }
        bar.finish_and_clear();
        if self.context.stopped() {
            return Err(AdaptError::Stopped.into());
        }
        if pool.len() == 0 {
            bail!("not one picture came: there is nothing to learn from");
        }
        Ok(pool)
    }

    /// The prompt in use as one for these labels, whatever their order, if there is one.
    ///
    /// # Errors
    /// Why it cannot be used, in words: it cannot be read, or is for something else.
    fn in_use(&self) -> Result<Option<Prompt>, String> {
        let Adaptation {
            plan,
            labels,
            model,
            ..
        } = self.adaptation;
        let record = match self.context.home.load(&plan.prompt) {
            Ok(loaded) => loaded.record,
            Err(error) if error.is_missing_prompt() => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let places = places_among(&record.labels, labels).into_iter().zip(labels);
        let strange = places.filter(|(place, _)| place.is_none());
        let strange: Vec<&str> = strange.map(|(_, label)| label.name.as_str()).collect();
        let fault = if record.model_fingerprint != model.fingerprint.0 {
            Some(format!("is one for the model {}", record.model_name))
        } else if record.template != plan.template {
            Some(format!(
                "has another template, {:?}",
                record.template.to_string()
            ))
        } else {
            in_a_sentence(&strange).map(|strange| format!("does not know {strange}"))
        };
        if let Some(fault) = fault {
            return Err(format!("the prompt {:?} in use {fault}", plan.prompt));
        }
        let prototypes = record.prototypes.as_ref();
        Ok(Some(Prompt {
            prototypes: prototypes.map(|kept| kept.for_labels(&record.labels, labels)),
            labels: labels.clone(),
            ..record
        }))
    }

    /// Trains on the pool, and keeps the prompt where nothing speaks against it.
    fn adapt(&self, collected: &Collected, in_use: InUse) -> anyhow::Result<Exit> {
        let attempt = self.train(&collected.pool, in_use)?;
        let saved = match &attempt {
            Attempt {
                outcome: Some(outcome),
                refusal,
                ..
            } if refusal.is_none() || self.adaptation.plan.force => {
                Some(self.save(outcome, collected.begun)?)
            }
            _ => None,
        };
        self.report(collected, &attempt, saved.as_ref())?;
        self.describe(collected, &attempt, saved.as_ref());
        Ok(match saved {
            Some(_) => Exit::Done,
            None => Exit::NothingAccepted,
        })
    }

    /// Trains on what was collected, with a progress bar.
    fn train(&self, pool: &Pool, in_use: InUse) -> anyhow::Result<Attempt> {
        memory::keep_freed();
        let steps = (self.options.training.recipe.steps * self.options.rounds) as u64;
        let bar = self.context.output.progress("training", steps);
        let mut pacing = Pacing::begin();
        let mut progress = |_: &StepReport| {
            if let Some(warning) = pacing.after_step() {
                bar.suspend(|| self.context.output.warn(warning));
            }
            bar.inc(1);
            if self.stopped() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let task = self.adaptation.task();
        let (mounting, vote) = pool.put_right().unzip();
        let pictures = Unlabelled {
            features: pool.features()?,
            put_right: vote.as_ref().map(|vote| vote.view()),
        };
        let trained = unlabelled::adapt(&task, pictures, in_use, &self.options, &mut progress);
        bar.finish_and_clear();
        match trained {
            Ok(outcome) => {
                let refusal = outcome.evidence.refusal;
                Ok(Attempt {
                    outcome: Some(outcome),
                    refusal: refusal.map(|why| why.to_string()),
                    mounting,
                })
            }
            Err(error @ AdaptError::TooFewSure { .. }) => Ok(Attempt {
                outcome: None,
                refusal: Some(error.to_string()),
                mounting,
            }),
            Err(error) => Err(explained(error)),
        }
    }

    fn save(&self, outcome: &Outcome<Consistency>, begun: Instant) -> anyhow::Result<Saved> {
        let record = self.adaptation.record(outcome, begun)?;
        let name = &self.adaptation.plan.prompt;
        Ok(self.context.home.save(name, &record)?)
    }
}
