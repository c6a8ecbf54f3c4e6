//! What holds of a home folder, fault by fault; `survival` does it for every operation in turn.

use super::*;
use crate::prompt::Prompt;
use crate::prompt::record::tests::record;
use crate::store::error::{DiskError, MissingError, PromptFileError};
use crate::store::faults::{Fault, FaultyDisk};
use crate::store::format::{self, MAX_FILE_BYTES};

/// A home folder on a disk of its own.
pub(super) fn home() -> (FaultyDisk, Home) {
    let disk = FaultyDisk::default();
    (disk.clone(), Home::with_files("/home", Arc::new(disk)))
}

/// A record that can be told from others by its seed.
fn seeded(seed: u64) -> Prompt {
    Prompt { seed, ..record() }
}

fn saved(home: &Home, seeds: std::ops::RangeInclusive<u64>) {
    for seed in seeds {
        assert_eq!(home.save("shelf", &seeded(seed)).unwrap().sequence, seed);
    }
}

fn seed(home: &Home) -> u64 {
    home.load("shelf").unwrap().record.seed
}

fn sequences(home: &Home) -> Vec<u64> {
    home.history("shelf")
        .unwrap()
        .iter()
        .map(|generation| generation.sequence)
        .collect()
}

#[test]
fn a_saved_prompt_is_loaded_listed_and_in_its_history() {
    let (_, home) = home();
    assert!(home.list().unwrap().is_empty());
    saved(&home, 1..=2);
    home.save("door", &seeded(9)).unwrap();
    let loaded = home.load("shelf").unwrap();
    assert_eq!(
        (loaded.record.seed, loaded.record.provenance.sequence),
        (2, 2)
    );
    assert_eq!(loaded.warning, None);
    let listed: Vec<_> = home
        .list()
        .unwrap()
        .into_iter()
        .map(|listed| listed.name)
        .collect();
    assert_eq!(listed, ["door", "shelf"]);
    let current: Vec<_> = home
        .history("shelf")
        .unwrap()
        .iter()
        .map(|g| (g.sequence, g.current))
        .collect();
    assert_eq!(current, [(1, false), (2, true)]);
}

#[test]
fn only_the_last_generations_are_kept_and_numbers_are_not_used_again() {
    let (_, home) = home();
    saved(&home, 1..=13);
    assert_eq!(sequences(&home), (4..=13).collect::<Vec<_>>());
}

