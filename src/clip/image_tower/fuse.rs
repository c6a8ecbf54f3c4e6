//! Puts the project's own operators into the graph of an image tower: one rule a pattern, each recognised by data flow.
//! What no rule recognises stays as tract has it, so that any image tower runs. It must not know how the operators
//! compute.

use std::sync::Arc;

use ndarray::{Array1, ArrayView2, Ix2};
use tract_core::internal::*;
use tract_core::ops::array::Gather;
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_core::ops::cast::Cast;
use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::konst::Const;
use tract_core::ops::math::{Add, Mul, Sub};
use tract_core::ops::nn::{DataFormat, Reduce, Reducer, RmsNorm, Softmax, SoftmaxKind};

use super::operators::{Attention, Linear, Norm, Patches, Weight};
use super::stored::Stored;
use crate::ops::matmul::{PackedWeight, QuantisedMatrix, QuantisedWeight};
use crate::ops::{Activation, LayerNorm};

/// How many of each operator were put into a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fused {
    pub norms: usize,
    pub linears: usize,
    /// Of the linears, those whose activation is in the same pass.
    pub activations: usize,
    /// Of the linears, those that add a residual in the same pass.
    pub residuals: usize,
    pub attentions: usize,
    pub patches: usize,
}

/// What a rule found: the operator that computes `output` from `inputs`.
struct Found {
    inputs: TVec<OutletId>,
    operator: Box<dyn TypedOp>,
    output: OutletId,
}

/// Looks for the pattern that ends, or has its heart, at a node.
type Rule = fn(Graph, &TypedNode) -> TractResult<Option<Found>>;

/// Replaces all that the rules recognise in `model`, and unpacks the constants that are left.
pub fn fuse(model: &mut TypedModel) -> TractResult<Fused> {
    drop_idle_casts(model)?;
    for rule in [norm as Rule, patches, linear, attention] {
        apply(model, rule)?;
    }
    unpack(model)?;
    let mut fused = Fused::default();
    for node in model.nodes() {
        fused.norms += usize::from(node.op_is::<Norm>());
        fused.attentions += usize::from(node.op_is::<Attention>());
        fused.patches += usize::from(node.op_is::<Patches>());
        if let Some(linear) = node.op_as::<Linear>() {
            fused.linears += 1;
            fused.activations += usize::from(linear.activation.is_some());
            fused.residuals += usize::from(linear.residual);
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
        let inputs = patch.taps(model, &found.inputs)?;
        let name = format!("{}.fused", model.node(found.output.node).name);
        let output = patch.wire_node(name, found.operator, &inputs)?[0];
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
        let Some(stored) = model.node(id).op_as::<Stored>() else {
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

#[derive(Clone, Copy)]
struct Graph<'a>(&'a TypedModel);

impl<'a> Graph<'a> {
    fn node(self, outlet: OutletId) -> &'a TypedNode {
        self.0.node(outlet.node)
    }

    fn operator<O: Op>(self, outlet: OutletId) -> Option<&'a O> {
        self.node(outlet).op_as::<O>()
    }

    /// The shape of a value of floats; nothing where it is not known.
    fn shape(self, outlet: OutletId) -> Option<&'a [usize]> {
        let fact = &self.node(outlet).outputs.get(outlet.slot)?.fact;
        fact.shape
            .as_concrete()
            .filter(|_| fact.datum_type == f32::datum_type())
    }

    fn tensor(self, outlet: OutletId) -> Option<&'a Arc<Tensor>> {
        let fact = &self.node(outlet).outputs.get(outlet.slot)?.fact;
        fact.konst.as_ref()
    }

    /// The numbers of a small constant, in order.
    fn vector(self, outlet: OutletId) -> Option<Vec<f32>> {
        let numbers = self.tensor(outlet)?.to_plain_array_view::<f32>().ok()?;
        Some(numbers.iter().copied().collect())
    }

    /// A constant along the last of several axes.
    fn last_axis(self, outlet: OutletId) -> Option<Vec<f32>> {
        let numbers = self.vector(outlet)?;
        let along = self
            .shape(outlet)?
            .last()
            .is_none_or(|&n| n == numbers.len());
        along.then_some(numbers)
    }

    fn is_constant(self, outlet: OutletId) -> bool {
        self.tensor(outlet).is_some() || self.operator::<Stored>(outlet).is_some()
    }

    fn binary<O: BinMiniOp>(self, outlet: OutletId) -> Option<[OutletId; 2]> {
        let operator = self.operator::<TypedBinOp>(outlet)?;
        let inputs = self.node(outlet).inputs[..].try_into().ok()?;
        operator.0.is::<O>().then_some(inputs)
    }

    /// The variable and the constant operand of a commutative operator.
    fn with_constant<O: BinMiniOp>(self, outlet: OutletId) -> Option<(OutletId, OutletId)> {
        match self.binary::<O>(outlet)? {
            [a, b] if self.is_constant(b) && !self.is_constant(a) => Some((a, b)),
            [a, b] if self.is_constant(a) && !self.is_constant(b) => Some((b, a)),
            _ => None,
        }
    }

    /// A value multiplied by one number.
    fn scaled(self, outlet: OutletId) -> Option<(OutletId, f32)> {
        let (input, factor) = self.with_constant::<Mul>(outlet)?;
        match self.vector(factor)?[..] {
            [factor] => Some((input, factor)),
            _ => None,
        }
    }

    /// The one value that is made of `outlet`, if nothing else is and it is not a result itself.
    fn only_use(self, outlet: OutletId) -> Option<OutletId> {
        let uses = &self.node(outlet).outputs.get(outlet.slot)?.successors;
        match uses[..] {
            [only] if !self.0.outputs.contains(&outlet) => Some(OutletId::new(only.node, 0)),
            _ => None,
        }
    }

    /// The operator's axes, if it has two inputs and is not quantised.
    fn product(self, outlet: OutletId) -> Option<(&'a EinSum, [OutletId; 2])> {
        let einsum = self.operator::<EinSum>(outlet)?;
        let inputs = self.node(outlet).inputs[..].try_into().ok()?;
        einsum.q_params.is_none().then_some((einsum, inputs))
    }

    /// Whether an operator on axes leaves the numbers in their order.
    fn keeps_order(self, outlet: OutletId) -> bool {
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
    fn behind(self, mut outlet: OutletId) -> OutletId {
        while self.keeps_order(outlet) {
            outlet = self.node(outlet).inputs[0];
        }
        outlet
    }
}

