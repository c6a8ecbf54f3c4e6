//! `--exec`: a command of the user's, run when the label changes. It runs beside classification, which never waits for
//! it; at most one runs at a time, and of the changes that come meanwhile the newest waits.

use crate::cli::camera::secret_variables;
use crate::watch::Change;
use anyhow::Context as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a running command is polled.
const POLL: Duration = Duration::from_millis(20);
/// How long the last commands may take once there are no more frames.
const LAST: Duration = Duration::from_secs(5);
/// How long a command that was asked to end may take to do so.
const GRACE: Duration = Duration::from_secs(1);

/// The thread that runs the command.
pub struct OnChange {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    command: String,
    warn: Box<dyn Fn(String) + Send + Sync>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Option<Change>,
    /// Set once no more changes come: until when what waits or runs may take.
    until: Option<Instant>,
}

impl OnChange {
    /// Runs `command` by `sh -c` for changes to come; `warn` is called for those that fail.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(
        command: String,
        warn: impl Fn(String) + Send + Sync + 'static,
    ) -> anyhow::Result<OnChange> {
        let shared = Arc::new(Shared {
            command,
            warn: Box::new(warn),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("exec".into())
            .spawn(move || of_thread.run())
            .context("--exec needs a thread of its own, and the system gives none")?;
        Ok(OnChange {
            shared,
            thread: Some(thread),
        })
    }

    /// Notes a change: the command runs for it as soon as none is running, unless a newer change comes first.
    pub fn changed(&self, change: Change) {
        self.shared.lock().waiting = Some(change);
        self.shared.changed.notify_all();
    }

    /// Lets the last commands end: at once where `stopped`, which drops a waiting change, else within seconds.
    pub fn finish(mut self, stopped: bool) {
        self.end(if stopped { Duration::ZERO } else { LAST });
    }

    fn end(&mut self, within: Duration) {
        if let Some(thread) = self.thread.take() {
            self.shared.lock().until = Some(Instant::now() + within);
            self.shared.changed.notify_all();
            // A panic there has been reported by its message already.
            let _ = thread.join();
        }
    }
}

impl Drop for OnChange {
    /// Leaves no child behind where an error ends the program.
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl Shared {
    fn run(&self) {
        while let Some(change) = self.next() {
            match start(&self.command, &change) {
                Ok(child) => self.wait(child),
                Err(error) => (self.warn)(format!("--exec cannot run sh: {error}")),
            }
        }
    }

    /// Waits for a change; none once all is over.
    fn next(&self) -> Option<Change> {
        let mut state = self.lock();
        loop {
            let over = state.until.is_some_and(|until| Instant::now() >= until);
            match state.waiting.take() {
                Some(change) if !over => return Some(change),
                None if state.until.is_none() => {
                    let waited = self.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
                _ => return None,
            }
        }
    }

    /// Waits for the command to end, and ends it where its time is up.
    fn wait(&self, mut child: Child) {
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return,
                Ok(Some(status)) => return (self.warn)(failure(status)),
                Ok(None) => {}
                Err(error) => return (self.warn)(format!("--exec cannot be watched: {error}")),
            }
            let state = self.lock();
            if state.until.is_some_and(|until| Instant::now() >= until) {
                drop(state);
                return end(child);
            }
            // Woken early when changes come: no harm.
            drop(self.changed.wait_timeout(state, POLL));
        }
    }

    /// What a panic left behind is whole: every change to the state is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure(status: ExitStatus) -> String {
    format!("the command of --exec failed ({status})")
}

/// Starts the command in a process group of its own, so that all it starts can be ended with it. What it prints goes to
/// standard error: standard output belongs to the answers.
fn start(command: &str, change: &Change) -> std::io::Result<Child> {
    // Empty for the first frame.
    let previous = change.previous.as_ref().map(ToString::to_string);
    let previous = previous.unwrap_or_default();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .env("EDGE_RLP_LABEL", change.shown.to_string())
        .env("EDGE_RLP_SCORE", change.score.to_string())
        .env("EDGE_RLP_PREVIOUS", previous)
        .env("EDGE_RLP_SOURCE", &change.source)
        .env("EDGE_RLP_FRAME", change.frame.to_string())
        .stdin(Stdio::null());
    for name in secret_variables() {
        shell.env_remove(name);
    }
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::process::CommandExt;
        let errors = std::io::stderr().as_fd().try_clone_to_owned()?;
        shell.stdout(Stdio::from(errors)).process_group(0);
    }
    shell.spawn()
}

