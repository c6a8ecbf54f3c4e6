//! A directory with a home folder of its own, and the program run in it.
//!
//!     let dir = Directory::with_pictures(4);
//!     dir.ok("adapt --images pictures --steps 20 --force");
//!     dir.fails("classify nowhere.png", 1, "nowhere.png");
//!     let answers = dir.command("classify pictures --json").arg("a name with spaces.png").ends(3).lines();
#![allow(dead_code)]

pub mod broker;
pub mod models;
#[cfg(unix)]
pub mod openapi;
#[cfg(feature = "rtsp")]
pub mod rtsp;
#[cfg(unix)]
pub mod serve;
pub mod server;

use edge_rlp::frames::demo::{self, CLASSES, Purpose};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

pub struct Directory(TempDir);

impl Directory {
    pub fn new() -> Directory {
        Directory(TempDir::new().unwrap())
    }

    /// A directory with `pictures/mug` and `pictures/fish`, `shots` drawn pictures each, and `pictures/labels.txt`.
    pub fn with_pictures(shots: usize) -> Directory {
        let dir = Directory::new();
        for label in ["mug", "fish"] {
            let class = CLASSES.iter().position(|name| *name == label).unwrap();
            fs::create_dir_all(dir.path().join("pictures").join(label)).unwrap();
            for shot in 0..shots {
                let scene =
                    demo::scene(Purpose::Train, 0, 9, (shot * CLASSES.len() + class) as u64);
                let path = dir.path().join(format!("pictures/{label}/{shot:04}.png"));
                demo::draw(&scene, demo::SIZE).save(path).unwrap();
            }
        }
        dir.write("pictures/labels.txt", "mug\nfish\n");
        dir
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// `edge-rlp LINE`, the arguments separated by spaces. It runs here, with this home folder and none of the machine's
    /// settings.
    pub fn command(&self, line: &str) -> Invocation {
        self.program(&[env!("CARGO_BIN_EXE_edge-rlp")]).words(line)
    }

    /// The same behind another program, as in `["env", "--default-signal=INT", EDGE_RLP]`.
    pub fn program(&self, words: &[&str]) -> Invocation {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(self.path())
            .env("EDGE_RLP_HOME", self.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for setting in [
            "HF_ENDPOINT",
            "http_proxy",
            "HTTP_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(setting);
        }
        Invocation {
            command,
            input: None,
        }
    }

    /// Runs `edge-rlp LINE`, which must succeed.
    #[track_caller]
    pub fn ok(&self, line: &str) -> Ran {
        self.command(line).ok()
    }

    /// Runs `edge-rlp LINE`, which must end with this exit code and an error that holds `sentence`, as in
    /// [`Invocation::fails`].
    #[track_caller]
    pub fn fails(&self, line: &str, code: i32, sentence: &str) -> Ran {
        self.command(line).fails(code, sentence)
    }
}

/// A program that is to be run.
pub struct Invocation {
    command: Command,
    input: Option<Vec<u8>>,
}

impl Invocation {
    /// More arguments, separated by spaces.
    pub fn words(mut self, line: &str) -> Invocation {
        self.command.args(line.split_whitespace());
        self
    }

    /// One more argument, spaces and all.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Invocation {
        self.command.arg(argument);
        self
    }

    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Invocation {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Invocation {
        self.command.env(name, value);
        self
    }

    pub fn without(mut self, name: &str) -> Invocation {
        self.command.env_remove(name);
        self
    }

    /// Nothing is left of the environment, not even the home folder's name.
    pub fn without_environment(mut self) -> Invocation {
        self.command.env_clear();
        self
    }

    /// What the program finds on its standard input.
    pub fn input(mut self, bytes: &[u8]) -> Invocation {
        self.command.stdin(Stdio::piped());
        self.input = Some(bytes.to_vec());
        self
    }

    /// Starts it and goes on; its output is in pipes.
    pub fn start(&mut self) -> Child {
        self.command.spawn().unwrap()
    }

    /// Runs it to its end, whatever that is.
    #[track_caller]
    pub fn run(mut self) -> Ran {
        let mut child = self.start();
        if let Some(input) = &self.input {
            // A program that has seen enough closes the pipe.
            let _ = child.stdin.take().unwrap().write_all(input);
        }
        let output = child.wait_with_output().unwrap();
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        Ran::of(words.join(" "), output)
    }

    /// Runs it; it must succeed.
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.ends(0)
    }

    /// Runs it; it must end with this exit code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Ran {
        let ran = self.run();
        assert_eq!(ran.code, code, "{ran}");
        ran
    }

    /// Runs it; it must end with this exit code, and with an error in words that holds all parts of `sentence`, which are
    /// separated by " ... ".
    #[track_caller]
    pub fn fails(self, code: i32, sentence: &str) -> Ran {
        let ran = self.ends(code);
        for part in sentence.split(" ... ") {
            assert!(ran.error().contains(part), "no {part:?} in: {ran}");
        }
        for accident in ["panicked", "backtrace"] {
            assert!(!ran.stderr.contains(accident), "{ran}");
        }
        ran
    }
}

/// What a program did.
pub struct Ran {
    command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn of(command: String, output: Output) -> Ran {
        Ran {
            code: output
                .status
                .code()
                .unwrap_or_else(|| panic!("{command}: ended by a signal")),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            command,
        }
    }

    /// Standard error from "error: " on.
    #[track_caller]
    pub fn error(&self) -> &str {
        let at = self.stderr.find("error: ");
        &self.stderr[at.unwrap_or_else(|| panic!("no error in {self}"))..]
    }

    /// Standard error must hold `text`.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Ran {
        assert!(
            self.stderr.contains(text),
            "no {text:?} on stderr of: {self}"
        );
        self
    }

    /// Standard output must hold `text`.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Ran {
        assert!(
            self.stdout.contains(text),
            "no {text:?} on stdout of: {self}"
        );
        self
    }

    /// Standard output as one JSON object.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Standard output as a JSON object a line.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parsed =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self}"));
        self.stdout.lines().map(parsed).collect()
    }

    /// Share of the lines of `classify --json` whose label is the right one.
    #[track_caller]
    pub fn share_right(&self) -> f64 {
        let lines = self.lines();
        let right = lines
            .iter()
            .filter(|line| line["label"] == line["truth"])
            .count();
        right as f64 / lines.len() as f64
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Ran {
            command,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            to,
            "{command}\nexit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// Share of 240 live demo frames that `classify` with these flags names as they were drawn.
#[track_caller]
pub fn live_accuracy(dir: &Directory, condition: &str, flags: &[&str]) -> f64 {
    let watch = dir
        .command("classify --frames 240 --json --camera")
        .arg(condition);
    watch.args(flags).ok().share_right()
}

/// The labels of a report, as text of a label file.
pub fn label_file(report: &Value) -> String {
    let labels = report["labels"].as_array().unwrap().iter();
    let labels: Vec<&str> = labels.map(|label| label.as_str().unwrap()).collect();
    labels.join("\n")
}

/// The first bytes of a PNG of `width * height` pixels: enough to be refused for its size, not enough to decode.
pub fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let mut checksum = !0u32;
    for &byte in &chunk {
        checksum ^= u32::from(byte);
        for _ in 0..8 {
            checksum = (checksum >> 1) ^ (0xedb8_8320 & (checksum & 1).wrapping_neg());
        }
    }
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\r".to_vec();
    png.extend(&chunk);
    png.extend((!checksum).to_be_bytes());
    png
}
