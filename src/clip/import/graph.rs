//! Walking backwards through a decluttered graph of tract: what is behind a value once reshapes are looked through,
//! and whether that is a linear layer or a layer norm. It knows operators; it must not know what a text tower is.

use ndarray::{Array1, Array2, ArrayD, Axis, Slice as Range};
use tract_core::internal::*;
use tract_core::ops::array::{Gather, MultiBroadcastTo, Slice};
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_core::ops::cast::Cast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::identity::Identity;
use tract_core::ops::logic::Iff;
use tract_core::ops::math::{Add, Div, IsNan, Mul, Sub};
use tract_core::ops::nn::RmsNorm;
use tract_core::ops::source::TypedSource;

/// `scale * (x W^T + bias)`, as it stands in the graph.
pub struct Linear {
    pub input: OutletId,
    /// `[out, in]`
    pub weight: Array2<f32>,
    pub bias: Option<Array1<f32>>,
    pub scale: f32,
}

/// `gain * normalised(x) + bias`; either may have been simplified away by tract.
pub struct Norm {
    pub input: OutletId,
    pub gain: Option<Array1<f32>>,
    pub bias: Option<Array1<f32>>,
    pub epsilon: f32,
}

/// A graph whose shapes are all known.
#[derive(Clone, Copy)]
pub struct Walker<'a>(pub &'a TypedModel);

