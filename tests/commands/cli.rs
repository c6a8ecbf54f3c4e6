//! The commands as a person types them: a directory, a home folder, exit codes, and what stands on each stream.

use crate::support::{Directory, label_file, live_accuracy};
use edge_rlp::frames::demo;
use serde_json::Value;
use std::fs;

/// A small adaptation that takes a second or two: few shots, few views, few steps.
const QUICK: &str = "--shots 4 --views 1 --steps 20";

#[test]
fn adapting_then_classifying_works_without_camera_network_or_earlier_files() {
    let dir = Directory::new();
    let adapt = dir.command("adapt --camera demo:infrared --force --json");
    let report = adapt.words(QUICK).ok().json();
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
    // Class means of twelve labels are most of it.
    assert!(report["bytes"].as_u64().unwrap() < 16 << 10);
    let file = fs::metadata(report["path"].as_str().unwrap()).unwrap();
    assert_eq!(file.len(), report["bytes"].as_u64().unwrap());

    let live = dir.ok("classify --camera demo:infrared --frames 12 --top 3 --threshold 0 --json");
    let lines = live.lines();
    assert_eq!(lines.len(), 12);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["frame"], index);
        assert_eq!(line["source"], "demo:infrared");
        assert_eq!(line["top"].as_array().unwrap().len(), 3);
        assert_eq!(line["top"][0]["label"], line["label"]);
        assert_eq!(line["unknown"], false);
        assert!(line["latency_ms"].as_f64().unwrap() > 0.0);
    }

    dir.ok("prompt list --json").prints("\"default\"");
    dir.ok("prompt show default");
}

#[test]
fn the_main_job_gains_on_a_condition_never_trained_on() {
    let dir = Directory::new();
    let report = dir.ok("adapt --camera demo:peephole --json").json();
    assert_eq!(report["accepted"], true);
    assert_eq!(report["images"], 12 * 16);
    assert!(report["adapted_accuracy"].as_f64() > report["zero_shot_accuracy"].as_f64());

    dir.write("labels.txt", &label_file(&report));
    let before = live_accuracy(&dir, "demo:peephole", &["--labels", "labels.txt"]);
    let after = live_accuracy(&dir, "demo:peephole", &["--prompt", "default"]);
    assert!(after > before + 0.05, "{before} before, {after} after");
}

#[test]
fn the_same_seed_trains_the_same_numbers() {
    let dir = Directory::new();
    let train = |name: &str, seed: &str| {
        let adapt = dir.command("adapt --camera demo:squeezed --force -q");
        let adapt = adapt.args(["--prompt", name, "--seed", seed]);
        adapt.words(QUICK).ok();
        let path = dir.home().join(format!("prompts/{name}.rlp"));
        let record = edge_rlp::store::decode(&fs::read(&path).unwrap(), name).unwrap();
        edge_rlp::store::digest(&record).unwrap()
    };
    assert_eq!(train("first", "3"), train("second", "3"));
    assert_ne!(train("third", "3"), train("fourth", "4"));
}

#[test]
fn a_sisters_prompt_is_a_start_and_a_candidate_and_the_prompt_itself_is_none() {
    let dir = Directory::new();
    let taught =
        dir.command("adapt --camera demo:peephole --prompt sister --seed 5 --shots 12 --force");
    taught.words("--views 1 --steps 40").ok();
    let adapt = dir.command("adapt --camera demo:peephole --sister sister --force --json");
    let report = adapt
        .words("--shots 2 --views 1 --steps 1 --dropout 0.1")
        .ok()
        .json();
    let sister = &report["sisters"][0];
    assert_eq!(sister["name"], "sister");
    assert!(
        sister["accuracy"].as_f64() > report["trained_accuracy"].as_f64(),
        "{report}"
    );
    assert_eq!(report["kept_sister"], "sister");
    assert_eq!(report["adapted_accuracy"], sister["accuracy"]);
    dir.ok("prompt show default").prints("of a sister camera");

    let again = dir.command("adapt --camera demo:peephole --sister default --force");
    again
        .words(QUICK)
        .fails(2, "--sister default ... has seen these shots");
    let nobody = dir.command("adapt --camera demo:peephole --sister nobody --force");
    nobody.words(QUICK).fails(1, "nobody");
}

