//! What is applied to a product while its numbers are still in the cache: scales, bias, activation and residual.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::ArrayView2;

use crate::ops::Activation;
use crate::ops::cells::TileRows;

/// `y = activation(product + bias) + residual`; each part is optional.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[out]`
    pub bias: Option<&'a [f32]>,
    /// Applied before the residual is added.
    pub activation: Option<Activation>,
    /// `[rows, out]`, in the standard layout.
    pub residual: Option<ArrayView2<'a, f32>>,
}

impl<'a> Epilogue<'a> {
    /// Adds `bias` and nothing else.
    pub fn bias(bias: &'a [f32]) -> Epilogue<'a> {
        Epilogue {
            bias: Some(bias),
            ..Epilogue::default()
        }
    }

    /// Panics if a part does not have the size of the product, as a sum in ndarray does.
    pub(super) fn check(&self, rows: usize, out: usize) {
        assert!(
            self.bias.is_none_or(|bias| bias.len() == out),
            "a bias of another width than its product"
        );
        assert!(
            self.residual.is_none_or(
                |residual| residual.dim() == (rows, out) && residual.is_standard_layout()
            ),
            "a residual of another shape than its product"
        );
    }

    /// The part for some columns of `row`.
    #[inline(always)]
    fn span(&self, row: usize, columns: &Range<usize>) -> Span<'_> {
        Span {
            bias: self.bias.map(|bias| &bias[columns.clone()]),
            activation: self.activation,
            residual: self.residual.as_ref().map(|all| part(all, row, columns)),
        }
    }
}

/// Some columns of a row of a matrix in the standard layout.
#[inline(always)]
fn part<'a>(matrix: &'a ArrayView2<f32>, row: usize, columns: &Range<usize>) -> &'a [f32] {
    let numbers = matrix.as_slice();
    let numbers = numbers.expect("the standard layout is contiguous");
    &numbers[row * matrix.ncols()..][columns.clone()]
}

/// An [`Epilogue`] restricted to consecutive numbers of one row.
#[derive(Clone, Copy)]
struct Span<'a> {
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    residual: Option<&'a [f32]>,
}

/// What integers are multiplied by to be the product.
#[derive(Clone, Copy)]
pub(super) struct Scales<'a> {
    /// Of each row of the block.
    pub rows: &'a [f32],
    /// Of each output channel, where there are any.
    pub channels: Option<&'a [f32]>,
}

/// Writes a tile of the product of f32, from its sums, which are given as bits.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn floats(sums: &[u32], epilogue: &Epilogue, mut y: TileRows) {
    for (row, sums) in y.rows.clone().zip(sums.chunks_exact(y.columns.len())) {
        let span = epilogue.span(row, &y.columns);
        let y = y.row(row);
        begin(sums.iter().map(|&bits| f32::from_bits(bits)), span, y);
        finish(span, y);
    }
}

/// Writes a tile of the product of integers, from its sums: each times the scale of its row and, where there are any, that
/// of its output channel.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn integers(sums: &[u32], scales: Scales, epilogue: &Epilogue, mut y: TileRows) {
    let channels = scales.channels.map(|scales| &scales[y.columns.clone()]);
    let sums = sums.chunks_exact(y.columns.len());
    for ((row, sums), &scale) in y.rows.clone().zip(sums).zip(scales.rows) {
        let span = epilogue.span(row, &y.columns);
        let y = y.row(row);
        let numbers = sums.iter().map(|&bits| bits as i32 as f32 * scale);
        match channels {
            None => begin(numbers, span, y),
            Some(channels) => {
                let numbers = numbers.zip(channels).map(|(x, channel)| x * channel);
                begin(numbers, span, y);
            }
        }
        finish(span, y);
    }
}

/// All of an epilogue without an activation; what comes before the activation of one with. One loop for each: a loop that
/// asks what there is would not become vector instructions.
#[inline(always)]
fn begin(numbers: impl Iterator<Item = f32>, span: Span, y: &mut [f32]) {
    let residual = match span.activation {
        None => span.residual,
        Some(_) => None,
    };
    match (span.bias, residual) {
        (None, None) => y.iter_mut().zip(numbers).for_each(|(y, x)| *y = x),
        (Some(bias), None) => {
            let pairs = y.iter_mut().zip(numbers.zip(bias));
            pairs.for_each(|(y, (x, bias))| *y = x + bias);
        }
        (None, Some(residual)) => {
            let pairs = y.iter_mut().zip(numbers.zip(residual));
            pairs.for_each(|(y, (x, residual))| *y = x + residual);
        }
        (Some(bias), Some(residual)) => {
            let pairs = y.iter_mut().zip(numbers.zip(bias).zip(residual));
            pairs.for_each(|(y, ((x, bias), residual))| *y = (x + bias) + residual);
        }
    }
}

/// The activation and what comes after it.
#[inline(always)]
fn finish(span: Span, y: &mut [f32]) {
    let numbers = y.iter_mut();
    match span.activation {
        None => return,
        Some(Activation::QuickGelu) => numbers.for_each(|y| *y = Activation::QuickGelu.value(*y)),
        Some(Activation::Gelu) => numbers.for_each(|y| *y = Activation::Gelu.value(*y)),
        Some(Activation::GeluTanh) => numbers.for_each(|y| *y = Activation::GeluTanh.value(*y)),
    }
    if let Some(residual) = span.residual {
        let pairs = y.iter_mut().zip(residual);
        pairs.for_each(|(y, residual)| *y += residual);
    }
}
