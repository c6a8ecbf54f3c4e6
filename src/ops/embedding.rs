//! The rows a text transformer starts from: token embeddings with their position added.

use ndarray::{Array2, ArrayView2, Zip};

use super::{Real, RowLayout};

/// Adds to each of `rows [layout.rows(), width]` the position `[positions, width]` it stands on in its sequence.
/// The vector-Jacobian product is the identity: a gradient passes as it is.
pub fn add_positions<T: Real>(rows: &mut Array2<T>, positions: ArrayView2<T>, layout: &RowLayout) {
    for (index, row) in rows.rows_mut().into_iter().enumerate() {
        Zip::from(row)
            .and(positions.row(layout.position(index)))
            .for_each(|x, &p| *x += p);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_product, random};
    use crate::rng::Rng;

    #[test]
    fn every_sequence_continues_where_the_prefix_ends_and_a_gradient_passes() {
        let mut rng = Rng::new(7);
        let layout = RowLayout::new(2, [1, 2]);
        let positions = random(&mut rng, (6, 3));
        let forward = |x: &Array2<f64>| {
            let mut y = x.clone();
            add_positions(&mut y, positions.view(), &layout);
            y
        };
        let y = forward(&Array2::zeros((5, 3)));
        for (row, position) in [0, 1, 2, 2, 3].into_iter().enumerate() {
            assert_eq!(y.row(row), positions.row(position));
        }
        let (x, dy) = (random(&mut rng, (5, 3)), random(&mut rng, (5, 3)));
        assert_product(forward, &x, &dy, &dy);
    }
}
