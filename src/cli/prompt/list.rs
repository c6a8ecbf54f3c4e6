//! `edge-rlp prompt list`: the prompts of the home folder, one a row.

use super::describe::{description, held_out};
use crate::cli::Context;
use crate::cli::output::aligned;
use crate::store::{Listed, LoadedPrompt};
use serde_json::json;

const SUMMARY: [&str; 8] = [
    "prompt",
    "generation",
    "method",
    "rank",
    "labels",
    "before",
    "after",
    "model",
];

pub fn run(context: &Context) -> anyhow::Result<()> {
    context.home.check_folder()?;
    let prompts = context.home.list()?;
    if prompts.is_empty() {
        let folder = context.home.root().display();
        context.output.note(format!(
            "no prompts in {folder}: `edge-rlp adapt` makes one"
        ));
        return Ok(());
    }
    let mut rows = vec![SUMMARY.map(str::to_owned)];
    for Listed { name, prompt } in &prompts {
        match prompt {
            Ok(loaded) => {
                context.output.object(&description(name, loaded)?)?;
                rows.push(summary(name, loaded));
                if let Some(warning) = &loaded.warning {
                    context.output.warn(warning);
                }
            }
            Err(error) => {
                context
                    .output
                    .object(&json!({ "prompt": name, "error": error.to_string() }))?;
                context.output.warn(error);
            }
        }
    }
    for line in aligned(&rows) {
        context.output.line(line);
    }
    Ok(())
}

fn summary(name: &str, loaded: &LoadedPrompt) -> [String; 8] {
    let record = &loaded.record;
    [
        name.into(),
        record.provenance.sequence.to_string(),
        record.method(),
        record.delta.rank().to_string(),
        record.labels.len().to_string(),
        held_out(&record.metrics, record.metrics.zero_shot_accuracy),
        held_out(&record.metrics, record.metrics.adapted_accuracy),
        record.model_name.clone(),
    ]
}
