//! `edge-rlp shots show`: shots one by one, with their files.

use super::chosen::Chosen;
use super::{File, size, time};
use crate::cli::output::aligned;
use crate::cli::{Context, Exit};
use serde_json::json;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let prompt = &arguments.chosen.prompt;
    let mut lines = vec![["number", "label", "taken", "size", "file"].map(str::to_owned)];
    for shot in arguments.chosen.shots(context)? {
        let file = File::of(&shot, context)?;
        let path = shot.path.display().to_string();
        context.output.object(&json!({
            "prompt": prompt,
            "number": shot.number,
            "label": shot.label,
            "taken_unix": file.taken,
            "bytes": file.bytes,
            "path": path,
        }))?;
        lines.push([
            shot.number.to_string(),
            shot.label,
            time(file.taken),
            size(file.bytes),
            path,
        ]);
    }
    for line in aligned(&lines) {
        context.output.line(line);
    }
    Ok(Exit::Done)
}
