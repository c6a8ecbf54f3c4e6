//! Recognises the convolution that cuts a picture into patches.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, PaddingSpec};

use super::Found;
use super::convolution::{kernel, plain};
use super::weight::Order;
use crate::clip::graph::Graph;
use crate::clip::image_tower::operators::{LinearOp, PatchesOp};

/// A convolution whose windows tile the picture, then its windows as rows; ends where the channels become the last axis.
pub fn patches(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    rule_if_some!(conv = node.op_as::<Conv>());
    let convolved = OutletId::new(node.id, 0);
    let (picture, result) = (graph.f32_shape(node.inputs[0]), graph.f32_shape(convolved));
    rule_if_let!(Some(&[_, channels, height, width]) = picture);
    rule_if_let!(Some(&[1, out, down, across]) = result);
    rule_if_let!([window_height, window_width] = conv.pool_spec.kernel_shape[..]);
    rule_if!(tiles(conv));
    rule_if!([down * window_height, across * window_width] == [height, width]);

    rule_if_some!(rows = graph.only_use(convolved));
    let flattened = [1, out, down * across];
    rule_if!(graph.keeps_order(rows) && graph.f32_shape(rows) == Some(&flattened[..]));
    rule_if_some!(output = graph.only_use(rows));
    rule_if!(graph.operator(output) == Some(&AxisOp::Move(1, 2)));

    let size = [out, channels * window_height * window_width];
    rule_if_some!((weight, bias) = kernel(graph, node, (size, Order::OutIn))?);
    Ok(Some(Found {
        inputs: tvec!(node.inputs[0]),
        operator: Box::new(PatchesOp {
            linear: LinearOp {
                weight: Arc::new(weight),
                bias: Some(Arc::new(bias)),
                activation: None,
                residual: false,
                shape: tvec!(1, down * across, out),
            },
            channels,
            grid: [down, across],
            window: [window_height, window_width],
        }),
        output,
        moves: [None, None],
    }))
}

/// Whether the windows of a convolution lie side by side, without gaps, overlaps or padding.
fn tiles(conv: &Conv) -> bool {
    let pool = &conv.pool_spec;
    let unpadded = match &pool.padding {
        PaddingSpec::Valid => true,
        PaddingSpec::Explicit(before, after) => before.iter().chain(after).all(|&n| n == 0),
        _ => false,
    };
    unpadded && plain(conv) && pool.strides.as_ref() == Some(&pool.kernel_shape)
}
