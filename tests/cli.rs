//! The commands as a person types them: a directory, a home folder, exit codes, and what stands on each stream.

mod support;

use edge_rlp::frames::demo;
use serde_json::Value;
use std::fs;
use support::{Directory, code, live_accuracy, stderr, stdout};

/// A small adaptation that takes a second or two: few shots, few views, few steps.
const QUICK: [&str; 6] = ["--shots", "4", "--views", "1", "--steps", "20"];

#[test]
fn adapting_then_classifying_works_without_camera_network_or_earlier_files() {
    let dir = Directory::new();
    let adapted = dir.run(
        &[
            &["adapt", "--camera", "demo:infrared", "--force", "--json"],
            &QUICK[..],
        ]
        .concat(),
    );
    assert_eq!(code(&adapted), 0, "{}", stderr(&adapted));
    let report: Value = serde_json::from_str(&stdout(&adapted)).unwrap();
    for key in [
        "prompt",
        "path",
        "bytes",
        "model",
        "labels",
        "method",
        "rank",
        "parameters",
        "images",
        "steps",
        "zero_shot_accuracy",
        "adapted_accuracy",
        "accepted",
        "information_density",
        "seconds",
    ] {
        assert!(report.get(key).is_some(), "{key} is missing in {report}");
    }
    assert_eq!(report["images"], 48);
    assert!(report["bytes"].as_u64().unwrap() < 4096);
    assert_eq!(
        fs::metadata(report["path"].as_str().unwrap())
            .unwrap()
            .len(),
        report["bytes"].as_u64().unwrap()
    );

    let live = dir.run(&[
        "classify",
        "--camera",
        "demo:infrared",
        "--frames",
        "12",
        "--top",
        "3",
        "--json",
    ]);
    assert_eq!(code(&live), 0, "{}", stderr(&live));
    let lines: Vec<Value> = stdout(&live)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 12);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["frame"], index);
        assert_eq!(line["source"], "demo:infrared");
        assert_eq!(line["top"].as_array().unwrap().len(), 3);
        assert_eq!(line["top"][0]["label"], line["label"]);
        assert_eq!(line["unknown"], false);
        assert!(line["latency_ms"].as_f64().unwrap() > 0.0);
    }

    let listed = dir.run(&["prompt", "list", "--json"]);
    assert_eq!(code(&listed), 0);
    assert!(
        stdout(&listed).contains("\"default\""),
        "{}",
        stdout(&listed)
    );
    assert_eq!(code(&dir.run(&["prompt", "show", "default"])), 0);
}

