//! What boxes go through: a home folder that cannot be written or that another process writes to, signals at any moment,
//! prompts that travel, input that makes no sense.

use crate::support::{Directory, Invocation, Ran};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Flags for a prompt that is there quickly, good or not.
const QUICK: &str = "--views 1 --steps 3 --shots 2 --force";

#[track_caller]
fn adapted(dir: &Directory, flags: &str) {
    let adapt = dir.command("adapt --camera demo:fog");
    adapt.words(QUICK).words(flags).ok();
}

#[test]
fn a_prompt_travels_as_a_file_and_as_json_and_stays_the_same() {
    let (here, there) = (Directory::new(), Directory::new());
    adapted(&here, "");
    for file in ["shelf.rlp", "shelf.json"] {
        let export = format!("prompt export default {file}");
        here.ok(&export);
        here.fails(&export, 1, "--force");
        fs::copy(here.path().join(file), there.path().join(file)).unwrap();
        let report = there.ok(&format!("prompt import {file} --json")).json();
        let original = here.ok("prompt show default --json").json();
        assert_eq!(report["digest"], original["digest"], "{file}");
        assert_eq!(report["prompt"], "shelf");
    }
    let history = there.ok("prompt history shelf --json");
    assert_eq!(history.stdout.lines().count(), 2);
}

#[test]
fn a_prompt_that_does_not_fit_is_not_kept_and_both_models_are_named() {
    let dir = Directory::new();
    adapted(&dir, "--out shelf.json");
    assert!(
        !dir.home().join("prompts").exists(),
        "--out leaves the home alone"
    );
    let good: Value =
        serde_json::from_slice(&fs::read(dir.path().join("shelf.json")).unwrap()).unwrap();
    let import = |change: &dyn Fn(&mut Value), sentence: &str| {
        let mut text = good.clone();
        change(&mut text);
        dir.write("changed.json", &text.to_string());
        dir.fails("prompt import changed.json", 1, sentence);
        assert!(!dir.home().join("prompts/changed.rlp").exists());
    };
    let other = "ab".repeat(32);
    import(
        &|text| {
            text["model"]["fingerprint"] = other.clone().into();
            text["model"]["name"] = "their-clip".into();
        },
        "their-clip ... default ... not kept",
    );
    import(
        &|text| text["template"] = "a {}.".into(),
        "changed.json ... table",
    );
    let rows = |table: &mut Value, change: fn(&mut Vec<Value>)| {
        let rows = table.as_array_mut().unwrap().iter_mut();
        rows.for_each(|row| change(row.as_array_mut().unwrap()));
    };
    import(
        &|text| {
            for factor in ["u", "v"] {
                rows(&mut text["change"]["low_rank"][factor], |row| {
                    row.iter_mut().for_each(|number| *number = 1e30.into());
                });
            }
        },
        "yields no feature",
    );
    import(
        &|text| {
            for table in ["means", "weight"] {
                rows(&mut text["prototypes"][table]["rows"], |row| {
                    row.truncate(10)
                });
            }
        },
        "prototypes are of 10 numbers",
    );
    import(
        &|text| text["labels"][0]["label"] = "..".into(),
        "changed.json",
    );
    dir.command("prompt import shelf.json --name a/b").ends(2);

    // Whichever way the prompt comes, another model's is refused with both names.
    let mut text = good.clone();
    text["model"]["fingerprint"] = other.into();
    text["model"]["name"] = "their-clip".into();
    dir.write("theirs.json", &text.to_string());
    dir.ok("prompt import theirs.json --force");
    dir.ok("demo --out pictures --shots 2 --test 1");
    for line in [
        "classify --camera demo --frames 1 --prompt theirs",
        "classify --camera demo --frames 1 --prompt theirs --model default",
        "eval --images pictures --prompt theirs --model default",
    ] {
        dir.fails(line, 1, "their-clip ... default");
    }
}

