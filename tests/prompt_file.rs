//! `docs/prompt-file.md` against a real file: every row of its last table is at the place and has the bytes and the
//! value that it says, the rows leave out nothing, and the library reads the same from them.

use edge_rlp::prompt::Delta;
use edge_rlp::store;

const PAGE: &str = include_str!("../docs/prompt-file.md");
const GOLDEN: &[u8] = include_bytes!("../prompts/golden-v1.rlp");
const GOLDEN_V2: &[u8] = include_bytes!("../prompts/golden-v2.rlp");
const GOLDEN_V3: &[u8] = include_bytes!("../prompts/golden-v3.rlp");
const GOLDEN_V3_PROTOTYPES: &[u8] = include_bytes!("../prompts/golden-v3-prototypes.rlp");

struct Row<'a> {
    field: &'a str,
    value: &'a str,
    documented: &'a str,
    bytes: &'a [u8],
}

/// The rows of the table, each with its bytes of the file; panics where they overlap or leave a gap.
fn rows() -> Vec<Row<'static>> {
    let (_, table) = PAGE
        .split_once("| offset | length | bytes | field | value |")
        .unwrap();
    let mut next = 0;
    let mut rows = Vec::new();
    for line in table.lines().skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [offset, length, documented, field, value] = cells[..] else {
            panic!("{line}")
        };
        assert_eq!(offset.parse(), Ok(next), "{line}");
        let bytes = &GOLDEN[next..next + length.parse::<usize>().unwrap()];
        next += bytes.len();
        rows.push(Row {
            field,
            value,
            documented: documented.trim_matches('`'),
            bytes,
        });
    }
    assert_eq!(next, GOLDEN.len());
    rows
}

/// The number that the bytes are, as the page defines its forms.
fn number(row: &Row) -> u64 {
    let fixed = matches!(row.field, "version" | "payload length");
    let bits = if fixed { 8 } else { 7 };
    row.bytes.iter().rev().fold(0, |number, byte| {
        (number << bits) | (u64::from(*byte) & ((1 << bits) - 1))
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect()
}

#[test]
fn every_documented_byte_and_value_is_in_the_file() {
    let mut checked = 0;
    for row in rows() {
        let hex: Vec<String> = row
            .bytes
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let more = if row.bytes.len() > 8 { " ..." } else { "" };
        assert_eq!(
            format!("{}{more}", hex.join(" ")),
            row.documented,
            "{}",
            row.field
        );

        let plain = row.value.split(':').next().unwrap_or_default();
        if let Ok(value) = plain.parse::<u64>() {
            assert_eq!(number(&row), value, "{}", row.field);
        } else if let Ok(value) = row.value.parse::<f32>() {
            assert_eq!(floats(row.bytes), [value], "{}", row.field);
        } else if let Some(text) = row.value.strip_prefix('`').filter(|_| row.field != "magic") {
            assert_eq!(
                std::str::from_utf8(row.bytes),
                Ok(text.trim_end_matches('`')),
                "{}",
                row.field
            );
        } else {
            continue;
        }
        checked += 1;
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn the_library_reads_what_the_page_says() {
    let record = store::decode(GOLDEN, "golden-v1.rlp").unwrap();
    let rows = rows();
    let row = |field: &str| rows.iter().find(|row| row.field == field).unwrap();
    let Delta::LowRank(factors) = &record.delta else {
        panic!("the golden prompt is of low rank")
    };
    assert_eq!(factors.u.as_slice().unwrap(), floats(row("U").bytes));
    assert_eq!(factors.v.as_slice().unwrap(), floats(row("V").bytes));
    assert_eq!(record.model_fingerprint, row("model fingerprint").bytes);
    assert_eq!(record.provenance.sequence, number(row("sequence")));
    assert_eq!(
        record.provenance.created_unix,
        Some(number(row("seconds since 1970")))
    );
    assert_eq!(record.labels[8].words, "spanner");
    let sealed = &GOLDEN[..GOLDEN.len() - 32];
    assert_eq!(row("checksum").bytes, blake3::hash(sealed).as_bytes());
}

#[test]
fn version_2_is_version_1_with_statistics_before_the_provenance() {
    let record = store::decode(GOLDEN_V2, "golden-v2.rlp").unwrap();
    let statistics = record.statistics.unwrap();
    let mut inserted = vec![statistics.mean.len() as u8];
    inserted.extend(statistics.mean.iter().flat_map(|x| x.to_le_bytes()));
    inserted.extend(statistics.spread.to_le_bytes());
    // 200 as a varint.
    inserted.extend([0xc8, 0x01]);
    assert_eq!(statistics.pictures, 200);

    let rows = rows();
    let device = rows.iter().position(|row| row.field == "device: bytes");
    let device = rows[..device.unwrap()]
        .iter()
        .map(|row| row.bytes.len())
        .sum();
    let payload = [
        &GOLDEN[14..device],
        &inserted,
        &GOLDEN[device..GOLDEN.len() - 32],
    ]
    .concat();
    assert_eq!(GOLDEN_V2[8..10], [2, 0]);
    assert_eq!(&GOLDEN_V2[14..GOLDEN_V2.len() - 32], payload);
}

#[test]
fn version_3_is_version_2_with_its_statistics_and_regions_as_sections() {
    let record = store::decode(GOLDEN_V3, "golden-v3.rlp").unwrap();
    let shown: Vec<String> = record.regions.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["door=10,20,30,40%", "64,96,192,192px"]);

    // Version 1 has neither, so what it has in common with version 2 shows where the statistics lie.
    let (before, after) = (&GOLDEN[14..2344], &GOLDEN[2344..GOLDEN.len() - 32]);
    let statistics = &GOLDEN_V2[2344..GOLDEN_V2.len() - 32 - after.len()];
    let mut regions = vec![2, 4];
    regions.extend(b"door");
    // Unit 0, hundredths of a per cent: 1000, 2000, 3000 and 4000 as varints.
    regions.extend([0, 0xe8, 7, 0xd0, 0x0f, 0xb8, 0x17, 0xa0, 0x1f]);
    // No name, unit 1, pixels: 64, 96, 192 and 192.
    regions.extend([0, 1, 64, 96, 0xc0, 1, 0xc0, 1]);
    let section = |kind: u8, content: &[u8]| [&[kind, content.len() as u8], content].concat();
    let sections = [vec![2], section(1, statistics), section(2, &regions)].concat();
    assert_eq!(GOLDEN_V3[8..10], [3, 0]);
    assert_eq!(
        GOLDEN_V3[14..GOLDEN_V3.len() - 32],
        [before, &sections, after].concat()
    );
}

#[test]
fn prototypes_and_their_sharpness_are_sections_behind_those_of_version_3() {
    let record = store::decode(GOLDEN_V3_PROTOTYPES, "golden-v3-prototypes.rlp").unwrap();
    let prototypes = record.prototypes.as_ref().unwrap();
    assert_eq!(prototypes.sharpness, 20.0);
    let means = prototypes.means.table();
    assert_eq!(means.dim(), (10, 8));
    for (place, expected) in [([0, 4], 1.0), ([1, 0], 0.25), ([9, 3], 0.0)] {
        assert!(
            (means[place] - expected).abs() < 0.005,
            "{place:?}: {}",
            means[place]
        );
    }
    assert_eq!(prototypes.bias[2], -0.02);
    assert_eq!(store::encode(&record).unwrap(), GOLDEN_V3_PROTOTYPES);
    // Without them it is the file before.
    let mut without = record;
    without.prototypes = None;
    assert_eq!(store::encode(&without).unwrap(), GOLDEN_V3);
}
