//! Recognises attention, and where in which rows its operands lie. It must not know the layers around it.

use tract_core::internal::*;
use tract_core::ops::array::Gather;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::nn::{Softmax, SoftmaxKind};

use super::graph::volume;
use super::{Found, Graph};
use crate::clip::image_tower::operators::Attention;

/// Softmax of the products of queries and keys, times the values, head by head; its heart is the softmax.
pub fn attention(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    let found = || {
        let softmax = node.op_as::<Softmax>()?;
        let probabilities = OutletId::new(node.id, 0);
        let [heads, rows, others] = *graph.shape(probabilities)? else {
            return None;
        };
        let plain = softmax.axes[..] == [2]
            && softmax.kind == SoftmaxKind::Softmax
            && softmax.quant_output_dt.is_none()
            && rows == others;
        plain.then_some(())?;
        let (mut scores, mut scale) = (node.inputs[0], 1.0);
        while let Some((input, factor)) = graph.scaled(scores) {
            (scores, scale) = (input, scale * factor);
        }
        let (products, [query, key]) = graph.product(scores)?;
        // [heads, rows, head] times the keys, which lie one way or the other.
        let key_order = [("amk,akn->amn", [1, 2, 0]), ("amk,ank->amn", [1, 0, 2])];
        let key_order = key_order
            .into_iter()
            .find(|(axes, _)| same_axes(products, axes))?
            .1;
        let mixed = graph.only_use(probabilities)?;
        let (sums, [left, value]) = graph.product(mixed)?;
        (left == probabilities && same_axes(sums, "amk,akn->amn")).then_some(())?;
        // The heads of a row side by side; what joins them into one axis leaves the numbers where they are.
        let output = graph.only_use(mixed)?;
        let head = *graph.shape(mixed)?.get(2)?;
        let merges = *graph.operator::<AxisOp>(output)? == AxisOp::Move(0, 1)
            && graph.shape(output)? == [rows, heads, head];
        merges.then_some(())?;
        let sizes = [rows, heads, head];
        let mut operands = Vec::new();
        for (outlet, order) in [(query, [1, 0, 2]), (key, key_order), (value, [1, 0, 2])] {
            let operand = operand(graph, outlet, order, sizes)?;
            scale *= operand.2;
            operands.push(operand);
        }
        let mut inputs = tvec!();
        let places = operands.iter().map(|&(input, column, _)| {
            let known = inputs.iter().position(|&at| at == input);
            let place = known.unwrap_or_else(|| {
                inputs.push(input);
                inputs.len() - 1
            });
            (place, column)
        });
        let operands = places.collect::<Vec<_>>().try_into().ok()?;
        Some(Found {
            inputs,
            operator: Box::new(Attention {
                queries: rows,
                rows,
                heads,
                head,
                scale,
                operands,
            }),
            output,
        })
    };
    Ok(found())
}

/// Whether an operator's axes are those of the formula.
fn same_axes(einsum: &EinSum, formula: &str) -> bool {
    let Ok(expected) = formula.parse::<AxesMapping>() else {
        return false;
    };
    let places = |axes: &AxesMapping| {
        let mut places: Vec<_> = axes
            .iter_all_axes()
            .map(|axis| (axis.inputs.clone(), axis.outputs.clone()))
            .collect();
        places.sort();
        places
    };
    places(&einsum.axes) == places(&expected)
}

/// What rows `[rows, heads * head]` an operand of attention is made of: the value that holds them, their first column
/// there, and what they are multiplied by. `order` tells which axes of `[rows, heads, head]` the operand has, in turn.
fn operand(
    graph: Graph,
    outlet: OutletId,
    order: [usize; 3],
    [rows, heads, head]: [usize; 3],
) -> Option<(OutletId, usize, f32)> {
    let expected = match order {
        [1, 0, 2] => AxisOp::Move(0, 1),
        _ => AxisOp::Move(0, 2),
    };
    (*graph.operator::<AxisOp>(outlet)? == expected).then_some(())?;
    let mut at = graph.node(outlet).inputs[0];
    (graph.shape(at)? == [rows, heads, head]).then_some(())?;
    let (width, mut scale) = (heads * head, 1.0);
    loop {
        at = graph.behind(at);
        (volume(graph.shape(at)?) == rows * width).then_some(())?;
        if let Some((input, factor)) = graph.scaled(at) {
            (at, scale) = (input, scale * factor);
        } else if let Some(gather) = graph.operator::<Gather>(at) {
            return piece(graph, at, gather, [rows, width]).map(|(at, column)| (at, column, scale));
        } else {
            // Columns that nothing was cut from.
            (graph.shape(at)?.last() == Some(&width)).then_some(())?;
            return Some((at, 0, scale));
        }
    }
}

/// One of several equal pieces of the columns, as a projection to query, key and value at once is taken apart: columns
/// to pieces, pieces first, one piece. Yields the value with all columns and the first column of the piece.
fn piece(
    graph: Graph,
    outlet: OutletId,
    gather: &Gather,
    [rows, width]: [usize; 2],
) -> Option<(OutletId, usize)> {
    let &[pieces, index] = &graph.node(outlet).inputs[..] else {
        return None;
    };
    let index = graph.tensor(index)?;
    let index = index.cast_to::<i64>().ok()?;
    let index = match index.to_plain_array_view::<i64>().ok()?.as_slice()? {
        &[index] => usize::try_from(index).ok()?,
        _ => return None,
    };
    let &[count, ..] = graph.shape(pieces)? else {
        return None;
    };
    (gather.axis == 0 && index < count && count > 1).then_some(())?;
    let moved = graph.behind(pieces);
    let &AxisOp::Move(from, 0) = graph.operator::<AxisOp>(moved)? else {
        return None;
    };
    let split = graph.node(moved).inputs[0];
    let shape = graph.shape(split)?;
    let fits = from + 2 == shape.len()
        && shape[from] == count
        && shape[from + 1] == width
        && volume(&shape[..from]) == rows;
    let whole = graph.behind(split);
    let columns = graph.shape(whole)?.last() == Some(&(count * width));
    (fits && columns).then_some((whole, index * width))
}
