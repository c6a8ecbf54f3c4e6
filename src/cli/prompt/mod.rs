//! `edge-rlp prompt`: what prompts there are, what is in them, and how to go back to an earlier one.

mod describe;
mod diff;
mod export;
mod history;
mod import;
mod list;
mod remove;
mod rollback;
mod show;

use super::{Context, Exit, name_is_usage};
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Name the prompts that are kept
    List,
    /// Say what is in a prompt and how good it is
    Show {
        /// A prompt by name, or a prompt file
        #[arg(value_name = "NAME|FILE")]
        prompt: PathBuf,
    },
    /// Name the generations of a prompt that are kept
    History { name: String },
    /// Go back to an earlier generation of a prompt
    Rollback {
        name: String,
        /// The generation to bring back [default: the one before that in use]
        #[arg(long, value_name = "GENERATION")]
        to: Option<u64>,
    },
    /// Say how far two prompts are from each other, and which pictures they answer differently
    Diff(diff::Arguments),
    /// Write a prompt to one file, to bring it to another camera: a prompt file, or JSON for people
    Export(export::Arguments),
    /// Keep a prompt that comes from elsewhere, once all of it was checked
    Import(import::Arguments),
    /// Remove a prompt with its history
    Remove(remove::Arguments),
}

pub fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    let done = match command {
        Command::List => list::run(context),
        Command::Show { prompt } => show::run(&prompt, context),
        Command::History { name } => history::run(&name, context),
        Command::Rollback { name, to } => rollback::run(&name, to, context),
        Command::Diff(arguments) => return diff::run(&arguments, context),
        Command::Export(arguments) => export::run(&arguments, context),
        Command::Import(arguments) => import::run(&arguments, context),
        Command::Remove(arguments) => remove::run(&arguments, context),
    };
    done.map(|()| Exit::Done).map_err(name_is_usage)
}

#[cfg(test)]
mod tests {
    use crate::store::{LoadedPrompt, decode};

    const GOLDEN: &[u8] = include_bytes!("../../../prompts/golden-v1.rlp");

    pub fn golden() -> LoadedPrompt {
        let record = decode(GOLDEN, "golden").unwrap();
        LoadedPrompt {
            record,
            path: "prompts/golden-v1.rlp".into(),
            bytes: GOLDEN.len(),
            warning: None,
        }
    }
}
