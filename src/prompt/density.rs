//! The singular spectrum of a small matrix and how much of it the first values hold.

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
    decomposed(short_side)
        .into_iter()
        .map(|triple| triple.value as f32)
        .collect()
}

/// The left singular vectors of an `[n, d]` matrix, `n <= d`: n vectors of n numbers and length one, those of the largest
/// singular values first.
pub fn left_singular_vectors(matrix: ArrayView2<f32>) -> Vec<Vec<f32>> {
    decomposed(matrix)
        .into_iter()
        .map(|triple| triple.left.into_iter().map(|x| x as f32).collect())
        .collect()
}

/// A singular value with its left and right vectors, of length one; the right one of a value of zero is zero.
#[derive(Clone, Debug)]
pub struct Triple {
    /// Not negative.
    pub value: f64,
    /// n numbers.
    pub left: Vec<f64>,
    /// d numbers.
    pub right: Vec<f64>,
}

/// The n singular values of an `[n, d]` matrix, `n <= d`, with their vectors, the largest first.
pub fn singular_triples(matrix: ArrayView2<f32>) -> Vec<Triple> {
    decomposed(matrix)
}

fn decomposed(matrix: ArrayView2<f32>) -> Vec<Triple> {
    let count = matrix.nrows();
    let wide = |row: ndarray::ArrayView1<f32>| row.iter().map(|&x| f64::from(x)).collect();
    let mut rows: Vec<Vec<f64>> = matrix.rows().into_iter().map(wide).collect();
    // The same rotations of the unit matrix's rows turn into the left vectors.
    let mut vectors: Vec<Vec<f64>> = (0..count)
        .map(|row| (0..count).map(|i| f64::from(u8::from(i == row))).collect())
        .collect();
    for _ in 0..MAX_SWEEPS {
        let mut rotated = false;
        for second in 1..count {
            let (head, tail) = rows.split_at_mut(second);
            let (vectors, vectors_tail) = vectors.split_at_mut(second);
            for (first, vector) in head.iter_mut().zip(vectors) {
                if let Some(rotation) = rotation(first, &tail[0]) {
                    rotate(first, &mut tail[0], rotation);
                    rotate(vector, &mut vectors_tail[0], rotation);
                    rotated = true;
                }
            }
        }
        if !rotated {
            break;
        }
    }
    let triples = rows.into_iter().zip(vectors).map(|(mut right, left)| {
        let value = dot(&right, &right).sqrt();
        right
            .iter_mut()
            .for_each(|x| *x /= value.max(f64::MIN_POSITIVE));
        Triple { value, left, right }
    });
    let mut decomposed: Vec<Triple> = triples.collect();
    decomposed.sort_by(|a, b| b.value.total_cmp(&a.value));
    decomposed
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

/// Cosine and sine of the rotation that makes two rows orthogonal; none where they already are.
fn rotation(first: &[f64], second: &[f64]) -> Option<[f64; 2]> {
    let (a, b, ab) = (dot(first, first), dot(second, second), dot(first, second));
    if ab.abs() <= ORTHOGONAL * (a * b).sqrt() {
        return None;
    }
    let zeta = (b - a) / (2.0 * ab);
    let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    Some([cosine, cosine * tangent])
}

/// Rotates two rows within their plane.
fn rotate(first: &mut [f64], second: &mut [f64], [cosine, sine]: [f64; 2]) {
    for (x, y) in first.iter_mut().zip(second) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
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
    fn left_vectors_are_orthonormal_and_stretch_by_the_values() {
        let mut rng = Rng::new(4);
        let matrix = Array2::from_shape_simple_fn((4, 9), || rng.normal());
        let (values, vectors) = (
            singular_values(matrix.view()),
            left_singular_vectors(matrix.view()),
        );
        for (index, (value, vector)) in values.iter().zip(&vectors).enumerate() {
            let vector = ndarray::ArrayView1::from(vector);
            let stretched = vector.dot(&matrix);
            assert!((stretched.dot(&stretched).sqrt() - value).abs() < 1e-5);
            for (other, another) in vectors.iter().enumerate() {
                let expected = if other == index { 1.0 } else { 0.0 };
                let product = vector.dot(&ndarray::ArrayView1::from(another));
                assert!((product - expected).abs() < 1e-6);
            }
        }
    }

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
