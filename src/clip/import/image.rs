//! The image tower on its way into a bundle: the graph rewritten to what can be written down, and for every weight
//! the axis of its output channels, so that it can be kept in eight bits.

use std::collections::HashMap;
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::cnn::Conv;
use tract_core::ops::einsum::prefix_matmul::PrefixMatMul;

use crate::clip::graph::guard::{GraphError, guarded};
use crate::clip::image_tower::{GraphText, write_graph};

/// Smaller tensors stay floats: they cost nothing, and most of them are not weights.
const SMALLEST_WEIGHT: usize = 512;

/// A graph as text, and its tensors with the axis of their output channels if they are weights.
pub type ImageGraph = (String, Vec<(String, Arc<Tensor>, Option<usize>)>);

/// Writes the decluttered `model` of an image tower as text and tensors.
pub fn image_graph(mut model: TypedModel) -> Result<ImageGraph, GraphError> {
    let (model, axes) = guarded("rewrite the image tower", || {
        tract_nnef::ser::rewrite_model(&mut model)?;
        model.compact()?;
        // Names of exporters hold characters that NNEF has no place for; numbers are shorter, too.
        for (index, node) in model.nodes_mut().iter_mut().enumerate() {
            node.name = format!("n{index}");
        }
        model.outlet_labels.clear();
        let axes = output_channels(&model)?;
        Ok((model, axes))
    })?;
    let GraphText { text, tensors, .. } = write_graph(&model)?;
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let axis = axes.get(&name).copied();
        (name, tensor, axis)
    });
    Ok((text, tensors.collect()))
}

/// For every constant that is the weight of one linear layer or convolution: its axis of output channels, by name.
fn output_channels(model: &TypedModel) -> TractResult<HashMap<String, usize>> {
    let mut axes = HashMap::new();
    for node in model.nodes() {
        for (slot, input) in node.inputs.iter().enumerate() {
            let constant = model.node(input.node);
            let fact = model.outlet_fact(*input)?;
            let Some(tensor) = &fact.konst else { continue };
            if tensor.datum_type() != f32::datum_type() || tensor.len() < SMALLEST_WEIGHT {
                continue;
            }
            let last = tensor.rank().saturating_sub(1);
            let axis = match (node.op_as::<PrefixMatMul>(), slot) {
                (Some(product), 0) => last.checked_sub(usize::from(!product.transpose_a)),
                (Some(product), 1) => last.checked_sub(usize::from(product.transpose_b)),
                _ if node.op_is::<Conv>() && slot == 1 => Some(0),
                _ => None,
            };
            if let Some(axis) = axis {
                axes.insert(constant.name.clone(), axis);
            }
        }
    }
    Ok(axes)
}
