//! Recognises a causal text transformer in a decluttered graph by its data flow, from the features back to the token
//! table, and takes its weights out. Whatever is read here is a proposal: parity with the original decides.

use ndarray::{Array1, Array2, Axis};
use thiserror::Error;
use tract_core::internal::*;
use tract_core::ops::array::Gather;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{Add, Div, Mul};
use tract_core::ops::nn::Softmax;

use super::graph::{Linear, Norm, Walker};
use crate::clip::text_tower::{BlockWeights, LinearWeights, NormWeights, TextTowerWeights};
use crate::ops::Activation;

/// What stands where a part of a text tower was expected.
#[derive(Debug, Error)]
#[error(
    "the text tower is not one that can be adapted: expected {expected} at node `{node}` ({operator})"
)]
pub struct Unrecognised {
    expected: String,
    node: String,
    operator: String,
}

/// Operators that an activation is at most made of.
const LONGEST_ACTIVATION: usize = 64;

/// A block as it is met from above: the MLP first.
struct Mlp {
    norm: Norm,
    up: Linear,
    down: Linear,
    activation: Activation,
}

struct Attention {
    norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

struct Recogniser<'a> {
    graph: Walker<'a>,
    /// Length of the sequence, and the width of a token.
    length: usize,
    width: usize,
}

/// Takes the weights of the text tower out of `model`, whose one input is `[1, length]` token ids and whose one output
/// is `[1, e]` features.
pub fn recognise(
    model: &TypedModel,
    start_token: u32,
    end_token: u32,
) -> Result<TextTowerWeights, Unrecognised> {
    let graph = Walker(model);
    let outlets = (model.output_outlets().ok(), model.input_outlets().ok());
    let (Some(&[output]), Some(&[input])) = (outlets.0, outlets.1) else {
        let operator = format!(
            "{} inputs, {} outputs",
            model.inputs.len(),
            model.outputs.len()
        );
        return Err(Unrecognised {
            expected: "one input and one output".into(),
            node: "graph".into(),
            operator,
        });
    };
    let mut this = Recogniser {
        graph,
        length: graph.volume(input),
        width: 0,
    };
    if this.length == 0 {
        return Err(this.unrecognised("a sequence of at least one token", input));
    }
    let output = this.before_normalisation(output);
    let projection = graph.linear(output).ok_or_else(|| {
        let expected = "the projection to the joint space (transformers: CLIPTextModelWithProjection, not CLIPTextModel)";
        this.unrecognised(expected, output)
    })?;
    this.width = projection.weight.ncols();
    let (final_norm, mut stream) = this.pooled_norm(projection.input)?;

    let (mut blocks, mut mlp, mut activation, mut heads) =
        (Vec::<BlockWeights>::new(), None, None, None);
    let (token_embedding, positions) = loop {
        stream = graph.behind(stream);
        let sum = graph
            .binary::<Add>(stream)
            .ok_or_else(|| this.unrecognised("a residual sum", stream))?;
        if let Some((tokens, positions)) = graph.with_constant::<Add>(stream) {
            break (this.token_table(tokens)?, this.position_table(positions)?);
        }
        let [trunk, branch] = if graph.linear(sum[1]).is_some() {
            sum
        } else {
            [sum[1], sum[0]]
        };
        let last = graph
            .linear(branch)
            .ok_or_else(|| this.unrecognised("a linear layer before the residual sum", branch))?;
        let trunk = graph.behind(trunk);
        let norm_input = match mlp.take() {
            None => {
                let found = this.mlp(last)?;
                let input = found.norm.input;
                let same = *activation.get_or_insert(found.activation) == found.activation;
                same.then_some(()).ok_or_else(|| {
                    this.unrecognised("the activation of the other blocks", branch)
                })?;
                mlp = Some(found);
                input
            }
            Some(found) => {
                let attention = this.attention(last)?;
                let same = *heads.get_or_insert(attention.heads) == attention.heads;
                same.then_some(()).ok_or_else(|| {
                    this.unrecognised("the number of heads of the other blocks", branch)
                })?;
                let input = attention.norm.input;
                blocks.push(this.block(attention, found));
                input
            }
        };
        if norm_input != trunk {
            return Err(this.unrecognised(
                "a branch that starts at its own residual stream",
                norm_input,
            ));
        }
        stream = trunk;
    };
    let (Some(heads), Some(activation), None) = (heads, activation, mlp) else {
        return Err(this.unrecognised("whole blocks of attention and MLP", stream));
    };
    blocks.reverse();
    let norms = blocks.iter().flat_map(|block| [&block.norm1, &block.norm2]);
    if norms
        .into_iter()
        .any(|norm| norm.epsilon != final_norm.epsilon)
    {
        return Err(this.unrecognised("one epsilon in all layer norms", output));
    }
    Ok(TextTowerWeights {
        token_embedding: token_embedding.into(),
        positions,
        blocks,
        final_norm: this.norm_weights(final_norm),
        projection_bias: projection.bias.map(|bias| bias * projection.scale),
        projection: (projection.weight * projection.scale).into(),
        heads,
        activation,
        start_token,
        end_token,
    })
}

