//! What comes of an adaptation: a trained prompt and the evidence on it, ready to be kept.

use super::{Evidence, Options, Sisters, StepReport, Task};
use crate::classifier::ClassifierError;
use crate::prompt::{
    Delta, FeatureStatistics, Metrics, Prompt, Prototypes, Provenance, Template, density,
    method_name,
};

/// A trained prompt and the [`Evidence`] on it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome<E> {
    /// What was trained, or is kept in its place: the change to the template's context.
    pub delta: Delta,
    /// What is added to the prompt's scores; none where it answers alone.
    pub prototypes: Option<Prototypes>,
    /// One report a training step.
    pub history: Vec<StepReport>,
    /// Pictures that it was trained on, crops not counted.
    pub trained_on: usize,
    /// What all pictures look like to the model, without their crops; none without pictures.
    pub statistics: Option<FeatureStatistics>,
    /// What speaks for it.
    pub evidence: E,
    /// What prompts of sister cameras came to; one of them may be what is here.
    pub sisters: Sisters,
}

impl<E: Evidence> Outcome<E> {
    /// Whether the prompt may stay.
    pub fn accepted(&self) -> bool {
        self.evidence.accepts()
    }

    /// What answers, as the command line names it: `rlp`, `coop`, or either with `+gda` where prototypes stand beside it.
    pub fn method(&self) -> String {
        method_name(self.delta.tuning(), self.prototypes.is_some())
    }

    /// The prompt to keep, with everything but its [`Provenance`]. `template` and `options` are those that it was trained
    /// with for `task`.
    ///
    /// # Errors
    /// If the text tower does not know a token of the template, or this was trained for another task.
    pub fn prompt(
        &self,
        task: &Task,
        template: &Template,
        options: &Options,
    ) -> Result<Prompt, ClassifierError> {
        let context = task.context(Some(&self.delta))?;
        let comparison = self.evidence.comparison();
        Ok(Prompt {
            model_name: task.model.name.clone(),
            model_fingerprint: task.model.fingerprint.0,
            template: template.clone(),
            labels: task.labels.to_vec(),
            delta: self.delta.clone(),
            context_singular_values: density::singular_values(context.view()),
            seed: options.seed,
            recipe: match &self.sisters.kept {
                None => {
                    let prototypes = self.prototypes.as_ref();
                    let unseen = prototypes.map_or(0, |of| of.without_shots().len());
                    let seen = task.labels.len() - unseen;
                    let options = options.for_pictures(self.trained_on, seen);
                    options.recipe.in_words()
                }
                Some(_) => "of a sister camera, better than what was trained here".into(),
            },
            metrics: Metrics {
                zero_shot_accuracy: comparison.map_or(0.0, |found| found.zero_shot_accuracy),
                adapted_accuracy: comparison.map_or(0.0, |found| found.adapted_accuracy),
                holdout_images: comparison.map_or(0, |found| found.held_out() as u32),
                images: self.trained_on as u32,
                steps: match &self.sisters.kept {
                    None => self.history.len() as u32,
                    Some(_) => 0,
                },
            },
            calibration: self.evidence.calibration().cloned(),
            statistics: self.statistics.clone(),
            regions: Vec::new(),
            prototypes: self.prototypes.clone(),
            provenance: Provenance::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::unlabelled::{Consistency, Measures};
    use crate::clip::Model;
    use crate::prompt::Label;
    use ndarray::Array2;

    #[test]
    fn a_prompt_that_nobody_labelled_pictures_for_holds_no_accuracy() {
        let model = Model::embedded().unwrap();
        let labels = ["mug", "key"].map(|name| Label::new(name, None).unwrap());
        let template = Template::default();
        let layout = model.layout(&template, &labels).unwrap();
        let task = Task::new(&model, &labels, &layout).unwrap();
        let measures = Measures {
            agreement: 0.5,
            stability: 0.5,
            margin: 0.5,
            spread: 0.5,
            labels: 7.0,
        };
        let outcome = Outcome {
            delta: Delta::Full(Array2::zeros((layout.context.len(), model.text.width()))),
            prototypes: None,
            history: Vec::new(),
            trained_on: 9,
            statistics: None,
            evidence: Consistency {
                pictures: 4,
                before: measures,
                after: measures,
                persistence: 1.0,
                coherence: 1.0,
                alike: true,
                missing: Vec::new(),
                calibration: None,
                refusal: None,
            },
            sisters: Sisters::default(),
        };
        assert!(outcome.accepted());
        let options = Options::of(outcome.delta.tuning()).with_seed(7);
        let prompt = outcome.prompt(&task, &template, &options).unwrap();
        let unmeasured = Metrics {
            images: 9,
            ..Metrics::default()
        };
        assert_eq!((prompt.metrics.clone(), prompt.seed), (unmeasured, 7));
        assert_eq!(prompt.calibration, None);
        assert_eq!(prompt.fault(), None);
    }
}
