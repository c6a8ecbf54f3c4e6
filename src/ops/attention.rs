//! Causal multi-head attention over sequences that share a prefix (Vaswani et al., arXiv 1706.03762). The gradient
//! of the prefix is the sum over the sequences that see it. It must not know the layers around it.

use ndarray::{Array2, ArrayView2};

use super::real::{add_scaled, dot};
use super::{Real, RowLayout};

/// Where the queries stand, and how the width is divided.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Divides the width.
    pub heads: usize,
    /// Which rows see which.
    pub layout: &'a RowLayout,
    /// The row that each query stands on.
    pub queries: &'a [usize],
}

/// How much each query takes from each row it sees: queries, then heads, then rows.
#[derive(Clone, Debug)]
pub struct Shares<T>(Vec<T>);

impl Attention<'_> {
    /// Mixes the values that each query sees. `query [queries, width]`, `key_value [rows, 2 width]` with a row's key
    /// before its value; returns `[queries, width]`.
    pub fn forward<T: Real>(
        &self,
        query: ArrayView2<T>,
        key_value: ArrayView2<T>,
    ) -> (Array2<T>, Shares<T>) {
        let width = query.ncols();
        let (head, scale) = self.head::<T>(width);
        let (query, key_value) = (query.as_standard_layout(), key_value.as_standard_layout());
        let (q, kv) = (flat(&query), flat(&key_value));
        let mut mixed = Array2::zeros(query.dim());
        let y = mixed.as_slice_mut().expect("a fresh array is contiguous");
        let mut shares = Vec::new();
        for (index, &row) in self.queries.iter().enumerate() {
            let [prefix, own] = self.layout.visible(row);
            for at in (0..width).step_by(head) {
                let q = &q[index * width + at..][..head];
                let y = &mut y[index * width + at..][..head];
                let first = shares.len();
                let rows = || {
                    prefix
                        .clone()
                        .chain(own.clone())
                        .map(|row| 2 * width * row + at)
                };
                shares.extend(rows().map(|key| scale * dot(q, &kv[key..][..head])));
                softmax(&mut shares[first..]);
                for (key, &share) in rows().zip(&shares[first..]) {
                    add_scaled(y, share, &kv[key + width..][..head]);
                }
            }
        }
        (mixed, Shares(shares))
    }

    /// The gradients of `query` and `key_value`, from that of the mix (`[queries, width]`).
    pub fn backward<T: Real>(
        &self,
        query: ArrayView2<T>,
        key_value: ArrayView2<T>,
        shares: &Shares<T>,
        d_mixed: ArrayView2<T>,
    ) -> (Array2<T>, Array2<T>) {
        let width = query.ncols();
        let (head, scale) = self.head::<T>(width);
        let (mut d_query, mut d_key_value) =
            (Array2::zeros(query.dim()), Array2::zeros(key_value.dim()));
        let query = query.as_standard_layout();
        let (key_value, d_mixed) = (key_value.as_standard_layout(), d_mixed.as_standard_layout());
        let (q, kv, dy) = (flat(&query), flat(&key_value), flat(&d_mixed));
        let dq = d_query.as_slice_mut().expect("a fresh array is contiguous");
        let dkv = d_key_value
            .as_slice_mut()
            .expect("a fresh array is contiguous");
        let mut shares = shares.0.as_slice();
        let mut d_shares = Vec::new();
        for (index, &row) in self.queries.iter().enumerate() {
            let [prefix, own] = self.layout.visible(row);
            for at in (0..width).step_by(head) {
                let (q, dq) = (
                    &q[index * width + at..][..head],
                    &mut dq[index * width + at..][..head],
                );
                let dy = &dy[index * width + at..][..head];
                let rows = || {
                    prefix
                        .clone()
                        .chain(own.clone())
                        .map(|row| 2 * width * row + at)
                };
                let (here, rest) = shares.split_at(prefix.len() + own.len());
                shares = rest;
                d_shares.clear();
                d_shares.extend(rows().map(|key| dot(dy, &kv[key + width..][..head])));
                let mean = dot(here, &d_shares);
                for ((key, &share), &d_share) in rows().zip(here).zip(&d_shares) {
                    let d_score = scale * share * (d_share - mean);
                    add_scaled(dq, d_score, &kv[key..][..head]);
                    add_scaled(&mut dkv[key..][..head], d_score, q);
                    add_scaled(&mut dkv[key + width..][..head], share, dy);
                }
            }
        }
        (d_query, d_key_value)
    }

    /// The width of one head, and what its scores are multiplied by.
    fn head<T: Real>(&self, width: usize) -> (usize, T) {
        let head = width / self.heads;
        (head, T::one() / T::of(head as f64).sqrt())
    }
}

fn flat<'a, T>(matrix: &'a ndarray::CowArray<T, ndarray::Ix2>) -> &'a [T] {
    matrix
        .as_slice()
        .expect("the standard layout is contiguous")
}

/// Scores to shares that add up to one.
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
        let layout = RowLayout::new(3, [2, 1, 3]);
        let every: Vec<usize> = (0..layout.rows()).collect();
        for queries in [&every[..], layout.ends()] {
            let attention = Attention {
                heads: 2,
                layout: &layout,
                queries,
            };
            let q = random(&mut rng, (queries.len(), 6));
            let kv = random(&mut rng, (layout.rows(), 12));
            let dy = random(&mut rng, (queries.len(), 6));
            let (_, shares) = attention.forward(q.view(), kv.view());
            let (dq, dkv) = attention.backward(q.view(), kv.view(), &shares, dy.view());
            assert_product(|q| attention.forward(q.view(), kv.view()).0, &q, &dy, &dq);
            assert_product(
                |kv| attention.forward(q.view(), kv.view()).0,
                &kv,
                &dy,
                &dkv,
            );
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
        let (q, mut kv) = (random(&mut rng, (5, 4)), random(&mut rng, (5, 8)));
        let (before, _) = attention.forward(q.view(), kv.view());
        assert_eq!(before.row(0), kv.slice(s![0, 4..]));
        kv.slice_mut(s![1..3, ..]).fill(0.0);
        let (after, _) = attention.forward(q.view(), kv.view());
        assert_eq!(before.slice(s![3.., ..]), after.slice(s![3.., ..]));
        assert_ne!(before.row(2), after.row(2));
    }
}
