//! Recognises how a text tower makes a feature of its rows: one of them, their mean, or a head of attention over them.

use ndarray::{Array2, Axis};
use tract_core::internal::*;
use tract_core::ops::math::Add;
use tract_core::ops::nn::{Reduce, Softmax};

use super::layers::{LinearLayer, NormLayer, linear, norm};
use super::{MlpBranch, Recogniser, Unrecognised, linear_weights};
use crate::clip::graph::Cut;
use crate::clip::text_tower::{Pooling, PoolingHeadWeights};

/// What stands between the residual stream and the projection.
pub(super) struct Pooled {
    pub final_norm: NormLayer,
    /// The residual stream after the last block.
    pub stream: OutletId,
    /// Where the feature is read; nothing where that is no place known.
    pub pooling: Option<Pooling>,
    /// What reads it by attention.
    pub head: Option<Head>,
}

/// A head of attention whose query is constant, and its MLP.
pub(super) struct Head {
    /// `[heads, width]`
    scores: Array2<f32>,
    value: LinearLayer,
    out: LinearLayer,
    pub mlp: MlpBranch,
}

impl Recogniser<'_> {
    /// What makes the row at `pooled`, which goes into the projection.
    pub(super) fn pooled(&self, pooled: OutletId) -> Result<Pooled, Unrecognised> {
        if let Some((trunk, mlp)) = self.pooling_mlp(pooled) {
            return self.pooled_by_attention(trunk, mlp);
        }
        let (final_norm, stream, pooling) = self.pooled_norm(pooled)?;
        Ok(Pooled {
            final_norm,
            stream,
            pooling,
            head: None,
        })
    }

    /// The final norm and the pooling, in either order: the norm, the residual stream, and where the feature is read.
    fn pooled_norm(
        &self,
        pooled: OutletId,
    ) -> Result<(NormLayer, OutletId, Option<Pooling>), Unrecognised> {
        let before = norm(self.graph, pooled);
        let mut at = before.as_ref().map_or(pooled, |norm| norm.input);
        let mut pooling = Some(Pooling::End);
        while self.graph.volume(at) != Some(self.length * self.width) {
            let node = self.graph.node(at);
            if let Some(cut) = self.of_sequence(at) {
                // Whether a tower may be read elsewhere is asked last: BERT's is read at the first token.
                let last = cut.start + 1 == self.length;
                pooling = last.then_some(Pooling::Last);
            } else if node.op_is::<Reduce>() {
                pooling = Some(Pooling::Mean);
            }
            let inputs = &node.inputs;
            let float = inputs
                .iter()
                .copied()
                .find(|&input| self.graph.is_float(input) && !self.graph.is_constant(input));
            at = float.ok_or_else(|| {
                self.unrecognised(
                    "the pooling of one row of the sequence, of their mean or by attention",
                    pooled,
                )
            })?;
        }
        if pooling == Some(Pooling::Mean) && before.is_some() {
            return Err(self.unrecognised("the final layer norm before the mean", pooled));
        }
        let found = before.map(|norm| (norm, at, pooling)).or_else(|| {
            let norm = norm(self.graph, at)?;
            let input = norm.input;
            Some((norm, input, pooling))
        });
        found.ok_or_else(|| self.unrecognised("the final layer norm", at))
    }

    /// One row that is cut out of the whole sequence.
    fn of_sequence(&self, at: OutletId) -> Option<Cut> {
        let cut = self.graph.cut(at)?;
        let whole = *self.graph.shape(cut.input)?.get(cut.axis)?;
        (whole == self.length && cut.length == 1).then_some(cut)
    }

    /// The residual sum over one row that ends a head of attention: the row before, and its MLP.
    fn pooling_mlp(&self, pooled: OutletId) -> Option<(OutletId, MlpBranch)> {
        let graph = self.graph;
        let mut at = graph.behind(pooled);
        // The one row of one.
        while let Some(cut) = graph.cut(at)
            && graph.volume(cut.input) == graph.volume(at)
        {
            at = graph.behind(cut.input);
        }
        let [a, b] = graph
            .binary::<Add>(at)
            .filter(|_| graph.volume(at) == Some(self.width))?;
        // Both are linear layers: the branch is the one that starts at the other.
        [(a, b), (b, a)].into_iter().find_map(|(trunk, branch)| {
            let trunk = graph.behind(trunk);
            let mlp = self.mlp(linear(graph, branch)?).ok()?;
            (mlp.norm.input == trunk).then_some((trunk, mlp))
        })
    }

    fn pooled_by_attention(&self, at: OutletId, mlp: MlpBranch) -> Result<Pooled, Unrecognised> {
        let graph = self.graph;
        let out = self.linear(at, "the output of attention that pools")?;
        let mixed = graph.behind(out.input);
        let operands = self.variable_product(mixed, "the product of attention and values")?;
        let [probabilities, values] = match operands {
            [a, b] if graph.operator::<Softmax>(graph.behind(a)).is_some() => [graph.behind(a), b],
            [a, b] => [graph.behind(b), a],
        };
        if graph.operator::<Softmax>(probabilities).is_none() {
            return Err(self.unrecognised("the softmax of attention that pools", probabilities));
        }
        let scores = graph.behind(graph.node(probabilities).inputs[0]);
        let (scores, scale) = match graph.scaled(scores) {
            Some((input, factor)) => (graph.behind(input), factor),
            None => (scores, 1.0),
        };
        let heads = graph.volume(scores).unwrap_or(0) / self.length;
        let expected = "a constant query of attention that pools, and keys";
        let (query, keys) = self
            .constant_query(scores, heads)
            .ok_or_else(|| self.unrecognised(expected, scores))?;
        let key = self.linear(keys, "keys of attention that pools")?;
        let value = self.linear(values, "values of attention that pools")?;
        if key.input != value.input || key.weight.dim() != (self.width, self.width) {
            return Err(self.unrecognised("keys and values of the final layer norm", keys));
        }
        let final_norm = self.norm(key.input)?;
        let (stream, head) = (final_norm.input, query.ncols());
        let mut of_rows = Array2::zeros((heads, self.width));
        for (index, mut row) in of_rows.axis_iter_mut(Axis(0)).enumerate() {
            let keys = key.weight.slice_axis(
                Axis(0),
                ndarray::Slice::from(index * head..(index + 1) * head),
            );
            row.assign(&(query.row(index).dot(&keys) * scale * key.scale));
        }
        Ok(Pooled {
            final_norm,
            stream,
            pooling: Some(Pooling::Attention),
            head: Some(Head {
                scores: of_rows,
                value,
                out,
                mlp,
            }),
        })
    }

    /// The constant operand of a product as `[heads, width of a head]`, and the other one.
    fn constant_query(&self, scores: OutletId, heads: usize) -> Option<(Array2<f32>, OutletId)> {
        let (einsum, inputs) = self.graph.product(scores)?;
        let constant = usize::from(!self.graph.is_constant(inputs[0]));
        let (query, keys) = (self.graph.constant(inputs[constant])?, inputs[1 - constant]);
        let divides = heads > 0 && self.width.is_multiple_of(heads) && query.len() == self.width;
        if !divides || self.graph.is_constant(keys) {
            return None;
        }
        let (mut of_heads, mut within, mut rest) = (vec![], vec![], vec![]);
        for axis in einsum.axes.iter_all_axes() {
            let Some(&own) = axis.inputs[constant].first() else {
                continue;
            };
            match query.shape()[own] {
                1 => rest.push(own),
                _ if axis.outputs[0].is_empty() => within.push(own),
                _ => of_heads.push(own),
            }
        }
        let order: Vec<usize> = [rest, of_heads, within].concat();
        (order.len() == query.ndim()).then_some(())?;
        let query = query.permuted_axes(order).as_standard_layout().into_owned();
        let query = query.into_shape_with_order((heads, self.width / heads));
        Some((query.ok()?, keys))
    }

    pub(super) fn head_weights(&self, head: Head) -> PoolingHeadWeights {
        PoolingHeadWeights {
            scores: head.scores,
            value: linear_weights(head.value),
            out: linear_weights(head.out),
            norm: self.norm_weights(head.mlp.norm),
            up: linear_weights(head.mlp.up),
            down: linear_weights(head.mlp.down),
        }
    }
}
