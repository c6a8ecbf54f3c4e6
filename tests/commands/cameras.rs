//! `classify --camera` with cameras that need no hardware: standard input and a folder.

use crate::support::{Directory, Invocation};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const STREAM: &[u8] = include_bytes!("../fixtures/mjpeg/gstreamer.mjpeg");

fn with_labels() -> Directory {
    let dir = Directory::new();
    dir.write("labels.txt", "mug\nfish\n");
    dir
}

/// `classify` that watches `camera`.
fn watch(dir: &Directory, camera: &str) -> Invocation {
    dir.command("classify --labels labels.txt --json --camera")
        .words(camera)
}

#[test]
fn pictures_on_standard_input_are_named_until_it_ends() {
    let answers = watch(&with_labels(), "-").input(STREAM).ok().lines();
    // Frames that come while another is named are dropped; the last one never is.
    let last = answers.last().unwrap();
    assert_eq!((&last["source"], &last["frame"]), (&"-".into(), &4.into()));
    assert!(last["latency_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn every_picture_of_a_pipe_or_a_file_is_named_where_that_is_asked_for() {
    let dir = with_labels();
    let stream = STREAM.repeat(4);
    fs::write(dir.path().join("clip.mjpeg"), &stream).unwrap();
    let piped = watch(&dir, "- --every-frame").input(&stream).ok();
    let filed = watch(&dir, "file:clip.mjpeg --every-frame").ok();
    for watched in [piped, filed] {
        let answers = watched.lines();
        let frames: Vec<u64> = answers
            .iter()
            .map(|answer| answer["frame"].as_u64().unwrap())
            .collect();
        assert_eq!(frames, (0..20).collect::<Vec<_>>());
        watched.says("20 frames");
    }
    watch(&dir, "file:nowhere.mjpeg").fails(1, "nowhere.mjpeg ... cannot be read");
}

#[test]
fn a_file_with_pictures_that_cannot_be_used_does_not_end_as_if_all_were_well() {
    let dir = with_labels();
    let lost = fs::read("tests/fixtures/picture/lost/tail.jpg").unwrap();
    fs::write(dir.path().join("clip.mjpeg"), lost.repeat(2)).unwrap();
    let ran = watch(&dir, "file:clip.mjpeg --every-frame").ends(3);
    assert!(ran.stdout.is_empty(), "{ran}");
    let mixed = [&lost.repeat(5)[..], STREAM].concat();
    fs::write(dir.path().join("clip.mjpeg"), mixed).unwrap();
    let ran = watch(&dir, "file:clip.mjpeg --every-frame").ends(3);
    assert_eq!(ran.lines().len(), 5);
    ran.says("5 could not be read");
}

/// `nohup` has a program ignore that its terminal is closed, and this one ended all the same.
#[cfg(unix)]
#[test]
fn a_program_that_is_to_outlive_its_terminal_does() {
    use std::process::{Command, Stdio};
    let dir = with_labels();
    let program = env!("CARGO_BIN_EXE_edge-rlp");
    let line = "trap '' HUP; exec \"$0\" --home home classify --labels labels.txt --camera demo --every-frame";
    let mut child = Command::new("sh")
        .args(["-c", line, program])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().is_some());
    let kill = |name: &str| {
        let id = child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status();
        assert!(sent.unwrap().success());
    };
    kill("-HUP");
    for _ in 0..20 {
        assert!(lines.next().is_some_and(|line| line.is_ok()), "it ended");
    }
    kill("-TERM");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_picture_most_of_whose_scan_is_lost_trains_nothing_and_is_told() {
    let dir = Directory::with_pictures(4);
    dir.write("labels.txt", "mug\nfish\n");
    let whole = fs::read("tests/fixtures/picture/lost/whole.jpg").unwrap();
    let lost = fs::read("tests/fixtures/picture/lost/tail.jpg").unwrap();
    fs::write(dir.path().join("pictures/mug/lost.jpg"), &lost).unwrap();
    let adapted = dir
        .command("adapt --images pictures --steps 3 --views 1 --force")
        .ok();
    adapted.says("% of it is missing: copy it again; skipped");
    // Of a camera's picture nobody can make another copy.
    let watched = watch(&dir, "-").input(&[&whole[..], &lost].concat()).ok();
    watched.says("picture 1: the picture is cut short");
    assert!(!watched.stderr.contains("again"), "{}", watched.stderr);
}

#[test]
fn a_trouble_of_a_camera_that_repeats_is_told_once_and_counted() {
    let dir = with_labels();
    let whole = fs::read("tests/fixtures/picture/lost/whole.jpg").unwrap();
    let lost = fs::read("tests/fixtures/picture/lost/tail.jpg").unwrap();
    let stream = [lost.repeat(298), whole].concat();
    let watched = watch(&dir, "- --every-frame").input(&stream).ok();
    assert_eq!(watched.lines().len(), 1);
    watched.says("297 more like it");
    assert!(watched.stderr.lines().count() < 8, "{}", watched.stderr);
}

/// A camera whose pictures of 12 bits nothing decodes kept the watch alive for ever, with a line a picture.
#[test]
fn pictures_that_cannot_be_decoded_are_no_sign_of_life() {
    let mut undecodable = fs::read("tests/fixtures/picture/lost/whole.jpg").unwrap();
    // The precision that the frame's header tells.
    let header = undecodable
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    undecodable[header + 4] = 12;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let part = [
            format!("--frame\r\nContent-Length: {}\r\n\r\n", undecodable.len()).as_bytes(),
            &undecodable,
            b"\r\n",
        ]
        .concat();
        for mut connection in listener.incoming().flatten() {
            let kind = "multipart/x-mixed-replace; boundary=frame";
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n");
            let mut sent = connection.write_all(head.as_bytes());
            while sent.is_ok() {
                thread::sleep(Duration::from_millis(40));
                sent = connection.write_all(&part);
            }
        }
    });
    let begun = Instant::now();
    let camera = format!("http://{address}/video --every-frame --camera-timeout 3s");
    let watched = watch(&with_labels(), &camera).fails(1, "no picture came for 3 s");
    assert!(begun.elapsed() < Duration::from_secs(60));
    watched.says("more like it");
    assert!(watched.stderr.lines().count() < 8, "{}", watched.stderr);
}

