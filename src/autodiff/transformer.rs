//! The whole tower from token rows to features, and the backward pass to the rows of the prompt.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};

use super::block::{Block, BlockTape, BlockWeights, NormWeights, Pass, norm};
use super::pooling::{Pooling, PoolingTape, RowPooling};
use crate::ops::layer_norm::Normalised;
use crate::ops::normalise::{self, UnitRows};
use crate::ops::{Activation, LayerNorm, Linear, Matrix, Real, RowLayout, Scalar};

/// A transformer as files hold it. The shapes must agree with each other ([`crate::clip::TextTower`] checks them).
#[derive(Clone, Debug)]
pub struct TransformerWeights<T = f32> {
    /// From the tokens up; at least one.
    pub blocks: Vec<BlockWeights<T>>,
    /// After the last block.
    pub final_norm: NormWeights<T>,
    /// `[joint, width]`
    pub projection: Matrix<T>,
    /// `[joint]`; zero where a model has none.
    pub projection_bias: Array1<T>,
    /// Divides the width.
    pub heads: usize,
    /// Of every block.
    pub activation: Activation,
    /// What a feature is made of.
    pub pooling: RowPooling<T>,
}

/// A causal or whole (as the layouts of its passes are), pre-norm text transformer with frozen weights (CLIP, arXiv 2103.00020).
pub struct TextTransformer<T: Scalar> {
    blocks: Vec<Block<T>>,
    final_norm: LayerNorm<T>,
    projection: Linear<T>,
    pooling: Pooling<T>,
}

/// The keys and values of rows that passes share, or their gradients: `[rows, 2 width]` a block.
#[derive(Clone, Debug, PartialEq)]
pub struct KeysValues<T>(Vec<Array2<T>>);

/// What the backward pass needs of a forward pass.
pub struct Tape<T> {
    layout: RowLayout,
    blocks: Vec<BlockTape<T>>,
    ended: Ended<T>,
}

/// What the backward pass needs of all that comes after the blocks.
struct Ended<T> {
    final_norm: Normalised<T>,
    pooling: PoolingTape<T>,
    features: UnitRows<T>,
}

impl<T: Real> Tape<T> {
    /// L2-normalised, `[sequences, joint]`.
    pub fn features(&self) -> ArrayView2<'_, T> {
        self.ended.features.rows.view()
    }
}

impl<T: Scalar> TextTransformer<T> {
    /// Packs the weights for this machine.
    pub fn new(weights: TransformerWeights<T>) -> TextTransformer<T> {
        let TransformerWeights {
            heads,
            activation,
            pooling,
            ..
        } = weights;
        TextTransformer {
            pooling: Pooling::new(pooling, activation),
            blocks: weights
                .blocks
                .into_iter()
                .map(|block| Block::new(block, heads, activation))
                .collect(),
            final_norm: norm(weights.final_norm),
            projection: Linear::new(&weights.projection, weights.projection_bias),
        }
    }

    /// Keys and values of zero for `rows` rows: none stand before the first token, and gradients are added to them.
    pub fn zero_keys_values(&self, rows: usize) -> KeysValues<T> {
        let width = 2 * self.final_norm.gain.len();
        KeysValues(vec![Array2::zeros((rows, width)); self.blocks.len()])
    }

    /// How many numbers a pass of `rows` rows that see `seen` rows each keeps for the backward pass, with what one more
    /// block needs while it runs.
    pub fn tape_numbers(&self, rows: usize, seen: usize) -> usize {
        let blocks = self.blocks.iter().chain(self.blocks.last());
        let blocks: usize = blocks.map(|block| block.tape_numbers(rows, seen)).sum();
        blocks + rows * self.pooling.tape_numbers()
    }

