//! The whole tower from token rows to features, and the sweep back to the rows of the prompt. It must not know
//! tokens.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2};

use super::block::{Block, BlockTape, BlockWeights, NormWeights, norm};
use crate::ops::layer_norm::Normalised;
use crate::ops::normalise::{self, Directions};
use crate::ops::{Activation, LayerNorm, Linear, Real, RowLayout};

/// A transformer as files hold it. The shapes must agree with each other ([`crate::clip::TextTower`] checks them).
#[derive(Clone, Debug)]
pub struct TransformerWeights<T = f32> {
    /// From the tokens up; at least one.
    pub blocks: Vec<BlockWeights<T>>,
    /// After the last block.
    pub final_norm: NormWeights<T>,
    /// `[joint, width]`
    pub projection: Array2<T>,
    /// `[joint]`; zero where a model has none.
    pub projection_bias: Array1<T>,
    /// Divides the width.
    pub heads: usize,
    /// Of every block.
    pub activation: Activation,
}

/// A causal, pre-norm text transformer with frozen weights (CLIP, arXiv 2103.00020).
pub struct TextTransformer<T: Real> {
    blocks: Vec<Block<T>>,
    final_norm: LayerNorm<T>,
    projection: Linear<T>,
}

/// What the sweep back needs of a forward.
pub struct Tape<T> {
    layout: RowLayout,
    blocks: Vec<BlockTape<T>>,
    final_norm: Normalised<T>,
    features: Directions<T>,
}

impl<T: Real> Tape<T> {
    /// L2-normalised, `[sequences, joint]`.
    pub fn features(&self) -> ArrayView2<'_, T> {
        self.features.rows.view()
    }

    /// The same, when nothing will go back.
    pub fn into_features(self) -> Array2<T> {
        self.features.rows
    }
}

impl<T: Real> TextTransformer<T> {
    /// Packs the weights for this machine.
    pub fn new(weights: TransformerWeights<T>) -> TextTransformer<T> {
        let TransformerWeights {
            heads, activation, ..
        } = weights;
        TextTransformer {
            blocks: weights
                .blocks
                .into_iter()
                .map(|block| Block::new(block, heads, activation))
                .collect(),
            final_norm: norm(weights.final_norm),
            projection: Linear::new(weights.projection.view(), weights.projection_bias.view()),
        }
    }

    /// The features at the last row of each sequence, from rows `[layout.rows(), width]` with their positions added.
    pub fn forward(&self, mut rows: Array2<T>, layout: RowLayout) -> Tape<T> {
        let every: Vec<usize> = (0..layout.rows()).collect();
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let (output, tape) = block.forward(&rows, &layout, self.kept(index, &layout, &every));
            rows = output;
            blocks.push(tape);
        }
        let (normal, final_norm) = self.final_norm.forward(rows.view());
        let features = normalise::forward(self.projection.forward(normal.view()));
        Tape {
            layout,
            blocks,
            final_norm,
            features,
        }
    }

    /// The gradient of rows `wanted` of the input, from that of the features (`[sequences, joint]`).
    pub fn backward(
        &self,
        tape: &Tape<T>,
        wanted: Range<usize>,
        d_features: ArrayView2<T>,
    ) -> Array2<T> {
        let every: Vec<usize> = (0..tape.layout.rows()).collect();
        let d = self
            .projection
            .backward(normalise::backward(&tape.features, d_features).view());
        let mut d = self
            .final_norm
            .backward(&tape.final_norm, 0..d.nrows(), d.view());
        for (index, block) in self.blocks.iter().enumerate().rev() {
            let below = if index == 0 {
                wanted.clone()
            } else {
                0..every.len()
            };
            d = block.backward(
                &tape.blocks[index],
                &tape.layout,
                self.kept(index, &tape.layout, &every),
                below,
                d,
            );
        }
        d
    }

    /// The rows that block `index` has to yield: after the last one, only those where a feature is read.
    fn kept<'a>(&self, index: usize, layout: &'a RowLayout, every: &'a [usize]) -> &'a [usize] {
        if index + 1 == self.blocks.len() {
            layout.ends()
        } else {
            every
        }
    }
}

#[cfg(test)]
mod tests;
