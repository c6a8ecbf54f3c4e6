//! What the trained prompts have in common: a change to the template's context, trained on all shots.

use super::{Classifier, EvaluateError, FitOptions, Fitted, Task, context_rows};
use crate::adapt::trainer::StepReport;
use crate::adapt::{Options, Outcome, adapt};
use std::ops::ControlFlow;

/// Trains what `default` says on all views of all shots, accepted or not: methods are compared, not verdicts.
pub fn fit(
    task: &Task,
    default: Options,
    options: &FitOptions,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Fitted, EvaluateError> {
    let mut chosen = Options {
        rank: options.rank.unwrap_or(default.rank),
        holdout: 0.0,
        seed: options.seed,
        ..default
    };
    chosen.recipe.steps = options.steps.unwrap_or(chosen.recipe.steps);
    let Outcome { delta, history, .. } = adapt(
        task.tower,
        task.layout,
        task.names,
        task.shots,
        task.scale,
        &chosen,
        progress,
    )?;
    Ok(Fitted {
        parameters: delta.parameters(),
        classifier: Classifier::Prompt {
            context: context_rows(task.tower, task.layout, Some(&delta))?,
            change: Some(delta),
        },
        history,
        seconds: 0.0,
    })
}
