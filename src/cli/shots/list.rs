//! `edge-rlp shots list`: how many shots there are of each prompt and label.

use super::{File, count, size, time};
use crate::cli::output::aligned;
use crate::cli::{Context, Exit};
use serde_json::json;
use std::collections::BTreeMap;

/// The shots of one label.
#[derive(Default)]
struct Row {
    shots: usize,
    bytes: u64,
    oldest: Option<u64>,
    newest: Option<u64>,
}

pub fn run(prompt: Option<&str>, context: &Context) -> anyhow::Result<Exit> {
    let prompts = match prompt {
        Some(prompt) => vec![prompt.to_owned()],
        None => {
            context.home.check_folder()?;
            context.home.shots_of()?
        }
    };
    let mut lines =
        vec![["prompt", "label", "shots", "size", "oldest", "newest"].map(str::to_owned)];
    for prompt in &prompts {
        for (label, row) in rows(prompt, context)? {
            context.output.object(&json!({
                "prompt": prompt,
                "label": label,
                "shots": row.shots,
                "bytes": row.bytes,
                "oldest_unix": row.oldest,
                "newest_unix": row.newest,
            }))?;
            lines.push([
                prompt.clone(),
                label,
                row.shots.to_string(),
                size(row.bytes),
                time(row.oldest),
                time(row.newest),
            ]);
        }
    }
    if lines.len() == 1 {
        let folder = context.home.root().display();
        let of = prompt.map_or(String::new(), |prompt| format!(" of {prompt}"));
        context.output.note(format!(
            "{}{of} in {folder}: `edge-rlp adapt --camera SRC --labels FILE` takes some",
            count(0)
        ));
        return Ok(Exit::Done);
    }
    for line in aligned(&lines) {
        context.output.line(line);
    }
    Ok(Exit::Done)
}

fn rows(prompt: &str, context: &Context) -> anyhow::Result<BTreeMap<String, Row>> {
    let folder = context.home.shots_folder(prompt)?;
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for shot in context.home.shots_in(&folder)? {
        let file = File::of(&shot, context)?;
        let row = rows.entry(shot.label).or_default();
        row.shots += 1;
        row.bytes += file.bytes;
        row.oldest = file.taken.into_iter().chain(row.oldest).min();
        row.newest = row.newest.max(file.taken);
    }
    Ok(rows)
}
