//! Recognises the attention of a text tower backwards from its output projection, and what its mask lets through.

use ndarray::Array2;
use tract_core::internal::*;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::Add;
use tract_core::ops::nn::Softmax;

use super::layers::LinearLayer;
use super::{AttentionBranch, Recogniser, Sight, Unrecognised};
use crate::clip::graph::guard::guarded;

impl Recogniser<'_> {
    pub(super) fn attention(&self, out: LinearLayer) -> Result<AttentionBranch, Unrecognised> {
        let graph = self.graph;
        let mixed = graph.behind(out.input);
        let operands = self.variable_product(mixed, "the product of attention and values")?;
        let [probabilities, values] = match operands {
            [a, b] if graph.operator::<Softmax>(graph.behind(a)).is_some() => [graph.behind(a), b],
            [a, b] => [graph.behind(b), a],
        };
        let (scores, heads, sight) = self.masked_scores(probabilities)?;
        let (scores, scale) = match graph.scaled(scores) {
            Some((input, factor)) => (graph.behind(input), factor),
            None => (scores, 1.0),
        };
        let [queries, keys] = self.queries_and_keys(scores)?;
        let mut query = self.linear(queries, "queries")?;
        let (key, value) = (self.linear(keys, "keys")?, self.linear(values, "values")?);
        if query.input != key.input || key.input != value.input {
            return Err(self.unrecognised("queries, keys and values of one layer norm", queries));
        }
        // The tower divides scores by the root of a head's width; whatever the export does otherwise goes to the queries.
        let usual = ((query.weight.nrows() / heads.max(1)) as f32).sqrt();
        query.scale *= scale * key.scale * usual;
        if (query.scale - 1.0).abs() < 1e-5 {
            query.scale = 1.0;
        }
        Ok(AttentionBranch {
            norm: self.norm(query.input)?,
            query,
            key: LinearLayer { scale: 1.0, ..key },
            value,
            out,
            heads,
            sight,
        })
    }

    /// The scores that a softmax makes probabilities of once they are masked, the number of heads, and what the mask lets
    /// through; without one, all.
    fn masked_scores(
        &self,
        probabilities: OutletId,
    ) -> Result<(OutletId, usize, Sight), Unrecognised> {
        let graph = self.graph;
        if graph.operator::<Softmax>(probabilities).is_none() {
            return Err(self.unrecognised("the softmax of attention", probabilities));
        }
        let masked = graph.behind(graph.node(probabilities).inputs[0]);
        let heads = graph.volume(masked).unwrap_or(1) / (self.length * self.length);
        let (scores, mask) = match graph.binary::<Add>(masked) {
            None => return Ok((masked, heads, Sight::All)),
            Some([a, b]) if self.is_product(a) => (a, b),
            Some([a, b]) => (b, a),
        };
        let sight = self.mask(mask).and_then(|mask| sight(&mask));
        let expected = "a mask that is causal, hides padding or nothing";
        let sight = sight.ok_or_else(|| self.unrecognised(expected, mask))?;
        Ok((graph.behind(scores), heads, sight))
    }

    /// Whether a value is a product of two variables, scaled or not.
    fn is_product(&self, at: OutletId) -> bool {
        let at = self.graph.behind(at);
        let at = match self.graph.scaled(at) {
            Some((input, _)) => self.graph.behind(input),
            None => at,
        };
        self.variable_product(at, "").is_ok()
    }

    /// The ids of a short text with its padding.
    fn probe(&self) -> (Vec<i64>, usize) {
        let start = self.texts.start_token;
        let words = start.into_iter().chain([2, 3, self.texts.end_token]);
        let mut ids: Vec<i64> = words.map(i64::from).take(self.length).collect();
        let tokens = ids.len();
        ids.resize(self.length, self.texts.padding.into());
        (ids, tokens)
    }

    /// What a mask adds to the scores, however it is computed: `[length, length]`. One that is computed is asked with a
    /// short text, of which the rows count that are not padding.
    fn mask(&self, mask: OutletId) -> Option<Mask> {
        let (values, tokens) = match self.graph.constant(mask) {
            Some(constant) => (constant, self.length),
            None => {
                let (ids, tokens) = self.probe();
                let mut model = self.graph.0.clone();
                let run = guarded("compute the mask", || {
                    let kind = model.input_fact(0)?.datum_type;
                    model.select_output_outlets(&[mask])?;
                    model.compact()?;
                    let ids = Tensor::from_shape(&[1, ids.len()], &ids)?;
                    let ids = ids.cast_to_dt(kind)?.into_owned();
                    let found = model.into_runnable()?.run(tvec!(ids.into()))?;
                    let found = found[0].cast_to::<f32>()?;
                    Ok(found.to_plain_array_view::<f32>()?.to_owned())
                });
                (run.ok()?, tokens)
            }
        };
        // The same for every head.
        let shape = values.shape();
        let [rows, columns] =
            [shape.len().checked_sub(2)?, shape.len() - 1].map(|axis| shape[axis]);
        if values.len() != rows * columns || columns != self.length {
            return None;
        }
        let flat = values.into_shape_with_order((rows, columns)).ok()?;
        let scores = flat.broadcast((self.length, self.length))?.to_owned();
        Some(Mask { scores, tokens })
    }

    fn queries_and_keys(&self, scores: OutletId) -> Result<[OutletId; 2], Unrecognised> {
        let graph = self.graph;
        let [first, second] = self.variable_product(scores, "the product of queries and keys")?;
        // The softmax runs over keys: they are the operand that has the last axis of the scores.
        let keys_first = graph.operator::<EinSum>(scores).is_some_and(|einsum| {
            let last = graph.shape(scores).map_or(0, <[_]>::len).saturating_sub(1);
            let axis = einsum.axes.axis((InOut::Out(0), last));
            axis.is_ok_and(|axis| !axis.inputs[0].is_empty())
        });
        Ok(if keys_first {
            [second, first]
        } else {
            [first, second]
        })
    }

    pub(super) fn variable_product(
        &self,
        at: OutletId,
        expected: &str,
    ) -> Result<[OutletId; 2], Unrecognised> {
        let inputs = self
            .graph
            .operator::<EinSum>(at)
            .map(|_| &self.graph.node(at).inputs[..]);
        match inputs {
            Some(&[a, b]) if !self.graph.is_constant(a) && !self.graph.is_constant(b) => Ok([a, b]),
            _ => Err(self.unrecognised(expected, at)),
        }
    }
}

/// What is added to the scores of a text.
struct Mask {
    scores: Array2<f32>,
    /// The rows that are not padding.
    tokens: usize,
}

/// What a mask lets through: it adds nothing, or practically minus infinity.
fn sight(mask: &Mask) -> Option<Sight> {
    let is = |sees: &dyn Fn(usize, usize) -> bool| {
        let rows = mask.scores.indexed_iter();
        let mut all = rows.filter(|((row, _), _)| *row < mask.tokens);
        all.all(|((row, column), &value)| {
            if sees(row, column) {
                value.abs() < 1e-6
            } else {
                value < -1e4
            }
        })
    };
    if is(&|row, column| column <= row) {
        Some(Sight::Before)
    } else if is(&|_, _| true) {
        Some(Sight::All)
    } else if is(&|_, column| column < mask.tokens) {
        Some(Sight::AllButPadding)
    } else {
        None
    }
}
