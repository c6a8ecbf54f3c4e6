//! The report of `eval` on a prompt and its shots: made by `eval` itself, in a process of its own that steps back, so that
//! whatever it takes is given back and the cameras go on.

use std::fmt::Display;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use serde::Deserialize;

use super::{Problem, State, in_turn};
use crate::files;
use crate::host::processes::this_program;
use crate::serve::Server;
use crate::serve::access::FOLDER;
use crate::store::atomic;
use crate::store::file_system::{Access, Disk};

/// The report is one page with styles and pictures inside, and no script; the page shows it in a frame.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox";
/// How long it may take.
const LONGEST: Duration = Duration::from_secs(15 * 60);
const MAX_BYTES: u64 = 64 << 20;

/// In which language.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[serde(default)]
    language: Language,
}

/// One that `eval` writes.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Language {
    #[default]
    En,
    De,
}

impl Language {
    fn name(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::De => "de",
        }
    }
}

/// The report, as it is or made anew where shots or the prompt changed since.
pub async fn show(
    server: State,
    Path(prompt): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Wanted { language }) = wanted?;
    let server = Arc::clone(&server);
    // One at a time: each takes what a training takes.
    let turns = Arc::clone(&server.turns.reports);
    in_turn(&turns, move || {
        let page = made(&server, &prompt, language)?;
        let headers = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (CACHE_CONTROL, "no-store"),
        ];
        Ok((headers, page).into_response())
    })
    .await
}

fn made(server: &Server, prompt: &str, language: Language) -> Result<Vec<u8>, Problem> {
    let home = &server.common.home;
    let file = home.prompt_path(prompt)?;
    let shots = home.shots_folder(prompt)?;
    home.load(prompt)?;
    if home.shots_in(&shots)?.is_empty() {
        return Err(Problem::conflict(format!(
            "there are no shots of {prompt} to judge it on"
        )));
    }
    let folder = home.root().join(FOLDER).join("reports");
    let folder = folder.join(language.name());
    let report = folder.join(format!("{prompt}.html"));
    if !is_newer(&report, &file, &shots) {
        let failed = |error: std::io::Error| {
            Problem::new(
                StatusCode::INSUFFICIENT_STORAGE,
                format!("the report cannot be kept ({error})"),
            )
        };
        atomic::create_folder(&Disk, &folder, Access::Owner).map_err(failed)?;
        let made = folder.join(format!(".{prompt}.html.tmp"));
        let mut command = evaluation(home.root(), prompt, &shots)?;
        command.args(["--language", language.name(), "--report"]);
        run(command.arg(&made))?;
        std::fs::rename(&made, &report).map_err(failed)?;
    }
    files::read(&report, MAX_BYTES)
        .map_err(|error| Problem::failed(format!("the report cannot be read ({error})")))
}

/// Whether `report` was made after the prompt and all its shots.
fn is_newer(report: &FilePath, prompt: &FilePath, shots: &FilePath) -> bool {
    let at = |path: &FilePath| path.metadata().and_then(|of| of.modified()).ok();
    let Some(made) = at(report) else {
        return false;
    };
    let labels = std::fs::read_dir(shots).into_iter().flatten().flatten();
    let folders: Vec<PathBuf> = labels.map(|entry| entry.path()).collect();
    let newest = [prompt, shots]
        .into_iter()
        .chain(folders.iter().map(PathBuf::as_path));
    newest.filter_map(at).max().unwrap_or(SystemTime::now()) < made
}

fn not_made(said: impl Display) -> Problem {
    Problem::failed(format!("the report was not made: {said}"))
}

/// `eval` of a prompt on its shots.
fn evaluation(home: &FilePath, prompt: &str, shots: &FilePath) -> Result<Command, Problem> {
    let mut command = Command::new(this_program().map_err(not_made)?);
    command
        .arg("--home")
        .arg(home)
        .args([
            "eval",
            "--quiet",
            "--prompt",
            prompt,
            "--methods",
            "zero-shot",
            "--images",
        ])
        .arg(shots);
    Ok(command)
}

/// Runs it to its end, or until it took too long.
fn run(command: &mut Command) -> Result<(), Problem> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_made)?;
    let begun = Instant::now();
    while begun.elapsed() < LONGEST {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Ok(Some(status)) if status.success() => return Ok(()),
            _ => {
                let said = child
                    .wait_with_output()
                    .map(|output| output.stderr)
                    .unwrap_or_default();
                let said = String::from_utf8_lossy(&said)
                    .trim()
                    .trim_start_matches("error: ")
                    .to_owned();
                return Err(not_made(said));
            }
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(not_made(format!(
        "it took longer than {} min",
        LONGEST.as_secs() / 60
    )))
}
