//! Rows that are quantised on their way into a kernel.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::{Functions, TileInputs, Tiles};
use crate::ops::gemm::quantise::Quantised;
use crate::ops::pool::SHARED;

/// Quantised rows, as a kernel reads them.
pub(in super::super) struct Inputs {
    pub(super) values: Values,
    /// Values from one row to the next.
    stride: usize,
    pub(super) starts: Vec<i32>,
}

pub(super) enum Values {
    Bytes(Vec<i8>),
    Words(Vec<i16>),
}

/// A row of them.
pub(in super::super) enum Line<'a> {
    Bytes(&'a mut [MaybeUninit<i8>]),
    Words(&'a mut [MaybeUninit<i16>]),
}

impl Inputs {
    /// `rows` rows of `inner` values, each of which `quantise` writes, and their scales.
    pub(super) fn new(
        kernel: &Functions,
        [rows, inner]: [usize; 2],
        quantise: &(dyn Fn(usize, Line) -> Quantised + Sync),
    ) -> (Inputs, Vec<f32>) {
        let stride = (kernel.stride)(inner.next_multiple_of(kernel.step));
        let sizes = [rows, inner, stride];
        let (values, rows) = match kernel.tiles {
            Tiles::Bytes(_) => {
                let (values, rows) = lines(sizes, |row, line| quantise(row, Line::Bytes(line)));
                (Values::Bytes(values), rows)
            }
            Tiles::Words(_) => {
                let (values, rows) = lines(sizes, |row, line| quantise(row, Line::Words(line)));
                (Values::Words(values), rows)
            }
        };
        // As many times 128 as each of the weights is too large.
        let start = |row: &Quantised| if kernel.unsigned { -128 * row.sum } else { 0 };
        let inputs = Inputs {
            values,
            stride,
            starts: rows.iter().map(start).collect(),
        };
        (inputs, rows.iter().map(|row| row.scale).collect())
    }

    /// Some of the rows of `values`, which are those of all rows.
    pub(super) fn tile<'a, V>(&'a self, values: &'a [V], rows: Range<usize>) -> TileInputs<'a, V> {
        TileInputs {
            values: &values[rows.start * self.stride..rows.end * self.stride],
            stride: self.stride,
            starts: &self.starts[rows],
        }
    }
}

/// Rows of `inner` values, which `write` writes, and zeros up to `stride`, with what `write` returned. Several threads write
/// a part each: what they wrote last is still in their caches.
fn lines<V: Copy + Default + Send>(
    [rows, inner, stride]: [usize; 3],
    write: impl Fn(usize, &mut [MaybeUninit<V>]) -> Quantised + Sync,
) -> (Vec<V>, Vec<Quantised>) {
    let mut found = vec![Quantised::default(); rows];
    let mut values = Vec::with_capacity(rows * stride);
    let places = &mut values.spare_capacity_mut()[..rows * stride];
    let one = |(row, (line, found)): (usize, (&mut [MaybeUninit<V>], &mut Quantised))| {
        let (own, padding) = line.split_at_mut(inner);
        *found = write(row, own);
        // Padding is zero here, so that it may be anything in the weights.
        padding.fill(MaybeUninit::new(V::default()));
    };
    let threads = rayon::current_num_threads();
    if threads > 1 && rows > 1 && rows * inner >= SHARED {
        let lines = places.par_chunks_exact_mut(stride);
        let each = lines.zip(&mut found).enumerate();
        each.with_min_len(rows.div_ceil(threads)).for_each(one);
    } else {
        let lines = places.chunks_exact_mut(stride.max(1));
        lines.zip(&mut found).enumerate().for_each(one);
    }
    // SAFETY: each row was written, and its padding.
    unsafe { values.set_len(rows * stride) };
    (values, found)
}
