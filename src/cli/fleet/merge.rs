//! `edge-rlp fleet merge`: one prompt of those of many boxes.

use crate::cli::{Context, Exit, model, usage};
use crate::fleet::merge::{Mean, ensemble, merge};
use crate::prompt::Prompt;
use anyhow::Context as _;
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
    /// Of what the mean is taken: of the scores, which needs the model that the prompts are for; of the contexts; or of their factors
    #[arg(long, value_name = "WHAT", default_value = "scores", value_parser = ["scores", "contexts", "factors"])]
    mean: String,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let Context { home, output, .. } = context;
    home.prompt_path(&arguments.output).map_err(usage)?;
    let mut prompts: Vec<(String, Prompt)> = Vec::new();
    let mut first = None;
    for prompt in &arguments.prompts {
        let loaded = home.load(prompt)?;
        if let Some(warning) = &loaded.warning {
            output.warn(warning);
        }
        prompts.push((prompt.display().to_string(), loaded.record.clone()));
        first.get_or_insert(loaded);
    }
    let merged = match &*arguments.mean {
        "contexts" => merge(&prompts, Mean::Contexts),
        "factors" => merge(&prompts, Mean::Factors),
        _ => {
            let model = model::open_for(None, first.as_ref(), context)
                .context("without the model, --mean contexts merges what the prompts say")?;
            ensemble(&model, &prompts)
        }
    };
    let merged = merged.map_err(usage)?;
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
