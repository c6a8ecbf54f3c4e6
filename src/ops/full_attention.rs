//! Attention in which every query sees every row, as in an image tower: forward only.

use multiversion::multiversion;
use rayon::prelude::*;

use super::Real;

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

/// Numbers that are summed in parallel.
const LANES: usize = 64;

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
    /// Writes `[queries, heads * head]` to `y`; the same for any number of threads. Panics if an operand is too short.
    pub fn write(&self, y: &mut [f32]) {
        let FullAttention { heads, head, .. } = *self;
        let width = heads * head;
        assert!(
            self.query.holds(self.queries, width)
                && self.key.holds(self.rows, width)
                && self.value.holds(self.rows, width)
                && y.len() == self.queries * width,
            "an operand of attention is too short"
        );
        let one = |index: usize| {
            let mut output = vec![0.0; self.queries * head];
            attend(&Head::new(self, index), &mut output);
            output
        };
        let output: Vec<_> = if rayon::current_num_threads() > 1 && heads > 1 {
            (0..heads).into_par_iter().map(one).collect()
        } else {
            (0..heads).map(one).collect()
        };
        for (row, y) in y.chunks_exact_mut(width.max(1)).enumerate() {
            for (y, output) in y.chunks_exact_mut(head).zip(&output) {
                y.copy_from_slice(&output[row * head..][..head]);
            }
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
    let padded = rows.next_multiple_of(LANES);
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
    let padded = head.next_multiple_of(LANES);
    let mut values = vec![0.0; rows * padded];
    for (row, values) in values.chunks_exact_mut(padded).enumerate() {
        values[..head].copy_from_slice(value.row(row, at, head));
    }
    values
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn attend(head: &Head, output: &mut [f32]) {
    let &Head {
        query,
        rows,
        width,
        scale,
        ..
    } = head;
    let mut probabilities = vec![0.0; rows.next_multiple_of(LANES)];
    let mut sums = vec![0.0; width.next_multiple_of(LANES)];
    for (row, output) in output.chunks_exact_mut(width).enumerate() {
        weighted_sum(query.row(row, 0, width), &head.keys, &mut probabilities);
        let probabilities = &mut probabilities[..rows];
        let mut highest = f32::NEG_INFINITY;
        for probability in probabilities.iter_mut() {
            *probability *= scale;
            highest = if *probability > highest {
                *probability
            } else {
                highest
            };
        }
        probabilities
            .iter_mut()
            .for_each(|probability| *probability = (*probability - highest).exponential());
        let total = super::real::sum(probabilities);
        weighted_sum(probabilities, &head.values, &mut sums);
        let inverse = 1.0 / total;
        for (output, sum) in output.iter_mut().zip(&sums) {
            *output = sum * inverse;
        }
    }
}

/// The sum of the rows of `matrix`, which are as long as `sums`, each times its weight.
#[inline(always)]
fn weighted_sum(weights: &[f32], matrix: &[f32], sums: &mut [f32]) {
    let stride = sums.len();
    for (block, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut lanes = [0.0; LANES];
        for (weight, row) in weights.iter().zip(matrix.chunks_exact(stride)) {
            let row: &[f32] = &row[block * LANES..][..LANES];
            for (lane, number) in lanes.iter_mut().zip(row) {
                *lane += weight * number;
            }
        }
        *sums = lanes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{random, relative_error};
    use crate::rng::Rng;
    use ndarray::{Array2, s};

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
            let mut y = vec![0.0; rows * width];
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
            attention.write(&mut y);
            let mut first = vec![0.0; width];
            let of_first = FullAttention {
                queries: 1,
                ..attention
            };
            of_first.write(&mut first);
            assert_eq!(first, y[..width]);
            let y = Array2::from_shape_vec((rows, width), y).unwrap();
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
        let mut y = vec![0.0; 8];
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
        attention.write(&mut y);
        assert!(y.iter().any(|y| y.is_nan()));
    }
}
