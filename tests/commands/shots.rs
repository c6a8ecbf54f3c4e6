//! `edge-rlp shots`: pictures that were kept are listed, moved and removed, and belong to one account.

use crate::support::Directory;
use edge_rlp::store::Home;
use std::fs;
use std::time::{Duration, SystemTime};

/// Three shots of mugs and one of a fish for the prompt `shelf`.
fn kept() -> Directory {
    let dir = Directory::new();
    let home = Home::new(dir.home());
    for label in ["mug", "mug", "fish", "mug"] {
        home.add_shot("shelf", label, b"\xff\xd8 a picture \xff\xd9")
            .unwrap();
    }
    dir
}

fn numbers(dir: &Directory, flags: &str) -> Vec<u64> {
    let shown = dir.ok(&format!("shots show shelf --json {flags}")).lines();
    let number = |line: &serde_json::Value| line["number"].as_u64().unwrap();
    shown.iter().map(number).collect()
}

#[test]
fn shots_are_listed_by_prompt_and_label() {
    let dir = kept();
    let lines = dir.ok("shots list --json").lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[1]["label"], &lines[1]["shots"]),
        (&"mug".into(), &3.into())
    );
    assert_eq!(lines[1]["bytes"], 3 * 15);
    assert!(lines[1]["newest_unix"].as_u64().unwrap() > 1_700_000_000);
    dir.ok("shots list")
        .prints("shelf   fish   1")
        .prints("UTC");
    dir.ok("shots list door").says("0 shots of door");
    dir.fails("shots list ../x", 2, "cannot name a prompt");
}

#[test]
fn shots_are_chosen_by_number_and_label() {
    let dir = kept();
    assert_eq!(numbers(&dir, ""), [1, 2, 3, 4]);
    assert_eq!(numbers(&dir, "2-3"), [2, 3]);
    assert_eq!(numbers(&dir, "1 3-9 --label mug"), [1, 4]);
    dir.fails(
        "shots show shelf 9",
        1,
        "no shot 9 ... edge-rlp shots show shelf",
    );
    dir.fails("shots show shelf --label cup", 1, "no shots of \"cup\"");
    dir.fails("shots show door", 1, "no shots of door ... shots list");
    dir.command("shots show shelf 0").ends(2);
}

#[test]
fn shots_with_the_wrong_label_are_moved_and_trained_on_under_the_right_one() {
    let dir = kept();
    dir.ok("shots move shelf 2 3 --to fish")
        .prints("1 shot of shelf moved to fish; 1 shot had that label");
    dir.ok("shots move shelf 3 --to Fish")
        .prints("0 shots of shelf moved to fish; 1 shot had that label");
    assert_eq!(numbers(&dir, "--label fish"), [2, 3]);
    dir.fails("shots move shelf --to fish", 2, "say which shots");
    let odd = dir.command("shots move shelf 1 --to").arg("a\nb");
    odd.fails(2, "control");
    assert_eq!(numbers(&dir, "--label mug"), [1, 4]);
}

#[test]
fn shots_are_removed_for_good() {
    let dir = kept();
    dir.fails("shots remove shelf", 2, "say which shots");
    dir.ok("shots remove shelf 1 4")
        .prints("2 shots of shelf removed");
    assert_eq!(numbers(&dir, ""), [2, 3]);
    dir.ok("shots remove shelf --all");
    assert!(!dir.home().join("shots/shelf").exists());
}

/// Has a file be written so many days ago.
fn age(dir: &Directory, file: &str, days: u64) {
    let file = fs::File::open(dir.home().join(file)).unwrap();
    let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    file.set_modified(time).unwrap();
}

