//! Which model a command works with: the one compiled in, one of the home folder, or a file.

use super::Context;
use crate::clip::Model;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// The name of the model that is compiled in.
const DEFAULT: &str = "default";
/// The end of a model bundle's file name.
const EXTENSION: &str = "rlpm";

/// Opens the model that `--model` names: nothing for the default that is compiled in, else a bundle file, or
/// the name of one in the home folder's `models`.
pub fn open(name: Option<&str>, context: &Context) -> anyhow::Result<Model> {
    let Some(name) = name.filter(|name| *name != DEFAULT) else {
        return Model::embedded()
            .context("the model inside this program is damaged: install it again");
    };
    let path = match name.contains(['/', '\\'])
        || Path::new(name)
            .extension()
            .is_some_and(|end| end == EXTENSION)
    {
        true => PathBuf::from(name),
        false => context
            .home
            .root()
            .join("models")
            .join(format!("{name}.{EXTENSION}")),
    };
    Ok(Model::open(&path)?)
}
