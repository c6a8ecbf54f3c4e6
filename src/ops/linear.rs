//! A frozen linear layer, `y = x Wᵀ + b`. Nothing asks for the gradient of its weight, so backward is one
//! product. It must not know what the rows mean.

use std::sync::OnceLock;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::Real;
use super::matmul::Weight;

/// A frozen linear layer.
pub struct Linear<T: Real> {
    forward: T::Weight,
    /// The weight packed for `dy W`, made when first asked for: a device that only classifies never needs it.
    backward: OnceLock<T::Weight>,
    bias: Array1<T>,
}

impl<T: Real> Linear<T> {
    /// The layer of `weight [out, in]` and `bias [out]`.
    pub fn new(weight: ArrayView2<T>, bias: ArrayView1<T>) -> Linear<T> {
        assert_eq!(
            weight.nrows(),
            bias.len(),
            "a bias of another width than its weight"
        );
        Linear {
            forward: T::Weight::new(weight),
            backward: OnceLock::new(),
            bias: bias.to_owned(),
        }
    }

    /// `x [rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: ArrayView2<T>) -> Array2<T> {
        let mut y = self.forward.multiply(x);
        y += &self.bias;
        y
    }

    /// The gradient of `x [rows, in]`, from that of `y [rows, out]`.
    pub fn backward(&self, dy: ArrayView2<T>) -> Array2<T> {
        self.backward
            .get_or_init(|| T::Weight::new(self.forward.matrix().t()))
            .multiply(dy)
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
        let layer = Linear::new(random(&mut rng, (3, 7)).view(), bias.row(0));
        assert_product(
            |x| layer.forward(x.view()),
            &x,
            &dy,
            &layer.backward(dy.view()),
        );
    }
}
