//! `edge-rlp doctor`: looks at the box, its cameras and the home folder, and says what is wrong and how to cure it. It
//! changes nothing. Each check is a function that returns findings; this file runs them and prints.

mod cameras;
mod home;
mod machine;

use super::output::aligned;
use super::{Context, Exit};
use machine::Machine;
use serde::Serialize;
use serde_json::json;
use std::time::SystemTime;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Fine,
    /// It works, but not as well as it could.
    Warning,
    /// Something that edge-rlp is for does not work.
    Problem,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Fine => "ok",
            State::Warning => "warning",
            State::Problem => "problem",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Finding {
    /// What was looked at, in a word.
    check: &'static str,
    state: State,
    /// What was found, in a sentence.
    says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Finding {
    fn fine(check: &'static str, says: impl Into<String>) -> Finding {
        Finding {
            check,
            state: State::Fine,
            says: says.into(),
            cure: None,
        }
    }

    fn warning(check: &'static str, says: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding {
            check,
            state: State::Warning,
            says: says.into(),
            cure: Some(cure.into()),
        }
    }

    fn problem(check: &'static str, says: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding {
            state: State::Problem,
            ..Finding::warning(check, says, cure)
        }
    }
}

pub fn run(context: &Context) -> anyhow::Result<Exit> {
    let machine = Machine::this();
    let mut findings = vec![machine::program()];
    findings.extend(machine.processor());
    let too_low = machine::limits(context.threads);
    // To look at models takes what is missing.
    let room = too_low.is_none();
    findings.extend(too_low);
    findings.extend(room.then(machine::kernels).into_iter().flatten());
    findings.push(machine::threads(context.threads));
    findings.extend(machine.memory());
    findings.extend(machine.heat());
    findings.extend(machine.power());
    findings.extend(cameras::check(&machine));
    findings.extend(home::folder(&context.home));
    if room {
        findings.extend(home::models(context));
        findings.extend(home::prompts(context));
    }
    findings.push(machine::clock(
        SystemTime::now(),
        machine::program_installed(),
        home::newest_prompt(&context.home),
    ));

    let rows = findings.iter().map(|found| {
        [
            found.state.word().to_owned(),
            found.check.to_owned(),
            found.says.clone(),
        ]
    });
    let lines = aligned(&rows.collect::<Vec<_>>());
    for (line, found) in lines.iter().zip(&findings) {
        context.output.line(line);
        if let Some(cure) = &found.cure {
            context.output.line(format!("         -> {cure}"));
        }
    }
    let count = |state| findings.iter().filter(|found| found.state == state).count();
    let (problems, warnings) = (count(State::Problem), count(State::Warning));
    context.output.object(&json!({
        "healthy": problems == 0,
        "problems": problems,
        "warnings": warnings,
        "version": env!("CARGO_PKG_VERSION"),
        "checks": findings,
    }))?;
    anyhow::ensure!(
        problems == 0,
        "{problems} thing{} on this box must be put right first",
        if problems == 1 { "" } else { "s" }
    );
    Ok(Exit::Done)
}
