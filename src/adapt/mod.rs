//! Adaptation: picture features once, then a prompt trained on them, then the question whether it may stay. It
//! must not know the command line, nor where prompts are kept.

pub mod calibration;
pub mod drift;
pub mod features;
pub mod lbfgs;
pub mod loss;
pub mod optimizer;
pub mod probe;
pub mod trainer;
pub mod unlabelled;

use crate::classifier::{ClassifierError, text_features};
use crate::clip::text_tower::DEFAULT_MEMORY;
use crate::clip::{ModelError, TextTower, TextTowerError};
use crate::prompt::{Delta, FactorsError, Method, TokenLayout};
use crate::rng::Rng;
use calibration::{Calibration, Unseen};
use drift::Statistics;
use features::FeatureSet;
use ndarray::{Array2, Axis};
use std::ops::ControlFlow;
use trainer::{Objective, Recipe, Shots, StepReport, Trained, train};

/// Why adapting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdaptError {
    #[error("there is only one label: adapting needs at least two to tell apart")]
    OneClass,
    #[error("the label {label:?} has no usable picture: add some, or remove it from the labels")]
    NoPictures { label: String },
    #[error(
        "of the label {label:?} only {pictures} pictures are sure enough to learn from: watch for longer, or remove the label"
    )]
    TooFewSure { label: String, pictures: usize },
    #[error("the hold-out share is {share}: choose one from 0 up to, but not including, 1")]
    Holdout { share: f32 },
    #[error(
        "training diverged at step {step}: the loss is not a number; the pictures or the model may be damaged"
    )]
    Diverged { step: usize },
    #[error("stopped before training was done; nothing was saved")]
    Stopped,
    #[error(transparent)]
    Factors(#[from] FactorsError),
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    #[error(transparent)]
    Text(#[from] TextTowerError),
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What to train and how to judge it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    pub method: Method,
    /// Rank of the factors; only [`Method::Rlp`] has one.
    pub rank: usize,
    /// Share of each class's pictures that training never sees, in `0..1`.
    pub holdout: f32,
    /// Seed of the split, the factors and the dropout.
    pub seed: u64,
    /// What a training step may keep for the sweep back, in bytes; it changes time, not results.
    pub memory: usize,
    pub recipe: Recipe,
}

impl Options {
    /// What is used for a method unless a user says otherwise.
    pub fn of(method: Method) -> Options {
        Options {
            method,
            rank: 1,
            holdout: 0.25,
            seed: 0,
            memory: DEFAULT_MEMORY,
            recipe: Recipe::of(method),
        }
    }
}

/// A trained prompt and the verdict on it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub delta: Delta,
    pub history: Vec<StepReport>,
    /// Accuracy of the plain template on the judged pictures, in `0..=1`.
    pub zero_shot_accuracy: f32,
    /// Accuracy of the trained prompt on the same pictures.
    pub adapted_accuracy: f32,
    /// Pictures held out and judged; 0 means that the training pictures were judged for want of others.
    pub holdout_pictures: usize,
    /// How the trained prompt's scores are to be read; none where nothing was held out.
    pub calibration: Option<Calibration>,
    /// Of all pictures, without their crops.
    pub statistics: Option<Statistics>,
    /// Whether the trained prompt is at least as good as the template: the rule that it does no harm.
    pub accepted: bool,
}