#[test]
fn rollback_goes_back_step_by_step_and_never_forward() {
    let (_, home) = home();
    saved(&home, 1..=3);
    assert_eq!(home.rollback("shelf", None).unwrap().sequence, 4);
    assert_eq!(seed(&home), 2);
    home.rollback("shelf", None).unwrap();
    assert_eq!(seed(&home), 1);
    let error = home.rollback("shelf", None).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Missing(MissingError::EarlierGeneration { sequence: 1, .. })
        ),
        "{error}"
    );
    assert_eq!(home.rollback("shelf", Some(3)).unwrap().sequence, 6);
    assert_eq!(
        home.load("shelf").unwrap().record.provenance.restores,
        Some(3)
    );
    assert_eq!(seed(&home), 3);
    assert!(matches!(
        home.rollback("shelf", Some(77)),
        Err(StoreError::Missing(MissingError::Generation { .. }))
    ));
    assert_eq!(sequences(&home), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn any_damage_to_the_newest_generation_falls_back_with_a_warning() {
    let (disk, home) = home();
    saved(&home, 1..=2);
    let current = home.prompt_path("shelf").unwrap();
    disk.flip(&current, 1000);
    let loaded = home.load("shelf").unwrap();
    assert_eq!(loaded.record.seed, 2);
    let warning = loaded.warning.unwrap();
    assert!(
        warning.contains("shelf.rlp") && warning.contains("generation 2"),
        "{warning}"
    );
    disk.flip(&home.generation_path("shelf", 2), 77);
    assert_eq!(seed(&home), 1);
    disk.flip(&home.generation_path("shelf", 1), 77);
    assert!(matches!(
        home.load("shelf"),
        Err(StoreError::Missing(MissingError::WholeGeneration { .. }))
    ));
    assert!(home.list().unwrap()[0].prompt.is_err());
    assert_eq!(home.save("shelf", &seeded(3)).unwrap().sequence, 3);
    assert_eq!(seed(&home), 3);
}

#[test]
fn whichever_bit_of_the_prompt_in_use_flips_the_generation_in_the_history_takes_over() {
    let (disk, home) = home();
    saved(&home, 1..=2);
    let current = home.prompt_path("shelf").unwrap();
    let bits = 8 * disk.read(&current, MAX_FILE_BYTES).unwrap().len();
    for bit in 0..bits {
        disk.flip(&current, bit);
        let loaded = home.load("shelf").unwrap();
        assert_eq!(loaded.record.seed, 2, "bit {bit}");
        assert!(loaded.warning.is_some(), "bit {bit}");
        disk.flip(&current, bit);
    }
    assert_eq!(home.load("shelf").unwrap().warning, None);
    println!("{bits} bits of the prompt in use flipped");
}

#[test]
fn a_newer_version_is_not_taken_for_damage() {
    let (disk, home) = home();
    saved(&home, 1..=1);
    let path = home.prompt_path("shelf").unwrap();
    let mut bytes = disk.read(&path, MAX_FILE_BYTES).unwrap();
    bytes.truncate(bytes.len() - 32);
    bytes[8] = 9;
    let checksum = blake3::hash(&bytes);
    bytes.extend(checksum.as_bytes());
    disk.write_synced(&path, &bytes, Access::Usual).unwrap();
    assert!(matches!(
        home.load("shelf"),
        Err(StoreError::PromptFile(PromptFileError::NewerVersion {
            version: 9,
            ..
        }))
    ));
}

#[test]
fn a_file_copied_in_from_elsewhere_becomes_a_generation_before_it_is_replaced() {
    let (disk, home) = home();
    saved(&home, 1..=2);
    let mut foreign = seeded(50);
    foreign.provenance.sequence = 1;
    let bytes = format::encode(&foreign).unwrap();
    disk.write_synced(&home.prompt_path("shelf").unwrap(), &bytes, Access::Usual)
        .unwrap();
    assert_eq!(home.save("shelf", &seeded(51)).unwrap().sequence, 4);
    let seeds: Vec<_> = home
        .history("shelf")
        .unwrap()
        .into_iter()
        .map(|g| g.prompt.unwrap().record.seed)
        .collect();
    assert_eq!(seeds, [1, 2, 50, 51]);
}

#[test]
fn what_an_interrupted_process_left_behind_is_cleaned_by_the_next_save() {
    let (disk, home) = home();
    saved(&home, 1..=1);
    let left = [
        home.prompts().join(".shelf.rlp.1.tmp"),
        home.history_folder("shelf").join(".000002.rlp.1.tmp"),
    ];
    for file in &left {
        disk.write_synced(file, b"half", Access::Usual).unwrap();
    }
    assert_eq!((home.list().unwrap().len(), sequences(&home)), (1, vec![1]));
    saved(&home, 2..=2);
    assert!(left.iter().all(|file| disk.read(file, 10).is_err()));
}

#[test]
fn names_that_leave_the_folder_or_hide_in_it_are_refused() {
    let (disk, home) = home();
    let long = "x".repeat(65);
    for name in [
        "", ".", "..", ".x", "-x", "a/b", "a\\b", "a b", "a\0", "a.rlp", &long,
    ] {
        assert!(
            matches!(home.save(name, &record()), Err(StoreError::Name(_))),
            "{name:?}"
        );
    }
    assert_eq!(disk.operations(), 0);
    for name in ["x", "regal-3.nacht", "货架", &long[1..]] {
        home.save(name, &record()).unwrap();
        assert!(home.load(name).is_ok());
    }
}

#[test]
fn a_removed_prompt_is_gone_with_its_history() {
    let (_, home) = home();
    saved(&home, 1..=2);
    home.remove("shelf").unwrap();
    assert!(matches!(
        home.load("shelf"),
        Err(StoreError::Missing(MissingError::Prompt { .. }))
    ));
    assert!(home.list().unwrap().is_empty());
    assert!(matches!(
        home.remove("shelf"),
        Err(StoreError::Missing(MissingError::Prompt { .. }))
    ));
}

#[test]
fn on_a_real_disk_prompts_are_files_that_load_by_path_too() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path().join("deep/home"));
    let saved = home.save("shelf", &seeded(4)).unwrap();
    assert_eq!(
        std::fs::metadata(&saved.path).unwrap().len(),
        saved.bytes as u64
    );
    let elsewhere = folder.path().join("copy.rlp");
    std::fs::copy(&saved.path, &elsewhere).unwrap();
    assert_eq!(
        home.load(elsewhere.to_str().unwrap()).unwrap().record.seed,
        4
    );
    let missing = home
        .load(folder.path().join("none.rlp").to_str().unwrap())
        .unwrap_err();
    assert!(missing.to_string().contains("none.rlp"), "{missing}");
}

#[test]
fn a_second_writer_waits_and_then_says_who_holds_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::new(folder.path());
    home.lock_wait = Duration::from_millis(50);
    saved(&home, 1..=1);
    let lock = home.lock("shelf").unwrap();
    let message = home.save("shelf", &seeded(2)).unwrap_err().to_string();
    assert!(
        message.contains(&format!("process {})", std::process::id())),
        "{message}"
    );
    assert_eq!(seed(&home), 1, "readers do not wait");
    drop(lock);
    saved(&home, 2..=2);
}

#[test]
fn a_home_that_cannot_be_made_is_a_sentence_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let home = Home::new(file.join("home"));
    for error in [
        home.save("shelf", &record()).unwrap_err(),
        home.check_writable().unwrap_err(),
    ] {
        let message = error.to_string();
        assert!(message.contains("cannot write"), "{message}");
        assert!(message.contains("file"), "{message}");
    }
}

#[test]
fn a_full_disk_shows_before_the_work_and_a_good_one_keeps_no_trace_of_the_trial() {
    let (disk, home) = home();
    home.check_writable().unwrap();
    assert!(disk.list(&home.prompts()).unwrap().is_empty());
    disk.fault_at(disk.operations() + 1, Fault::FailFromThere);
    assert!(matches!(
        home.check_writable(),
        Err(StoreError::Disk(DiskError::WriteHome { .. }))
    ));
}

#[test]
fn a_clock_that_jumps_changes_no_order_and_nothing_that_is_used() {
    let (_, home) = home();
    // The year 2106, the first minute of 1970, no clock, and back to a usual day.
    let times = [Some(4_294_967_295), Some(60), None, Some(1_790_000_000)];
    for (seed, created_unix) in (1..).zip(times) {
        let mut record = seeded(seed);
        record.provenance.created_unix = created_unix;
        assert_eq!(home.save("shelf", &record).unwrap().sequence, seed);
        let loaded = home.load("shelf").unwrap();
        assert_eq!((loaded.record.seed, loaded.warning), (seed, None));
    }
    assert_eq!(sequences(&home), [1, 2, 3, 4]);
    assert_eq!(home.rollback("shelf", Some(1)).unwrap().sequence, 5);
    assert_eq!(seed(&home), 1);
}
