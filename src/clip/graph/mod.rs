//! Graphs of tract, for the import and the image tower alike: what makes a value, of what shape it is, what is made of
//! it, and which activation a piece of a graph computes. It knows operators; what a tower looks like is for its callers.

mod activation;
pub mod guard;
pub mod stored;
pub mod text;

use std::sync::Arc;

use ndarray::ArrayD;
use tract_core::internal::*;
use tract_core::ops::array::{Gather, MultiBroadcastTo, Slice};
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_core::ops::cast::Cast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::identity::Identity;
use tract_core::ops::logic::Iff;
use tract_core::ops::math::{Div, IsNan, Mul};

pub use activation::activation_from;
use stored::StoredTensor;

/// How many numbers a shape holds.
pub fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// The numbers of an input, in the standard layout as all of tract's tensors are.
pub fn numbers(input: &TValue) -> TractResult<&[f32]> {
    let view = input.to_plain_array_view::<f32>()?;
    view.to_slice().context("an input is not contiguous")
}

/// A piece of an axis, as slicing and looking up one index cut it.
pub struct Cut {
    pub input: OutletId,
    pub axis: usize,
    pub start: usize,
    pub length: usize,
}

/// A decluttered graph to be asked about.
#[derive(Clone, Copy)]
pub struct Graph<'a>(pub &'a TypedModel);

