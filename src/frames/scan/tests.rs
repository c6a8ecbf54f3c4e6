//! Whole, cut and damaged pictures of all kinds.

use super::*;
use crate::frames::{MAX_PIXELS, PictureError, decode_picture};

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

/// All JPEG pictures among the fixtures.
fn pictures() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in ["", "lost/"] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/").to_owned();
        for entry in std::fs::read_dir(path + folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".jpg") && !name.starts_with("broken") && !name.starts_with("tail") {
                let name = format!("{folder}{name}");
                let bytes = fixture(&name);
                found.push((name, bytes));
            }
        }
    }
    assert!(found.len() >= 16, "{}", found.len());
    found
}

#[test]
fn whole_pictures_of_all_kinds_lack_nothing() {
    for (name, bytes) in pictures() {
        let mut tables = Tables::default();
        let scan = tables.read(&bytes).expect(&name);
        let units = tables.units(&scan.components).expect(&name);
        let size = Size {
            units,
            interval: tables.interval,
            enough: units,
        };
        let blocks = tables.blocks(&scan).expect(&name);
        let lost = lost_units(scan.data, &blocks, size, |_, _, _| {});
        assert_eq!(lost, 0, "{name}: of {units} units");
    }
}

#[test]
fn a_picture_whose_scan_is_cut_before_its_end_marker_is_not_half_grey() {
    for name in [
        "lost/whole.jpg",
        "lost/restarts.jpg",
        "lost/progressive.jpg",
    ] {
        let whole = fixture(name);
        let begin = whole
            .windows(2)
            .position(|pair| pair == [0xff, 0xda])
            .unwrap();
        let after = |share: f64| begin + ((whole.len() - begin) as f64 * share) as usize;
        for (share, lost) in [(0.02, true), (0.3, true), (0.7, true), (0.999, false)] {
            // A progressive picture is there in outline once its first scan is.
            let lost = lost && !(name == "lost/progressive.jpg" && share > 0.2);
            let cut = [&whole[..after(share)], &[0xff, 0xd9]].concat();
            match decode_picture(&cut, MAX_PIXELS) {
                Err(PictureError::Lost(_)) => assert!(lost, "{name}, {share}"),
                Err(error) => panic!("{name}, {share}: {error}"),
                Ok(_) => assert!(!lost, "{name}, {share}"),
            }
        }
    }
}

#[test]
fn the_share_that_is_missing_is_that_of_the_blocks() {
    let lost = share_lost(&fixture("lost/tail.jpg")).unwrap();
    assert!((0.4..0.6).contains(&lost), "{lost}");
    // One interval of six is gone, from its marker to the next.
    let restarts = fixture("lost/restarts.jpg");
    let marker = |number: u8| {
        restarts
            .windows(2)
            .position(|pair| pair == [0xff, number])
            .unwrap()
    };
    let cut = [&restarts[..marker(0xd1)], &restarts[marker(0xd2)..]].concat();
    let lost = share_lost(&cut).unwrap();
    assert!((0.1..0.3).contains(&lost), "{lost}");
}

#[test]
fn no_flipped_or_missing_byte_panics() {
    for name in ["lost/restarts.jpg", "lost/progressive.jpg", "cmyk.jpg"] {
        let bytes = fixture(name);
        for at in 0..bytes.len() {
            let _ = share_lost(&bytes[..at]);
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let _ = (share_lost(&flipped), grey_blocks(&flipped));
        }
    }
}