#[test]
fn a_home_that_cannot_be_written_stops_nothing_but_the_keeping() {
    let dir = Directory::new();
    adapted(&dir, "--out shelf.rlp");
    dir.write("occupied", "a file, not a folder");
    dir.ok("classify --camera demo:fog --frames 2 --home occupied --prompt shelf.rlp");
    dir.fails("adapt --camera demo:fog --home occupied", 1, "--out");
    // Nor is what was meant to be read written over.
    dir.write("labels.txt", "mug\nfish\n");
    let over = "adapt --camera demo:fog --labels labels.txt --out labels.txt";
    dir.fails(over, 2, "labels.txt holds something else than a prompt");
    dir.ok("demo --out drawn --shots 2 --test 1");
    let over = "eval --images drawn --labels labels.txt --methods zero-shot --report labels.txt";
    dir.fails(over, 2, "labels.txt holds something else than a report");
    let kept = fs::read_to_string(dir.path().join("labels.txt")).unwrap();
    assert_eq!(kept, "mug\nfish\n");
    for list in ["prompt list", "model list", "shots list"] {
        dir.fails(
            &format!("{list} --home occupied"),
            1,
            "cannot read occupied: Not a directory",
        );
    }
    adapted(&dir, "--out other.rlp --home occupied");

    // What fails only at the end: a file lies where the history should be.
    fs::create_dir_all(dir.home().join("prompts")).unwrap();
    fs::write(dir.home().join("prompts/default.history"), "in the way").unwrap();
    let adapt = dir.command("adapt --camera demo:fog").words(QUICK);
    let ran = adapt.fails(1, "left in ");
    let left = ran.stderr.split("left in ").nth(1).unwrap();
    let left = left.split(':').next().unwrap();
    dir.command("prompt show").arg(left).ok();
    fs::remove_file(left).unwrap();
}

