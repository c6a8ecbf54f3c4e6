//! Recognises activations by what they compute, however an exporter writes them.

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::element_wise::ElementWiseOp;

use super::Graph;
use crate::ops::Activation;

const KNOWN: [Activation; 3] = [
    Activation::QuickGelu,
    Activation::Gelu,
    Activation::GeluTanh,
];
/// Operators that an activation is at most made of. GELU by its hyperbolic tangent has ten where every step is written
/// out; an export in half precision may have a conversion before and after each.
const MOST_OPERATORS: usize = 32;
/// How far a piece of a graph may be from an activation that it is taken for. The two forms of GELU, which are the
/// closest, are 4.7e-4 apart: anything below half of that tells them apart. Constants in half precision move either
/// form, and QuickGELU, by up to 3e-5 and do not make it another function.
const TOLERANCE: f32 = 1e-4;
/// The values that are tried: from -6 to 6, beyond which all three are constant or the identity.
const PROBES: usize = 97;

fn probes() -> Vec<f32> {
    (0..PROBES).map(|i| 0.125 * (i as f32 - 48.0)).collect()
}

/// The activation that is computed from `from` and nothing else, and the value that is its result: found out by running
/// the operators, so that no way of writing one is unknown.
pub fn activation_from(
    graph: Graph,
    from: OutletId,
) -> TractResult<Option<(Activation, OutletId)>> {
    rule_if_some!(shape = graph.f32_shape(from).filter(|shape| !shape.is_empty()));
    let mut probe = vec![1; shape.len() - 1];
    probe.push(PROBES);
    let probe = Tensor::from_shape(&probe, &probes())?;
    let mut walk = Walk {
        graph,
        known: vec![(from, probe.into_tvalue())],
    };
    while walk.known.len() <= MOST_OPERATORS {
        rule_if_some!((next, inputs) = walk.next());
        let node = graph.node(next);
        rule_if!(graph.f32_shape(next) == Some(shape));
        let result = if node.op_is::<Cast>() {
            // From f32 to f32, as files in half precision are full of once they are read as f32.
            inputs[0].clone()
        } else {
            rule_if!(node.op_is::<ElementWiseOp>() || node.op_is::<TypedBinOp>());
            rule_if_some!(outputs = node.op.eval_out_of_plan(inputs)?);
            outputs[0].clone()
        };
        walk.known.push((next, result.clone()));
        if !walk.is_whole(next) {
            continue;
        }
        let numbers = result.to_plain_array_view::<f32>()?;
        if let Some(activation) = closest(numbers.iter().copied()) {
            return Ok(Some((activation, next)));
        }
    }
    Ok(None)
}

/// The activation that has these values at the probes.
fn closest(values: impl ExactSizeIterator<Item = f32> + Clone) -> Option<Activation> {
    let error = |activation: Activation| {
        let pairs = probes().into_iter().zip(values.clone());
        pairs.fold(0f32, |most, (x, y)| {
            let error = (activation.value(x) - y).abs();
            // An activation is a number everywhere.
            if error.is_nan() {
                f32::INFINITY
            } else {
                most.max(error)
            }
        })
    };
    let errors = KNOWN.map(|activation| (activation, error(activation)));
    let best = errors.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
    best.filter(|(_, error)| values.len() == PROBES && *error < TOLERANCE)
        .map(|(activation, _)| activation)
}

/// The operators after a value, with what they make of the probes.
struct Walk<'a> {
    graph: Graph<'a>,
    known: Vec<(OutletId, TValue)>,
}

