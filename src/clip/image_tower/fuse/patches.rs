//! Recognises the convolution that cuts a picture into patches. It must not know what becomes of them.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec};
use tract_core::ops::nn::DataFormat;

use super::weight::weight;
use super::{Found, Graph};
use crate::clip::image_tower::operators::{Linear, Patches};

/// A convolution whose windows tile the picture, then its windows as rows; ends where the channels become the last axis.
pub fn patches(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    let recognised = || {
        let conv = node.op_as::<Conv>()?;
        let pool = &conv.pool_spec;
        let convolved = OutletId::new(node.id, 0);
        let [_, channels, height, width] = *graph.shape(node.inputs[0])? else {
            return None;
        };
        let [1, out, down, across] = *graph.shape(convolved)? else {
            return None;
        };
        let &[window_height, window_width] = &pool.kernel_shape[..] else {
            return None;
        };
        let unpadded = match &pool.padding {
            PaddingSpec::Valid => true,
            PaddingSpec::Explicit(before, after) => before.iter().chain(after).all(|&n| n == 0),
            _ => false,
        };
        let one = |all: &Option<TVec<usize>>| all.as_ref().is_none_or(|all| all[..] == [1, 1]);
        let tiles = unpadded
            && conv.group == 1
            && conv.q_params.is_none()
            && conv.kernel_fmt == KernelFormat::OIHW
            && pool.data_format == DataFormat::NCHW
            && one(&pool.dilations)
            && pool.strides.as_ref() == Some(&pool.kernel_shape)
            && [down * window_height, across * window_width] == [height, width];
        tiles.then_some(())?;
        let rows = graph.only_use(convolved)?;
        let flattened = graph.keeps_order(rows) && graph.shape(rows)? == [1, out, down * across];
        let output = graph.only_use(rows).filter(|_| flattened)?;
        (*graph.operator::<AxisOp>(output)? == AxisOp::Move(1, 2)).then_some(())?;
        let bias = match &graph.vector(*node.inputs.get(2)?)?[..] {
            &[same] => vec![same; out],
            bias if bias.len() == out => bias.to_vec(),
            _ => return None,
        };
        let inner = channels * window_height * window_width;
        let patches = move |weight| Patches {
            linear: Linear {
                weight: Arc::new(weight),
                bias: Some(Arc::new(bias)),
                activation: None,
                residual: false,
                shape: tvec!(1, down * across, out),
            },
            channels,
            grid: [down, across],
            window: [window_height, window_width],
        };
        Some((output, [out, inner], patches))
    };
    let Some((output, [out, inner], patches)) = recognised() else {
        return Ok(None);
    };
    let weight = weight(graph, node.inputs[1], [out, inner], 0, false, 1.0)?;
    Ok(weight.map(|weight| Found {
        inputs: tvec!(node.inputs[0]),
        operator: Box::new(patches(weight)),
        output,
    }))
}
