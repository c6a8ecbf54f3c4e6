//! CLIP's text tower: tokens in, features out, and the gradient of the context rows of a prompt. It must not know
//! how a prompt is parameterised or trained, nor which file the weights came from.

use ndarray::{Array1, Array2, ArrayView2, s};

pub use crate::autodiff::{BlockWeights, LinearWeights, NormWeights};
use crate::autodiff::{TextTransformer, TransformerWeights};
use crate::ops::embedding::add_positions;
use crate::ops::{Activation, RowLayout};

/// How many rows one pass of [`TextTower::encode`] or [`TextTower::class_features`] takes at most, so that memory
/// does not grow with the number of texts.
const ROWS_A_PASS: usize = 256;

/// A text tower as files hold it.
#[derive(Clone, Debug)]
pub struct TextTowerWeights {
    /// `[vocabulary, width]`
    pub token_embedding: Array2<f32>,
    /// `[context length, width]`
    pub positions: Array2<f32>,
    /// From the tokens up.
    pub blocks: Vec<BlockWeights>,
    /// After the last block.
    pub final_norm: NormWeights,
    /// `[joint, width]`
    pub projection: Array2<f32>,
    /// `[joint]`, where a model has one.
    pub projection_bias: Option<Array1<f32>>,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Of every MLP.
    pub activation: Activation,
    /// What every text starts with.
    pub start_token: u32,
    /// What every text ends with; the feature is read there.
    pub end_token: u32,
}

/// Why a text tower cannot be built or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextTowerError {
    /// A tensor of another shape than the rest of the tower implies.
    #[error(
        "the text tower's {tensor} has shape {found:?} where {expected:?} is needed; import the model again"
    )]
    Shape {
        tensor: String,
        found: Vec<usize>,
        expected: Vec<usize>,
    },
    /// A size that no tower can have.
    #[error("the text tower has {found} {what}, which cannot be ({why}); import the model again")]
    Size {
        what: &'static str,
        found: usize,
        why: String,
    },
    /// A token that the embedding has no row for.
    #[error(
        "text {text} holds token {token}, but the vocabulary has {vocabulary}; use the model's own tokenizer"
    )]
    Token {
        text: usize,
        token: u32,
        vocabulary: usize,
    },
    /// More tokens than positions.
    #[error(
        "text {text} takes {tokens} tokens, but the model reads {context_length}; shorten the label or template"
    )]
    TooLong {
        text: usize,
        tokens: usize,
        context_length: usize,
    },
    /// Nothing to read a feature from.
    #[error("text {text} has no tokens; end every text with the end token")]
    Empty { text: usize },
    /// Context rows of another model.
    #[error(
        "the prompt's rows are {found} wide, but the text tower's are {expected}; use a prompt made for this model"
    )]
    ContextWidth { found: usize, expected: usize },
}

/// A frozen text tower.
pub struct TextTower {
    token_embedding: Array2<f32>,
    positions: Array2<f32>,
    transformer: TextTransformer<f32>,
    joint_width: usize,
    start_token: u32,
    end_token: u32,
}

/// What [`TextTower::backward`] needs of a forward.
pub struct Tape {
    transformer: crate::autodiff::Tape<f32>,
    context: usize,
}

impl TextTower {
    /// Checks every shape, then packs the weights for this machine.
    pub fn new(weights: TextTowerWeights) -> Result<TextTower, TextTowerError> {
        check(&weights)?;
        let joint_width = weights.projection.nrows();
        Ok(TextTower {
            token_embedding: weights.token_embedding,
            positions: weights.positions,
            transformer: TextTransformer::new(TransformerWeights {
                blocks: weights.blocks,
                final_norm: weights.final_norm,
                projection: weights.projection,
                projection_bias: weights
                    .projection_bias
                    .unwrap_or_else(|| Array1::zeros(joint_width)),
                heads: weights.heads,
                activation: weights.activation,
            }),
            joint_width,
            start_token: weights.start_token,
            end_token: weights.end_token,
        })
    }

    /// The width of a token row.
    pub fn width(&self) -> usize {
        self.token_embedding.ncols()
    }

    /// The width of a feature.
    pub fn joint_width(&self) -> usize {
        self.joint_width
    }

    /// How many tokens a text may have, start and end included.
    pub fn context_length(&self) -> usize {
        self.positions.nrows()
    }

