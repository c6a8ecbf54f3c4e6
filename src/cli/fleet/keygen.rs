//! `edge-rlp fleet keygen`: a key is made, and what boxes are to trust is printed.

use super::{KEY_PASSWORD, KeyArguments, Password, key_file};
use crate::cli::{Context, Exit, usage};
use crate::fleet::key_file::KeyFileError;
use crate::store::atomic::Replace;
use serde_json::json;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    key: KeyArguments,
    /// Keep the secret key without a password: whoever reads the file can sign
    #[arg(long, conflicts_with = "key_password_file")]
    no_password: bool,
    /// Replace a key that is there: every box that trusts it must be told of the new one
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let password = match (arguments.key.password()?, arguments.no_password) {
        (_, true) => Password::None,
        (Some(password), false) => Password::Given(password),
        (None, false) => {
            return Err(usage(format!(
                "a password protects the secret key: put it into a file for --key-password-file or into {KEY_PASSWORD}, or do \
                 without one with --no-password"
            )));
        }
    };
    let path = arguments.key.path(context);
    let replace = if arguments.force {
        Replace::File
    } else {
        Replace::Nothing
    };
    let key = key_file::create(&path, &password, replace).map_err(|error| match error {
        error @ KeyFileError::Exists { .. } => {
            anyhow::Error::from(error).context("nothing was made (--force replaces it)")
        }
        error => error.into(),
    })?;
    let Context { output, .. } = context;
    let protected = password != Password::None;
    output.object(&json!({
        "public_key": key.public().to_string(),
        "id": key.public().id(),
        "secret_key_file": path.display().to_string(),
        "public_key_file": key_file::public_path(&path).display().to_string(),
        "password": protected,
    }))?;
    output.line(key.public());
    output.note(format!(
        "boxes trust it with trusted = [\"{}\"] below [fleet] in edge-rlp.toml",
        key.public()
    ));
    output.note(format!(
        "the secret key is in {}: keep a copy where no box is; without it nothing can be published to boxes that trust it alone",
        path.display()
    ));
    if !protected {
        output.warn("the secret key has no password: whoever reads that file can tell every box what to use");
    }
    Ok(Exit::Done)
}
