//! Adapting with nobody there: once, and for as long as the pictures change.

use crate::support::{Directory, Invocation, label_file, live_accuracy};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command};

/// A small adaptation that takes a second or two: few shots, few views, few steps.
const QUICK: &str = "--shots 4 --views 1 --steps 20";

#[test]
fn nobody_needs_to_label_where_the_surest_pictures_teach_the_rest() {
    let dir = Directory::new();
    let report = dir.ok("adapt --camera demo:infrared --unlabelled --pool 240 --json");
    let report = report.json();
    assert_eq!(report["accepted"], true);
    assert!(report["put_right"].is_null(), "{report}");
    assert!(report["after"]["agreement"].as_f64() > report["before"]["agreement"].as_f64());

    dir.write("labels.txt", &label_file(&report));
    let before = live_accuracy(&dir, "demo:infrared", &["--labels", "labels.txt"]);
    let after = live_accuracy(&dir, "demo:infrared", &["--prompt", "default"]);
    assert!(after > before, "{before} before, {after} after");

    // No picture was held out with its label: no accuracy is told.
    dir.ok("prompt show default").prints("not measured");
    let object = dir.ok("prompt show default --json").json();
    assert!(object["adapted_accuracy"].is_null(), "{object}");
}

#[test]
fn a_camera_that_hangs_upside_down_teaches_what_its_pictures_show_once_they_are_turned() {
    let dir = Directory::new();
    let report = dir.ok("adapt --camera demo:upside-down --unlabelled --pool 240 --json");
    let report = report.json();
    assert_eq!(report["put_right"], "turned by 180 degrees");
    assert_eq!(report["accepted"], true);

    // The prompt names pictures as they come.
    let after = live_accuracy(&dir, "demo:upside-down", &["--prompt", "default"]);
    assert!(after > 0.9, "{after}");
}

/// What a prompt learnt nothing of, it knows by its words: it is in use all the same.
#[test]
fn a_prompt_of_which_some_labels_were_never_shown_is_asked_the_next_time() {
    let dir = Directory::new();
    dir.ok("demo --out pictures --condition upside-down --shots 16 --test 1");
    let all = fs::read_to_string(dir.path().join("pictures/labels.txt")).unwrap();
    for label in all.lines().skip(6) {
        fs::remove_dir_all(dir.path().join("pictures/train").join(label)).unwrap();
    }
    let adapt = "adapt --images pictures/train --labels pictures/labels.txt --unlabelled --json";
    let first = dir.ok(&format!("{adapt} --force --steps 40")).json();
    assert!(first["missing"].as_array().unwrap().len() >= 4, "{first}");
    assert_eq!(first["accepted"], first["refusal"].is_null(), "{first}");
    assert_eq!(first["kept"], true);
    let shown = dir.ok("prompt show default");
    shown.prints("no pictures to learn from");
    let again = dir.command(&format!("{adapt} --steps 40")).run();
    assert!(!again.stderr.contains("plain words"), "{again}");
    assert!(again.json()["before"]["agreement"].as_f64() > first["before"]["agreement"].as_f64());
}

/// Flags that had no effect, or turned off what judges.
#[test]
fn what_makes_no_sense_without_labels_is_refused() {
    let dir = Directory::new();
    for wrong in ["--method rlp", "--holdout 0.2", "--views 1"] {
        let adapt = format!("adapt --camera demo --unlabelled {wrong}");
        let flag = wrong.split(' ').next().unwrap_or_default();
        dir.command(&adapt).ends(2).says(flag);
    }
}

#[test]
fn where_nothing_is_gained_without_labels_the_old_prompt_stays() {
    let dir = Directory::new();
    let old = dir.command("adapt --camera demo:clear --force -q");
    old.words(QUICK).ok();
    let file = dir.home().join("prompts/default.rlp");
    let before = fs::read(&file).unwrap();
    let adapt = "adapt --camera demo:clear --unlabelled --pool 240 --rounds 1";
    dir.command(adapt).ends(3).prints("not kept: ");
    assert_eq!(fs::read(&file).unwrap(), before);

    // Compared with the plain words where the same labels stood in another order, and replaced.
    let shown = dir.ok("prompt show default --json").json();
    let labels = shown["labels"].as_array().unwrap().iter().rev();
    let names: Vec<&str> = labels
        .map(|label| label["label"].as_str().unwrap())
        .collect();
    dir.write("reversed.txt", &names.join("\n"));
    let reversed = dir.command(&format!("{adapt} --labels reversed.txt"));
    let refused = reversed.ends(3);
    refused.prints("not kept: ");
    assert!(!refused.stderr.contains("not with it"));
    dir.write("more.txt", "mug\nkey\nzebra\n");
    assert_eq!(fs::read(&file).unwrap(), before);
    let more = dir.command(&format!("{adapt} --labels more.txt")).run();
    more.says("does not know zebra: what is learnt is compared with the plain words");
}

