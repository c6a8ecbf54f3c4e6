//! Products with a constant matrix, on the kernels of tract-linalg: f32, and eight-bit integers. This is the one module
//! that reaches tract-linalg, whose interface changes between patch releases. It knows neither layers nor gradients.

mod choice;
mod exactness;
mod finish;
mod float;
mod frozen;
mod in_place;
mod instructions;
mod int8;
mod kernel;
mod packed;
mod panels;
mod pieces;

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::matrix::StoredIntegers;

pub use choice::Kernels;
pub use exactness::{Refusal, Refused, Wrong};
pub use finish::Finish;
pub use float::PackedWeight;
pub use frozen::FrozenWeight;
pub use instructions::{UnknownInstructions, hold_to, instruction_sets};
pub use int8::{IntegerKernel, QuantisedMatrix, QuantisedWeight};
pub use kernel::{Kernel, Number};

/// A constant matrix `W [out, in]`, kept as its products want it.
pub trait Weight<T>: Send + Sync {
    /// Keeps `weight` (`[out, in]`).
    fn new(weight: ArrayView2<T>) -> Self;

    /// Keeps a matrix of integers, as this machine multiplies it fastest.
    fn quantised(weight: &StoredIntegers) -> Self;

    /// Keeps the transpose of a matrix of integers.
    fn quantised_transposed(weight: &StoredIntegers) -> Self;

    /// `x Wᵀ + bias + residual`: rows `[rows, in]` to `[rows, out]`. Panics where the widths differ, as ndarray's `dot`
    /// does.
    fn multiply(
        &self,
        x: ArrayView2<T>,
        bias: Option<&[T]>,
        residual: Option<ArrayView2<T>>,
    ) -> Array2<T>;

    /// `W` again, `[out, in]`, if it was no matrix of integers.
    fn matrix(&self) -> Array2<T>;
}

/// An f64 matrix as it is, multiplied by ndarray.
#[derive(Clone, Debug)]
pub struct PlainWeight(Array2<f64>);

impl Weight<f64> for PlainWeight {
    fn new(weight: ArrayView2<f64>) -> PlainWeight {
        PlainWeight(weight.to_owned())
    }

    fn quantised(weight: &StoredIntegers) -> PlainWeight {
        PlainWeight(weight.floats())
    }

    fn quantised_transposed(weight: &StoredIntegers) -> PlainWeight {
        PlainWeight(weight.floats().reversed_axes())
    }

    fn multiply(
        &self,
        x: ArrayView2<f64>,
        bias: Option<&[f64]>,
        residual: Option<ArrayView2<f64>>,
    ) -> Array2<f64> {
        let mut y = x.dot(&self.0.t());
        if let Some(bias) = bias {
            y += &ArrayView1::from(bias);
        }
        if let Some(residual) = residual {
            y += &residual;
        }
        y
    }

    fn matrix(&self) -> Array2<f64> {
        self.0.clone()
    }
}