#[test]
fn a_second_writer_says_who_it_waits_for_and_readers_do_not_wait() {
    let dir = Directory::new();
    adapted(&dir, "");
    let mut lock = File::options()
        .write(true)
        .truncate(true)
        .open(dir.home().join("lock"))
        .unwrap();
    lock.lock().unwrap();
    lock.write_all(b"77 adapt").unwrap();
    let waiting = dir.command("prompt remove default").start();
    dir.ok("prompt list");
    std::thread::sleep(Duration::from_millis(800));
    drop(lock);
    let removed = Ran::of(
        "prompt remove default".into(),
        waiting.wait_with_output().unwrap(),
    );
    assert_eq!(removed.code, 0, "{removed}");
    removed.says("process 77, adapt");
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
    adapted(&dir, "");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["robustness::holder_of_a_lock", "--exact", "--nocapture"])
        .env("HOLD_THIS_LOCK", dir.home().join("lock"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let removed = dir.ok("prompt remove default");
    assert!(!removed.stderr.contains("waiting"), "{removed}");
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
    adapted(&dir, "");
    let kept = |dir: &Directory| {
        let shown = dir.ok("prompt show default --json").json();
        assert!(shown["warning"].is_null(), "{shown}");
        shown["sequence"].as_u64().unwrap()
    };
    let towers = format!("{}/models/default", env!("CARGO_MANIFEST_DIR"));
    let commands = [
        vec!["adapt", "--camera", "demo:fog", "--shots", "8", "--force"],
        vec!["adapt", "--camera", "demo:fog", "--unlabelled", "--force"],
        vec!["classify", "--camera", "demo:fog"],
        vec!["model", "import", &towers, "--name", "again", "--force"],
    ];
    let mut slowest = Duration::ZERO;
    for command in &commands {
        for wait in moments {
            let before = kept(&dir);
            let mut child = as_from_a_terminal(&dir).args(command).start();
            until_it_minds_signals(child.id());
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
            dir.ok("model verify");
        }
    }
    println!("the slowest exit after SIG{signal} took {slowest:?}");
}

/// Waits until `env` of [`as_from_a_terminal`] has become the program: a signal before that would be lost.
#[cfg(unix)]
fn until_it_minds_signals(process: u32) {
    let program = format!("/proc/{process}/exe");
    while fs::read_link(&program).is_ok_and(|program| !program.ends_with("edge-rlp")) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A process that minds SIGINT, as one that a person started: what a shell runs in the background ignores it.
#[cfg(unix)]
fn as_from_a_terminal(dir: &Directory) -> Invocation {
    if cfg!(target_os = "linux") {
        let program = env!("CARGO_BIN_EXE_edge-rlp");
        dir.program(&["env", "--default-signal=INT", program])
    } else {
        dir.command("")
    }
}

/// What `child` says on standard error to SIGINT, and that it fails then.
#[cfg(unix)]
fn interrupted(child: Child) -> String {
    let process = child.id().to_string();
    let killed = Command::new("kill").args(["-s", "INT", &process]).status();
    assert!(killed.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    said
}

/// A list of answers that was cut short ended as a whole one does.
#[cfg(unix)]
#[test]
fn classifying_files_that_is_stopped_says_how_far_it_came_and_fails() {
    let dir = Directory::with_pictures(60);
    let line = ["classify", "pictures", "--labels", "pictures/labels.txt"];
    let mut classify = as_from_a_terminal(&dir).args(line);
    let mut child = classify.start();
    // Once it has named one, there are many to come.
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    let said = interrupted(child);
    assert!(said.contains("stopped after"), "{said}");
}

/// `demo --out` drew on to the end of its pictures.
#[cfg(unix)]
#[test]
fn a_demo_folder_that_is_stopped_is_left_empty() {
    let dir = Directory::new();
    let line = ["demo", "--out", "d", "--test", "100000"];
    let child = as_from_a_terminal(&dir).args(line).start();
    let begun =
        || fs::read_dir(dir.path().join("d")).is_ok_and(|mut inside| inside.next().is_some());
    while !begun() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = interrupted(child);
    assert!(said.contains("stopped: nothing was left in d"), "{said}");
    assert!(!begun());
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
    let classify = "classify black.png white.png line.png --labels labels.txt --json";
    let classified = dir.ok(classify);
    assert_eq!(classified.stdout.lines().count(), 3);
    assert!(
        !classified.stdout.contains("\"score\":null"),
        "{classified}"
    );

    // No environment at all: no HOME, no TZ, no locale.
    let bare = dir.command(classify).without_environment().run();
    assert!(bare.code == 0 || bare.stderr.contains("--home"), "{bare}");
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
    let command = |line| dir.command(line).env("EDGE_RLP_HOME", &folder);
    let classified = command("classify --labels pictures/labels.txt --json").arg(odd);
    assert_eq!(classified.ok().stdout.lines().count(), 1);
    command("adapt --camera demo:fog").words(QUICK).ok();
    assert!(folder.join("prompts/default.rlp").is_file());
}

#[test]
fn first_runs_at_the_same_time_make_one_home_folder_together() {
    // "File exists (os error 17)" in 6 of 12 pairs.
    for pair in 0..6 {
        let dir = Directory::new();
        let adapt = |name: &str| {
            let line = "adapt --camera demo:fog --shots 4 --views 1 --steps 2 --force --prompt";
            dir.command(line).arg(name).start()
        };
        let running = ["a", "b", "a"].map(adapt);
        for child in running {
            let ended = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "pair {pair}: {said}");
        }
        let prompts = dir.ok("prompt list --json").lines();
        assert_eq!(prompts.len(), 2, "pair {pair}");
        assert_eq!(dir.ok("prompt history a --json").lines().len(), 2);
    }
}

#[cfg(unix)]
#[test]
fn what_is_not_a_regular_file_is_neither_read_nor_replaced() {
    let dir = Directory::with_pictures(2);
    let fifo = |name: &str| {
        let path = dir.path().join(name);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
    };
    fifo("pictures/mug/b.jpg");
    fifo("labels.txt");
    fifo("shelf.rlp");
    // Each of them hung, and could not even be ended by SIGTERM.
    let classify = dir.command("classify pictures --labels pictures/labels.txt");
    let ran = classify.ends(3);
    assert!(ran.stderr.contains("b.jpg"), "{}", ran.stderr);
    assert!(ran.stderr.contains("not a regular file"), "{}", ran.stderr);
    dir.fails(
        "classify pictures --labels labels.txt",
        1,
        "not a regular file",
    );
    dir.fails("prompt show ./shelf.rlp", 1, "not a regular file");
    for flags in ["", "--out good.rlp", "--out good.rlp"] {
        adapted(&dir, flags);
    }
    let link = dir.path().join("link.rlp");
    std::os::unix::fs::symlink(dir.path().join("pictures/labels.txt"), &link).unwrap();
    for name in ["link.rlp", "shelf.rlp"] {
        let export = format!("prompt export default {name}");
        dir.fails(&export, 1, "not a regular file");
    }
    let labels = fs::read_to_string(dir.path().join("pictures/labels.txt")).unwrap();
    assert_eq!(labels, "mug\nfish\n");
    // Refused before the first picture is looked at, where an hour of training was lost.
    for command in [
        "adapt --images no/such/pictures --labels pictures/labels.txt --out link.rlp",
        "adapt --images pictures --out no/such/folder/shelf.rlp",
        "eval --images no/such/pictures --report link.rlp",
    ] {
        let ran = dir.command(command).ends(1);
        let link_or_folder = ["not a regular file", "no/such/folder"];
        let told = link_or_folder.iter().any(|said| ran.error().contains(said));
        assert!(told && !ran.stderr.contains("accuracy"), "{ran}");
    }
    dir.ok("prompt export default link.rlp --force");
    assert!(link.symlink_metadata().unwrap().is_file());
}

/// Where Linux has Landlock; `host::sandbox` shows what that holds a process to.
#[cfg(target_os = "linux")]
#[test]
fn what_looks_at_pictures_gives_up_its_rights_unless_it_runs_commands() {
    use std::io::{BufRead as _, BufReader};
    let dir = Directory::with_pictures(1);
    for (exec, given_up) in [(None, "1"), (Some("true"), "0")] {
        let watch = "classify --camera demo --labels pictures/labels.txt --every 200ms";
        let mut watch = dir.command(watch);
        if let Some(command) = exec {
            watch = watch.arg("--exec").arg(command);
        }
        let mut child = watch.start();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().is_some(), "it names pictures");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let mut lines = status.lines();
        let rights = lines.find_map(|line| line.strip_prefix("NoNewPrivs:"));
        assert_eq!(rights.unwrap().trim(), given_up, "{exec:?}");
    }
}

#[test]
fn results_that_a_full_disk_lost_are_an_error_and_those_that_nobody_reads_are_none() {
    let dir = Directory::new();
    let edge = env!("CARGO_BIN_EXE_edge-rlp");
    let into = |place: &str| {
        let line = format!("\"$0\" \"$@\" {place}");
        dir.program(&["sh", "-c", &line, edge])
            .words("model list --json")
    };
    into("> /dev/full").fails(1, "cannot be written to standard output");
    into("| true").ok();
}

#[test]
fn a_file_that_is_no_motion_jpeg_is_named_and_no_frames_are_not_asked_for() {
    let dir = Directory::new();
    dir.write("labels.txt", "mug\nkey\n");
    let watch = "classify --labels labels.txt --camera";
    dir.fails(
        &format!("{watch} file:labels.txt"),
        1,
        "labels.txt holds 8 bytes without a JPEG picture",
    );
    dir.fails(&format!("{watch} demo --frames 0"), 2, "0 is not in 1..");
    let one = dir.ok(&format!("{watch} demo --frames 1"));
    assert!(one.stderr.contains("1 frame, "), "{}", one.stderr);
}