impl Recogniser<'_> {
    fn unrecognised(&self, expected: &str, at: OutletId) -> Unrecognised {
        let node = self.graph.node(at);
        Unrecognised {
            expected: expected.into(),
            node: node.name.clone(),
            operator: node.op.name().into_owned(),
        }
    }

    /// Looks through a final L2 normalisation: features divided by, or multiplied with, one number.
    fn before_normalisation(&self, output: OutletId) -> OutletId {
        let at = self.graph.behind(output);
        let operands = self
            .graph
            .binary::<Div>(at)
            .or_else(|| self.graph.binary::<Mul>(at));
        match operands.map(|operands| operands.map(|operand| self.graph.behind(operand))) {
            Some([features, norm])
                if self.graph.volume(norm) == 1 && !self.graph.is_constant(norm) =>
            {
                features
            }
            Some([norm, features])
                if self.graph.volume(norm) == 1 && !self.graph.is_constant(norm) =>
            {
                features
            }
            _ => output,
        }
    }

    /// The final norm and the pooling at the end token, in either order: the norm, and the residual stream.
    fn pooled_norm(&self, pooled: OutletId) -> Result<(Norm, OutletId), Unrecognised> {
        let before = self.graph.norm(pooled);
        let mut at = before.as_ref().map_or(pooled, |norm| norm.input);
        while self.graph.volume(at) != self.length * self.width {
            let inputs = &self.graph.node(at).inputs;
            let float = inputs
                .iter()
                .copied()
                .find(|&input| self.graph.is_float(input) && !self.graph.is_constant(input));
            at = float.ok_or_else(|| {
                self.unrecognised("the pooling of one row of the sequence", pooled)
            })?;
        }
        let norm = before.map(|norm| (norm, at)).or_else(|| {
            let norm = self.graph.norm(at)?;
            let input = norm.input;
            Some((norm, input))
        });
        norm.ok_or_else(|| self.unrecognised("the final layer norm", at))
    }

    fn norm_of(&self, outlet: OutletId) -> Result<Norm, Unrecognised> {
        self.graph
            .norm(outlet)
            .ok_or_else(|| self.unrecognised("a layer norm", outlet))
    }

    fn mlp(&self, down: Linear) -> Result<Mlp, Unrecognised> {
        let at = self.linear_behind(down.input)?;
        let up = self
            .graph
            .linear(at)
            .ok_or_else(|| self.unrecognised("a linear layer before the activation", at))?;
        let activation = self.activation(at, down.input)?;
        Ok(Mlp {
            norm: self.norm_of(up.input)?,
            up,
            down,
            activation,
        })
    }

    /// The one linear layer that every path back from `from` meets first.
    fn linear_behind(&self, from: OutletId) -> Result<OutletId, Unrecognised> {
        let (mut open, mut seen, mut found) = (vec![from], Vec::new(), None);
        while let Some(at) = open.pop() {
            if self.graph.is_constant(at) || seen.contains(&at) {
                continue;
            }
            seen.push(at);
            if self
                .graph
                .linear(at)
                .is_some_and(|linear| linear.scale == 1.0)
            {
                let at = self.graph.behind(at);
                if found.replace(at).is_some_and(|other| other != at) {
                    return Err(self.unrecognised("an activation of one linear layer", at));
                }
                continue;
            }
            let node = self.graph.node(at);
            if node.op_is::<EinSum>() || node.inputs.is_empty() || seen.len() > LONGEST_ACTIVATION {
                return Err(self.unrecognised("an MLP of two linear layers", at));
            }
            open.extend(&node.inputs);
        }
        found.ok_or_else(|| self.unrecognised("a linear layer before the activation", from))
    }

    /// Which activation the part of the graph between two linear layers computes, found out by running it.
    fn activation(&self, from: OutletId, to: OutletId) -> Result<Activation, Unrecognised> {
        let count = self.graph.volume(from);
        let inputs: Vec<f32> = (0..count)
            .map(|i| 12.0 * (i as f32 / count as f32 - 0.5))
            .collect();
        let value = tract_ndarray::ArrayD::from_shape_vec(self.graph.shape(from), inputs.clone());
        let outputs = value
            .map_err(TractError::from)
            .and_then(|v| self.graph.evaluate(from, v.into_tensor(), to));
        let outputs =
            outputs.map_err(|_| self.unrecognised("an activation that tract can run", to))?;
        let error = |activation: &Activation| {
            let mut expected = Array2::from_shape_fn((1, count), |(_, i)| inputs[i]);
            activation.forward(&mut expected);
            expected
                .iter()
                .zip(&outputs)
                .fold(0f32, |most, (expected, y)| most.max((expected - y).abs()))
        };
        let known = [
            Activation::QuickGelu,
            Activation::Gelu,
            Activation::GeluTanh,
        ];
        // The two forms of GELU differ by 5e-4 at most; an implementation of either, by far less.
        let close = known
            .into_iter()
            .min_by(|a, b| error(a).total_cmp(&error(b)))
            .filter(|best| error(best) < 1e-4);
        close.ok_or_else(|| self.unrecognised("QuickGELU or GELU", to))
    }

    fn attention(&self, out: Linear) -> Result<Attention, Unrecognised> {
        let graph = self.graph;
        let mixed = graph.behind(out.input);
        let [probabilities, values] =
            self.variable_product(mixed, "the product of attention and values")?;
        let [probabilities, values] = match graph.operator::<Softmax>(graph.behind(probabilities)) {
            Some(_) => [graph.behind(probabilities), values],
            None => [graph.behind(values), probabilities],
        };
        let softmax = graph.operator::<Softmax>(probabilities);
        softmax.ok_or_else(|| self.unrecognised("the softmax of attention", probabilities))?;
        let masked = graph.behind(graph.node(probabilities).inputs[0]);
        let (mut scores, mask) = graph
            .with_constant::<Add>(masked)
            .ok_or_else(|| self.unrecognised("a constant causal mask", masked))?;
        if !self.is_causal(mask) {
            return Err(self.unrecognised("a causal mask", mask));
        }
        let heads = graph.volume(masked) / (self.length * self.length);
        let mut scale = 1.0;
        scores = graph.behind(scores);
        if let Some((input, factor)) = graph.scaled(scores) {
            scale = factor;
            scores = graph.behind(input);
        }
        let [first, second] = self.variable_product(scores, "the product of queries and keys")?;
        // The softmax runs over keys: they are the operand that has the last axis of the scores.
        let keys_first = graph.operator::<EinSum>(scores).is_some_and(|einsum| {
            let last = graph.shape(scores).len().saturating_sub(1);
            einsum
                .axes
                .axis((InOut::Out(0), last))
                .is_ok_and(|axis| !axis.inputs[0].is_empty())
        });
        let (queries, keys) = if keys_first {
            (second, first)
        } else {
            (first, second)
        };
        let part = |outlet, name| {
            graph
                .linear(outlet)
                .ok_or_else(|| self.unrecognised(name, outlet))
        };
        let (mut query, key, value) = (
            part(queries, "queries")?,
            part(keys, "keys")?,
            part(values, "values")?,
        );
        if query.input != key.input || key.input != value.input {
            return Err(self.unrecognised("queries, keys and values of one layer norm", queries));
        }
        // The tower divides scores by the root of a head's width; whatever the export does otherwise goes to the queries.
        let usual = ((query.weight.nrows() / heads.max(1)) as f32).sqrt();
        query.scale *= scale * key.scale * usual;
        if (query.scale - 1.0).abs() < 1e-5 {
            query.scale = 1.0;
        }
        let norm = self.norm_of(query.input)?;
        Ok(Attention {
            norm,
            query,
            key: Linear { scale: 1.0, ..key },
            value,
            out,
            heads,
        })
    }

    fn variable_product(
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

    /// Whether a constant adds nothing on and below the diagonal, and as good as minus infinity above.
    fn is_causal(&self, mask: OutletId) -> bool {
        let Some(mask) = self
            .graph
            .constant(mask)
            .filter(|mask| mask.len() == self.length * self.length)
        else {
            return false;
        };
        mask.iter().enumerate().all(|(i, &value)| {
            let (row, column) = (i / self.length, i % self.length);
            if column <= row {
                value.abs() < 1e-6
            } else {
                value < -1e4
            }
        })
    }

    fn token_table(&self, tokens: OutletId) -> Result<Array2<f32>, Unrecognised> {
        let at = self.graph.behind(tokens);
        let gather = self
            .graph
            .operator::<Gather>(at)
            .filter(|gather| gather.axis == 0);
        let table = gather.and_then(|_| self.graph.constant(self.graph.node(at).inputs[0]));
        let table = table.and_then(|table| table.into_dimensionality().ok());
        table.ok_or_else(|| self.unrecognised("the look-up of token embeddings", at))
    }

    fn position_table(&self, positions: OutletId) -> Result<Array2<f32>, Unrecognised> {
        let table = self
            .graph
            .constant(positions)
            .map(|table| table.into_iter().collect::<Vec<_>>());
        let table =
            table.and_then(|table| Array2::from_shape_vec((self.length, self.width), table).ok());
        table.ok_or_else(|| self.unrecognised("a table of positions", positions))
    }

    fn norm_weights(&self, norm: Norm) -> NormWeights {
        let filled = |values: Option<Array1<f32>>, default: f32| match values {
            Some(values) if values.len() == 1 => Array1::from_elem(self.width, values[0]),
            Some(values) => values,
            None => Array1::from_elem(self.width, default),
        };
        NormWeights {
            gain: filled(norm.gain, 1.0),
            bias: filled(norm.bias, 0.0),
            epsilon: norm.epsilon,
        }
    }

    fn block(&self, attention: Attention, mlp: Mlp) -> BlockWeights {
        BlockWeights {
            norm1: self.norm_weights(attention.norm),
            query: linear_weights(attention.query),
            key: linear_weights(attention.key),
            value: linear_weights(attention.value),
            out: linear_weights(attention.out),
            norm2: self.norm_weights(mlp.norm),
            up: linear_weights(mlp.up),
            down: linear_weights(mlp.down),
        }
    }
}

fn linear_weights(linear: Linear) -> LinearWeights {
    let bias = linear
        .bias
        .unwrap_or_else(|| Array1::zeros(linear.weight.len_of(Axis(0))));
    LinearWeights {
        weight: (linear.weight * linear.scale).into(),
        bias: bias * linear.scale,
    }
}
