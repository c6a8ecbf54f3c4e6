//! Recognises activations by what they compute, however they are written. It must not know what they follow.

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::element_wise::ElementWiseOp;

use super::Graph;
use crate::ops::Activation;

/// Operators that an activation is at most made of.
const LONGEST_ACTIVATION: usize = 24;

/// Which activation is computed from `from` and nothing else, and where it ends: found out by running it, so that no way
/// of writing one is unknown.
pub fn activation_of(graph: Graph, from: OutletId) -> TractResult<Option<(Activation, OutletId)>> {
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
