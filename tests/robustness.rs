//! What boxes go through: a home folder that cannot be written or that another process writes to, signals at any moment,
//! prompts that travel, input that makes no sense.

mod support;

use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Directory, code, stderr, stdout};

/// Flags for a prompt that is there quickly, good or not.
const QUICK: [&str; 7] = ["--views", "1", "--steps", "3", "--shots", "2", "--force"];

fn adapted(dir: &Directory, flags: &[&str]) {
    let command = ["adapt", "--camera", "demo:fog"];
    let output = dir.run(&[&command[..], &QUICK, flags].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

fn spawned(dir: &Directory, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-rlp"));
    started(command.args(arguments), dir)
}

fn started(command: &mut Command, dir: &Directory) -> Child {
    command
        .current_dir(dir.path())
        .env("EDGE_RLP_HOME", dir.home())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_prompt_travels_as_a_file_and_as_json_and_stays_the_same() {
    let (here, there) = (Directory::new(), Directory::new());
    adapted(&here, &[]);
    for file in ["shelf.rlp", "shelf.json"] {
        let exported = here.run(&["prompt", "export", "default", file]);
        assert_eq!(code(&exported), 0, "{}", stderr(&exported));
        let again = here.run(&["prompt", "export", "default", file]);
        assert_eq!(code(&again), 1);
        assert!(stderr(&again).contains("--force"), "{}", stderr(&again));
        fs::copy(here.path().join(file), there.path().join(file)).unwrap();
        let imported = there.run(&["prompt", "import", file, "--json"]);
        assert_eq!(code(&imported), 0, "{}", stderr(&imported));
        let report: Value = serde_json::from_str(&stdout(&imported)).unwrap();
        let original = here.run(&["prompt", "show", "default", "--json"]);
        let original: Value = serde_json::from_str(&stdout(&original)).unwrap();
        assert_eq!(report["digest"], original["digest"], "{file}");
        assert_eq!(report["prompt"], "shelf");
    }
    let history = there.run(&["prompt", "history", "shelf", "--json"]);
    assert_eq!(stdout(&history).lines().count(), 2);
}

#[test]
fn a_prompt_that_does_not_fit_is_not_kept_and_both_models_are_named() {
    let dir = Directory::new();
    adapted(&dir, &["--out", "shelf.json"]);
    assert!(
        !dir.home().join("prompts").exists(),
        "--out leaves the home alone"
    );
    let good: Value =
        serde_json::from_slice(&fs::read(dir.path().join("shelf.json")).unwrap()).unwrap();
    let import = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut text = good.clone();
        change(&mut text);
        dir.write("changed.json", &text.to_string());
        let output = dir.run(&["prompt", "import", "changed.json"]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        for word in words {
            assert!(
                stderr(&output).contains(word),
                "{word}: {}",
                stderr(&output)
            );
        }
        assert!(!dir.home().join("prompts/changed.rlp").exists());
    };
    let other = "ab".repeat(32);
    import(
        &|text| {
            text["model"]["fingerprint"] = other.clone().into();
            text["model"]["name"] = "their-clip".into();
        },
        &["their-clip", "default", "not kept"],
    );
    import(
        &|text| text["template"] = "a {}.".into(),
        &["changed.json", "table"],
    );
    import(
        &|text| text["labels"][0]["label"] = "..".into(),
        &["changed.json"],
    );
    let forced = dir.run(&["prompt", "import", "shelf.json", "--name", "a/b"]);
    assert_eq!(code(&forced), 2, "{}", stderr(&forced));

    // Whichever way the prompt comes, another model's is refused with both names.
    let mut text = good.clone();
    text["model"]["fingerprint"] = other.into();
    text["model"]["name"] = "their-clip".into();
    dir.write("theirs.json", &text.to_string());
    let kept = dir.run(&["prompt", "import", "theirs.json", "--force"]);
    assert_eq!(code(&kept), 0, "{}", stderr(&kept));
    let commands: [&[&str]; 3] = [
        &[
            "classify", "--camera", "demo", "--frames", "1", "--prompt", "theirs",
        ],
        &[
            "classify", "--camera", "demo", "--frames", "1", "--prompt", "theirs", "--model",
            "default",
        ],
        &[
            "eval", "--images", "pictures", "--prompt", "theirs", "--model", "default",
        ],
    ];
    let shown = dir.run(&["demo", "--out", "pictures", "--shots", "2", "--test", "1"]);
    assert_eq!(code(&shown), 0, "{}", stderr(&shown));
    for command in commands {
        let output = dir.run(command);
        let told = stderr(&output);
        assert_eq!(code(&output), 1, "{command:?}: {told}");
        assert!(
            told.contains("their-clip") && told.contains("default"),
            "{command:?}: {told}"
        );
    }
}

#[test]
fn a_home_that_cannot_be_written_stops_nothing_but_the_keeping() {
    let dir = Directory::new();
    adapted(&dir, &["--out", "shelf.rlp"]);
    dir.write("occupied", "a file, not a folder");
    let classified = dir.run(&[
        "classify",
        "--camera",
        "demo:fog",
        "--frames",
        "2",
        "--home",
        "occupied",
        "--prompt",
        "shelf.rlp",
    ]);
    assert_eq!(code(&classified), 0, "{}", stderr(&classified));
    let refused = dir.run(&["adapt", "--camera", "demo:fog", "--home", "occupied"]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("--out"), "{}", stderr(&refused));
    adapted(&dir, &["--out", "other.rlp", "--home", "occupied"]);

    // What fails only at the end: a file lies where the history should be.
    fs::create_dir_all(dir.home().join("prompts")).unwrap();
    fs::write(dir.home().join("prompts/default.history"), "in the way").unwrap();
    let command = ["adapt", "--camera", "demo:fog"];
    let output = dir.run(&[&command[..], &QUICK].concat());
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let told = stderr(&output);
    let left = told
        .split("left in ")
        .nth(1)
        .and_then(|rest| rest.split(':').next());
    let left = left.unwrap_or_else(|| panic!("no file in {told}"));
    let shown = dir.run(&["prompt", "show", left]);
    assert_eq!(code(&shown), 0, "{}", stderr(&shown));
    fs::remove_file(left).unwrap();
}

#[test]
fn a_second_writer_says_who_it_waits_for_and_readers_do_not_wait() {
    let dir = Directory::new();
    adapted(&dir, &[]);
    let mut lock = File::options()
        .write(true)
        .truncate(true)
        .open(dir.home().join("lock"))
        .unwrap();
    lock.lock().unwrap();
    lock.write_all(b"77 adapt").unwrap();
    let waiting = spawned(&dir, &["prompt", "remove", "default"]);
    let listed = dir.run(&["prompt", "list"]);
    assert_eq!(code(&listed), 0, "{}", stderr(&listed));
    std::thread::sleep(Duration::from_millis(800));
    drop(lock);
    let removed = waiting.wait_with_output().unwrap();
    assert_eq!(code(&removed), 0, "{}", stderr(&removed));
    assert!(
        stderr(&removed).contains("process 77, adapt"),
        "{}",
        stderr(&removed)
    );
}

/// Not a test by itself: the process that [`a_killed_writer_leaves_nothing_locked`] kills.
#[test]
fn holder_of_a_lock() {
    let Some(file) = std::env::var_os("HOLD_THIS_LOCK") else {
        return;
    };
    let lock = File::options().write(true).open(file).unwrap();
    lock.lock().unwrap();
    println!("held");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_writer_leaves_nothing_locked() {
    use std::io::{BufRead as _, BufReader};
    let dir = Directory::new();
    adapted(&dir, &[]);
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["holder_of_a_lock", "--exact", "--nocapture"])
        .env("HOLD_THIS_LOCK", dir.home().join("lock"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let removed = dir.run(&["prompt", "remove", "default"]);
    assert_eq!(code(&removed), 0, "{}", stderr(&removed));
    assert!(
        !stderr(&removed).contains("waiting"),
        "{}",
        stderr(&removed)
    );
}

#[cfg(unix)]
#[test]
fn a_sigterm_at_any_moment_ends_the_program_and_leaves_the_old_prompt_or_the_new() {
    signals_at_moments("TERM", [0, 60, 300, 1200]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_sigint_at_any_moment_ends_the_program_and_leaves_the_old_prompt_or_the_new() {
    signals_at_moments("INT", [0, 30, 150, 700]);
}

/// Sends `signal` to each long command so many milliseconds after its start, and looks at the prompt afterwards.
#[cfg(unix)]
fn signals_at_moments(signal: &str, moments: [u64; 4]) {
    let dir = Directory::new();
    adapted(&dir, &[]);
    let kept = |dir: &Directory| {
        let shown = dir.run(&["prompt", "show", "default", "--json"]);
        assert_eq!(code(&shown), 0, "{}", stderr(&shown));
        let shown: Value = serde_json::from_str(&stdout(&shown)).unwrap();
        assert!(shown["warning"].is_null(), "{shown}");
        shown["sequence"].as_u64().unwrap()
    };
    let towers = format!("{}/models/default", env!("CARGO_MANIFEST_DIR"));
    let camera = ["--camera", "demo:fog"];
    let commands: [&[&str]; 4] = [
        &["adapt", camera[0], camera[1], "--shots", "8", "--force"],
        &["adapt", camera[0], camera[1], "--unlabelled", "--force"],
        &["classify", camera[0], camera[1]],
        &["model", "import", &towers, "--name", "again", "--force"],
    ];
    let mut slowest = Duration::ZERO;
    for command in commands {
        for wait in moments {
            let before = kept(&dir);
            let mut child = spawned_by_terminal(&dir, command);
            std::thread::sleep(Duration::from_millis(wait));
            let process = child.id().to_string();
            let sent = Instant::now();
            let mut killed = Command::new("kill");
            killed.args(["-s", signal, &process]);
            // One that has ended already takes no signal.
            let _ = killed.stderr(Stdio::null()).status().unwrap();
            child.wait().unwrap();
            slowest = slowest.max(sent.elapsed());
            let after = kept(&dir);
            assert!(
                after == before || after == before + 1,
                "{before} and then {after}"
            );
            let verified = dir.run(&["model", "verify"]);
            assert_eq!(code(&verified), 0, "{}", stderr(&verified));
        }
    }
    println!("the slowest exit after SIG{signal} took {slowest:?}");
}

/// A process that minds SIGINT, as one that a person started: what a shell runs in the background ignores it.
#[cfg(unix)]
fn spawned_by_terminal(dir: &Directory, arguments: &[&str]) -> Child {
    let mut command = match cfg!(target_os = "linux") {
        true => {
            let mut command = Command::new("env");
            command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_edge-rlp")]);
            command
        }
        false => Command::new(env!("CARGO_BIN_EXE_edge-rlp")),
    };
    started(command.args(arguments), dir)
}

#[test]
fn odd_surroundings_and_odd_pictures_work_or_are_told() {
    let dir = Directory::with_pictures(1);
    for (name, colour) in [("black", [0; 3]), ("white", [255; 3])] {
        let picture = image::RgbImage::from_pixel(40, 30, image::Rgb(colour));
        picture
            .save(dir.path().join(format!("{name}.png")))
            .unwrap();
    }
    image::RgbImage::new(1, 2000)
        .save(dir.path().join("line.png"))
        .unwrap();
    dir.write("labels.txt", "猫\nкошка = a cat\nقطة\nकुत्ता\nmug\n");
    let classify = [
        "classify",
        "black.png",
        "white.png",
        "line.png",
        "--labels",
        "labels.txt",
        "--json",
    ];
    let output = dir.run(&classify);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 3);
    assert!(
        !stdout(&output).contains("\"score\":null"),
        "{}",
        stdout(&output)
    );

    // No environment at all: no HOME, no TZ, no locale.
    let bare = Command::new(env!("CARGO_BIN_EXE_edge-rlp"))
        .args(classify)
        .current_dir(dir.path())
        .env_clear()
        .output()
        .unwrap();
    assert!(
        code(&bare) == 0 || stderr(&bare).contains("--home"),
        "{}",
        stderr(&bare)
    );
}

#[cfg(unix)]
#[test]
fn paths_that_are_not_unicode_are_read_and_written() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let dir = Directory::with_pictures(1);
    let odd = OsStr::from_bytes(b"odd\xff");
    let folder = dir.path().join(odd);
    fs::create_dir(&folder).unwrap();
    let picture = dir.path().join("pictures/mug/0000.png");
    fs::copy(picture, folder.join(OsStr::from_bytes(b"\xfe.png"))).unwrap();
    let run = |arguments: &[&OsStr]| {
        Command::new(env!("CARGO_BIN_EXE_edge-rlp"))
            .args(arguments)
            .current_dir(dir.path())
            .env("EDGE_RLP_HOME", &folder)
            .output()
            .unwrap()
    };
    let words = |text: &'static str| text.split(' ').map(OsStr::new);
    let classify: Vec<_> = words("classify --labels pictures/labels.txt --json")
        .chain([odd])
        .collect();
    let classified = run(&classify);
    assert_eq!(code(&classified), 0, "{}", stderr(&classified));
    assert_eq!(stdout(&classified).lines().count(), 1);
    let adapt: Vec<_> = words("adapt --camera demo:fog")
        .chain(QUICK.map(OsStr::new))
        .collect();
    let adapted = run(&adapt);
    assert_eq!(code(&adapted), 0, "{}", stderr(&adapted));
    assert!(folder.join("prompts/default.rlp").is_file());
}