/// `gain * (x - mean) / deviation + bias` over the last axis; its heart is the division. A gain of one and a bias of zero
/// are not in the graph.
fn norm(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    let found = || {
        let rms = node.op_as::<RmsNorm>()?;
        let [x, mean] = graph.binary::<Sub>(node.inputs[0])?;
        let (sum, share) = graph.scaled(mean)?;
        let reduce = graph.operator::<Reduce>(sum)?;
        let shape = graph.shape(x)?;
        let (last, &width) = (shape.len().checked_sub(1)?, shape.last()?);
        let fits = reduce.reducer == Reducer::Sum
            && reduce.axes[..] == [last]
            && rms.axis == last
            && graph.node(sum).inputs[..] == [x]
            && (share * width as f32 - 1.0).abs() < 1e-5;
        fits.then_some(())?;
        let mut norm = LayerNorm {
            gain: Array1::ones(width),
            bias: Array1::zeros(width),
            epsilon: rms.eps.cast_to_scalar::<f32>().ok()?,
        };
        let mut output = OutletId::new(node.id, 0);
        let along = |next, constant| {
            let numbers = graph.last_axis(constant)?;
            let fits = numbers.len() == width && graph.shape(next)? == shape;
            fits.then(|| Array1::from(numbers))
        };
        if let Some(next) = graph.only_use(output)
            && let Some((_, constant)) = graph.with_constant::<Mul>(next)
            && let Some(gain) = along(next, constant)
        {
            (norm.gain, output) = (gain, next);
        }
        if let Some(next) = graph.only_use(output)
            && let Some((_, constant)) = graph.with_constant::<Add>(next)
            && let Some(bias) = along(next, constant)
        {
            (norm.bias, output) = (bias, next);
        }
        Some(Found {
            inputs: tvec!(x),
            operator: Box::new(Norm(Arc::new(norm))),
            output,
        })
    };
    Ok(found())
}

