//! A Gaussian of each class with one covariance, in closed form: linear discriminant analysis with equal priors. With
//! fewer shots than dimensions the covariance needs help; the precision is estimated as arXiv 2402.04087 does it,
//! `d ((n - 1) S + trace(S) I)^-1`.

use super::{EvaluateError, Fitted, Predictor, class_means};
use crate::adapt::Task;
use crate::adapt::features::FeatureSet;
use ndarray::{Array1, Array2};

/// Fits the Gaussians.
///
/// # Errors
/// [`EvaluateError::Singular`] if the features are not numbers.
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
    let means = class_means(shots, classes);
    let (mut centred, labels) = shots.plain();
    for (mut row, &label) in centred.outer_iter_mut().zip(&labels) {
        row -= &means.row(label);
    }
    let centred = centred.mapv(f64::from);
    let (pictures, joint) = centred.dim();
    // (n - 1) S, and the trace of S itself.
    let mut matrix = centred.t().dot(&centred);
    let trace = matrix.diag().sum() / (pictures.saturating_sub(1)).max(1) as f64;
    // One shot a class has no spread: then all directions count alike.
    let ridge = if trace > 0.0 { trace } else { 1.0 };
    for entry in matrix.diag_mut() {
        *entry += ridge;
    }
    let factor = cholesky(matrix).ok_or(EvaluateError::Singular)?;
    let mut weight = Array2::zeros((classes, joint));
    let mut bias = Array1::zeros(classes);
    for (class, mean) in means.outer_iter().enumerate() {
        let mean = mean.mapv(f64::from);
        let row = solve(&factor, mean.clone()) * joint as f64;
        bias[class] = (-0.5 * row.dot(&mean)) as f32;
        weight.row_mut(class).assign(&row.mapv(|x| x as f32));
    }
    Ok((weight, bias))
}

/// The lower triangle `L` with `L L^T = matrix`; none if the matrix is not positive definite.
fn cholesky(mut matrix: Array2<f64>) -> Option<Array2<f64>> {
    for row in 0..matrix.nrows() {
        for column in 0..=row {
            let dot = (0..column)
                .map(|k| matrix[[row, k]] * matrix[[column, k]])
                .sum::<f64>();
            let rest = matrix[[row, column]] - dot;
            matrix[[row, column]] = if row != column {
                rest / matrix[[column, column]]
            } else if rest > 0.0 {
                rest.sqrt()
            } else {
                return None;
            };
        }
    }
    Some(matrix)
}

/// `x` with `L L^T x = right`.
fn solve(factor: &Array2<f64>, mut right: Array1<f64>) -> Array1<f64> {
    let size = right.len();
    for row in 0..size {
        let known: f64 = (0..row).map(|k| factor[[row, k]] * right[k]).sum();
        right[row] = (right[row] - known) / factor[[row, row]];
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|k| factor[[k, row]] * right[k]).sum();
        right[row] = (right[row] - known) / factor[[row, row]];
    }
    right
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

    #[test]
    fn features_that_are_not_numbers_are_an_error() {
        let shots = FeatureSet {
            features: ndarray::arr3(&[[[f32::NAN, 0.0]], [[0.0, 1.0]]]),
            labels: vec![0, 1],
        };
        assert!(matches!(
            discriminant(&shots, 2),
            Err(EvaluateError::Singular)
        ));
    }
}
