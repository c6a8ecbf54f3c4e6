//! Turns constants of the graph into weights, in eight bits where the bundle has them so.

use std::sync::Arc;

use ndarray::ArrayView2;
use tract_core::internal::*;

use crate::clip::graph::Graph;
use crate::clip::graph::stored::StoredTensor;
use crate::ops::gemm::{Direction, Weight};

/// Which axis of a matrix comes first.
#[derive(Clone, Copy)]
pub enum Order {
    OutIn,
    InOut,
}

/// A constant of the graph that is a matrix, whatever axes of length one it has besides.
pub struct ConstantMatrix {
    pub outlet: OutletId,
    /// `[out, in]`
    pub size: [usize; 2],
    /// The constant's axis of output channels.
    pub channels: usize,
    pub order: Order,
}

/// `constant` as a weight `[out, in]`, multiplied by `factor`.
pub fn weight(graph: Graph, constant: &ConstantMatrix, factor: f32) -> TractResult<Option<Weight>> {
    let &ConstantMatrix {
        outlet,
        size: [out, inner],
        channels,
        order,
    } = constant;
    if let Some(stored) = graph.operator::<StoredTensor>(outlet)
        && let Some((integers, axis)) = stored.integers()?
        && axis == channels
        && integers.dim() == (out, inner)
    {
        let weight = Weight::quantised(&integers.scaled(factor), Direction::Forward);
        stored.bundle.release();
        return Ok(Some(weight));
    }
    let tensor = match graph.operator::<StoredTensor>(outlet) {
        Some(stored) => Arc::new(stored.floats()?),
        None => {
            rule_if_some!(tensor = graph.tensor(outlet));
            tensor.clone()
        }
    };
    let numbers = tensor.to_plain_array_view::<f32>()?;
    let numbers = numbers.as_slice().context("a constant is contiguous")?;
    let matrix = match order {
        Order::OutIn => ArrayView2::from_shape((out, inner), numbers)?,
        Order::InOut => ArrayView2::from_shape((inner, out), numbers)?.reversed_axes(),
    };
    let weight = if factor == 1.0 {
        Weight::new(matrix)
    } else {
        Weight::new((&matrix * factor).view())
    };
    Ok(Some(weight))
}
