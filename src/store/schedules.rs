//! Several processes on one home folder: what they do is interleaved operation by operation in many orders, and one of them is
//! killed at each of its operations while the others go on. Run with `--nocapture` to see how many schedules.

use super::faults::FaultyDisk;
use super::file_system::{Access, FileSystem, Growing, Lock};
use super::{Home, StoreError};
use crate::prompt::Prompt;
use crate::prompt::record::tests::record;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime};

/// Who goes on, and when another does.
struct Turns {
    /// Process that may take a step.
    turn: usize,
    /// Steps that it may take before the next of `switches`; none is as many as it likes.
    left: Option<usize>,
    switches: Vec<(usize, usize)>,
    running: Vec<bool>,
    steps: Vec<usize>,
    /// The process that is killed, and at which of its steps.
    kill: Option<(usize, usize)>,
    lock: Option<usize>,
}

impl Turns {
    fn next_switch(&mut self) {
        let next = (!self.switches.is_empty()).then(|| self.switches.remove(0));
        match next {
            Some((process, steps)) if self.running[process] => {
                (self.turn, self.left) = (process, Some(steps));
            }
            Some(_) => self.next_switch(),
            None => self.left = None,
        }
    }

    /// The turn goes to the next process that is running.
    fn pass_on(&mut self) {
        let count = self.running.len();
        let after = (1..=count).map(|step| (self.turn + step) % count);
        if let Some(next) = after.into_iter().find(|&next| self.running[next]) {
            self.turn = next;
        }
    }
}

/// A disk that processes share, and their turns.
#[derive(Clone)]
struct Machine {
    disk: FaultyDisk,
    turns: Arc<(Mutex<Turns>, Condvar)>,
}

impl Machine {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.0.lock().unwrap()
    }
}

/// What a process that was killed unwinds with.
struct Killed;

/// The disk as one process sees it.
#[derive(Clone)]
struct Process {
    machine: Machine,
    id: usize,
}

impl Process {
    /// Waits for its turn, and dies where that is due.
    fn step(&self) {
        let (_, changed) = &*self.machine.turns;
        let mut turns = self.machine.turns();
        while turns.turn != self.id {
            turns = changed.wait(turns).unwrap();
        }
        turns.steps[self.id] += 1;
        if turns.kill == Some((self.id, turns.steps[self.id])) {
            drop(turns);
            resume_unwind(Box::new(Killed));
        }
        if let Some(left) = &mut turns.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                turns.next_switch();
                changed.notify_all();
                // What it has begun is done when it has its turn again: before the operation, not after.
                while turns.turn != self.id {
                    turns = changed.wait(turns).unwrap();
                }
            }
        }
    }

    fn ended(&self) {
        let mut turns = self.machine.turns();
        turns.running[self.id] = false;
        if turns.turn == self.id {
            turns.next_switch();
            if !turns.running[turns.turn] {
                turns.pass_on();
            }
        }
        self.machine.turns.1.notify_all();
    }
}

/// Frees the lock when its holder lets go of it, or dies.
struct Held(Machine);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.turns().lock = None;
    }
}

impl FileSystem for Process {
    fn create_dir(&self, folder: &Path, access: Access) -> io::Result<()> {
        self.step();
        self.machine.disk.create_dir(folder, access)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.step();
        self.machine.disk.sync_dir(folder)
    }

    /// Others see it empty, then half, then whole.
    fn write_synced(&self, file: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
        for length in [0, bytes.len() / 2, bytes.len()] {
            self.step();
            self.machine
                .disk
                .write_synced(file, &bytes[..length], access)?;
        }
        Ok(())
    }

    fn write_new(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step();
        self.machine.disk.write_new(file, bytes)
    }

    fn sync_tree(&self, folder: &Path) -> io::Result<()> {
        self.step();
        self.machine.disk.sync_tree(folder)
    }

    fn open_growing(&self, file: &Path) -> io::Result<Option<Box<dyn Growing>>> {
        self.step();
        self.machine.disk.open_growing(file)
    }

    fn size(&self, file: &Path) -> io::Result<u64> {
        self.step();
        self.machine.disk.size(file)
    }