impl<'a> Walker<'a> {
    pub fn node(&self, outlet: OutletId) -> &'a TypedNode {
        &self.0.nodes()[outlet.node]
    }

    pub fn operator<O: Op>(&self, outlet: OutletId) -> Option<&'a O> {
        self.node(outlet).op_as::<O>()
    }

    fn fact(&self, outlet: OutletId) -> Option<&'a TypedFact> {
        self.node(outlet)
            .outputs
            .get(outlet.slot)
            .map(|output| &output.fact)
    }

    /// The dimensions of a value; empty where one is symbolic.
    pub fn shape(&self, outlet: OutletId) -> &'a [usize] {
        self.fact(outlet)
            .and_then(|fact| fact.shape.as_concrete())
            .unwrap_or(&[])
    }

    pub fn volume(&self, outlet: OutletId) -> usize {
        self.shape(outlet).iter().product()
    }

    pub fn is_float(&self, outlet: OutletId) -> bool {
        self.fact(outlet)
            .is_some_and(|fact| fact.datum_type.is_float())
    }

    fn tensor(&self, outlet: OutletId) -> Option<&'a Arc<Tensor>> {
        self.fact(outlet)?.konst.as_ref()
    }

    pub fn is_constant(&self, outlet: OutletId) -> bool {
        self.tensor(outlet).is_some()
    }

    /// The numbers of a constant.
    pub fn constant(&self, outlet: OutletId) -> Option<ArrayD<f32>> {
        let tensor = self.tensor(outlet)?.cast_to::<f32>().ok()?;
        Some(tensor.to_plain_array_view::<f32>().ok()?.to_owned())
    }

    fn vector(&self, outlet: OutletId) -> Option<Array1<f32>> {
        Some(self.constant(outlet)?.into_iter().collect())
    }

    /// The value behind operators that only rearrange, broadcast, convert or guard against not-a-number.
    pub fn behind(&self, mut outlet: OutletId) -> OutletId {
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

    fn is_nan_test(&self, outlet: OutletId) -> bool {
        self.operator::<ElementWiseOp>(outlet)
            .is_some_and(|operator| operator.0.is::<IsNan>())
    }

    /// The operands of a binary operator.
    pub fn binary<O: BinMiniOp>(&self, outlet: OutletId) -> Option<[OutletId; 2]> {
        let operator = self.operator::<TypedBinOp>(outlet)?;
        operator
            .0
            .is::<O>()
            .then(|| self.node(outlet).inputs[..].try_into().ok())?
    }

    /// The variable and the constant operand of a commutative operator.
    pub fn with_constant<O: BinMiniOp>(&self, outlet: OutletId) -> Option<(OutletId, OutletId)> {
        match self.binary::<O>(outlet)? {
            [a, b] if self.is_constant(b) && !self.is_constant(a) => Some((a, b)),
            [a, b] if self.is_constant(a) && !self.is_constant(b) => Some((b, a)),
            _ => None,
        }
    }

    /// A value multiplied or divided by one number.
    pub fn scaled(&self, outlet: OutletId) -> Option<(OutletId, f32)> {
        let (input, factor, divides) = match self.with_constant::<Mul>(outlet) {
            Some((input, factor)) => (input, factor, false),
            None => {
                let [input, divisor] = self.binary::<Div>(outlet)?;
                (input, divisor, true)
            }
        };
        let factor = *self
            .vector(factor)
            .filter(|factor| factor.len() == 1)?
            .first()?;
        Some((input, if divides { 1.0 / factor } else { factor }))
    }

    /// One of several equal pieces of an axis: where it is taken from, which one it is, and of how many.
    fn piece(&self, outlet: OutletId) -> Option<(OutletId, usize, usize)> {
        let input = *self.node(outlet).inputs.first()?;
        if let Some(slice) = self.operator::<Slice>(outlet) {
            let whole = *self.shape(input).get(slice.axis)?;
            let (start, end) = (slice.start.to_usize().ok()?, slice.end.to_usize().ok()?);
            let length = end
                .checked_sub(start)
                .filter(|&n| n > 0 && whole % n == 0 && start % n == 0)?;
            return Some((input, start / length, whole / length));
        }
        let gather = self.operator::<Gather>(outlet)?;
        let index = *self
            .vector(self.node(outlet).inputs[1])
            .filter(|index| index.len() == 1)?
            .first()?;
        let whole = *self.shape(input).get(gather.axis)?;
        (index >= 0.0 && (index as usize) < whole).then_some((input, index as usize, whole))
    }

    /// The product with a constant matrix: the variable operand and the matrix as `[out, in]`.
    fn product(&self, outlet: OutletId) -> Option<(OutletId, Array2<f32>)> {
        let einsum = self
            .operator::<EinSum>(outlet)
            .filter(|einsum| einsum.q_params.is_none())?;
        let inputs: [OutletId; 2] = self.node(outlet).inputs[..].try_into().ok()?;
        let constant = usize::from(!self.is_constant(inputs[0]));
        let weight = self.constant(inputs[constant])?;
        let input = *inputs
            .get(1 - constant)
            .filter(|&&input| !self.is_constant(input))?;
        let (mut produced, mut contracted, mut rest) = (vec![], vec![], vec![]);
        for axis in einsum.axes.iter_all_axes() {
            let first = |places: &[usize]| places.first().copied();
            let place = (
                first(&axis.inputs[constant]),
                first(&axis.inputs[1 - constant]),
                first(&axis.outputs[0]),
            );
            match place {
                (Some(own), Some(theirs), None) => contracted.push((theirs, own)),
                (Some(own), None, Some(out)) => produced.push((out, own)),
                (Some(own), _, _) if weight.shape().get(own) == Some(&1) => rest.push((0, own)),
                (Some(_), _, _) => return None,
                (None, _, _) => {}
            }
        }
        produced.sort_unstable();
        contracted.sort_unstable();
        let size = |axes: &[(usize, usize)]| {
            axes.iter()
                .map(|&(_, own)| weight.shape()[own])
                .product::<usize>()
        };
        let shape = (size(&produced), size(&contracted));
        let order: Vec<usize> = rest
            .iter()
            .chain(&produced)
            .chain(&contracted)
            .map(|&(_, own)| own)
            .collect();
        if order.len() != weight.ndim() {
            return None;
        }
        let matrix = weight
            .permuted_axes(order)
            .as_standard_layout()
            .into_owned();
        Some((
            self.behind(input),
            matrix.into_shape_with_order(shape).ok()?,
        ))
    }

    /// A linear layer that ends at `outlet`, possibly a piece of a fused one, possibly scaled.
    pub fn linear(&self, outlet: OutletId) -> Option<Linear> {
        let (mut at, mut scale, mut bias, mut piece) = (outlet, 1.0, None::<Array1<f32>>, None);
        loop {
            at = self.behind(at);
            if let Some((input, mut weight)) = self.product(at) {
                let mut bias = bias;
                if let Some((index, count)) = piece {
                    let rows = weight.nrows() / count;
                    let range = Range::from(index * rows..(index + 1) * rows);
                    weight = weight.slice_axis(Axis(0), range).to_owned();
                    bias = bias.map(|b| {
                        if b.len() == rows * count {
                            b.slice_axis(Axis(0), range).to_owned()
                        } else {
                            b
                        }
                    });
                }
                let fits = bias
                    .as_ref()
                    .is_none_or(|bias| bias.len() == weight.nrows());
                return fits.then_some(Linear {
                    input,
                    weight,
                    bias,
                    scale,
                });
            }
            at = if let Some((input, factor)) = self.scaled(at).filter(|_| bias.is_none()) {
                scale *= factor;
                input
            } else if let Some((input, addend)) =
                self.with_constant::<Add>(at).filter(|_| bias.is_none())
            {
                bias = Some(self.vector(addend)?);
                input
            } else {
                let (input, index, count) = self.piece(at).filter(|_| piece.is_none())?;
                piece = Some((index, count));
                input
            };
        }
    }

    /// A layer norm that ends at `outlet`.
    pub fn norm(&self, outlet: OutletId) -> Option<Norm> {
        let mut at = self.behind(outlet);
        let (mut gain, mut bias) = (None, None);
        if let Some((input, addend)) = self.with_constant::<Add>(at) {
            bias = Some(self.vector(addend)?);
            at = self.behind(input);
        }
        if let Some((input, factor)) = self.with_constant::<Mul>(at) {
            gain = Some(self.vector(factor)?);
            at = self.behind(input);
        }
        let norm = self.operator::<RmsNorm>(at)?;
        let epsilon = norm.eps.cast_to_scalar::<f32>().ok()?;
        let [input, _mean] = self.binary::<Sub>(self.behind(self.node(at).inputs[0]))?;
        Some(Norm {
            input: self.behind(input),
            gain,
            bias,
            epsilon,
        })
    }

    /// What the part of the graph from `from` to `to` makes of `value`.
    pub fn evaluate(&self, from: OutletId, value: Tensor, to: OutletId) -> TractResult<Vec<f32>> {
        let mut part = self.0.clone();
        let source = part.node_mut(from.node);
        source.inputs.clear();
        source.op = Box::new(TypedSource::new(source.outputs[from.slot].fact.clone()));
        part.set_input_outlets(&[from])?;
        part.select_output_outlets(&[to])?;
        let output = part.into_runnable()?.run(tvec!(value.into()))?;
        Ok(output[0]
            .to_plain_array_view::<f32>()?
            .iter()
            .copied()
            .collect())
    }
}
