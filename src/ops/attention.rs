//! Multi-head attention over sequences (Vaswani et al., arXiv 1706.03762), causal ones that share a prefix or whole ones
//! that share nothing. The gradient of the prefix is the sum over the sequences that see it.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::real::{add_scaled, dot};
use super::{Real, RowLayout};

/// Numbers of a head whose sums stay in registers.
const BLOCK: usize = 32;
/// Scores whose powers are computed at once.
const LANES: usize = 16;

/// Which rows are queries, and how the width is divided.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Divides the width.
    pub heads: usize,
    /// Which rows see which.
    pub layout: &'a RowLayout,
    /// The row of each query.
    pub queries: &'a [usize],
}

/// The softmax of the scores, for each query, head and row that the query sees, in that order.
#[derive(Clone, Debug)]
pub struct Probabilities<T>(Vec<T>);

impl Attention<'_> {
    /// The average of the values that each query sees, weighted by the softmax of its scores. `query [queries, width]`; `before [layout.before(), 2 width]` and
    /// `key_value [rows, 2 width]` with a row's key before its value; returns `[queries, width]`.
    pub fn forward<T: Real>(
        &self,
        query: ArrayView2<T>,
        before: ArrayView2<T>,
        key_value: ArrayView2<T>,
    ) -> (Array2<T>, Probabilities<T>) {
        let query = query.as_standard_layout();
        let (before, key_value) = (before.as_standard_layout(), key_value.as_standard_layout());
        let mut output = Array2::zeros(query.dim());
        let mut probabilities = vec![T::zero(); self.probabilities()];
        attend(
            self,
            query.ncols(),
            [flat(&query), flat(&before), flat(&key_value)],
            output.as_slice_mut().expect("a fresh array is contiguous"),
            &mut probabilities,
        );
        (output, Probabilities(probabilities))
    }

    /// The gradients of `query` and `key_value`, from that of the output (`[queries, width]`). That of `before` is added to
    /// `d_before`.
    pub fn backward<T: Real>(
        &self,
        query: ArrayView2<T>,
        [before, key_value]: [ArrayView2<T>; 2],
        probabilities: &Probabilities<T>,
        d_output: ArrayView2<T>,
        mut d_before: ArrayViewMut2<T>,
    ) -> (Array2<T>, Array2<T>) {
        let (mut d_query, mut d_key_value) =
            (Array2::zeros(query.dim()), Array2::zeros(key_value.dim()));
        let (query, d_output) = (query.as_standard_layout(), d_output.as_standard_layout());
        let (before, key_value) = (before.as_standard_layout(), key_value.as_standard_layout());
        attend_backward(
            self,
            query.ncols(),
            [
                flat(&query),
                flat(&before),
                flat(&key_value),
                flat(&d_output),
            ],
            &probabilities.0,
            [
                d_query.as_slice_mut().expect("a fresh array is contiguous"),
                d_before
                    .as_slice_mut()
                    .expect("whole rows of a gradient are contiguous"),
                d_key_value
                    .as_slice_mut()
                    .expect("a fresh array is contiguous"),
            ],
        );
        (d_query, d_key_value)
    }

    /// How many probabilities a forward pass yields.
    fn probabilities(&self) -> usize {
        self.heads
            * self
                .queries
                .iter()
                .map(|&row| self.seen(row))
                .sum::<usize>()
    }

    /// How many rows a query at `row` sees.
    fn seen(&self, row: usize) -> usize {
        let [prefix, own] = self.layout.visible(row);
        self.layout.before() + prefix.len() + own.len()
    }
}

/// The rows that a query sees, in order: 0 for rows of what comes before, 1 for those of what is here, and which.
type Visible = [(usize, Range<usize>); 3];

#[inline(always)]
fn visible(layout: &RowLayout, row: usize) -> Visible {
    let [prefix, own] = layout.visible(row);
    [(0, 0..layout.before()), (1, prefix), (1, own)]
}