#[test]
fn broken_pictures_are_told_and_passed_over() {
    // The second half of the last picture's data is replaced; what its decoder makes of that is not our concern, only that
    // nothing falls over.
    let mut stream = STREAM.to_vec();
    let from = stream.len() - 300;
    stream[from..].fill(0xee);
    let whole = [b"noise before", &stream[..], b"noise between", STREAM].concat();
    let watched = watch(&with_labels(), "-").input(&whole).ok();
    assert!(!watched.stdout.is_empty());
}

#[test]
fn an_input_without_a_picture_is_a_failure_in_a_sentence() {
    let dir = with_labels();
    for (input, sentence) in [
        (&b""[..], "without a picture"),
        (
            b"no pictures here",
            "16 bytes without a JPEG picture ... is it text?",
        ),
        (
            b"\0\0\0\x01\x67\x64\0\x1f",
            "8 bytes without a JPEG picture ... rpicam-vid --codec mjpeg",
        ),
    ] {
        watch(&dir, "-").input(input).fails(1, sentence);
    }
}

#[test]
fn cameras_that_cannot_be_are_wrong_usage() {
    let dir = with_labels();
    for camera in ["/dev/null", "ftp://10.0.0.1/", "webcam", "dir:"] {
        watch(&dir, camera).ends(2);
    }
    watch(&dir, "0 --format 640").ends(2);
    watch(&dir, "dir:nowhere").fails(1, "nowhere");
}

/// `dir:` of a share that was not mounted yet ended at once.
#[test]
fn a_folder_that_is_not_there_is_told_and_given_up_in_time() {
    let dir = with_labels();
    let begun = Instant::now();
    let watched = watch(&dir, "dir:share/shots --camera-timeout 2s")
        .fails(1, "no picture came for 2 s ... share/shots");
    watched.says("cannot be watched");
    watched.says("trying again");
    assert!(begun.elapsed() >= Duration::from_secs(2));
    watch(&dir, "dir:labels.txt --camera-timeout 60s").fails(1, "labels.txt cannot be watched");
}

#[test]
fn a_camera_that_is_not_there_is_given_up_in_time() {
    let dir = with_labels();
    let watched = watch(&dir, "/dev/video63 --camera-timeout 700ms");
    watched.fails(1, "error: no picture came for 0.7 s");
}

#[test]
fn a_command_runs_on_change_and_prints_nothing_among_the_answers() {
    let dir = with_labels();
    let command = "echo noise; echo \"$EDGE_RLP_PREVIOUS>$EDGE_RLP_LABEL>$EDGE_RLP_SCORE\" >> told";
    let watched = watch(&dir, "demo --frames 5 --exec").arg(command).ok();
    let answers = watched.lines();
    assert_eq!(answers.len(), 5);
    let labels: Vec<&str> = answers
        .iter()
        .map(|a| a["label"].as_str().unwrap())
        .collect();
    let last_change = (1..5)
        .rev()
        .find(|&i| labels[i] != labels[i - 1])
        .unwrap_or(0);
    let told = fs::read_to_string(dir.path().join("told")).unwrap();
    let last = told.lines().last().unwrap();
    let previous = if last_change == 0 {
        ""
    } else {
        labels[last_change - 1]
    };
    let expected = format!("{previous}>{}>", labels[last_change]);
    assert!(last.starts_with(&expected), "{last}, not {expected}");
    watched.says("noise");
}

