//! The silhouettes of the object classes, as filled paths with a tone each. Knows geometry only: no colour,
//! no pattern, no light. Coordinates are about `[-1, 1]`, y downwards; the caller turns, scales and places.

mod animals;
mod household;
mod tools;

use super::sketch::{Part, Sketch};
use crate::rng::Rng;
use animals::{butterfly, fish};
use household::{boot, bottle, chair, mug, umbrella};
use tools::{gear, hammer, key, ladder, scissors};

/// The names of the classes, in the order of the labels.
pub const CLASSES: [&str; 12] = [
    "mug",
    "bottle",
    "hammer",
    "scissors",
    "key",
    "umbrella",
    "fish",
    "gear",
    "boot",
    "chair",
    "ladder",
    "butterfly",
];

/// The parts of class `class` (an index into [`CLASSES`]), its proportions varied by `rng`.
pub fn parts(class: usize, rng: &mut Rng) -> Vec<Part> {
    const DRAW: [fn(&mut Sketch, &mut Rng); CLASSES.len()] = [
        mug, bottle, hammer, scissors, key, umbrella, fish, gear, boot, chair, ladder, butterfly,
    ];
    let mut sketch = Sketch(Vec::new());
    DRAW[class](&mut sketch, rng);
    sketch.0
}
