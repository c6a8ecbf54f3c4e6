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
}

/// The numbers of a matrix in the standard layout.
struct Whole<'a> {
    numbers: &'a [f32],
    width: usize,
}

impl<'a> Whole<'a> {
    fn of(matrix: &'a ArrayView2<f32>) -> Whole<'a> {
        let numbers = matrix.as_slice();
        Whole {
            numbers: numbers.expect("the standard layout is contiguous"),
            width: matrix.ncols(),
        }
    }

    #[inline(always)]
    fn part(&self, row: usize, columns: &Range<usize>) -> &'a [f32] {
        &self.numbers[row * self.width..][columns.clone()]
    }
}

/// What integers are multiplied by to be the product.
#[derive(Clone, Copy)]
pub(super) struct Scales<'a> {
    /// Of each row of the block.
    pub rows: &'a [f32],
    /// Of each output channel, where there are any.
    pub channels: Option<&'a [f32]>,
}

/// What the sums of a kernel are turned into.
trait Product {
    /// The numbers of a row of the tile, from their sums.
    fn row(&self, row: usize, sums: &[u32]) -> impl Iterator<Item = f32>;
}

/// Sums that are the bits of f32.
struct Floats;

impl Product for Floats {
    #[inline(always)]
    fn row(&self, _: usize, sums: &[u32]) -> impl Iterator<Item = f32> {
        sums.iter().map(|&bits| f32::from_bits(bits))
    }
}

/// Integers times a scale for each row.
struct Scaled<'a>(&'a [f32]);

impl Product for Scaled<'_> {
    #[inline(always)]
    fn row(&self, row: usize, sums: &[u32]) -> impl Iterator<Item = f32> {
        let scale = self.0[row];
        sums.iter().map(move |&bits| bits as i32 as f32 * scale)
    }
}

/// The same, times a scale for each output channel.
struct ScaledTwice<'a>(Scaled<'a>, &'a [f32]);

impl Product for ScaledTwice<'_> {
    #[inline(always)]
    fn row(&self, row: usize, sums: &[u32]) -> impl Iterator<Item = f32> {
        let numbers = self.0.row(row, sums).zip(self.1);
        numbers.map(|(x, channel)| x * channel)
    }
}

/// Writes a tile of the product of f32, from its sums, which are given as bits.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn floats(sums: &[u32], epilogue: &Epilogue, y: TileRows) {
    tile(&Floats, sums, epilogue, y);
}

/// Writes a tile of the product of integers, from its sums: each times the scale of its row and, where there are any, that
/// of its output channel.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn integers(sums: &[u32], scales: Scales, epilogue: &Epilogue, y: TileRows) {
    let rows = Scaled(scales.rows);
    match scales.channels {
        None => tile(&rows, sums, epilogue, y),
        Some(scales) => {
            let channels = &scales[y.columns.clone()];
            tile(&ScaledTwice(rows, channels), sums, epilogue, y);
        }
    }
}

/// Writes a tile. There is one loop for each kind of epilogue: a loop that asks what there is would not become vector
/// instructions, and rows of a tile are so short that to ask for each of them would take about as long as the row.
#[inline(always)]
fn tile<P: Product>(product: &P, sums: &[u32], epilogue: &Epilogue, mut tile: TileRows) {
    let columns = tile.columns.clone();
    // For each row of the tile, with its number, those of its product, and where they go.
    macro_rules! rows {
        (|$row:ident, $x:ident, $y:ident| $one:expr) => {
            for (at, sums) in sums.chunks_exact(columns.len()).enumerate() {
                let $row = tile.rows.start + at;
                let ($x, $y) = (product.row(at, sums), tile.row($row));
                $one;
            }
        };
    }
    // Nothing but an activation and, mostly, a bias.
    macro_rules! activated {
        ($activation:ident) => {
            rows!(|_row, x, y| each(y, x, |x| Activation::$activation.value(x)))
        };
        ($activation:ident, $bias:ident) => {
            rows!(|_row, x, y| each(y, x.zip($bias), |(x, bias)| {
                Activation::$activation.value(x + bias)
            }))
        };
    }
    let bias = epilogue.bias.map(|bias| &bias[columns.clone()]);
    let residual = epilogue.residual.as_ref().map(Whole::of);
    match (bias, epilogue.activation, residual) {
        (None, None, None) => rows!(|_row, x, y| each(y, x, |x| x)),
        (Some(bias), None, None) => rows!(|_row, x, y| each(y, x.zip(bias), |(x, bias)| x + bias)),
        (None, None, Some(residual)) => rows!(|row, x, y| {
            each(y, x.zip(residual.part(row, &columns)), |(x, residual)| {
                x + residual
            })
        }),
        (Some(bias), None, Some(residual)) => rows!(|row, x, y| {
            let x = x.zip(bias).zip(residual.part(row, &columns));
            each(y, x, |((x, bias), residual)| (x + bias) + residual)
        }),
        (Some(bias), Some(Activation::QuickGelu), None) => activated!(QuickGelu, bias),
        (Some(bias), Some(Activation::Gelu), None) => activated!(Gelu, bias),
        (Some(bias), Some(Activation::GeluTanh), None) => activated!(GeluTanh, bias),
        (None, Some(Activation::QuickGelu), None) => activated!(QuickGelu),
        (None, Some(Activation::Gelu), None) => activated!(Gelu),
        (None, Some(Activation::GeluTanh), None) => activated!(GeluTanh),
        (bias, Some(activation), residual) => rows!(|row, x, y| {
            match bias {
                None => each(y, x, |x| x),
                Some(bias) => each(y, x.zip(bias), |(x, bias)| x + bias),
            }
            let residual = residual.as_ref();
            finish(activation, residual.map(|all| all.part(row, &columns)), y);
        }),
    }
}

#[inline(always)]
fn each<T>(y: &mut [f32], x: impl Iterator<Item = T>, number: impl Fn(T) -> f32) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = number(x));
}

/// The activation and what comes after it.
#[inline(always)]
fn finish(activation: Activation, residual: Option<&[f32]>, y: &mut [f32]) {
    let numbers = y.iter_mut();
    match activation {
        Activation::QuickGelu => numbers.for_each(|y| *y = Activation::QuickGelu.value(*y)),
        Activation::Gelu => numbers.for_each(|y| *y = Activation::Gelu.value(*y)),
        Activation::GeluTanh => numbers.for_each(|y| *y = Activation::GeluTanh.value(*y)),
    }
    if let Some(residual) = residual {
        let pairs = y.iter_mut().zip(residual);
        pairs.for_each(|(y, residual)| *y += residual);
    }
}
