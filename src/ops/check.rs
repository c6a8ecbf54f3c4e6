//! What the operators' tests share: random matrices, and the comparison of a vector-Jacobian product with
//! central differences in f64.

use ndarray::Array2;

use crate::rng::Rng;

/// Standard normal numbers.
pub fn random(rng: &mut Rng, shape: (usize, usize)) -> Array2<f64> {
    Array2::from_shape_simple_fn(shape, || f64::from(rng.normal()))
}

/// `|a - b| / |b|`, Frobenius norms.
pub fn relative_error(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    let norm = |m: &Array2<f64>| m.iter().map(|x| x * x).sum::<f64>().sqrt();
    norm(&(a - b)) / norm(b)
}

/// The gradient at `x` of `sum(dy * forward(x))`, one central difference a number.
pub fn central_differences(
    forward: impl Fn(&Array2<f64>) -> Array2<f64>,
    x: &Array2<f64>,
    dy: &Array2<f64>,
) -> Array2<f64> {
    let step = 1e-5;
    let mut dx = Array2::zeros(x.dim());
    for (index, derivative) in dx.indexed_iter_mut() {
        let at = |offset: f64| {
            let mut moved = x.clone();
            moved[index] += offset;
            (forward(&moved) * dy).sum()
        };
        *derivative = (at(step) - at(-step)) / (2.0 * step);
    }
    dx
}

/// Asserts that `dx` is the vector-Jacobian product of `forward` at `x` with `dy`, to 1e-6.
pub fn assert_product(
    forward: impl Fn(&Array2<f64>) -> Array2<f64>,
    x: &Array2<f64>,
    dy: &Array2<f64>,
    dx: &Array2<f64>,
) {
    let error = relative_error(dx, &central_differences(forward, x, dy));
    assert!(error <= 1e-6, "relative error {error}");
}