#[cfg(unix)]
#[test]
fn both_signals_end_watching_with_what_was_seen_and_the_command_with_it() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::io::{BufRead, BufReader, Read};
    use std::time::{Duration, Instant};

    for signal in [Signal::INT, Signal::TERM] {
        let dir = with_labels();
        let command = "echo $$ > pid; exec sleep 600";
        let mut child = watch(&dir, "demo --exec").arg(command).start();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let pid_file = dir.path().join("pid");
        // A full pipe would stop the program: it is read until the command runs.
        let pid = loop {
            answers.next().unwrap().unwrap();
            match fs::read_to_string(&pid_file) {
                Ok(pid) if pid.ends_with('\n') => break pid.trim().to_owned(),
                _ => {}
            }
        };
        let told = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        for answer in answers {
            let answer = answer.unwrap();
            assert!(serde_json::from_str::<Value>(&answer).is_ok(), "{answer}");
        }
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(told.elapsed() < Duration::from_secs(20));
        let mut heard = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut heard)
            .unwrap();
        assert!(heard.contains("a second, latency"), "{heard}");
        assert!(!Path::new("/proc").join(&pid).exists(), "{pid} still runs");
    }
}

/// What a supervisor of `classify --camera WORDS` is told.
#[cfg(target_os = "linux")]
fn told(dir: &Directory, words: &str, code: i32) -> Vec<String> {
    let socket = dir.path().join("notify");
    let supervisor = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    watch(dir, words).env("NOTIFY_SOCKET", &socket).ends(code);
    supervisor.set_nonblocking(true).unwrap();
    let mut buffer = [0; 64];
    let told = std::iter::from_fn(|| {
        let length = supervisor.recv(&mut buffer).ok()?;
        let told = String::from_utf8(buffer[..length].to_vec()).unwrap();
        Some(told.trim().to_owned())
    });
    told.collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_supervisor_is_told_when_it_is_ready_alive_and_ending() {
    let mut told = told(&with_labels(), "demo --quiet --frames 2 --every 1200ms", 0);
    // A slow machine takes its time to the first picture.
    told.retain(|told| !told.starts_with("EXTEND_TIMEOUT_USEC="));
    assert_eq!(told.first().unwrap(), "READY=1");
    assert_eq!(told.last().unwrap(), "STOPPING=1");
    let between = &told[1..told.len() - 1];
    assert!(!between.is_empty(), "{told:?}");
    assert!(between.iter().all(|told| told == "WATCHDOG=1"), "{told:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_supervisor_of_a_dead_camera_is_not_told_that_it_is_ready() {
    // It was after 0.01 s.
    let told = told(&with_labels(), "http://127.0.0.1:9/ --camera-timeout 3s", 1);
    assert!(
        told.contains(&"EXTEND_TIMEOUT_USEC=60000000".to_owned()),
        "{told:?}"
    );
    let ready = |told: &String| told.contains("READY") || told.contains("WATCHDOG");
    assert!(!told.iter().any(ready), "{told:?}");
}

#[test]
fn watching_a_camera_writes_nothing_into_the_home_folder() {
    let dir = with_labels();
    // Prompts of its own, and then the choice of kernels.
    dir.ok("adapt --camera demo:fog --views 1 --steps 3 --shots 2 --force");
    let watch = || dir.ok("classify --camera demo --frames 40 --smooth 2s --json");
    watch();
    let before = files_with_times(&dir.home());
    assert!(
        before
            .iter()
            .any(|(path, _)| path.ends_with("cache/kernels.json")),
        "{before:?}"
    );
    watch();
    assert_eq!(files_with_times(&dir.home()), before);
}

/// All files and folders below `folder`, and when each was last changed.
fn files_with_times(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let mut found = vec![(
        folder.to_owned(),
        fs::metadata(folder).unwrap().modified().unwrap(),
    )];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_with_times(&path)),
            false => found.push((
                path.clone(),
                fs::metadata(&path).unwrap().modified().unwrap(),
            )),
        }
    }
    found.sort();
    found
}

#[test]
fn uncertain_pictures_are_kept_in_a_folder_that_was_not_there() {
    let dir = Directory::with_pictures(1);
    let watch = "classify --camera demo --labels pictures/labels.txt --frames 12 --keep-uncertain kept/here";
    let ran = dir.ok(watch);
    let kept = std::fs::read_dir(dir.path().join("kept/here")).unwrap();
    assert!(kept.count() > 0, "{ran}");
}
