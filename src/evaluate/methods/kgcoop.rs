//! KgCoOp (arXiv 2303.13283): CoOp, with the text features pulled towards the template's.

use super::prompt;
use super::{EvaluateError, FitOptions, Fitted};
use crate::adapt::features::FeatureSet;
use crate::adapt::{Options, Progress, Task};
use crate::prompt::Tuning;

/// The weight of the pull, the paper's: it multiplies one minus the mean cosine.
const PULL: f32 = 8.0;

/// Trains the full context with the pull.
pub fn fit(
    task: &Task,
    shots: &FeatureSet,
    options: &FitOptions,
    progress: &mut Progress,
) -> Result<Fitted, EvaluateError> {
    let mut coop = Options::of(Tuning::Coop);
    coop.recipe.anchor = PULL;
    prompt::fit(task, shots, options.apply(coop), progress)
}
