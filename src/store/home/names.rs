//! Which names prompts and models can have: those that are the name of a file on any system, and stay in their folder.

use crate::store::error::{NameError, StoreError};

/// The longest name of a prompt or a model, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// How the names of prompt files end.
pub const PROMPT_EXTENSION: &str = ".rlp";

pub fn check_prompt_name(name: &str) -> Result<(), StoreError> {
    check_name(name, "prompt", PROMPT_EXTENSION)
}

/// Whether `name` can be a file's name before `extension`, on any system, and stays in its folder.
pub fn check_name(
    name: &str,
    what: &'static str,
    extension: &'static str,
) -> Result<(), StoreError> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fine = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.chars().all(allowed)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(extension);
    if fine {
        Ok(())
    } else {
        Err(NameError::Characters {
            name: name.into(),
            what,
            extension,
            most: MAX_NAME_BYTES,
        }
        .into())
    }
}
