//! What a feature is made of, once the final norm is done: one row of each sequence, their mean, or what a head of
//! attention makes of them (SigLIP's "MAP" head: Zhai et al., arXiv 2106.04560, after Lee et al., arXiv 1810.00825).

use ndarray::{Array2, s};

use super::block::{LinearWeights, NormWeights, linear, norm};
use crate::ops::layer_norm::Normalised;
use crate::ops::{Activation, LayerNorm, Linear, RowLayout, Scalar, activation};

/// Which rows of a sequence its feature is made of, after the final norm.
#[derive(Clone, Debug, Default)]
pub enum RowPooling<T = f32> {
    /// The one that the layout names ([`RowLayout::ends`]).
    #[default]
    One,
    /// The mean of all.
    Mean,
    /// All, weighed by a head of attention.
    Attention(Box<PoolingHeadWeights<T>>),
}

/// A head of attention as files hold it: one query, which is a weight, attends over all rows; its result goes through a
/// linear layer and, with a residual sum, through a layer norm and an MLP.
#[derive(Clone, Debug)]
pub struct PoolingHeadWeights<T = f32> {
    /// `[heads, width]`: the scores of a row before the softmax are its products with these. A query that is always the
    /// same needs no keys: of their projection only its product with the query is left, and their bias, the same for
    /// every row, changes nothing.
    pub scores: Array2<T>,
    /// `[width, width]`
    pub value: LinearWeights<T>,
    /// `[width, width]`
    pub out: LinearWeights<T>,
    /// Before the MLP.
    pub norm: NormWeights<T>,
    /// `[hidden, width]`
    pub up: LinearWeights<T>,
    /// `[width, hidden]`
    pub down: LinearWeights<T>,
}

/// The same, ready to run.
pub(super) enum Pooling<T: Scalar> {
    One,
    Mean,
    Attention(Box<PoolingHead<T>>),
}

/// What the backward pass needs of pooling, where it is by attention.
pub(super) type PoolingTape<T> = Option<HeadTape<T>>;

impl<T: Scalar> Pooling<T> {
    pub fn new(weights: RowPooling<T>, activation: Activation) -> Pooling<T> {
        match weights {
            RowPooling::One => Pooling::One,
            RowPooling::Mean => Pooling::Mean,
            RowPooling::Attention(head) => {
                Pooling::Attention(Box::new(PoolingHead::new(*head, activation)))
            }
        }
    }

    /// Whether the row that the layout names is all that is needed of a sequence.
    pub fn is_of_one_row(&self) -> bool {
        matches!(self, Pooling::One)
    }

    /// Gives back memory that only makes a training faster.
    pub fn release(&self) {
        if let Pooling::Attention(head) = self {
            for linear in [&head.value, &head.out, &head.up, &head.down] {
                linear.release();
            }
        }
    }

    /// How many numbers are kept for a row.
    pub fn tape_numbers(&self) -> usize {
        match self {
            Pooling::Attention(head) => head.scores.ncols() + head.scores.nrows(),
            _ => 0,
        }
    }

    /// `rows [layout.rows(), width]`, or one row of each sequence, to `[sequences, width]`.
    pub fn forward(&self, rows: Array2<T>, layout: &RowLayout) -> (Array2<T>, PoolingTape<T>) {
        match self {
            Pooling::One => (rows, None),
            Pooling::Mean => (means(&rows, layout), None),
            Pooling::Attention(head) => {
                let (pooled, tape) = head.forward(rows, layout);
                (pooled, Some(tape))
            }
        }
    }

    /// The gradient of the rows, from that of what they were pooled to.
    pub fn backward(&self, tape: &PoolingTape<T>, d: Array2<T>, layout: &RowLayout) -> Array2<T> {
        match (self, tape) {
            (Pooling::Attention(head), Some(tape)) => head.backward(tape, d, layout),
            (Pooling::Mean, _) => spread(&d, layout),
            _ => d,
        }
    }
}

pub(super) struct PoolingHead<T: Scalar> {
    /// `[heads, width]`
    scores: Array2<T>,
    value: Linear<T>,
    out: Linear<T>,
    norm: LayerNorm<T>,
    up: Linear<T>,
    down: Linear<T>,
    activation: Activation,
}

/// What the backward pass of a head needs of its forward pass.
pub(super) struct HeadTape<T> {
    rows: Array2<T>,
    /// `[rows, heads]`
    probabilities: Array2<T>,
    norm: Normalised<T>,
    derivatives: Array2<T>,
}

impl<T: Scalar> PoolingHead<T> {
    fn new(weights: PoolingHeadWeights<T>, activation: Activation) -> PoolingHead<T> {
        PoolingHead {
            scores: weights.scores,
            value: linear(weights.value),
            out: linear(weights.out),
            norm: norm(weights.norm),
            up: linear(weights.up),
            down: linear(weights.down),
            activation,
        }
    }

