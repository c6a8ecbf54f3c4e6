//! Recognises a text transformer, causal or not, in a decluttered graph by its data flow, from the features back to the token
//! table, and takes its weights out. Whatever is read here is a proposal: parity with the original decides.

mod attention;
mod layers;
mod pooling;

use ndarray::{Array1, Array2, Axis};
use thiserror::Error;
use tract_core::internal::*;
use tract_core::ops::array::Gather;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{Add, Div, Mul};

use crate::clip::graph::{Graph, activation_from};
use crate::clip::text_tower::{
    BlockWeights, LinearWeights, NormWeights, Padding, Pooling, Reading, TextTowerWeights,
};
use crate::ops::Activation;
use layers::{LinearLayer, NormLayer, linear, norm};
use pooling::Pooled;

/// Why a text tower cannot be taken apart.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unrecognised {
    /// What stands where a part was expected.
    #[error(
        "the text tower is not one that can be adapted: expected {expected} at node `{node}` ({operator})"
    )]
    Part {
        /// What was expected there.
        expected: String,
        /// The node's name in the file.
        node: String,
        /// What it computes instead.
        operator: String,
    },
    /// BERT's order of layers.
    #[error(
        "not a CLIP text tower: its layer norms stand after the sums, as in BERT (at node `{node}`); take a model whose \
         text tower is a CLIP's or a SigLIP's"
    )]
    PostNorm {
        /// The node's name in the file.
        node: String,
    },
}

/// What is known of a text tower beside its graph.
#[derive(Clone, Copy)]
pub struct Texts {
    /// What texts start with, where there is such a token.
    pub start_token: Option<u32>,
    /// What they end with.
    pub end_token: u32,
    /// What fills them up.
    pub padding: u32,
    /// Whether the file takes a mask that hides padding.
    pub takes_mask: bool,
}

/// The most values between the two linear layers of an MLP that are looked at.
const MOST_VALUES: usize = 64;

/// The branch of a block with the MLP, from the residual stream back to it.
struct MlpBranch {
    norm: NormLayer,
    up: LinearLayer,
    down: LinearLayer,
    activation: Activation,
}

/// The branch of a block with attention.
struct AttentionBranch {
    norm: NormLayer,
    query: LinearLayer,
    key: LinearLayer,
    value: LinearLayer,
    out: LinearLayer,
    heads: usize,
    sight: Sight,
}

/// What a token sees of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// What stands before it.
    Before,
    /// All of it, and its padding.
    All,
    /// All of it, and no padding.
    AllButPadding,
}

/// The residual stream at one sum: what it was before, and the branch that is added.
struct ResidualSum {
    trunk: OutletId,
    branch: OutletId,
    /// The last layer of the branch.
    last: LinearLayer,
}

/// All blocks, from the first one up, and what is below them.
struct Stack {
    blocks: Vec<BlockWeights>,
    heads: usize,
    sight: Sight,
    activation: Activation,
    tokens: OutletId,
    positions: OutletId,
}

struct Recogniser<'a> {
    graph: Graph<'a>,
    /// Length of the sequence, and the width of a token.
    length: usize,
    width: usize,
    texts: Texts,
}

