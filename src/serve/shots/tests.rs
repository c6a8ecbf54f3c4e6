use super::*;
use crate::store::faults::{Fault, FaultyDisk, Survival};
use crate::store::file_system::FileSystem;
use std::sync::Arc;

/// Three labels, each with two shots whose picture says what they are.
fn prepared() -> (FaultyDisk, Shots) {
    let disk = FaultyDisk::default();
    let home = Home::with_files("/home", Arc::new(disk.clone()));
    let shots = Shots::new(home, Events::default());
    let labels = ["mug", "cup", "fish"].map(|name| Label::new(name, None).unwrap());
    shots.set_labels("things", &labels).unwrap();
    for number in 1..=2 {
        for label in ["mug", "cup", "fish"] {
            let picture = format!("{label} {number}");
            shots.add("things", label, picture.as_bytes()).unwrap();
        }
    }
    disk.count_from_here();
    (disk, shots)
}

/// What is kept: each picture with its label.
fn kept(disk: &FaultyDisk, shots: &Shots) -> BTreeMap<String, String> {
    let all = shots.all("things").unwrap().into_iter();
    all.map(|(_, shot)| {
        let picture = String::from_utf8(disk.read(&shot.path, 100).unwrap()).unwrap();
        (picture, shot.label)
    })
    .collect()
}

type Act = fn(&Shots) -> Result<(), ShotsError>;

/// What changes labels and shots, and the pictures that are no longer there afterwards.
const ACTS: [(Act, &[&str]); 6] = [
    (|shots| shots.rename("things", "cup", "beaker"), &[]),
    (|shots| shots.rename("things", "cup", "mug"), &[]),
    (|shots| shots.rename("things", "cup", "Cup"), &[]),
    (
        |shots| {
            shots
                .relabel("things", &["1".into(), "2".into()], "fish")
                .map(drop)
        },
        &[],
    ),
    (
        |shots| shots.remove_label("things", "cup").map(drop),
        &["cup 1", "cup 2"],
    ),
    (|shots| shots.undo("things").map(drop), &["fish 2"]),
];

#[test]
fn wherever_labels_and_shots_are_changed_a_failure_or_a_power_cut_loses_no_shot_and_no_label() {
    let mut tried = 0;
    for (act, (run, gone)) in ACTS.iter().enumerate() {
        let (disk, shots) = prepared();
        let before = kept(&disk, &shots);
        assert_eq!(before.len(), 6);
        run(&shots).unwrap();
        let (after, operations) = (kept(&disk, &shots), disk.operations());
        let survivals = Survival::all();
        let cuts = survivals
            .iter()
            .map(|survival| (Fault::PowerCut, *survival));
        let failures = [Fault::FailOnce, Fault::FailFromThere].map(|fault| (fault, survivals[0]));
        for (fault, survival) in cuts.chain(failures) {
            for k in 1..=operations + 1 {
                let (disk, shots) = prepared();
                disk.fault_at(k, fault);
                let done = run(&shots).is_ok();
                match fault {
                    Fault::PowerCut => disk.restart(survival),
                    _ => disk.heal(),
                }
                let context = format!("act {act}, {fault:?} at {k} of {operations}, {survival:?}");
                let found = kept(&disk, &shots);
                if done {
                    assert_eq!(found, after, "{context}");
                }
                for picture in before.keys().filter(|picture| !gone.contains(&&***picture)) {
                    let label = found.get(picture);
                    let allowed = [before.get(picture), after.get(picture)];
                    assert!(
                        label.is_some() && allowed.contains(&label),
                        "{context}: {picture}"
                    );
                }
                // Each shot has a label that is listed, so that it can be seen and trained on.
                let (_, others) = shots.labels("things").unwrap();
                assert!(others.is_empty(), "{context}: {others:?}");
                shots.add("things", "fish", b"next").unwrap();
                tried += 1;
            }
        }
    }
    println!("{tried} failures and power cuts survived");
    assert!(tried > 500, "{tried}");
}

#[test]
fn a_prompt_takes_no_more_shots_than_it_may_have_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let shots = Shots::new(Home::new(dir.path()), Events::default());
    let labels = ["mug", "cup"].map(|name| Label::new(name, None).unwrap());
    shots.set_labels("things", &labels).unwrap();
    let limits = |pictures, bytes| {
        let mut limits = ShotsConfig::default();
        (limits.pictures, limits.bytes) = (pictures, bytes);
        limits
    };
    shots.bound(limits(2, 100));
    shots.add("things", "mug", &[1; 60]).unwrap();
    let refused = shots.add("things", "cup", &[2; 60]).unwrap_err();
    assert!(matches!(refused, ShotsError::Full { pictures: 1, .. }));
    shots.add("things", "cup", &[2; 40]).unwrap();
    let refused = shots.add("things", "cup", &[3; 0]).unwrap_err();
    assert!(matches!(refused, ShotsError::Full { pictures: 2, .. }));
    assert_eq!(shots.all("things").unwrap().len(), 2);
    shots.remove("things", &["1".into()]).unwrap();
    shots.add("things", "cup", &[3; 60]).unwrap();
}

#[test]
fn keeping_many_reads_no_folder_again_and_what_others_remove_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let shots = Shots::new(Home::new(dir.path()), Events::default());
    let labels = ["mug", "cup"].map(|name| Label::new(name, None).unwrap());
    shots.set_labels("things", &labels).unwrap();
    let mut limits = ShotsConfig::default();
    (limits.pictures, limits.bytes) = (300, 1 << 30);
    shots.bound(limits);
    for number in 0..300 {
        let label = ["mug", "cup"][number % 2];
        shots.add("things", label, &[1; 10]).unwrap();
    }
    let read = shots.ledger.lock().unwrap().read;
    assert_eq!(read, 0, "each was counted as it was kept");
    let full = |shots: &Shots| shots.add("things", "mug", &[1; 10]).is_err();
    assert!(full(&shots));
    // What another program does is seen, and who starts anew counts what there is.
    let path = shots.find("things", "7").unwrap().path;
    std::fs::remove_file(&path).unwrap();
    shots.add("things", "mug", &[1; 10]).unwrap();
    assert!(full(&shots));
    std::fs::write(path.with_file_name("000400.jpg"), [1; 10]).unwrap();
    shots.remove("things", &["9".into()]).unwrap();
    assert!(full(&shots));
    shots.remove("things", &["11".into()]).unwrap();
    let again = Shots::new(Home::new(dir.path()), Events::default());
    again.bound(shots.limits.lock().unwrap().clone());
    again.add("things", "cup", &[1; 10]).unwrap();
    assert!(full(&again) && full(&shots));
    assert_eq!(again.all("things").unwrap().len(), 300);
}