/// A program that watches; stopped in any case, when a test fails.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Watching {
    fn start(mut invocation: Invocation) -> Watching {
        Watching(invocation.start())
    }

    /// A program that adapts to `camera` again and again.
    fn learning(dir: &Directory, camera: &str) -> Watching {
        let adapt = dir.command("adapt --unlabelled --watch --pause 0s --json --camera");
        Watching::start(adapt.arg(camera))
    }

    /// The next `count` times that it adapted.
    fn reports(&mut self, count: usize) -> Vec<Value> {
        let lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        let lines = lines.take(count).map(|line| line.unwrap());
        lines
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect()
    }

    /// Sends a signal; the exit code, and what it told on standard error.
    fn signalled(mut self, signal: &str) -> (Option<i32>, String) {
        let mut kill = Command::new("kill");
        kill.args(["-s", signal, &self.0.id().to_string()]);
        assert!(kill.status().unwrap().success());
        let code = self.0.wait().unwrap().code();
        let told = std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap();
        (code, told)
    }
}

#[test]
fn a_watched_camera_is_learnt_anew_after_each_change_and_no_sooner() {
    let dir = Directory::new();
    // A thousand clear pictures, a thousand in infrared, and so on.
    let mut watching = Watching::learning(&dir, "demo:clear,infrared");
    let reports = watching.reports(3);
    let accepted: Vec<&Value> = reports.iter().map(|report| &report["accepted"]).collect();
    assert_eq!(accepted, [false, true, false], "{reports:?}");
    assert_eq!(reports[1]["sequence"], 1);
    let (code, told) = watching.signalled("TERM");
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(
        told.matches("the pictures have changed").count(),
        2,
        "{told}"
    );
}

#[test]
fn watching_goes_on_from_the_prompt_in_use_and_can_be_rolled_back() {
    let dir = Directory::new();
    let taught = dir.command("adapt --camera demo:clear --force -q");
    taught.words(QUICK).ok();

    // Nothing is learnt from the pictures that the prompt was taught with; those of another condition are noticed.
    let mut watching = Watching::learning(&dir, "demo:clear,infrared");
    let reports = watching.reports(1);
    let (code, told) = watching.signalled("INT");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("generation 1, is in use: watching"), "{told}");
    assert!(told.contains("the pictures have changed"), "{told}");
    assert_eq!(reports[0]["accepted"], true, "{reports:?}");
    assert_eq!(reports[0]["sequence"], 2);

    let rolled_back = dir.command("prompt rollback default --json").run().json();
    assert_eq!(rolled_back["restores"], 1);
    assert_eq!(rolled_back["sequence"], 3);
}

#[test]
fn pictures_of_a_folder_need_no_folder_a_label() {
    let dir = Directory::with_pictures(12);
    let adapt = "adapt --images pictures --unlabelled --labels pictures/labels.txt --force --json";
    let report = dir.ok(adapt).json();
    assert_eq!(report["seen"], 24);
    assert_eq!(report["kept"], true);
}

#[test]
fn watching_needs_a_camera_with_nobody_there_and_ends_with_it() {
    let dir = Directory::with_pictures(2);
    for flags in [
        "--camera demo --watch",
        "--images pictures --unlabelled --watch",
        "--camera demo --unlabelled --pause 1s",
        "--camera demo --unlabelled --out x.rlp",
    ] {
        dir.command("adapt").words(flags).ends(2);
    }
    let gone = dir.command("adapt --camera /dev/video63 --camera-timeout 1s");
    let gone = gone.words("--unlabelled --watch --labels pictures/labels.txt");
    gone.fails(1, "/dev/video63");
}

#[test]
fn a_camera_that_is_being_watched_is_named_with_the_new_prompt_as_soon_as_there_is_one() {
    let dir = Directory::new();
    let taught = |seed: &str| {
        let adapt = dir.command("adapt --camera demo:squeezed --force -q --seed");
        adapt.arg(seed).words(QUICK).ok();
    };
    taught("1");
    let watch = dir.command("classify --camera demo:squeezed --every 50ms");
    let mut watching = Watching::start(watch);
    let mut named = BufReader::new(watching.0.stdout.as_mut().unwrap()).lines();
    named.next().unwrap().unwrap();
    taught("2");
    // A slow machine may tell its rates first.
    let mut told = BufReader::new(watching.0.stderr.as_mut().unwrap()).lines();
    let renewed = "prompt default, generation 2, is in use from here on";
    assert!(told.any(|line| line.unwrap() == renewed));
    let (code, told) = watching.signalled("TERM");
    assert_eq!(code, Some(0), "{told}");
}
