//! A frozen linear layer, `y = x Wᵀ + b`. Nothing asks for the gradient of its weight, so backward is one
//! product.

use std::sync::OnceLock;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::gemm::{Direction, Epilogue, Weight};
use super::matrix::StoredIntegers;
use super::{Matrix, Real};

/// A number that linear layers are made of: f32 in the product, f64 where a test needs central differences.
pub trait Scalar: Real {
    /// A constant matrix of these numbers, as its products need it.
    type Weight: FrozenWeight<Self>;
}

/// A constant matrix, ready for one of its two products.
pub trait FrozenWeight<T>: Send + Sync {
    /// `matrix [out, in]` for `x Wᵀ`.
    fn floats(matrix: ArrayView2<T>) -> Self;

    /// A matrix of integers, for one of its products.
    fn integers(matrix: &StoredIntegers, direction: Direction) -> Self;

    /// The product, plus `bias` and `residual`: rows `[rows, in]` to `[rows, out]`. Panics if the widths differ, as `dot`
    /// in ndarray does.
    fn multiply(
        &self,
        x: ArrayView2<T>,
        bias: Option<&[T]>,
        residual: Option<ArrayView2<T>>,
    ) -> Array2<T>;

    /// The matrix again, `[out, in]`. Panics if it was made of integers.
    fn matrix(&self) -> Array2<T>;

    /// Says that many products follow, so that memory pays that makes them faster.
    fn pack(&self) {}

    /// Gives that memory back.
    fn release(&self) {}
}

impl Scalar for f32 {
    type Weight = Weight;
}

/// A matrix of integers with fewer numbers than this is multiplied as floats: it stays in the cache either way, and
/// quantising the rows costs about as much as the integers save.
const SMALL: usize = 1 << 17;

impl FrozenWeight<f32> for Weight {
    fn floats(matrix: ArrayView2<f32>) -> Weight {
        Weight::new(matrix)
    }

    fn integers(matrix: &StoredIntegers, direction: Direction) -> Weight {
        let (out, inner) = matrix.dim();
        if out * inner < SMALL {
            Weight::quantised_on(None, matrix, direction)
        } else {
            Weight::quantised(matrix, direction)
        }
    }

    fn multiply(
        &self,
        x: ArrayView2<f32>,
        bias: Option<&[f32]>,
        residual: Option<ArrayView2<f32>>,
    ) -> Array2<f32> {
        let epilogue = Epilogue {
            bias,
            residual,
            ..Epilogue::default()
        };
        Weight::multiply(self, x, epilogue)
    }

    fn matrix(&self) -> Array2<f32> {
        Weight::floats(self).expect("integers are packed anew from where they are stored")
    }

    fn pack(&self) {
        Weight::pack(self);
    }

    fn release(&self) {
        Weight::release(self);
    }
}

impl Scalar for f64 {
    type Weight = Array2<f64>;
}

/// As it is, multiplied by ndarray.
impl FrozenWeight<f64> for Array2<f64> {
    fn floats(matrix: ArrayView2<f64>) -> Array2<f64> {
        matrix.to_owned()
    }

    fn integers(matrix: &StoredIntegers, direction: Direction) -> Array2<f64> {
        match direction {
            Direction::Forward => matrix.floats(),
            Direction::Backward => matrix.floats().reversed_axes(),
        }
    }

    fn multiply(
        &self,
        x: ArrayView2<f64>,
        bias: Option<&[f64]>,
        residual: Option<ArrayView2<f64>>,
    ) -> Array2<f64> {
        let mut y = x.dot(&self.t());
        if let Some(bias) = bias {
            y += &ArrayView1::from(bias);
        }
        if let Some(residual) = residual {
            y += &residual;
        }
        y
    }

    fn matrix(&self) -> Array2<f64> {
        self.clone()
    }
}

/// A frozen linear layer.
pub struct Linear<T: Scalar> {
    forward: T::Weight,
    /// The weight packed for `dy W`, made when first needed: a device that only classifies never needs it.
    backward: OnceLock<T::Weight>,
    /// Where the weight is stored that both are made of, if it has integers.
    stored: Option<StoredIntegers>,
    bias: Array1<T>,
}

impl<T: Scalar> Linear<T> {
    /// The layer of `weight [out, in]` and `bias [out]`.
    pub fn new(weight: &Matrix<T>, bias: Array1<T>) -> Linear<T> {
        assert_eq!(
            weight.dim().0,
            bias.len(),
            "a bias of another width than its weight"
        );
        let (forward, stored) = match weight {
            Matrix::Floats(floats) => (T::Weight::floats(floats.view()), None),
            Matrix::Integers(stored) => (
                T::Weight::integers(stored, Direction::Forward),
                Some(stored.clone()),
            ),
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
        let backward = self.backward.get_or_init(|| match &self.stored {
            Some(stored) => T::Weight::integers(stored, Direction::Backward),
            None => T::Weight::floats(self.forward.matrix().t()),
        });
        // Who asks for a gradient asks for many.
        backward.pack();
        self.forward.pack();
        backward.multiply(dy, None, None)
    }

    /// Gives back memory that only makes a training faster.
    pub fn release(&self) {
        self.forward.release();
        if let Some(backward) = self.backward.get() {
            backward.release();
        }
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