#[test]
fn the_main_job_gains_on_a_condition_never_trained_on() {
    let dir = Directory::new();
    let adapted = dir.run(&["adapt", "--camera", "demo:squeezed", "--json"]);
    assert_eq!(code(&adapted), 0, "{}", stderr(&adapted));
    let report: Value = serde_json::from_str(&stdout(&adapted)).unwrap();
    assert_eq!(report["accepted"], true);
    assert_eq!(report["images"], 12 * 16);
    assert!(report["adapted_accuracy"].as_f64() > report["zero_shot_accuracy"].as_f64());

    let labels: Vec<&str> = report["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|label| label.as_str().unwrap())
        .collect();
    dir.write("labels.txt", &labels.join("\n"));
    let before = live_accuracy(&dir, "demo:squeezed", &["--labels", "labels.txt"]);
    let after = live_accuracy(&dir, "demo:squeezed", &["--prompt", "default"]);
    assert!(after > before + 0.05, "{before} before, {after} after");
}

#[test]
fn the_same_seed_trains_the_same_numbers() {
    let dir = Directory::new();
    let train = |name: &str, seed: &str| {
        let flags = [
            "adapt",
            "--camera",
            "demo:squeezed",
            "--prompt",
            name,
            "--seed",
            seed,
            "--force",
            "-q",
        ];
        let output = dir.run(&[&flags[..], &QUICK[..]].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let path = dir.home().join(format!("prompts/{name}.rlp"));
        let record = edge_rlp::store::decode(&fs::read(&path).unwrap(), name).unwrap();
        edge_rlp::store::digest(&record).unwrap()
    };
    assert_eq!(train("first", "3"), train("second", "3"));
    assert_ne!(train("third", "3"), train("fourth", "4"));
}

#[test]
fn a_demo_folder_is_adapted_to_and_classified_with_its_own_labels() {
    let dir = Directory::new();
    let written = dir.run(&[
        "demo", "--out", "pictures", "--shots", "3", "--test", "2", "--json",
    ]);
    assert_eq!(code(&written), 0, "{}", stderr(&written));
    assert!(dir.path().join("pictures/train/mug").is_dir());

    let zero_shot = dir.run(&[
        "classify",
        "pictures/test",
        "--labels",
        "pictures/labels.txt",
        "--csv",
    ]);
    assert_eq!(code(&zero_shot), 0, "{}", stderr(&zero_shot));
    assert_eq!(stdout(&zero_shot).lines().count(), 1 + 24);
    assert!(
        stderr(&zero_shot).contains("of 24 agree with the folders' labels"),
        "{}",
        stderr(&zero_shot)
    );

    let output = dir.run(&[
        "adapt", "--images", "pictures", "--views", "1", "--steps", "10", "--force",
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("zero-shot"), "{}", stdout(&output));

    let occupied = dir.run(&["demo", "--out", "pictures"]);
    assert_eq!(code(&occupied), 1);
    assert!(
        stderr(&occupied).contains("not empty"),
        "{}",
        stderr(&occupied)
    );
}

#[test]
fn conditions_are_listed_and_an_unknown_one_is_wrong_usage() {
    let dir = Directory::new();
    let listed = dir.run(&["demo", "--list", "--json"]);
    let conditions: Vec<Value> = stdout(&listed)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(conditions.len() >= 8);
    assert!(
        conditions
            .iter()
            .filter(|condition| condition["held_out"] == true)
            .count()
            >= 2
    );
    for arguments in [
        &["adapt", "--camera", "demo:smoke"][..],
        &["demo", "--out", "x", "--condition", "smoke"],
    ] {
        let output = dir.run(arguments);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(
            stderr(&output).contains("smoke") && stderr(&output).contains("fog"),
            "{}",
            stderr(&output)
        );
    }
}

/// Runs `adapt --images pictures --labels labels.txt` and expects `expected` as exit code and all of `words` on
/// standard error, in one line that is no backtrace.
fn refused(dir: &Directory, flags: &[&str], expected: i32, words: &[&str]) {
    let output = dir.run(
        &[
            &["adapt", "--images", "pictures", "--labels", "labels.txt"],
            flags,
        ]
        .concat(),
    );
    let told = stderr(&output);
    assert_eq!(code(&output), expected, "{told}");
    let error = told
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap_or_else(|| panic!("no error in {told}"));
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
    assert!(
        !told.contains("panicked") && !told.contains("backtrace"),
        "{told}"
    );
    assert!(
        !dir.home().join("prompts").exists()
            || fs::read_dir(dir.home().join("prompts"))
                .unwrap()
                .next()
                .is_none()
    );
}

#[test]
fn bad_labels_are_refused_in_a_sentence() {
    let dir = Directory::with_pictures(2);
    refused(&dir, &[], 1, &["labels.txt"]);
    dir.write("labels.txt", "# nothing but a comment\n");
    refused(&dir, &[], 1, &["labels.txt", "no label"]);
    dir.write("labels.txt", "mug\nfish\nmug\n");
    refused(&dir, &[], 1, &["line 3", "line 1", "mug"]);
    dir.write("labels.txt", "mug\nsubmarine\n");
    refused(&dir, &[], 1, &["submarine", "pictures"]);
    dir.write("labels.txt", "mug\n");
    refused(&dir, &[], 1, &["only one label"]);
}

#[test]
fn flags_that_cannot_work_are_wrong_usage() {
    let dir = Directory::with_pictures(2);
    dir.write("labels.txt", "mug\nfish\n");
    refused(&dir, &["--rank", "5"], 2, &["rank 5", "4 tokens"]);
    refused(&dir, &["--rank", "0"], 2, &["rank 0"]);
    refused(&dir, &["--method", "magic"], 2, &["magic", "coop"]);
    refused(&dir, &["--holdout", "1.5"], 2, &["--holdout 1.5"]);
    refused(&dir, &["--template", "a photo"], 2, &["{}"]);
    refused(&dir, &["--prompt", "../up"], 2, &["../up"]);
    let output = dir.run(&["adapt", "--labels", "labels.txt"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let output = dir.run(&["adapt", "--camera", "0", "--labels", "labels.txt"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--unlabelled"),
        "{}",
        stderr(&output)
    );
    let output = dir.run(&["adapt", "--images", "pictures", "--unlabelled"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--labels FILE"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn unreadable_pictures_are_skipped_counted_and_refused_when_too_few_remain() {
    let dir = Directory::with_pictures(3);
    dir.write("labels.txt", "mug\nfish\n");
    dir.write("pictures/mug/empty.png", "");
    dir.write("pictures/mug/broken.jpg", "this is no picture");
    fs::write(
        dir.path().join("pictures/fish/huge.png"),
        support::png_header(10_000, 10_000),
    )
    .unwrap();
    let flags = [
        "adapt",
        "--images",
        "pictures",
        "--labels",
        "labels.txt",
        "--views",
        "1",
        "--steps",
        "3",
        "--force",
    ];
    let output = dir.run(&flags);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for word in [
        "empty.png",
        "broken.jpg",
        "huge.png",
        "3 of 9 pictures were skipped",
    ] {
        assert!(
            stderr(&output).contains(word),
            "{word:?} is missing in {}",
            stderr(&output)
        );
    }
    for name in ["0000.png", "0001.png"] {
        dir.write(&format!("pictures/fish/{name}"), "");
    }
    let output = dir.run(&flags);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("\"fish\" has 1 usable picture:"),
        "{}",
        stderr(&output)
    );

    let classified = dir.run(&["classify", "pictures", "--labels", "labels.txt", "--json"]);
    assert_eq!(
        code(&classified),
        3,
        "a picture that was asked for is missing: {}",
        stderr(&classified)
    );
    assert_eq!(stdout(&classified).lines().count(), 4);
}

#[test]
fn a_home_that_cannot_be_written_is_named_before_any_work() {
    let dir = Directory::with_pictures(2);
    dir.write("labels.txt", "mug\nfish\n");
    dir.write("occupied", "a file, not a folder");
    let output = dir.run(&[
        "adapt",
        "--images",
        "pictures",
        "--labels",
        "labels.txt",
        "--home",
        "occupied",
    ]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("occupied"), "{}", stderr(&output));
}

#[test]
fn classifying_without_a_prompt_says_what_to_do() {
    let dir = Directory::with_pictures(1);
    let output = dir.run(&["classify", "pictures"]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("adapt") && stderr(&output).contains("--labels"),
        "{}",
        stderr(&output)
    );
    let output = dir.run(&["classify", "nowhere.png", "--labels", "pictures/labels.txt"]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("nowhere.png"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn nothing_is_printed_for_people_on_the_stream_of_machines() {
    let dir = Directory::with_pictures(1);
    let output = dir.run(&[
        "classify",
        "pictures",
        "--labels",
        "pictures/labels.txt",
        "--json",
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for line in stdout(&output).lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    let quiet = dir.run(&[
        "classify",
        "pictures",
        "--labels",
        "pictures/labels.txt",
        "--quiet",
    ]);
    assert_eq!(stderr(&quiet), "");
}

#[test]
fn doctor_names_what_is_damaged_and_its_cure() {
    let dir = Directory::new();
    let sound = dir.run(&["doctor", "--json"]);
    assert_eq!(code(&sound), 0, "{}", stderr(&sound));
    assert!(!dir.home().exists(), "looking leaves no trace");
    std::fs::create_dir_all(dir.home().join("prompts")).unwrap();
    dir.write("home/prompts/door.rlp", "not a prompt");
    let output = dir.run(&["doctor", "--json"]);
    assert_eq!(code(&output), 1);
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&report["healthy"], &report["problems"]),
        (&false.into(), &1.into())
    );
    let checks = report["checks"].as_array().unwrap();
    let damaged = checks
        .iter()
        .find(|check| check["check"] == "prompt")
        .unwrap();
    assert_eq!(damaged["state"], "problem");
    assert!(damaged["says"].as_str().unwrap().contains("door") && damaged["cure"].is_string());
}

#[test]
fn a_picture_of_none_of_the_labels_is_unknown_unless_a_threshold_says_otherwise() {
    let dir = Directory::with_pictures(8);
    let adapted = dir.run(&["adapt", "--images", "pictures", "--quiet"]);
    assert_eq!(code(&adapted), 0, "{}", stderr(&adapted));
    let hammer = demo::CLASSES
        .iter()
        .position(|name| *name == "hammer")
        .unwrap();
    let scene = demo::scene(demo::Purpose::Test, 0, 3, hammer as u64);
    demo::draw(&scene, demo::SIZE)
        .save(dir.path().join("hammer.png"))
        .unwrap();
    let named = |flags: &[&str]| -> Value {
        let output = dir.run(&[&["classify", "--json"], flags].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        serde_json::from_str(stdout(&output).lines().next().unwrap()).unwrap()
    };
    let unknown = named(&["hammer.png"]);
    assert_eq!(
        (&unknown["label"], &unknown["unknown"]),
        (&"unknown".into(), &true.into())
    );
    let known = named(&["pictures/mug"]);
    assert_eq!(
        (&known["label"], &known["unknown"]),
        (&"mug".into(), &false.into())
    );
    let forced = named(&["hammer.png", "--threshold", "0"]);
    assert_eq!(forced["unknown"], false);
    assert_ne!(forced["label"], "unknown");
    let people = dir.run(&["classify", "hammer.png"]);
    assert!(
        stdout(&people).contains("unknown, nearest "),
        "{}",
        stdout(&people)
    );

    // Nothing held out, nothing to calibrate on: as before, and -v says so.
    let adapted = dir.run(&["adapt", "--images", "pictures", "--holdout", "0", "--quiet"]);
    assert_eq!(code(&adapted), 0, "{}", stderr(&adapted));
    let output = dir.run(&["classify", "hammer.png", "--json", "-v"]);
    let answer: Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    assert_eq!(answer["unknown"], false);
    assert!(
        stderr(&output).contains("holds no calibration"),
        "{}",
        stderr(&output)
    );
}
