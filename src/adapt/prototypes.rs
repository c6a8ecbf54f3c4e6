//! What the prompt leaves over, in closed form: a Gaussian of each class with one covariance, added to the prompt's scores
//! (GDA, arXiv 2402.04087). How much it counts is for cross-validation to say ([`super::cross_fit`]).

use super::AdaptError;
use super::features::FeatureSet;
use crate::prompt::Prototypes;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

/// What is added to the scatter of the shots before it is inverted, in units of its trace: with little, directions count by how
/// little classes spread in them; with much, nearly alike, as for the nearest mean. Which is better differs from one set of
/// pictures to the next, so cross-validation weighs both (docs/results/adaptation.md).
pub const RIDGES: [f64; 2] = [1.0, 4.0];

/// How much the Gaussians of each of the [`RIDGES`] count beside a prompt, as the spread of their logits.
pub type Strengths = [f32; RIDGES.len()];

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
        Scatter::of(features, labels, classes).discriminant(RIDGES[0])
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

    /// Of all views of `shots`, with each of the [`RIDGES`].
    ///
    /// # Errors
    /// As [`Discriminant::of`].
    pub fn of_shots(shots: &FeatureSet, classes: usize) -> Result<Vec<Discriminant>, AdaptError> {
        let (features, labels) = shots.every_view();
        let scatter = Scatter::of(features.view(), &labels, classes);
        let fitted = RIDGES.map(|ridge| Ok(scatter.discriminant(ridge)?.0));
        fitted.into_iter().collect()
    }

    /// The log posteriors of `features [rows, joint]`, less their mean over the classes that had shots and in units of their
    /// spread; nothing for those that had none. `[rows, classes]`.
    pub fn scores(&self, features: ArrayView2<f32>) -> Array2<f32> {
        let centred = self.centred();
        (features.dot(&centred.weight.t()) + &centred.bias) / self.spread
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

/// What is kept with a prompt: the scores of `gaussians` of one set of shots, each times its strength, for a model whose cosines are
/// multiplied by `scale`.
pub fn prototypes(gaussians: &[Discriminant], strengths: Strengths, scale: f32) -> Prototypes {
    let means = &gaussians[0].means;
    let (mut weight, mut bias) = (Array2::zeros(means.dim()), Array1::zeros(means.nrows()));
    for (one, strength) in gaussians.iter().zip(strengths) {
        let unit = strength / (scale * one.spread);
        let centred = one.centred();
        weight.scaled_add(unit, &centred.weight);
        bias.scaled_add(unit, &centred.bias);
    }
    let kept = Prototypes::new(means.view(), weight.view(), &bias).with_sharpness(scale);
    kept.with_share_of_new()
}

/// What Gaussians are made from.
struct Scatter<'a> {
    features: ArrayView2<'a, f32>,
    means: Array2<f64>,
    /// Shots of each class.
    counts: Vec<usize>,
    /// The sum of the products of what features are away from their class's mean, `[joint, joint]`.
    products: Array2<f64>,
    /// Of the covariance; 1 where nothing spreads, as with one shot a class: then all directions count alike.
    trace: f64,
}

impl Scatter<'_> {
    fn of<'a>(features: ArrayView2<'a, f32>, labels: &[usize], classes: usize) -> Scatter<'a> {
        let (means, counts) = class_means(features, labels, classes);
        let mut centred = features.mapv(f64::from);
        for (mut row, &label) in centred.outer_iter_mut().zip(labels) {
            row -= &means.row(label);
        }
        let products = centred.t().dot(&centred);
        let trace = products.diag().sum() / (labels.len().saturating_sub(1)).max(1) as f64;
        Scatter {
            features,
            means,
            counts,
            products,
            trace: if trace > 0.0 { trace } else { 1.0 },
        }
    }

    fn discriminant(&self, ridge: f64) -> Result<(Discriminant, Precision), AdaptError> {
        let mut matrix = self.products.clone();
        for entry in matrix.diag_mut() {
            *entry += ridge * self.trace;
        }
        let factor = cholesky(matrix).ok_or(AdaptError::Singular)?;
        let precision = Precision { factor };
        let mut weight = Array2::zeros(self.means.dim());
        let mut bias = Array1::zeros(self.counts.len());
        for (class, mean) in self.means.outer_iter().enumerate() {
            if self.counts[class] == 0 {
                continue;
            }
            let row = precision.times(mean.to_owned());
            bias[class] = (-0.5 * row.dot(&mean)) as f32;
            weight.row_mut(class).assign(&row.mapv(|x| x as f32));
        }
        let fitted = Discriminant {
            means: self.means.mapv(|x| x as f32),
            weight,
            bias,
            spread: 1.0,
        };
        let scores = fitted.scores(self.features);
        let squares = scores.iter().map(|x| x * x).sum::<f32>();
        let spread = (squares / scores.len().max(1) as f32).sqrt();
        let fitted = Discriminant {
            spread: if spread > 0.0 { spread } else { 1.0 },
            ..fitted
        };
        Ok((fitted, precision))
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
            let dot = matrix
                .slice(s![row, ..column])
                .dot(&matrix.slice(s![column, ..column]));
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
    fn with_a_large_ridge_all_directions_count_nearly_alike() {
        let mut rng = Rng::new(4);
        let features = Array2::from_shape_simple_fn((12, 5), || rng.normal());
        let labels: Vec<usize> = (0..12).map(|row| row % 3).collect();
        let shots = FeatureSet {
            features: features.insert_axis(Axis(1)),
            labels,
        };
        let away: Vec<f32> = Discriminant::of_shots(&shots, 3)
            .unwrap()
            .iter()
            .map(|fitted| {
                let (weight, mean) = (fitted.weight.row(0), fitted.means.row(0));
                let lengths = (weight.dot(&weight) * mean.dot(&mean)).sqrt();
                1.0 - weight.dot(&mean) / lengths
            })
            .collect();
        assert!(away[1] < 0.5 * away[0], "{away:?}");
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
        let shots = FeatureSet {
            features: features.clone().insert_axis(Axis(1)),
            labels,
        };
        let fitted = Discriminant::of_shots(&shots, 3).unwrap();
        let kept = prototypes(&fitted, [0.3, 0.2], 20.0);
        let scorer = Scorer::new(texts.view(), Some(&kept)).unwrap();
        let found = scorer.scores(features.view()) * 20.0;
        let [little, much] = [0, 1].map(|ridge: usize| fitted[ridge].scores(features.view()));
        let expected = features.dot(&texts.t()) * 20.0 + little * 0.3 + much * 0.2;
        let away = (&found - &expected).mapv(f32::abs);
        // Eight bits: half a step in each of 24 numbers.
        assert!(away.iter().all(|&x| x < 0.05), "{away}");
    }
}
