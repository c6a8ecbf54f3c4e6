//! `edge-rlp prompt remove`: a prompt goes, with its history.

use crate::cli::Context;
use serde_json::json;

pub fn run(name: &str, context: &Context) -> anyhow::Result<()> {
    context.home.remove(name)?;
    context
        .output
        .object(&json!({ "prompt": name, "removed": true }))?;
    context
        .output
        .line(format!("{name} is removed, with its history"));
    Ok(())
}
