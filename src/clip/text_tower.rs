//! CLIP's text tower: tokens in, features out, and the gradient of the context rows of a prompt. How a
//! prompt is parameterised and trained is decided above.

mod size;
mod weights;
mod whole;

use std::ops::Range;
use std::sync::OnceLock;

use ndarray::{Array1, Array2, ArrayView2, s};

pub use super::bundle::RowTable;
use crate::autodiff::{self, KeysValues, RowPooling, TextTransformer, TransformerWeights};
pub use crate::autodiff::{BlockWeights, LinearWeights, NormWeights, PoolingHeadWeights};
use crate::ops::RowLayout;
use crate::ops::embedding::add_positions;
use crate::ops::pool::on_pool;
pub use weights::{Padding, Pooling, Reading, TextTowerWeights};

/// How many rows one pass of [`TextTower::encode`] or [`TextTower::class_features`] takes at most, so that memory
/// does not grow with the number of texts.
const ROWS_A_PASS: usize = 256;

/// The memory that [`TextTower::forward`] gets unless a user says otherwise, in bytes.
pub const DEFAULT_MEMORY: usize = 256 << 20;

/// Why a text tower cannot be built or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextTowerError {
    /// A tensor of another shape than the rest of the tower implies.
    #[error(
        "the text tower's {tensor} has shape {found:?} where {expected:?} is needed; import the model again"
    )]
    Shape {
        /// What the tensor is.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the rest implies.
        expected: Vec<usize>,
    },
    /// A size that no tower can have.
    #[error("the text tower has {found} {what}, which cannot be ({why}); import the model again")]
    Size {
        /// What there are so many of.
        what: &'static str,
        /// How many.
        found: usize,
        /// Why that cannot be.
        why: String,
    },
    /// A token that the embedding has no row for.
    #[error(
        "text {text} holds token {token}, but the vocabulary has {vocabulary}; use the model's own tokenizer"
    )]
    Token {
        /// Its index among the texts.
        text: usize,
        /// The token.
        token: u32,
        /// Tokens of the vocabulary.
        vocabulary: usize,
    },
    /// More tokens than positions.
    #[error(
        "text {text} takes {tokens} tokens, but the model reads {context_length}; shorten the label or template"
    )]
    TooLong {
        /// Its index among the texts.
        text: usize,
        /// How many it takes.
        tokens: usize,
        /// How many the model reads.
        context_length: usize,
    },
    /// A feature that is no number, or has no length.
    #[error(
        "the text tower yields no feature for text {text}: its weights, or the prompt's numbers, are too large to compute with"
    )]
    Features {
        /// Its index among the texts.
        text: usize,
    },
    /// Nothing to read a feature from.
    #[error("text {text} has no tokens; end every text with the end token")]
    Empty {
        /// Its index among the texts.
        text: usize,
    },
    /// Context rows of another model.
    #[error(
        "the prompt's rows are {found} wide, but the text tower's are {expected}; use a prompt made for this model"
    )]
    ContextWidth {
        /// Numbers in a row of the context.
        found: usize,
        /// Numbers in a row of the token embedding.
        expected: usize,
    },
}

/// `features`, if each is one: not a number, it would speak for the first label of every picture.
fn found(features: Array2<f32>) -> Result<Array2<f32>, TextTowerError> {
    let lengths = features.rows().into_iter().map(|row| row.dot(&row));
    match lengths
        .map(|of| of.is_finite() && of > 0.0)
        .position(|is| !is)
    {
        Some(text) => Err(TextTowerError::Features { text }),
        None => Ok(features),
    }
}

/// A frozen text tower.
pub struct TextTower {
    token_embedding: RowTable,
    positions: Array2<f32>,
    transformer: TextTransformer<f32>,
    /// The keys and values of the start token: it sees nothing but itself, so no prompt changes them.
    start: OnceLock<KeysValues<f32>>,
    joint_width: usize,
    start_token: Option<u32>,
    end_token: u32,
    reading: Reading,
}

