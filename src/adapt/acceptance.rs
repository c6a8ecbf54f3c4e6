//! Whether a trained prompt may stay: the pictures that are held out for the question, and what they answer.

use super::features::FeatureSet;
use super::loss::{confusion, share_right};
use super::{AdaptError, calibration};
use crate::prompt::Calibration;
use crate::rng::Rng;
use ndarray::{Array2, ArrayView2};

/// Which pictures train and which judge, as rows of a [`FeatureSet`] in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Those that train.
    pub train: Vec<usize>,
    /// Those that training never sees.
    pub holdout: Vec<usize>,
}

impl Split {
    /// Holds out `share` of the pictures of each class, at random from `seed`: at least one of a class that has two,
    /// and never its last one. `labels` holds the class of each picture, below `classes`.
    ///
    /// # Errors
    /// [`AdaptError::Holdout`] if `share` is not in `0..1`.
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
            let wanted = if share > 0.0 {
                ((members.len() as f32 * share).round() as usize).max(1)
            } else {
                0
            };
            let held = wanted.min(members.len().saturating_sub(1));
            split.holdout.extend(&members[..held]);
            split.train.extend(&members[held..]);
        }
        split.train.sort_unstable();
        split.holdout.sort_unstable();
        Ok(split)
    }

    /// The pictures that judge: those held out, or the training pictures for want of others.
    pub fn judged(&self) -> &[usize] {
        if self.holdout.is_empty() {
            &self.train
        } else {
            &self.holdout
        }
    }
}

/// Keeps the split apart from other uses of the same seed.
const SPLIT_STREAM: u64 = 0x5917;

/// What speaks for a trained prompt or against it: a [`Comparison`] where labels are known, a
/// [`Consistency`](super::unlabelled::Consistency) where they are not.
pub trait Evidence {
    /// Whether the prompt may stay.
    fn accepts(&self) -> bool;

    /// What labelled pictures say; none where nobody labelled any.
    fn comparison(&self) -> Option<&Comparison>;
}

/// A trained prompt beside the plain template, on labelled pictures.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Comparison {
    /// Which pictures it was trained on, and which of them judged.
    pub split: Split,
    /// Accuracy of the plain template on the pictures that judged, in `0..=1`.
    pub zero_shot_accuracy: f32,
    /// Accuracy of the trained prompt on the same pictures.
    pub adapted_accuracy: f32,
    /// The same pictures by the class that they show (rows) and the class that the trained prompt gives them (columns).
    pub confusion: Array2<usize>,
    /// How the trained prompt's scores are to be read; none where nothing was held out.
    pub calibration: Option<Calibration>,
}

impl Comparison {
    /// Compares prompts by their text features, `[classes, joint]` each. `scale` is the model's logit scale.
    pub(super) fn new(
        pictures: &FeatureSet,
        split: Split,
        template: ArrayView2<f32>,
        adapted: ArrayView2<f32>,
        scale: f32,
    ) -> Comparison {
        let (features, truth) = pictures.select(split.judged()).plain();
        let scores = |texts: ArrayView2<f32>| features.dot(&texts.t());
        let (before, after) = (scores(template), scores(adapted));
        let (held_out, held_out_labels) = pictures.select(&split.holdout).every_view();
        let unseen = calibration::Unseen {
            features: held_out.view(),
            labels: &held_out_labels,
            views: pictures.features.dim().1,
        };
        Comparison {
            zero_shot_accuracy: share_right(before.view(), &truth),
            adapted_accuracy: share_right(after.view(), &truth),
            confusion: confusion(after.view(), &truth),
            calibration: calibration::fit(&unseen, adapted, scale),
            split,
        }
    }

    /// Pictures held out and judged; 0 means that the training pictures were judged for want of others.
    pub fn held_out(&self) -> usize {
        self.split.holdout.len()
    }
}

impl Evidence for Comparison {
    /// The rule that adapting does no harm: the trained prompt is at least as good as the template.
    fn accepts(&self) -> bool {
        self.adapted_accuracy >= self.zero_shot_accuracy
    }

    fn comparison(&self) -> Option<&Comparison> {
        Some(self)
    }
}

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

    #[test]
    fn a_comparison_counts_what_is_taken_for_what_on_the_pictures_that_judged() {
        let pictures = FeatureSet {
            features: ndarray::arr3(&[[[1.0, 0.0]], [[0.8, 0.6]], [[0.0, 1.0]], [[0.6, 0.8]]]),
            labels: vec![0, 0, 1, 1],
        };
        let split = Split::new(&pictures.labels, 2, 0.5, 0).unwrap();
        assert_eq!(split.judged(), split.holdout);
        let (good, bad) = (Array2::eye(2), ndarray::arr2(&[[0.0, 1.0], [1.0, 0.0]]));
        let found = Comparison::new(&pictures, split, bad.view(), good.view(), 10.0);
        assert_eq!(
            (found.zero_shot_accuracy, found.adapted_accuracy),
            (0.0, 1.0)
        );
        assert_eq!(found.confusion, ndarray::arr2(&[[1, 0], [0, 1]]));
        assert!(found.accepts() && found.calibration.is_some());
        assert_eq!(found.held_out(), 2);

        let all = Split::new(&pictures.labels, 2, 0.0, 0).unwrap();
        assert_eq!(all.judged(), [0, 1, 2, 3]);
        let found = Comparison::new(&pictures, all, good.view(), bad.view(), 10.0);
        assert_eq!(found.confusion, ndarray::arr2(&[[0, 2], [2, 0]]));
        assert!(!found.accepts());
        assert_eq!((found.held_out(), found.calibration), (0, None));
    }
}
