//! Questions about a graph that the rules ask: what makes a value, of what shape it is, what is made of it. It must not
//! know what they look for.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::Mul;

use crate::clip::image_tower::stored::Stored;

pub fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

#[derive(Clone, Copy)]
pub struct Graph<'a>(pub &'a TypedModel);

impl<'a> Graph<'a> {
    pub fn node(self, outlet: OutletId) -> &'a TypedNode {
        self.0.node(outlet.node)
    }

    pub fn operator<O: Op>(self, outlet: OutletId) -> Option<&'a O> {
        self.node(outlet).op_as::<O>()
    }

    /// The shape of a value of floats; nothing where it is not known.
    pub fn shape(self, outlet: OutletId) -> Option<&'a [usize]> {
        let fact = &self.node(outlet).outputs.get(outlet.slot)?.fact;
        fact.shape
            .as_concrete()
            .filter(|_| fact.datum_type == f32::datum_type())
    }

    pub fn tensor(self, outlet: OutletId) -> Option<&'a Arc<Tensor>> {
        let fact = &self.node(outlet).outputs.get(outlet.slot)?.fact;
        fact.konst.as_ref()
    }

    /// The numbers of a small constant, in order.
    pub fn vector(self, outlet: OutletId) -> Option<Vec<f32>> {
        let numbers = self.tensor(outlet)?.to_plain_array_view::<f32>().ok()?;
        Some(numbers.iter().copied().collect())
    }

    /// A constant along the last of several axes.
    pub fn last_axis(self, outlet: OutletId) -> Option<Vec<f32>> {
        let numbers = self.vector(outlet)?;
        let along = self
            .shape(outlet)?
            .last()
            .is_none_or(|&n| n == numbers.len());
        along.then_some(numbers)
    }

    pub fn is_constant(self, outlet: OutletId) -> bool {
        self.tensor(outlet).is_some() || self.operator::<Stored>(outlet).is_some()
    }

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

    /// A value multiplied by one number.
    pub fn scaled(self, outlet: OutletId) -> Option<(OutletId, f32)> {
        let (input, factor) = self.with_constant::<Mul>(outlet)?;
        match self.vector(factor)?[..] {
            [factor] => Some((input, factor)),
            _ => None,
        }
    }

    /// The one value that is made of `outlet`, if nothing else is and it is not a result itself.
    pub fn only_use(self, outlet: OutletId) -> Option<OutletId> {
        let uses = &self.node(outlet).outputs.get(outlet.slot)?.successors;
        match uses[..] {
            [only] if !self.0.outputs.contains(&outlet) => Some(OutletId::new(only.node, 0)),
            _ => None,
        }
    }

    /// The operator's axes, if it has two inputs and is not quantised.
    pub fn product(self, outlet: OutletId) -> Option<(&'a EinSum, [OutletId; 2])> {
        let einsum = self.operator::<EinSum>(outlet)?;
        let inputs = self.node(outlet).inputs[..].try_into().ok()?;
        einsum.q_params.is_none().then_some((einsum, inputs))
    }

    /// Whether an operator on axes leaves the numbers in their order.
    pub fn keeps_order(self, outlet: OutletId) -> bool {
        match self.operator::<AxisOp>(outlet) {
            Some(AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..)) => true,
            Some(&AxisOp::Move(from, to)) => {
                // Moving past axes of length one, or moving such an axis, changes nothing.
                let input = self.node(outlet).inputs[0];
                self.shape(input).is_some_and(|shape| {
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
    pub fn behind(self, mut outlet: OutletId) -> OutletId {
        while self.keeps_order(outlet) {
            outlet = self.node(outlet).inputs[0];
        }
        outlet
    }
}
