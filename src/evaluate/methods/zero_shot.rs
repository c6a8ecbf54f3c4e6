//! The plain template: nothing is learnt.

use super::{Fitted, Predictor};

/// The plain template, which needs no shots.
pub fn fit() -> Fitted {
    Fitted::untrained(0, Predictor::Prompt(None))
}
