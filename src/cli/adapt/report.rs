//! What an adaptation writes down: the prompt file's content, the object for machines, the lines for people. It must
//! not know how it was come by.

use super::super::Context;
use super::super::output::percent;
use super::adaptation::{Adaptation, Trained};
use crate::classifier::context_rows;
use crate::prompt::density;
use crate::store::{Calibration, FeatureStatistics, Metrics, Prompt, Provenance, Saved};
use serde_json::json;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

impl Adaptation {
    /// The prompt file's content; the adaptation began at `begun`.
    pub fn record(&self, trained: &Trained, begun: Instant) -> anyhow::Result<Prompt> {
        let outcome = &trained.outcome;
        Ok(Prompt {
            model_name: self.model.name.clone(),
            model_fingerprint: self.model.fingerprint.0,
            template: self.plan.template.clone(),
            labels: self.labels.clone(),
            delta: outcome.delta.clone(),
            context_singular_values: self.spectrum(trained)?,
            seed: self.plan.options.seed,
            recipe: self.plan.options.recipe.in_words(),
            metrics: Metrics {
                zero_shot_accuracy: outcome.zero_shot_accuracy,
                adapted_accuracy: outcome.adapted_accuracy,
                images: (trained.images - outcome.holdout_pictures) as u32,
                holdout_images: outcome.holdout_pictures as u32,
                steps: outcome.history.len() as u32,
            },
            calibration: outcome.calibration.map(|calibration| Calibration {
                temperature: calibration.temperature,
                unknown_threshold: 0.5 * (1.0 + calibration.least_similarity.clamp(-1.0, 1.0)),
            }),
            statistics: (outcome.statistics.as_ref()).map(|statistics| FeatureStatistics {
                mean: statistics.mean.to_vec(),
                spread: statistics.spread,
                pictures: statistics.pictures as u32,
            }),
            provenance: Provenance {
                device: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                seconds: begun.elapsed().as_secs_f32(),
                created_unix: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .ok()
                    .map(|since| since.as_secs()),
                ..Provenance::default()
            },
        })
    }

    /// The singular values of the whole context.
    fn spectrum(&self, trained: &Trained) -> anyhow::Result<Vec<f32>> {
        let change = Some(&trained.outcome.delta);
        let context = context_rows(&self.model.text, &self.layout, change)?;
        Ok(density::singular_values(context.view()))
    }

    /// The object that `--json` ends with.
    pub fn report(
        &self,
        trained: &Trained,
        saved: Option<&Saved>,
        context: &Context,
    ) -> anyhow::Result<()> {
        if !context.output.is_json() {
            return Ok(());
        }
        let (model, outcome) = (&self.model, &trained.outcome);
        context.output.object(&json!({
            "prompt": self.plan.prompt,
            "path": saved.map(|saved| saved.path.display().to_string()),
            "bytes": saved.map(|saved| saved.bytes),
            "sequence": saved.map(|saved| saved.sequence),
            "model": { "name": model.name, "fingerprint": model.fingerprint.to_string() },
            "labels": self.labels.iter().map(|label| &label.name).collect::<Vec<_>>(),
            "method": self.plan.options.method.name(),
            "rank": outcome.delta.rank(),
            "parameters": outcome.delta.parameters(),
            "images": trained.images,
            "skipped_images": trained.skipped_images,
            "holdout_images": outcome.holdout_pictures,
            "steps": outcome.history.len(),
            "zero_shot_accuracy": outcome.zero_shot_accuracy,
            "adapted_accuracy": outcome.adapted_accuracy,
            "accepted": outcome.accepted,
            "kept": saved.is_some(),
            "information_density": density::information_density(&self.spectrum(trained)?, 1),
            "seconds": {
                "features": trained.seconds.features,
                "training": trained.seconds.training,
                "total": self.plan.started.elapsed().as_secs_f64(),
            },
        }))?;
        Ok(())
    }

    /// The lines for people.
    pub fn tell(&self, trained: &Trained, saved: Option<&Saved>, context: &Context) {
        let outcome = &trained.outcome;
        let judged = match outcome.holdout_pictures {
            0 => "the training pictures (none were held out)".to_owned(),
            count => format!("{count} held-out pictures"),
        };
        context.output.line(format!(
            "accuracy on {judged}: zero-shot {}, adapted {}",
            percent(outcome.zero_shot_accuracy),
            percent(outcome.adapted_accuracy),
        ));
        match saved {
            Some(saved) if self.plan.out.is_some() => context.output.line(format!(
                "written to {}: {} numbers, {} bytes ({:.1} s)",
                saved.path.display(),
                outcome.delta.parameters(),
                saved.bytes,
                self.plan.started.elapsed().as_secs_f32(),
            )),
            Some(saved) => context.output.line(format!(
                "kept as prompt {:?}, generation {}: {} numbers, {} bytes, {} ({:.1} s)",
                self.plan.prompt,
                saved.sequence,
                outcome.delta.parameters(),
                saved.bytes,
                saved.path.display(),
                self.plan.started.elapsed().as_secs_f32(),
            )),
            None => context.output.line(
                "not kept: the trained prompt is worse than the plain template on the held-out pictures, so what was in \
                 use stays in use (--force keeps it all the same)",
            ),
        }
    }
}