#[test]
fn a_demo_folder_is_adapted_to_and_classified_with_its_own_labels() {
    let dir = Directory::new();
    dir.ok("demo --out pictures --shots 3 --test 2 --json");
    assert!(dir.path().join("pictures/train/mug").is_dir());

    let zero_shot = dir.ok("classify pictures/test --labels pictures/labels.txt --csv");
    assert_eq!(zero_shot.stdout.lines().count(), 1 + 24);
    zero_shot.says("of 24 agree with the folders' labels");

    let adapted = dir.ok("adapt --images pictures --views 1 --steps 10 --force");
    adapted.prints("zero-shot");
    dir.fails("demo --out pictures", 1, "not empty");
}

#[test]
fn shots_check_names_a_picture_in_the_wrong_folder_first() {
    let dir = Directory::new();
    dir.ok("demo --out pictures --condition clear --shots 5 --test 1");
    let train = dir.path().join("pictures/train");
    let mug = fs::read_dir(train.join("mug")).unwrap().next().unwrap();
    let wrong = train.join("key/wrong.png");
    fs::rename(mug.unwrap().path(), &wrong).unwrap();
    let lines = dir.ok("shots check --images pictures/train --json").lines();
    let first = &lines[0];
    assert_eq!(
        (&first["kind"], &first["label"], &first["seems"]),
        (&"suspicion".into(), &"key".into(), &"mug".into())
    );
    assert!(first["file"].as_str().unwrap().ends_with("key/wrong.png"));
    let learning = lines.iter().filter(|line| line["kind"] == "learning");
    assert_eq!(learning.count(), 4);
    // Five of each are too few to tell what more would bring.
    let advice: Vec<_> = (lines.iter())
        .filter(|line| line["kind"] == "advice")
        .collect();
    let first = advice.iter().filter(|line| line["advice"] == "more");
    assert_eq!((advice.len(), first.count()), (12, 12));
    let key = advice.iter().find(|line| line["label"] == "key").unwrap();
    assert_eq!((&key["pictures"], &key["gain"]), (&2.into(), &().into()));
    dir.fails("shots check", 2, "NAME");
}

#[test]
fn conditions_are_listed_and_an_unknown_one_is_wrong_usage() {
    let dir = Directory::new();
    let conditions = dir.ok("demo --list --json").lines();
    assert!(conditions.len() >= 8);
    let held_out = conditions.iter().filter(|line| line["held_out"] == true);
    assert!(held_out.count() >= 2);
    for line in [
        "adapt --camera demo:smoke",
        "demo --out x --condition smoke",
    ] {
        dir.fails(line, 2, "smoke ... fog");
    }
}

/// What is known of a label spoke for it, and 3 of 30 pictures of labels that nobody had taught were recognised beside those.
#[test]
fn labels_without_shots_are_chosen_beside_labels_with_class_means() {
    let dir = Directory::new();
    dir.ok("demo --out pictures --condition upside-down --shots 8 --test 5");
    let all = fs::read_to_string(dir.path().join("pictures/labels.txt")).unwrap();
    let taught: Vec<&str> = all.lines().take(6).collect();
    dir.write("taught.txt", &taught.join("\n"));
    dir.ok("adapt --images pictures --labels taught.txt --quiet");
    let classify = "classify pictures/test --labels pictures/labels.txt --prompt default --json";
    let answers = dir.ok(classify);
    let new: Vec<&str> = all.lines().skip(6).take(3).collect();
    let sentence = format!(
        "the prompt was not trained on {} and 3 more: ",
        new.join(", ")
    );
    let answers = answers.says(&sentence).lines();
    let right = |is_taught: bool| {
        let of = |answer: &&Value| taught.contains(&answer["truth"].as_str().unwrap()) == is_taught;
        let right = |answer: &&Value| answer["label"] == answer["truth"];
        answers.iter().filter(of).filter(right).count()
    };
    let found = (right(true), right(false));
    assert!(found.0 >= 25 && found.1 >= 20, "{found:?} of 30 each");

    // Nothing was unknown any more where the same labels stood in another order or were written otherwise.
    let mut reversed = taught.clone();
    reversed.reverse();
    dir.write("reversed.txt", &reversed.join("\n").to_uppercase());
    let unknown = |flags: &str| {
        let answers = dir.ok(&format!("classify pictures/test --json {flags}"));
        let unknown = |answer: &&Value| answer["unknown"] == true;
        answers.lines().iter().filter(unknown).count()
    };
    let own = unknown("");
    assert!(own > 10, "{own}");
    assert_eq!(unknown("--labels reversed.txt --prompt default"), own);
    dir.ok(classify).says("calibration is for the labels");
}

