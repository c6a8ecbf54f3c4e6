//! Recognises layer norm.

use std::sync::Arc;

use ndarray::Array1;
use tract_core::internal::*;
use tract_core::ops::math::{Add, Mul, Sub};
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm};

use super::Found;
use crate::clip::graph::Graph;
use crate::clip::image_tower::operators::NormOp;
use crate::ops::LayerNorm;

/// `gain * (x - mean) / deviation + bias` over the last axis; its heart is the division. A gain of one and a bias of zero
/// are not in the graph.
pub fn norm(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    rule_if_some!(rms = node.op_as::<RmsNorm>());
    rule_if_some!([x, mean] = graph.binary::<Sub>(node.inputs[0]));
    rule_if_some!((sum, inverse_width) = graph.scaled(mean));
    rule_if_some!(reduce = graph.operator::<Reduce>(sum));
    rule_if_some!(shape = graph.f32_shape(x));
    rule_if_let!([.., width] = *shape);
    let last = shape.len() - 1;
    rule_if!(reduce.reducer == Reducer::Sum && reduce.axes[..] == [last] && rms.axis == last);
    rule_if!(graph.node(sum).inputs[..] == [x]);
    rule_if!((inverse_width * width as f32 - 1.0).abs() < 1e-5);
    rule_if_let!(Ok(epsilon) = rms.eps.cast_to_scalar::<f32>());
    let mut norm = LayerNorm {
        gain: Array1::ones(width),
        bias: Array1::zeros(width),
        epsilon,
    };
    let mut output = OutletId::new(node.id, 0);
    let along = |next, constant| {
        let numbers = graph.last_axis(constant)?;
        let fits = numbers.len() == width && graph.f32_shape(next)? == shape;
        fits.then(|| Array1::from(numbers))
    };
    if let Some(next) = graph.only_use(output)
        && let Some((_, constant)) = graph.with_constant::<Mul>(next)
        && let Some(gain) = along(next, constant)
    {
        (norm.gain, output) = (gain, next);
    }
    if let Some(next) = graph.only_use(output)
        && let Some((_, constant)) = graph.with_constant::<Add>(next)
        && let Some(bias) = along(next, constant)
    {
        (norm.bias, output) = (bias, next);
    }
    Ok(Some(Found {
        inputs: tvec!(x),
        operator: Box::new(NormOp(Arc::new(norm))),
        output,
        moves: [None, None],
    }))
}