#[test]
fn old_shots_are_purged_when_asked_for_and_by_themselves_where_that_is_set() {
    let dir = kept();
    age(&dir, "shots/shelf/mug/000001.jpg", 100);
    age(&dir, "shots/shelf/mug/000002.jpg", 40);
    dir.fails("shots purge", 2, "--older-than ... config.toml");
    dir.fails("shots purge desk --older-than 1h", 1, "no shots of desk");
    dir.ok("shots purge --older-than 91d")
        .prints("1 shot older than 91 days removed");
    assert_eq!(numbers(&dir, ""), [2, 3, 4]);
    fs::write(
        dir.home().join("config.toml"),
        "[shots]\nkeep = \"a month\"\n",
    )
    .unwrap();
    let adapt = "adapt --camera demo:fog --shots 4 --views 1 --steps 2 --force";
    dir.ok(adapt).says("line 2: write how long");
    dir.fails("doctor", 1, "must be put right").prints("line 2");
    assert_eq!(numbers(&dir, ""), [2, 3, 4]);
    fs::write(dir.home().join("config.toml"), "[shots]\nkeep = \"30d\"\n").unwrap();
    dir.ok("classify --camera demo --frames 1")
        .says("1 shot older than");
    assert_eq!(numbers(&dir, ""), [3, 4]);
    dir.ok("shots purge").prints("0 shots older than");
    // What is kept to be labelled shows people, too.
    dir.ok("classify --camera demo:peephole --frames 12 --keep-uncertain 3");
    let waiting = || fs::read_dir(dir.home().join("uncertain")).unwrap();
    let pictures = waiting().map(|entry| entry.unwrap().file_name());
    let pictures = pictures.filter(|name| name.to_string_lossy().ends_with(".jpg"));
    let pictures: Vec<String> = pictures
        .map(|name| format!("uncertain/{}", name.to_string_lossy()))
        .collect();
    assert!(!pictures.is_empty());
    pictures.iter().for_each(|picture| age(&dir, picture, 40));
    let told = format!("{} picture", pictures.len());
    dir.ok("shots purge")
        .prints(&told)
        .prints("of --keep-uncertain");
    assert_eq!(waiting().count(), 1, "but for the mark");
}

/// Training goes by the list of labels, and left the shots of a new one out.
#[test]
fn shots_that_are_moved_to_a_new_label_are_trained_on_and_it_is_told() {
    let dir = kept();
    let list = dir.home().join("shots/shelf/labels.txt");
    fs::write(&list, "mug\nfish\n").unwrap();
    dir.ok("shots move shelf 1 --to scisors")
        .says("scisors is a new label of shelf: there were mug, fish");
    assert_eq!(fs::read_to_string(list).unwrap(), "mug\nfish\nscisors\n");
}

#[test]
fn a_prompt_is_removed_with_its_pictures_where_that_is_asked_for_and_they_are_told_otherwise() {
    let dir = kept();
    dir.fails("prompt remove shelf", 1, "no prompt shelf");
    let adapt = "adapt --camera demo:fog --shots 4 --views 1 --steps 2 --force --prompt shelf";
    dir.ok(adapt);
    dir.ok("prompt remove shelf")
        .says("4 shots of it still in")
        .says("edge-rlp shots remove shelf --all");
    dir.ok(adapt);
    dir.ok("prompt remove shelf --shots")
        .prints("with its history and 4 shots");
    assert!(!dir.home().join("shots/shelf").exists());
    dir.fails("prompt remove shelf --shots", 1, "no prompt shelf");
}

#[cfg(unix)]
#[test]
fn doctor_tells_who_else_can_look_at_pictures() {
    use std::os::unix::fs::PermissionsExt;
    let dir = kept();
    let checks = || {
        let found = dir.command("doctor --json").run().json();
        let checks = found["checks"].as_array().unwrap().clone();
        checks
            .into_iter()
            .filter(|found| found["check"] == "privacy")
            .collect::<Vec<_>>()
    };
    assert_eq!(checks(), [] as [serde_json::Value; 0]);
    for folder in ["", "shots/shelf"] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.home().join(folder), mode).unwrap();
    }
    let found = checks();
    assert_eq!(found.len(), 2);
    assert!(found[0]["says"].as_str().unwrap().contains("mode 755"));
    assert!(found[0]["cure"].as_str().unwrap().starts_with("chmod go="));
    assert!(found[1]["says"].as_str().unwrap().contains("shots/shelf"));
}

#[cfg(unix)]
#[test]
fn shots_belong_to_the_account_alone_whatever_its_umask() {
    use std::os::unix::fs::PermissionsExt;
    let dir = kept();
    let mode = |path: &str| {
        let found = fs::metadata(dir.home().join(path)).unwrap();
        found.permissions().mode() & 0o777
    };
    for folder in ["", "shots", "shots/shelf", "shots/shelf/mug"] {
        assert_eq!(mode(folder), 0o700, "{folder:?}");
    }
    for file in ["lock", "shots/shelf/mug/000001.jpg"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    // A lock that an earlier version left open to all is closed.
    let lock = dir.home().join("lock");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    dir.ok("shots remove shelf 1");
    assert_eq!(mode("lock"), 0o600);
}
