//! The command line: flags become one resolved configuration, a command runs, an exit code says how it went.
//! Only this module and those below it read the environment, print, or know `anyhow`.

mod adapt;
mod bench;
mod camera;
mod cameras;
mod classify;
mod demo;
mod doctor;
mod embed;
mod errors;
mod eval;
#[cfg(feature = "fleet")]
mod fleet;
mod kernels;
mod model;
mod output;
mod prompt;
mod regions;
mod report;
#[cfg(feature = "serve")]
mod serve;
mod shots;

use crate::frames;
use crate::host::limits::{self, TooLow};
use crate::host::memory;
use crate::host::sandbox::{self, Kept};
use crate::host::signals;
use crate::ops::gemm::{hold_to, instruction_sets};
use crate::store::Home;
use crate::visible::shown;
use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use errors::{name_is_usage, sentence, usage};
use output::Output;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Teach a camera its own labels: a frozen CLIP, adapted on the device by tuning a few hundred numbers.
#[derive(Parser)]
#[command(name = "edge-rlp", version, max_term_width = 100, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(flatten)]
    global: GlobalArguments,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the job failed, 2 wrong usage, 3 finished but nothing was accepted \
                          or something asked for was missing.";

#[derive(clap::Args)]
#[command(next_help_heading = "For every command")]
struct GlobalArguments {
    /// Print JSON for machines on standard output; everything for people goes to standard error
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but results, warnings and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Say more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Processor cores to use [default: all]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Where models and prompts are kept [default: the platform's data folder]
    #[arg(
        long,
        global = true,
        env = "EDGE_RLP_HOME",
        value_name = "DIR",
        hide_env_values = true
    )]
    home: Option<PathBuf>,
    /// Do without the processor's instructions beyond this set, to try what another processor runs
    #[arg(
        long,
        global = true,
        hide = true,
        env = "EDGE_RLP_INSTRUCTIONS",
        value_name = "SET",
        value_parser = PossibleValuesParser::new(instruction_sets())
    )]
    instructions: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Train a prompt on labelled pictures, and keep it if it is at least as good as the plain template
    Adapt(adapt::Arguments),
    /// Name what pictures show
    Classify(classify::Arguments),
    /// Watch many cameras in one process, with a web page to teach them and an API
    #[cfg(feature = "serve")]
    Serve(serve::Arguments),
    /// Judge a prompt, or compare methods of adapting, on labelled pictures
    Eval(eval::Arguments),
    /// List, show and roll back prompts
    #[command(subcommand)]
    Prompt(prompt::Command),
    /// List, show, move and remove the pictures that prompts were made from
    #[command(subcommand)]
    Shots(shots::Command),
    /// Import, download, list, show, check and remove models
    #[command(subcommand)]
    Model(model::Command),
    /// Sign prompts, send them to the boxes of many places over a broker, and see what became of them
    #[cfg(feature = "fleet")]
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Print the features of pictures or texts
    Embed(embed::Arguments),
    /// Write a folder of drawn pictures to try everything on without a camera
    Demo(demo::Arguments),
    /// List the cameras of this machine and what they can send, or say what one on the network sends
    Cameras(cameras::Arguments),
    /// Measure what this box does with a model: latency, training step, start, memory
    Bench(bench::Arguments),
    /// Look at this box, its cameras, models and prompts, and say what is wrong and how to cure it
    Doctor,
}

impl Command {
    /// The memory that it takes at least, where it works with a model.
    fn need(&self) -> Option<&'static limits::Need> {
        match self {
            Command::Adapt(_) | Command::Eval(_) | Command::Bench(_) => Some(&limits::TRAINING),
            #[cfg(feature = "serve")]
            Command::Serve(_) => Some(&limits::TRAINING),
            Command::Classify(_) | Command::Embed(_) | Command::Model(_) => Some(&limits::NAMING),
            #[cfg(feature = "fleet")]
            Command::Fleet(_) => None,
            Command::Prompt(_)
            | Command::Shots(_)
            | Command::Demo(_)
            | Command::Cameras(_)
            | Command::Doctor => None,
        }
    }

    /// How much it steps back behind other programs.
    fn nice(&self) -> u8 {
        match self {
            Command::Adapt(arguments) => arguments.nice,
            Command::Classify(arguments) => arguments.nice,
            _ => 0,
        }
    }

    /// What it keeps of its rights while it reads pictures and models of others; none where it runs commands of the user's, or
    /// writes where they say.
    fn kept<'a>(&'a self, home: &'a Path) -> Option<Kept<'a>> {
        let (folder, has_cameras) = match self {
            Command::Classify(arguments) if arguments.runs_commands() => return None,
            Command::Classify(arguments) => (arguments.keeps_in(), arguments.watches()),
            Command::Embed(_) | Command::Model(_) => (None, false),
            #[cfg(feature = "serve")]
            Command::Serve(arguments) => (arguments.folder(), true),
            Command::Eval(arguments) => (arguments.report_folder(), false),
            _ => return None,
        };
        Some(Kept {
            writable: [home].into_iter().chain(folder).map(there).collect(),
            // Where cameras send H.265.
            programs: has_cameras
                .then(|| sandbox::program("ffmpeg"))
                .flatten()
                .into_iter()
                .collect(),
        })
    }

    /// What it is called, for others that wait for it.
    fn name(&self) -> &'static str {
        match self {
            Command::Adapt(_) => "adapt",
            Command::Classify(_) => "classify",
            #[cfg(feature = "serve")]
            Command::Serve(_) => "serve",
            Command::Eval(_) => "eval",
            Command::Prompt(_) => "prompt",
            Command::Shots(_) => "shots",
            Command::Model(_) => "model",
            #[cfg(feature = "fleet")]
            Command::Fleet(_) => "fleet",
            Command::Embed(_) => "embed",
            Command::Demo(_) => "demo",
            Command::Cameras(_) => "cameras",
            Command::Bench(_) => "bench",
            Command::Doctor => "doctor",
        }
    }
}

