//! `edge-rlp prompt export`: a prompt as one file, to bring it to another camera.

use crate::cli::Context;
use crate::store::atomic::Replace;
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    /// A prompt by name, or a prompt file
    #[arg(value_name = "NAME|FILE")]
    prompt: PathBuf,
    /// The file to write: JSON where its name ends with .json, else a prompt file
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let Context { home, output, .. } = context;
    let loaded = home.load(&arguments.prompt)?;
    if let Some(warning) = &loaded.warning {
        output.warn(warning);
    }
    let replace = if arguments.force {
        Replace::Anything
    } else {
        Replace::Nothing
    };
    let bytes = home.export(&loaded.record, &arguments.to, replace)?;
    let (name, to) = (arguments.prompt.display(), arguments.to.display());
    output.object(&json!({
        "prompt": name.to_string(),
        "path": to.to_string(),
        "bytes": bytes,
    }))?;
    output.line(format!("{name} is written to {to} ({bytes} bytes)"));
    Ok(())
}
