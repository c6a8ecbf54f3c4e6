//! What an adaptation writes down: the prompt file's content, the object for machines, the lines for people.

use super::super::Context;
use super::super::output::percent;
use super::adaptation::{Adaptation, Trained};
use super::sisters::FLEETS;
use crate::adapt::{Evidence, Judgement, Outcome, Sisters, Verdict};
use crate::prompt::{Label, Prompt, Provenance, density};
use crate::store::Saved;
use serde_json::json;
use std::time::Instant;

impl Adaptation {
    /// The prompt file's content; the adaptation began at `begun`.
    pub fn record<E: Evidence>(
        &self,
        outcome: &Outcome<E>,
        begun: Instant,
    ) -> anyhow::Result<Prompt> {
        let prompt = outcome.prompt(&self.task(), &self.plan.template, &self.plan.options)?;
        Ok(Prompt {
            provenance: Provenance::here(begun.elapsed()),
            ..prompt
        })
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
        let (comparison, sisters) = (&outcome.evidence, &outcome.sisters);
        let prompt = self.record(outcome, self.plan.started)?;
        context.output.object(&json!({
            "prompt": self.plan.prompt,
            "path": saved.map(|saved| saved.path.display().to_string()),
            "bytes": saved.map(|saved| saved.bytes),
            "sequence": saved.map(|saved| saved.sequence),
            "model": { "name": model.name, "fingerprint": model.fingerprint.to_string() },
            "labels": self.labels.iter().map(|label| &label.name).collect::<Vec<_>>(),
            "method": outcome.method(),
            "rank": outcome.delta.rank(),
            "parameters": outcome.delta.parameters(),
            "images": trained.images,
            "skipped_images": trained.skipped_images,
            "holdout_images": comparison.held_out(),
            "steps": outcome.history.len(),
            "zero_shot_accuracy": comparison.zero_shot_accuracy,
            "adapted_accuracy": comparison.adapted_accuracy,
            "prompt_accuracy": comparison.prompt_accuracy,
            "accepted": outcome.accepted(),
            "verdict": verdict_for_machines(&comparison.verdict, &self.labels),
            "kept": saved.is_some(),
            "sisters": sisters.judged.iter().map(|(name, accuracy)| json!({ "name": name, "accuracy": accuracy })).collect::<Vec<_>>(),
            "trained_accuracy": sisters.trained,
            "started_from": sisters.start,
            "kept_sister": sisters.kept,
            "information_density": density::information_density(&prompt.context_singular_values, 1),
            "seconds": {
                "features": trained.seconds.features,
                "training": trained.seconds.training,
                "total": self.plan.started.elapsed().as_secs_f64(),
            },
        }))?;
        Ok(())
    }

    /// The lines for people.
    pub fn describe(&self, trained: &Trained, saved: Option<&Saved>, context: &Context) {
        let outcome = &trained.outcome;
        let comparison = &outcome.evidence;
        let judged = match comparison.held_out() {
            0 => "the training pictures (none were held out)".to_owned(),
            count => format!("{count} held-out pictures"),
        };
        context.output.line(format!(
            "accuracy on {judged}: zero-shot {}, adapted {}",
            percent(comparison.zero_shot_accuracy),
            percent(comparison.adapted_accuracy),
        ));
        if comparison.unseen {
            let verdict = verdict_in_words(&comparison.verdict, &self.labels);
            context.output.line(verdict);
        }
        if outcome.prototypes.is_some() {
            context.output.line(format!(
                "class means answer beside the prompt ({}); the prompt alone: {}",
                outcome.method(),
                percent(comparison.prompt_accuracy),
            ));
        }
        if !self.sisters.is_empty() {
            for line in sisters_in_words(&outcome.sisters) {
                context.output.line(line);
            }
        }
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
            None if outcome.sisters.kept.as_deref() == Some(FLEETS) => context.output.line(
                "nothing is written: what is in use names this camera's shots better than what was trained on them",
            ),
            None => context.output.line(
                "not kept: the trained prompt is worse than the plain template on the held-out pictures, so what was in \
                 use stays in use (--force keeps it all the same)",
            ),
        }
    }
}

/// What prompts of sister cameras came to, a line each for what was tried and what won.
fn sisters_in_words(sisters: &Sisters) -> Vec<String> {
    let start = sisters.start.as_deref().unwrap_or("the template");
    let began = format!("training went on from {start}, where the loss fell furthest");
    if sisters.judged.is_empty() {
        return vec![
            began,
            "sisters are not judged: no picture was kept from training".into(),
        ];
    }
    let each = sisters.judged.iter();
    let each: Vec<String> = each
        .map(|(name, accuracy)| format!("{name} {}", percent(*accuracy)))
        .collect();
    let best = match &sisters.kept {
        Some(name) => format!("{name} is the best, and is kept in place of what was trained"),
        None => "what was trained here is kept".into(),
    };
    vec![
        began,
        format!(
            "on the same pictures: trained here {}, {}: {best}",
            percent(sisters.trained),
            each.join(", ")
        ),
    ]
}

/// A verdict in one line: whether it is better, by how many points, and what would tell.
pub fn verdict_in_words(verdict: &Verdict, labels: &[Label]) -> String {
    let points = |share: f32| (100.0 * share).round();
    let (low, high) = verdict.credible;
    let (low, high) = (points(low), points(high));
    let gain = format!("{:+} points, {low} to {high}", points(verdict.gain));
    match &verdict.judgement {
        Judgement::Better => format!("better than zero-shot: {gain}"),
        Judgement::Worse => format!("worse than zero-shot: {gain}"),
        Judgement::Unsure(more) => {
            let names = more
                .classes
                .iter()
                .map(|&class| labels[class].name.as_str());
            let names: Vec<&str> = names.collect();
            format!(
                "cannot tell yet ({gain}): label about {} more of {}",
                more.shots,
                names.join(" and ")
            )
        }
    }
}

fn verdict_for_machines(verdict: &Verdict, labels: &[Label]) -> serde_json::Value {
    let (judgement, more) = match &verdict.judgement {
        Judgement::Better => ("better", None),
        Judgement::Worse => ("worse", None),
        Judgement::Unsure(more) => ("unsure", Some(more)),
    };
    json!({
        "judgement": judgement,
        "gain": verdict.gain,
        "credible": [verdict.credible.0, verdict.credible.1],
        "more_shots": more.map(|more| json!({
            "shots": more.shots,
            "labels": more.classes.iter().map(|&class| &labels[class].name).collect::<Vec<_>>(),
        })),
    })
}
