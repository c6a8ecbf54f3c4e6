//! Layer normalisation over the columns of each row (Ba et al., arXiv 1607.06450), frozen gain and bias.

use std::mem::MaybeUninit;
use std::ops::Range;

use multiversion::multiversion;
use ndarray::{Array1, Array2, ArrayView2, s};
use rayon::prelude::*;

use super::Real;
use super::pool::SHARED;
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
        let x = x.as_standard_layout();
        let (mut rows, mut y) = (Array2::uninit(x.dim()), Array2::uninit(x.dim()));
        let mut inverse_deviation = vec![T::zero(); x.nrows()];
        let width = x.ncols().max(1);
        let contiguous = "the standard layout is contiguous";
        let numbers = x.as_slice().expect(contiguous).chunks_exact(width);
        let kept = rows.as_slice_mut().expect(contiguous);
        let written = y.as_slice_mut().expect(contiguous);
        let places = kept
            .chunks_exact_mut(width)
            .zip(written.chunks_exact_mut(width));
        for ((x, (row, y)), inverse) in numbers.zip(places).zip(&mut inverse_deviation) {
            *inverse = normalise(x, row, y, [self.gain(), self.bias()], self.epsilon);
        }
        // SAFETY: each row of both was written.
        let (rows, y) = unsafe { (rows.assume_init(), y.assume_init()) };
        (
            y,
            Normalised {
                rows,
                inverse_deviation,
            },
        )
    }

    /// Adds to `dx [wanted, width]` the gradient of rows `wanted` of `x`, from that of the same rows of `y`
    /// (`[wanted, width]`).
    pub fn backward_onto(
        &self,
        saved: &Normalised<T>,
        wanted: Range<usize>,
        dy: ArrayView2<T>,
        dx: &mut Array2<T>,
    ) {
        let rows = saved.rows.slice(s![wanted.clone(), ..]);
        let inverses = &saved.inverse_deviation[wanted];
        let dy = dy.as_standard_layout();
        let pairs = dx.rows_mut().into_iter().zip(dy.rows());
        let mut d = Vec::new();
        for (((mut dx, dy), x), &inverse) in pairs.zip(rows.rows()).zip(inverses) {
            d.clear();
            let contiguous = "rows of the standard layout are contiguous";
            d.extend_from_slice(dy.to_slice().expect(contiguous));
            add_gradient(
                dx.as_slice_mut()
                    .expect("rows of a gradient are contiguous"),
                &mut d,
                x.to_slice()
                    .expect("rows of the standard layout are contiguous"),
                self.gain(),
                inverse,
            );
        }
    }

    fn gain(&self) -> &[T] {
        self.gain
            .as_slice()
            .expect("a vector of a file is contiguous")
    }

    fn bias(&self) -> &[T] {
        self.bias
            .as_slice()
            .expect("a vector of a file is contiguous")
    }
}

/// Writes `x` with mean zero and variance one to `row`, and that with gain and bias to `y`; returns what it was divided by,
/// inverted.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn normalise<T: Real>(
    x: &[T],
    row: &mut [MaybeUninit<T>],
    y: &mut [MaybeUninit<T>],
    [gain, bias]: [&[T]; 2],
    epsilon: T,
) -> T {
    assert!([row.len(), y.len(), gain.len(), bias.len()] == [x.len(); 4]);
    let width = T::of(x.len() as f64);
    let mean = sum(x) / width;
    for (row, &x) in row.iter_mut().zip(x) {
        row.write(x - mean);
    }
    // SAFETY: all of it was just written.
    let row = unsafe { row.assume_init_mut() };
    let inverse = T::one() / (dot(row, row) / width + epsilon).sqrt();
    for (((x, y), &gain), &bias) in row.iter_mut().zip(y).zip(gain).zip(bias) {
        *x *= inverse;
        y.write(*x * gain + bias);
    }
    inverse
}

/// Adds to `dx` the gradient before normalising to `x`; `d` is that of `y`, and is used up.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn add_gradient<T: Real>(dx: &mut [T], d: &mut [T], x: &[T], gain: &[T], inverse: T) {
    let width = T::of(d.len() as f64);
    d.iter_mut().zip(gain).for_each(|(d, &gain)| *d *= gain);
    let (mean, along) = (sum(d) / width, dot(d, x) / width);
    for ((dx, &d), &x) in dx.iter_mut().zip(&*d).zip(x) {
        *dx += inverse * (d - mean - x * along);
    }
}

