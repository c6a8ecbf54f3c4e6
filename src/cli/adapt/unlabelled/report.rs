//! What `adapt --unlabelled` says of one adaptation: the object for machines, the lines for people.

use super::{Attempt, Collected, Learner};
use crate::cli::output::count;
use crate::store::Saved;
use serde_json::json;

impl Learner<'_> {
    /// The object that `--json` prints for each adaptation.
    pub(super) fn report(
        &self,
        collected: &Collected,
        attempt: &Attempt,
        saved: Option<&Saved>,
    ) -> anyhow::Result<()> {
        let (plan, model) = (&self.adaptation.plan, &self.adaptation.model);
        let Attempt {
            outcome,
            refusal,
            mounting,
        } = attempt;
        let outcome = outcome.as_ref();
        let evidence = outcome.map(|outcome| &outcome.evidence);
        let labels = self.adaptation.labels.iter().map(|label| &label.name);
        self.context.output.object(&json!({
            "prompt": plan.prompt,
            "unlabelled": true,
            "path": saved.map(|saved| saved.path.display().to_string()),
            "bytes": saved.map(|saved| saved.bytes),
            "sequence": saved.map(|saved| saved.sequence),
            "model": { "name": model.name, "fingerprint": model.fingerprint.to_string() },
            "labels": labels.collect::<Vec<_>>(),
            "seen": collected.pool.seen,
            "distinct": collected.pool.len(),
            "images": outcome.map(|outcome| outcome.trained_on),
            "judging": evidence.map(|evidence| evidence.pictures),
            "before": evidence.map(|evidence| evidence.before),
            "after": evidence.map(|evidence| evidence.after),
            "persistence": evidence.map(|evidence| evidence.persistence),
            "coherence": evidence.map(|evidence| evidence.coherence),
            "alike": evidence.map(|evidence| evidence.alike),
            "put_right": mounting.map(|mounting| mounting.to_string()),
            "missing": evidence.map(|evidence| self.names(&evidence.missing)),
            "accepted": refusal.is_none() && outcome.is_some(),
            "kept": saved.is_some(),
            "refusal": refusal,
            "seconds": {
                "collecting": collected.seconds,
                "total": collected.begun.elapsed().as_secs_f64(),
            },
        }))?;
        Ok(())
    }

    /// The labels of these classes.
    fn names(&self, classes: &[usize]) -> Vec<&str> {
        let labels = &self.adaptation.labels;
        classes
            .iter()
            .map(|&class| labels[class].name.as_str())
            .collect()
    }

    /// The lines for people.
    pub(super) fn describe(&self, collected: &Collected, attempt: &Attempt, saved: Option<&Saved>) {
        let output = &self.context.output;
        output.line(format!(
            "{} seen, {} of them distinct",
            count(collected.pool.seen as u64, "picture"),
            collected.pool.len()
        ));
        if let Some(mounting) = attempt.mounting {
            output.line(format!(
                "the model is far surer of these pictures {mounting}: so they were named, and the prompt reads them as they come"
            ));
        }
        if let (Some(outcome), Some(saved)) = (&attempt.outcome, saved) {
            output.line(format!(
                "pictures named as what they seem to show: {:.0} % before, {:.0} % after, on pictures not trained on",
                100.0 * outcome.evidence.before.agreement,
                100.0 * outcome.evidence.after.agreement
            ));
            let missing = self.names(&outcome.evidence.missing);
            if !missing.is_empty() {
                output.line(format!(
                    "hardly shown, as it seems, and left to their words: {}",
                    missing.join(", ")
                ));
            }
            output.line(format!(
                "kept as prompt {:?}, generation {}: {} bytes, {}",
                self.adaptation.plan.prompt,
                saved.sequence,
                saved.bytes,
                saved.path.display()
            ));
        }
        if let Some(why) = &attempt.refusal {
            output.line(match saved {
                None => format!("not kept: {why}; what was in use stays in use"),
                Some(_) => format!("kept because of --force, although {why}"),
            });
        }
    }
}
