//! Adaptation: a [`Task`] names the classes and the model that is to tell them apart; pictures become features once
//! ([`features`]), a prompt is trained on them ([`trainer`]), and labelled pictures that were held out say whether it may
//! stay ([`acceptance`]). [`unlabelled`] does the same where nobody says what the pictures show. Where prompts are kept
//! is none of its business: the outcome is a value.
//!
//! ```
//! use edge_rlp::adapt::features::{Extraction, Monitor, Pictures, extract};
//! use edge_rlp::adapt::{Judging, Options, Task, adapt};
//! use edge_rlp::clip::Model;
//! use edge_rlp::prompt::{Label, Template, Tuning};
//! use std::ops::ControlFlow;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let draw = |index| image::RgbImage::from_pixel(64, 64, image::Rgb([30 * index as u8, 90, 200]));
//! let model = Model::embedded()?;
//! let template = Template::default();
//! let labels = [Label::new("mug", None)?, Label::new("key", None)?];
//! let layout = model.layout(&template, &labels)?;
//! let task = Task::new(&model, &labels, &layout)?;
//!
//! // Eight pictures, each handed over with its class: 0 is a mug, 1 a key.
//! let pictures = Pictures { count: 8, load: &|index| Some((draw(index), index % 2)) };
//! let shots = extract(&model, pictures, Extraction::new(2, 0), Monitor::none())?;
//! let mut options = Options::of(Tuning::Rlp);
//! # options.recipe.steps = 10;
//! options.judging = Judging::HeldOut { share: 0.5 };
//! let outcome = adapt(&task, &shots, &options, &mut |_| ControlFlow::Continue(()))?;
//! let (before, after) = (outcome.evidence.zero_shot_accuracy, outcome.evidence.adapted_accuracy);
//! assert_eq!(outcome.accepted(), after >= before);
//! let prompt = outcome.prompt(&task, &template, &options)?;
//! assert_eq!(prompt.metrics.holdout_images, 4);
//! # Ok(())
//! # }
//! ```

pub mod acceptance;
#[doc(hidden)]
pub mod adam;
#[doc(hidden)]
pub mod calibration;
pub mod cross_fit;
#[doc(hidden)]
pub mod drift;
pub mod features;
pub mod inspection;
pub mod judged;
#[doc(hidden)]
pub mod lbfgs;
#[doc(hidden)]
pub mod loss;
pub mod options;
pub mod outcome;
pub mod pictures;
pub mod prototypes;
mod regularisers;
pub mod sisters;
pub mod task;
#[doc(hidden)]
pub mod trainer;
pub mod unlabelled;
pub mod verdict;

pub use acceptance::{Comparison, Evidence, Split};
pub use cross_fit::Answers;
pub use judged::{Again, Judged, Memory};
pub use options::{CommonShift, Density, Judging, Optimizer, Options, Recipe, Reference};
pub use outcome::Outcome;
pub use pictures::{LabelledPictures, PicturesError};
pub use sisters::{Sister, SisterError, Sisters};
pub use task::{MIN_LABELS, MIN_SHOTS, Task, check_labels, check_pictures};
pub use trainer::{Progress, Reached, StepReport};
pub use verdict::{Judgement, MoreShots, Verdict};

use crate::classifier::ClassifierError;
use crate::clip::{ModelError, TextTowerError};
use crate::prompt::{Delta, FactorsError};
use features::FeatureSet;
use trainer::{Objective, Shots, train};