/// Asks the command and all it started to end, and makes them after a while.
fn end(mut child: Child) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process_group};
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let signal = |signal| group.is_some_and(|group| kill_process_group(group, signal).is_ok());
        let asked = Instant::now();
        if signal(Signal::TERM) {
            while asked.elapsed() < GRACE && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(POLL);
            }
        }
        signal(Signal::KILL);
    }
    // Both fail only where it has ended.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::watch::Shown;
    use std::fs;
    use std::path::Path;

    fn change(label: &str) -> Change {
        Change {
            shown: Shown::Label(label.into()),
            score: 0.5,
            previous: Some(Shown::Label("before".into())),
            source: "demo:clear".into(),
            frame: 7,
        }
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn wait_for(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "waited too long");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A runner whose command is given the folder `$D`, and what it warned of.
    fn runner(dir: &Path, command: &str) -> (OnChange, Arc<Mutex<Vec<String>>>) {
        let warned = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&warned);
        let command = format!("D={}; {command}", dir.display());
        let runner = OnChange::new(command, move |message| list.lock().unwrap().push(message));
        (runner.unwrap(), warned)
    }

    #[test]
    fn the_command_finds_the_change_in_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let all =
            "$EDGE_RLP_LABEL,$EDGE_RLP_SCORE,$EDGE_RLP_PREVIOUS,$EDGE_RLP_SOURCE,$EDGE_RLP_FRAME";
        let (runner, warned) = runner(dir.path(), &format!("echo \"{all}\" > $D/out"));
        runner.changed(change("red mug"));
        runner.finish(false);
        let found = lines(&dir.path().join("out"));
        assert_eq!(found, ["red mug,0.5,before,demo:clear,7"]);
        assert!(warned.lock().unwrap().is_empty());
    }

    #[test]
    fn one_runs_at_a_time_and_the_newest_change_waits() {
        let dir = tempfile::tempdir().unwrap();
        let slow = "echo $EDGE_RLP_LABEL >> $D/out; while [ ! -e $D/go ]; do sleep 0.01; done";
        let (runner, _) = runner(dir.path(), slow);
        let found = dir.path().join("out");
        runner.changed(change("first"));
        wait_for(|| !lines(&found).is_empty());
        for label in ["second", "third", "fourth"] {
            runner.changed(change(label));
        }
        fs::write(dir.path().join("go"), "").unwrap();
        runner.finish(false);
        assert_eq!(lines(&found), ["first", "fourth"]);
    }

    #[test]
    fn a_command_that_fails_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let (runner, warned) = runner(dir.path(), "exit 3");
        runner.changed(change("mug"));
        runner.finish(false);
        let warned = warned.lock().unwrap();
        assert!(warned.len() == 1 && warned[0].contains('3'), "{warned:?}");
    }

    #[test]
    fn stopping_ends_the_command_and_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let (runner, _) = runner(dir.path(), "sleep 600 & echo $! > $D/child; wait");
        let child = dir.path().join("child");
        runner.changed(change("mug"));
        wait_for(|| !lines(&child).is_empty());
        let begun = Instant::now();
        runner.finish(true);
        assert!(begun.elapsed() < Duration::from_secs(10));
        let process = Path::new("/proc").join(&lines(&child)[0]).join("status");
        // Its parent is gone: whoever inherits it reaps it in their own time.
        wait_for(|| {
            lines(&process)
                .iter()
                .all(|line| !line.starts_with("State:\tS"))
        });
    }
}
