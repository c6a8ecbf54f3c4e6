//! Demo scenes: drawn pictures of everyday objects under a choice of capture conditions, for a camera that
//! needs no hardware and for training the default model. Everything follows from a seed. Knows nothing of CLIP.

mod canvas;
mod conditions;
mod object;
mod scenery;
mod shapes;

pub use conditions::{CONDITIONS, Condition};
pub use object::{COLOURS, PATTERNS};
pub use scenery::BACKGROUNDS;
pub use shapes::CLASSES;

use crate::rng::Rng;
use image::RgbImage;

/// Pixels a side of the pictures as the demo camera sees them.
pub const SIZE: usize = 96;

/// All that determines a picture. The fields but the last are indices into the lists of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SceneSpec {
    /// Index into [`CLASSES`].
    pub class: usize,
    /// Index into [`COLOURS`].
    pub colour: usize,
    /// Index into [`PATTERNS`].
    pub pattern: usize,
    /// Index into [`BACKGROUNDS`].
    pub background: usize,
    /// Index into [`CONDITIONS`].
    pub condition: usize,
    /// Everything else: place, size, angle, proportions, light, clutter, noise.
    pub seed: u64,
}

/// Which of the [`reserved`] combinations of class and colour may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// None of them: what the default model is trained on.
    Skip,
    /// Nothing else: how well it does on combinations it never saw.
    Only,
    /// All combinations alike.
    Any,
}

/// What [`sample`] may choose from.
#[derive(Clone, Debug)]
pub struct Choice<'a> {
    /// Indices into [`CLASSES`], at least one.
    pub classes: &'a [usize],
    /// Indices into [`CONDITIONS`], at least one.
    pub conditions: &'a [usize],
    /// What to do with reserved combinations.
    pub reserved: Reserved,
}

/// Why a demo scene cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// No such condition.
    #[error("there is no demo condition \"{name}\"; choose one of: {known}")]
    UnknownCondition {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}

/// The index of the condition called `name`; the error lists those there are.
pub fn condition_named(name: &str) -> Result<usize, DemoError> {
    CONDITIONS.iter().position(|condition| condition.name == name).ok_or_else(|| DemoError::UnknownCondition {
        name: name.to_owned(),
        known: CONDITIONS.map(|condition| condition.name).join(", "),
    })
}

/// The indices of the conditions that the default model is trained on.
pub fn trained_conditions() -> Vec<usize> {
    (0..CONDITIONS.len()).filter(|&index| !CONDITIONS[index].held_out).collect()
}

/// True for the combinations of class and colour kept out of training: one colour a class, so 12 of 120.
pub fn reserved(class: usize, colour: usize) -> bool {
    colour == (3 * class + class / COLOURS.len()) % COLOURS.len()
}

/// Draws a scene at random: every allowed class, colour, pattern, background and condition alike.
pub fn sample(rng: &mut Rng, choice: &Choice) -> SceneSpec {
    let class = *rng.pick(choice.classes);
    let colours: Vec<usize> = (0..COLOURS.len())
        .filter(|&colour| match choice.reserved {
            Reserved::Skip => !reserved(class, colour),
            Reserved::Only => reserved(class, colour),
            Reserved::Any => true,
        })
        .collect();
    SceneSpec {
        class,
        colour: *rng.pick(&colours),
        pattern: rng.below(PATTERNS.len()),
        background: rng.below(BACKGROUNDS.len()),
        condition: *rng.pick(choice.conditions),
        seed: rng.next_u64(),
    }
}

/// The picture of a scene, `size * size` pixels. The scene under the condition is the same for every condition.
pub fn draw(spec: &SceneSpec, size: usize) -> RgbImage {
    let mut rng = Rng::new(spec.seed);
    let tint = object::tint(spec.colour, &mut rng);
    let parts = shapes::parts(spec.class, &mut rng);
    let mut canvas = scenery::draw(spec.background, tint, size, &mut rng);
    object::draw(&mut canvas, &parts, tint, spec.pattern, &mut rng);
    conditions::apply(spec.condition, &mut canvas, &mut Rng::with_stream(spec.seed, 1));
    canvas.to_image()
}