impl Walk<'_> {
    /// What a value is for the probes: computed already, or one number.
    fn value(&self, outlet: OutletId) -> Option<TValue> {
        let found = self.known.iter().find(|(at, _)| *at == outlet);
        found.map(|(_, value)| value.clone()).or_else(|| {
            let tensor = self.graph.tensor(outlet)?;
            (tensor.len() == 1).then(|| tensor.clone().into_tvalue())
        })
    }

    fn is_known(&self, node: usize) -> bool {
        self.known.iter().any(|(at, _)| at.node == node)
    }

    /// The nodes that take a value.
    fn uses(&self, outlet: OutletId) -> &[InletId] {
        let output = self.graph.node(outlet).outputs.get(outlet.slot);
        output.map_or(&[], |output| &output.successors)
    }

    /// The first operator, in the order of the graph, whose operands are known and whose result is not.
    fn next(&self) -> Option<(OutletId, TVec<TValue>)> {
        let uses = self.known.iter().flat_map(|(at, _)| self.uses(*at));
        let fresh = uses.map(|inlet| inlet.node);
        let fresh = fresh.filter(|&node| !self.is_known(node));
        let ready = fresh.filter_map(|node| {
            let inputs = &self.graph.0.node(node).inputs;
            let values = inputs
                .iter()
                .map(|&input| self.value(input))
                .collect::<Option<_>>()?;
            Some((OutletId::new(node, 0), values))
        });
        ready.min_by_key(|(outlet, _)| outlet.node)
    }

    /// Whether nothing but `last` is used outside of the walk.
    fn is_whole(&self, last: OutletId) -> bool {
        self.known.iter().all(|&(at, _)| {
            let inside = || self.uses(at).iter().all(|inlet| self.is_known(inlet.node));
            at == last || !self.graph.0.outputs.contains(&at) && inside()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_core::ops::math;

    const SQRT_2_BY_PI: f32 = 0.797_884_6;

    /// A graph of one input, and the operators that `write` puts after it; then what is found.
    fn found(
        write: impl Fn(&mut TypedModel, OutletId) -> TractResult<OutletId>,
    ) -> Option<Activation> {
        let mut model = TypedModel::default();
        let x = model.add_source("x", f32::fact([1, 3, 8])).unwrap();
        let end = write(&mut model, x).unwrap();
        let end = model.wire_node("end", math::neg(), &[end]).unwrap();
        model.select_output_outlets(&end).unwrap();
        let found = activation_from(Graph(&model), x).unwrap();
        found.map(|(activation, _)| activation)
    }

    /// Applies a binary operator to a value and a number.
    fn with(
        model: &mut TypedModel,
        name: &str,
        operator: TypedBinOp,
        x: OutletId,
        number: f32,
    ) -> TractResult<OutletId> {
        let number = Tensor::from_shape(&[1, 1, 1], &[number])?;
        let number = model.add_const(format!("{name}.number"), number)?;
        Ok(model.wire_node(name, operator, &[x, number])?[0])
    }

    /// `x * sigmoid(factor * x)`
    fn sigmoid_form(factor: f32) -> Option<Activation> {
        found(|model, x| {
            let scaled = with(model, "scaled", math::mul(), x, factor)?;
            let gate = model.wire_node("gate", tract_core::ops::nn::sigmoid(), &[scaled])?;
            Ok(model.wire_node("y", math::mul(), &[x, gate[0]])?[0])
        })
    }

    /// `x * (1 + tanh(factor * (x + cube * x^3))) / 2`
    fn tanh_form(factor: f32, cube: f32) -> Option<Activation> {
        found(|model, x| {
            let square = model.wire_node("square", math::mul(), &[x, x])?[0];
            let third = model.wire_node("third", math::mul(), &[square, x])?[0];
            let third = with(model, "cubed", math::mul(), third, cube)?;
            let sum = model.wire_node("sum", math::add(), &[x, third])?[0];
            let sum = with(model, "scaled", math::mul(), sum, factor)?;
            let tanh = model.wire_node("tanh", math::tanh(), &[sum])?[0];
            let tanh = with(model, "raised", math::add(), tanh, 1.0)?;
            let y = model.wire_node("product", math::mul(), &[x, tanh])?[0];
            with(model, "y", math::mul(), y, 0.5)
        })
    }

    /// `x * (1 + erf(factor * x)) / 2`
    fn erf_form(factor: f32) -> Option<Activation> {
        found(|model, x| {
            let scaled = with(model, "scaled", math::mul(), x, factor)?;
            let erf = model.wire_node("erf", math::erf(), &[scaled])?[0];
            let erf = with(model, "raised", math::add(), erf, 1.0)?;
            let y = model.wire_node("product", math::mul(), &[x, erf])?[0];
            with(model, "y", math::mul(), y, 0.5)
        })
    }

    #[test]
    fn every_activation_is_found_and_told_from_the_others() {
        assert_eq!(sigmoid_form(1.702), Some(Activation::QuickGelu));
        assert_eq!(erf_form(0.5f32.sqrt()), Some(Activation::Gelu));
        let tanh = tanh_form(SQRT_2_BY_PI, 0.044715);
        assert_eq!(tanh, Some(Activation::GeluTanh));
    }

    #[test]
    fn constants_in_half_precision_are_the_same_activation() {
        let half = |number: f32| f16::from_f32(number).to_f32();
        assert_eq!(sigmoid_form(half(1.702)), Some(Activation::QuickGelu));
        assert_eq!(erf_form(half(0.5f32.sqrt())), Some(Activation::Gelu));
        let tanh = tanh_form(half(SQRT_2_BY_PI), half(0.044715));
        assert_eq!(tanh, Some(Activation::GeluTanh));
    }

    #[test]
    fn other_functions_are_not_recognised() {
        // SiLU, and functions in between.
        assert_eq!(sigmoid_form(1.0), None);
        assert_eq!(sigmoid_form(1.71), None);
        assert_eq!(tanh_form(SQRT_2_BY_PI, 0.05), None);
        assert_eq!(erf_form(0.7), None);
        assert_eq!(found(|_, x| Ok(x)), None);
        let not_a_number = |model: &mut TypedModel, x| {
            let zero = with(model, "zero", math::mul(), x, 0.0)?;
            Ok(model.wire_node("y", math::div(), &[zero, zero])?[0])
        };
        assert_eq!(found(not_a_number), None);
    }

    #[test]
    fn a_value_that_is_read_elsewhere_is_not_part_of_an_activation() {
        let leaking = found(|model, x| {
            let scaled = with(model, "scaled", math::mul(), x, 1.702)?;
            let gate = model.wire_node("gate", tract_core::ops::nn::sigmoid(), &[scaled])?[0];
            let y = model.wire_node("y", math::mul(), &[x, gate])?[0];
            Ok(model.wire_node("leak", math::add(), &[y, gate])?[0])
        });
        assert_eq!(leaking, None);
    }
}
