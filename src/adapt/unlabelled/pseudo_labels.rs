//! What unlabelled pictures probably show: the views of a picture vote, classes are balanced, and the most confident
//! pictures of each class become shots.

use crate::adapt::features::FeatureSet;
use crate::classifier::{best, probabilities};
use ndarray::{Array2, ArrayView2, ArrayView3, Axis};

/// Passes over the classes until they are balanced; the last ones change little.
const BALANCING: usize = 20;
/// What stands for a probability of zero where its logarithm is needed.
const TINY: f32 = 1e-12;

/// A class for each picture, and how confident that is.
#[derive(Debug, Clone)]
pub struct PseudoLabels {
    /// `[pictures, classes]`; rows sum to one, and all columns to the same.
    pub probabilities: Array2<f32>,
}

impl PseudoLabels {
    /// From `features [pictures, views, joint]` and the text features `texts [classes, joint]` of a prompt.
    ///
    /// Crops see past much of what a camera does to a scene, so the mean of all views is right far more often than one
    /// view is (docs/unlabelled.md). What is left is that a prompt on strange pictures names few classes for all: a bias
    /// for each class makes them alike in sum, which takes for granted that each label is shown about as often.
    pub fn of(features: ArrayView3<f32>, texts: ArrayView2<f32>, scale: f32) -> PseudoLabels {
        let mut probabilities = mean_over_views(features, texts, scale);
        balance(&mut probabilities);
        PseudoLabels { probabilities }
    }

    /// The class of each picture.
    pub fn labels(&self) -> Vec<usize> {
        self.probabilities.outer_iter().map(best).collect()
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
fn mean_over_views(features: ArrayView3<f32>, texts: ArrayView2<f32>, scale: f32) -> Array2<f32> {
    let (pictures, views, _) = features.dim();
    let mut mean = Array2::zeros((pictures, texts.nrows()));
    for view in 0..views {
        mean += &probabilities(features.index_axis(Axis(1), view), texts, scale);
    }
    mean / views.max(1) as f32
}

/// Multiplies each class by a number such that all classes have the same sum, and rows still sum to one.
fn balance(probabilities: &mut Array2<f32>) {
    for _ in 0..BALANCING {
        for mut class in probabilities.columns_mut() {
            let sum = class.sum().max(TINY);
            class /= sum;
        }
        for mut row in probabilities.rows_mut() {
            let sum = row.sum().max(TINY);
            row /= sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, arr2, arr3};

    #[test]
    fn views_vote() {
        // One view of three is mistaken.
        let features = arr3(&[
            [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]],
            [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]],
        ]);
        let pseudo_labels = PseudoLabels::of(features.view(), Array2::eye(2).view(), 10.0);
        assert_eq!(pseudo_labels.labels(), [0, 1]);
    }

    #[test]
    fn a_class_that_a_prompt_prefers_does_not_swallow_the_others() {
        // All pictures are nearest to the first text; half of them a little less so.
        let features = Array3::from_shape_fn((40, 1, 2), |(row, _, axis)| {
            let angle: f32 = if row % 2 == 0 { 0.3 } else { 0.6 };
            [angle.cos(), angle.sin()][axis]
        });
        let texts = Array2::eye(2);
        let plain = probabilities(features.index_axis(Axis(1), 0), texts.view(), 10.0);
        assert!(plain.outer_iter().all(|row| best(row) == 0));
        let pseudo_labels = PseudoLabels::of(features.view(), texts.view(), 10.0);
        let labels = pseudo_labels.labels();
        assert!((0..40).all(|row| labels[row] == row % 2), "{labels:?}");
        for class in pseudo_labels.probabilities.columns() {
            assert!((class.sum() - 20.0).abs() < 1e-2);
        }
    }

    #[test]
    fn the_most_confident_of_each_class_are_taken_in_order_and_no_others() {
        let pseudo_labels = PseudoLabels {
            probabilities: arr2(&[[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]]),
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
