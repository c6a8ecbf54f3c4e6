//! KgCoOp (arXiv 2303.13283): CoOp, with the text features pulled towards the template's.

use super::prompt;
use super::{EvaluateError, FitOptions, Fitted, Task};
use crate::adapt::Options;
use crate::adapt::trainer::{Recipe, StepReport};
use crate::prompt::Method;
use std::ops::ControlFlow;

/// The weight of the pull, the paper's: it multiplies one minus the mean cosine.
const PULL: f32 = 8.0;

pub fn fit(
    task: &Task,
    options: &FitOptions,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Fitted, EvaluateError> {
    let coop = Options::of(Method::Coop);
    let pulled = Options {
        recipe: Recipe {
            anchor: PULL,
            ..coop.recipe
        },
        ..coop
    };
    prompt::fit(task, pulled, options, progress)
}
