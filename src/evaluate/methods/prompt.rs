//! What the trained prompts have in common: a change to the template's context, trained on all shots.

use super::{EvaluateError, Fitted, Predictor};
use crate::adapt::features::FeatureSet;
use crate::adapt::{Judging, Options, Outcome, Progress, Task, adapt};

/// Trains what `options` say on all views of all shots, accepted or not: methods are compared, not verdicts.
pub fn fit(
    task: &Task,
    shots: &FeatureSet,
    options: Options,
    progress: &mut Progress,
) -> Result<Fitted, EvaluateError> {
    let everything = options.with_judging(Judging::HeldOut { share: 0.0 });
    let Outcome { delta, history, .. } = adapt(task, shots, &everything, progress)?;
    Ok(Fitted {
        history,
        ..Fitted::untrained(delta.parameters(), Predictor::Prompt(Some(delta)))
    })
}
