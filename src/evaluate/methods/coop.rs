//! CoOp (arXiv 2109.01134): the full context, nothing that holds it back. The optimiser is ours: full batches of
//! cached features instead of SGD on re-encoded pictures.

use super::prompt;
use super::{EvaluateError, FitOptions, Fitted, Task};
use crate::adapt::Options;
use crate::adapt::trainer::StepReport;
use crate::prompt::Method;
use std::ops::ControlFlow;

pub fn fit(
    task: &Task,
    options: &FitOptions,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Fitted, EvaluateError> {
    prompt::fit(task, Options::of(Method::Coop), options, progress)
}
