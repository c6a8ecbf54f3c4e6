//! Two low-rank factors (arXiv 2312.10813), exactly as `edge-rlp adapt` trains them.

use super::prompt;
use super::{EvaluateError, FitOptions, Fitted, Predictor};
use crate::adapt::features::FeatureSet;
use crate::adapt::{Options, Outcome, Progress, Task, adapt};
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

/// The same, and what stands beside the prompt as `options` say, which cross-validation weighs.
pub fn fit_with_prototypes(
    task: &Task,
    shots: &FeatureSet,
    options: &Options,
    progress: &mut Progress,
) -> Result<Fitted, EvaluateError> {
    let Outcome {
        delta,
        prototypes,
        history,
        ..
    } = adapt(task, shots, options, progress)?;
    let numbers = prototypes.as_ref().map_or(0, |kept| kept.numbers());
    let parameters = delta.parameters() + numbers;
    let predictor = match prototypes {
        Some(prototypes) => Predictor::Prototypes(delta, prototypes),
        None => Predictor::Prompt(Some(delta)),
    };
    Ok(Fitted {
        history,
        ..Fitted::untrained(parameters, predictor)
    })
}