/// Trains a prompt on a part of `pictures`, and compares it with the template on the rest.
///
/// `labels` are the names for messages; `layout` their tokens; `scale` the model's logit scale.
///
/// # Errors
/// If there are fewer than two classes, a class has no picture, or an option does not fit the model.
pub fn adapt(
    tower: &TextTower,
    layout: &TokenLayout,
    labels: &[String],
    pictures: &FeatureSet,
    scale: f32,
    options: &Options,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Outcome, AdaptError> {
    if labels.len() < 2 {
        return Err(AdaptError::OneClass);
    }
    let split = Split::new(
        &pictures.labels,
        labels.len(),
        options.holdout,
        options.seed,
    )?;
    if let Some(empty) = (0..labels.len()).find(|class| !pictures.labels.contains(class)) {
        return Err(AdaptError::NoPictures {
            label: labels[empty].clone(),
        });
    }

    let initial = tower.token_rows(&layout.context)?;
    let (features, truth) = pictures.all_views(&split.train);
    let objective = Objective {
        tower,
        layout,
        initial: &initial,
        shots: Shots {
            features: features.view(),
            labels: &truth,
        },
        scale,
        memory: options.memory,
    };
    let recipe = Recipe {
        seed: options.seed,
        ..options.recipe
    };
    let starts = trainer::starts(&objective, options.method, options.rank, &recipe)?;
    let Trained {
        delta,
        history,
        finished,
    } = train(&objective, &starts, &recipe, progress)?;
    if !finished {
        return Err(AdaptError::Stopped);
    }

    let judged = if split.holdout.is_empty() {
        &split.train
    } else {
        &split.holdout
    };
    let (features, truth) = pictures.plain_views(judged);
    let accuracy = |texts: &Array2<f32>| loss::accuracy(features.view(), &truth, texts.view());
    let template = text_features(tower, layout, None)?;
    let adapted = text_features(tower, layout, Some(&delta))?;
    let (zero_shot_accuracy, adapted_accuracy) = (accuracy(&template), accuracy(&adapted));
    let (held_out, held_out_labels) = pictures.all_views(&split.holdout);
    let unseen = Unseen {
        features: held_out.view(),
        labels: &held_out_labels,
        views: pictures.features.dim().1,
    };
    Ok(Outcome {
        delta,
        history,
        zero_shot_accuracy,
        adapted_accuracy,
        holdout_pictures: split.holdout.len(),
        calibration: Calibration::fit(&unseen, adapted.view(), scale),
        statistics: Statistics::of(pictures.features.index_axis(Axis(1), 0)),
        accepted: adapted_accuracy >= zero_shot_accuracy,
    })
}

/// Which pictures train and which judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<usize>,
    pub holdout: Vec<usize>,
}

impl Split {
    /// Holds out `share` of each class, at random from `seed`: at least one picture of a class that has two,
    /// and never its last one.
    ///
    /// # Errors
    /// If `share` is not in `0..1`.
    pub fn new(
        labels: &[usize],
        classes: usize,
        share: f32,
        seed: u64,
    ) -> Result<Split, AdaptError> {
        if !(0.0..1.0).contains(&share) {
            return Err(AdaptError::Holdout { share });
        }
        let mut rng = Rng::with_stream(seed, SPLIT_STREAM);
        let mut split = Split {
            train: Vec::new(),
            holdout: Vec::new(),
        };
        for class in 0..classes {
            let mut members: Vec<usize> = (0..labels.len())
                .filter(|&index| labels[index] == class)
                .collect();
            rng.shuffle(&mut members);
            let held = match share > 0.0 {
                true => {
                    ((members.len() as f32 * share).round() as usize).clamp(1, members.len().max(1))
                }
                false => 0,
            };
            let held = held.min(members.len().saturating_sub(1));
            split.holdout.extend(&members[..held]);
            split.train.extend(&members[held..]);
        }
        split.train.sort_unstable();
        split.holdout.sort_unstable();
        Ok(split)
    }
}

/// Keeps the split apart from other uses of the same seed.
const SPLIT_STREAM: u64 = 0x5917;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_holds_out_a_share_of_every_class() {
        let labels: Vec<usize> = (0..48).map(|index| index % 3).collect();
        let split = Split::new(&labels, 3, 0.25, 1).unwrap();
        for class in 0..3 {
            let held = split
                .holdout
                .iter()
                .filter(|&&index| labels[index] == class)
                .count();
            assert_eq!(held, 4);
        }
        let mut all = [split.train.clone(), split.holdout.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..48).collect::<Vec<_>>());
        assert_eq!(split, Split::new(&labels, 3, 0.25, 1).unwrap());
        assert_ne!(split, Split::new(&labels, 3, 0.25, 2).unwrap());
    }

    #[test]
    fn the_split_never_takes_the_last_picture_of_a_class() {
        let split = Split::new(&[0, 1, 1], 2, 0.9, 0).unwrap();
        assert_eq!(split.holdout.len(), 1);
        assert!(split.train.contains(&0));
        assert!(Split::new(&[0, 1], 2, 1.0, 0).is_err());
        assert!(Split::new(&[0, 1], 2, f32::NAN, 0).is_err());
        assert!(
            Split::new(&[0, 1, 0, 1], 2, 0.0, 0)
                .unwrap()
                .holdout
                .is_empty()
        );
    }
}
