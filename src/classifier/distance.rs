//! How far two prompts of one model are from each other.

use ndarray::{Array1, Array2};

use super::{Classifier, ClassifierError, context_rows};
use crate::clip::Model;
use crate::prompt::Prompt;

/// How far apart two prompts are. None where their templates have not as many tokens, or no label is in both.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Distance {
    /// Frobenius norm of the difference of the contexts.
    pub euclidean: Option<f32>,
    /// Cosine of the two changes.
    pub cosine: Option<f32>,
    /// Mean cosine of the text features of the labels that both have.
    pub text_cosine: Option<f32>,
}

/// A prompt as its model sees it.
struct Side<'a> {
    classifier: Classifier<'a>,
    /// `[n, d]`, template and change.
    context: Array2<f32>,
    /// `[n, d]`, the change alone.
    change: Array2<f32>,
}

impl<'a> Side<'a> {
    fn new(model: &'a Model, prompt: &Prompt) -> Result<Side<'a>, ClassifierError> {
        let layout = model.layout(&prompt.template, &prompt.labels)?;
        Ok(Side {
            classifier: Classifier::with_prompt(model, prompt)?,
            context: context_rows(&model.text, &layout, Some(&prompt.delta))?,
            change: prompt.delta.matrix(),
        })
    }
}

impl Distance {
    /// Of two prompts of `model`.
    ///
    /// # Errors
    /// If one belongs to another model, or does not fit this one.
    pub fn between(model: &Model, a: &Prompt, b: &Prompt) -> Result<Distance, ClassifierError> {
        let (a, b) = (Side::new(model, a)?, Side::new(model, b)?);
        let alike = a.context.dim() == b.context.dim();
        let norm = |table: &Array2<f32>| table.iter().map(|x| x * x).sum::<f32>().sqrt();
        let cosine = || {
            let product: f32 = (&a.change * &b.change).sum();
            let norms = norm(&a.change) * norm(&b.change);
            (norms > 0.0).then(|| product / norms)
        };
        let labels = a.classifier.labels().iter().enumerate();
        let shared: Vec<f32> = labels
            .filter_map(|(row, label)| {
                let other = b.classifier.class_of(&label.name)?;
                let texts = a.classifier.texts();
                Some(texts.row(row).dot(&b.classifier.texts().row(other)))
            })
            .collect();
        Ok(Distance {
            euclidean: alike.then(|| norm(&(&a.context - &b.context))),
            cosine: alike.then(cosine).flatten(),
            text_cosine: Array1::from_vec(shared).mean(),
        })
    }
}
