//! What holds of shots, and of every operation on them that fails or at which the power is cut.

use super::*;
use crate::store::faults::{Fault, FaultyDisk, Survival};
use crate::store::file_system::FileSystem;
use crate::store::home::tests::home;

fn shots(home: &Home) -> Vec<Shot> {
    let folder = home.shots_folder("shelf").unwrap();
    home.shots_in(&folder).unwrap()
}

fn numbered(home: &Home) -> Vec<(u64, String)> {
    let shots = shots(home).into_iter();
    shots.map(|shot| (shot.number, shot.label)).collect()
}

#[test]
fn shots_are_numbered_through_all_labels_and_taken_back_one_by_one() {
    let (disk, home) = home();
    assert!(shots(&home).is_empty());
    home.add_shot("shelf", "mug", b"one").unwrap();
    let fish = home.add_shot("shelf", "fish", b"two").unwrap();
    home.add_shot("door", "mug", b"of another prompt").unwrap();
    assert_eq!(fish.path, Path::new("/home/shots/shelf/fish/000002.jpg"));
    assert_eq!(numbered(&home), [(1, "mug".into()), (2, "fish".into())]);
    assert_eq!(disk.read(&fish.path, 100).unwrap(), b"two");
    home.remove_shot(&fish).unwrap();
    home.remove_shot(&fish).unwrap();
    assert_eq!(numbered(&home), [(1, "mug".into())]);
    home.add_shot("shelf", "mug", b"again").unwrap();
    assert_eq!(numbered(&home), [(1, "mug".into()), (2, "mug".into())]);
}

#[test]
fn shots_that_are_moved_keep_their_numbers_where_they_can() {
    let (disk, home) = home();
    for picture in [b"1", b"2", b"3"] {
        home.add_shot("shelf", "mug", picture).unwrap();
    }
    // As it may be after a power cut, or where somebody copied files.
    disk.write_new("/home/shots/shelf/fish/000002.jpg".as_ref(), b"x")
        .unwrap_err();
    let fish = home.add_shot("shelf", "fish", b"4").unwrap();
    let copy = fish.path.with_file_name("000002.jpg");
    disk.write_new(&copy, b"x").unwrap();
    let all = shots(&home);
    let moved = home.move_shots("shelf", &all, "fish").unwrap();
    let numbers: Vec<u64> = moved.iter().map(|shot| shot.number).collect();
    assert_eq!(numbers, [1, 5, 3]);
    assert_eq!(disk.read(&moved[1].path, 9).unwrap(), b"2");
    assert_eq!(disk.read(&copy, 9).unwrap(), b"x");
    assert!(shots(&home).iter().all(|shot| shot.label == "fish"));
}

#[test]
fn removing_all_shots_leaves_nothing_but_what_is_not_ours() {
    let (disk, home) = home();
    home.add_shot("shelf", "mug", b"1").unwrap();
    home.add_shot("shelf", "fish", b"2").unwrap();
    home.keep_shot_labels("shelf", &[Label::new("mug", None).unwrap()])
        .unwrap();
    home.add_shot("door", "mug", b"of another prompt").unwrap();
    assert_eq!(home.shots_of().unwrap(), ["door", "shelf"]);
    let half = "/home/shots/shelf/mug/.000003.jpg.7.tmp";
    disk.write_synced(half.as_ref(), b"half", Access::Owner)
        .unwrap();
    let notes = "/home/shots/shelf/fish/notes";
    disk.write_synced(notes.as_ref(), b"mine", Access::Usual)
        .unwrap();
    assert_eq!(home.remove_all_shots("shelf").unwrap(), 2);
    assert_eq!(disk.list("/home/shots/shelf".as_ref()).unwrap(), ["fish"]);
    disk.remove_file(notes.as_ref()).unwrap();
    assert_eq!(home.remove_all_shots("shelf").unwrap(), 0);
    assert_eq!(home.shots_of().unwrap(), ["door"]);
    assert_eq!(home.remove_all_shots("none").unwrap(), 0);
}