/// What [`TextTower::backward`] needs of a forward: the rows that every pass starts from, and all of the last pass.
pub struct Tape {
    passes: Vec<Pass>,
    /// The keys and values of start token and context, where there are several passes.
    shared: Option<KeysValues<f32>>,
    last: autodiff::Tape<f32>,
    context: usize,
}

/// Some of the classes.
struct Pass {
    classes: Range<usize>,
    rows: Array2<f32>,
    layout: RowLayout,
}

impl TextTower {
    /// Checks every shape, then packs the weights for this machine.
    pub fn new(weights: TextTowerWeights) -> Result<TextTower, TextTowerError> {
        weights.check()?;
        let joint_width = weights.projection.dim().0;
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
                pooling: match (weights.reading, weights.pooling_head) {
                    (_, Some(head)) => RowPooling::Attention(Box::new(head)),
                    (
                        Reading::Whole {
                            pooling: Pooling::Mean,
                            ..
                        },
                        None,
                    ) => RowPooling::Mean,
                    _ => RowPooling::One,
                },
            }),
            start: OnceLock::new(),
            joint_width,
            start_token: weights.start_token,
            end_token: weights.end_token,
            reading: weights.reading,
        })
    }

    /// The width of a token row.
    pub fn width(&self) -> usize {
        self.token_embedding.dim().1
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
        self.token_embedding.dim().0
    }

    /// What every text starts with, where the model has such a token.
    pub fn start_token(&self) -> Option<u32> {
        self.start_token
    }

    /// How it reads a text.
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// How many rows stand before a suffix.
    fn before(&self, context: usize) -> usize {
        usize::from(self.start_token.is_some()) + context
    }

    /// Gives back memory that only makes a training faster: weights in the order that products read them in.
    pub fn release(&self) {
        self.transformer.release();
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

    /// L2-normalised features `[texts, joint]` of whole texts, each from the start token to the end token, without
    /// padding; nothing is shared between them.
    pub fn encode(&self, sequences: &[Vec<u32>]) -> Result<Array2<f32>, TextTowerError> {
        if self.reading != Reading::Causal {
            return found(on_pool(|| self.whole_features(None, sequences))?);
        }
        let nothing = self.transformer.zero_keys_values(0);
        let mut features = Array2::zeros((sequences.len(), self.joint_width));
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        for texts in passes(&lengths, 0, ROWS_A_PASS) {
            let pass = self.pass(0, None, sequences, texts)?;
            let (found, _) = self.transformer.features(pass.rows, &pass.layout, &nothing);
            features.slice_mut(s![pass.classes, ..]).assign(&found);
        }
        found(features)
    }

    /// L2-normalised features `[classes, joint]` of the start token, the `context` rows (`[n, width]`, no positions
    /// added) and each class's own tokens: its name, the words after it and the end token.
    pub fn class_features(
        &self,
        context: ArrayView2<f32>,
        suffixes: &[Vec<u32>],
    ) -> Result<Array2<f32>, TextTowerError> {
        if self.reading != Reading::Causal {
            return found(on_pool(|| self.whole_features(Some(context), suffixes))?);
        }
        let mut features = Array2::zeros((suffixes.len(), self.joint_width));
        let passes = self.class_passes(context, suffixes, ROWS_A_PASS)?;
        on_pool(|| self.all_features(&passes, &mut features))?;
        found(features)
    }

    /// [`TextTower::class_features`], keeping what [`TextTower::backward`] needs. What one pass keeps, and needs while it
    /// runs, stays below `memory` bytes if a single class does: beyond that the classes come in several passes, and
    /// backward computes all but the last one again.
    pub fn forward(
        &self,
        context: ArrayView2<f32>,
        suffixes: &[Vec<u32>],
        memory: usize,
    ) -> Result<(Array2<f32>, Tape), TextTowerError> {
        on_pool(|| match self.reading {
            Reading::Causal => self.forward_here(context, suffixes, memory),
            Reading::Whole { .. } => self.whole_forward(context, suffixes, memory),
        })
    }

    fn forward_here(
        &self,
        context: ArrayView2<f32>,
        suffixes: &[Vec<u32>],
        memory: usize,
    ) -> Result<(Array2<f32>, Tape), TextTowerError> {
        let a_row = self.row_memory(context.nrows(), suffixes);
        let passes = self.class_passes(context, suffixes, memory / a_row)?;
        let mut features = Array2::zeros((suffixes.len(), self.joint_width));
        let (last, earlier) = passes.split_last().expect("there is always a first pass");
        let shared = if earlier.is_empty() {
            None
        } else {
            Some(self.all_features(earlier, &mut features)?)
        };
        let before = match &shared {
            Some(shared) => shared,
            None => self.start()?,
        };
        let tape = self
            .transformer
            .forward(last.rows.clone(), last.layout.clone(), before);
        features
            .slice_mut(s![last.classes.clone(), ..])
            .assign(&tape.features());
        let tape = Tape {
            shared,
            last: tape,
            context: context.nrows(),
            passes,
        };
        Ok((features, tape))
    }

    /// The gradient of the context rows (`[n, width]`), from that of the normalised features (`[classes, joint]`).
    pub fn backward(&self, tape: &Tape, d_features: ArrayView2<f32>) -> Array2<f32> {
        on_pool(|| match self.reading {
            Reading::Causal => self.backward_here(tape, d_features),
            Reading::Whole { .. } => self.whole_backward(tape, d_features),
        })
    }

    fn backward_here(&self, tape: &Tape, d_features: ArrayView2<f32>) -> Array2<f32> {
        let start = self.start().expect("the forward that left a tape had it");
        let later = tape.shared.as_ref().unwrap_or(start);
        let mut d_shared = self.transformer.zero_keys_values(self.before(tape.context));
        let mut d_context = Array2::zeros((0, self.width()));
        // The first pass holds the context: it comes last, when all others have left their gradients.
        for (index, pass) in tape.passes.iter().enumerate().rev() {
            let (before, wanted) = match index {
                0 => (start, 0..tape.context),
                _ => (later, 0..0),
            };
            let again;
            let of_pass = if index + 1 == tape.passes.len() {
                &tape.last
            } else {
                let (rows, layout) = (pass.rows.clone(), pass.layout.clone());
                again = self.transformer.forward(rows, layout, before);
                &again
            };
            let d_features = d_features.slice(s![pass.classes.clone(), ..]);
            d_context =
                self.transformer
                    .backward(of_pass, before, &mut d_shared, wanted, d_features);
        }
        d_context
    }

    fn start(&self) -> Result<&KeysValues<f32>, TextTowerError> {
        if let Some(start) = self.start.get() {
            return Ok(start);
        }
        let nothing = self.transformer.zero_keys_values(0);
        let Some(token) = self.start_token else {
            return Ok(self.start.get_or_init(|| nothing));
        };
        let first = self.token_rows(&[token])?;
        let pass = self.pass(0, Some(first.view()), &[], 0..0)?;
        let (_, start) = self.transformer.features(pass.rows, &pass.layout, &nothing);
        Ok(self.start.get_or_init(|| start))
    }

    /// The passes over `suffixes`, of at most `rows` rows or one class; the first holds the context.
    fn class_passes(
        &self,
        context: ArrayView2<f32>,
        suffixes: &[Vec<u32>],
        rows: usize,
    ) -> Result<Vec<Pass>, TextTowerError> {
        self.check_width(context)?;
        let lengths: Vec<usize> = suffixes.iter().map(Vec::len).collect();
        let classes = passes(&lengths, context.nrows(), rows).into_iter();
        let (first, later) = (self.before(0), self.before(context.nrows()));
        classes
            .enumerate()
            .map(|(index, classes)| match index {
                0 => self.pass(first, Some(context), suffixes, classes),
                _ => self.pass(later, None, suffixes, classes),
            })
            .collect()
    }

    fn check_width(&self, context: ArrayView2<f32>) -> Result<(), TextTowerError> {
        let (found, expected) = (context.ncols(), self.width());
        if found == expected {
            return Ok(());
        }
        Err(TextTowerError::ContextWidth { found, expected })
    }

    /// Writes the features of the classes of `passes`, the first of which holds the context; returns the keys and values
    /// of start token and context.
    fn all_features(
        &self,
        passes: &[Pass],
        features: &mut Array2<f32>,
    ) -> Result<KeysValues<f32>, TextTowerError> {
        let mut shared: Option<KeysValues<f32>> = None;
        for pass in passes {
            let before = match &shared {
                Some(shared) => shared,
                None => self.start()?,
            };
            let (found, seen) = self
                .transformer
                .features(pass.rows.clone(), &pass.layout, before);
            features
                .slice_mut(s![pass.classes.clone(), ..])
                .assign(&found);
            shared.get_or_insert(seen);
        }
        Ok(shared.expect("there is always a first pass"))
    }

    /// The rows of texts number `classes` after `before` rows of another pass and the rows of `prefix`, with their
    /// positions added.
    fn pass(
        &self,
        before: usize,
        prefix: Option<ArrayView2<f32>>,
        texts: &[Vec<u32>],
        classes: Range<usize>,
    ) -> Result<Pass, TextTowerError> {
        let held = prefix.map_or(0, |prefix| prefix.nrows());
        let lengths = texts[classes.clone()].iter().map(Vec::len);
        let layout = RowLayout::after(before, held, lengths);
        let mut rows = Array2::zeros((layout.rows(), self.width()));
        if let Some(prefix) = prefix {
            rows.slice_mut(s![..held, ..]).assign(&prefix);
        }
        let mut at = held;
        for text in classes.clone() {
            let ids = &texts[text];
            let (tokens, context_length) = (before + held + ids.len(), self.context_length());
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
        // Without a text there is nothing that a prefix could be too long for.
        if before + held <= self.context_length() {
            add_positions(&mut rows, self.positions.view(), &layout);
        }
        Ok(Pass {
            classes,
            rows,
            layout,
        })
    }

    /// Writes the embedding rows of `ids`, the tokens of text number `text`.
    fn fill(
        &self,
        mut rows: ndarray::ArrayViewMut2<f32>,
        text: usize,
        ids: &[u32],
    ) -> Result<(), TextTowerError> {
        let vocabulary = self.vocabulary();
        for (row, &token) in rows.rows_mut().into_iter().zip(ids) {
            if token as usize >= vocabulary {
                return Err(TextTowerError::Token {
                    text,
                    token,
                    vocabulary,
                });
            }
            self.token_embedding.read(token as usize, row);
        }
        Ok(())
    }
}

/// Cuts texts of these lengths into runs of about the same length, none of more than `limit` tokens unless a single text
/// is longer. The first has `held` rows besides; there is always one.
fn passes(texts: &[usize], held: usize, limit: usize) -> Vec<Range<usize>> {
    let tokens = held + texts.iter().sum::<usize>();
    let longest = texts.iter().copied().max().unwrap_or(0);
    let even = tokens.div_ceil(tokens.div_ceil(limit.max(1)).max(1)) + longest;
    let mut passes = Vec::new();
    let (mut first, mut rows) = (0, held);
    for (index, text) in texts.iter().enumerate() {
        if rows + text > limit.min(even) && index > first {
            passes.push(first..index);
            (first, rows) = (index, 0);
        }
        rows += text;
    }
    passes.push(first..texts.len());
    passes
}

#[cfg(test)]
mod tests;