    /// How many tokens there are.
    pub fn vocabulary(&self) -> usize {
        self.token_embedding.nrows()
    }

    /// What every text starts with.
    pub fn start_token(&self) -> u32 {
        self.start_token
    }

    /// What every text ends with.
    pub fn end_token(&self) -> u32 {
        self.end_token
    }

    /// The embedding rows of `ids`, without positions: `[ids, width]`.
    pub fn token_rows(&self, ids: &[u32]) -> Result<Array2<f32>, TextTowerError> {
        let mut rows = Array2::zeros((ids.len(), self.width()));
        self.fill(rows.view_mut(), 0, ids)?;
        Ok(rows)
    }

    /// L2-normalised features `[texts, joint]` of whole texts, each from the start token to the end token; nothing is
    /// shared between them.
    pub fn encode(&self, sequences: &[Vec<u32>]) -> Result<Array2<f32>, TextTowerError> {
        self.in_passes(Array2::zeros((0, self.width())), sequences)
    }

    /// L2-normalised features `[classes, joint]` of the start token, the `context` rows (`[n, width]`, no positions
    /// added) and each class's own tokens: its name, the words after it and the end token.
    pub fn class_features(
        &self,
        context: ArrayView2<f32>,
        suffixes: &[Vec<u32>],
    ) -> Result<Array2<f32>, TextTowerError> {
        self.in_passes(self.prefix(context)?, suffixes)
    }

    /// [`TextTower::class_features`] in one pass, keeping what [`TextTower::backward`] needs.
    pub fn forward(
        &self,
        context: ArrayView2<f32>,
        suffixes: &[Vec<u32>],
    ) -> Result<(Array2<f32>, Tape), TextTowerError> {
        let transformer = self.pass(&self.prefix(context)?, suffixes, 0)?;
        let features = transformer.features().to_owned();
        Ok((
            features,
            Tape {
                transformer,
                context: context.nrows(),
            },
        ))
    }

    /// The gradient of the context rows (`[n, width]`), from that of the normalised features (`[classes, joint]`).
    pub fn backward(&self, tape: &Tape, d_features: ArrayView2<f32>) -> Array2<f32> {
        self.transformer
            .backward(&tape.transformer, 1..1 + tape.context, d_features)
    }

    /// The start token's row, then the context.
    fn prefix(&self, context: ArrayView2<f32>) -> Result<Array2<f32>, TextTowerError> {
        let (found, expected) = (context.ncols(), self.width());
        if found != expected {
            return Err(TextTowerError::ContextWidth { found, expected });
        }
        let mut prefix = Array2::zeros((1 + context.nrows(), expected));
        self.fill(prefix.slice_mut(s![..1, ..]), 0, &[self.start_token])?;
        prefix.slice_mut(s![1.., ..]).assign(&context);
        Ok(prefix)
    }

    /// The features of `prefix` followed by each of `texts`, a bounded number of rows at a time.
    fn in_passes(
        &self,
        prefix: Array2<f32>,
        texts: &[Vec<u32>],
    ) -> Result<Array2<f32>, TextTowerError> {
        let mut features = Array2::zeros((texts.len(), self.joint_width));
        let mut first = 0;
        while first < texts.len() {
            let mut rows = 0;
            let fits = texts[first..].iter().take_while(|text| {
                rows += text.len();
                rows <= ROWS_A_PASS
            });
            let after = first + fits.count().max(1);
            let tape = self.pass(&prefix, &texts[first..after], first)?;
            features
                .slice_mut(s![first..after, ..])
                .assign(&tape.into_features());
            first = after;
        }
        Ok(features)
    }

    /// One forward; `first` is the number that errors give to the first text.
    fn pass(
        &self,
        prefix: &Array2<f32>,
        texts: &[Vec<u32>],
        first: usize,
    ) -> Result<crate::autodiff::Tape<f32>, TextTowerError> {
        let layout = RowLayout::new(prefix.nrows(), texts.iter().map(Vec::len));
        let mut rows = Array2::zeros((layout.rows(), self.width()));
        rows.slice_mut(s![..prefix.nrows(), ..]).assign(prefix);
        let mut at = prefix.nrows();
        for (index, ids) in texts.iter().enumerate() {
            let (text, tokens, context_length) = (
                first + index,
                prefix.nrows() + ids.len(),
                self.context_length(),
            );
            if ids.is_empty() {
                return Err(TextTowerError::Empty { text });
            }
            if tokens > context_length {
                return Err(TextTowerError::TooLong {
                    text,
                    tokens,
                    context_length,
                });
            }
            self.fill(rows.slice_mut(s![at..at + ids.len(), ..]), text, ids)?;
            at += ids.len();
        }
        if !texts.is_empty() {
            add_positions(&mut rows, self.positions.view(), &layout);
        }
        Ok(self.transformer.forward(rows, layout))
    }

