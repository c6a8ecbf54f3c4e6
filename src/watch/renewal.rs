//! Whether the prompt that a camera is watched with was replaced meanwhile: by `adapt --watch` in another process, by an
//! import or a rollback.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::classifier::{Classifier, ClassifierError, Unknown};
use crate::clip::Model;
use crate::prompt::Label;
use crate::prompt::Prompt;
use crate::prompt::labels::same_labels;
use crate::store::Home;

/// How often the prompt's file is read again: a few KiB.
const PACE: Duration = Duration::from_secs(2);

/// What became of the prompt in use.
#[derive(Debug)]
#[non_exhaustive]
pub enum PromptChange {
    /// Another generation is in use from here on.
    InUse {
        /// The generation's number in its home folder.
        sequence: u64,
    },
    /// It is now one for another model, and the old one stays in use.
    OtherModel,
    /// It now has other labels, and the old one stays in use.
    OtherLabels,
    /// It cannot be used, and the old one stays in use.
    Unusable(ClassifierError),
}

/// The prompt in use, and where it came from.
pub struct Renewal<'a> {
    home: &'a Home,
    /// A name in the home folder, or a file.
    source: PathBuf,
    /// What was last found there.
    prompt: Prompt,
    /// What is watched for; a successor must have the same, unless they do not come from the prompt.
    labels: Vec<Label>,
    own_labels: bool,
    unknown: Option<Unknown>,
    pace: Duration,
    looked: Instant,
}

impl<'a> Renewal<'a> {
    /// Looks for successors of `prompt`, which came from `source`: the name of a prompt of `home`, or a file.
    pub fn new(home: &'a Home, source: impl Into<PathBuf>, prompt: Prompt) -> Renewal<'a> {
        Renewal {
            home,
            source: source.into(),
            labels: prompt.labels.clone(),
            own_labels: true,
            prompt,
            unknown: None,
            pace: PACE,
            looked: Instant::now(),
        }
    }

    /// With these labels in place of the prompt's own.
    pub fn with_labels(self, labels: Vec<Label>) -> Renewal<'a> {
        Renewal {
            labels,
            own_labels: false,
            ..self
        }
    }

    /// With this rule in place of the prompt's own.
    pub fn with_unknown(self, unknown: Unknown) -> Renewal<'a> {
        Renewal {
            unknown: Some(unknown),
            ..self
        }
    }

    /// Reading the file no more often than this; every two seconds unless it is said.
    pub fn every(self, pace: Duration) -> Renewal<'a> {
        Renewal { pace, ..self }
    }

    /// What became of the prompt, if it is another one than before, and the classifier to use from here on, if it fits what
    /// is watched. One that cannot be used is reported once.
    pub(super) fn look<'m>(
        &mut self,
        model: &'m Model,
    ) -> Option<(PromptChange, Option<Classifier<'m>>)> {
        if self.looked.elapsed() < self.pace {
            return None;
        }
        self.looked = Instant::now();
        // Removed or damaged: what is in memory is still good.
        let found = self.home.load(&self.source).ok()?.record;
        if found == self.prompt {
            return None;
        }
        self.prompt = found;
        if self.prompt.model_fingerprint != model.fingerprint.0 {
            return Some((PromptChange::OtherModel, None));
        }
        if self.own_labels && !same_labels(&self.prompt.labels, &self.labels) {
            return Some((PromptChange::OtherLabels, None));
        }
        Some(
            match Classifier::with_prompt_for(model, &self.prompt, &self.labels) {
                Ok(classifier) => {
                    let change = PromptChange::InUse {
                        sequence: self.prompt.provenance.sequence,
                    };
                    let classifier = match self.unknown {
                        Some(rule) => classifier.with_unknown(rule),
                        None => classifier,
                    };
                    (change, Some(classifier))
                }
                Err(error) => (PromptChange::Unusable(error), None),
            },
        )
    }
}
