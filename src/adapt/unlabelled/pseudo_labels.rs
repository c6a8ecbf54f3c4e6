//! What unlabelled pictures probably show: the views of a picture vote, what pictures have in common corrects that, and the
//! most confident pictures of each class become shots.

use super::mixture::{self, Shown};
use crate::adapt::AdaptError;
use crate::adapt::cross_fit::named;
use crate::adapt::features::FeatureSet;
use crate::classifier::{Scorer, softmax_rows};
use ndarray::{Array2, ArrayView3, Axis};

/// The least coherence of classes that are all taken to be shown. It was 0.70 and more where they were, and 0.61 and less
/// where half of them never came or zero-shot guessed (docs/results/unlabelled.md).
const COHERENT: f32 = 0.67;

/// A class for each picture, and how confident that is.
#[derive(Debug, Clone)]
pub struct PseudoLabels {
    /// `[pictures, classes]`; rows sum to one.
    pub probabilities: Array2<f32>,
    /// How often the labels are taken to be shown.
    pub shown: Shown,
    /// How well Gaussians of other pictures name each picture where all labels are taken to be shown alike, from 0 to 1.
    pub coherence: f32,
}

impl PseudoLabels {
    /// From `features [pictures, views, joint]` and what a prompt makes of them at the model's logit scale.
    ///
    /// Crops see past much of what a camera does to a scene, so the mean of all views is right far more often than one
    /// view is (docs/unlabelled.md). What is left is that a prompt on strange pictures names few classes for all. Where
    /// that is taken back, so that labels are shown alike, and each of them stands for pictures that have more in common
    /// with each other than with those of other labels, it is so; else labels are as the pictures come.
    ///
    /// # Errors
    /// [`AdaptError::Singular`] if the features are not numbers.
    pub fn of(
        features: ArrayView3<f32>,
        scorer: &Scorer,
        scale: f32,
    ) -> Result<PseudoLabels, AdaptError> {
        let vote = vote(features, scorer, scale);
        let plain = features.index_axis(Axis(1), 0);
        let alike = mixture::fitted(plain, vote.view(), Shown::Alike)?;
        let labels = named(alike.view());
        let coherence = mixture::coherence(plain, &labels, vote.ncols())?;
        let (probabilities, shown) = if coherence >= COHERENT {
            (alike, Shown::Alike)
        } else {
            let free = mixture::fitted(plain, vote.view(), Shown::AsItComes)?;
            (free, Shown::AsItComes)
        };
        Ok(PseudoLabels {
            probabilities,
            shown,
            coherence,
        })
    }

    /// What the views alone say, balanced: enough to see whether a class has been seen at all.
    pub fn voted(features: ArrayView3<f32>, scorer: &Scorer, scale: f32) -> Vec<usize> {
        let mut vote = vote(features, scorer, scale);
        mixture::balance(&mut vote);
        named(vote.view())
    }

    /// The class of each picture.
    pub fn labels(&self) -> Vec<usize> {
        named(self.probabilities.view())
    }

    /// Of the pictures at `rows`, the `shots` most confident of each class, or as many as there are.
    pub fn most_confident(&self, rows: &[usize], shots: usize) -> Vec<usize> {
        let labels = self.labels();
        let mut chosen = Vec::new();
        for class in 0..self.probabilities.ncols() {
            let mut of_class: Vec<usize> = rows
                .iter()
                .copied()
                .filter(|&row| labels[row] == class)
                .collect();
            let confidence = |row: usize| self.probabilities[[row, class]];
            of_class.sort_by(|&a, &b| confidence(b).total_cmp(&confidence(a)));
            chosen.extend(of_class.into_iter().take(shots));
        }
        chosen
    }

    /// The pictures at `rows` with the classes they probably show.
    pub fn shots(&self, features: ArrayView3<f32>, rows: &[usize]) -> FeatureSet {
        let labels = self.labels();
        FeatureSet {
            features: features.select(Axis(0), rows),
            labels: rows.iter().map(|&row| labels[row]).collect(),
        }
    }
}

/// The mean of the views' probabilities, `[pictures, classes]`.
fn vote(features: ArrayView3<f32>, scorer: &Scorer, scale: f32) -> Array2<f32> {
    let views = features.axis_iter(Axis(1));
    let probabilities = views.map(|view| softmax_rows(scorer.scores(view), scale));
    let sum = probabilities.reduce(|sum, of| sum + of);
    let nothing = || Array2::zeros((features.dim().0, 0));
    sum.unwrap_or_else(nothing) / features.dim().1.max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::{best, probabilities};
    use ndarray::{Array3, arr2, arr3};

    fn plain(classes: usize) -> Scorer {
        Scorer::new(Array2::eye(classes).view(), None).unwrap()
    }

    #[test]
    fn views_vote() {
        // One view of three is mistaken.
        let features = arr3(&[
            [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]],
            [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]],
        ]);
        let labels = PseudoLabels::voted(features.view(), &plain(2), 10.0);
        assert_eq!(labels, [0, 1]);
    }

    #[test]
    fn a_class_that_a_prompt_prefers_does_not_swallow_the_others() {
        // All pictures are nearest to the first text; half of them a little less so.
        let features = Array3::from_shape_fn((40, 1, 2), |(row, _, axis)| {
            let angle: f32 = if row % 2 == 0 { 0.3 } else { 0.6 };
            [angle.cos(), angle.sin()][axis]
        });
        let texts = Array2::eye(2);
        let seen = probabilities(features.index_axis(Axis(1), 0), texts.view(), 10.0);
        assert!(seen.outer_iter().all(|row| best(row) == 0));
        let pseudo_labels = PseudoLabels::of(features.view(), &plain(2), 10.0).unwrap();
        assert_eq!(pseudo_labels.shown, Shown::Alike);
        let labels = pseudo_labels.labels();
        assert!((0..40).all(|row| labels[row] == row % 2), "{labels:?}");
    }

    #[test]
    fn the_most_confident_of_each_class_are_taken_in_order_and_no_others() {
        let pseudo_labels = PseudoLabels {
            probabilities: arr2(&[[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]]),
            shown: Shown::Alike,
            coherence: 1.0,
        };
        assert_eq!(
            pseudo_labels.most_confident(&[0, 1, 2, 3, 4], 2),
            [0, 2, 4, 3]
        );
        assert_eq!(pseudo_labels.most_confident(&[1, 3], 2), [1, 3]);
        let features = Array3::from_shape_fn((5, 1, 1), |(row, _, _)| row as f32);
        let shots = pseudo_labels.shots(features.view(), &[4, 0]);
        assert_eq!(shots.labels, [1, 0]);
        assert_eq!(shots.features[[0, 0, 0]], 4.0);
    }
}
