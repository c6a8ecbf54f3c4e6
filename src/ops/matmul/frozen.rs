//! The weight of a layer in f32 or in eight bits, whichever its file holds and this machine multiplies faster. It knows
//! neither layers nor gradients.

use ndarray::{Array2, ArrayView2};

use super::{Finish, PackedWeight, QuantisedWeight, Weight};
use crate::ops::matrix::StoredIntegers;

/// A weight of f32 or of integers.
pub enum FrozenWeight {
    Float(PackedWeight),
    Integer(QuantisedWeight),
}

impl Weight<f32> for FrozenWeight {
    fn new(weight: ArrayView2<f32>) -> FrozenWeight {
        FrozenWeight::Float(PackedWeight::new(weight))
    }

    fn quantised(weight: &StoredIntegers) -> FrozenWeight {
        match worthwhile(weight) {
            true => FrozenWeight::Integer(QuantisedWeight::new(weight)),
            false => FrozenWeight::new(weight.floats().view()),
        }
    }

    fn quantised_transposed(weight: &StoredIntegers) -> FrozenWeight {
        match worthwhile(weight) {
            true => FrozenWeight::Integer(QuantisedWeight::transposed(weight)),
            false => FrozenWeight::new(weight.floats().t()),
        }
    }

    fn multiply(
        &self,
        x: ArrayView2<f32>,
        bias: Option<&[f32]>,
        residual: Option<ArrayView2<f32>>,
    ) -> Array2<f32> {
        let finish = Finish {
            bias,
            residual,
            activation: None,
        };
        match self {
            FrozenWeight::Float(weight) => weight.finished(x, finish),
            FrozenWeight::Integer(weight) => weight.multiply(x, finish),
        }
    }

    fn matrix(&self) -> Array2<f32> {
        match self {
            FrozenWeight::Float(weight) => weight.matrix(),
            FrozenWeight::Integer(_) => {
                unreachable!("integers are packed anew from where they lie")
            }
        }
    }
}

/// Below this many numbers a weight becomes floats: it stays in the cache whichever way it is kept, and quantising the
/// rows costs about what the integers save.
const SMALL: usize = 1 << 17;

/// Whether integers may be worth their rounding.
fn worthwhile(weight: &StoredIntegers) -> bool {
    let (out, inner) = weight.dim();
    out * inner >= SMALL
}
