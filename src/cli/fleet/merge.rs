//! `edge-rlp fleet merge`: one prompt of those of many boxes.

use crate::cli::{Context, Exit, usage};
use crate::fleet::merge::{Mean, merge};
use crate::prompt::Prompt;
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    /// Prompts by name, or prompt files, that were trained for the same labels
    #[arg(required = true, num_args = 2.., value_name = "NAME|FILE")]
    prompts: Vec<PathBuf>,
    /// What to call the result; one of that name stays in its history
    #[arg(long, short, value_name = "NAME")]
    output: String,
    /// Of what the mean is taken
    #[arg(long, value_name = "WHAT", default_value = "contexts", value_parser = ["contexts", "factors"])]
    mean: String,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let Context { home, output, .. } = context;
    home.prompt_path(&arguments.output).map_err(usage)?;
    let mut prompts: Vec<(String, Prompt)> = Vec::new();
    for prompt in &arguments.prompts {
        let loaded = home.load(prompt)?;
        if let Some(warning) = &loaded.warning {
            output.warn(warning);
        }
        prompts.push((prompt.display().to_string(), loaded.record));
    }
    let mean = match &*arguments.mean {
        "factors" => Mean::Factors,
        _ => Mean::Contexts,
    };
    let merged = merge(&prompts, mean).map_err(usage)?;
    let saved = home.save(&arguments.output, &merged)?;
    output.object(&json!({
        "prompt": arguments.output,
        "generation": saved.sequence,
        "path": saved.path.display().to_string(),
        "bytes": saved.bytes,
        "merged": prompts.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "method": merged.method(),
    }))?;
    output.line(format!(
        "{} prompts merged into {:?}, generation {}: {} bytes, {}",
        prompts.len(),
        arguments.output,
        saved.sequence,
        saved.bytes,
        saved.path.display()
    ));
    output
        .note("nobody has measured it: `edge-rlp eval` does, and each box that it is published to");
    Ok(Exit::Done)
}
