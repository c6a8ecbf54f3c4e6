//! The weights of a text tower, and whether they fit each other.

use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

use super::{
    BlockWeights, LinearWeights, NormWeights, PoolingHeadWeights, RowTable, TextTowerError,
};
use crate::ops::{Activation, Matrix};

/// A text tower as files hold it.
#[derive(Clone, Debug)]
pub struct TextTowerWeights {
    /// `[vocabulary, width]`
    pub token_embedding: RowTable,
    /// `[context length, width]`
    pub positions: Array2<f32>,
    /// From the tokens up.
    pub blocks: Vec<BlockWeights>,
    /// After the last block.
    pub final_norm: NormWeights,
    /// `[joint, width]`
    pub projection: Matrix,
    /// `[joint]`, where a model has one.
    pub projection_bias: Option<Array1<f32>>,
    /// What makes one row of all, where the feature is read by attention ([`Pooling::Attention`]).
    pub pooling_head: Option<PoolingHeadWeights>,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Of every MLP.
    pub activation: Activation,
    /// What every text starts with, where a model has such a token.
    pub start_token: Option<u32>,
    /// What every text ends with.
    pub end_token: u32,
    /// Who sees whom, and where the feature is read.
    pub reading: Reading,
}

/// How a tower reads a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    /// Every token sees those before it, and the feature is read at the end token: CLIP.
    #[default]
    Causal,
    /// Every token sees every other: MobileCLIP, SigLIP.
    Whole { padding: Padding, pooling: Pooling },
}

/// What fills a text up to the context length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// Nothing that the feature depends on: a text is as long as it is.
    Hidden,
    /// This token, which every other sees.
    Token(u32),
}

/// Where the feature of a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pooling {
    /// At the end token.
    End,
    /// At the last token, padding or not.
    Last,
    /// As the mean of all tokens, padding or not.
    Mean,
    /// By a head of attention over all tokens, padding or not.
    Attention,
}

impl TextTowerWeights {
    /// That every tensor has the shape which the embedding, the projection and each MLP imply.
    pub(super) fn check(&self) -> Result<(), TextTowerError> {
        self.check_sizes()?;
        self.check_tokens()?;
        self.check_shapes()
    }

    fn check_sizes(&self) -> Result<(), TextTowerError> {
        let (_, width) = self.token_embedding.dim();
        let (joint, _) = self.projection.dim();
        let (positions, heads) = (self.positions.nrows(), self.heads);
        size(width > 0, "columns", width, "a token needs a row")?;
        size(!self.blocks.is_empty(), "blocks", 0, "there must be one")?;
        size(
            positions >= 2,
            "positions",
            positions,
            "a text starts and ends",
        )?;
        let divides = heads > 0 && width.is_multiple_of(heads);
        let why = format!("they must divide the width of {width}");
        size(divides, "heads", heads, &why)?;
        size(joint > 0, "feature columns", joint, "a feature needs one")
    }

    fn check_tokens(&self) -> Result<(), TextTowerError> {
        let (vocabulary, _) = self.token_embedding.dim();
        let padding = match self.reading {
            Reading::Whole {
                padding: Padding::Token(token),
                ..
            } => Some(token),
            _ => None,
        };
        let special = [self.start_token, Some(self.end_token), padding];
        for (text, token) in special.into_iter().flatten().enumerate() {
            if token as usize >= vocabulary {
                return Err(TextTowerError::Token {
                    text,
                    token,
                    vocabulary,
                });
            }
        }
        Ok(())
    }

    fn check_shapes(&self) -> Result<(), TextTowerError> {
        let (_, width) = self.token_embedding.dim();
        for (index, block) in self.blocks.iter().enumerate() {
            let name = |part: &str| format!("block {index} {part}");
            let hidden = block.up.weight.dim().0;
            norm(&name("norm1"), &block.norm1, width)?;
            linear(&name("query"), &block.query, [width, width])?;
            linear(&name("key"), &block.key, [width, width])?;
            linear(&name("value"), &block.value, [width, width])?;
            linear(&name("out"), &block.out, [width, width])?;
            norm(&name("norm2"), &block.norm2, width)?;
            linear(&name("up"), &block.up, [hidden, width])?;
            linear(&name("down"), &block.down, [width, hidden])?;
        }
        norm("final norm", &self.final_norm, width)?;
        if let Some(head) = &self.pooling_head {
            let hidden = head.up.weight.dim().0;
            let name = |part: &str| format!("pooling head {part}");
            let heads = head.scores.nrows();
            let divides = heads > 0 && width.is_multiple_of(heads);
            let why = format!("they must divide the width of {width}");
            size(divides, "heads in its pooling", heads, &why)?;
            shape(&name("scores"), head.scores.shape(), &[heads, width])?;
            linear(&name("value"), &head.value, [width, width])?;
            linear(&name("out"), &head.out, [width, width])?;
            norm(&name("norm"), &head.norm, width)?;
            linear(&name("up"), &head.up, [hidden, width])?;
            linear(&name("down"), &head.down, [width, hidden])?;
        }
        let positions = self.positions.shape();
        shape("positions", positions, &[self.positions.nrows(), width])?;
        let (joint, _) = self.projection.dim();
        let found = shape_of(&self.projection);
        shape("projection", &found, &[joint, width])?;
        match &self.projection_bias {
            Some(bias) => shape("projection bias", bias.shape(), &[joint]),
            None => Ok(()),
        }
    }
}

fn size(fine: bool, what: &'static str, found: usize, why: &str) -> Result<(), TextTowerError> {
    if fine {
        return Ok(());
    }
    let why = why.to_owned();
    Err(TextTowerError::Size { what, found, why })
}

fn shape(tensor: &str, found: &[usize], expected: &[usize]) -> Result<(), TextTowerError> {
    if found == expected {
        return Ok(());
    }
    Err(TextTowerError::Shape {
        tensor: tensor.to_owned(),
        found: found.to_vec(),
        expected: expected.to_vec(),
    })
}

fn shape_of(matrix: &Matrix) -> [usize; 2] {
    let (rows, columns) = matrix.dim();
    [rows, columns]
}

fn norm(name: &str, norm: &NormWeights, width: usize) -> Result<(), TextTowerError> {
    shape(&format!("{name} gain"), norm.gain.shape(), &[width])?;
    shape(&format!("{name} bias"), norm.bias.shape(), &[width])
}

fn linear(name: &str, linear: &LinearWeights, size: [usize; 2]) -> Result<(), TextTowerError> {
    shape(&format!("{name} weight"), &shape_of(&linear.weight), &size)?;
    shape(&format!("{name} bias"), linear.bias.shape(), &size[..1])
}
