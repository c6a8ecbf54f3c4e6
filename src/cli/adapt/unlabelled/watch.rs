//! `adapt --unlabelled --watch`: adapting again whenever the pictures no longer look like those that the prompt in use
//! was trained on.

use super::super::super::Exit;
use super::super::adaptation::Adaptation;
use super::source::Source;
use super::{Cause, Learner, Learnt};
use crate::adapt::AdaptError;
use crate::adapt::drift::{DRIFTED, Drift};
use crate::classifier::Classifier;
use crate::cli::shots::Retention;
use crate::prompt::FeatureStatistics;
use crate::watch::{Event, FROZEN_AFTER, Watch, WatchOptions};
use std::time::{Duration, Instant};

/// How often a camera's picture is looked at while nothing changes: a light that is switched on can wait a minute, and
/// the board has other work.
const PACE: Duration = Duration::from_secs(1);

impl Learner<'_> {
    /// Adapts, unless the prompt in use says what its pictures looked like; then again after each drift, until the stream
    /// ends or the user stops it. The history keeps each prompt that was accepted.
    pub fn watch(&self, source: &mut Source) -> anyhow::Result<Exit> {
        let mut known = self.in_use().ok().flatten().and_then(|record| {
            let statistics = record.statistics?;
            let sequence = record.provenance.sequence;
            self.context.output.note(format!(
                "prompt {:?}, generation {sequence}, is in use: watching for pictures unlike those it was trained on",
                self.adaptation.plan.prompt
            ));
            Some(statistics)
        });
        let mut adapted = None;
        loop {
            let cause = match known.take() {
                None => Cause::Asked,
                Some(known) => match self.drifts(source, known, adapted)? {
                    true => Cause::Drifted,
                    false => return Ok(Exit::Done),
                },
            };
            adapted = Some(Instant::now());
            known = match self.learn(source, cause) {
                Ok(Learnt { statistics, .. }) => statistics,
                Err(error) if self.is_end(&error) => return Ok(Exit::Done),
                Err(error) => return Err(error),
            };
        }
    }

    /// Waits until the pictures drift away from those that are `known`, but not sooner than `--pause` after the last time
    /// of adapting; false once there are no more, or the user stops it.
    fn drifts(
        &self,
        source: &mut Source,
        known: FeatureStatistics,
        adapted: Option<Instant>,
    ) -> anyhow::Result<bool> {
        let pace = match self.flags.every {
            Some(every) => every,
            None if source.is_drawn() => Duration::ZERO,
            None => PACE,
        };
        let Source::Camera(frames) = source else {
            return Ok(false);
        };
        let options = WatchOptions {
            pace,
            frozen_after: Some(FROZEN_AFTER),
            ..WatchOptions::default()
        };
        let mut watch = Watch::new(frames, self.classifier()?, None, options);
        let mut drift = Drift::from(known);
        let retention = Retention::new(self.context);
        loop {
            retention.apply_and_tell();
            match watch.next(&|| self.stopped())? {
                Event::Named(named) => {
                    self.supervisor.ready();
                    drift.add(named.feature);
                }
                Event::Prompt(_) | Event::Still(_) => continue,
                Event::Liveness(liveness) => {
                    self.context.output.warn(format!("the camera {liveness}"));
                    continue;
                }
                Event::Problem(problem) => {
                    self.context.output.warn(problem);
                    continue;
                }
                Event::Ended => return Ok(false),
            }
            let far = drift.distance().unwrap_or_default();
            if far > DRIFTED && adapted.is_none_or(|at| at.elapsed() >= self.flags.pause) {
                self.context.output.note(format!(
                    "the pictures have changed ({far:.1} times what chance gives): adapting again"
                ));
                return Ok(true);
            }
        }
    }

    /// The prompt in use, else the plain template.
    fn classifier(&self) -> anyhow::Result<Classifier<'_>> {
        let Adaptation {
            model,
            labels,
            plan,
            ..
        } = self.adaptation;
        Ok(match self.in_use().ok().flatten() {
            Some(prompt) => Classifier::with_prompt(model, &prompt)?,
            None => Classifier::zero_shot(model, &plan.template, labels)?,
        })
    }

    /// Being stopped is how watching ends.
    fn is_end(&self, error: &anyhow::Error) -> bool {
        matches!(error.downcast_ref(), Some(AdaptError::Stopped))
    }
}