/// What every command is given.
struct Context {
    home: Home,
    output: Output,
    /// Processor cores to use.
    threads: usize,
    /// Set by Ctrl-C and SIGTERM: finish what is in hand, then end.
    stop: Arc<AtomicBool>,
}

impl Context {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.output.is_closed()
    }
}

/// A length of time as in `500ms`, `2s` or `1m`.
fn duration(given: &str) -> Result<Duration, String> {
    /// Clocks can add so much to now.
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    match humantime::parse_duration(given) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("that is more than a hundred years".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// How a command that did not fail ended.
enum Exit {
    Done,
    /// Finished, but nothing was accepted or something asked for was missing.
    NothingAccepted,
}

/// Runs the command that `arguments` (program name first) ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let given = camera::private(arguments.into_iter().collect());
    let arguments = match Arguments::try_parse_from(&given) {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_error = error.use_stderr();
            print_refusal(error, &given);
            return if is_error {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    quiet_panics();
    memory::explain_lost_maps();
    match catch_unwind(|| dispatch(arguments)).unwrap_or_else(|_| Err(fault())) {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::NothingAccepted) => ExitCode::from(3),
        Err(error) => {
            let said = camera::without_logins(&sentence(&error), &given);
            output::print_error(format_args!("error: {said}"));
            ExitCode::from(errors::exit_code(&error))
        }
    }
}

/// Prints what is wrong with the arguments, or the help. An argument may hold a password, or be the name of a file that a shell
/// put in: what of it cannot be seen is written out.
fn print_refusal(error: clap::Error, arguments: &[OsString]) {
    let seen = |argument: &OsString| OsString::from(shown(&argument.to_string_lossy()).as_ref());
    let seen: Vec<OsString> = arguments.iter().map(seen).collect();
    let error = match Arguments::try_parse_from(&seen) {
        Err(seen) if seen.kind() == error.kind() => seen,
        _ => error,
    };
    let said = error.render().to_string();
    let masked = camera::without_logins(&said, &seen);
    // Help says nothing of what was given.
    if error.use_stderr() && masked != said {
        masked.trim_end().lines().for_each(output::print_error);
        return;
    }
    // Only a closed pipe can make this fail, and then nobody is left to read it.
    let _ = error.print();
}

/// Where the program last panicked, and why.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// A panic is noted, not printed: most are a library's, are caught where it was called, and become a sentence there.
/// With RUST_BACKTRACE they are printed all the same.
fn quiet_panics() {
    let printed = std::env::var_os("RUST_BACKTRACE").is_some();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or("somewhere".into(), |place| {
            let file = Path::new(place.file()).file_name().unwrap_or_default();
            format!("{}, line {}", file.display(), place.line())
        });
        let reason = panic.payload_as_str().unwrap_or("no reason given");
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(format!("{place}: {reason}"));
        if printed {
            usual(panic);
        }
    }));
}

/// What is said of a panic that nothing has caught.
fn fault() -> anyhow::Error {
    let last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    let place = last.as_deref().unwrap_or("at an unknown place");
    anyhow::anyhow!(
        "this program has a fault ({place}): please report it with the command line; what was kept before is whole"
    )
}

fn dispatch(Arguments { global, command }: Arguments) -> anyhow::Result<Exit> {
    step_back(command.nice());
    if let Some(set) = &global.instructions {
        hold_to(set)?;
    }
    let home = home(global.home)?;
    if let Some(kept) = command.kept(home.root()) {
        sandbox::enter(&kept);
    }
    #[cfg(feature = "serve")]
    if matches!(command, Command::Serve(_)) {
        serve::prepare_heap();
    }
    let threads = threads(global.threads);
    match limits::check(command.need().unwrap_or(&limits::NAMING), threads) {
        Ok(()) => share_threads(threads),
        Err(too_low) if command.need().is_some() => {
            return Err(anyhow::anyhow!("{too_low}: {}", cure(&too_low)));
        }
        Err(_) => {}
    }
    frames::limit_memory(limits::memory_to_keep(PICTURE_MEMORY, threads) as u64);
    let stop = signals::stop_flag();
    let context = Context {
        home: introduced(home, &command, global.quiet, &stop),
        output: Output::new(global.json, global.quiet, global.verbose),
        threads,
        stop,
    };
    kernels::recall(&context);
    let done = run_command(command, &context);
    kernels::keep(&context);
    context.output.check_written()?;
    done
}

