//! Recognises attention, and where in which rows its operands lie.

use tract_core::internal::*;
use tract_core::ops::array::Gather;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::nn::{Softmax, SoftmaxKind};

use super::Found;
use crate::clip::graph::{Graph, volume};
use crate::clip::image_tower::operators::AttentionOp;

/// Softmax of the products of queries and keys, times the values, head by head; its heart is the softmax.
pub fn attention(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    rule_if_some!(softmax = node.op_as::<Softmax>());
    let probabilities = OutletId::new(node.id, 0);
    rule_if_let!(Some(&[heads, rows, others]) = graph.f32_shape(probabilities));
    rule_if!(rows == others && softmax.axes[..] == [2] && softmax.quant_output_dt.is_none());
    rule_if!(softmax.kind == SoftmaxKind::Softmax);
    let (mut scores, mut scale) = (node.inputs[0], 1.0);
    while let Some((input, factor)) = graph.scaled(scores) {
        (scores, scale) = (input, scale * factor);
    }
    rule_if_some!((products, [query, key]) = graph.product(scores));
    // [heads, rows, head] times the keys, which lie one way or the other.
    let key_orders = [("amk,akn->amn", [1, 2, 0]), ("amk,ank->amn", [1, 0, 2])];
    let mut key_orders = key_orders.into_iter();
    rule_if_some!((_, key_order) = key_orders.find(|(axes, _)| same_axes(products, axes)));
    rule_if_some!(mixed = graph.only_use(probabilities));
    rule_if_some!((sums, [left, value]) = graph.product(mixed));
    rule_if!(left == probabilities && same_axes(sums, "amk,akn->amn"));
    // The heads of a row side by side; what joins them into one axis leaves the numbers where they are.
    rule_if_some!(output = graph.only_use(mixed));
    rule_if_let!(Some(&[_, _, head]) = graph.f32_shape(mixed));
    let sizes = [rows, heads, head];
    rule_if!(graph.operator(output) == Some(&AxisOp::Move(0, 1)));
    rule_if!(graph.f32_shape(output) == Some(&sizes[..]));

    let (mut inputs, mut operands) = (tvec!(), [(0, 0); 3]);
    let parts = [(query, [1, 0, 2]), (key, key_order), (value, [1, 0, 2])];
    for (place, (outlet, order)) in operands.iter_mut().zip(parts) {
        rule_if_some!((input, column, factor) = operand(graph, outlet, order, sizes));
        scale *= factor;
        let known = inputs.iter().position(|&at| at == input);
        let index = known.unwrap_or_else(|| {
            inputs.push(input);
            inputs.len() - 1
        });
        *place = (index, column);
    }
    Ok(Some(Found {
        inputs,
        operator: Box::new(AttentionOp {
            queries: rows,
            rows,
            heads,
            head,
            scale,
            operands,
        }),
        output,
        moves: [None, None],
    }))
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
/// there, and what they are multiplied by. `order` says which axes of `[rows, heads, head]` the operand has, in turn.
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
    (graph.f32_shape(at)? == [rows, heads, head]).then_some(())?;
    let (width, mut scale) = (heads * head, 1.0);
    loop {
        at = graph.behind_views(at);
        (volume(graph.f32_shape(at)?) == rows * width).then_some(())?;
        if let Some((input, factor)) = graph.scaled(at) {
            (at, scale) = (input, scale * factor);
        } else if let Some(gather) = graph.operator::<Gather>(at) {
            return piece(graph, at, gather, [rows, width]).map(|(at, column)| (at, column, scale));
        } else {
            // Columns that nothing was cut from.
            (graph.f32_shape(at)?.last() == Some(&width)).then_some(())?;
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
    let index = usize::try_from(graph.index(index)?).ok()?;
    let &[count, ..] = graph.f32_shape(pieces)? else {
        return None;
    };
    (gather.axis == 0 && index < count && count > 1).then_some(())?;
    let moved = graph.behind_views(pieces);
    let &AxisOp::Move(from, 0) = graph.operator::<AxisOp>(moved)? else {
        return None;
    };
    let split = graph.node(moved).inputs[0];
    let shape = graph.f32_shape(split)?;
    let fits = from + 2 == shape.len()
        && shape[from] == count
        && shape[from + 1] == width
        && volume(&shape[..from]) == rows;
    let whole = graph.behind_views(split);
    let columns = graph.f32_shape(whole)?.last() == Some(&(count * width));
    (fits && columns).then_some((whole, index * width))
}
