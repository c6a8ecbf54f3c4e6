//! Multi-head attention over sequences (Vaswani et al., arXiv 1706.03762), causal ones that share a prefix or whole ones
//! that share nothing. The gradient of the prefix is the sum over the sequences that see it.

use multiversion::multiversion;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::real::{add_scaled, dot};
use super::{Real, RowLayout};

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

/// Where the keys and values of the rows that a query at `row` sees begin: in what comes before, then here.
#[inline(always)]
fn places(
    layout: &RowLayout,
    row: usize,
    width: usize,
) -> [impl Iterator<Item = usize> + Clone; 2] {
    let [prefix, own] = layout.visible(row);
    let place = move |row| 2 * width * row;
    [(0..layout.before()).chain(0..0), prefix.chain(own)].map(|rows| rows.map(place))
}

/// The width of one head, and what its scores are multiplied by.
#[inline(always)]
fn head<T: Real>(attention: &Attention, width: usize) -> (usize, T) {
    let head = width / attention.heads;
    (head, T::one() / T::of(head as f64).sqrt())
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
    let (head, scale) = head::<T>(attention, width);
    for (index, &row) in attention.queries.iter().enumerate() {
        let [earlier, here] = places(attention.layout, row, width);
        for at in (0..width).step_by(head) {
            let q = &query[index * width + at..][..head];
            let y = &mut output[index * width + at..][..head];
            let (own, rest) = probabilities.split_at_mut(attention.seen(row));
            probabilities = rest;
            let keys = earlier.clone().map(|place| &before[place + at..][..head]);
            let keys = keys.chain(here.clone().map(|place| &key_value[place + at..][..head]));
            own.iter_mut()
                .zip(keys)
                .for_each(|(probability, key)| *probability = scale * dot(q, key));
            softmax(own);
            let at = at + width;
            let values = earlier.clone().map(|place| &before[place + at..][..head]);
            let values = values.chain(here.clone().map(|place| &key_value[place + at..][..head]));
            own.iter()
                .zip(values)
                .for_each(|(&probability, value)| add_scaled(y, probability, value));
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
    let (head, scale) = head::<T>(attention, width);
    let mut d_scores = Vec::new();
    for (index, &row) in attention.queries.iter().enumerate() {
        let [earlier, here] = places(attention.layout, row, width);
        d_scores.resize(attention.seen(row), T::zero());
        for at in (0..width).step_by(head) {
            let q = &query[index * width + at..][..head];
            let dq = &mut d_query[index * width + at..][..head];
            let dy = &d_output[index * width + at..][..head];
            let (own, rest) = probabilities.split_at(d_scores.len());
            probabilities = rest;
            let value = at + width;
            let values = earlier
                .clone()
                .map(|place| &before[place + value..][..head]);
            let values = values.chain(
                here.clone()
                    .map(|place| &key_value[place + value..][..head]),
            );
            d_scores
                .iter_mut()
                .zip(values)
                .for_each(|(d, value)| *d = dot(dy, value));
            let mean = dot(own, &d_scores);
            for (d, &probability) in d_scores.iter_mut().zip(own) {
                *d = scale * probability * (*d - mean);
            }
            let mut each = d_scores.iter().zip(own);
            let mut give = |keys: &[T], d: &mut [T], place: usize, d_score: T, probability: T| {
                add_scaled(dq, d_score, &keys[place + at..][..head]);
                add_scaled(&mut d[place + at..][..head], d_score, q);
                add_scaled(&mut d[place + value..][..head], probability, dy);
            };
            for (place, (&d_score, &probability)) in earlier.clone().zip(&mut each) {
                give(before, d_before, place, d_score, probability);
            }
            for (place, (&d_score, &probability)) in here.clone().zip(each) {
                give(key_value, d_key_value, place, d_score, probability);
            }
        }
    }
}

fn flat<'a, T>(matrix: &'a ndarray::CowArray<T, ndarray::Ix2>) -> &'a [T] {
    matrix
        .as_slice()
        .expect("the standard layout is contiguous")
}

/// Turns scores into probabilities.
#[inline(always)]
fn softmax<T: Real>(scores: &mut [T]) {
    let highest = scores.iter().fold(T::neg_infinity(), |a, &b| a.max(b));
    let mut total = T::zero();
    for score in scores.iter_mut() {
        *score = (*score - highest).exponential();
        total += *score;
    }
    scores.iter_mut().for_each(|score| *score /= total);
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
