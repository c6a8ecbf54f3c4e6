//! Attention in which every query sees every row, as in an image tower: forward only.

use std::mem::MaybeUninit;

use multiversion::{multiversion, target::match_target};
use rayon::prelude::*;

use super::Real;
use super::cells::{Cells, TileRows};

/// One operand of an attention: rows of `width` numbers, each `stride` after the one before, from `offset` on.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub numbers: &'a [f32],
    pub offset: usize,
    pub stride: usize,
}

impl<'a> Rows<'a> {
    fn row(&self, row: usize, at: usize, width: usize) -> &'a [f32] {
        &self.numbers[row * self.stride + self.offset + at..][..width]
    }

    /// Whether `rows` rows of `width` numbers lie within the memory.
    fn holds(&self, rows: usize, width: usize) -> bool {
        let end = rows
            .checked_sub(1)
            .map_or(0, |last| last * self.stride + self.offset + width);
        end <= self.numbers.len()
    }
}

/// Scores whose powers are computed at once.
const LANES: usize = 16;
/// What rows are filled up to with zeros: a multiple of all vectors that they are read in.
const PADDING: usize = 64;

/// Averages the values of all rows, weighted by the softmax of `scale * query . key`, head by head.
#[derive(Clone, Copy, Debug)]
pub struct FullAttention<'a> {
    /// `queries` rows of `heads * head` numbers.
    pub query: Rows<'a>,
    /// `rows` rows, as wide.
    pub key: Rows<'a>,
    /// As many as there are keys.
    pub value: Rows<'a>,
    pub queries: usize,
    pub rows: usize,
    pub heads: usize,
    /// Numbers of a row that belong to one head.
    pub head: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

impl FullAttention<'_> {
    /// Writes `[queries, heads * head]` to `y`, every number of it; the same for any number of threads. Panics if an operand
    /// is too short.
    pub fn write(&self, y: &mut [MaybeUninit<f32>]) {
        let FullAttention { heads, head, .. } = *self;
        let width = heads * head;
        assert!(
            self.query.holds(self.queries, width)
                && self.key.holds(self.rows, width)
                && self.value.holds(self.rows, width)
                && y.len() == self.queries * width,
            "an operand of attention is too short"
        );
        let cells = Cells::new(y, width);
        let one = |index: usize| {
            // SAFETY: every head has columns of its own.
            let y = unsafe { cells.tile(0..self.queries, index * head..(index + 1) * head) };
            attend(&Head::new(self, index), y);
        };
        if rayon::current_num_threads() > 1 && heads > 1 {
            (0..heads).into_par_iter().for_each(one);
        } else {
            (0..heads).for_each(one);
        }
    }
}

/// One head, with keys and values in the order that they are read in.
struct Head<'a> {
    query: Rows<'a>,
    /// `[width, rows]`, as [`transposed`] arranges them.
    keys: Vec<f32>,
    /// `[rows, width]`, as [`padded`] arranges them.
    values: Vec<f32>,
    rows: usize,
    width: usize,
    scale: f32,
}

