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

/// Averages the values of all rows, weighted by the softmax of `scale * query . key`, head by head: `queries` rows of
/// `heads * head` numbers, and `rows` rows of keys and values, to as many rows of `y` as there are queries. The result is
/// the same for any number of threads. Panics if an operand is too short.
pub fn full_attention(
    query: Rows,
    key: Rows,
    value: Rows,
    [queries, rows, heads, head]: [usize; 4],
    scale: f32,
    y: &mut [f32],
) {
    let width = heads * head;
    assert!(
        query.holds(queries, width)
            && key.holds(rows, width)
            && value.holds(rows, width)
            && y.len() == queries * width,
        "an operand of attention is too short"
    );
    let one = |index: usize| {
        let mut output = vec![0.0; queries * head];
        let keys = transposed(key, rows, index * head, head);
        let values = padded(value, rows, index * head, head);
        attend(
            query,
            index * head,
            &keys,
            &values,
            [rows, head],
            scale,
            &mut output,
        );
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
fn attend(
    query: Rows,
    at: usize,
    keys: &[f32],
    values: &[f32],
    [rows, head]: [usize; 2],
    scale: f32,
    output: &mut [f32],
) {
    let (key_stride, value_stride) = (rows.next_multiple_of(LANES), head.next_multiple_of(LANES));
    let mut probabilities = vec![0.0; key_stride];
    let mut sums = vec![0.0; value_stride];
    for (row, output) in output.chunks_exact_mut(head).enumerate() {
        weighted_sum(query.row(row, at, head), keys, &mut probabilities);
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
        weighted_sum(probabilities, values, &mut sums);
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
            let sizes = [rows, rows, heads, head];
            full_attention(part(0), part(1), part(2), sizes, scale as f32, &mut y);
            let mut first = vec![0.0; width];
            let sizes = [1, rows, heads, head];
            full_attention(part(0), part(1), part(2), sizes, scale as f32, &mut first);
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
        full_attention(part(0), part(1), part(2), [4, 4, 1, 2], 1.0, &mut y);
        assert!(y.iter().any(|y| y.is_nan()));
    }
}
