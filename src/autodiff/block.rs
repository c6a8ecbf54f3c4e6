//! One pre-norm block of a text transformer: its weights, its forward and its backward pass.

use std::ops::Range;

use ndarray::{Array1, Array2, Axis, CowArray, Ix2, s};

use crate::ops::attention::{Attention, Probabilities};
use crate::ops::layer_norm::Normalised;
use crate::ops::{Activation, LayerNorm, Linear, Matrix, Real, RowLayout, Scalar, activation};

/// A linear layer as files hold it.
#[derive(Clone, Debug)]
pub struct LinearWeights<T = f32> {
    /// `[out, in]`
    pub weight: Matrix<T>,
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

/// A block as files hold it, in the order of its forward pass.
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
pub(super) struct Block<T: Scalar> {
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

/// Which rows a block works on.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a, T> {
    pub layout: &'a RowLayout,
    /// The rows of the output that are needed.
    pub kept: &'a [usize],
    /// The keys and values of the rows before: `[layout.before(), 2 width]`.
    pub before: &'a Array2<T>,
}

/// What the backward pass of a block needs of its forward pass.
pub(super) struct BlockTape<T> {
    norm1: Normalised<T>,
    query: Array2<T>,
    /// Of every row, the key before the value.
    pub key_value: Array2<T>,
    probabilities: Probabilities<T>,
    norm2: Normalised<T>,
    derivatives: Array2<T>,
}

impl<T: Scalar> Block<T> {
    pub fn new(weights: BlockWeights<T>, heads: usize, activation: Activation) -> Block<T> {
        let (key, value) = (&weights.key, &weights.value);
        let key_value = LinearWeights {
            weight: Matrix::stack(&[&key.weight, &value.weight]),
            bias: key.bias.iter().chain(&value.bias).copied().collect(),
        };
        Block {
            norm1: norm(weights.norm1),
            query: linear(weights.query),
            key_value: linear(key_value),
            out: linear(weights.out),
            norm2: norm(weights.norm2),
            up: linear(weights.up),
            down: linear(weights.down),
            activation,
            heads,
        }
    }

    /// `x [rows, width]` to the rows `kept` of the block's output, `[kept, width]`.
    pub fn forward(&self, x: &Array2<T>, pass: Pass<T>) -> (Array2<T>, BlockTape<T>) {
        let (normal, norm1) = self.norm1.forward(x.view());
        let query = self.query.forward(selected(&normal, pass.kept).view());
        let key_value = self.key_value.forward(normal.view());
        let (attended, probabilities) =
            self.attention(&pass)
                .forward(query.view(), pass.before.view(), key_value.view());
        let kept = selected(x, pass.kept);
        let y = self.out.forward_onto(attended.view(), kept.view());
        let (normal, norm2) = self.norm2.forward(y.view());
        let mut hidden = self.up.forward(normal.view());
        let derivatives = self.activation.forward(&mut hidden);
        let y = self.down.forward_onto(hidden.view(), y.view());
        (
            y,
            BlockTape {
                norm1,
                query,
                key_value,
                probabilities,
                norm2,
                derivatives,
            },
        )
    }

    /// The gradient of rows `wanted` of `x`, from that of the rows `kept` of the output. `d_shared [before + prefix,
    /// 2 width]` gathers the gradients of the keys and values that passes share: those of the rows before are added to
    /// it; those of the prefix, which other passes have left there, are taken into account.
    pub fn backward(
        &self,
        tape: &BlockTape<T>,
        pass: Pass<T>,
        d_shared: &mut Array2<T>,
        wanted: Range<usize>,
        mut d: Array2<T>,
    ) -> Array2<T> {
        let kept = pass.kept;
        let mut d_hidden = self.down.backward(d.view());
        activation::backward(&tape.derivatives, &mut d_hidden);
        let d_normal = self.up.backward(d_hidden.view());
        self.norm2
            .backward_onto(&tape.norm2, 0..kept.len(), d_normal.view(), &mut d);
        let d_mixed = self.out.backward(d.view());
        let (d_before, d_prefix) = d_shared.view_mut().split_at(Axis(0), pass.layout.before());
        let (d_query, mut d_key_value) = self.attention(&pass).backward(
            tape.query.view(),
            [pass.before.view(), tape.key_value.view()],
            &tape.probabilities,
            d_mixed.view(),
            d_before,
        );
        let mut prefix = d_key_value.slice_mut(s![..pass.layout.prefix(), ..]);
        prefix += &d_prefix;
        if wanted.is_empty() {
            return Array2::zeros((0, d.ncols()));
        }
        let among: Vec<usize> = (0..kept.len())
            .filter(|&index| wanted.contains(&kept[index]))
            .collect();
        let mut d_normal = self
            .key_value
            .backward(d_key_value.slice(s![wanted.clone(), ..]));
        let d_of_query = self.query.backward(selected(&d_query, &among).view());
        for (&index, row) in among.iter().zip(d_of_query.rows()) {
            let mut to = d_normal.row_mut(kept[index] - wanted.start);
            to += &row;
        }
        // Past the residual connection, the gradient of a row that was kept is that of the same row before.
        let mut dx = if among.len() == wanted.len() {
            selected(&d, &among).into_owned()
        } else {
            let mut dx = Array2::zeros((wanted.len(), d.ncols()));
            for &index in &among {
                dx.row_mut(kept[index] - wanted.start).assign(&d.row(index));
            }
            dx
        };
        self.norm1
            .backward_onto(&tape.norm1, wanted, d_normal.view(), &mut dx);
        dx
    }

    /// Gives back memory that only makes a training faster.
    pub fn release(&self) {
        for linear in [
            &self.query,
            &self.key_value,
            &self.out,
            &self.up,
            &self.down,
        ] {
            linear.release();
        }
    }

    /// How many numbers a forward pass of `rows` rows keeps for the backward pass, if every row is kept and sees `seen` rows.
    pub fn tape_numbers(&self, rows: usize, seen: usize) -> usize {
        let (width, hidden) = (self.norm1.gain.len(), self.up.width());
        rows * (5 * width + hidden + self.heads * seen)
    }

    fn attention<'a>(&self, pass: &Pass<'a, T>) -> Attention<'a> {
        Attention {
            heads: self.heads,
            layout: pass.layout,
            queries: pass.kept,
        }
    }
}

/// The rows `kept`, without a copy if these are all of them.
fn selected<'a, T: Real>(matrix: &'a Array2<T>, kept: &[usize]) -> CowArray<'a, T, Ix2> {
    if kept.len() == matrix.nrows() {
        matrix.view().into()
    } else {
        matrix.select(Axis(0), kept).into()
    }
}

pub(super) fn norm<T: Real>(weights: NormWeights<T>) -> LayerNorm<T> {
    LayerNorm {
        gain: weights.gain,
        bias: weights.bias,
        epsilon: weights.epsilon,
    }
}

pub(super) fn linear<T: Scalar>(weights: LinearWeights<T>) -> Linear<T> {
    Linear::new(&weights.weight, weights.bias)
}
