//! `adapt --camera` at a terminal, driven as a person drives it: keys go in through a pseudo-terminal, and what is on the
//! screen is read as it comes, without sleeping for it.
#![cfg(unix)]

use crate::support::Directory;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use std::io::{Read, Write};
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(90);

const SIZE: PtySize = PtySize {
    rows: 24,
    cols: 80,
    pixel_width: 0,
    pixel_height: 0,
};

/// What the program has written, and the screen that it makes.
struct Shown {
    parser: vt100::Parser,
    bytes: Vec<u8>,
    /// Nothing more will come.
    closed: bool,
    /// The line is being cut: nobody reads on.
    cut: bool,
}

/// A person at a terminal of 80 x 24.
struct Person {
    shown: Arc<(Mutex<Shown>, Condvar)>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    master: Option<Box<dyn MasterPty + Send>>,
}

impl Person {
    fn at(dir: &Directory, arguments: &[&str]) -> Person {
        let pair = native_pty_system().openpty(SIZE).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_edge-rlp"));
        command.args(arguments);
        command.cwd(dir.path());
        command.env("EDGE_RLP_HOME", dir.home());
        command.env("TERM", "xterm-256color");
        command.env("COLORTERM", "truecolor");
        for name in ["NO_COLOR", "TMUX", "STY", "TERM_PROGRAM", "LC_TERMINAL"] {
            command.env_remove(name);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut output = pair.master.try_clone_reader().unwrap();
        let shown = Shown {
            parser: parser(SIZE),
            bytes: Vec::new(),
            closed: false,
            cut: false,
        };
        let shown = Arc::new((Mutex::new(shown), Condvar::new()));
        let reader = Arc::clone(&shown);
        thread::spawn(move || {
            let mut bytes = [0; 1 << 16];
            loop {
                let count = output.read(&mut bytes).unwrap_or(0);
                let mut shown = reader.0.lock().unwrap();
                shown.parser.process(&bytes[..count]);
                shown.bytes.extend(&bytes[..count]);
                shown.closed = count == 0;
                reader.1.notify_all();
                if shown.closed || shown.cut {
                    return;
                }
            }
        });
        Person {
            shown,
            keys: pair.master.take_writer().unwrap(),
            child,
            master: Some(pair.master),
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until what is shown satisfies `found`, and gives what that gave.
    fn until<T>(&self, what: &str, found: impl Fn(&Shown) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        let mut shown = self.shown.0.lock().unwrap();
        loop {
            if let Some(found) = found(&shown) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let screen = shown.parser.screen().contents();
            assert!(!left.is_zero() && !shown.closed, "no {what} on:\n{screen}");
            shown = self.shown.1.wait_timeout(shown, left).unwrap().0;
        }
    }

    fn sees(&self, text: &str) {
        self.until(text, |shown| {
            shown
                .parser
                .screen()
                .contents()
                .contains(text)
                .then_some(())
        });
    }

    /// Labels the scene that is shown once it is one of `label`.
    fn shoots(&mut self, label: &str, key: &str) {
        self.sees(&format!("drawn: {label}"));
        self.press(key);
    }

    fn signals(&self, signal: rustix::process::Signal) {
        let id = self.child.process_id().unwrap() as i32;
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for the end: the exit code and all that is on the screen then.
    fn ends(mut self) -> (u32, String) {
        let code = self.exit_code();
        drop(self.master.take());
        let deadline = Instant::now() + LIMIT;
        let mut shown = self.shown.0.lock().unwrap();
        while !shown.closed && Instant::now() < deadline {
            shown = self.shown.1.wait_timeout(shown, LIMIT).unwrap().0;
        }
        let screen = shown.parser.screen();
        assert!(!screen.alternate_screen(), "the alternate screen was left");
        assert!(!screen.hide_cursor(), "the cursor is back");
        (code, screen.contents())
    }

    fn exit_code(&mut self) -> u32 {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.exit_code();
            }
            if Instant::now() >= deadline {
                let shown = self.shown.0.lock().unwrap();
                panic!(
                    "the program does not end:\n{}",
                    shown.parser.screen().contents()
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn directory() -> Directory {
    let dir = Directory::new();
    dir.write("labels.txt", "mug\nfish\n");
    dir
}

const TEACH: [&str; 13] = [
    "adapt",
    "--camera",
    "demo:squeezed",
    "--view",
    "--blocks",
    "--labels",
    "labels.txt",
    "--prompt",
    "shelf",
    "--views",
    "1",
    "--steps",
    "40",
];

fn parser(size: PtySize) -> vt100::Parser {
    vt100::Parser::new(nonzero(size.rows), nonzero(size.cols), 0)
}

fn nonzero(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

#[test]
fn from_the_first_key_to_a_prompt_that_classifies_and_the_shots_are_there_again() {
    let dir = directory();
    let mut person = Person::at(&dir, &TEACH);
    for _ in 0..4 {
        person.shoots("mug", "1");
        person.shoots("fish", "2");
    }
    person.sees("8 shots");
    // A slip of the finger, taken back.
    person.shoots("mug", "2");
    person.sees("9 shots");
    person.press("u");
    person.sees("a shot of fish was taken back");
    person.sees("8 shots");
    person.press("\r");
    person.sees("accuracy on 8 held-out shots");
    person.sees("shown, named:");
    person.press("k");
    let (code_of_view, told) = person.ends();
    assert_eq!(code_of_view, 0, "{told}");
    let told: String = told.lines().collect();
    assert!(
        told.contains("kept as prompt \"shelf\", generation 1"),
        "{told}"
    );

    dir.ok("classify --camera demo:squeezed --frames 3 --prompt shelf")
        .says("3 frames");

    let mut again = Person::at(&dir, &TEACH);
    again.sees("8 shots of earlier are here");
    again.sees("prompt shelf, generation 1");
    again.press("u");
    again.sees("nothing of this session");
    again.press("\x1b[3~");
    again.sees("a shot of mug was taken back");
    again.press("\x03");
    let (code_of_view, told) = again.ends();
    assert_eq!(code_of_view, 3, "{told}");
    assert!(told.contains("7 shots in"), "{told}");

    let adapt = "adapt --shots-from --prompt shelf --views 1 --steps 40 --json --force";
    let report = dir.ok(adapt).json();
    assert_eq!(
        (&report["images"], &report["sequence"], &report["labels"]),
        (&7.into(), &2.into(), &serde_json::json!(["mug", "fish"]))
    );
}

#[test]
fn a_region_is_drawn_moved_learnt_and_remembered_by_the_shots_and_the_prompt() {
    let dir = directory();
    let mut person = Person::at(&dir, &TEACH);
    person.sees("drawn: ");
    person.press("\t");
    person.sees("region 25,25,50,50%");
    person.sees("Enter done");
    // The picture stays whole, with a frame in it.
    person.press("++\x1b[A");
    person.sees("region 25,23,54,54%");
    person.press("\r");
    person.sees("shots are of 25,23,54,54%");
    for _ in 0..4 {
        person.shoots("mug", "1");
        person.shoots("fish", "2");
    }
    person.sees("8 shots");
    person.press("\r");
    person.sees("accuracy on 8 held-out shots");
    person.press("k");
    let (code_of_view, told) = person.ends();
    assert_eq!(code_of_view, 0, "{told}");
    let shown = dir.ok("prompt show shelf --json").json();
    assert_eq!(shown["regions"], serde_json::json!(["25,23,54,54%"]));
    let shot = dir.home().join("shots/shelf/mug/000001.jpg");
    assert_eq!(image::image_dimensions(shot).unwrap(), (52, 52));

    // Whoever trains on the shots again, and whoever names with the prompt, needs no --region.
    dir.ok("adapt --shots-from --prompt shelf --views 1 --steps 40 --force")
        .says("the shots show 25,23,54,54%");
    dir.ok("classify --camera demo:squeezed --frames 1 --prompt shelf")
        .says("looking at what the prompt was trained on: 25,23,54,54%");
    dir.ok("classify --camera demo:squeezed --frames 1 --prompt shelf --region 0,0,50,50")
        .says("the prompt was trained on 25,23,54,54%, and is used on 0,0,50,50%");
    let mut again = Person::at(&dir, &TEACH);
    again.sees("region 25,23");
    again.press("\x03");
    again.ends();
    let mut other = TEACH.to_vec();
    other.extend(["--region", "0,0,50,50"]);
    let mut other = Person::at(&dir, &other);
    other.sees("the shots of earlier show");
    other.press("\x03");
    other.ends();
}

#[test]
fn pictures_that_classify_was_unsure_of_are_labelled_and_become_shots() {
    let dir = directory();
    dir.ok(
        "classify --camera demo:squeezed --frames 40 --labels labels.txt --keep-uncertain unsure",
    )
    .says("kept in ./unsure: `edge-rlp adapt --shots-from ./unsure` labels");
    // Written no more often than every ten seconds: the rest of what a day keeps.
    let kept = dir.path().join("unsure/000001.jpg");
    for number in 2..=5 {
        std::fs::copy(&kept, dir.path().join(format!("unsure/00000{number}.jpg"))).unwrap();
    }
    dir.fails(
        "adapt --shots-from ./unsure --labels labels.txt",
        1,
        "5 pictures wait to be labelled ... terminal",
    );
    let arguments = [
        "adapt",
        "--shots-from",
        "./unsure",
        "--blocks",
        "--labels",
        "labels.txt",
        "--prompt",
        "shelf",
        "--views",
        "1",
        "--steps",
        "40",
    ];
    let mut person = Person::at(&dir, &arguments);
    for shots in 1..=4 {
        person.sees(&format!("00000{shots}.jpg"));
        person.press(if shots % 2 == 0 { "1" } else { "2" });
        person.sees(&format!(" {shots} shot"));
    }
    person.sees("000005.jpg");
    // Nobody can say what this is.
    person.press("\x1b[C");
    person.sees("that was the last picture that waited");
    person.press("\r");
    // Its own shots' accuracy is shown while it trains.
    person.sees("shown, named:");
    person.press("k");
    let (code_of_view, told) = person.ends();
    assert_eq!(code_of_view, 0, "{told}");
    // What was labelled has gone, what was skipped waits.
    let waiting = |number: usize| {
        dir.path()
            .join(format!("unsure/00000{number}.jpg"))
            .exists()
    };
    assert_eq!(
        [1, 2, 3, 4, 5].map(waiting),
        [false, false, false, false, true]
    );
}

#[test]
fn training_can_be_cancelled_the_size_changed_and_a_signal_gives_the_terminal_back() {
    let dir = directory();
    let mut arguments = TEACH;
    arguments[10] = "64";
    let mut person = Person::at(&dir, &arguments);
    person.sees("guess");
    person.press("\r");
    person.sees("\"mug\" has no shot yet");
    for _ in 0..2 {
        person.shoots("mug", "1");
        person.shoots("fish", "2");
    }
    person.sees("4 shots");
    person.press("\r");
    person.sees("Esc cancels");
    person.press("\x1b");
    person.sees("stopped before training was done");
    let small = PtySize {
        rows: 12,
        cols: 40,
        ..SIZE
    };
    person
        .shown
        .0
        .lock()
        .unwrap()
        .parser
        .screen_mut()
        .set_size(nonzero(12), nonzero(40));
    person.master.as_ref().unwrap().resize(small).unwrap();
    // Drawn anew, perhaps before the program heard of the change; a key that comes in that very moment waits in the library
    // for the next one, so the first is one that does nothing (F9).
    person.until("last row of 12", |shown| {
        let last = shown.parser.screen().rows(0, 40).nth(11)?;
        last.contains("key shot").then_some(())
    });
    person.press("\x1b[20~");
    thread::sleep(Duration::from_millis(200));
    person.press("?");
    person.sees("keep the picture");
    person.press(" ");
    person.sees("guess");
    person.signals(rustix::process::Signal::TERM);
    let (code_of_view, told) = person.ends();
    assert_eq!(code_of_view, 3, "{told}");
}

#[test]
fn a_line_that_is_cut_ends_the_program_and_the_shots_survive() {
    let dir = directory();
    let mut person = Person::at(&dir, &TEACH);
    person.shoots("mug", "1");
    person.sees("1 shot ");
    // All ends of the line: that of the reader closes after it has read once more.
    person.shown.0.lock().unwrap().cut = true;
    person.press("?");
    drop(person.master.take());
    person.keys = Box::new(std::io::sink());
    person.exit_code();
    let kept = dir.home().join("shots/shelf/mug/000001.jpg");
    assert!(image::open(&kept).is_ok(), "{}", kept.display());
}

#[test]
fn a_terminal_that_shows_pixels_is_sent_them_and_the_keys_still_work() {
    let dir = directory();
    let arguments: Vec<&str> = TEACH
        .into_iter()
        .filter(|flag| *flag != "--blocks")
        .collect();
    let mut person = Person::at(&dir, &arguments);
    let wrote = |person: &Person, what: &str| {
        person.until(&format!("{what:?}"), |shown| {
            let found = shown
                .bytes
                .windows(what.len())
                .any(|part| part == what.as_bytes());
            found.then_some(())
        });
    };
    // As Kitty answers: where the cursor is; that it shows pictures; its kind, its cell's size, and that it is well.
    wrote(&person, "\x1b[6n");
    person.press("\x1b[1;1R");
    wrote(&person, "\x1b_Gi=31");
    person.press("\x1b_Gi=31;OK\x1b\\\x1b[?62;c\x1b[6;20;10t\x1b[0n");
    wrote(&person, "a=T");
    person.shoots("mug", "1");
    person.sees("mug 1 kept");
    person.press("q");
    assert_eq!(person.ends().0, 3);
}

#[test]
fn without_a_terminal_a_camera_that_knows_no_labels_is_wrong_usage() {
    let dir = directory();
    for camera in ["0", "dir:."] {
        let adapt = dir.command("adapt --labels labels.txt --camera");
        adapt.arg(camera).fails(2, "--shots-from ... --images");
    }
    dir.command("adapt --camera demo --view").ends(2);
    dir.fails("adapt --shots-from", 1, "holds no shots");
}