/// A convolution whose windows tile the picture, then its windows as rows; ends where the channels become the last axis.
fn patches(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
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

/// The constant at `outlet` as a weight `[out, inner]`; `channels` is its axis of output channels, and `transposed` tells
/// that its numbers lie as `[inner, out]`. All of it is multiplied by `factor`.
fn weight(
    graph: Graph,
    outlet: OutletId,
    [out, inner]: [usize; 2],
    channels: usize,
    transposed: bool,
    factor: f32,
) -> TractResult<Option<Weight>> {
    let shape = if transposed {
        (inner, out)
    } else {
        (out, inner)
    };
    if let Some(stored) = graph.operator::<Stored>(outlet)
        && let Some(view) = stored.int8()?
        && view.axis == channels
        && view.scales.len() == out
    {
        let values = view.values.into_shape_with_order(shape)?;
        let values = values.into_dimensionality::<Ix2>()?;
        let matrix = QuantisedMatrix {
            values: if transposed {
                values.reversed_axes()
            } else {
                values
            },
            scales: view.scales * factor,
        };
        let packed = QuantisedWeight::new(&matrix);
        stored.bundle.release();
        return Ok(Some(Weight::Quantised(packed)));
    }
    let tensor = match graph.operator::<Stored>(outlet) {
        Some(stored) => Arc::new(stored.floats()?),
        None => match graph.tensor(outlet) {
            Some(tensor) => tensor.clone(),
            None => return Ok(None),
        },
    };
    let numbers = tensor.to_plain_array_view::<f32>()?;
    let numbers = numbers.as_slice().context("a constant is contiguous")?;
    let matrix = ArrayView2::from_shape(shape, numbers)?;
    let matrix = if transposed {
        matrix.reversed_axes()
    } else {
        matrix
    };
    let weight = if factor == 1.0 {
        PackedWeight::new(matrix)
    } else {
        PackedWeight::new((&matrix * factor).view())
    };
    Ok(Some(Weight::Float(weight)))
}

/// A product with a constant matrix, and what follows it as far as one pass can do it: bias, a factor, activation,
/// residual.
fn linear(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
    let Some(product) = matrix_product(graph, node) else {
        return Ok(None);
    };
    let out = product.size[0];
    let (mut bias, mut factor) = (None::<Vec<f32>>, 1.0);
    let (mut activation, mut residual) = (None, None);
    let mut output = OutletId::new(node.id, 0);
    loop {
        let made = {
            if activation.is_none() && residual.is_none() {
                activation = activation_of(graph, output)?;
            }
            match activation {
                Some((_, end)) if residual.is_none() && end.node > output.node => Some(end),
                _ => graph.only_use(output),
            }
        };
        let Some(next) = made else { break };
        let finished = activation.is_some() || residual.is_some();
        let rearranged =
            graph.keeps_order(next) && graph.shape(next).and_then(<[_]>::last) == Some(&out);
        if rearranged || activation.is_some_and(|(_, end)| end == next) {
            output = next;
        } else if let Some((_, addend)) = graph.with_constant::<Add>(next)
            && let Some(numbers) = graph.last_axis(addend)
            && !finished
            && bias.is_none()
            && factor == 1.0
            && numbers.len() == out
            && graph.shape(next).map(volume) == graph.shape(output).map(volume)
        {
            bias = Some(numbers);
            output = next;
        } else if let Some((_, by)) = graph.scaled(next).filter(|_| !finished) {
            factor *= by;
            output = next;
        } else if let Some([a, b]) = graph.binary::<Add>(next).filter(|_| residual.is_none())
            && let other = if a == output { b } else { a }
            && other != output
            && !graph.is_constant(other)
            && graph.shape(other) == graph.shape(output)
            && graph.shape(next) == graph.shape(output)
        {
            residual = Some(other);
            output = next;
        } else {
            break;
        }
    }
    let Some(shape) = graph
        .shape(output)
        .filter(|shape| shape.last() == Some(&out))
    else {
        return Ok(None);
    };
    let weight = weight(
        graph,
        product.weight,
        product.size,
        product.channels,
        product.transposed,
        factor,
    )?;
    let Some(weight) = weight else {
        return Ok(None);
    };
    let inputs = [Some(graph.behind(product.input)), residual];
    Ok(Some(Found {
        inputs: inputs.into_iter().flatten().collect(),
        operator: Box::new(Linear {
            weight: Arc::new(weight),
            bias: bias.map(|bias| Arc::new(bias.into_iter().map(|b| b * factor).collect())),
            activation: activation.map(|(activation, _)| activation),
            residual: residual.is_some(),
            shape: shape.into(),
        }),
        output,
    }))
}

/// A product with a constant matrix over the last axis.
struct Product {
    input: OutletId,
    weight: OutletId,
    /// `[out, in]`
    size: [usize; 2],
    /// The weight's axis of output channels.
    channels: usize,
    /// Whether that comes after the weight's other axis.
    transposed: bool,
}

fn matrix_product(graph: Graph, node: &TypedNode) -> Option<Product> {
    let (einsum, inputs) = graph.product(OutletId::new(node.id, 0))?;
    let constant = usize::from(!graph.is_constant(inputs[0]));
    let (weight, input) = (inputs[constant], inputs[1 - constant]);
    (graph.is_constant(weight) && !graph.is_constant(input)).then_some(())?;
    let (weights, rows) = (graph.shape(weight)?, graph.shape(input)?);
    let results = graph.shape(OutletId::new(node.id, 0))?;
    let (mut contracted, mut produced, mut long) = (None, None, 0);
    for axis in einsum.axes.iter_all_axes() {
        let place = |places: &TVec<usize>| match places[..] {
            [] => Some(None),
            [place] => Some(Some(place)),
            _ => None,
        };
        let (own, theirs, result) = (
            place(&axis.inputs[constant])?,
            place(&axis.inputs[1 - constant])?,
            place(&axis.outputs[0])?,
        );
        match (own, theirs, result) {
            (Some(own), Some(theirs), None) if contracted.is_none() => {
                contracted = Some(own).filter(|_| theirs + 1 == rows.len());
            }
            (Some(own), None, Some(result)) if produced.is_none() => {
                produced = Some(own).filter(|_| result + 1 == results.len());
            }
            // What the weight shares with the rows must be of length one, or it is many products.
            (Some(own), Some(_), Some(_)) if weights.get(own) == Some(&1) => {}
            (None, Some(theirs), Some(_)) => {
                // With a single axis of rows there is no order of rows to get wrong.
                long += usize::from(rows.get(theirs) != Some(&1));
            }
            _ => return None,
        }
    }
    let (contracted, produced) = (contracted?, produced?);
    let size = [*weights.get(produced)?, *weights.get(contracted)?];
    let fits = long <= 1
        && volume(weights) == size[0] * size[1]
        && volume(rows) / size[1].max(1) == volume(results) / size[0].max(1);
    fits.then_some(Product {
        input,
        weight,
        size,
        channels: produced,
        transposed: produced > contracted,
    })
}

fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Operators that an activation is at most made of.
const LONGEST_ACTIVATION: usize = 24;

/// Which activation is computed from `from` and nothing else, and where it ends: found out by running it, so that no way
/// of writing one is unknown.
fn activation_of(graph: Graph, from: OutletId) -> TractResult<Option<(Activation, OutletId)>> {
    const PROBES: usize = 97;
    let Some(shape) = graph.shape(from) else {
        return Ok(None);
    };
    let inputs: Vec<f32> = (0..PROBES).map(|i| 0.125 * (i as f32 - 48.0)).collect();
    let mut probe = vec![1; shape.len()];
    let Some(last) = probe.last_mut() else {
        return Ok(None);
    };
    *last = PROBES;
    let probe = Tensor::from_shape(&probe, &inputs)?.into_tvalue();
    let mut known = vec![(from, probe)];
    let value = |known: &[(OutletId, TValue)], outlet: OutletId| -> Option<TValue> {
        let found = known.iter().find(|(at, _)| *at == outlet);
        found.map(|(_, value)| value.clone()).or_else(|| {
            let tensor = graph.tensor(outlet).filter(|tensor| tensor.len() == 1)?;
            Some(tensor.clone().into_tvalue())
        })
    };
    while known.len() <= LONGEST_ACTIVATION {
        // What is made of values that are known already, in the order of the graph.
        let uses = known.iter().flat_map(|(at, _)| {
            let output = graph.node(*at).outputs.get(at.slot);
            output.map_or(&[][..], |output| &output.successors[..])
        });
        let fresh = uses
            .map(|inlet| OutletId::new(inlet.node, 0))
            .filter(|next| !known.iter().any(|(at, _)| at == next));
        let Some(next) = fresh.min_by_key(|next| next.node) else {
            return Ok(None);
        };
        let node = graph.node(next);
        let elementwise = node.op_is::<ElementWiseOp>() || node.op_is::<TypedBinOp>();
        let values = node.inputs.iter().map(|&input| value(&known, input));
        let Some(values) = values.collect::<Option<TVec<TValue>>>() else {
            return Ok(None);
        };
        if !elementwise || graph.shape(next) != Some(shape) {
            return Ok(None);
        }
        let Some(outputs) = node.op.eval_out_of_plan(values)? else {
            return Ok(None);
        };
        known.push((next, outputs[0].clone()));
        // An activation is whole when nothing else is made of its parts.
        let whole = known.iter().all(|(at, _)| {
            *at == next
                || !graph.0.outputs.contains(at)
                    && graph.node(*at).outputs[at.slot]
                        .successors
                        .iter()
                        .all(|inlet| known.iter().any(|(at, _)| at.node == inlet.node))
        });
        let results = outputs[0].to_plain_array_view::<f32>()?;
        if !whole || results.len() != PROBES {
            continue;
        }
        let error = |activation: Activation| {
            let pairs = inputs.iter().zip(&results);
            pairs.fold(0f32, |most, (&x, &y)| {
                most.max((activation.value(x) - y).abs())
            })
        };
        // The two forms of GELU differ by 5e-4 at most; an implementation of either, by far less.
        let all = [
            Activation::QuickGelu,
            Activation::Gelu,
            Activation::GeluTanh,
        ];
        if let Some(activation) = all.into_iter().find(|&one| error(one) < 5e-5) {
            return Ok(Some((activation, next)));
        }
    }
    Ok(None)
}

/// Softmax of the products of queries and keys, times the values, head by head; its heart is the softmax.
fn attention(graph: Graph, node: &TypedNode) -> TractResult<Option<Found>> {
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
