use super::*;
use crate::prompt::prototypes::tests::prototypes;
use crate::prompt::record::tests::{record, statistics};

const GOLDEN: &[u8] = include_bytes!("../../../prompts/golden-v1.rlp");
const GOLDEN_V2: &[u8] = include_bytes!("../../../prompts/golden-v2.rlp");
const GOLDEN_V3: &[u8] = include_bytes!("../../../prompts/golden-v3.rlp");

/// A file whose framing and checksum are right, whatever its payload and version.
fn sealed(version: u16, payload: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    file.extend(version.to_le_bytes());
    file.extend((payload.len() as u32).to_le_bytes());
    file.extend(payload);
    file.extend(blake3::hash(&file).as_bytes());
    file
}

fn payload(file: &[u8]) -> &[u8] {
    &file[HEADER_BYTES..file.len() - CHECKSUM_BYTES]
}

#[test]
fn a_prompt_is_opened_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shelf.rlp");
    let missing = Prompt::open(&path);
    assert!(matches!(missing, Err(StoreError::Disk(_))));
    std::fs::write(&path, encode(&record()).unwrap()).unwrap();
    assert_eq!(Prompt::open(&path).unwrap(), record());
}

#[test]
fn every_kind_of_record_comes_back_as_it_was() {
    let low_rank = record();
    let mut full = record();
    full.delta = Delta::Full(low_rank.delta.matrix());
    full.context_singular_values.clear();
    full.calibration = None;
    full.provenance.created_unix = None;
    full.provenance.restores = Some(3);
    full.labels = vec![Label::new("猫", Some("a кошка")).unwrap()];
    let mut watched = low_rank.clone();
    watched.statistics = Some(statistics(0.8, 200));
    let mut cut = low_rank.clone();
    cut.regions = vec!["64,96,192,192".parse().unwrap()];
    let mut both = watched.clone();
    both.regions = ["door=10,20,30,40", "0,0,12.5,100"]
        .map(|region| region.parse().unwrap())
        .to_vec();
    let mut beside = both.clone();
    beside.prototypes = Some(prototypes(10, 64));
    let mut older = beside.clone();
    older.prototypes = Some(prototypes(10, 64).with_sharpness(0.0));
    for record in [low_rank, full, watched, cut, both, beside, older] {
        assert_eq!(decode(&encode(&record).unwrap(), "x.rlp").unwrap(), record);
    }
}

#[test]
fn the_golden_files_are_read_and_written_byte_for_byte() {
    for (version, golden) in [(1, GOLDEN), (2, GOLDEN_V2), (3, GOLDEN_V3)] {
        let record = decode(golden, "golden").unwrap();
        assert_eq!((record.delta.shape(), record.labels.len()), ((4, 512), 10));
        assert_eq!(record.statistics.is_some(), version >= 2);
        assert_eq!(record.regions.len(), if version == 3 { 2 } else { 0 });
        assert_eq!(golden[MAGIC.len()], version);
        assert_eq!(encode(&record).unwrap(), golden);
    }
}

#[test]
fn ten_labels_at_rank_one_and_width_512_stay_below_4_kib() {
    assert!(encode(&record()).unwrap().len() < 4096);
    assert!(GOLDEN.len() < 4096, "{}", GOLDEN.len());
}

#[test]
fn every_flipped_bit_is_refused() {
    for golden in [GOLDEN, GOLDEN_V2, GOLDEN_V3] {
        let mut bytes = golden.to_vec();
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes, "golden").is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(decode(&bytes, "golden").is_ok());
    }
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    for golden in [GOLDEN, GOLDEN_V2, GOLDEN_V3] {
        for length in 0..golden.len() {
            assert!(
                decode(&golden[..length], "golden").is_err(),
                "length {length}"
            );
        }
        assert!(decode(&[golden, &[0]].concat(), "golden").is_err());
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let message = decode(&sealed(VERSION + 1, b"whatever"), "new.rlp")
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("new.rlp") && message.contains("version 4"),
        "{message}"
    );
}

#[test]
fn a_payload_with_the_right_checksum_is_still_checked() {
    let good = encode(&record()).unwrap();
    let refused = |payload: &[u8]| decode(&sealed(1, payload), "x.rlp").unwrap_err();
    assert!(matches!(
        refused(&[payload(&good), &[0]].concat()),
        PromptFileError::Invalid { .. }
    ));
    for length in 0..payload(&good).len() {
        assert!(matches!(
            refused(&payload(&good)[..length]),
            PromptFileError::Invalid { .. }
        ));
    }
    // A length of 2^60 strings or numbers must be refused before anything is allocated for it.
    assert!(matches!(
        refused(&[0xff; 64]),
        PromptFileError::Invalid { .. }
    ));
}

