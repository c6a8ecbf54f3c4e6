//! The singular spectrum of a small matrix and how much of it the first values hold. It must not know what the
//! matrix is for.

use ndarray::ArrayView2;

/// Sweeps of rotations; one-sided Jacobi converges quadratically and needs about five.
const MAX_SWEEPS: usize = 40;
/// Rows whose cosine is below this count as orthogonal.
const ORTHOGONAL: f64 = 1e-14;

/// The `min(n, d)` singular values of an `[n, d]` matrix, largest first (one-sided Jacobi in double precision).
pub fn singular_values(matrix: ArrayView2<f32>) -> Vec<f32> {
    let short_side = if matrix.nrows() <= matrix.ncols() {
        matrix
    } else {
        matrix.reversed_axes()
    };
    let mut rows: Vec<Vec<f64>> = short_side
        .rows()
        .into_iter()
        .map(|row| row.iter().map(|&x| f64::from(x)).collect())
        .collect();
    for _ in 0..MAX_SWEEPS {
        let mut rotated = false;
        for second in 1..rows.len() {
            let (head, tail) = rows.split_at_mut(second);
            for first in head {
                rotated |= make_orthogonal(first, &mut tail[0]);
            }
        }
        if !rotated {
            break;
        }
    }
    let mut values: Vec<f32> = rows.iter().map(|row| dot(row, row).sqrt() as f32).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// How much of the spectrum the first `k` of `singular_values` (largest first) hold:
/// `ID_k = sum_{i<=k} sigma_i / sum_j sigma_j` (arXiv 2312.10813), between 0 and 1. A zero matrix has no
/// information outside its first `k` values, so its density is 1.
pub fn information_density(singular_values: &[f32], k: usize) -> f32 {
    let sum = |values: &[f32]| values.iter().map(|&x| f64::from(x)).sum::<f64>();
    let total = sum(singular_values);
    if total > 0.0 {
        (sum(&singular_values[..k.min(singular_values.len())]) / total) as f32
    } else {
        1.0
    }
}

/// Rotates two rows within their plane until they are orthogonal; false where they already were.
fn make_orthogonal(first: &mut [f64], second: &mut [f64]) -> bool {
    let (a, b, ab) = (dot(first, first), dot(second, second), dot(first, second));
    if ab.abs() <= ORTHOGONAL * (a * b).sqrt() {
        return false;
    }
    let zeta = (b - a) / (2.0 * ab);
    let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = cosine * tangent;
    for (x, y) in first.iter_mut().zip(second) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
    true
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use ndarray::{Array2, array};

    #[test]
    fn the_values_of_known_matrices_are_found() {
        assert_eq!(
            singular_values(array![[3.0, 0.0], [0.0, -4.0]].view()),
            [4.0, 3.0]
        );
        // [[2, 2], [-1, 1]] has the singular values sqrt(8) and sqrt(2).
        let values = singular_values(array![[2.0, 2.0], [-1.0, 1.0]].view());
        assert!(
            (values[0] - 8f32.sqrt()).abs() < 1e-6 && (values[1] - 2f32.sqrt()).abs() < 1e-6,
            "{values:?}"
        );
    }

    #[test]
    fn a_built_spectrum_comes_back_and_the_transpose_has_the_same() {
        // Orthonormal rows by Gram-Schmidt, on both sides of a chosen spectrum.
        let mut rng = Rng::new(5);
        let mut orthonormal = |rows: usize, width: usize| {
            let mut basis = Array2::<f32>::zeros((rows, width));
            for i in 0..rows {
                let mut row = ndarray::Array1::from_shape_fn(width, |_| rng.normal());
                for j in 0..i {
                    let along = row.dot(&basis.row(j));
                    row.scaled_add(-along, &basis.row(j));
                }
                basis.row_mut(i).assign(&(&row / row.dot(&row).sqrt()));
            }
            basis
        };
        let spectrum = [5.0f32, 1.0, 0.25, 1e-3];
        let (left, right) = (orthonormal(4, 4), orthonormal(4, 96));
        let matrix = left
            .dot(&Array2::from_diag(&ndarray::arr1(&spectrum)))
            .dot(&right);
        for values in [singular_values(matrix.view()), singular_values(matrix.t())] {
            for (found, expected) in values.iter().zip(spectrum) {
                assert!((found - expected).abs() < 3e-6, "{values:?}");
            }
        }
    }

    #[test]
    fn rank_one_has_density_one_and_equal_values_share_it_evenly() {
        let column = Array2::from_shape_fn((4, 1), |(i, _)| i as f32 - 1.5);
        let row = Array2::from_shape_fn((1, 33), |(_, j)| (j as f32).sin());
        let density = information_density(&singular_values(column.dot(&row).view()), 1);
        assert!((density - 1.0).abs() < 1e-6, "{density}");
        assert_eq!(
            information_density(&singular_values(Array2::eye(4).view()), 1),
            0.25
        );
    }

    #[test]
    fn the_density_of_nothing_and_of_too_many_values_is_one() {
        assert_eq!(
            information_density(&singular_values(Array2::zeros((4, 8)).view()), 1),
            1.0
        );
        assert_eq!(information_density(&[2.0, 1.0], 9), 1.0);
        assert_eq!(information_density(&[], 1), 1.0);
    }
}