/// Why adapting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdaptError {
    /// There is nothing to tell apart.
    #[error("there is only one label: adapting needs at least two to tell apart")]
    TooFewLabels,
    /// A class has no picture at all.
    #[error("the label {label:?} has no usable picture: add some, or remove it from the labels")]
    NoPictures {
        /// The label's name.
        label: String,
    },
    /// A class has fewer than [`MIN_SHOTS`] pictures that could be read.
    #[error(
        "the label {label:?} has {pictures} usable picture{}: give it at least {MIN_SHOTS}, better 16",
        if *pictures == 1 { "" } else { "s" }
    )]
    TooFewPictures {
        /// The label's name.
        label: String,
        /// How many it has.
        pictures: usize,
    },
    /// Without labels: fewer than [`MIN_SHOTS`] pictures of a class are sure enough to be trained on.
    #[error(
        "of the label {label:?} only {pictures} picture{} sure enough to learn from: watch for longer, or remove the label",
        if *pictures == 1 { " is" } else { "s are" }
    )]
    TooFewSure {
        /// The label's name.
        label: String,
        /// How many are sure.
        pictures: usize,
    },
    /// Without labels: there is one view of each picture.
    #[error(
        "learning without labels takes at least 2 views of each picture: whether they are named alike tells how sure a prompt is"
    )]
    OneView,
    /// The share of [`Judging::HeldOut`] is out of range.
    #[error("the hold-out share is {share}: choose one from 0 up to, but not including, 1")]
    Holdout {
        /// The share as it was given.
        share: f32,
    },
    /// The loss of a step, counted from 0, is not a number.
    #[error(
        "training diverged at step {step}: the loss is not a number; the pictures or the model may be damaged"
    )]
    Diverged {
        /// The step.
        step: usize,
    },
    /// No Gaussian can be fitted.
    #[error(
        "the pictures of every class are alike or not numbers: no Gaussian can be fitted to their features"
    )]
    Singular,
    /// The caller ended it.
    #[error("stopped before training was done; nothing was saved")]
    Stopped,
    /// The rank or the method does not fit.
    #[error(transparent)]
    Factors(#[from] FactorsError),
    /// Template, labels and model do not fit each other.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// The text tower cannot be run.
    #[error(transparent)]
    Text(#[from] TextTowerError),
    /// The image tower cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Trains a prompt for `task` on `pictures`, and compares it with the template on pictures that it was not trained on.
///
/// `progress` is called after every training step and may end it, which is [`AdaptError::Stopped`].
///
/// # Errors
/// If a class has no picture, an option does not fit the model, or training fails.
pub fn adapt(
    task: &Task,
    pictures: &FeatureSet,
    options: &Options,
    progress: &mut Progress,
) -> Result<Outcome<Comparison>, AdaptError> {
    adapt_with(task, pictures, &[], options, progress)
}

/// As [`adapt`], with prompts of sister cameras as further starts, and as candidates for what is kept.
///
/// # Errors
/// As [`adapt`], and if a sister's prompt does not fit the model.
pub fn adapt_with(
    task: &Task,
    pictures: &FeatureSet,
    sisters: &[Sister],
    options: &Options,
    progress: &mut Progress,
) -> Result<Outcome<Comparison>, AdaptError> {
    let judged = Judged::with_sisters(task, (pictures, sisters), options, progress)?;
    Ok(judged.outcome(options.answers))
}

/// Where training begins.
enum Begin<'a> {
    /// At an earlier prompt.
    At(&'a Delta),
    /// At the template, or at one of these.
    Anywhere(Vec<Delta>),
}

/// Trains a prompt on all views of all `shots`. Of many other places to begin at, only that with the lowest loss is tried: every
/// trial takes a share of the steps. What comes back says which of them training went on from; none where it was the template.
fn fit(
    task: &Task,
    shots: &FeatureSet,
    options: &Options,
    begin: &Begin,
    progress: &mut Progress,
) -> Result<(Reached, Option<usize>), AdaptError> {
    let (features, labels) = shots.every_view();
    let objective = Objective {
        task: *task,
        initial: &task.context(None)?,
        shots: Shots {
            features: features.view(),
            labels: &labels,
        },
    };
    let (mut starts, others) = match begin {
        Begin::At(delta) => (vec![(*delta).clone()], &[][..]),
        Begin::Anywhere(others) => (trainer::starts(&objective, options)?, &others[..]),
    };
    let mut nearest: Option<(usize, f32)> = None;
    for (place, other) in others.iter().enumerate() {
        let loss = objective.loss_at(other)?;
        if nearest.is_none_or(|(_, least)| loss < least) {
            nearest = Some((place, loss));
        }
    }
    let own = starts.len();
    starts.extend(nearest.map(|(place, _)| others[place].clone()));
    let reached = train(&objective, &starts, options, progress)?;
    let place = nearest.map(|(place, _)| place);
    let place = place.filter(|_| reached.start >= own);
    Ok((reached, place))
}