impl<'a> Graph<'a> {
    pub fn node(self, outlet: OutletId) -> &'a TypedNode {
        self.0.node(outlet.node)
    }

    /// The operator that makes a value, if it is an `O`.
    pub fn operator<O: Op>(self, outlet: OutletId) -> Option<&'a O> {
        self.node(outlet).op_as::<O>()
    }

    fn fact(self, outlet: OutletId) -> Option<&'a TypedFact> {
        let output = self.node(outlet).outputs.get(outlet.slot)?;
        Some(&output.fact)
    }

    /// The shape of a value; nothing where a dimension is symbolic.
    pub fn shape(self, outlet: OutletId) -> Option<&'a [usize]> {
        self.fact(outlet)?.shape.as_concrete()
    }

    /// The shape of a value of f32; nothing for other types.
    pub fn f32_shape(self, outlet: OutletId) -> Option<&'a [usize]> {
        let f32s = self.fact(outlet)?.datum_type == f32::datum_type();
        self.shape(outlet).filter(|_| f32s)
    }

    /// How many numbers a value holds.
    pub fn volume(self, outlet: OutletId) -> Option<usize> {
        self.shape(outlet).map(volume)
    }

    /// Whether a value holds floats of any precision.
    pub fn is_float(self, outlet: OutletId) -> bool {
        self.fact(outlet)
            .is_some_and(|fact| fact.datum_type.is_float())
    }

    /// A constant whose numbers are in memory.
    pub fn tensor(self, outlet: OutletId) -> Option<&'a Arc<Tensor>> {
        self.fact(outlet)?.konst.as_ref()
    }

    /// Whether a value is the same for every input of the graph.
    pub fn is_constant(self, outlet: OutletId) -> bool {
        self.tensor(outlet).is_some() || self.operator::<StoredTensor>(outlet).is_some()
    }

    /// The numbers of a constant as f32.
    pub fn constant(self, outlet: OutletId) -> Option<ArrayD<f32>> {
        let tensor = self.tensor(outlet)?.cast_to::<f32>().ok()?;
        Some(tensor.to_plain_array_view::<f32>().ok()?.to_owned())
    }

    /// The numbers of a constant, in order.
    pub fn vector(self, outlet: OutletId) -> Option<Vec<f32>> {
        Some(self.constant(outlet)?.into_iter().collect())
    }

    /// The numbers of a constant that has at most one axis longer than one, the last.
    pub fn last_axis(self, outlet: OutletId) -> Option<Vec<f32>> {
        let numbers = self.vector(outlet)?;
        let last = self.shape(outlet)?.last();
        last.is_none_or(|&n| n == numbers.len()).then_some(numbers)
    }

    /// The number of a constant that has one.
    pub fn scalar(self, outlet: OutletId) -> Option<f32> {
        self.tensor(outlet).filter(|tensor| tensor.len() == 1)?;
        self.vector(outlet)?.first().copied()
    }

    /// The operands of a binary operator.
    pub fn binary<O: BinMiniOp>(self, outlet: OutletId) -> Option<[OutletId; 2]> {
        let operator = self.operator::<TypedBinOp>(outlet)?;
        let inputs = self.node(outlet).inputs[..].try_into().ok()?;
        operator.0.is::<O>().then_some(inputs)
    }

    /// The variable and the constant operand of a commutative operator.
    pub fn with_constant<O: BinMiniOp>(self, outlet: OutletId) -> Option<(OutletId, OutletId)> {
        match self.binary::<O>(outlet)? {
            [a, b] if self.is_constant(b) && !self.is_constant(a) => Some((a, b)),
            [a, b] if self.is_constant(a) && !self.is_constant(b) => Some((b, a)),
            _ => None,
        }
    }

    /// A value that is multiplied or divided by one number, and the factor.
    pub fn scaled(self, outlet: OutletId) -> Option<(OutletId, f32)> {
        if let Some((input, factor)) = self.with_constant::<Mul>(outlet) {
            return Some((input, self.scalar(factor)?));
        }
        let [input, divisor] = self.binary::<Div>(outlet)?;
        Some((input, 1.0 / self.scalar(divisor)?))
    }

    /// The operator's axes and operands, if it multiplies two values and is not quantised.
    pub fn product(self, outlet: OutletId) -> Option<(&'a EinSum, [OutletId; 2])> {
        let einsum = self.operator::<EinSum>(outlet)?;
        let inputs = self.node(outlet).inputs[..].try_into().ok()?;
        einsum.q_params.is_none().then_some((einsum, inputs))
    }

    /// The one index of a constant.
    pub fn index(self, outlet: OutletId) -> Option<i64> {
        let index = self.tensor(outlet)?.cast_to::<i64>().ok()?;
        let index = index.to_plain_array_view::<i64>().ok()?;
        index.first().copied().filter(|_| index.len() == 1)
    }

    /// What a slice, or a look-up of one index, cuts out of which axis.
    pub fn cut(self, outlet: OutletId) -> Option<Cut> {
        let inputs = &self.node(outlet).inputs;
        let input = *inputs.first()?;
        let (axis, start, end) = if let Some(slice) = self.operator::<Slice>(outlet) {
            let (start, end) = (slice.start.to_usize().ok()?, slice.end.to_usize().ok()?);
            (slice.axis, start, end)
        } else {
            let gather = self.operator::<Gather>(outlet)?;
            let index = self.index(*inputs.get(1)?)?;
            // Negative ones count from the end.
            let whole = *self.shape(input)?.get(gather.axis)?;
            let index = match index {
                0.. => usize::try_from(index).ok()?,
                _ => whole.checked_sub(usize::try_from(-index).ok()?)?,
            };
            (gather.axis, index, index + 1)
        };
        let whole = *self.shape(input)?.get(axis)?;
        (start < end && end <= whole).then(|| Cut {
            input,
            axis,
            start,
            length: end - start,
        })
    }

    /// The one value that is made of `outlet`, if nothing else is and it is not an output of the graph.
    pub fn only_use(self, outlet: OutletId) -> Option<OutletId> {
        let uses = &self.node(outlet).outputs.get(outlet.slot)?.successors;
        match uses[..] {
            [only] if !self.0.outputs.contains(&outlet) => Some(OutletId::new(only.node, 0)),
            _ => None,
        }
    }

    /// Whether an operator on axes leaves the numbers in their order.
    pub fn keeps_order(self, outlet: OutletId) -> bool {
        match self.operator::<AxisOp>(outlet) {
            Some(AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..)) => true,
            Some(&AxisOp::Move(from, to)) => {
                // Moving past axes of length one, or moving such an axis, changes nothing.
                let input = self.node(outlet).inputs[0];
                self.f32_shape(input).is_some_and(|shape| {
                    let passed = if from < to {
                        shape.get(from + 1..=to)
                    } else {
                        shape.get(to..from)
                    };
                    shape.get(from) == Some(&1)
                        || passed.is_some_and(|passed| passed.iter().all(|&n| n == 1))
                })
            }
            None => false,
        }
    }

    /// The value behind operators that leave the numbers in their order.
    pub fn behind_views(self, mut outlet: OutletId) -> OutletId {
        while self.keeps_order(outlet) {
            outlet = self.node(outlet).inputs[0];
        }
        outlet
    }

    /// The value behind operators that only rearrange, broadcast, convert or guard against not-a-number: the same
    /// numbers, in whatever order.
    pub fn behind(self, mut outlet: OutletId) -> OutletId {
        loop {
            let node = self.node(outlet);
            let rearranges = node.op_is::<AxisOp>()
                || node.op_is::<MultiBroadcastTo>()
                || node.op_is::<Identity>();
            let converts = node.op_is::<Cast>() && self.is_float(outlet);
            let guards = node.op_is::<Iff>() && self.is_nan_test(node.inputs[0]);
            outlet = match node.inputs[..] {
                [input] if rearranges || converts => input,
                [_, _, value] if guards => value,
                _ => return outlet,
            }
        }
    }

    fn is_nan_test(self, outlet: OutletId) -> bool {
        self.operator::<ElementWiseOp>(outlet)
            .is_some_and(|operator| operator.0.is::<IsNan>())
    }
}
