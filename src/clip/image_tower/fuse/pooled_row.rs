//! Cuts what nobody reads: the head of a tower reads one row of the last block, that of the class token, so the queries,
//! the projections and the perceptron of that block are needed at this row alone. The choice of the row moves up the
//! graph, past every operator whose every reader wants this row and no other. It must not know which block is the last.

use tract_core::internal::*;
use tract_core::ops::array::{Gather, Slice};

use super::Graph;
use super::graph::volume;
use crate::clip::image_tower::operators::{Attention, Linear, Norm, Row};

/// Moves every choice of one row as far up as it goes.
pub fn pooled_row(model: &mut TypedModel) -> TractResult<()> {
    super::apply(model, |graph, node| Ok(choice(graph, node)))?;
    while let Some(patch) = moved(model)? {
        patch.apply(model)?;
        model.compact()?;
    }
    Ok(())
}

/// One row of a matrix, however it is cut out.
fn choice(graph: Graph, node: &TypedNode) -> Option<super::Found> {
    let input = *node.inputs.first()?;
    let shape = graph.shape(input)?;
    let output = OutletId::new(node.id, 0);
    let (axis, row) = if let Some(slice) = node.op_as::<Slice>() {
        let (start, end) = (slice.start.to_usize().ok()?, slice.end.to_usize().ok()?);
        (end == start + 1).then_some((slice.axis, start))?
    } else {
        let gather = node.op_as::<Gather>()?;
        let index = graph.tensor(*node.inputs.get(1)?)?.cast_to::<i64>().ok()?;
        let index = index.to_plain_array_view::<i64>().ok()?;
        let index = usize::try_from(*index.first().filter(|_| index.len() == 1)?).ok()?;
        (gather.axis, index)
    };
    let (&width, chosen) = (shape.last()?, graph.shape(output)?);
    let fits = axis + 1 < shape.len()
        && row < shape[axis]
        && shape[axis] > 1
        && volume(shape) == shape[axis] * width
        && chosen.last() == Some(&width)
        && volume(chosen) == width;
    fits.then(|| super::Found {
        inputs: tvec!(input),
        operator: Box::new(Row {
            row,
            shape: chosen.into(),
        }),
        output,
    })
}

/// Moves the choice past one operator, if there is one to move past.
fn moved(model: &TypedModel) -> TractResult<Option<TypedModelPatch>> {
    let graph = Graph(model);
    for node in model.nodes() {
        let Some((row, width, readers)) = readers(graph, node) else {
            continue;
        };
        let mut patch = TypedModelPatch::default();
        let name = |part: &str| format!("{}.{part}", node.name);
        let choose = |patch: &mut TypedModelPatch, input: OutletId, width: usize, part: &str| {
            let tap = patch.tap_model(model, input)?;
            let shape = tvec!(1, width);
            let wired = patch.wire_node(name(part), Row { row, shape }, &[tap])?;
            TractResult::Ok(wired[0])
        };
        let output = if graph.keeps_order(OutletId::new(node.id, 0)) {
            choose(&mut patch, node.inputs[0], width, "row")?
        } else if let Some(linear) = node.op_as::<Linear>() {
            let mut inputs = tvec!(choose(&mut patch, node.inputs[0], linear.inner(), "row")?);
            if linear.residual {
                inputs.push(choose(&mut patch, node.inputs[1], width, "residual_row")?);
            }
            let shape = tvec!(1, width);
            let linear = Linear {
                shape,
                ..linear.clone()
            };
            patch.wire_node(name("pooled"), linear, &inputs)?[0]
        } else if let Some(norm) = node.op_as::<Norm>() {
            let input = choose(&mut patch, node.inputs[0], width, "row")?;
            patch.wire_node(name("pooled"), norm.clone(), &[input])?[0]
        } else if let Some(attention) = node.op_as::<Attention>() {
            let (query, column) = attention.operands[0];
            let Some(&stride) = graph.shape(node.inputs[query]).and_then(<[_]>::last) else {
                continue;
            };
            // Keys and values are those of all rows.
            let mut inputs = tvec!(choose(&mut patch, node.inputs[query], stride, "row")?);
            let mut operands = [(0, column), attention.operands[1], attention.operands[2]];
            for (input, _) in &mut operands[1..] {
                inputs.push(patch.tap_model(model, node.inputs[*input])?);
                *input = inputs.len() - 1;
            }
            let attention = Attention {
                queries: 1,
                operands,
                ..attention.clone()
            };
            patch.wire_node(name("pooled"), attention, &inputs)?[0]
        } else {
            continue;
        };
        for (reader, shape) in readers {
            let name = format!("{}.shaped", model.node(reader).name);
            let shaped = patch.wire_node(name, Row { row: 0, shape }, &[output])?[0];
            patch.shunt_outside(model, OutletId::new(reader, 0), shaped)?;
        }
        return Ok(Some(patch));
    }
    Ok(None)
}

/// Which row of `node` is read, how wide it is, and by whom in which shape, if it has several and they all want one.
#[allow(clippy::type_complexity)]
fn readers(graph: Graph, node: &TypedNode) -> Option<(usize, usize, Vec<(usize, TVec<usize>)>)> {
    let value = OutletId::new(node.id, 0);
    let shape = graph.shape(value)?;
    let successors = &node.outputs.first()?.successors;
    let rows = successors
        .iter()
        .map(|inlet| {
            let reader = OutletId::new(inlet.node, 0);
            graph.operator::<Row>(reader).map(|row| (inlet.node, row))
        })
        .collect::<Option<Vec<_>>>()?;
    let (_, first) = rows.first()?;
    let width = volume(&first.shape);
    let fits = !graph.0.outputs.contains(&value)
        && volume(shape) > width
        && rows
            .iter()
            .all(|(_, row)| row.row == first.row && volume(&row.shape) == width);
    fits.then(|| {
        let readers = rows.iter().map(|(id, row)| (*id, row.shape.clone()));
        (first.row, width, readers.collect())
    })
}
