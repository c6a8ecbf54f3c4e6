//! `edge-rlp shots purge`: shots that are old go for good. The same happens by itself where `config.toml` says how long they
//! are kept: when `adapt` or `classify --camera` begins, and every hour while they watch.

use super::{count, output};
use crate::cli::{Context, Exit, sentence, usage};
use crate::store::KeptPictures;
use anyhow::{Context as _, ensure};
use serde_json::json;
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

#[derive(clap::Args)]
pub struct Arguments {
    /// Shots of one prompt [default: of all]
    #[arg(value_name = "NAME")]
    prompt: Option<String>,
    /// How old they may be, as in 90d or 12h [default: `keep` in the home folder's config.toml]
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    older_than: Option<Duration>,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let set = || Ok::<_, anyhow::Error>(context.home.settings()?.shots.keep);
    let Some(age) = arguments.older_than.map_or_else(set, |age| Ok(Some(age)))? else {
        return Err(usage(format!(
            "say with --older-than how old shots may be, or for good in {}: [shots] and below it keep = \"90d\"",
            context.home.settings_file().display()
        )));
    };
    let kept = context.home.shots_of()?;
    let prompts = match &arguments.prompt {
        None => kept,
        Some(prompt) => {
            let folder = context.home.shots_folder(prompt)?;
            ensure!(
                kept.contains(prompt),
                "there are no shots of {prompt} in {}; `edge-rlp shots list` names the prompts that have some",
                folder.display()
            );
            vec![prompt.clone()]
        }
    };
    let mut all = 0;
    for prompt in prompts {
        let removed = remove_old(&prompt, age, context)?;
        context
            .output
            .object(&json!({ "prompt": prompt, "removed": removed }))?;
        all += removed;
    }
    let mut unsure = 0;
    if arguments.prompt.is_none() {
        unsure = remove_unsure(age, context)?;
        let object = json!({ "prompt": null, "removed": unsure });
        context.output.object(&object)?;
    }
    let age = days(age);
    let unsure = match unsure {
        0 => String::new(),
        unsure => format!(
            "; {} of --keep-uncertain",
            output::count(unsure as u64, "picture")
        ),
    };
    context
        .output
        .line(format!("{} older than {age} removed{unsure}", count(all)));
    Ok(Exit::Done)
}

/// Removes what `--keep-uncertain N` keeps in the home folder.
fn remove_unsure(age: Duration, context: &Context) -> anyhow::Result<usize> {
    let kept = KeptPictures::uncertain(&context.home, KeptPictures::MOST);
    Ok(kept.remove_older(age, SystemTime::now())?)
}

fn remove_old(prompt: &str, age: Duration, context: &Context) -> anyhow::Result<usize> {
    let home = &context.home;
    let old = home.shots_older_than(prompt, age, SystemTime::now())?;
    Ok(match old.is_empty() {
        true => 0,
        false => home.remove_shots(&old)?,
    })
}

/// A time as people say how old shots may be: in days where it is of whole ones, for a month is none of a fixed length.
fn days(age: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match age.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(DAY) => {
            output::count(seconds / DAY, "day")
        }
        _ => humantime::format_duration(age).to_string(),
    }
}

/// How often shots are looked through while a command goes on for long.
const PACE: Duration = Duration::from_secs(60 * 60);

/// Removes shots that are older than the settings let them become, now and again.
pub struct Retention<'a> {
    context: &'a Context,
    looked: Cell<Option<Instant>>,
}

impl<'a> Retention<'a> {
    pub fn new(context: &'a Context) -> Retention<'a> {
        Retention {
            context,
            looked: Cell::new(None),
        }
    }

    /// Looks if it is time to; what was removed, in a sentence. To be called as often as one likes.
    ///
    /// # Errors
    /// If the settings or a shot stand in the way; it is tried again when it is time to.
    pub fn apply(&self) -> anyhow::Result<Option<String>> {
        if self.looked.get().is_some_and(|last| last.elapsed() < PACE) {
            return Ok(None);
        }
        self.looked.set(Some(Instant::now()));
        self.look()
            .context("shots that are too old may still be there")
    }

    /// As [`Retention::apply`], told as notes and warnings.
    pub fn apply_and_tell(&self) {
        match self.apply() {
            Ok(removed) => removed
                .into_iter()
                .for_each(|said| self.context.output.note(said)),
            Err(error) => self.context.output.warn(sentence(&error)),
        }
    }

    fn look(&self) -> anyhow::Result<Option<String>> {
        let home = &self.context.home;
        let Some(age) = home.settings()?.shots.keep else {
            return Ok(None);
        };
        let mut removed = 0;
        for prompt in home.shots_of()? {
            removed += remove_old(&prompt, age, self.context)?;
        }
        removed += remove_unsure(age, self.context)?;
        let age = days(age);
        Ok((removed > 0).then(|| {
            format!(
                "{} older than {age} removed, as config.toml says",
                count(removed)
            )
        }))
    }
}
