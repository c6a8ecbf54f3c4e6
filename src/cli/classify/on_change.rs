//! `--exec`: a command of the user's, run when the label changes. It runs beside classification, which never waits for
//! it; at most one runs at a time, and of the changes that come meanwhile the newest waits. A command has a time: when that
//! is up it is ended, with all that it started, also in sessions of their own and after it has ended itself.

use crate::cli::camera::secret_variables;
use crate::host::processes;
use crate::watch::Change;
use anyhow::Context as _;
use std::collections::{HashSet, VecDeque};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often a running command is polled.
const POLL: Duration = Duration::from_millis(20);
/// How long the last commands may take once there are no more frames.
const LAST: Duration = Duration::from_secs(5);
/// How long a command that was asked to end may take to do so.
const GRACE: Duration = Duration::from_secs(1);
/// How often at most all processes are looked through for what commands have left.
const SEARCH: Duration = Duration::from_secs(5);
/// The variable by which what a command has started is known.
const MARK: &str = "EDGE_RLP_EXEC";
/// How many commands are remembered that may have left something: 100 a second for half a minute.
const MOST_ENDED: usize = 3000;
/// The time of a command that has no limit.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// The thread that runs the command.
pub struct OnChange {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What is run, and for how long.
pub struct Job {
    /// Run by `sh -c`.
    pub command: String,
    /// How long it may take; zero for as long as it likes.
    pub timeout: Duration,
}

struct Shared {
    job: Job,
    warn: Box<dyn Fn(String) + Send + Sync>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Option<Change>,
    /// Changes that gave way to a newer one since a command was last started.
    passed_over: u64,
    /// Set once no more changes come: until when what waits or runs may take.
    until: Option<Instant>,
}

/// Commands that have ended, and may have left something running: their numbers, and until when that may run.
#[derive(Default)]
struct Ended {
    runs: VecDeque<(u64, Instant)>,
    searched: Option<Instant>,
}

impl OnChange {
    /// Runs the job for changes to come; `warn` is called for commands that fail or are ended.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(
        job: Job,
        warn: impl Fn(String) + Send + Sync + 'static,
    ) -> anyhow::Result<OnChange> {
        let timeout = match job.timeout {
            Duration::ZERO => FOR_EVER,
            timeout => timeout.min(FOR_EVER),
        };
        let shared = Arc::new(Shared {
            job: Job { timeout, ..job },
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
        let mut state = self.shared.lock();
        state.passed_over += u64::from(state.waiting.replace(change).is_some());
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Lets the last commands end: at once where `stopped`, which drops a waiting change, else within seconds. What
    /// commands have left running is ended.
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

/// How waiting for a command came to its end.
enum Waited {
    Ended(ExitStatus),
    TimeIsUp,
    ProgramEnds,
}

impl Shared {
    fn run(&self) {
        let marks = Marks::new();
        let mut ended = Ended::default();
        let mut timeouts = 0;
        for run in 0.. {
            let Some(change) = self.next(&mut ended, &marks) else {
                break;
            };
            let deadline = Instant::now() + self.job.timeout;
            let mut child = match start(&self.job.command, &change, &marks.of(run)) {
                Ok(child) => child,
                Err(error) => {
                    (self.warn)(format!("--exec cannot run sh: {error}"));
                    continue;
                }
            };
            match self.wait(&mut child, deadline) {
                Ok(Waited::Ended(status)) => {
                    ended.add(run, deadline);
                    if !status.success() {
                        (self.warn)(format!("the command of --exec failed ({status})"));
                    }
                }
                Ok(Waited::TimeIsUp) => {
                    end(child);
                    marks.end(|of| of == run);
                    timeouts += 1;
                    (self.warn)(self.timed_out(timeouts));
                }
                Ok(Waited::ProgramEnds) => {
                    end(child);
                    ended.add(run, deadline);
                }
                Err(error) => (self.warn)(format!("--exec cannot be watched: {error}")),
            }
        }
        if !ended.runs.is_empty() {
            marks.end(|_| true);
        }
    }

    /// Waits for a change; none once all is over.
    fn next(&self, ended: &mut Ended, marks: &Marks) -> Option<Change> {
        let mut state = self.lock();
        loop {
            let over = state.until.is_some_and(|until| Instant::now() >= until);
            match state.waiting.take() {
                Some(change) if !over => return Some(change),
                None if state.until.is_none() => {
                    state = match ended.next_search() {
                        None => self.changed.wait(state),
                        Some(pause) if pause.is_zero() => {
                            drop(state);
                            self.end_leftovers(ended, marks);
                            self.state.lock()
                        }
                        Some(pause) => match self.changed.wait_timeout(state, pause) {
                            Ok((state, _)) => Ok(state),
                            Err(poisoned) => Ok(poisoned.into_inner().0),
                        },
                    }
                    .unwrap_or_else(PoisonError::into_inner);
                }
                _ => return None,
            }
        }
    }

    /// Waits for the command to end, or for its time to be up.
    fn wait(&self, child: &mut Child, deadline: Instant) -> std::io::Result<Waited> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Waited::Ended(status));
            }
            let state = self.lock();
            let now = Instant::now();
            if state.until.is_some_and(|until| now >= until) {
                return Ok(Waited::ProgramEnds);
            }
            if now >= deadline {
                return Ok(Waited::TimeIsUp);
            }
            // Woken early when changes come: no harm.
            drop(self.changed.wait_timeout(state, POLL));
        }
    }

