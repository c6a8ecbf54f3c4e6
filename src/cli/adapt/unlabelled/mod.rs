//! `adapt --unlabelled`: nobody says what the pictures show. Frames are collected until each label has enough that are sure,
//! a prompt is trained on those, and kept where nothing speaks against it; with `--watch` again whenever the pictures
//! drift. It must not know how the surest are found or judged.

mod source;
mod watch;

use super::super::heat::Pacing;
use super::super::pictures::demo_labels;
use super::super::supervisor::Supervisor;
use super::super::{Context, Exit, usage};
use super::adaptation::{Adaptation, Trained};
use super::{Arguments, plan};
use crate::adapt::drift::Statistics;
use crate::adapt::trainer::StepReport;
use crate::adapt::unlabelled::{self, Outcome};
use crate::adapt::{self, AdaptError};
use crate::classifier::text_features;
use crate::memory;
use crate::prompt::{Delta, FactorsError, labels};
use crate::store::Prompt;
use anyhow::bail;
use ndarray::{Array2, Axis};
use serde_json::json;
use source::{Pool, Source};
use std::ops::ControlFlow;
use std::time::Instant;

/// Sure pictures of a label that are trained on, unless `--shots` says otherwise.
const SHOTS: usize = 16;
/// Pictures that are collected for each label at most; the surest are a part of them.
const POOL: usize = 40;

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let plan = plan(arguments, context)?;
    let mut source = Source::open(arguments)?;
    let labels = match &arguments.labels {
        Some(file) => labels::read(file)?,
        None if source.is_drawn() => demo_labels()?,
        None => return Err(usage("--unlabelled needs --labels FILE: what may be shown")),
    };
    let adaptation = Adaptation::open(plan, labels, context)?;
    let options = unlabelled::Options {
        training: adaptation.plan.options,
        shots: arguments.shots.map_or(SHOTS, |shots| shots as usize),
        rounds: arguments.rounds as usize,
    };
    let learner = Learner {
        arguments,
        adaptation: &adaptation,
        options,
        context,
        supervisor: Supervisor::ready(),
    };
    match arguments.watch {
        true => learner.watch(&mut source),
        false => Ok(learner.learn(&mut source)?.exit),
    }
}

/// What came of one time of collecting and adapting.
struct Learnt {
    exit: Exit,
    /// Of all pictures that were collected.
    statistics: Option<Statistics>,
}

/// Pictures that were collected.
struct Collected {
    pool: Pool,
    statistics: Option<Statistics>,
    /// When collecting began, and how long it took.
    begun: Instant,
    seconds: f64,
}

