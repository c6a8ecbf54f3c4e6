//! Turns constants of the graph into weights, in eight bits where the bundle has them so. It must not know which operator
//! they are for.

use std::sync::Arc;

use ndarray::ArrayView2;
use tract_core::internal::*;

use super::Graph;
use crate::clip::image_tower::operators::Weight;
use crate::clip::image_tower::stored::Stored;
use crate::ops::matmul::{PackedWeight, QuantisedWeight};

/// The constant at `outlet` as a weight `[out, inner]`; `channels` is its axis of output channels, and `transposed` tells
/// that its numbers lie as `[inner, out]`. All of it is multiplied by `factor`.
pub fn weight(
    graph: Graph,
    outlet: OutletId,
    [out, inner]: [usize; 2],
    channels: usize,
    transposed: bool,
    factor: f32,
) -> TractResult<Option<Weight>> {
    let shape = if transposed {
        (inner, out)
    } else {
        (out, inner)
    };
    if let Some(stored) = graph.operator::<Stored>(outlet)
        && let Some((integers, axis)) = stored.integers()?
        && axis == channels
        && integers.dim() == (out, inner)
    {
        let weight = QuantisedWeight::new(&integers.scaled(factor));
        stored.bundle.release();
        return Ok(Some(Weight::Quantised(weight)));
    }
    let tensor = match graph.operator::<Stored>(outlet) {
        Some(stored) => Arc::new(stored.floats()?),
        None => match graph.tensor(outlet) {
            Some(tensor) => tensor.clone(),
            None => return Ok(None),
        },
    };
    let numbers = tensor.to_plain_array_view::<f32>()?;
    let numbers = numbers.as_slice().context("a constant is contiguous")?;
    let matrix = ArrayView2::from_shape(shape, numbers)?;
    let matrix = if transposed {
        matrix.reversed_axes()
    } else {
        matrix
    };
    let weight = if factor == 1.0 {
        PackedWeight::new(matrix)
    } else {
        PackedWeight::new((&matrix * factor).view())
    };
    Ok(Some(Weight::Float(weight)))
}
