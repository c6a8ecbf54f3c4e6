use super::*;
use crate::watch::Shown;
use std::fs;
use std::path::Path;

fn change(label: &str) -> Change {
    Change {
        shown: Shown::Label(label.into()),
        score: 0.5,
        previous: Some(Shown::Label("before".into())),
        source: "demo:clear".into(),
        frame: 7,
        region: "door".into(),
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A runner whose command is given the folder `$D`, and what it warned of.
fn runner(dir: &Path, command: &str) -> (OnChange, Arc<Mutex<Vec<String>>>) {
    runner_within(Duration::from_secs(30), dir, command)
}

fn runner_within(
    timeout: Duration,
    dir: &Path,
    command: &str,
) -> (OnChange, Arc<Mutex<Vec<String>>>) {
    let warned = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&warned);
    let command = format!("D={}; {command}", dir.display());
    let job = Job { command, timeout };
    let runner = OnChange::new(job, move |message| list.lock().unwrap().push(message));
    (runner.unwrap(), warned)
}

#[test]
fn the_command_finds_the_change_in_its_environment() {
    let dir = tempfile::tempdir().unwrap();
    let all = "$EDGE_RLP_LABEL,$EDGE_RLP_SCORE,$EDGE_RLP_PREVIOUS,$EDGE_RLP_SOURCE,$EDGE_RLP_FRAME,$EDGE_RLP_REGION";
    let (runner, warned) = runner(dir.path(), &format!("echo \"{all}\" > $D/out"));
    runner.changed(change("red mug"));
    runner.finish(false);
    let found = lines(&dir.path().join("out"));
    assert_eq!(found, ["red mug,0.5,before,demo:clear,7,door"]);
    assert!(warned.lock().unwrap().is_empty());
}

#[test]
fn one_runs_at_a_time_and_the_newest_change_waits() {
    let dir = tempfile::tempdir().unwrap();
    let slow = "echo $EDGE_RLP_LABEL >> $D/out; while [ ! -e $D/go ]; do sleep 0.01; done";
    let (runner, _) = runner(dir.path(), slow);
    let found = dir.path().join("out");
    runner.changed(change("first"));
    wait_for(|| !lines(&found).is_empty());
    for label in ["second", "third", "fourth"] {
        runner.changed(change(label));
    }
    fs::write(dir.path().join("go"), "").unwrap();
    runner.finish(false);
    assert_eq!(lines(&found), ["first", "fourth"]);
}

#[test]
fn a_command_that_fails_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (runner, warned) = runner(dir.path(), "exit 3");
    runner.changed(change("mug"));
    runner.finish(false);
    let warned = warned.lock().unwrap();
    assert!(warned.len() == 1 && warned[0].contains('3'), "{warned:?}");
}

#[test]
fn stopping_ends_the_command_and_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let (runner, _) = runner(dir.path(), "sleep 600 & echo $! > $D/child; wait");
    let child = dir.path().join("child");
    runner.changed(change("mug"));
    wait_for(|| !lines(&child).is_empty());
    let begun = Instant::now();
    runner.finish(true);
    assert!(begun.elapsed() < Duration::from_secs(10));
    wait_for(|| !runs(&lines(&child)[0]));
}

/// Whether a process runs. Where its parent is gone, whoever inherits it reaps it in their own time.
fn runs(process: &str) -> bool {
    let status = Path::new("/proc").join(process).join("status");
    let state = |line: &String| line.starts_with("State:\t") && !line.contains(['Z', 'X']);
    lines(&status).iter().any(state)
}

#[test]
fn a_command_that_hangs_is_ended_with_children_in_other_sessions_and_the_next_change_runs() {
    let dir = tempfile::tempdir().unwrap();
    let hangs = "echo $EDGE_RLP_LABEL >> $D/out; trap '' TERM; sleep 600 & echo $! >> $D/children; \
                 setsid sh -c 'trap \"\" TERM; echo $$ >> '$D'/children; sleep 600; :' & wait; sleep 600";
    let (runner, warned) = runner_within(Duration::from_secs(5), dir.path(), hangs);
    let (found, children) = (dir.path().join("out"), dir.path().join("children"));
    runner.changed(change("first"));
    wait_for(|| lines(&children).len() == 2);
    for label in ["second", "third"] {
        runner.changed(change(label));
    }
    let first = lines(&children);
    assert!(first.iter().all(|child| runs(child)));
    wait_for(|| lines(&found).len() == 2);
    wait_for(|| !first.iter().any(|child| runs(child)));
    assert_eq!(lines(&found), ["first", "third"]);
    wait_for(|| warned.lock().unwrap().len() == 2);
    runner.finish(true);
    let warned = warned.lock().unwrap();
    assert!(
        warned[0].contains("5s") && warned[0].contains("1 so far; one change"),
        "{warned:?}"
    );
    assert!(warned[1].contains("2 so far"), "{warned:?}");
    wait_for(|| !lines(&children).iter().any(|child| runs(child)));
}

#[test]
fn what_a_command_leaves_running_is_ended_when_its_time_is_up_or_the_program_ends() {
    let leaves = "setsid sh -c 'echo $$ >> '$D'/children; sleep 600; :' > /dev/null 2>&1 &";
    for (timeout, waits) in [(Duration::from_millis(300), true), (Duration::ZERO, false)] {
        let dir = tempfile::tempdir().unwrap();
        let (runner, warned) = runner_within(timeout, dir.path(), leaves);
        let children = dir.path().join("children");
        runner.changed(change("mug"));
        wait_for(|| !lines(&children).is_empty());
        assert!(waits || runs(&lines(&children)[0]));
        if waits {
            wait_for(|| !runs(&lines(&children)[0]));
            wait_for(|| !warned.lock().unwrap().is_empty());
            let warned = warned.lock().unwrap();
            assert!(warned[0].contains("left running"), "{warned:?}");
        }
        runner.finish(false);
        // What was killed dies once the system lets it run.
        wait_for(|| !runs(&lines(&children)[0]));
    }
}