/// What collecting, adapting and watching share.
struct Learner<'a> {
    arguments: &'a Arguments,
    adaptation: &'a Adaptation,
    options: unlabelled::Options,
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
    fn learn(&self, source: &mut Source) -> anyhow::Result<Learnt> {
        let begun = Instant::now();
        let current = self.in_use().map(|record| record.delta);
        let pool = self.collect(source, current.as_ref())?;
        let statistics = Statistics::of(pool.features()?.index_axis(Axis(1), 0));
        let collected = Collected {
            pool,
            statistics: statistics.clone(),
            begun,
            seconds: begun.elapsed().as_secs_f64(),
        };
        Ok(Learnt {
            exit: self.adapt(&collected, current.as_ref())?,
            statistics,
        })
    }

    /// Collects pictures until every label has enough that are sure, or there are as many as are wanted, or time is up.
    /// `current` is the change of the prompt in use.
    fn collect(&self, source: &mut Source, current: Option<&Delta>) -> anyhow::Result<Pool> {
        let Adaptation { model, labels, .. } = self.adaptation;
        let texts = self.texts(current)?;
        let most = self
            .arguments
            .pool
            .map_or(POOL * labels.len(), |most| most as usize);
        let enough = labels.len() * self.options.shots;
        let bar = self.context.output.progress("pictures", most as u64);
        let begun = Instant::now();
        let extraction = self.adaptation.plan.extraction;
        let mut pool = Pool::new(extraction.views);
        let stop = || self.stopped();
        while pool.len() < most
            && !(source.is_live() && begun.elapsed() >= self.arguments.collect_for)
        {
            let Some(picture) = source.next(&stop, self.context)? else {
                break;
            };
            if !pool.add(model, &picture, extraction)? {
                continue;
            }
            bar.set_position(pool.len() as u64);
            // Looking costs little, but not nothing.
            if source.is_live() && pool.len() >= enough && pool.len().is_multiple_of(16) {
                let (scale, shots) = (model.logit_scale, self.options.shots);
                if unlabelled::wanting(pool.features()?, &texts, scale, shots).is_none() {
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

    /// The prompt in use, where it is one for these labels.
    fn in_use(&self) -> Option<Prompt> {
        let Adaptation {
            plan,
            labels,
            model,
            ..
        } = self.adaptation;
        let record = self.context.home.load(&plan.prompt).ok()?.record;
        let fits = record.model_fingerprint == model.fingerprint.0
            && record.labels == *labels
            && record.template == plan.template;
        fits.then_some(record)
    }

    fn texts(&self, delta: Option<&Delta>) -> anyhow::Result<Array2<f32>> {
        let Adaptation { model, layout, .. } = self.adaptation;
        Ok(text_features(&model.text, layout, delta)?)
    }

    /// Trains on the pool, and keeps the prompt where nothing speaks against it.
    fn adapt(&self, collected: &Collected, current: Option<&Delta>) -> anyhow::Result<Exit> {
        let Collected { pool, begun, .. } = collected;
        let features = pool.features()?;
        let Adaptation {
            plan,
            labels,
            model,
            layout,
        } = self.adaptation;
        memory::keep_freed();
        let names: Vec<String> = labels.iter().map(|label| label.name.clone()).collect();
        let steps = (self.options.training.recipe.steps * self.options.rounds) as u64;
        let bar = self.context.output.progress("training", steps);
        let mut pacing = Pacing::begin();
        let mut progress = |_: &StepReport| {
            if let Some(told) = pacing.after_step() {
                bar.suspend(|| self.context.output.warn(told));
            }
            bar.inc(1);
            match self.stopped() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let trained = unlabelled::adapt(
            &model.text,
            layout,
            &names,
            features,
            model.logit_scale,
            current,
            &self.options,
            &mut progress,
        );
        bar.finish_and_clear();
        let (outcome, refusal) = match trained {
            Ok(outcome) => {
                let refusal = outcome.verdict.refusal.clone();
                (Some(outcome), refusal.filter(|_| !plan.force))
            }
            Err(AdaptError::Factors(error @ FactorsError::Rank { .. })) => {
                return Err(usage(error));
            }
            Err(error @ AdaptError::TooFewSure { .. }) => (None, Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let saved = match (&outcome, &refusal) {
            (Some(outcome), None) => {
                let trained = self.trained(outcome, collected.statistics.clone());
                let record = self.adaptation.record(&trained, *begun)?;
                Some(self.context.home.save(&plan.prompt, &record)?)
            }
            _ => None,
        };
        let verdict = outcome.as_ref().map(|outcome| &outcome.verdict);
        self.context.output.object(&json!({
            "prompt": plan.prompt,
            "unlabelled": true,
            "path": saved.as_ref().map(|saved| saved.path.display().to_string()),
            "bytes": saved.as_ref().map(|saved| saved.bytes),
            "sequence": saved.as_ref().map(|saved| saved.sequence),
            "model": { "name": model.name, "fingerprint": model.fingerprint.to_string() },
            "labels": names,
            "seen": pool.seen,
            "distinct": features.dim().0,
            "images": outcome.as_ref().map(|outcome| outcome.images),
            "judging": outcome.as_ref().map(|outcome| outcome.judging),
            "before": verdict.map(|verdict| verdict.before),
            "after": verdict.map(|verdict| verdict.after),
            "persistence": verdict.map(|verdict| verdict.persistence),
            "accepted": refusal.is_none() && outcome.is_some(),
            "kept": saved.is_some(),
            "refusal": refusal,
            "seconds": { "collecting": collected.seconds, "total": begun.elapsed().as_secs_f64() },
        }))?;
        let output = &self.context.output;
        output.line(format!(
            "{} pictures seen, {} of them distinct",
            pool.seen,
            features.dim().0
        ));
        if let (Some(verdict), Some(saved)) = (verdict, &saved) {
            output.line(format!(
                "agreement with the vote of the pictures' views: {:.0} % before, {:.0} % after, on pictures not trained on",
                100.0 * verdict.before.agreement,
                100.0 * verdict.after.agreement
            ));
            output.line(format!(
                "kept as prompt {:?}, generation {}: {} bytes, {}",
                plan.prompt,
                saved.sequence,
                saved.bytes,
                saved.path.display()
            ));
        }
        Ok(match &refusal {
            Some(why) => {
                output.line(format!("not kept: {why}; what was in use stays in use"));
                Exit::NothingAccepted
            }
            None => Exit::Done,
        })
    }

    /// In the shape of an adaptation that somebody labelled, for the prompt file. Nothing was held out with labels, so its
    /// accuracies are not known: they stay 0, and `prompt` tells them as not measured.
    fn trained(&self, outcome: &Outcome, statistics: Option<Statistics>) -> Trained {
        Trained {
            outcome: adapt::Outcome {
                delta: outcome.delta.clone(),
                history: vec![
                    StepReport {
                        step: 0,
                        steps: outcome.steps,
                        loss: 0.0,
                        accuracy: 0.0
                    };
                    outcome.steps
                ],
                zero_shot_accuracy: 0.0,
                adapted_accuracy: 0.0,
                holdout_pictures: 0,
                calibration: None,
                statistics,
                accepted: true,
            },
            images: outcome.images,
            skipped_images: 0,
            seconds: Default::default(),
        }
    }
}
