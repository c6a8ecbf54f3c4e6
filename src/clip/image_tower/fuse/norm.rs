//! Recognises layer norm. It must not know what stands around it.

use std::sync::Arc;

use ndarray::Array1;
use tract_core::internal::*;
use tract_core::ops::math::{Add, Mul, Sub};
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm};

use super::{Found, Graph};
use crate::clip::image_tower::operators::Norm;
use crate::ops::LayerNorm;

/// `gain * (x - mean) / deviation + bias` over the last axis; its heart is the division. A gain of one and a bias of zero
/// are not in the graph.
pub fn norm(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    let found = || {
        let rms = node.op_as::<RmsNorm>()?;
        let [x, mean] = graph.binary::<Sub>(node.inputs[0])?;
        let (sum, share) = graph.scaled(mean)?;
        let reduce = graph.operator::<Reduce>(sum)?;
        let shape = graph.shape(x)?;
        let (last, &width) = (shape.len().checked_sub(1)?, shape.last()?);
        let fits = reduce.reducer == Reducer::Sum
            && reduce.axes[..] == [last]
            && rms.axis == last
            && graph.node(sum).inputs[..] == [x]
            && (share * width as f32 - 1.0).abs() < 1e-5;
        fits.then_some(())?;
        let mut norm = LayerNorm {
            gain: Array1::ones(width),
            bias: Array1::zeros(width),
            epsilon: rms.eps.cast_to_scalar::<f32>().ok()?,
        };
        let mut output = OutletId::new(node.id, 0);
        let along = |next, constant| {
            let numbers = graph.last_axis(constant)?;
            let fits = numbers.len() == width && graph.shape(next)? == shape;
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
        Some(Found {
            inputs: tvec!(x),
            operator: Box::new(Norm(Arc::new(norm))),
            output,
        })
    };
    Ok(found())
}
