//! What the pictures' features could give: multinomial logistic regression on the same shots, the usual upper
//! bound for few-shot adaptation. It leaves the text tower out, so it can never name a new class; it is here to be
//! compared with.

use crate::adapt::adam::{Adam, Schedule};
use crate::adapt::loss::share_right;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// A linear classifier on L2-normalised features.
#[derive(Debug, Clone)]
pub struct Probe {
    /// `[classes, joint]`.
    weight: Array2<f32>,
    /// `[classes]`.
    bias: Array1<f32>,
}

impl Probe {
    /// Fits cross-entropy plus `penalty / 2 * |weight|^2` by full-batch Adam, from zero: convex, so the start
    /// does not matter. `features [pictures, joint]`.
    pub fn fit(features: ArrayView2<f32>, labels: &[usize], classes: usize, penalty: f32) -> Probe {
        let joint = features.ncols();
        let schedule = Schedule {
            peak: 0.3,
            warmup: 10,
            steps: 400,
        };
        let mut optimizer = Adam::new(classes * joint + classes);
        let mut flat = vec![0.0; classes * joint + classes];
        for step in 0..schedule.steps {
            let probe = Probe::from_flat(&flat, classes, joint);
            let mut errors = probe.scores(features);
            for (mut row, &label) in errors.outer_iter_mut().zip(labels) {
                let highest = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
                row.mapv_inplace(|score| (score - highest).exp());
                let total = row.sum();
                row /= total;
                row[label] -= 1.0;
            }
            errors /= labels.len().max(1) as f32;
            let weight_gradient = errors.t().dot(&features) + &probe.weight * penalty;
            let gradient: Vec<f32> = weight_gradient
                .iter()
                .chain(errors.sum_axis(Axis(0)).iter())
                .copied()
                .collect();
            optimizer.step(&mut flat, &gradient, schedule.rate(step));
        }
        Probe::from_flat(&flat, classes, joint)
    }

    fn from_flat(flat: &[f32], classes: usize, joint: usize) -> Probe {
        let (weight, bias) = flat.split_at(classes * joint);
        Probe {
            weight: Array2::from_shape_fn((classes, joint), |(row, column)| {
                weight[row * joint + column]
            }),
            bias: Array1::from_vec(bias.to_vec()),
        }
    }

    /// `[pictures, classes]`.
    fn scores(&self, features: ArrayView2<f32>) -> Array2<f32> {
        features.dot(&self.weight.t()) + &self.bias
    }

    /// Share of pictures whose best class is the right one.
    pub fn accuracy(&self, features: ArrayView2<f32>, labels: &[usize]) -> f32 {
        share_right(self.scores(features).view(), labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separable_pictures_are_separated() {
        let features = ndarray::arr2(&[
            [1.0, 0.1],
            [0.9, -0.2],
            [-0.1, 1.0],
            [0.2, 0.9],
            [-1.0, -0.9],
            [-0.8, -1.0],
        ]);
        let labels = [0, 0, 1, 1, 2, 2];
        let probe = Probe::fit(features.view(), &labels, 3, 1e-3);
        assert_eq!(probe.accuracy(features.view(), &labels), 1.0);
        assert_eq!(probe.accuracy(features.view(), &[1, 1, 2, 2, 0, 0]), 0.0);
    }
}