/// Takes the weights of the text tower out of `model`, whose one input is `[1, length]` token ids and whose one output
/// is `[1, e]` features.
pub fn recognise(model: &TypedModel, texts: Texts) -> Result<TextTowerWeights, Unrecognised> {
    let graph = Graph(model);
    let (&[input], &[output]) = (&model.inputs[..], &model.outputs[..]) else {
        let (inputs, outputs) = (model.inputs.len(), model.outputs.len());
        return Err(Unrecognised::Part {
            expected: "one input and one output".into(),
            node: "graph".into(),
            operator: format!("{inputs} inputs, {outputs} outputs"),
        });
    };
    let mut this = Recogniser {
        graph,
        length: graph.volume(input).unwrap_or(0),
        width: 0,
        texts,
    };
    if this.length == 0 {
        return Err(this.unrecognised("a sequence of at least one token", input));
    }
    let output = this.before_normalisation(output);
    let projection = linear(graph, output).ok_or_else(|| {
        let expected = "the projection to the joint space (transformers: CLIPTextModelWithProjection, not CLIPTextModel)";
        this.unrecognised(expected, output)
    })?;
    this.width = projection.weight.ncols();
    let Pooled {
        final_norm,
        stream,
        pooling,
        head,
    } = this.pooled(projection.input)?;
    let stack = this.stack(stream)?;
    let reading = this.reading(stack.sight, pooling, output)?;
    if let Some(head) = &head
        && head.mlp.activation != stack.activation
    {
        return Err(this.unrecognised("the activation of the blocks in the pooling head", output));
    }
    let other = |epsilon: f32| epsilon != final_norm.epsilon;
    let mut blocks = stack.blocks.iter();
    if blocks.any(|block| other(block.norm1.epsilon) || other(block.norm2.epsilon))
        || head
            .as_ref()
            .is_some_and(|head| other(head.mlp.norm.epsilon))
    {
        return Err(this.unrecognised("one epsilon in all layer norms", output));
    }
    Ok(TextTowerWeights {
        token_embedding: this.token_table(stack.tokens)?.into(),
        positions: this.position_table(stack.positions)?,
        blocks: stack.blocks,
        final_norm: this.norm_weights(final_norm),
        projection_bias: projection.bias.map(|bias| bias * projection.scale),
        projection: (projection.weight * projection.scale).into(),
        pooling_head: head.map(|head| this.head_weights(head)),
        heads: stack.heads,
        activation: stack.activation,
        start_token: texts.start_token,
        end_token: texts.end_token,
        reading,
    })
}

