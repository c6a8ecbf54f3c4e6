//! Puts the project's own operators into the graph of an image tower: one rule a pattern, each recognised by data flow.
//! What no rule recognises stays as tract has it, so that any image tower runs.

mod attention;
mod convolution;
mod linear;
mod norm;
mod patches;
mod pooled_row;
mod weight;

use tract_core::internal::*;
use tract_core::ops::cast::Cast;
use tract_core::ops::konst::Const;

use super::convolution::ConvolutionOp;
use super::operators::{AttentionOp, LinearOp, NormOp, PatchesOp};
use crate::clip::graph::Graph;
use crate::clip::graph::stored::StoredTensor;

/// How many of each operator were put into a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fused {
    /// Layer norms.
    pub norms: usize,
    /// Products with a constant matrix.
    pub linears: usize,
    /// Of the linears, those whose activation is in the same pass.
    pub activations: usize,
    /// Of the linears, those that add a residual in the same pass.
    pub residuals: usize,
    /// Of the linears, those that see one row alone.
    pub pooled: usize,
    /// Whole attentions, all heads of one in a pass.
    pub attentions: usize,
    /// Convolutions that cut the picture into patches.
    pub patches: usize,
    /// Of those that do not tile the picture.
    pub convolutions: usize,
}

/// What a rule found: the operator that computes `output` from `inputs`.
struct Found {
    inputs: TVec<OutletId>,
    operator: Box<dyn TypedOp>,
    output: OutletId,
    /// How axes are moved before the operator and after it; such moves disappear between two operators that agree.
    moves: [Option<AxisOp>; 2],
}

/// Looks for the pattern that ends, or has its heart, at a node.
type Rule = fn(Graph, &TypedNode) -> TractResult<Option<Found>>;

/// Replaces all that the rules recognise in `model`, and unpacks the constants that are left.
pub fn fuse(model: &mut TypedModel) -> TractResult<Fused> {
    drop_idle_casts(model)?;
    for rule in [
        norm::norm as Rule,
        patches::patches,
        convolution::convolution,
        linear::linear,
        attention::attention,
    ] {
        apply(model, rule)?;
    }
    pooled_row::pooled_row(model)?;
    unpack(model)?;
    let mut fused = Fused::default();
    for node in model.nodes() {
        fused.norms += usize::from(node.op_is::<NormOp>());
        fused.attentions += usize::from(node.op_is::<AttentionOp>());
        fused.patches += usize::from(node.op_is::<PatchesOp>());
        fused.convolutions += usize::from(node.op_is::<ConvolutionOp>());
        if let Some(linear) = node.op_as::<LinearOp>() {
            fused.linears += 1;
            fused.activations += usize::from(linear.activation.is_some());
            fused.residuals += usize::from(linear.residual);
            fused.pooled += usize::from(linear.rows() == 1);
        }
    }
    Ok(fused)
}

fn apply(model: &mut TypedModel, rule: Rule) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let Some(found) = rule(Graph(model), model.node(id))? else {
            continue;
        };
        let mut patch = TypedModelPatch::default();
        let mut wires = patch.taps(model, &found.inputs)?;
        let name = &model.node(found.output.node).name;
        let [before, after] = found.moves;
        if let Some(before) = before {
            wires = patch.wire_node(format!("{name}.before"), before, &wires)?;
        }
        wires = patch.wire_node(format!("{name}.fused"), found.operator, &wires)?;
        if let Some(after) = after {
            wires = patch.wire_node(format!("{name}.after"), after, &wires)?;
        }
        let output = wires[0];
        patch.shunt_outside(model, found.output, output)?;
        patch.apply(model)?;
    }
    model.compact()
}

/// Conversions from a type to itself, which files are full of, stand in the way of everything else.
fn drop_idle_casts(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let Some(cast) = node.op_as::<Cast>() else {
            continue;
        };
        if model.outlet_fact(node.inputs[0])?.datum_type == cast.to
            && let Some(patch) = TypedModelPatch::shunt_one_op(model, node)?
        {
            patch.apply(model)?;
        }
    }
    model.compact()
}

/// Constants that no operator of ours took become tract's.
fn unpack(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let Some(stored) = model.node(id).op_as::<StoredTensor>() else {
            continue;
        };
        let mut patch = TypedModelPatch::default();
        let constant = Const::new(stored.floats()?.into_arc_tensor())?;
        let output = patch.wire_node(&model.node(id).name, constant, &[])?[0];
        patch.shunt_outside(model, OutletId::new(id, 0), output)?;
        patch.apply(model)?;
    }
    model.compact()
}
