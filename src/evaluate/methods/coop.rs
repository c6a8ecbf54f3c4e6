//! CoOp (arXiv 2109.01134): the full context, nothing that holds it back. The optimiser is ours: full batches of
//! cached features instead of SGD on re-encoded pictures.

use super::prompt;
use super::{EvaluateError, FitOptions, Fitted};
use crate::adapt::features::FeatureSet;
use crate::adapt::{Options, Progress, Task};
use crate::prompt::Tuning;

/// Trains the full context.
pub fn fit(
    task: &Task,
    shots: &FeatureSet,
    options: &FitOptions,
    progress: &mut Progress,
) -> Result<Fitted, EvaluateError> {
    prompt::fit(
        task,
        shots,
        options.apply(Options::of(Tuning::Coop)),
        progress,
    )
}
