//! Layer normalisation over the columns of each row (Ba et al., arXiv 1607.06450), frozen gain and bias. It
//! must not know what the rows mean.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, s};

use super::Real;
use super::real::{dot, sum};

/// Normalises rows: `y = gain * (x - mean) / sqrt(variance + epsilon) + bias`.
#[derive(Clone, Debug)]
pub struct LayerNorm<T> {
    /// `[width]`
    pub gain: Array1<T>,
    /// `[width]`
    pub bias: Array1<T>,
    /// What keeps a constant row from dividing by zero.
    pub epsilon: T,
}

/// What backward needs: the rows before gain and bias, and `1 / sqrt(variance + epsilon)` of each.
#[derive(Clone, Debug)]
pub struct Normalised<T> {
    rows: Array2<T>,
    inverse_deviation: Vec<T>,
}

impl<T: Real> LayerNorm<T> {
    /// `x [rows, width]` to the same shape.
    pub fn forward(&self, x: ArrayView2<T>) -> (Array2<T>, Normalised<T>) {
        let width = T::of(x.ncols() as f64);
        let mut rows = x.as_standard_layout().into_owned();
        let mut inverse_deviation = Vec::with_capacity(rows.nrows());
        for mut row in rows.rows_mut() {
            let row = row
                .as_slice_mut()
                .expect("rows of the standard layout are contiguous");
            let mean = sum(row) / width;
            row.iter_mut().for_each(|x| *x -= mean);
            let inverse = T::one() / (dot(row, row) / width + self.epsilon).sqrt();
            row.iter_mut().for_each(|x| *x *= inverse);
            inverse_deviation.push(inverse);
        }
        let y = &rows * &self.gain + &self.bias;
        (
            y,
            Normalised {
                rows,
                inverse_deviation,
            },
        )
    }

    /// The gradient of rows `wanted` of `x`, from that of the same rows of `y` (`[wanted, width]`).
    pub fn backward(
        &self,
        saved: &Normalised<T>,
        wanted: Range<usize>,
        dy: ArrayView2<T>,
    ) -> Array2<T> {
        let width = T::of(dy.ncols() as f64);
        let mut dx = &dy * &self.gain;
        let rows = saved.rows.slice(s![wanted.clone(), ..]);
        let inverses = &saved.inverse_deviation[wanted];
        for ((mut d, x), &inverse) in dx.rows_mut().into_iter().zip(rows.rows()).zip(inverses) {
            let d = d.as_slice_mut().expect("a fresh array is contiguous");
            let x = x
                .to_slice()
                .expect("rows of the standard layout are contiguous");
            let (mean, along) = (sum(d) / width, dot(d, x) / width);
            d.iter_mut()
                .zip(x)
                .for_each(|(d, &x)| *d = inverse * (*d - mean - x * along));
        }
        dx
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_product, random};
    use crate::rng::Rng;

    fn layer(rng: &mut Rng, width: usize) -> LayerNorm<f64> {
        let mut vector = || random(rng, (1, width)).row(0).to_owned();
        LayerNorm {
            gain: vector(),
            bias: vector(),
            epsilon: 1e-5,
        }
    }

    #[test]
    fn rows_come_out_with_the_mean_and_deviation_of_bias_and_gain() {
        let mut rng = Rng::new(2);
        let layer = LayerNorm {
            gain: Array1::from_elem(19, 3.0),
            bias: Array1::from_elem(19, -2.0),
            epsilon: 0.0,
        };
        let (y, _) = layer.forward(random(&mut rng, (4, 19)).view());
        for row in y.rows() {
            assert!((row.sum() / 19.0 + 2.0).abs() < 1e-12);
            assert!((row.std(0.0) - 3.0).abs() < 1e-12);
        }
    }

    #[test]
    fn backward_matches_central_differences() {
        let mut rng = Rng::new(3);
        let (x, dy) = (random(&mut rng, (4, 19)), random(&mut rng, (4, 19)));
        let layer = layer(&mut rng, 19);
        let (_, saved) = layer.forward(x.view());
        assert_product(
            |x| layer.forward(x.view()).0,
            &x,
            &dy,
            &layer.backward(&saved, 0..4, dy.view()),
        );
    }

    #[test]
    fn backward_of_some_rows_is_those_rows_of_the_whole() {
        let mut rng = Rng::new(4);
        let (x, dy) = (random(&mut rng, (4, 8)), random(&mut rng, (4, 8)));
        let layer = layer(&mut rng, 8);
        let (_, saved) = layer.forward(x.view());
        let whole = layer.backward(&saved, 0..4, dy.view());
        let part = layer.backward(&saved, 1..3, dy.slice(s![1..3, ..]));
        assert_eq!(part, whole.slice(s![1..3, ..]));
    }
}
