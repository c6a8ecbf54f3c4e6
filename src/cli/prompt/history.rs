//! `edge-rlp prompt history`: the generations of a prompt that are kept.

use super::describe::{description, held_out};
use crate::cli::Context;
use crate::cli::output::aligned;
use crate::cli::output::date;
use crate::prompt::Prompt;
use crate::store::Generation;
use serde_json::json;

pub fn run(name: &str, context: &Context) -> anyhow::Result<()> {
    let mut rows = vec![["", "generation", "created", "before", "after", ""].map(str::to_owned)];
    for Generation {
        sequence,
        path,
        prompt,
        current,
    } in context.home.history(name)?
    {
        match prompt {
            Ok(loaded) => {
                let mut object = description(name, &loaded)?;
                object["current"] = current.into();
                context.output.object(&object)?;
                let Prompt {
                    metrics,
                    provenance,
                    ..
                } = loaded.record;
                rows.push([
                    if current { "*" } else { "" }.into(),
                    sequence.to_string(),
                    provenance.created_unix.map_or("-".into(), date),
                    held_out(&metrics, metrics.zero_shot_accuracy),
                    held_out(&metrics, metrics.adapted_accuracy),
                    provenance
                        .restores
                        .map_or(String::new(), |from| format!("brings back {from}")),
                ]);
            }
            Err(error) => {
                let path = path.display().to_string();
                context.output.object(&json!({
                    "prompt": name, "path": path, "sequence": sequence, "error": error.to_string(),
                }))?;
                context.output.warn(error);
            }
        }
    }
    for line in aligned(&rows) {
        context.output.line(line);
    }
    Ok(())
}
