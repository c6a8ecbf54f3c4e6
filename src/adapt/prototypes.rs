//! What the prompt leaves over, in closed form: a Gaussian of each class with one covariance, added to the prompt's scores
//! (GDA, arXiv 2402.04087). How much it counts is for cross-validation to say ([`super::cross_fit`]).

use super::AdaptError;
use super::features::FeatureSet;
use crate::prompt::Prototypes;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// Gaussians of the classes of some shots, as a linear function of a feature.
#[derive(Debug, Clone)]
pub struct Discriminant {
    /// The mean feature of each class, `[classes, joint]`; zero where there were no shots.
    pub means: Array2<f32>,
    /// Of the log posterior, up to what all classes have in common: `[classes, joint]`.
    pub weight: Array2<f32>,
    /// `[classes]`.
    pub bias: Array1<f32>,
    /// How far scores spread on the shots themselves, as a standard deviation over classes: what one score counts in differs
    /// a hundredfold between one shot and sixteen.
    pub spread: f32,
}

impl Discriminant {
    /// Of `features [rows, joint]`, with a class below `classes` each. With fewer shots than dimensions the covariance
    /// needs help; the precision is estimated as arXiv 2402.04087 does it, `d ((n - 1) S + trace(S) I)^-1`. A class without
    /// shots scores nothing.
    ///
    /// # Errors
    /// [`AdaptError::Singular`] if the features are not numbers.
    pub fn of(
        features: ArrayView2<f32>,
        labels: &[usize],
        classes: usize,
    ) -> Result<Discriminant, AdaptError> {
        Ok(Discriminant::with_precision(features, labels, classes)?.0)
    }

    /// The same, with the precision that all classes share.
    ///
    /// # Errors
    /// As [`Discriminant::of`].
    pub(super) fn with_precision(
        features: ArrayView2<f32>,
        labels: &[usize],
        classes: usize,
    ) -> Result<(Discriminant, Precision), AdaptError> {
        let (means, counts) = class_means(features, labels, classes);
        let mut centred = features.mapv(f64::from);
        for (mut row, &label) in centred.outer_iter_mut().zip(labels) {
            row -= &means.row(label);
        }
        let (pictures, joint) = centred.dim();
        // (n - 1) S, and the trace of S itself.
        let mut matrix = centred.t().dot(&centred);
        let trace = matrix.diag().sum() / (pictures.saturating_sub(1)).max(1) as f64;
        // One shot a class has no spread: then all directions count alike.
        let ridge = if trace > 0.0 { trace } else { 1.0 };
        for entry in matrix.diag_mut() {
            *entry += ridge;
        }
        let factor = cholesky(matrix).ok_or(AdaptError::Singular)?;
        let precision = Precision { factor };
        let mut weight = Array2::zeros((classes, joint));
        let mut bias = Array1::zeros(classes);
        for (class, mean) in means.outer_iter().enumerate() {
            if counts[class] == 0 {
                continue;
            }
            let row = precision.times(mean.to_owned());
            bias[class] = (-0.5 * row.dot(&mean)) as f32;
            weight.row_mut(class).assign(&row.mapv(|x| x as f32));
        }
        let fitted = Discriminant {
            means: means.mapv(|x| x as f32),
            weight,
            bias,
            spread: 1.0,
        };
        let scores = fitted.scores(features);
        let squares = scores.iter().map(|x| x * x).sum::<f32>();
        let spread = (squares / scores.len().max(1) as f32).sqrt();
        let fitted = Discriminant {
            spread: if spread > 0.0 { spread } else { 1.0 },
            ..fitted
        };
        Ok((fitted, precision))
    }

    /// The same where the mean of `class` is another one, `[joint]`; all zeros for a class without shots. The covariance is
    /// kept.
    pub(super) fn with_mean(
        &self,
        class: usize,
        mean: ArrayView1<f32>,
        precision: &Precision,
    ) -> Discriminant {
        let mut other = self.clone();
        let weight = precision.times(mean.mapv(f64::from)).mapv(|x| x as f32);
        other.bias[class] = -0.5 * weight.dot(&mean);
        other.means.row_mut(class).assign(&mean);
        other.weight.row_mut(class).assign(&weight);
        other
    }

    /// The same where `feature` is not among the `count` shots of `class`; the covariance is kept.
    pub(super) fn without(
        &self,
        (class, count): (usize, usize),
        feature: ArrayView1<f32>,
        precision: &Precision,
    ) -> Discriminant {
        let mean = match count {
            0 | 1 => Array1::zeros(feature.len()),
            _ => (&self.means.row(class) * count as f32 - feature) / (count - 1) as f32,
        };
        self.with_mean(class, mean.view(), precision)
    }

    /// Of all views of `shots`.
    ///
    /// # Errors
    /// As [`Discriminant::of`].
    pub fn of_shots(shots: &FeatureSet, classes: usize) -> Result<Discriminant, AdaptError> {
        let (features, labels) = shots.every_view();
        Discriminant::of(features.view(), &labels, classes)
    }

    /// The log posteriors of `features [rows, joint]`, less their mean over the classes that had shots and in units of their
    /// spread; nothing for those that had none. `[rows, classes]`.
    pub fn scores(&self, features: ArrayView2<f32>) -> Array2<f32> {
        let centred = self.centred();
        (features.dot(&centred.weight.t()) + &centred.bias) / self.spread
    }