    /// Ends what commands whose time is up have left running.
    fn end_leftovers(&self, ended: &mut Ended, marks: &Marks) {
        let due = ended.due();
        let count = marks.end(|run| due.contains(&run));
        if count > 0 {
            (self.warn)(format!(
                "{count} processes that commands of --exec had left running were ended after {} (--exec-timeout)",
                in_words(self.job.timeout)
            ));
        }
    }

    fn timed_out(&self, count: u64) -> String {
        let mut words = format!(
            "the command of --exec had not ended after {} (--exec-timeout) and was ended, with all it started; {count} so far",
            in_words(self.job.timeout)
        );
        match std::mem::take(&mut self.lock().passed_over) {
            0 => {}
            1 => words += "; one change that came meanwhile was passed over for a newer one",
            many => {
                words +=
                    &format!("; {many} changes that came meanwhile were passed over for newer ones")
            }
        }
        words
    }

    /// What a panic left behind is whole: every change to the state is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    fn add(&mut self, run: u64, until: Instant) {
        // Those that may run for ever are looked for once, at the end of the program.
        if self.runs.len() < MOST_ENDED {
            self.runs.push_back((run, until));
        }
    }

    /// How long until what commands have left is to be looked for; none where nothing can be left.
    fn next_search(&self) -> Option<Duration> {
        let (_, until) = self.runs.front()?;
        let soonest = self.searched.map_or(*until, |at| (at + SEARCH).max(*until));
        Some(soonest.saturating_duration_since(Instant::now()))
    }

    /// The numbers of the commands whose time is up; they are forgotten.
    fn due(&mut self) -> Vec<u64> {
        let now = Instant::now();
        self.searched = Some(now);
        // All have the same time, so they come in order.
        let count = self.runs.partition_point(|(_, until)| *until <= now);
        self.runs.drain(..count).map(|(run, _)| run).collect()
    }
}

/// What marks the commands of this process, and no others.
struct Marks(String);

impl Marks {
    fn new() -> Marks {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        Marks(format!("{}.{now}.", std::process::id()))
    }

    fn of(&self, run: u64) -> String {
        format!("{}{run}", self.0)
    }

    /// Ends all processes that the commands with `these` numbers have started; how many.
    fn end(&self, these: impl Fn(u64) -> bool) -> usize {
        let mut ended = HashSet::new();
        // A process may start another one between the look and the end.
        for _ in 0..20 {
            let mut found = processes::marked(MARK);
            found.retain(|process| {
                let run = process.mark.strip_prefix(&self.0);
                run.and_then(|run| run.parse().ok()).is_some_and(&these)
            });
            if found.is_empty() {
                break;
            }
            ended.extend(
                found
                    .iter()
                    .map(|process| process.id)
                    .filter(|id| kill(*id)),
            );
            std::thread::sleep(POLL / 4);
        }
        ended.len()
    }
}

#[cfg(unix)]
fn kill(id: u32) -> bool {
    use rustix::process::{Pid, Signal, kill_process};
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    id.is_some_and(|id| kill_process(id, Signal::KILL).is_ok())
}

#[cfg(not(unix))]
fn kill(_: u32) -> bool {
    false
}

fn in_words(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// Starts the command in a process group of its own, so that all it starts can be ended with it. What it prints goes to
/// standard error: standard output belongs to the answers.
fn start(command: &str, change: &Change, mark: &str) -> std::io::Result<Child> {
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
        .env("EDGE_RLP_REGION", &change.region)
        .env(MARK, mark)
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
mod tests;