impl<'a> Head<'a> {
    fn new(attention: &FullAttention<'a>, index: usize) -> Head<'a> {
        let (rows, width) = (attention.rows, attention.head);
        let at = index * width;
        Head {
            query: Rows {
                offset: attention.query.offset + at,
                ..attention.query
            },
            keys: transposed(attention.key, rows, at, width),
            values: padded(attention.value, rows, at, width),
            rows,
            width,
            scale: attention.scale,
        }
    }
}

/// The keys of a head as `[head, rows]`, filled up with zeros to whole lanes.
fn transposed(key: Rows, rows: usize, at: usize, head: usize) -> Vec<f32> {
    let padded = rows.next_multiple_of(PADDING);
    let mut keys = vec![0.0; head * padded];
    for row in 0..rows {
        for (index, &number) in key.row(row, at, head).iter().enumerate() {
            keys[index * padded + row] = number;
        }
    }
    keys
}

/// The values of a head as `[rows, head]`, filled up with zeros to whole lanes.
fn padded(value: Rows, rows: usize, at: usize, head: usize) -> Vec<f32> {
    let padded = head.next_multiple_of(PADDING);
    let mut values = vec![0.0; rows * padded];
    for (row, values) in values.chunks_exact_mut(padded).enumerate() {
        values[..head].copy_from_slice(value.row(row, at, head));
    }
    values
}

/// Writes `[queries, width]`. Several queries read a matrix together, in as many sums as the registers hold; each sum is
/// taken in the same order, whatever its neighbours.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn attend(head: &Head, output: TileRows) {
    match_target! {
        "x86_64+avx512f" => attend_with::<4, 64>(head, output),
        "x86_64+avx2" => attend_with::<2, 32>(head, output),
        "aarch64" => attend_with::<4, 16>(head, output),
        _ => attend_with::<2, 16>(head, output),
    }
}

#[inline(always)]
fn attend_with<const QUERIES: usize, const WIDE: usize>(head: &Head, mut output: TileRows) {
    let padded = head.rows.next_multiple_of(PADDING);
    let mut probabilities = vec![0.0; QUERIES * padded];
    let mut sums = vec![0.0; QUERIES * head.width.next_multiple_of(PADDING)];
    let rows = output.rows.clone();
    for first in rows.clone().step_by(QUERIES) {
        if first + QUERIES <= rows.end {
            attend_block::<QUERIES, WIDE>(head, first, &mut probabilities, &mut sums, &mut output);
            continue;
        }
        let probabilities = &mut probabilities[..padded];
        let sums = &mut sums[..head.width.next_multiple_of(PADDING)];
        for row in first..rows.end {
            attend_block::<1, WIDE>(head, row, probabilities, sums, &mut output);
        }
    }
}

/// The `QUERIES` queries from `first` on.
#[inline(always)]
fn attend_block<const QUERIES: usize, const WIDE: usize>(
    head: &Head,
    first: usize,
    probabilities: &mut [f32],
    sums: &mut [f32],
    output: &mut TileRows,
) {
    let queries = std::array::from_fn(|query| head.query.row(first + query, 0, head.width));
    weighted_sums::<QUERIES, WIDE>(queries, &head.keys, probabilities);
    let padded = probabilities.len() / QUERIES;
    let mut inverses = [0.0; QUERIES];
    let rows = probabilities.chunks_exact_mut(padded);
    for (probabilities, inverse) in rows.zip(&mut inverses) {
        *inverse = 1.0
            / powers(
                probabilities,
                head.rows,
                head.scale * std::f32::consts::LOG2_E,
            );
    }
    let weights = std::array::from_fn(|query| &probabilities[query * padded..][..head.rows]);
    weighted_sums::<QUERIES, WIDE>(weights, &head.values, sums);
    let stride = sums.len() / QUERIES;
    let rows = sums.chunks_exact(stride).zip(inverses);
    for (row, (sums, inverse)) in (first..).zip(rows) {
        for (output, sum) in output.row(row).iter_mut().zip(sums) {
            *output = sum * inverse;
        }
    }
}

/// Replaces the first `rows` scores by 2 to the power of how much each times `scale` is below the highest, and returns the
/// sum of these. What is beyond them, to whole lanes, is replaced by next to nothing.
#[inline(always)]
fn powers(scores: &mut [f32], rows: usize, scale: f32) -> f32 {
    scores.iter_mut().for_each(|score| *score *= scale);
    scores[rows..].fill(f32::NEG_INFINITY);
    let (chunks, _) = scores.as_chunks_mut::<LANES>();
    let mut highest = [f32::NEG_INFINITY; LANES];
    // What is not a number is passed over.
    let higher = |a: f32, b: f32| if b > a { b } else { a };
    for chunk in &*chunks {
        for (highest, &score) in highest.iter_mut().zip(chunk) {
            *highest = higher(*highest, score);
        }
    }
    let highest = highest.into_iter().fold(f32::NEG_INFINITY, higher);
    let mut total = [0.0; LANES];
    for chunk in chunks {
        for (total, score) in total.iter_mut().zip(chunk) {
            *score = (*score - highest).power_of_two();
            *total += *score;
        }
    }
    total.iter().sum()
}