/// Bytes that one picture may take while it is decoded where memory is not limited; else half of what a limit leaves.
const PICTURE_MEMORY: usize = 512 << 20;

fn run_command(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Adapt(arguments) => adapt::run(arguments, context),
        Command::Classify(arguments) => classify::run(arguments, context),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => serve::run(arguments, context),
        Command::Eval(arguments) => eval::run(arguments, context),
        Command::Prompt(command) => prompt::run(command, context),
        Command::Shots(command) => shots::run(command, context),
        Command::Model(command) => model::run(command, context),
        #[cfg(feature = "fleet")]
        Command::Fleet(command) => fleet::run(command, context),
        Command::Embed(arguments) => embed::run(arguments, context),
        Command::Demo(arguments) => demo::run(arguments, context),
        Command::Cameras(arguments) => cameras::run(&arguments, context),
        Command::Bench(arguments) => bench::run(arguments, context),
        Command::Doctor => doctor::run(context),
    }
}

/// The folder, or the one that it will be made in.
fn there(folder: &Path) -> &Path {
    let mut above = folder.ancestors();
    above
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."))
}

/// Takes the processor only where nothing more urgent wants it; to be called before threads are started, which inherit it.
/// It adds to what the program was started with, so it needs no privilege.
fn step_back(nice: u8) {
    #[cfg(unix)]
    if nice > 0 {
        // A system that does not let a process step back runs it all the same.
        let _ = rustix::process::nice(nice.into());
    }
    #[cfg(not(unix))]
    let _ = nice;
}

/// Cores to use: as asked for, else all.
fn threads(asked: Option<u32>) -> usize {
    let all = || thread::available_parallelism().map_or(1, usize::from);
    asked.map_or_else(all, |asked| asked as usize)
}

/// Has products share `threads` cores; what they compute does not depend on their number.
fn share_threads(threads: usize) {
    // Only a second call in one process can be refused, and then the first one holds.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
}

fn home(given: Option<PathBuf>) -> anyhow::Result<Home> {
    let root = match given {
        Some(root) if !root.as_os_str().is_empty() => root,
        _ => directories::ProjectDirs::from("", "", "edge-rlp")
            .context("this account has no home folder: say with --home DIR or EDGE_RLP_HOME where to keep prompts")?
            .data_dir()
            .to_owned(),
    };
    Ok(Home::new(root))
}

/// The home folder with what this process says to others that want to write to it, and of others.
fn introduced(home: Home, command: &Command, quiet: bool, stop: &Arc<AtomicBool>) -> Home {
    let stop = Arc::clone(stop);
    home.introduced(command.name(), move |message| {
        if let Some(message) = message.filter(|_| !quiet) {
            output::print_error(message);
        }
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// What to do about a limit that is too low.
fn cure(too_low: &TooLow) -> String {
    let (short, more) = match too_low {
        TooLow::Resident(short) => (
            short,
            "give it more (MemoryMax= of its unit, --memory of its container)".to_owned(),
        ),
        TooLow::Addresses(short) => (
            short,
            format!(
                "say `ulimit -v {}` or more; a control group limits what is really used",
                short.needed.div_ceil(1024)
            ),
        ),
    };
    if short.enough_for_one_thread {
        format!("use fewer --threads, or {more}")
    } else {
        more
    }
}

/// How long work that was asked to end may take to do so.
const GRACE: Duration = Duration::from_millis(500);

/// Runs `work`, which cannot be ended early, on a thread of its own: where Ctrl-C or SIGTERM comes first, the
/// command ends without it. So it must not write what would be of use half-written.
fn interruptible<T: Send + 'static>(
    context: &Context,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) if context.stopped() => {
                // It may listen to the signal itself, and then it knows more to say.
                return receiver.recv_timeout(GRACE).map_err(|_| {
                    anyhow::anyhow!("{what} was stopped before its end, and no model was written")
                });
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(fault().context(format!("{what} ended early")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_nothing_else_can_end_is_left_behind_when_a_signal_comes() {
        let context = Context {
            home: Home::new("nowhere"),
            output: Output::new(false, true, 0),
            threads: 1,
            stop: Arc::default(),
        };
        assert_eq!(interruptible(&context, "it", || 7).unwrap(), 7);
        let stop = Arc::clone(&context.stop);
        let stopped = interruptible(&context, "the import", move || {
            stop.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(20));
        });
        assert!(
            stopped
                .unwrap_err()
                .to_string()
                .contains("the import was stopped")
        );
    }
}
