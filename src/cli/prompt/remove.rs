//! `edge-rlp prompt remove`: a prompt goes, with its history, and with the pictures it was made from where that is asked for.

use crate::cli::Context;
use crate::cli::shots::count;
use serde_json::json;

#[derive(clap::Args)]
pub struct Arguments {
    /// The prompt, by name
    name: String,
    /// Remove the shots that were taken for it, too
    #[arg(long)]
    shots: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let Arguments { name, shots } = arguments;
    let (home, output) = (&context.home, &context.output);
    let folder = home.shots_folder(name)?;
    let kept = home.shots_in(&folder)?.len();
    let there = match home.remove(name) {
        // Shots may be left of a prompt that is gone already, or was never trained.
        Err(error) if error.is_missing_prompt() && *shots && kept > 0 => false,
        removed => removed.map(|()| true)?,
    };
    let removed = if *shots {
        home.remove_all_shots(name)?
    } else {
        0
    };
    output.object(&json!({ "prompt": name, "removed": there, "shots_removed": removed }))?;
    let what = match (there, shots) {
        (true, true) => format!("{name} is removed, with its history and {}", count(removed)),
        (true, false) => format!("{name} is removed, with its history"),
        (false, _) => format!(
            "{} of {name} removed; there was no such prompt",
            count(removed)
        ),
    };
    output.line(what);
    if !shots && kept > 0 {
        output.note(format!(
            "{} of it still in {}: `edge-rlp shots remove {name} --all` removes them",
            count(kept),
            folder.display()
        ));
    }
    Ok(())
}