#[test]
fn only_shots_whose_age_is_known_are_old() {
    let (disk, home) = home();
    let day = Duration::from_secs(24 * 3600);
    let now = UNIX_EPOCH + BEFORE_ANY_SHOT + 100 * day;
    // Two days and an hour ago, one day ago, tomorrow, and on a box that did not know the day.
    let times = [
        now - 2 * day - day / 24,
        now - day,
        now + day,
        UNIX_EPOCH + day,
    ];
    for time in times {
        let shot = home.add_shot("shelf", "mug", b"x").unwrap();
        disk.date(&shot.path, time);
    }
    let old = |age| {
        let old = home.shots_older_than("shelf", age, now).unwrap();
        old.iter().map(|shot| shot.number).collect::<Vec<_>>()
    };
    assert_eq!(old(2 * day), [1]);
    assert_eq!(old(day / 2), [1, 2]);
    assert!(old(3 * day).is_empty());
    // A clock that went back to 1970 makes nothing old.
    assert!(
        home.shots_older_than("shelf", day, UNIX_EPOCH)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn files_that_are_not_shots_are_left_out() {
    let (disk, home) = home();
    home.add_shot("shelf", "mug", b"one").unwrap();
    home.keep_shot_labels("shelf", &[Label::new("mug", None).unwrap()])
        .unwrap();
    let folder = home.shots_folder("shelf").unwrap();
    for file in ["notes", "mug/a.jpg", "mug/0.jpg", "mug/7.png", "mug/+9.jpg"] {
        disk.write_synced(&folder.join(file), b"x", Access::Usual)
            .unwrap();
    }
    assert_eq!(numbered(&home), [(1, "mug".into())]);
}

#[test]
fn any_label_is_a_folder_and_comes_back() {
    let (_, home) = home();
    let labels = [
        "red cup",
        "猫",
        "what?",
        "50 % off",
        "%41",
        "nul",
        "Com1.x",
        "labels.txt",
        "end.",
        "a:b*c|d<e>f\"g",
        "é",
    ];
    for label in labels {
        let name = folder_name(label);
        assert_eq!(label_of(&name), label);
        assert!(
            !name.contains(['?', ':', '*', '"', '<', '>', '|', '/', '\\']),
            "{name}"
        );
        home.add_shot("shelf", label, b"x").unwrap();
    }
    let kept: Vec<String> = shots(&home).into_iter().map(|shot| shot.label).collect();
    assert_eq!(kept, labels);
    assert_eq!(folder_name("../.."), "%2E.%2F.%2E");
    // Folders that a person made.
    for name in ["100%", "%zz", "%e9"] {
        assert_eq!(label_of(name), name);
    }
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let (disk, home) = home();
    for name in ["", "..", "a/b", "-x"] {
        let error = home.add_shot(name, "mug", b"x").unwrap_err();
        assert!(matches!(error, StoreError::Name(_)), "{name:?}");
    }
    assert_eq!(disk.operations(), 0);
}

/// A command, and the numbers of the shots before and after it.
struct Case {
    before: u64,
    run: fn(&Home) -> Result<(), StoreError>,
    after: u64,
}

const CASES: [Case; 3] = [
    Case {
        before: 0,
        run: |home| home.add_shot("shelf", "mug", b"picture 1").map(|_| ()),
        after: 1,
    },
    Case {
        before: 2,
        run: |home| home.add_shot("shelf", "mug", b"picture 3").map(|_| ()),
        after: 3,
    },
    Case {
        before: 2,
        run: |home| home.remove_shot(&shots(home)[1]),
        after: 1,
    },
];

fn prepared(case: &Case) -> (FaultyDisk, Home) {
    let (disk, home) = home();
    for number in 1..=case.before {
        let picture = format!("picture {number}");
        home.add_shot("shelf", "mug", picture.as_bytes()).unwrap();
    }
    disk.count_from_here();
    (disk, home)
}

#[test]
fn whatever_fails_or_wherever_the_power_is_cut_every_shot_is_whole_and_earlier_ones_stay() {
    let mut tried = 0;
    for case in &CASES {
        let (disk, home) = prepared(case);
        (case.run)(&home).unwrap();
        let operations = disk.operations();
        let survivals = Survival::all();
        let cuts = survivals.iter().map(|s| (Fault::PowerCut, *s));
        let failures = [Fault::FailOnce, Fault::FailFromThere].map(|f| (f, survivals[0]));
        for (fault, survival) in cuts.chain(failures) {
            for k in 1..=operations + 1 {
                let (disk, home) = prepared(case);
                disk.fault_at(k, fault);
                let done = (case.run)(&home).is_ok();
                match fault {
                    Fault::PowerCut => disk.restart(survival),
                    _ => disk.heal(),
                }
                let context = format!("{fault:?} at {k} of {operations}, {survival:?}");
                let found = shots(&home);
                let count = found.len() as u64;
                assert!(
                    count == case.after || (count == case.before && !done),
                    "{context}: {found:?}"
                );
                for shot in found {
                    let picture = disk.read(&shot.path, 100).unwrap();
                    assert_eq!(picture, format!("picture {}", shot.number).as_bytes());
                }
                home.add_shot("shelf", "mug", b"next").unwrap();
                let left = disk.list("/home/shots/shelf/mug".as_ref()).unwrap();
                assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
                tried += 1;
            }
        }
    }
    println!("{tried} failures and power cuts survived");
}