    fn modified(&self, file: &Path) -> io::Result<SystemTime> {
        self.step();
        self.machine.disk.modified(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step();
        self.machine.disk.rename(from, to)
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.step();
        self.machine.disk.read(file, limit)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.step();
        self.machine.disk.list(folder)
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        self.step();
        self.machine.disk.remove_file(file)
    }

    fn remove_dir(&self, folder: &Path) -> io::Result<()> {
        self.step();
        self.machine.disk.remove_dir(folder)
    }

    fn try_lock(&self, _: &Path, _: &str) -> io::Result<Option<Lock>> {
        self.step();
        let mut turns = self.machine.turns();
        if turns.lock.is_some() {
            // Whoever holds it must come to its turn.
            turns.left = None;
            turns.pass_on();
            self.machine.turns.1.notify_all();
            return Ok(None);
        }
        turns.lock = Some(self.id);
        let held = Held(self.machine.clone());
        Ok(Some(Lock {
            _held: Some(Box::new(held)),
        }))
    }
}

/// What a process does, and whether that went well.
type Job = fn(&Home) -> Result<(), String>;

/// How one schedule went.
struct Ended {
    /// What each process came to; none where it was killed.
    results: Vec<Option<Result<(), String>>>,
    /// Steps that each took.
    steps: Vec<usize>,
    /// The home folder as the next process finds it.
    home: Home,
    disk: FaultyDisk,
}

const ROOT: &str = "/data/home";
const NAME: &str = "shelf";

/// Runs `jobs` at the same time on what `prepare` left. `switches` are whose turn it is for how many steps, one after the
/// other; then each goes to its end.
fn run(
    prepare: Job,
    jobs: &[Job],
    switches: &[(usize, usize)],
    kill: Option<(usize, usize)>,
) -> Ended {
    let disk = FaultyDisk::default();
    prepare(&Home::with_files(ROOT, Arc::new(disk.clone()))).unwrap();
    let mut turns = Turns {
        turn: 0,
        left: None,
        switches: switches.to_vec(),
        running: vec![true; jobs.len()],
        steps: vec![0; jobs.len()],
        kill,
        lock: None,
    };
    turns.next_switch();
    let machine = Machine {
        disk: disk.clone(),
        turns: Arc::new((Mutex::new(turns), Condvar::new())),
    };
    let results = thread::scope(|scope| {
        let start = |(id, job): (usize, &Job)| {
            let machine = machine.clone();
            let job = *job;
            scope.spawn(move || {
                let process = Process { machine, id };
                let mut home = Home::with_files(ROOT, Arc::new(process.clone()));
                home.lock_pause = Duration::ZERO;
                let done = catch_unwind(AssertUnwindSafe(|| job(&home)));
                process.ended();
                match done {
                    Ok(result) => Some(result),
                    Err(payload) if payload.is::<Killed>() => None,
                    Err(payload) => resume_unwind(payload),
                }
            })
        };
        let running: Vec<_> = jobs.iter().enumerate().map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<_>| thread.join().unwrap();
        running.into_iter().map(join).collect()
    });
    let steps = machine.turns().steps.clone();
    Ended {
        results,
        steps,
        home: Home::with_files(ROOT, Arc::new(disk.clone())),
        disk,
    }
}

fn seeded(seed: u64) -> Prompt {
    Prompt { seed, ..record() }
}

fn save(home: &Home, seed: u64) -> Result<(), String> {
    home.check_writable().map_err(|error| error.to_string())?;
    let saved = home.save(NAME, &seeded(seed));
    saved.map(drop).map_err(|error| error.to_string())
}

fn nothing(_: &Home) -> Result<(), String> {
    Ok(())
}

fn two_generations(home: &Home) -> Result<(), String> {
    save(home, 1)?;
    save(home, 2)
}

/// Every look at the prompt finds one that is whole, without a warning.
fn look(home: &Home) -> Result<(), String> {
    for _ in 0..3 {
        let loaded = home.load(NAME).map_err(|error| error.to_string())?;
        if let Some(warning) = loaded.warning {
            return Err(warning);
        }
        let listed = home.list().map_err(|error| error.to_string())?;
        if listed.len() != 1 || listed[0].prompt.is_err() {
            return Err(format!("{listed:?}"));
        }
    }
    Ok(())
}

fn shoot(home: &Home, label: &str) -> Result<(), String> {
    let kept = home.add_shot(NAME, label, label.as_bytes());
    kept.map(drop).map_err(|error| error.to_string())
}

fn shots(home: &Home) -> Vec<(u64, String)> {
    let folder = home.shots_folder(NAME).unwrap();
    let shots = home.shots_in(&folder).unwrap().into_iter();
    shots.map(|shot| (shot.number, shot.label)).collect()
}

/// Several processes, and what has to hold after them.
struct Case {
    title: &'static str,
    prepare: Job,
    jobs: &'static [Job],
    /// Of the home folder, and of which processes ended by themselves.
    holds: fn(&Ended, context: &str),
}

const CASES: [Case; 6] = [
    Case {
        title: "two first saves",
        prepare: nothing,
        jobs: &[|home| save(home, 11), |home| save(home, 12)],
        holds: |ended, context| {
            let whole = ended.results.iter().flatten().count();
            let history = ended.home.history(NAME).unwrap();
            assert!(history.len() >= whole, "{context}");
            assert!(history.iter().all(|old| old.prompt.is_ok()), "{context}");
            let loaded = ended.home.load(NAME).unwrap();
            assert!([11, 12].contains(&loaded.record.seed), "{context}");
        },
    },
    Case {
        title: "a save and one who reads",
        prepare: two_generations,
        jobs: &[|home| save(home, 13), look],
        holds: |ended, context| {
            let seed = ended.home.load(NAME).unwrap().record.seed;
            let saved = ended.results[0].is_some();
            assert!(seed == 13 || (seed == 2 && !saved), "{context}: {seed}");
        },
    },
    Case {
        title: "a rollback and a save",
        prepare: two_generations,
        jobs: &[
            |home| {
                let back = home.rollback(NAME, Some(1));
                back.map(drop).map_err(|error| error.to_string())
            },
            |home| save(home, 14),
        ],
        holds: |ended, context| {
            let history = ended.home.history(NAME).unwrap();
            let sequences: Vec<u64> = history.iter().map(|old| old.sequence).collect();
            assert!(sequences.is_sorted_by(|a, b| a < b), "{context}");
            assert!(history.iter().all(|old| old.prompt.is_ok()), "{context}");
            let seed = ended.home.load(NAME).unwrap().record.seed;
            assert!([1, 14, 2].contains(&seed), "{context}: {seed}");
        },
    },
    Case {
        title: "a removal and a save",
        prepare: two_generations,
        jobs: &[
            |home| match home.remove(NAME) {
                Err(error) if error.is_missing_prompt() => Ok(()),
                removed => removed.map_err(|error| error.to_string()),
            },
            |home| save(home, 15),
        ],
        holds: |ended, context| match ended.home.load(NAME) {
            Ok(loaded) => {
                let seed = loaded.record.seed;
                assert!([15, 2].contains(&seed), "{context}: {seed}");
                // One that was killed may have come to the history and not into use.
                let whole = ended.results[1].is_some();
                assert!(!whole || loaded.warning.is_none(), "{context}");
            }
            Err(error) => assert!(error.is_missing_prompt(), "{context}: {error}"),
        },
    },
    Case {
        title: "two shots",
        prepare: nothing,
        jobs: &[|home| shoot(home, "mug"), |home| shoot(home, "fish")],
        holds: |ended, context| {
            let shots = shots(&ended.home);
            let kept = |label: &str| shots.iter().any(|(_, of)| of == label);
            let whole = |place: usize| ended.results[place].is_some();
            assert!(kept("mug") || !whole(0), "{context}: {shots:?}");
            assert!(kept("fish") || !whole(1), "{context}: {shots:?}");
            let numbers: Vec<u64> = shots.iter().map(|(number, _)| *number).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{context}: {shots:?}");
        },
    },
    Case {
        title: "a shot, shots that are moved and shots that are removed",
        prepare: |home| shoot(home, "mug").and_then(|()| shoot(home, "mug")),
        jobs: &[
            |home| shoot(home, "fish"),
            |home| {
                let folder = home.shots_folder(NAME).unwrap();
                let moved = home
                    .shots_in(&folder)
                    .and_then(|shots| home.move_shots(NAME, &shots[..1], "cup"));
                moved.map(drop).or_else(gone)
            },
            |home| {
                let folder = home.shots_folder(NAME).unwrap();
                let removed = home
                    .shots_in(&folder)
                    // One that is just being moved may be seen in neither place.
                    .and_then(|shots| home.remove_shots(shots.get(1..2).unwrap_or_default()));
                removed.map(drop).or_else(gone)
            },
        ],
        holds: |ended, context| {
            let shots = shots(&ended.home);
            let numbers: Vec<u64> = shots.iter().map(|(number, _)| *number).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{context}: {shots:?}");
            let whole = ended.results[0].is_some();
            let least = 1 + usize::from(whole);
            assert!(shots.len() >= least, "{context}: {shots:?}");
            let mut labels = shots.iter().map(|(_, label)| label.as_str());
            assert!(!whole || labels.any(|label| label == "fish"), "{context}");
        },
    },
];

/// A shot that another process has moved or removed in between is told, not a fault.
fn gone(error: StoreError) -> Result<(), String> {
    let message = error.to_string();
    let told = message.contains("000001.jpg") || message.contains("000002.jpg");
    if told { Ok(()) } else { Err(message) }
}

/// What a process of another time finds: nothing in its way, and nothing left over once it has written.
fn goes_on(ended: &Ended, context: &str) {
    save(&ended.home, 99).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(ended.home.load(NAME).unwrap().record.seed, 99, "{context}");
    for folder in ["prompts", "prompts/shelf.history"] {
        let names = ended.disk.list(&PathBuf::from(ROOT).join(folder)).unwrap();
        let left = names.iter().find(|name| name.ends_with(".tmp"));
        assert_eq!(left, None, "{context}");
    }
}

fn check(case: &Case, switches: &[(usize, usize)], kill: Option<(usize, usize)>) -> Vec<usize> {
    let context = format!("{}: {switches:?}, killed {kill:?}", case.title);
    let ended = run(case.prepare, case.jobs, switches, kill);
    for (process, result) in ended.results.iter().enumerate() {
        match result {
            Some(Ok(())) => {}
            Some(Err(error)) => panic!("{context}: process {process}: {error}"),
            None => assert_eq!(kill.map(|(killed, _)| killed), Some(process), "{context}"),
        }
    }
    (case.holds)(&ended, &context);
    goes_on(&ended, &context);
    ended.steps
}

/// Every so many steps, so that each case has about fifty schedules with two interruptions.
fn stride(steps: usize) -> usize {
    steps.div_ceil(7).max(1)
}

#[test]
fn processes_on_one_home_folder_do_not_disturb_each_other_in_any_order() {
    for case in &CASES {
        let steps = check(case, &[], None);
        let mut tried = 0;
        for first in 0..case.jobs.len() {
            let second = (first + 1) % case.jobs.len();
            // The other begins after any step, and is itself interrupted after any of some.
            for begun in 1..=steps[first] {
                check(case, &[(first, begun), (second, usize::MAX)], None);
                tried += 1;
            }
            for begun in (1..=steps[first]).step_by(stride(steps[first])) {
                for other in (1..=steps[second]).step_by(stride(steps[second])) {
                    check(
                        case,
                        &[(first, begun), (second, other), (first, usize::MAX)],
                        None,
                    );
                    tried += 1;
                }
            }
        }
        println!("{}: {tried} schedules, steps {steps:?}", case.title);
    }
}

#[test]
fn a_process_may_be_killed_at_each_operation_while_others_go_on() {
    for case in &CASES {
        let steps = check(case, &[], None);
        let mut tried = 0;
        for killed in 0..case.jobs.len() {
            let other = (killed + 1) % case.jobs.len();
            for at in 1..=steps[killed] {
                // Before the other begins, and in the middle of it.
                for begun in [0, steps[other] / 2] {
                    let switches = [(other, begun), (killed, usize::MAX)];
                    let from = usize::from(begun == 0);
                    check(case, &switches[from..], Some((killed, at)));
                    tried += 1;
                }
            }
        }
        println!("{}: {tried} kills", case.title);
    }
}