    /// Writes the embedding rows of `ids`, the tokens of text number `text`.
    fn fill(
        &self,
        mut rows: ndarray::ArrayViewMut2<f32>,
        text: usize,
        ids: &[u32],
    ) -> Result<(), TextTowerError> {
        let vocabulary = self.vocabulary();
        for (mut row, &token) in rows.rows_mut().into_iter().zip(ids) {
            if token as usize >= vocabulary {
                return Err(TextTowerError::Token {
                    text,
                    token,
                    vocabulary,
                });
            }
            row.assign(&self.token_embedding.row(token as usize));
        }
        Ok(())
    }
}

/// That every tensor has the shape which the embedding, the projection and each MLP imply.
fn check(weights: &TextTowerWeights) -> Result<(), TextTowerError> {
    let (vocabulary, width) = weights.token_embedding.dim();
    let size = |fine: bool, what, found, why: &str| {
        if fine {
            Ok(())
        } else {
            Err(TextTowerError::Size {
                what,
                found,
                why: why.to_owned(),
            })
        }
    };
    size(width > 0, "columns", width, "a token needs a row")?;
    size(!weights.blocks.is_empty(), "blocks", 0, "there must be one")?;
    size(
        weights.positions.nrows() >= 2,
        "positions",
        weights.positions.nrows(),
        "a text starts and ends",
    )?;
    size(
        weights.heads > 0 && width.is_multiple_of(weights.heads),
        "heads",
        weights.heads,
        &format!("they must divide the width of {width}"),
    )?;
    for (text, token) in [weights.start_token, weights.end_token]
        .into_iter()
        .enumerate()
    {
        if token as usize >= vocabulary {
            return Err(TextTowerError::Token {
                text,
                token,
                vocabulary,
            });
        }
    }
    let shape = |tensor: &str, found: &[usize], expected: &[usize]| {
        if found == expected {
            return Ok(());
        }
        let (found, expected) = (found.to_vec(), expected.to_vec());
        Err(TextTowerError::Shape {
            tensor: tensor.to_owned(),
            found,
            expected,
        })
    };
    let norm = |name: &str, norm: &NormWeights| {
        shape(&format!("{name} gain"), norm.gain.shape(), &[width])?;
        shape(&format!("{name} bias"), norm.bias.shape(), &[width])
    };
    let linear = |name: &str, linear: &LinearWeights, out: usize, inner: usize| {
        shape(
            &format!("{name} weight"),
            linear.weight.shape(),
            &[out, inner],
        )?;
        shape(&format!("{name} bias"), linear.bias.shape(), &[out])
    };
    for (index, block) in weights.blocks.iter().enumerate() {
        let name = |part: &str| format!("block {index} {part}");
        let hidden = block.up.weight.nrows();
        norm(&name("norm1"), &block.norm1)?;
        linear(&name("query"), &block.query, width, width)?;
        linear(&name("key"), &block.key, width, width)?;
        linear(&name("value"), &block.value, width, width)?;
        linear(&name("out"), &block.out, width, width)?;
        norm(&name("norm2"), &block.norm2)?;
        linear(&name("up"), &block.up, hidden, width)?;
        linear(&name("down"), &block.down, width, hidden)?;
    }
    norm("final norm", &weights.final_norm)?;
    shape(
        "positions",
        weights.positions.shape(),
        &[weights.positions.nrows(), width],
    )?;
    let joint = weights.projection.nrows();
    shape("projection", weights.projection.shape(), &[joint, width])?;
    size(joint > 0, "feature columns", joint, "a feature needs one")?;
    weights.projection_bias.as_ref().map_or(Ok(()), |bias| {
        shape("projection bias", bias.shape(), &[joint])
    })
}

#[cfg(test)]
mod tests;