#[test]
fn whatever_a_sealed_payload_says_is_refused_or_can_be_written_again() {
    for (version, golden) in [(1, GOLDEN), (2, GOLDEN_V2), (3, GOLDEN_V3)] {
        let mut bytes = payload(golden).to_vec();
        let mut accepted = 0;
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(record) = decode(&sealed(version, &bytes), "x.rlp") {
                assert!(encode(&record).is_ok(), "bit {bit}");
                accepted += 1;
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        // Most bits are trained numbers, of which nearly every pattern is a number.
        assert!(accepted > 4 * bytes.len(), "{accepted}");
    }
}

#[test]
fn sections_that_are_unknown_twice_or_empty_are_refused() {
    let with = |sections: Vec<(u32, Vec<u8>)>| {
        let sections = sections.into_iter();
        let payload = PayloadV3 {
            trained: trained(&record()),
            sections: sections
                .map(|(kind, content)| Section { kind, content })
                .collect(),
            provenance: Provenance::default(),
        };
        decode(&sealed(3, &postcard::to_stdvec(&payload).unwrap()), "x.rlp")
    };
    let region = |unit: u8| vec![1, 1, b'a', unit, 1, 2, 3, 4];
    let read = with(vec![(REGIONS, region(1))]).unwrap();
    assert_eq!(read.regions[0].to_string(), "a=1,2,3,4px");
    for (sections, words) in [
        (vec![(9, vec![])], "section of kind 9"),
        (vec![(REGIONS, region(1)), (REGIONS, region(1))], "order"),
        (vec![(REGIONS, vec![0])], "has none"),
        (vec![(REGIONS, region(2))], "unit 2"),
        (
            vec![(SHARPNESS, 20.0f32.to_le_bytes().to_vec())],
            "no prototypes",
        ),
        (
            vec![(REGIONS, [region(1), vec![0]].concat())],
            "1 bytes follow",
        ),
    ] {
        let message = with(sections).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn prototypes_of_twelve_labels_and_512_numbers_stay_below_16_kib() {
    let kept = PrototypesV3::of(&prototypes(12, 512));
    let bytes = postcard::to_stdvec(&kept).unwrap();
    assert!(bytes.len() < 16 << 10, "{}", bytes.len());
}

#[test]
fn prototypes_of_other_labels_or_of_rows_cut_short_are_refused() {
    let mut broken = record();
    broken.prototypes = Some(prototypes(9, 8));
    assert!(
        encode(&broken)
            .unwrap_err()
            .to_string()
            .contains("10 labels")
    );
    let mut cut = PrototypesV3::of(&prototypes(10, 8));
    cut.weight.values.pop();
    let section = Section {
        kind: PROTOTYPES,
        content: postcard::to_stdvec(&cut).unwrap(),
    };
    let payload = PayloadV3 {
        trained: trained(&record()),
        sections: vec![section],
        provenance: Provenance::default(),
    };
    let file = sealed(3, &postcard::to_stdvec(&payload).unwrap());
    let message = decode(&file, "x.rlp").unwrap_err().to_string();
    assert!(message.contains("79 numbers"), "{message}");
}

#[test]
fn shapes_that_contradict_the_numbers_are_refused() {
    let mut wire = trained(&record());
    wire.tokens = 5;
    let provenance = Provenance::default();
    let bytes = postcard::to_stdvec(&PayloadV1 {
        trained: wire,
        provenance,
    })
    .unwrap();
    let message = decode(&sealed(1, &bytes), "x.rlp").unwrap_err().to_string();
    assert!(
        message.contains("U has 4 numbers and should have 5 x 1"),
        "{message}"
    );
}

#[test]
fn a_record_that_could_not_be_read_back_is_not_written() {
    let mut broken = record();
    broken.metrics.adapted_accuracy = f32::NAN;
    assert!(encode(&broken).is_err());
}

#[test]
fn the_digest_depends_on_the_training_and_not_on_the_place() {
    let mut elsewhere = record();
    elsewhere.provenance = Provenance::default();
    assert_eq!(digest(&elsewhere).unwrap(), digest(&record()).unwrap());
    elsewhere.seed += 1;
    assert_ne!(digest(&elsewhere).unwrap(), digest(&record()).unwrap());
    let mut watched = record();
    watched.statistics = Some(statistics(0.8, 200));
    assert_ne!(digest(&watched).unwrap(), digest(&record()).unwrap());
    let mut cut = record();
    cut.regions = vec!["1,2,3,4".parse().unwrap()];
    assert_ne!(digest(&cut).unwrap(), digest(&record()).unwrap());
}
