//! A Gaussian of each class with one covariance, in closed form: linear discriminant analysis with equal priors. With
//! fewer shots than dimensions the covariance needs help; the precision is estimated as arXiv 2402.04087 does it,
//! `d ((n - 1) S + trace(S) I)^-1`.

use super::{EvaluateError, Fitted, Predictor};
use crate::adapt::Task;
use crate::adapt::features::FeatureSet;
use crate::adapt::prototypes::Discriminant;
use ndarray::{Array1, Array2};

/// Fits the Gaussians.
///
/// # Errors
/// If the features are not numbers.
pub fn fit(task: &Task, shots: &FeatureSet) -> Result<Fitted, EvaluateError> {
    let (weight, bias) = discriminant(shots, task.labels.len())?;
    Ok(Fitted::untrained(
        weight.len() + bias.len(),
        Predictor::Linear { weight, bias },
    ))
}

/// `weight [classes, joint]` and `bias [classes]` of the log posterior, up to a constant.
fn discriminant(
    shots: &FeatureSet,
    classes: usize,
) -> Result<(Array2<f32>, Array1<f32>), EvaluateError> {
    let (features, labels) = shots.plain();
    let Discriminant { weight, bias, .. } = Discriminant::of(features.view(), &labels, classes)?;
    Ok((weight, bias))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::softmax_rows;
    use crate::evaluate::methods::tests::Case;

    #[test]
    fn posteriors_are_those_of_gaussian_densities() {
        let case = Case::read();
        let (weight, bias) = discriminant(&case.shots, case.classes).unwrap();
        let found = softmax_rows(case.test.dot(&weight.t()) + &bias, 1.0);
        case.assert_near(&found, "gda_posteriors");
    }

    #[test]
    fn one_shot_a_class_is_the_nearest_shot() {
        let shots = FeatureSet {
            features: ndarray::arr3(&[[[1.0, 0.0]], [[0.0, 1.0]]]),
            labels: vec![0, 1],
        };
        let (weight, bias) = discriminant(&shots, 2).unwrap();
        let scores = ndarray::arr2(&[[0.8f32, 0.6], [0.6, 0.8]]).dot(&weight.t()) + &bias;
        assert!(scores[[0, 0]] > scores[[0, 1]] && scores[[1, 1]] > scores[[1, 0]]);
        assert_eq!(crate::adapt::loss::share_right(scores.view(), &[0, 1]), 1.0);
    }
}