    /// What is kept with a prompt: these scores times `strength`, for a model whose cosines are multiplied by `scale`.
    pub fn prototypes(&self, strength: f32, scale: f32) -> Prototypes {
        let centred = self.centred();
        let unit = strength / (scale * self.spread);
        let (weight, bias) = (centred.weight * unit, centred.bias * unit);
        Prototypes::new(self.means.view(), weight.view(), &bias)
    }

    /// The same with scores that sum to nothing over the classes that had shots, so that names without any compete with
    /// them by their text alone.
    fn centred(&self) -> Discriminant {
        let mut centred = self.clone();
        let known: Vec<usize> = (0..self.bias.len())
            .filter(|&class| self.means.row(class).iter().any(|&x| x != 0.0))
            .collect();
        if let Some(mean) = self.weight.select(Axis(0), &known).mean_axis(Axis(0)) {
            let mean_bias = known.iter().map(|&class| self.bias[class]).sum::<f32>();
            for &class in &known {
                let mut row = centred.weight.row_mut(class);
                row -= &mean;
                centred.bias[class] -= mean_bias / known.len() as f32;
            }
        }
        centred
    }
}

/// The inverse of the covariance that all classes share.
pub(super) struct Precision {
    /// The lower triangle of what is inverted.
    factor: Array2<f64>,
}

impl Precision {
    fn times(&self, vector: Array1<f64>) -> Array1<f64> {
        let joint = vector.len() as f64;
        solve(&self.factor, vector) * joint
    }
}

/// The mean feature of each class and how many there are of it, in double precision.
fn class_means(
    features: ArrayView2<f32>,
    labels: &[usize],
    classes: usize,
) -> (Array2<f64>, Vec<usize>) {
    let mut means = Array2::zeros((classes, features.ncols()));
    let mut counts = vec![0; classes];
    for (feature, &label) in features.outer_iter().zip(labels) {
        let mut mean = means.row_mut(label);
        mean += &feature.mapv(f64::from);
        counts[label] += 1;
    }
    for (mut mean, &count) in means.outer_iter_mut().zip(&counts) {
        mean /= count.max(1) as f64;
    }
    (means, counts)
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
    use crate::classifier::Scorer;
    use crate::rng::Rng;

    #[test]
    fn features_that_are_not_numbers_are_an_error() {
        let features = ndarray::arr2(&[[f32::NAN, 0.0], [0.0, 1.0]]);
        let found = Discriminant::of(features.view(), &[0, 1], 2);
        assert!(matches!(found, Err(AdaptError::Singular)));
    }

    #[test]
    fn without_a_shot_the_mean_is_that_of_the_others() {
        let mut rng = Rng::new(3);
        let features = Array2::from_shape_simple_fn((12, 5), || rng.normal());
        let labels: Vec<usize> = (0..12).map(|row| row % 3).collect();
        let (fitted, precision) =
            Discriminant::with_precision(features.view(), &labels, 3).unwrap();
        let without = fitted.without((0, 4), features.row(0), &precision);
        let others = features
            .select(Axis(0), &[3, 6, 9])
            .mean_axis(Axis(0))
            .unwrap();
        let weight = precision.times(others.mapv(f64::from)).mapv(|x| x as f32);
        for (found, expected) in [
            (without.means.row(0).to_owned(), others),
            (without.weight.row(0).to_owned(), weight),
        ] {
            let away = (&found - &expected).mapv(f32::abs);
            assert!(away.iter().all(|&x| x < 1e-3), "{found} {expected}");
        }
        assert_eq!(without.weight.row(1), fitted.weight.row(1));
    }

    #[test]
    fn a_class_without_shots_has_nothing_added_and_the_others_sum_to_nothing() {
        let mut rng = Rng::new(1);
        let features = Array2::from_shape_simple_fn((12, 5), || rng.normal());
        let labels: Vec<usize> = (0..12).map(|row| [0, 1, 3][row % 3]).collect();
        let fitted = Discriminant::of(features.view(), &labels, 4).unwrap();
        for row in fitted.scores(features.view()).outer_iter() {
            assert_eq!(row[2], 0.0);
            assert!(row.sum().abs() < 1e-3, "{row}");
        }
    }

    #[test]
    fn what_is_kept_scores_as_the_gaussians_do_beside_the_texts() {
        let mut rng = Rng::new(2);
        let mut unit = |rows: usize| {
            let mut table = Array2::from_shape_simple_fn((rows, 24), || rng.normal());
            for mut row in table.outer_iter_mut() {
                let length = row.dot(&row).sqrt();
                row /= length;
            }
            table
        };
        let (features, texts) = (unit(30), unit(3));
        let labels: Vec<usize> = (0..30).map(|row| row % 3).collect();
        let fitted = Discriminant::of(features.view(), &labels, 3).unwrap();
        let kept = fitted.prototypes(0.5, 20.0);
        let scorer = Scorer::new(texts.view(), Some(&kept)).unwrap();
        let found = scorer.scores(features.view()) * 20.0;
        let expected = features.dot(&texts.t()) * 20.0 + fitted.scores(features.view()) * 0.5;
        let away = (&found - &expected).mapv(f32::abs);
        // Eight bits: half a step in each of 24 numbers.
        assert!(away.iter().all(|&x| x < 0.05), "{away}");
    }
}
