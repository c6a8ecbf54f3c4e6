//! Products with a constant matrix: f32, and eight-bit integers. This is the only module that uses tract-linalg, whose
//! interface changes between patch releases.

mod blocking;
mod choice;
mod direction;
mod epilogue;
mod exactness;
mod in_place;
mod instructions;
mod kernel;
mod packed;
mod packing;
mod quantise;
#[cfg(test)]
mod tests;
mod weight;
mod windows;

use ndarray::ArrayView2;

use super::matrix::StoredIntegers;

pub use choice::Kernels;
pub use direction::Direction;
pub use epilogue::Epilogue;
pub use exactness::{Refusal, Refused, Wrong};
pub use instructions::{UnknownInstructions, hold_to, instruction_sets};
pub use kernel::{Accumulator, Kernel};
pub use weight::{IntegerKernel, Weight};
pub use windows::{Lines, Windows};

impl Weight {
    /// `matrix [out, in]` for `x Wᵀ`, packed for the fastest kernel.
    pub fn new(matrix: ArrayView2<f32>) -> Weight {
        Weight::floats_on(choice::float(), matrix)
    }

    /// A matrix of integers for one of its products, as this machine computes it fastest.
    pub fn quantised(matrix: &StoredIntegers, direction: Direction) -> Weight {
        Weight::quantised_on(choice::integer(), matrix, direction)
    }

    /// The same on this kernel, or in f32 if there is none.
    pub fn quantised_on(
        kernel: Option<&IntegerKernel>,
        matrix: &StoredIntegers,
        direction: Direction,
    ) -> Weight {
        match (kernel, direction) {
            (Some(kernel), direction) => Weight::integers_on(kernel, matrix, direction),
            (None, Direction::Forward) => Weight::new(matrix.floats().view()),
            (None, Direction::Backward) => Weight::new(matrix.floats().t()),
        }
    }
}