impl LayerNorm<f32> {
    /// [`LayerNorm::forward`] from `x` to `y`, row by row, keeping nothing for the backward pass; writes every number of `y`.
    /// Panics if the two differ in length, or are not of whole rows.
    pub fn apply(&self, x: &[f32], y: &mut [MaybeUninit<f32>]) {
        assert_eq!(x.len(), y.len(), "a layer norm of another size");
        let (gain, bias) = (self.gain.as_slice(), self.bias.as_slice());
        let (Some(gain), Some(bias)) = (gain, bias) else {
            unreachable!("owned vectors are contiguous")
        };
        let width = gain.len().max(1);
        assert!(x.len().is_multiple_of(width), "a layer norm of broken rows");
        let row = |(x, y): (&[f32], &mut [MaybeUninit<f32>])| {
            apply_row(x, gain, bias, self.epsilon, y);
        };
        let threads = rayon::current_num_threads();
        if threads > 1 && x.len() >= SHARED {
            let pairs = x.par_chunks_exact(width).zip(y.par_chunks_exact_mut(width));
            let least = (x.len() / width).div_ceil(threads);
            pairs.with_min_len(least).for_each(row);
        } else {
            let pairs = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
            pairs.for_each(row);
        }
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn apply_row(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, y: &mut [MaybeUninit<f32>]) {
    assert_eq!(x.len(), y.len());
    let width = x.len() as f32;
    let mean = sum(x) / width;
    for (y, x) in y.iter_mut().zip(x) {
        y.write(x - mean);
    }
    // SAFETY: all of it was just written.
    let y = unsafe { y.assume_init_mut() };
    let inverse = 1.0 / (dot(y, y) / width + epsilon).sqrt();
    for ((y, gain), bias) in y.iter_mut().zip(gain).zip(bias) {
        *y = *y * inverse * gain + bias;
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
    fn applying_is_the_forward_that_keeps_nothing() {
        let mut rng = Rng::new(5);
        let layer = layer(&mut rng, 37);
        let layer = LayerNorm {
            gain: layer.gain.mapv(|x| x as f32),
            bias: layer.bias.mapv(|x| x as f32),
            epsilon: 1e-5,
        };
        let x = random(&mut rng, (3, 37)).mapv(|x| x as f32);
        let mut y = Array2::uninit((3, 37));
        layer.apply(x.as_slice().unwrap(), y.as_slice_mut().unwrap());
        // SAFETY: `apply` wrote every number.
        let y = unsafe { y.assume_init() };
        let (expected, _) = layer.forward(x.view());
        assert!((expected - y).iter().all(|error| error.abs() < 1e-5));
    }

    #[test]
    fn backward_matches_central_differences() {
        let mut rng = Rng::new(3);
        let (x, dy) = (random(&mut rng, (4, 19)), random(&mut rng, (4, 19)));
        let layer = layer(&mut rng, 19);
        let (_, saved) = layer.forward(x.view());
        let mut dx = Array2::zeros((4, 19));
        layer.backward_onto(&saved, 0..4, dy.view(), &mut dx);
        assert_product(|x| layer.forward(x.view()).0, &x, &dy, &dx);
    }

    #[test]
    fn backward_of_some_rows_is_those_rows_of_the_whole() {
        let mut rng = Rng::new(4);
        let (x, dy) = (random(&mut rng, (4, 8)), random(&mut rng, (4, 8)));
        let layer = layer(&mut rng, 8);
        let (_, saved) = layer.forward(x.view());
        let (mut whole, mut part) = (Array2::zeros((4, 8)), Array2::ones((2, 8)));
        layer.backward_onto(&saved, 0..4, dy.view(), &mut whole);
        layer.backward_onto(&saved, 1..3, dy.slice(s![1..3, ..]), &mut part);
        let added = whole.slice(s![1..3, ..]).mapv(|x| 1.0 + x);
        assert!((part - added).iter().all(|error| error.abs() < 1e-12));
    }
}