    /// The features of each sequence, from rows `[layout.rows(), width]` with their positions added
    /// that stand after `before`; all of it is kept for the backward pass.
    pub fn forward(&self, rows: Array2<T>, layout: RowLayout, before: &KeysValues<T>) -> Tape<T> {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        let ended = self.run(rows, &layout, before, |tape| blocks.push(tape));
        Tape {
            layout,
            blocks,
            ended,
        }
    }

    /// The same features, `[sequences, joint]`, without a backward pass; with the keys and values of `before` and the
    /// prefix, for passes that come after them.
    pub fn features(
        &self,
        rows: Array2<T>,
        layout: &RowLayout,
        before: &KeysValues<T>,
    ) -> (Array2<T>, KeysValues<T>) {
        let mut shared = Vec::with_capacity(self.blocks.len());
        let ended = self.run(rows, layout, before, |tape| {
            let prefix = tape.key_value.slice(s![..layout.prefix(), ..]);
            let before = before.0[shared.len()].view();
            let together = concatenate(Axis(0), &[before, prefix]);
            shared.push(together.expect("keys and values of one block have one width"));
        });
        (ended.features.rows, KeysValues(shared))
    }

    /// Gives back memory that only makes a training faster: weights in the order that products read them in.
    pub fn release(&self) {
        self.blocks.iter().for_each(Block::release);
        self.pooling.release();
        self.projection.release();
    }

    fn run(
        &self,
        mut rows: Array2<T>,
        layout: &RowLayout,
        before: &KeysValues<T>,
        mut keep: impl FnMut(BlockTape<T>),
    ) -> Ended<T> {
        let every: Vec<usize> = (0..layout.rows()).collect();
        for (index, block) in self.blocks.iter().enumerate() {
            let pass = self.pass(index, layout, &every, before);
            let (output, tape) = block.forward(&rows, pass);
            rows = output;
            keep(tape);
        }
        let (normal, final_norm) = self.final_norm.forward(rows.view());
        let (pooled, pooling) = self.pooling.forward(normal, layout);
        let features = normalise::forward(self.projection.forward(pooled.view()));
        Ended {
            final_norm,
            pooling,
            features,
        }
    }

    /// The gradient of rows `wanted` of the input, from that of the features (`[sequences, joint]`). `before` is what
    /// the forward had. `d_shared` has the rows of `before`, then those of the prefix: the gradients of the former are
    /// added to it, and those of the latter that later passes have left there flow into what is returned.
    pub fn backward(
        &self,
        tape: &Tape<T>,
        before: &KeysValues<T>,
        d_shared: &mut KeysValues<T>,
        wanted: Range<usize>,
        d_features: ArrayView2<T>,
    ) -> Array2<T> {
        let every: Vec<usize> = (0..tape.layout.rows()).collect();
        let ended = &tape.ended;
        let d_pooled = self
            .projection
            .backward(normalise::backward(&ended.features, d_features).view());
        let d_normal = self
            .pooling
            .backward(&ended.pooling, d_pooled, &tape.layout);
        let mut d = Array2::zeros(d_normal.dim());
        self.final_norm
            .backward_onto(&ended.final_norm, 0..d.nrows(), d_normal.view(), &mut d);
        for (index, block) in self.blocks.iter().enumerate().rev() {
            let below = if index == 0 {
                wanted.clone()
            } else {
                0..every.len()
            };
            d = block.backward(
                &tape.blocks[index],
                self.pass(index, &tape.layout, &every, before),
                &mut d_shared.0[index],
                below,
                d,
            );
        }
        d
    }

    /// What block `index` works on: after the last one, only the rows where a feature is read are needed.
    fn pass<'a>(
        &self,
        index: usize,
        layout: &'a RowLayout,
        every: &'a [usize],
        before: &'a KeysValues<T>,
    ) -> Pass<'a, T> {
        let last = index + 1 == self.blocks.len();
        let one = self.pooling.is_of_one_row();
        Pass {
            layout,
            kept: if last && one { layout.ends() } else { every },
            before: &before.0[index],
        }
    }
}

#[cfg(test)]
mod tests;
