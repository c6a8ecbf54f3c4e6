//! The measurement of this machine's kernels, kept from one run to the next: it takes some ten milliseconds of a start.

use super::Context;
use crate::ops::Kernels;

const FILE: &str = "kernels.json";

/// Offers what an earlier run chose, should it have been this version on this machine.
pub fn recall(context: &Context) {
    let kept = context.home.cached(FILE);
    if let Some(kernels) = kept.and_then(|bytes| serde_json::from_slice::<Kernels>(&bytes).ok()) {
        kernels.adopt();
    }
}

/// Keeps what this run measured, if it did. Where it cannot be kept, the next run measures again.
pub fn keep(context: &Context) {
    let Some(kernels) = Kernels::in_force() else {
        return;
    };
    if let Ok(bytes) = serde_json::to_vec(kernels)
        && context.home.cached(FILE).as_ref() != Some(&bytes)
        && let Err(error) = context.home.cache(FILE, &bytes)
    {
        context
            .output
            .detail(format!("the choice of kernels was not kept ({error})"));
    }
}