/// For each of several rows of weights, the sum of the rows of `matrix`, each times its weight.
#[inline(always)]
fn weighted_sums<const ROWS: usize, const WIDE: usize>(
    weights: [&[f32]; ROWS],
    matrix: &[f32],
    sums: &mut [f32],
) {
    let stride = sums.len() / ROWS;
    let count = weights[0].len();
    let weights = weights.map(|weights| &weights[..count]);
    for at in (0..stride).step_by(WIDE) {
        let mut lanes = [[0.0; WIDE]; ROWS];
        for index in 0..count {
            let numbers: &[f32] = &matrix[index * stride + at..][..WIDE];
            for (lanes, weights) in lanes.iter_mut().zip(&weights) {
                let weight = weights[index];
                for (lane, number) in lanes.iter_mut().zip(numbers) {
                    *lane += weight * number;
                }
            }
        }
        for (sums, lanes) in sums.chunks_exact_mut(stride).zip(&lanes) {
            sums[at..][..WIDE].copy_from_slice(lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{random, relative_error};
    use crate::rng::Rng;
    use ndarray::{Array2, s};

    fn written(attention: &FullAttention) -> Array2<f32> {
        let mut y = Array2::uninit((attention.queries, attention.heads * attention.head));
        attention.write(y.as_slice_mut().unwrap());
        // SAFETY: `write` wrote every number.
        unsafe { y.assume_init() }
    }

    #[test]
    fn operands_may_lie_beside_each_other_and_heads_may_be_of_any_width() {
        let mut rng = Rng::new(21);
        for (rows, heads, head) in [(1, 1, 1), (5, 2, 12), (50, 3, 64), (130, 2, 80)] {
            let width = heads * head;
            let all = random(&mut rng, (rows, 3 * width));
            let scale = 0.3;
            let mut expected = Array2::zeros((rows, width));
            for index in 0..heads {
                let part = |which: usize| {
                    let from = which * width + index * head;
                    all.slice(s![.., from..from + head])
                };
                let mut probabilities = part(0).dot(&part(1).t()) * scale;
                for mut row in probabilities.rows_mut() {
                    row.mapv_inplace(f64::exp);
                    row /= row.sum();
                }
                expected
                    .slice_mut(s![.., index * head..(index + 1) * head])
                    .assign(&probabilities.dot(&part(2)));
            }
            let all: Vec<f32> = all.iter().map(|&x| x as f32).collect();
            let part = |which: usize| Rows {
                numbers: &all,
                offset: which * width,
                stride: 3 * width,
            };
            let attention = FullAttention {
                query: part(0),
                key: part(1),
                value: part(2),
                queries: rows,
                rows,
                heads,
                head,
                scale: scale as f32,
            };
            let y = written(&attention);
            let of_first = FullAttention {
                queries: 1,
                ..attention
            };
            assert_eq!(written(&of_first), y.slice(s![..1, ..]));
            let error = relative_error(&y.mapv(f64::from), &expected);
            assert!(error < 1e-6, "{rows} {heads} {head}: {error}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_not_hidden() {
        let mut all = vec![1.0; 4 * 6];
        all[7] = f32::NAN;
        let part = |which: usize| Rows {
            numbers: &all,
            offset: which * 2,
            stride: 6,
        };
        let attention = FullAttention {
            query: part(0),
            key: part(1),
            value: part(2),
            queries: 4,
            rows: 4,
            heads: 1,
            head: 2,
            scale: 1.0,
        };
        assert!(written(&attention).iter().any(|y| y.is_nan()));
    }
}
