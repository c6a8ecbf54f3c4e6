//! Whether the prompt that a camera is watched with was replaced meanwhile: by `adapt --watch` in another process, by an
//! import or a rollback. It must not know how pictures are named.

use super::super::Context;
use super::Arguments;
use crate::classifier::Classifier;
use crate::clip::Model;
use crate::prompt::Label;
use crate::prompt::Prompt;
use crate::store::LoadedPrompt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often the prompt's file is read again: a few KiB.
const PACE: Duration = Duration::from_secs(2);

/// The prompt in use, and where it came from.
pub struct Renewal<'a> {
    model: &'a Model,
    /// What `--prompt` names.
    prompt: PathBuf,
    /// What `--labels` holds.
    labels: Option<Vec<Label>>,
    threshold: Option<f32>,
    record: Prompt,
    looked: Instant,
}

impl<'a> Renewal<'a> {
    pub fn new(
        model: &'a Model,
        arguments: &Arguments,
        labels: Option<Vec<Label>>,
        loaded: &LoadedPrompt,
    ) -> Renewal<'a> {
        Renewal {
            model,
            prompt: arguments.prompt.as_deref().unwrap_or(super::DEFAULT).into(),
            labels,
            threshold: arguments.threshold,
            record: loaded.record.clone(),
            looked: Instant::now(),
        }
    }

    /// The labels with the prompt that is there now, if it is another one that fits what is watched; not more often than
    /// every two seconds. One that cannot be read or used is told, once, and the old one stays in use.
    pub fn look(&mut self, context: &Context) -> Option<Classifier<'a>> {
        if self.looked.elapsed() < PACE {
            return None;
        }
        self.looked = Instant::now();
        // Removed or damaged: what is in memory is still good.
        let loaded = context.home.load(&self.prompt).ok()?;
        if loaded.record == self.record {
            return None;
        }
        let (prompt, sequence) = (self.prompt.display(), loaded.record.provenance.sequence);
        let old = std::mem::replace(&mut self.record, loaded.record.clone());
        let again = "start again to use it";
        if self.record.model_fingerprint != old.model_fingerprint {
            context.output.warn(format!(
                "prompt {prompt} is now one for another model: {again}"
            ));
            return None;
        }
        if self.labels.is_none() && self.record.labels != old.labels {
            context
                .output
                .warn(format!("prompt {prompt} now has other labels: {again}"));
            return None;
        }
        let labels = self.labels.as_deref();
        match super::classifier(self.model, labels, Some(&loaded), self.threshold, context) {
            Ok(classifier) => {
                context.output.note(format!(
                    "prompt {prompt}, generation {sequence}, is in use from here on"
                ));
                Some(classifier)
            }
            Err(error) => {
                context.output.warn(format!(
                    "prompt {prompt} cannot be used as it is now: {error:#}"
                ));
                None
            }
        }
    }
}
