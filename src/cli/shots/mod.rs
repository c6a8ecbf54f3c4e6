//! `edge-rlp shots`: the labelled pictures that prompts were made from, which stay until somebody removes them.

mod check;
mod chosen;
mod list;
mod purge;
mod relabel;
mod remove;
mod show;

pub use purge::Retention;

use super::output::{self, date};
use super::{Context, Exit, name_is_usage};
use crate::store::Shot;
use std::time::UNIX_EPOCH;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Count the shots of each prompt and label, and say how old they are
    List {
        /// Those of one prompt [default: of all]
        #[arg(value_name = "NAME")]
        prompt: Option<String>,
    },
    /// Name shots one by one, with their files
    Show(show::Arguments),
    /// Name shots whose labels look wrong, those that are there twice, and whether more would help
    Check(check::Arguments),
    /// Give shots another label
    Move(relabel::Arguments),
    /// Remove shots
    Remove(remove::Arguments),
    /// Remove shots that are older than a time
    Purge(purge::Arguments),
}

pub fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    let done = match command {
        Command::List { prompt } => list::run(prompt.as_deref(), context),
        Command::Show(arguments) => show::run(&arguments, context),
        Command::Check(arguments) => check::run(&arguments, context),
        Command::Move(arguments) => relabel::run(&arguments, context),
        Command::Remove(arguments) => remove::run(&arguments, context),
        Command::Purge(arguments) => purge::run(&arguments, context),
    };
    done.map_err(name_is_usage)
}

/// What is known of the file of a shot.
struct File {
    /// Seconds since 1970, where the clock of that moment was set.
    taken: Option<u64>,
    bytes: u64,
}

impl File {
    fn of(shot: &Shot, context: &Context) -> anyhow::Result<File> {
        let (taken, bytes) = context.home.shot_file(shot)?;
        let seconds = taken.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(File {
            taken: seconds.map(|seconds| seconds.as_secs()),
            bytes,
        })
    }
}

/// A time as people read it.
fn time(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "-".into(), date)
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

/// `1 shot`, `2 shots`.
pub fn count(shots: usize) -> String {
    output::count(shots as u64, "shot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_as_people_read_them() {
        let sizes = [0, 1023, 1025, 1 << 20, 3 << 19].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "2 KiB", "1.0 MiB", "1.5 MiB"]);
        assert_eq!([count(0), count(1)], ["0 shots", "1 shot"]);
        assert_eq!(time(None), "-");
    }
}
