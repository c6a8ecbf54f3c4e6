//! Recognises products with a constant matrix, together with what follows them.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::math::Add;

use super::Found;
use super::weight::{ConstantMatrix, Order, weight};
use crate::clip::graph::{Graph, activation_from, volume};
use crate::clip::image_tower::operators::LinearOp;
use crate::ops::Activation;

/// A product with a constant matrix, and what follows it as far as one pass can do it: bias, a factor, activation,
/// residual.
pub fn linear(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    rule_if_some!((input, constant) = matrix_product(graph, node));
    let [out, _] = constant.size;
    let mut layer = Layer {
        graph,
        out,
        bias: None,
        factor: 1.0,
        activation: None,
        residual: None,
        output: OutletId::new(node.id, 0),
    };
    while layer.take_next()? {}
    rule_if_some!(shape = graph.f32_shape(layer.output));
    rule_if!(shape.last() == Some(&out));
    rule_if_some!(weight = weight(graph, &constant, layer.factor)?);
    let factor = layer.factor;
    let bias = layer.bias;
    let bias = bias.map(|bias| bias.into_iter().map(|b| b * factor).collect());
    let inputs = [Some(graph.behind_views(input)), layer.residual];
    Ok(Some(Found {
        inputs: inputs.into_iter().flatten().collect(),
        operator: Box::new(LinearOp {
            weight: Arc::new(weight),
            bias: bias.map(Arc::new),
            activation: layer.activation,
            residual: layer.residual.is_some(),
            shape: shape.into(),
        }),
        output: layer.output,
        moves: [None, None],
    }))
}

/// `activation((x Wᵀ + bias) * factor) + residual`, as far as it is known.
struct Layer<'a> {
    graph: Graph<'a>,
    out: usize,
    bias: Option<Vec<f32>>,
    factor: f32,
    activation: Option<Activation>,
    residual: Option<OutletId>,
    output: OutletId,
}

impl Layer<'_> {
    /// Takes in what is made of the output, if one pass can do it too.
    fn take_next(&mut self) -> TractResult<bool> {
        let graph = self.graph;
        let is_linear = self.activation.is_none() && self.residual.is_none();
        if is_linear && let Some((activation, end)) = activation_from(graph, self.output)? {
            (self.activation, self.output) = (Some(activation), end);
            return Ok(true);
        }
        let Some(next) = graph.only_use(self.output) else {
            return Ok(false);
        };
        let shape = graph.f32_shape(next);
        let is_view = graph.keeps_order(next) && shape.and_then(<[_]>::last) == Some(&self.out);
        if is_view {
        } else if is_linear && let Some(bias) = self.bias(next) {
            self.bias = Some(bias);
        } else if is_linear && let Some((_, factor)) = graph.scaled(next) {
            self.factor *= factor;
        } else if self.residual.is_none()
            && let Some(residual) = self.residual(next)
        {
            self.residual = Some(residual);
        } else {
            return Ok(false);
        }
        self.output = next;
        Ok(true)
    }

    /// What `next` adds to every row, if it is the first that does and no factor came before it.
    fn bias(&self, next: OutletId) -> Option<Vec<f32>> {
        let graph = self.graph;
        let (_, addend) = graph.with_constant::<Add>(next)?;
        let numbers = graph.last_axis(addend)?;
        let size = |outlet| graph.f32_shape(outlet).map(volume);
        let fits = self.bias.is_none()
            && self.factor == 1.0
            && numbers.len() == self.out
            && size(next) == size(self.output);
        fits.then_some(numbers)
    }

    /// The other value that `next` adds, number by number.
    fn residual(&self, next: OutletId) -> Option<OutletId> {
        let graph = self.graph;
        let [a, b] = graph.binary::<Add>(next)?;
        let other = if a == self.output { b } else { a };
        let shape = graph.f32_shape(self.output);
        let fits = other != self.output
            && !graph.is_constant(other)
            && graph.f32_shape(other) == shape
            && graph.f32_shape(next) == shape;
        fits.then_some(other)
    }
}

/// A product with a constant matrix over the last axis: the variable operand, and the matrix.
fn matrix_product(graph: Graph, node: &TypedNode) -> Option<(OutletId, ConstantMatrix)> {
    let (einsum, inputs) = graph.product(OutletId::new(node.id, 0))?;
    let constant = usize::from(!graph.is_constant(inputs[0]));
    let (weight, input) = (inputs[constant], inputs[1 - constant]);
    (graph.is_constant(weight) && !graph.is_constant(input)).then_some(())?;
    let (weights, rows) = (graph.f32_shape(weight)?, graph.f32_shape(input)?);
    let results = graph.f32_shape(OutletId::new(node.id, 0))?;
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
    let order = if produced > contracted {
        Order::InOut
    } else {
        Order::OutIn
    };
    let matrix = ConstantMatrix {
        outlet: weight,
        size,
        channels: produced,
        order,
    };
    fits.then_some((input, matrix))
}
