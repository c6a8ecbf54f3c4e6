//! `edge-rlp shots remove`: shots go for good.

use super::chosen::Chosen;
use super::count;
use crate::cli::{Context, Exit, usage};
use serde_json::json;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
    /// All shots of the prompt, with the labels that were kept beside them
    #[arg(long, conflicts_with_all = ["numbers", "label"])]
    all: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let Arguments { chosen, all } = arguments;
    if !all && !chosen.says_which() {
        return Err(usage(
            "say which shots are to be removed: their numbers, --label LABEL for all of one, or --all",
        ));
    }
    let shots = chosen.shots(context)?;
    let removed = if *all {
        context.home.remove_all_shots(&chosen.prompt)?
    } else {
        context.home.remove_shots(&shots)?
    };
    context
        .output
        .object(&json!({ "prompt": chosen.prompt, "removed": removed }))?;
    context
        .output
        .line(format!("{} of {} removed", count(removed), chosen.prompt));
    Ok(Exit::Done)
}