    /// The values of all rows are never computed: probabilities add up to one, so the mean of values is the value of the
    /// mean row, of which each head has its own.
    fn forward(&self, rows: Array2<T>, layout: &RowLayout) -> (Array2<T>, HeadTape<T>) {
        let heads = self.scores.nrows();
        let mut probabilities = rows.dot(&self.scores.t());
        let mut pooled = Array2::zeros((layout.sequences().len() * heads, rows.ncols()));
        for (index, span) in layout.sequences().iter().enumerate() {
            let mut own = probabilities.slice_mut(s![span.clone(), ..]);
            for mut head in own.columns_mut() {
                let highest = head.fold(T::neg_infinity(), |a, &b| a.max(b));
                head.mapv_inplace(|score| (score - highest).exponential());
                let total = head.sum();
                head.mapv_inplace(|share| share / total);
            }
            let of_sequence = s![index * heads..(index + 1) * heads, ..];
            let mean = own.t().dot(&rows.slice(s![span.clone(), ..]));
            pooled.slice_mut(of_sequence).assign(&mean);
        }
        let mixed = self.own_columns(&self.value.forward(pooled.view()));
        let y = self.out.forward(mixed.view());
        let (normal, norm) = self.norm.forward(y.view());
        let mut hidden = self.up.forward(normal.view());
        let derivatives = self.activation.forward(&mut hidden);
        let y = self.down.forward_onto(hidden.view(), y.view());
        let tape = HeadTape {
            rows,
            probabilities,
            norm,
            derivatives,
        };
        (y, tape)
    }

    fn backward(&self, tape: &HeadTape<T>, mut d: Array2<T>, layout: &RowLayout) -> Array2<T> {
        let heads = self.scores.nrows();
        let mut d_hidden = self.down.backward(d.view());
        activation::backward(&tape.derivatives, &mut d_hidden);
        let d_normal = self.up.backward(d_hidden.view());
        let sequences = 0..d.nrows();
        self.norm
            .backward_onto(&tape.norm, sequences, d_normal.view(), &mut d);
        let d_mixed = self.out.backward(d.view());
        let d_pooled = self.value.backward(self.to_own_columns(&d_mixed).view());
        let mut d_rows = Array2::zeros(tape.rows.dim());
        for (index, span) in layout.sequences().iter().enumerate() {
            let of = |matrix: &'_ Array2<T>| matrix.slice(s![span.clone(), ..]).to_owned();
            let (rows, shares) = (of(&tape.rows), of(&tape.probabilities));
            let d_pooled = d_pooled.slice(s![index * heads..(index + 1) * heads, ..]);
            let mut d_scores = rows.dot(&d_pooled.t());
            for (mut d, shares) in d_scores.columns_mut().into_iter().zip(shares.columns()) {
                let mean = d.dot(&shares);
                d.zip_mut_with(&shares, |d, &share| *d = (*d - mean) * share);
            }
            let d = shares.dot(&d_pooled) + d_scores.dot(&self.scores);
            d_rows.slice_mut(s![span.clone(), ..]).assign(&d);
        }
        d_rows
    }

    /// Of `[sequences * heads, width]` the columns that belong to each row's own head: `[sequences, width]`.
    fn own_columns(&self, all: &Array2<T>) -> Array2<T> {
        let heads = self.scores.nrows();
        let width = all.ncols() / heads;
        Array2::from_shape_fn((all.nrows() / heads, all.ncols()), |(sequence, column)| {
            all[[sequence * heads + column / width, column]]
        })
    }

    /// The reverse: zeros in the columns of other heads.
    fn to_own_columns(&self, own: &Array2<T>) -> Array2<T> {
        let heads = self.scores.nrows();
        let width = own.ncols() / heads;
        Array2::from_shape_fn((own.nrows() * heads, own.ncols()), |(row, column)| {
            if column / width == row % heads {
                own[[row / heads, column]]
            } else {
                T::zero()
            }
        })
    }
}

/// The mean of the rows of each sequence: `[sequences, width]`.
fn means<T: Scalar>(rows: &Array2<T>, layout: &RowLayout) -> Array2<T> {
    let mut means = Array2::zeros((layout.sequences().len(), rows.ncols()));
    for (mut mean, span) in means.rows_mut().into_iter().zip(layout.sequences()) {
        let share = T::one() / T::of(span.len() as f64);
        for row in span.clone() {
            mean.scaled_add(share, &rows.row(row));
        }
    }
    means
}

/// The gradient of the rows, from that of their means.
fn spread<T: Scalar>(d_means: &Array2<T>, layout: &RowLayout) -> Array2<T> {
    let mut d = Array2::zeros((layout.rows(), d_means.ncols()));
    for (d_mean, span) in d_means.rows().into_iter().zip(layout.sequences()) {
        let share = T::one() / T::of(span.len() as f64);
        for row in span.clone() {
            d.row_mut(row).scaled_add(share, &d_mean);
        }
    }
    d
}
