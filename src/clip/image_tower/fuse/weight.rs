//! Turns constants of the graph into weights, in eight bits where the bundle has them so.

use std::sync::Arc;

use ndarray::{ArrayView2, ArrayView3};
use tract_core::internal::*;

use crate::clip::graph::Graph;
use crate::clip::graph::stored::StoredTensor;
use crate::ops::gemm::{Direction, Weight};
use crate::ops::matrix::StoredIntegers;

/// Which axis of a matrix comes first.
#[derive(Clone, Copy)]
pub enum Order {
    OutIn,
    InOut,
    /// As `OutIn`, with the numbers of a filter channel by channel, of so many, and in the weight pixel by pixel.
    Filters(usize),
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
        let integers = match order {
            Order::Filters(channels) => pixel_by_pixel(&integers, channels),
            _ => integers,
        };
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
    let filters;
    let matrix = match order {
        Order::OutIn => ArrayView2::from_shape((out, inner), numbers)?,
        Order::Filters(channels) => {
            let pixels = inner / channels.max(1);
            let by_channel = ArrayView3::from_shape((out, channels, pixels), numbers)?;
            let by_pixel = by_channel.permuted_axes([0, 2, 1]);
            let by_pixel = by_pixel.as_standard_layout().into_owned();
            filters = by_pixel.into_shape_with_order((out, inner))?;
            filters.view()
        }
        Order::InOut => ArrayView2::from_shape((inner, out), numbers)?.reversed_axes(),
    };
    let weight = if factor == 1.0 {
        Weight::new(matrix)
    } else {
        Weight::new((&matrix * factor).view())
    };
    Ok(Some(weight))
}

/// A copy of filters whose numbers are stored channel by channel, with those of a pixel side by side. A line is an input, for
/// which kernels bring weights into their order once.
fn pixel_by_pixel(filters: &StoredIntegers, channels: usize) -> StoredIntegers {
    let bytes = filters.with(|filters| {
        let (out, inner) = filters.values.dim();
        let pixels = inner / channels.max(1);
        let mut bytes = vec![0; out * inner];
        for (at, filter) in filters.values.rows().into_iter().enumerate() {
            for (from, &value) in filter.iter().enumerate() {
                let (channel, pixel) = (from / pixels, from % pixels);
                bytes[(pixel * channels + channel) * out + at] = value as u8;
            }
        }
        bytes
    });
    let (all, inner) = (0..bytes.len(), filters.dim().1);
    StoredIntegers::transposed(Arc::new(bytes), all, inner, filters.scales().clone())
}
