//! Every operation of every command that writes to a home folder is made to fail, and the power is cut at each,
//! exhaustively. Run with `--nocapture` to see how many.

use super::faults::{Fault, FaultyDisk, Survival};
use super::{Home, StoreError};
use crate::prompt::Prompt;
use crate::prompt::record::tests::record;
use std::sync::Arc;

const NAME: &str = "shelf";

/// A command, how many generations there are before it, and the seed of the prompt in use after it, if any.
struct Case {
    title: &'static str,
    saves_before: u64,
    run: fn(&Home) -> Result<(), StoreError>,
    seed_after: Option<u64>,
}

const CASES: [Case; 5] = [
    Case {
        title: "first save",
        saves_before: 0,
        run: save,
        seed_after: Some(99),
    },
    Case {
        title: "second save",
        saves_before: 1,
        run: save,
        seed_after: Some(99),
    },
    Case {
        title: "save that drops a generation",
        saves_before: 10,
        run: save,
        seed_after: Some(99),
    },
    Case {
        title: "rollback",
        saves_before: 3,
        run: roll_back,
        seed_after: Some(2),
    },
    Case {
        title: "remove",
        saves_before: 3,
        run: remove,
        seed_after: None,
    },
];

fn seeded(seed: u64) -> Prompt {
    Prompt { seed, ..record() }
}

fn save(home: &Home) -> Result<(), StoreError> {
    home.save(NAME, &seeded(99)).map(|_| ())
}

fn roll_back(home: &Home) -> Result<(), StoreError> {
    home.rollback(NAME, None).map(|_| ())
}

fn remove(home: &Home) -> Result<(), StoreError> {
    home.remove(NAME)
}

/// The home as it is before the command: everything safe, operations counted from here.
fn prepare(case: &Case) -> (FaultyDisk, Home) {
    let disk = FaultyDisk::default();
    let home = Home::with_files("/data/home", Arc::new(disk.clone()));
    for seed in 1..=case.saves_before {
        home.save(NAME, &seeded(seed)).unwrap();
    }
    disk.count_from_here();
    (disk, home)
}

fn operations(case: &Case) -> usize {
    let (disk, home) = prepare(case);
    (case.run)(&home).unwrap();
    disk.operations()
}

/// The old prompt or the new one is whole (the new one where the command said so), the history is readable and
/// complete, and the program goes on.
fn check(case: &Case, home: &Home, done: bool, context: &str) {
    let old = (case.saves_before > 0).then_some(case.saves_before);
    let found = match home.load(NAME) {
        Ok(loaded) => Some(loaded.record.seed),
        Err(error) if error.is_missing_prompt() => None,
        Err(error) => panic!("{context}: {error}"),
    };
    assert!(
        found == case.seed_after || (found == old && !done),
        "{context}: found {found:?}"
    );
    if found.is_some() {
        let history = home.history(NAME).unwrap();
        assert!(
            history.iter().all(|generation| generation.prompt.is_ok()),
            "{context}"
        );
        assert!(
            history.is_sorted_by_key(|generation| generation.sequence),
            "{context}"
        );
        let removing = case.seed_after.is_none();
        assert!(
            removing || history.len() as u64 >= case.saves_before.min(10),
            "{context}"
        );
    }
    home.save(NAME, &seeded(7))
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(home.load(NAME).unwrap().record.seed, 7, "{context}");
    assert!(
        home.history(NAME).unwrap().len() <= 10,
        "{context}: the history outgrew its retention"
    );
}

fn no_temporary_file(disk: &FaultyDisk, context: &str) {
    use super::file_system::FileSystem;
    for folder in ["/data/home/prompts", "/data/home/prompts/shelf.history"] {
        let names = disk.list(folder.as_ref()).unwrap();
        assert!(
            !names.iter().any(|name| name.ends_with(".tmp")),
            "{context}: {names:?}"
        );
    }
}

#[test]
fn every_operation_may_fail_and_nothing_is_lost() {
    for case in &CASES {
        let total = operations(case);
        for fault in [Fault::FailOnce, Fault::FailFromThere] {
            for k in 1..=total {
                let context = format!("{}: {fault:?} at {k}", case.title);
                let (disk, home) = prepare(case);
                disk.fault_at(k, fault);
                let done = (case.run)(&home).is_ok();
                disk.heal();
                check(case, &home, done, &context);
                no_temporary_file(&disk, &context);
            }
        }
        println!("{}: {} operations failed in turn", case.title, 2 * total);
    }
}

#[test]
fn the_power_may_be_cut_at_every_operation_and_nothing_is_lost() {
    for case in &CASES {
        let total = operations(case);
        let survivals = Survival::all();
        for &survival in &survivals {
            // One past the end: what a finished command promised is kept.
            for k in 1..=total + 1 {
                let context = format!("{}: power cut at {k}, {survival:?}", case.title);
                let (disk, home) = prepare(case);
                disk.fault_at(k, Fault::PowerCut);
                let done = (case.run)(&home).is_ok();
                disk.restart(survival);
                check(case, &home, done, &context);
                no_temporary_file(&disk, &context);
            }
        }
        println!(
            "{}: {} power cuts survived",
            case.title,
            (total + 1) * survivals.len()
        );
    }
}
