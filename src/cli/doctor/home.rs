//! The home folder: whether it can be written, how much room there is, and whether models and prompts are whole.

use super::Finding;
use crate::cli::{Context, model, sentence};
use crate::store::{Exposure, Home, Listed, free_space};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A prompt takes a few KiB, its history ten times that.
const TOO_LITTLE: u64 = 1 << 20;
/// Shots and models take more.
const LITTLE: u64 = 64 << 20;

/// Whether prompts can be kept.
pub fn folder(home: &Home) -> Vec<Finding> {
    let root = home.root();
    let shown = root.display();
    let there = root.is_dir();
    let mut findings = Vec::new();
    // Looking leaves no trace: a folder that is not there yet is not made.
    let writable = if there { home.check_writable() } else { Ok(()) };
    findings.push(match writable {
        Err(error) => Finding::problem(
            "home",
            error.to_string(),
            "make it writable for this account (a file system is mounted read-only after errors: see `dmesg`), or name \
             another with EDGE_RLP_HOME; `classify` goes on working",
        ),
        Ok(()) if there => Finding::fine("home", format!("{shown} can be written")),
        Ok(()) => Finding::fine("home", format!("{shown}, made when something is first kept")),
    });
    findings.extend(home.exposures().iter().map(exposure));
    if let Err(error) = home.settings() {
        findings.push(Finding::problem(
            "config",
            error.to_string(),
            "put that line right",
        ));
    }
    let nearest = root.ancestors().find(|folder| folder.is_dir());
    if let Some(free) = nearest.or(Some(Path::new("."))).and_then(free_space) {
        findings.push(room(free));
    }
    findings
}

/// Pictures of people may lie there.
fn exposure(exposure: &Exposure) -> Finding {
    let (says, cure) = match exposure {
        Exposure::Owner { path, account } => (
            format!("{} belongs to another account ({account})", path.display()),
            "run edge-rlp as that account (`sudo -u`), or name a folder of your own with EDGE_RLP_HOME".to_owned(),
        ),
        Exposure::Home { path, mode } => (
            format!("other accounts can look into {} (mode {mode:o})", path.display()),
            format!("chmod go= {}", path.display()),
        ),
        Exposure::Shots { first, count } => (
            format!(
                "other accounts can look at shots: {}{}",
                first.display(),
                match count - 1 {
                    0 => String::new(),
                    more => format!(" and {more} more files and folders"),
                }
            ),
            "chmod -R go= on the folder shots in the home folder".to_owned(),
        ),
    };
    Finding::warning("privacy", says, cure)
}

fn room(free: u64) -> Finding {
    let says = format!("{} MiB free where prompts are kept", free >> 20);
    let cure = "remove files, or models that are not used (`edge-rlp model list`)";
    match free {
        free if free < TOO_LITTLE => Finding::problem("disk", says, cure),
        free if free < LITTLE => Finding::warning("disk", says, cure),
        _ => Finding::fine("disk", says),
    }
}

/// Every model is read whole and compared with its fingerprint.
pub fn models(context: &Context) -> Vec<Finding> {
    let models = match model::all(context) {
        Ok(models) => models,
        Err(error) => {
            return vec![Finding::problem(
                "model",
                sentence(&error),
                "make the folder readable",
            )];
        }
    };
    let checked = models.into_iter().map(|(name, place)| match place.open() {
        Ok(model) => Finding::fine(
            "model",
            format!("{name} is whole, {} parameters", model.summary().parameters),
        ),
        Err(error) => Finding::problem(
            "model",
            format!("{name} cannot be used: {}", sentence(&error)),
            format!("edge-rlp model remove {name}, and import it again"),
        ),
    });
    checked.collect()
}

/// Every prompt is read, and its model looked for.
pub fn prompts(context: &Context) -> Vec<Finding> {
    let listed = match context.home.list() {
        Ok(listed) => listed,
        Err(error) => {
            let cure = "make the folder readable";
            return vec![Finding::problem("prompt", error.to_string(), cure)];
        }
    };
    if listed.is_empty() {
        return vec![Finding::fine(
            "prompt",
            "none yet: `edge-rlp adapt` makes one",
        )];
    }
    listed
        .iter()
        .map(|listed| prompt(listed, context))
        .collect()
}

/// When the newest prompt in use was made, as far as is known.
pub fn newest_prompt(home: &Home) -> Option<SystemTime> {
    let listed = home.list().ok()?;
    let prompts = listed
        .iter()
        .filter_map(|listed| listed.prompt.as_ref().ok());
    let newest = prompts
        .filter_map(|loaded| loaded.record.provenance.created_unix)
        .max()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(newest))
}

fn prompt(Listed { name, prompt }: &Listed, context: &Context) -> Finding {
    let loaded = match prompt {
        Ok(loaded) => loaded,
        Err(error) => {
            let cure = "adapt again, or copy it from a box where it is whole";
            return Finding::problem("prompt", error.to_string(), cure);
        }
    };
    if let Some(warning) = &loaded.warning {
        let cure = format!("edge-rlp prompt rollback {name} writes that generation as a new one");
        return Finding::warning("prompt", warning, cure);
    }
    match model::found_for(loaded, context) {
        Ok(model) => Finding::fine(
            "prompt",
            format!(
                "{name} is whole: generation {}, {} labels, for the model {model}",
                loaded.record.provenance.sequence,
                loaded.record.labels.len(),
            ),
        ),
        Err(error) => Finding::problem(
            "prompt",
            sentence(&error),
            format!("bring that model, or `edge-rlp prompt remove {name}`"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_full_disk_is_a_problem_and_a_tight_one_a_warning() {
        let states = [0, 2 << 20, 1 << 30].map(|free| room(free).state);
        assert_eq!(states, [State::Problem, State::Warning, State::Fine]);
    }

    #[test]
    fn looking_at_a_home_that_is_not_there_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("not/yet"));
        let findings = folder(&home);
        assert!(findings.iter().all(|found| found.state == State::Fine));
        assert!(!dir.path().join("not").exists());
    }
}
