//! One pre-norm block of a text transformer: its weights, its forward and its backward. It must not know which
//! block of the tower it is.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};

use crate::ops::attention::{Attention, Shares};
use crate::ops::layer_norm::Normalised;
use crate::ops::{Activation, LayerNorm, Linear, Real, RowLayout};

/// A linear layer as files hold it.
#[derive(Clone, Debug)]
pub struct LinearWeights<T = f32> {
    /// `[out, in]`
    pub weight: Array2<T>,
    /// `[out]`
    pub bias: Array1<T>,
}

/// A layer norm as files hold it.
#[derive(Clone, Debug)]
pub struct NormWeights<T = f32> {
    /// `[width]`
    pub gain: Array1<T>,
    /// `[width]`
    pub bias: Array1<T>,
    /// Added to the variance.
    pub epsilon: T,
}

/// A block as files hold it, in the order of its sweep.
#[derive(Clone, Debug)]
pub struct BlockWeights<T = f32> {
    /// Before attention.
    pub norm1: NormWeights<T>,
    /// `[width, width]`
    pub query: LinearWeights<T>,
    /// `[width, width]`
    pub key: LinearWeights<T>,
    /// `[width, width]`
    pub value: LinearWeights<T>,
    /// `[width, width]`
    pub out: LinearWeights<T>,
    /// Before the MLP.
    pub norm2: NormWeights<T>,
    /// `[hidden, width]`
    pub up: LinearWeights<T>,
    /// `[width, hidden]`
    pub down: LinearWeights<T>,
}

/// A block ready to run.
pub(super) struct Block<T: Real> {
    norm1: LayerNorm<T>,
    query: Linear<T>,
    /// Keys, then values: `[2 width, width]`.
    key_value: Linear<T>,
    out: Linear<T>,
    norm2: LayerNorm<T>,
    up: Linear<T>,
    down: Linear<T>,
    activation: Activation,
    heads: usize,
}

/// What the backward of a block needs of its forward.
pub(super) struct BlockTape<T> {
    norm1: Normalised<T>,
    query: Array2<T>,
    key_value: Array2<T>,
    shares: Shares<T>,
    norm2: Normalised<T>,
    slopes: Array2<T>,
}

impl<T: Real> Block<T> {
    pub fn new(weights: BlockWeights<T>, heads: usize, activation: Activation) -> Block<T> {
        let (key, value) = (&weights.key, &weights.value);
        let key_value = LinearWeights {
            weight: stack(&[key.weight.view(), value.weight.view()]),
            bias: Array1::from_iter(key.bias.iter().chain(&value.bias).copied()),
        };
        Block {
            norm1: norm(weights.norm1),
            query: linear(&weights.query),
            key_value: linear(&key_value),
            out: linear(&weights.out),
            norm2: norm(weights.norm2),
            up: linear(&weights.up),
            down: linear(&weights.down),
            activation,
            heads,
        }
    }

    /// `x [rows, width]` to the rows `kept` of the block's output, `[kept, width]`.
    pub fn forward(
        &self,
        x: &Array2<T>,
        layout: &RowLayout,
        kept: &[usize],
    ) -> (Array2<T>, BlockTape<T>) {
        let (normal, norm1) = self.norm1.forward(x.view());
        let query = self.query.forward(normal.select(Axis(0), kept).view());
        let key_value = self.key_value.forward(normal.view());
        let (mixed, shares) = self
            .attention(layout, kept)
            .forward(query.view(), key_value.view());
        let mut y = self.out.forward(mixed.view());
        y += &x.select(Axis(0), kept);
        let (normal, norm2) = self.norm2.forward(y.view());
        let mut hidden = self.up.forward(normal.view());
        let slopes = self.activation.forward(&mut hidden);
        y += &self.down.forward(hidden.view());
        (
            y,
            BlockTape {
                norm1,
                query,
                key_value,
                shares,
                norm2,
                slopes,
            },
        )
    }

    /// The gradient of rows `wanted` of `x`, from that of the rows `kept` of the output.
    pub fn backward(
        &self,
        tape: &BlockTape<T>,
        layout: &RowLayout,
        kept: &[usize],
        wanted: Range<usize>,
        mut d: Array2<T>,
    ) -> Array2<T> {
        let d_hidden = self.down.backward(d.view()) * &tape.slopes;
        let d_normal = self.up.backward(d_hidden.view());
        d += &self
            .norm2
            .backward(&tape.norm2, 0..kept.len(), d_normal.view());
        let d_mixed = self.out.backward(d.view());
        let (d_query, d_key_value) = self.attention(layout, kept).backward(
            tape.query.view(),
            tape.key_value.view(),
            &tape.shares,
            d_mixed.view(),
        );
        let among: Vec<usize> = (0..kept.len())
            .filter(|&index| wanted.contains(&kept[index]))
            .collect();
        let add_kept = |to: &mut Array2<T>, from: &Array2<T>| {
            for (&index, row) in among.iter().zip(from.rows()) {
                let mut to = to.row_mut(kept[index] - wanted.start);
                to += &row;
            }
        };
        let mut d_normal = self
            .key_value
            .backward(d_key_value.slice(s![wanted.clone(), ..]));
        add_kept(
            &mut d_normal,
            &self.query.backward(d_query.select(Axis(0), &among).view()),
        );
        let mut dx = self
            .norm1
            .backward(&tape.norm1, wanted.clone(), d_normal.view());
        add_kept(&mut dx, &d.select(Axis(0), &among));
        dx
    }

    fn attention<'a>(&self, layout: &'a RowLayout, queries: &'a [usize]) -> Attention<'a> {
        Attention {
            heads: self.heads,
            layout,
            queries,
        }
    }
}

pub(super) fn norm<T: Real>(weights: NormWeights<T>) -> LayerNorm<T> {
    LayerNorm {
        gain: weights.gain,
        bias: weights.bias,
        epsilon: weights.epsilon,
    }
}

fn linear<T: Real>(weights: &LinearWeights<T>) -> Linear<T> {
    Linear::new(weights.weight.view(), weights.bias.view())
}

fn stack<T: Real>(matrices: &[ArrayView2<T>]) -> Array2<T> {
    concatenate(Axis(0), matrices).expect("keys and values have one width")
}
