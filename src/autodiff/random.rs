//! Random towers for tests and benchmarks: shapes like CLIP's, activations of a realistic size.

use std::sync::Arc;

use ndarray::{Array1, Array2, Axis};

use super::{
    BlockWeights, LinearWeights, NormWeights, PoolingHeadWeights, RowPooling, TransformerWeights,
};
use crate::ops::matrix::StoredIntegers;
use crate::ops::{Activation, Matrix};
use crate::rng::Rng;

/// The sizes of a text transformer.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of a token row.
    pub width: usize,
    /// Of a feature.
    pub joint: usize,
    /// How many blocks.
    pub blocks: usize,
    /// Divides the width.
    pub heads: usize,
}

/// Weights drawn from `rng`, with an MLP four times as wide as a row.
pub fn weights(rng: &mut Rng, sizes: Sizes, activation: Activation) -> TransformerWeights {
    let Sizes {
        width,
        joint,
        blocks,
        heads,
    } = sizes;
    let block = |rng: &mut Rng| BlockWeights {
        norm1: norm(rng, width),
        query: linear(rng, width, width),
        key: linear(rng, width, width),
        value: linear(rng, width, width),
        out: linear(rng, width, width),
        norm2: norm(rng, width),
        up: linear(rng, 4 * width, width),
        down: linear(rng, width, 4 * width),
    };
    TransformerWeights {
        blocks: (0..blocks).map(|_| block(rng)).collect(),
        final_norm: norm(rng, width),
        projection: matrix(rng, joint, width, (width as f32).powf(-0.5)).into(),
        projection_bias: Array1::zeros(joint),
        heads,
        activation,
        pooling: RowPooling::One,
    }
}

/// A head that pools rows of `width` numbers by attention, with an MLP four times as wide.
pub fn pooling_head(rng: &mut Rng, width: usize, heads: usize) -> PoolingHeadWeights {
    PoolingHeadWeights {
        scores: matrix(rng, heads, width, 2.0 * (width as f32).powf(-0.5)),
        value: linear(rng, width, width),
        out: linear(rng, width, width),
        norm: norm(rng, width),
        up: linear(rng, 4 * width, width),
        down: linear(rng, width, 4 * width),
    }
}

/// Normal numbers times `scale`, `[rows, columns]`.
pub fn matrix(rng: &mut Rng, rows: usize, columns: usize, scale: f32) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || scale * rng.normal())
}

fn linear(rng: &mut Rng, out: usize, inner: usize) -> LinearWeights {
    LinearWeights {
        weight: matrix(rng, out, inner, (inner as f32).powf(-0.5)).into(),
        bias: Array1::from_shape_simple_fn(out, || 0.1 * rng.normal()),
    }
}

fn norm(rng: &mut Rng, width: usize) -> NormWeights {
    NormWeights {
        gain: Array1::from_shape_simple_fn(width, || 1.0 + 0.1 * rng.normal()),
        bias: Array1::from_shape_simple_fn(width, || 0.1 * rng.normal()),
        epsilon: 1e-5,
    }
}

/// The same weights in eight bits, a scale for each output channel, as a quantised bundle has them.
pub fn quantised(mut weights: TransformerWeights) -> TransformerWeights {
    for block in &mut weights.blocks {
        let BlockWeights {
            query,
            key,
            value,
            out,
            up,
            down,
            ..
        } = block;
        for linear in [query, key, value, out, up, down] {
            linear.weight = integers(&linear.weight);
        }
    }
    weights.projection = integers(&weights.projection);
    weights
}

fn integers(matrix: &Matrix) -> Matrix {
    let floats = matrix.floats();
    let scales = floats.map_axis(Axis(1), |row| {
        row.fold(0f32, |most, x| most.max(x.abs())) / 127.0
    });
    let values: Vec<u8> = floats
        .rows()
        .into_iter()
        .zip(&scales)
        .flat_map(|(row, &scale)| row.mapv(|x| (x / scale).round() as i8 as u8))
        .collect();
    let all = 0..values.len();
    Matrix::Integers(StoredIntegers::new(
        Arc::new(values),
        all,
        floats.ncols(),
        scales,
    ))
}
