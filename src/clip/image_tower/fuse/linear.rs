//! Recognises products with a constant matrix, together with what follows them. It must not know what they are for.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::math::Add;

use super::activation::activation_of;
use super::graph::volume;
use super::weight::weight;
use super::{Found, Graph};
use crate::clip::image_tower::operators::Linear;

/// A product with a constant matrix, and what follows it as far as one pass can do it: bias, a factor, activation,
/// residual.
pub fn linear(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    let Some(product) = matrix_product(graph, node) else {
        return Ok(None);
    };
    let out = product.size[0];
    let (mut bias, mut factor) = (None::<Vec<f32>>, 1.0);
    let (mut activation, mut residual) = (None, None);
    let mut output = OutletId::new(node.id, 0);
    loop {
        let made = {
            if activation.is_none() && residual.is_none() {
                activation = activation_of(graph, output)?;
            }
            match activation {
                Some((_, end)) if residual.is_none() && end.node > output.node => Some(end),
                _ => graph.only_use(output),
            }
        };
        let Some(next) = made else { break };
        let finished = activation.is_some() || residual.is_some();
        let rearranged =
            graph.keeps_order(next) && graph.shape(next).and_then(<[_]>::last) == Some(&out);
        if rearranged || activation.is_some_and(|(_, end)| end == next) {
            output = next;
        } else if let Some((_, addend)) = graph.with_constant::<Add>(next)
            && let Some(numbers) = graph.last_axis(addend)
            && !finished
            && bias.is_none()
            && factor == 1.0
            && numbers.len() == out
            && graph.shape(next).map(volume) == graph.shape(output).map(volume)
        {
            bias = Some(numbers);
            output = next;
        } else if let Some((_, by)) = graph.scaled(next).filter(|_| !finished) {
            factor *= by;
            output = next;
        } else if let Some([a, b]) = graph.binary::<Add>(next).filter(|_| residual.is_none())
            && let other = if a == output { b } else { a }
            && other != output
            && !graph.is_constant(other)
            && graph.shape(other) == graph.shape(output)
            && graph.shape(next) == graph.shape(output)
        {
            residual = Some(other);
            output = next;
        } else {
            break;
        }
    }
    let Some(shape) = graph
        .shape(output)
        .filter(|shape| shape.last() == Some(&out))
    else {
        return Ok(None);
    };
    let weight = weight(
        graph,
        product.weight,
        product.size,
        product.channels,
        product.transposed,
        factor,
    )?;
    let Some(weight) = weight else {
        return Ok(None);
    };
    let inputs = [Some(graph.behind(product.input)), residual];
    Ok(Some(Found {
        inputs: inputs.into_iter().flatten().collect(),
        operator: Box::new(Linear {
            weight: Arc::new(weight),
            bias: bias.map(|bias| Arc::new(bias.into_iter().map(|b| b * factor).collect())),
            activation: activation.map(|(activation, _)| activation),
            residual: residual.is_some(),
            shape: shape.into(),
        }),
        output,
    }))
}

/// A product with a constant matrix over the last axis.
struct Product {
    input: OutletId,
    weight: OutletId,
    /// `[out, in]`
    size: [usize; 2],
    /// The weight's axis of output channels.
    channels: usize,
    /// Whether that comes after the weight's other axis.
    transposed: bool,
}

fn matrix_product(graph: Graph, node: &TypedNode) -> Option<Product> {
    let (einsum, inputs) = graph.product(OutletId::new(node.id, 0))?;
    let constant = usize::from(!graph.is_constant(inputs[0]));
    let (weight, input) = (inputs[constant], inputs[1 - constant]);
    (graph.is_constant(weight) && !graph.is_constant(input)).then_some(())?;
    let (weights, rows) = (graph.shape(weight)?, graph.shape(input)?);
    let results = graph.shape(OutletId::new(node.id, 0))?;
    let (mut contracted, mut produced, mut long) = (None, None, 0);
    for axis in einsum.axes.iter_all_axes() {
        let place = |places: &TVec<usize>| match places[..] {
            [] => Some(None),
            [place] => Some(Some(place)),
            _ => None,
        };
        let (own, theirs, result) = (
            place(&axis.inputs[constant])?,
            place(&axis.inputs[1 - constant])?,
            place(&axis.outputs[0])?,
        );
        match (own, theirs, result) {
            (Some(own), Some(theirs), None) if contracted.is_none() => {
                contracted = Some(own).filter(|_| theirs + 1 == rows.len());
            }
            (Some(own), None, Some(result)) if produced.is_none() => {
                produced = Some(own).filter(|_| result + 1 == results.len());
            }
            // What the weight shares with the rows must be of length one, or it is many products.
            (Some(own), Some(_), Some(_)) if weights.get(own) == Some(&1) => {}
            (None, Some(theirs), Some(_)) => {
                // With a single axis of rows there is no order of rows to get wrong.
                long += usize::from(rows.get(theirs) != Some(&1));
            }
            _ => return None,
        }
    }
    let (contracted, produced) = (contracted?, produced?);
    let size = [*weights.get(produced)?, *weights.get(contracted)?];
    let fits = long <= 1
        && volume(weights) == size[0] * size[1]
        && volume(rows) / size[1].max(1) == volume(results) / size[0].max(1);
    fits.then_some(Product {
        input,
        weight,
        size,
        channels: produced,
        transposed: produced > contracted,
    })
}
