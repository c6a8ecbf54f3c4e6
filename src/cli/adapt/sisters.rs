//! Prompts of sister cameras for an adaptation: those that `--sister` names, and the fleet's where that is what is in use.

use super::super::{Context, usage};
use crate::adapt::{Sister, Task};
use crate::fleet::follower::is_of_fleet;
use crate::prompt::{Prompt, Template};
use crate::store::format;
use std::path::{Path, PathBuf};

/// What the fleet's prompt is called that is in use here.
pub const FLEETS: &str = "the fleet's prompt in use";

/// The sisters of what is trained for `task` as the prompt `trained`: those of `named`, by name or file, and the fleet's.
///
/// # Errors
/// Wrong usage, if a prompt that was named has seen the shots, is for another model or template, or knows none of the labels.
pub fn sisters(
    trained: &str,
    named: &[PathBuf],
    template: &Template,
    task: &Task,
    context: &Context,
) -> anyhow::Result<Vec<Sister>> {
    let in_use = context.home.load(trained).ok();
    let in_use = in_use.map(|loaded| loaded.record);
    let of_fleet = in_use
        .as_ref()
        .is_some_and(|prompt| is_of_fleet(&context.home, prompt));
    let mut sisters = Vec::new();
    for file in named {
        let name = file.display().to_string();
        let loaded = context.home.load(file)?;
        if let Some(warning) = &loaded.warning {
            context.output.warn(warning);
        }
        let itself = file == Path::new(trained)
            || in_use.as_ref().is_some_and(|own| same(own, &loaded.record));
        if itself && !of_fleet {
            return Err(usage(format!(
                "--sister {name}: that is the prompt that is trained anew here, and has seen these shots: name one of another \
                 camera"
            )));
        }
        if itself {
            continue;
        }
        sisters.push(Sister::new(&name, &loaded.record, task, template).map_err(usage)?);
    }
    if let Some(prompt) = in_use.filter(|_| of_fleet) {
        match Sister::new(FLEETS, &prompt, task, template) {
            Ok(sister) => sisters.push(sister),
            Err(error) => context.output.note(format!("left out: {error}")),
        }
    }
    Ok(sisters)
}

fn same(a: &Prompt, b: &Prompt) -> bool {
    let digests = format::digest(a).ok().zip(format::digest(b).ok());
    digests.is_some_and(|(a, b)| a == b)
}
