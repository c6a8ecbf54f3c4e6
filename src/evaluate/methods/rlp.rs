//! Two low-rank factors (arXiv 2312.10813), exactly as `edge-rlp adapt` trains them.

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
    prompt::fit(task, Options::of(Method::Rlp), options, progress)
}
