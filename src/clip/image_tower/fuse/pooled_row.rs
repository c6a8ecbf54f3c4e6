//! Removes what is never read: the head of a tower reads one row of the last block, that of the class token, so the queries,
//! the projections and the MLP of that block are needed at this row alone. The choice of the row moves up the graph, past
//! every operator whose every reader wants this row and no other.

use tract_core::internal::*;

use crate::clip::graph::{Graph, volume};
use crate::clip::image_tower::operators::{AttentionOp, LinearOp, NormOp, RowOp};

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
    let output = OutletId::new(node.id, 0);
    let cut = graph.cut(output)?;
    let shape = graph.f32_shape(cut.input)?;
    let (&width, chosen) = (shape.last()?, graph.f32_shape(output)?);
    let fits = cut.length == 1
        && cut.axis + 1 < shape.len()
        && shape[cut.axis] > 1
        && volume(shape) == shape[cut.axis] * width
        && chosen.last() == Some(&width)
        && volume(chosen) == width;
    fits.then(|| super::Found {
        inputs: tvec!(cut.input),
        operator: Box::new(RowOp {
            row: cut.start,
            shape: chosen.into(),
        }),
        output,
        moves: [None, None],
    })
}

/// Moves the choice past one operator, if there is one to move past.
fn moved(model: &TypedModel) -> TractResult<Option<TypedModelPatch>> {
    for node in model.nodes() {
        if let Some(read) = rows_read(Graph(model), node)
            && let Some(patch) = past(model, node, &read)?
        {
            return Ok(Some(patch));
        }
    }
    Ok(None)
}

/// Makes `node` compute the one row that is read of it.
fn past(
    model: &TypedModel,
    node: &TypedNode,
    read: &RowsRead,
) -> TractResult<Option<TypedModelPatch>> {
    let graph = Graph(model);
    let mut patch = TypedModelPatch::default();
    let name = |part: &str| format!("{}.{part}", node.name);
    let choose = |patch: &mut TypedModelPatch, input: OutletId, width: usize, part: &str| {
        let tap = patch.tap_model(model, input)?;
        let row = RowOp {
            row: read.row,
            shape: tvec!(1, width),
        };
        TractResult::Ok(patch.wire_node(name(part), row, &[tap])?[0])
    };
    let output = if graph.keeps_order(OutletId::new(node.id, 0)) {
        choose(&mut patch, node.inputs[0], read.width, "row")?
    } else if let Some(linear) = node.op_as::<LinearOp>() {
        let mut inputs = tvec!(choose(&mut patch, node.inputs[0], linear.inner(), "row")?);
        if linear.residual {
            let residual = choose(&mut patch, node.inputs[1], read.width, "residual_row")?;
            inputs.push(residual);
        }
        let linear = LinearOp {
            shape: tvec!(1, read.width),
            ..linear.clone()
        };
        patch.wire_node(name("pooled"), linear, &inputs)?[0]
    } else if let Some(norm) = node.op_as::<NormOp>() {
        let input = choose(&mut patch, node.inputs[0], read.width, "row")?;
        patch.wire_node(name("pooled"), norm.clone(), &[input])?[0]
    } else if let Some(attention) = node.op_as::<AttentionOp>() {
        let (query, column) = attention.operands[0];
        rule_if_let!(Some([.., stride]) = graph.f32_shape(node.inputs[query]));
        // Keys and values are those of all rows.
        let mut inputs = tvec!(choose(&mut patch, node.inputs[query], *stride, "row")?);
        let mut operands = [(0, column), attention.operands[1], attention.operands[2]];
        for (input, _) in &mut operands[1..] {
            inputs.push(patch.tap_model(model, node.inputs[*input])?);
            *input = inputs.len() - 1;
        }
        let attention = AttentionOp {
            queries: 1,
            operands,
            ..attention.clone()
        };
        patch.wire_node(name("pooled"), attention, &inputs)?[0]
    } else {
        return Ok(None);
    };
    for (reader, shape) in &read.readers {
        let name = format!("{}.shaped", model.node(*reader).name);
        let shape = shape.clone();
        let shaped = patch.wire_node(name, RowOp { row: 0, shape }, &[output])?[0];
        patch.shunt_outside(model, OutletId::new(*reader, 0), shaped)?;
    }
    Ok(Some(patch))
}

/// The one row of several that all readers of a node want.
struct RowsRead {
    row: usize,
    width: usize,
    /// Each with the shape that it wants the row in.
    readers: Vec<(usize, TVec<usize>)>,
}

fn rows_read(graph: Graph, node: &TypedNode) -> Option<RowsRead> {
    let value = OutletId::new(node.id, 0);
    let shape = graph.f32_shape(value)?;
    let successors = &node.outputs.first()?.successors;
    let rows = successors
        .iter()
        .map(|inlet| {
            let reader = OutletId::new(inlet.node, 0);
            Some((inlet.node, graph.operator::<RowOp>(reader)?))
        })
        .collect::<Option<Vec<_>>>()?;
    let (_, first) = rows.first()?;
    let width = volume(&first.shape);
    let fits = !graph.0.outputs.contains(&value)
        && volume(shape) > width
        && rows
            .iter()
            .all(|(_, row)| row.row == first.row && volume(&row.shape) == width);
    fits.then(|| RowsRead {
        row: first.row,
        width,
        readers: rows
            .iter()
            .map(|(id, row)| (*id, row.shape.clone()))
            .collect(),
    })
}