/// `adapt --images pictures --labels labels.txt` with these flags ends with this exit code and one line that holds all of
/// `words`, and keeps nothing.
#[track_caller]
fn refused(dir: &Directory, flags: &str, code: i32, words: &[&str]) {
    let adapt = dir.command("adapt --images pictures --labels labels.txt");
    let ran = adapt.words(flags).fails(code, words[0]);
    let line = ran.error().lines().next().unwrap();
    for word in words {
        assert!(line.contains(word), "{word:?} is missing in: {line}");
    }
    let kept = fs::read_dir(dir.home().join("prompts"));
    assert!(kept.is_err() || kept.unwrap().next().is_none());
}

#[test]
fn bad_labels_are_refused_in_a_sentence() {
    let dir = Directory::with_pictures(2);
    refused(&dir, "", 1, &["labels.txt"]);
    dir.write("labels.txt", "# nothing but a comment\n");
    refused(&dir, "", 1, &["labels.txt", "no label"]);
    dir.write("labels.txt", "mug\nfish\nmug\n");
    refused(&dir, "", 1, &["line 3", "line 1", "mug"]);
    dir.write("labels.txt", "mug\nsubmarine\n");
    refused(&dir, "", 1, &["submarine", "pictures"]);
    dir.write("labels.txt", "mug\n");
    refused(&dir, "", 1, &["only one label"]);
}

#[test]
fn flags_that_cannot_work_are_wrong_usage() {
    let dir = Directory::with_pictures(2);
    dir.write("labels.txt", "mug\nfish\n");
    refused(&dir, "--rank 5", 2, &["rank 5", "4 tokens"]);
    refused(&dir, "--rank 0", 2, &["rank 0"]);
    refused(&dir, "--method magic", 2, &["magic", "coop"]);
    refused(&dir, "--holdout 1.5", 2, &["--holdout 1.5"]);
    let adapt = "adapt --images pictures --labels labels.txt --template";
    dir.command(adapt).arg("a photo").fails(2, "{}");
    refused(&dir, "--prompt ../up", 2, &["../up"]);
    dir.command("adapt --labels labels.txt").ends(2);
    let unlabelled = dir.command("adapt --camera 0 --labels labels.txt").ends(2);
    unlabelled.says("--unlabelled");
    let unlabelled = dir.command("adapt --images pictures --unlabelled").ends(2);
    unlabelled.says("--labels FILE");
}

#[test]
fn unreadable_pictures_are_skipped_counted_and_refused_when_too_few_remain() {
    let dir = Directory::with_pictures(3);
    dir.write("labels.txt", "mug\nfish\n");
    dir.write("pictures/mug/empty.png", "");
    dir.write("pictures/mug/broken.jpg", "this is no picture");
    let huge = dir.path().join("pictures/fish/huge.png");
    fs::write(huge, crate::support::png_header(10_000, 10_000)).unwrap();
    let adapt = "adapt --images pictures --labels labels.txt --views 1 --steps 3 --force";
    let adapted = dir.ok(adapt);
    for words in [
        "empty.png",
        "broken.jpg",
        "huge.png",
        "3 of 9 pictures were skipped",
    ] {
        adapted.says(words);
    }
    for name in ["0000.png", "0001.png"] {
        dir.write(&format!("pictures/fish/{name}"), "");
    }
    dir.fails(adapt, 1, "\"fish\" has 1 usable picture:");

    // A picture that was asked for is missing.
    let classify = dir.command("classify pictures --labels labels.txt --json");
    assert_eq!(classify.ends(3).stdout.lines().count(), 4);
}