/// The width of one head, and what its scores are multiplied by.
#[inline(always)]
fn head(attention: &Attention, width: usize) -> (usize, f64) {
    let head = width / attention.heads;
    (head, 1.0 / (head as f64).sqrt())
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn attend<T: Real>(
    attention: &Attention,
    width: usize,
    [query, before, key_value]: [&[T]; 3],
    output: &mut [T],
    mut probabilities: &mut [T],
) {
    let (head, scale) = head(attention, width);
    let scale = T::of(scale * std::f64::consts::LOG2_E);
    let matrices = [before, key_value];
    let mut scores = Vec::new();
    for (index, &row) in attention.queries.iter().enumerate() {
        let visible = visible(attention.layout, row);
        for at in (0..width).step_by(head) {
            let q = &query[index * width + at..][..head];
            let y = &mut output[index * width + at..][..head];
            let (own, rest) = probabilities.split_at_mut(attention.seen(row));
            probabilities = rest;
            // Whole lanes, however few scores there are: what is not there is no score.
            scores.clear();
            scores.resize(own.len().next_multiple_of(LANES), T::neg_infinity());
            dots(&mut scores[..own.len()], q, &visible, matrices, [width, at]);
            softmax(&mut scores, scale, own);
            let (blocks, rest) = y.as_chunks_mut::<BLOCK>();
            let whole = blocks.len() * BLOCK;
            for (block, y) in blocks.iter_mut().enumerate() {
                let mut sums = *y;
                let at = at + width + block * BLOCK;
                add_weighted(&mut sums, own, &visible, matrices, [width, at]);
                *y = sums;
            }
            if !rest.is_empty() {
                add_weighted(rest, own, &visible, matrices, [width, at + width + whole]);
            }
        }
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn attend_backward<T: Real>(
    attention: &Attention,
    width: usize,
    [query, before, key_value, d_output]: [&[T]; 4],
    mut probabilities: &[T],
    [d_query, d_before, d_key_value]: [&mut [T]; 3],
) {
    let (head, scale) = head(attention, width);
    let scale = T::of(scale);
    let (matrices, mut d) = ([before, key_value], [d_before, d_key_value]);
    let mut d_scores = Vec::new();
    for (index, &row) in attention.queries.iter().enumerate() {
        let visible = visible(attention.layout, row);
        d_scores.resize(attention.seen(row), T::zero());
        for at in (0..width).step_by(head) {
            let q = &query[index * width + at..][..head];
            let dq = &mut d_query[index * width + at..][..head];
            let dy = &d_output[index * width + at..][..head];
            let (own, rest) = probabilities.split_at(d_scores.len());
            probabilities = rest;
            dots(&mut d_scores, dy, &visible, matrices, [width, at + width]);
            let mean = dot(own, &d_scores);
            for (d, &probability) in d_scores.iter_mut().zip(own) {
                *d = scale * probability * (*d - mean);
            }
            let factors = [&d_scores[..], own];
            let (blocks, rest) = dq.as_chunks_mut::<BLOCK>();
            let whole = blocks.len() * BLOCK;
            let pairs = q
                .as_chunks::<BLOCK>()
                .0
                .iter()
                .zip(dy.as_chunks::<BLOCK>().0);
            for (block, (dq, (&q, &dy))) in blocks.iter_mut().zip(pairs).enumerate() {
                let mut sums = *dq;
                let place = [width, at + block * BLOCK];
                give(
                    &mut sums,
                    [&q, &dy],
                    factors,
                    &visible,
                    matrices,
                    &mut d,
                    place,
                );
                *dq = sums;
            }
            if !rest.is_empty() {
                let given = [&q[whole..], &dy[whole..]];
                let place = [width, at + whole];
                give(rest, given, factors, &visible, matrices, &mut d, place);
            }
        }
    }
}

/// The dot products of `x` with the numbers from `at` on of each row that is seen.
#[inline(always)]
fn dots<T: Real>(
    dots: &mut [T],
    x: &[T],
    visible: &Visible,
    matrices: [&[T]; 2],
    [width, at]: [usize; 2],
) {
    let mut dots = dots.iter_mut();
    for (matrix, rows) in visible {
        let matrix = matrices[*matrix];
        for (row, to) in rows.clone().zip(&mut dots) {
            *to = dot(x, &matrix[2 * width * row + at..][..x.len()]);
        }
    }
}

/// Adds to `y` the numbers from `at` on of each row that is seen, times its weight.
#[inline(always)]
fn add_weighted<T: Real>(
    y: &mut [T],
    weights: &[T],
    visible: &Visible,
    matrices: [&[T]; 2],
    [width, at]: [usize; 2],
) {
    let mut weights = weights.iter();
    for (matrix, rows) in visible {
        let matrix = matrices[*matrix];
        for (row, &weight) in rows.clone().zip(&mut weights) {
            add_scaled(y, weight, &matrix[2 * width * row + at..][..y.len()]);
        }
    }
}

/// Some numbers of the gradients that a query and the rows that it sees give each other, from `at` on: to `dq` those of the keys,
/// to the keys those of the query, and to the values those of the output, each times the factors of its row.
#[inline(always)]
fn give<T: Real>(
    dq: &mut [T],
    [q, dy]: [&[T]; 2],
    [d_scores, probabilities]: [&[T]; 2],
    visible: &Visible,
    matrices: [&[T]; 2],
    d: &mut [&mut [T]; 2],
    [width, at]: [usize; 2],
) {
    let length = dq.len();
    let mut factors = d_scores.iter().zip(probabilities);
    for (matrix, rows) in visible {
        let (keys, d) = (matrices[*matrix], &mut *d[*matrix]);
        for (row, (&d_score, &probability)) in rows.clone().zip(&mut factors) {
            let key = 2 * width * row + at;
            add_scaled(dq, d_score, &keys[key..][..length]);
            add_scaled(&mut d[key..][..length], d_score, q);
            add_scaled(&mut d[key + width..][..length], probability, dy);
        }
    }
}

fn flat<'a, T>(matrix: &'a ndarray::CowArray<T, ndarray::Ix2>) -> &'a [T] {
    matrix
        .as_slice()
        .expect("the standard layout is contiguous")
}

/// Writes the probabilities that powers of two make of `scores`, each times `scale`; there are whole lanes of scores.
#[inline(always)]
fn softmax<T: Real>(scores: &mut [T], scale: T, probabilities: &mut [T]) {
    let (lanes, _) = scores.as_chunks_mut::<LANES>();
    for lanes in &mut *lanes {
        lanes.iter_mut().for_each(|score| *score *= scale);
    }
    let higher = |a: T, &b: &T| if b > a { b } else { a };
    let highest = lanes.as_flattened()[..probabilities.len()]
        .iter()
        .fold(T::neg_infinity(), higher);
    for lanes in &mut *lanes {
        for score in lanes {
            *score = (*score - highest).power_of_two();
        }
    }
    let powers = &lanes.as_flattened()[..probabilities.len()];
    let inverse = T::one() / powers.iter().fold(T::zero(), |sum, &power| sum + power);
    for (probability, &power) in probabilities.iter_mut().zip(powers) {
        *probability = power * inverse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_product, random};
    use crate::rng::Rng;
    use ndarray::s;

    #[test]
    fn backward_matches_central_differences_for_all_queries_and_for_some() {
        let mut rng = Rng::new(8);
        let whole = RowLayout::whole(
            [(3, 1), (1, 0), (4, 2)].map(|(rows, read)| crate::ops::WholeSequence { rows, read }),
        );
        let causal = [0, 2].map(|before| RowLayout::after(before, 3, [2, 1, 3]));
        for layout in causal.into_iter().chain([whole]) {
            let before = layout.before();
            let every: Vec<usize> = (0..layout.rows()).collect();
            for queries in [&every[..], layout.ends()] {
                let attention = Attention {
                    heads: 2,
                    layout: &layout,
                    queries,
                };
                let q = random(&mut rng, (queries.len(), 6));
                let earlier = random(&mut rng, (before, 12));
                let kv = random(&mut rng, (layout.rows(), 12));
                let dy = random(&mut rng, (queries.len(), 6));
                let attend = |q: &Array2<f64>, earlier: &Array2<f64>, kv: &Array2<f64>| {
                    attention.forward(q.view(), earlier.view(), kv.view())
                };
                let (_, probabilities) = attend(&q, &earlier, &kv);
                assert_eq!(probabilities.0.len(), attention.probabilities());
                let mut d_earlier = Array2::zeros((before, 12));
                let seen = [earlier.view(), kv.view()];
                let d_before = d_earlier.view_mut();
                let (dq, dkv) =
                    attention.backward(q.view(), seen, &probabilities, dy.view(), d_before);
                assert_product(|q| attend(q, &earlier, &kv).0, &q, &dy, &dq);
                assert_product(|kv| attend(&q, &earlier, kv).0, &kv, &dy, &dkv);
                if before > 0 {
                    assert_product(|e| attend(&q, e, &kv).0, &earlier, &dy, &d_earlier);
                }
            }
        }
    }

    #[test]
    fn the_first_row_takes_its_own_value_and_no_sequence_sees_another() {
        let mut rng = Rng::new(9);
        let layout = RowLayout::new(1, [2, 2]);
        let queries: Vec<usize> = (0..5).collect();
        let attention = Attention {
            heads: 1,
            layout: &layout,
            queries: &queries,
        };
        let nothing = Array2::zeros((0, 8));
        let attend = |q: &Array2<f64>, kv: &Array2<f64>| {
            attention.forward(q.view(), nothing.view(), kv.view()).0
        };
        let (q, mut kv) = (random(&mut rng, (5, 4)), random(&mut rng, (5, 8)));
        let before = attend(&q, &kv);
        assert_eq!(before.row(0), kv.slice(s![0, 4..]));
        kv.slice_mut(s![1..3, ..]).fill(0.0);
        let after = attend(&q, &kv);
        assert_eq!(before.slice(s![3.., ..]), after.slice(s![3.., ..]));
        assert_ne!(before.row(2), after.row(2));
    }
}
