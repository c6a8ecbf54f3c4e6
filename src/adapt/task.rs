//! What a prompt is trained for: a model, and the classes that it is to tell apart.

use super::AdaptError;
use super::features::FeatureSet;
use crate::classifier::{ClassifierError, context_rows, text_features, with_new_classes};
use crate::clip::Model;
use crate::prompt::{Delta, Label, Prototypes, TokenLayout};
use ndarray::Array2;

/// Fewer labels than this leave nothing to tell apart.
pub const MIN_LABELS: usize = 2;
/// Fewer pictures of a label than this are too few to learn from and to judge by.
pub const MIN_SHOTS: usize = 2;

/// A model and the labels that it is to tell apart, in a template.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The frozen model.
    pub model: &'a Model,
    /// The classes, in the order of their indices.
    pub labels: &'a [Label],
    /// Their tokens in the template, as [`Model::layout`] gives them.
    pub layout: &'a TokenLayout,
}

impl<'a> Task<'a> {
    /// The task of telling `labels` apart, whose tokens are `layout`.
    ///
    /// # Errors
    /// [`AdaptError::TooFewLabels`] if there are fewer than [`MIN_LABELS`].
    pub fn new(
        model: &'a Model,
        labels: &'a [Label],
        layout: &'a TokenLayout,
    ) -> Result<Task<'a>, AdaptError> {
        check_labels(labels)?;
        Ok(Task {
            model,
            labels,
            layout,
        })
    }

    /// The context that is tuned, `[n, d]`: the token embeddings of the template's words, with `change` added to them if
    /// there is one.
    ///
    /// # Errors
    /// If the text tower does not know a token, or the change has another shape.
    pub fn context(&self, change: Option<&Delta>) -> Result<Array2<f32>, ClassifierError> {
        context_rows(&self.model.text, self.layout, change)
    }

    /// The text features of the classes in the [context](Task::context), `[classes, joint]`, L2-normalised.
    ///
    /// # Errors
    /// The same, and if a class is too long for the tower.
    pub fn text_features(&self, change: Option<&Delta>) -> Result<Array2<f32>, ClassifierError> {
        text_features(&self.model.text, self.layout, change)
    }

    /// The same as a prompt with this `change` and these `prototypes` is used: labels without shots are read half in the template.
    ///
    /// # Errors
    /// The same.
    pub fn texts_in_use(
        &self,
        change: &Delta,
        prototypes: Option<&Prototypes>,
    ) -> Result<Array2<f32>, ClassifierError> {
        let new = prototypes.map_or(Vec::new(), Prototypes::without_shots);
        with_new_classes(&self.model.text, self.layout, change, &new)
    }
}

/// Checks that each class has pictures enough to train on and to judge by.
///
/// # Errors
/// [`AdaptError::TooFewPictures`] if one has fewer than [`MIN_SHOTS`].
pub fn check_pictures(labels: &[Label], pictures: &FeatureSet) -> Result<(), AdaptError> {
    for (class, label) in labels.iter().enumerate() {
        let found = pictures.labels.iter().filter(|&&of| of == class).count();
        if found < MIN_SHOTS {
            return Err(AdaptError::TooFewPictures {
                label: label.name.clone(),
                pictures: found,
            });
        }
    }
    Ok(())
}

/// Checks that there is something to tell apart, before a model is opened for it.
///
/// # Errors
/// [`AdaptError::TooFewLabels`] if there are fewer than [`MIN_LABELS`].
pub fn check_labels(labels: &[Label]) -> Result<(), AdaptError> {
    if labels.len() < MIN_LABELS {
        return Err(AdaptError::TooFewLabels);
    }
    Ok(())
}