#[test]
fn a_home_that_cannot_be_written_is_named_before_any_work() {
    let dir = Directory::with_pictures(2);
    dir.write("labels.txt", "mug\nfish\n");
    dir.write("occupied", "a file, not a folder");
    let adapt = "adapt --images pictures --labels labels.txt --home occupied";
    dir.fails(adapt, 1, "occupied");
}

#[test]
fn classifying_without_a_prompt_says_what_to_do() {
    let dir = Directory::with_pictures(1);
    dir.fails("classify pictures", 1, "adapt ... --labels");
    let missing = "classify nowhere.png --labels pictures/labels.txt";
    dir.fails(missing, 1, "nowhere.png");
}

#[test]
fn nothing_is_printed_for_people_on_the_stream_of_machines() {
    let dir = Directory::with_pictures(1);
    dir.ok("classify pictures --labels pictures/labels.txt --json")
        .lines();
    let quiet = dir.ok("classify pictures --labels pictures/labels.txt --quiet");
    assert_eq!(quiet.stderr, "");
}

#[test]
fn doctor_names_what_is_damaged_and_its_cure() {
    let dir = Directory::new();
    dir.ok("doctor --json");
    assert!(!dir.home().exists(), "looking leaves no trace");
    fs::create_dir_all(dir.home().join("prompts")).unwrap();
    dir.write("home/prompts/door.rlp", "not a prompt");
    let report = dir.command("doctor --json").ends(1).json();
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
    dir.ok("adapt --images pictures --quiet");
    let ladder = demo::CLASSES
        .iter()
        .position(|name| *name == "ladder")
        .unwrap();
    let scene = demo::scene(demo::Purpose::Test, 0, 3, ladder as u64);
    demo::draw(&scene, demo::SIZE)
        .save(dir.path().join("ladder.png"))
        .unwrap();
    let named = |flags: &str| -> Value {
        let classify = dir.command("classify --json").words(flags);
        classify.ok().lines().swap_remove(0)
    };
    let unknown = named("ladder.png");
    assert_eq!(
        (&unknown["label"], &unknown["unknown"]),
        (&"unknown".into(), &true.into())
    );
    let known = named("pictures/mug");
    assert_eq!(
        (&known["label"], &known["unknown"]),
        (&"mug".into(), &false.into())
    );
    let forced = named("ladder.png --threshold 0");
    assert_eq!(forced["unknown"], false);
    assert_ne!(forced["label"], "unknown");
    dir.ok("classify ladder.png").prints("unknown, nearest ");

    // Nothing held out, nothing to calibrate on: as before, and -v says so.
    dir.ok("adapt --images pictures --holdout 0 --quiet");
    let verbose = dir.ok("classify ladder.png --json -v");
    assert_eq!(verbose.json()["unknown"], false);
    verbose.says("holds no calibration");
}

#[test]
fn a_picture_in_the_folder_of_a_name_that_is_never_told_agrees_where_it_is_unknown() {
    let dir = Directory::with_pictures(4);
    let pictures = dir.path().join("pictures");
    std::fs::rename(pictures.join("mug"), pictures.join("!mug")).unwrap();
    let labels = std::fs::read_to_string(pictures.join("labels.txt")).unwrap();
    let labels = labels.replace("mug\n", "!mug = mug\n");
    dir.write("pictures/labels.txt", &labels);
    // On drawings like those that the model was trained on, the plain template knows mugs.
    dir.ok("classify pictures/!mug --labels pictures/labels.txt")
        .prints("unknown, nearest !mug")
        .says("4 of 4 agree with the folders' labels (100.0 %); 4 unknown");
}
