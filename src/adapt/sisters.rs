//! Prompts of sister cameras, which were taught the same labels elsewhere: each is one more place where training may begin, and a
//! candidate for what is kept in the end, which is whatever answers this camera's own shots best.

use super::cross_fit::Answers;
use super::{Options, Task};
use crate::prompt::labels::places_among;
use crate::prompt::{Delta, Factors, Prompt, Prototypes, Template, Tuning};

/// Why a prompt is no sister of those that a task is for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SisterError {
    /// Its numbers mean something else here.
    #[error("{name} was trained for the model {trained_for}, and this is {model}")]
    OtherModel {
        /// The prompt.
        name: String,
        /// The name of its model.
        trained_for: String,
        /// The name of the model that is here.
        model: String,
    },
    /// Its change is one of other words.
    #[error("{name} stands in the sentence {found:?}, and this one is {expected:?}")]
    OtherTemplate {
        /// The prompt.
        name: String,
        /// Its template.
        found: String,
        /// The template that is here.
        expected: String,
    },
    /// It was taught other things.
    #[error("{name} knows none of these labels: it was taught {labels}")]
    OtherLabels {
        /// The prompt.
        name: String,
        /// Its first labels.
        labels: String,
    },
}

/// A prompt that was trained elsewhere, made ready for the labels of a task. It must not have seen the pictures of that task: what
/// it makes of them would flatter it.
#[derive(Debug, Clone)]
pub struct Sister {
    pub(super) name: String,
    pub(super) delta: Delta,
    pub(super) prototypes: Option<Prototypes>,
    /// Pictures that it was trained on.
    pub(super) images: usize,
}

impl Sister {
    /// `prompt`, which people call `name`, for a `task` in `template`. Its labels may be more, fewer or in another order: those
    /// that it was not taught have what [`Prototypes::for_labels`] gives them.
    ///
    /// # Errors
    /// If it is for another model or another template, or has no label in common with the task.
    pub fn new(
        name: &str,
        prompt: &Prompt,
        task: &Task,
        template: &Template,
    ) -> Result<Sister, SisterError> {
        let name = name.to_owned();
        if prompt.model_fingerprint != task.model.fingerprint.0 {
            return Err(SisterError::OtherModel {
                name,
                trained_for: prompt.model_name.clone(),
                model: task.model.name.clone(),
            });
        }
        let (found, expected) = (prompt.template.to_string(), template.to_string());
        if found != expected {
            return Err(SisterError::OtherTemplate {
                name,
                found,
                expected,
            });
        }
        let known = places_among(&prompt.labels, task.labels);
        if known.iter().all(Option::is_none) {
            let taught = prompt.labels.iter().take(5);
            let taught: Vec<&str> = taught.map(|label| label.name.as_str()).collect();
            return Err(SisterError::OtherLabels {
                name,
                labels: taught.join(", "),
            });
        }
        // It is calibrated here again, by all that there is now.
        let for_labels = |of: &Prototypes| {
            let of = of.for_labels(&prompt.labels, task.labels);
            of.with_sharpness(task.model.logit_scale)
        };
        Ok(Sister {
            name,
            delta: prompt.delta.clone(),
            prototypes: prompt.prototypes.as_ref().map(for_labels),
            images: prompt.metrics.images as usize,
        })
    }

    /// Where training as `options` say begins with it, in a context of so many tokens of such a width; none where its change is
    /// one of another size.
    pub(super) fn start(&self, options: &Options, context: (usize, usize)) -> Option<Delta> {
        if self.delta.shape() != context {
            return None;
        }
        let rank = options.rank_for(context.0);
        match (options.tuning, &self.delta) {
            (Tuning::Coop, delta) => Some(Delta::Full(delta.matrix())),
            (Tuning::Rlp, Delta::LowRank(factors)) if factors.u.ncols() == rank => {
                Some(self.delta.clone())
            }
            (Tuning::Rlp, delta) => (rank <= context.0 && context.0 <= context.1)
                .then(|| Delta::LowRank(Factors::nearest(delta.matrix().view(), rank))),
        }
    }

    /// What of it answers: its class means only where those are allowed.
    pub(super) fn prototypes(&self, answers: Answers) -> Option<&Prototypes> {
        self.prototypes
            .as_ref()
            .filter(|_| answers != Answers::Prompt)
    }
}

/// What prompts of sister cameras came to.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Sisters {
    /// Each by its name, with the share of the own pictures that it names rightly, in `0..=1`; empty where no picture was held
    /// out, for the trained prompt would be flattered beside them.
    pub judged: Vec<(String, f32)>,
    /// The same of the prompt that was trained here.
    pub trained: f32,
    /// The one from which training went on, having tried all starts; none where it was the template.
    pub start: Option<String>,
    /// The one that is kept in place of what was trained, for it is better.
    pub kept: Option<String>,
}
