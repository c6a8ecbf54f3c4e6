//! Recognises convolutions that do not tile the picture: those of a convolutional stem.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec};
use tract_core::ops::nn::DataFormat;

use super::Found;
use super::weight::{ConstantMatrix, Order, weight};
use crate::clip::graph::Graph;
use crate::clip::image_tower::convolution::ConvolutionOp;
use crate::ops::gemm::Weight;

/// Channels that are worth being side by side: pieces of windows are long then. The three of a picture are not.
const ENOUGH: usize = 8;

/// A convolution of one picture in two dimensions, in one group, with zeros around the picture or none.
pub fn convolution(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    rule_if_some!(conv = node.op_as::<Conv>());
    let output = OutletId::new(node.id, 0);
    let (picture, result) = (graph.f32_shape(node.inputs[0]), graph.f32_shape(output));
    rule_if_let!(Some(&[1, channels, height, width]) = picture);
    rule_if_let!(Some(&[1, out, down, across]) = result);
    let pool = &conv.pool_spec;
    rule_if_let!([window_height, window_width] = pool.kernel_shape[..]);
    rule_if_let!([stride_down, stride_across] = pool.strides().as_ref()[..]);
    let before = match &pool.padding {
        PaddingSpec::Valid => tvec!(0, 0),
        PaddingSpec::Explicit(before, _) => before.clone(),
        _ => return Ok(None),
    };
    rule_if_let!([above, left] = before[..]);
    rule_if!(plain(conv));
    let size = [out, channels * window_height * window_width];
    let channels_last = channels >= ENOUGH;
    let order = match channels_last {
        true => Order::Filters(channels),
        false => Order::OutIn,
    };
    rule_if_some!((weight, bias) = kernel(graph, node, (size, order))?);
    Ok(Some(Found {
        inputs: tvec!(node.inputs[0]),
        operator: Box::new(ConvolutionOp {
            weight: Arc::new(weight),
            bias: Arc::new(bias),
            input: [channels, height, width],
            window: [window_height, window_width],
            strides: [stride_down, stride_across],
            before: [above, left],
            grid: [down, across],
            channels_last,
        }),
        output,
        moves: [
            channels_last.then_some(AxisOp::Move(1, 3)),
            Some(AxisOp::Move(3, 1)),
        ],
    }))
}

/// The kernel `[out, in]` of a convolution, as `size` has them and in this order, and its bias `[out]`; none where either is not a constant.
pub fn kernel(
    graph: Graph,
    node: &TypedNode,
    (size, order): ([usize; 2], Order),
) -> TractResult<Option<(Weight, Vec<f32>)>> {
    let [out, _] = size;
    rule_if_some!(bias = node.inputs.get(2).and_then(|&bias| graph.vector(bias)));
    let bias = match bias[..] {
        [same] => vec![same; out],
        _ => bias,
    };
    rule_if!(bias.len() == out);
    let constant = ConstantMatrix {
        outlet: node.inputs[1],
        size,
        channels: 0,
        order,
    };
    rule_if_some!(weight = weight(graph, &constant, 1.0)?);
    Ok(Some((weight, bias)))
}

/// Whether a convolution is in f32, in one group and without gaps inside its windows, with axes in ONNX's order.
pub fn plain(conv: &Conv) -> bool {
    let dilations = conv.pool_spec.dilations.as_ref();
    conv.group == 1
        && conv.q_params.is_none()
        && conv.kernel_fmt == KernelFormat::OIHW
        && conv.pool_spec.data_format == DataFormat::NCHW
        && dilations.is_none_or(|dilations| dilations[..] == [1, 1])
}
