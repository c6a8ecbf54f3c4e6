//! A frozen linear layer, `y = x Wᵀ + b`. Nothing asks for the gradient of its weight, so backward is one
//! product. It must not know what the rows mean.

use std::sync::OnceLock;

use ndarray::{Array1, Array2, ArrayView2};

use super::matmul::Weight;
use super::matrix::StoredIntegers;
use super::{Matrix, Real};

/// A frozen linear layer.
pub struct Linear<T: Real> {
    forward: T::Weight,
    /// The weight packed for `dy W`, made when first asked for: a device that only classifies never needs it.
    backward: OnceLock<T::Weight>,
    /// Where the weight lies that both are made of, if it has integers.
    stored: Option<StoredIntegers>,
    bias: Array1<T>,
}

impl<T: Real> Linear<T> {
    /// The layer of `weight [out, in]` and `bias [out]`.
    pub fn new(weight: &Matrix<T>, bias: Array1<T>) -> Linear<T> {
        assert_eq!(
            weight.dim().0,
            bias.len(),
            "a bias of another width than its weight"
        );
        let (forward, stored) = match weight {
            Matrix::Floats(floats) => (T::Weight::new(floats.view()), None),
            Matrix::Integers(stored) => (T::Weight::quantised(stored), Some(stored.clone())),
        };
        Linear {
            forward,
            backward: OnceLock::new(),
            stored,
            bias: bias.as_standard_layout().into_owned(),
        }
    }

    /// How many numbers a row has afterwards.
    pub fn width(&self) -> usize {
        self.bias.len()
    }

    /// `x [rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: ArrayView2<T>) -> Array2<T> {
        self.forward.multiply(x, self.bias.as_slice(), None)
    }

    /// The same, added to `residual [rows, out]`, in the standard layout.
    pub fn forward_onto(&self, x: ArrayView2<T>, residual: ArrayView2<T>) -> Array2<T> {
        self.forward
            .multiply(x, self.bias.as_slice(), Some(residual))
    }

    /// The gradient of `x [rows, in]`, from that of `y [rows, out]`.
    pub fn backward(&self, dy: ArrayView2<T>) -> Array2<T> {
        let pack = || match &self.stored {
            Some(stored) => T::Weight::quantised_transposed(stored),
            None => T::Weight::new(self.forward.matrix().t()),
        };
        self.backward.get_or_init(pack).multiply(dy, None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_product, random};
    use crate::rng::Rng;

    #[test]
    fn backward_matches_central_differences() {
        let mut rng = Rng::new(1);
        let (x, dy) = (random(&mut rng, (5, 7)), random(&mut rng, (5, 3)));
        let bias = random(&mut rng, (1, 3));
        let layer = Linear::new(&random(&mut rng, (3, 7)).into(), bias.row(0).to_owned());
        assert_product(
            |x| layer.forward(x.view()),
            &x,
            &dy,
            &layer.backward(dy.view()),
        );
    }
}