impl Recogniser<'_> {
    fn unrecognised(&self, expected: &str, at: OutletId) -> Unrecognised {
        let node = self.graph.node(at);
        Unrecognised::Part {
            expected: expected.into(),
            node: node.name.clone(),
            operator: node.op.name().into_owned(),
        }
    }

    /// Looks through a final L2 normalisation: features divided by, or multiplied with, one number.
    fn before_normalisation(&self, output: OutletId) -> OutletId {
        let graph = self.graph;
        let at = graph.behind(output);
        let operands = graph.binary::<Div>(at).or_else(|| graph.binary::<Mul>(at));
        let is_norm = |at| graph.volume(at) == Some(1) && !graph.is_constant(at);
        match operands.map(|operands| operands.map(|operand| graph.behind(operand))) {
            Some([features, norm]) if is_norm(norm) => features,
            Some([norm, features]) if is_norm(norm) => features,
            _ => output,
        }
    }

    /// How texts are read, of what their tokens see and where the feature comes from.
    fn reading(
        &self,
        sight: Sight,
        pooling: Option<Pooling>,
        output: OutletId,
    ) -> Result<Reading, Unrecognised> {
        let expected = "pooling at the end token, at the last one, by the mean or by attention";
        let pooling = pooling.ok_or_else(|| self.unrecognised(expected, output))?;
        let hidden = sight == Sight::AllButPadding || self.texts.takes_mask;
        let padding = if hidden {
            Padding::Hidden
        } else {
            Padding::Token(self.texts.padding)
        };
        match (sight, pooling) {
            (Sight::Before, Pooling::End) => Ok(Reading::Causal),
            (Sight::Before, _) => {
                Err(self.unrecognised("pooling at the end token of a causal tower", output))
            }
            (_, Pooling::Last | Pooling::Mean | Pooling::Attention) if hidden => {
                Err(self.unrecognised("pooling at the end token where padding is hidden", output))
            }
            _ => Ok(Reading::Whole { padding, pooling }),
        }
    }

    /// Follows the residual stream from the last block down to the sum of tokens and positions.
    fn stack(&self, stream: OutletId) -> Result<Stack, Unrecognised> {
        let graph = self.graph;
        let (mut blocks, mut activation, mut heads) = (Vec::new(), None, None);
        let mut sight = None;
        let mut stream = graph.behind(stream);
        let (tokens, positions) = loop {
            if let Some(operands) = graph.with_constant::<Add>(stream) {
                break operands;
            }
            let sum = self.residual_sum(stream)?;
            if norm(graph, sum.trunk).is_some() {
                let node = graph.node(sum.trunk).name.clone();
                return Err(Unrecognised::PostNorm { node });
            }
            let mlp = self.mlp(sum.last)?;
            if *activation.get_or_insert(mlp.activation) != mlp.activation {
                return Err(self.unrecognised("the activation of the other blocks", sum.branch));
            }
            self.starts_at(mlp.norm.input, sum.trunk)?;
            let sum = self.residual_sum(sum.trunk)?;
            let attention = self.attention(sum.last)?;
            if *heads.get_or_insert(attention.heads) != attention.heads {
                let expected = "the number of heads of the other blocks";
                return Err(self.unrecognised(expected, sum.branch));
            }
            if *sight.get_or_insert(attention.sight) != attention.sight {
                let expected = "attention that sees as much as that of the other blocks";
                return Err(self.unrecognised(expected, sum.branch));
            }
            self.starts_at(attention.norm.input, sum.trunk)?;
            blocks.push(self.block(attention, mlp));
            stream = sum.trunk;
        };
        let (Some(heads), Some(activation), Some(sight)) = (heads, activation, sight) else {
            return Err(self.unrecognised("whole blocks of attention and MLP", stream));
        };
        blocks.reverse();
        Ok(Stack {
            blocks,
            heads,
            sight,
            activation,
            tokens,
            positions,
        })
    }

    fn residual_sum(&self, stream: OutletId) -> Result<ResidualSum, Unrecognised> {
        let graph = self.graph;
        let [a, b] = graph
            .binary::<Add>(stream)
            .ok_or_else(|| self.unrecognised("a residual sum", stream))?;
        let (trunk, branch, last) = match linear(graph, b) {
            Some(last) => (a, b, last),
            None => {
                let expected = "a linear layer before the residual sum";
                let last = linear(graph, a).ok_or_else(|| self.unrecognised(expected, a))?;
                (b, a, last)
            }
        };
        Ok(ResidualSum {
            trunk: graph.behind(trunk),
            branch,
            last,
        })
    }

    fn starts_at(&self, branch: OutletId, trunk: OutletId) -> Result<(), Unrecognised> {
        if branch == trunk {
            return Ok(());
        }
        Err(self.unrecognised("a branch that starts at its own residual stream", branch))
    }

    fn linear(&self, outlet: OutletId, expected: &str) -> Result<LinearLayer, Unrecognised> {
        linear(self.graph, outlet).ok_or_else(|| self.unrecognised(expected, outlet))
    }

    fn norm(&self, outlet: OutletId) -> Result<NormLayer, Unrecognised> {
        norm(self.graph, outlet).ok_or_else(|| self.unrecognised("a layer norm", outlet))
    }

    fn mlp(&self, down: LinearLayer) -> Result<MlpBranch, Unrecognised> {
        let at = self.linear_behind(down.input)?;
        let up = self.linear(at, "a linear layer before the activation")?;
        let activation = self.activation(at, down.input)?;
        Ok(MlpBranch {
            norm: self.norm(up.input)?,
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
            if linear(self.graph, at).is_some_and(|linear| linear.scale == 1.0) {
                let at = self.graph.behind(at);
                if found.replace(at).is_some_and(|other| other != at) {
                    return Err(self.unrecognised("an activation of one linear layer", at));
                }
                continue;
            }
            let node = self.graph.node(at);
            if node.op_is::<EinSum>() || node.inputs.is_empty() || seen.len() > MOST_VALUES {
                return Err(self.unrecognised("an MLP of two linear layers", at));
            }
            open.extend(&node.inputs);
        }
        found.ok_or_else(|| self.unrecognised("a linear layer before the activation", from))
    }

    /// Which activation stands between two linear layers.
    fn activation(&self, from: OutletId, to: OutletId) -> Result<Activation, Unrecognised> {
        let found = activation_from(self.graph, from)
            .map_err(|_| self.unrecognised("an activation that tract can run", to))?;
        match found {
            Some((activation, end)) if self.graph.behind(to) == self.graph.behind(end) => {
                Ok(activation)
            }
            _ => Err(self.unrecognised("QuickGELU or GELU", to)),
        }
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

    fn norm_weights(&self, norm: NormLayer) -> NormWeights {
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

    fn block(&self, attention: AttentionBranch, mlp: MlpBranch) -> BlockWeights {
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

fn linear_weights(linear: LinearLayer) -> LinearWeights {
    let bias = linear
        .bias
        .unwrap_or_else(|| Array1::zeros(linear.weight.len_of(Axis(0))));
    LinearWeights {
        weight: (linear.weight * linear.scale).into(),
        bias: bias * linear.scale,
    }
}
