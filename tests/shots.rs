//! `edge-rlp shots`: pictures that were kept are listed, moved and removed, and belong to one account.

mod support;

use edge_rlp::store::Home;
use std::fs;
use support::Directory;

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
