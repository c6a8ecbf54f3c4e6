//! Two low-rank factors (arXiv 2312.10813), exactly as `edge-rlp adapt` trains them.

use super::prompt;
use super::{EvaluateError, FitOptions, Fitted};
use crate::adapt::features::FeatureSet;
use crate::adapt::{Options, Progress, Task};
use crate::prompt::Tuning;

/// Trains two factors.
pub fn fit(
    task: &Task,
    shots: &FeatureSet,
    options: &FitOptions,
    progress: &mut Progress,
) -> Result<Fitted, EvaluateError> {
    prompt::fit(
        task,
        shots,
        options.apply(Options::of(Tuning::Rlp)),
        progress,
    )
}
