//! The file that holds one model: named tensors and texts behind a checked header (docs/model-bundle.md has every
//! byte). It knows sizes, precisions and checksums, and nothing of what the tensors mean.

mod read;
mod rows;
mod write;

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use read::{Bundle, Header, Int8View};
pub use rows::RowTable;
pub use write::{BundleWriter, replace_about};

/// The first eight bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"RLPMODEL";
/// The newest version that this program writes and reads. Version 1, which models with causal text towers keep, differs
/// in the description only; version 3 may have a pooling head.
pub const VERSION: u32 = 3;

const PRELUDE: usize = 96;
const CHECKED: usize = 64;
const ALIGNMENT: usize = 64;
const MAX_HEADER: usize = 16 << 20;
const MAX_RANK: usize = 8;

/// Why a bundle cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BundleError {
    #[error("cannot read the model bundle: {0}")]
    Io(#[from] io::Error),
    #[error("this is not a model bundle: it does not begin with RLPMODEL")]
    NotABundle,
    #[error(
        "the model bundle has format version {found}, newer than {VERSION}, the newest that is understood"
    )]
    Newer { found: u32 },
    #[error(
        "the model bundle has {found} bytes where its header says {expected}; it was cut short, copy it again"
    )]
    Truncated { found: u64, expected: u64 },
    #[error("the model bundle is damaged ({what}); copy it again or import the model again")]
    Damaged { what: String },
    #[error(
        "tensor `{name}` holds values that are not finite, so no bundle is made of it; the model's files are broken"
    )]
    NotFinite { name: String },
    #[error("the model bundle has no tensor `{name}`; import the model again")]
    Missing { name: String },
    #[error(
        "tensor `{name}` of the model bundle has shape {found:?}, not {rank} axes; import the model again"
    )]
    Rank {
        name: String,
        found: Vec<usize>,
        rank: usize,
    },
}

fn damaged(what: impl Into<String>) -> BundleError {
    BundleError::Damaged { what: what.into() }
}

/// BLAKE3 of everything that decides what a model computes: its description and its data, not its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// How the numbers of an entry are kept. Offsets count from the start of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Encoding {
    F32,
    I64,
    /// `q * scale`, one f32 scale for each index of `axis`.
    Int8 {
        axis: u8,
        scales: u64,
    },
    Bytes,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    name: String,
    shape: Vec<u64>,
    encoding: Encoding,
    offset: u64,
}

/// Of a bundle whose data comes in pieces.
fn fingerprint<'a>(identity: &[u8], data: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    hasher.update(identity);
    for piece in data {
        hasher.update_rayon(piece);
    }
    Fingerprint(*hasher.finalize().as_bytes())
}

/// Of what the fingerprint leaves out: the prelude before the checksum, and all from `about` up to the data.
fn checksum(header: &[u8], about: usize) -> [u8; 32] {
    *blake3::Hasher::new()
        .update(&header[..CHECKED])
        .update(&header[about..])
        .finalize()
        .as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Array3, Axis, Ix1, Ix2, array};

    fn sample() -> Vec<u8> {
        let mut writer = BundleWriter::default();
        writer.f32("bias", array![1.0, -2.5, 3.25].view().into_dyn());
        writer.int8(
            "weight",
            Array2::from_shape_fn((3, 40), |(r, c)| (r * 40 + c) as f32 - 50.0)
                .view()
                .into_dyn(),
            0,
        );
        writer.i64("shape", array![1i64, -7].view().into_dyn());
        writer.bytes("text", b"hello");
        writer.finish(1, &(7u32, "description"), &"about").unwrap()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let bundle = Bundle::from_bytes(sample()).unwrap();
        assert_eq!(
            bundle.array::<Ix1>("bias").unwrap(),
            array![1.0, -2.5, 3.25]
        );
        assert_eq!(
            bundle.i64("shape").unwrap().unwrap(),
            array![1i64, -7].into_dyn()
        );
        assert_eq!(bundle.i64("bias").unwrap(), None);
        let weight = bundle.int8("weight").unwrap().unwrap();
        assert_eq!((weight.values.shape(), weight.axis), (&[3, 40][..], 0));
        // Whole numbers stay what they are.
        assert_eq!((weight.values[[0, 0]], weight.scales[0]), (-50, 1.0));
        assert_eq!(bundle.int8("bias").unwrap(), None);
        assert_eq!(bundle.bytes("text").unwrap(), b"hello");
        assert_eq!(
            bundle.description::<(u32, String)>().unwrap(),
            (7, "description".into())
        );
        assert_eq!(bundle.about::<String>().unwrap(), "about");
        assert_eq!(bundle.parameters(), 123);
        assert!(matches!(
            bundle.f32("none"),
            Err(BundleError::Missing { .. })
        ));
        assert!(matches!(
            bundle.array::<Ix2>("bias"),
            Err(BundleError::Rank { rank: 2, .. })
        ));
    }

    #[test]
    fn eight_bits_err_by_at_most_half_a_step_on_any_axis() {
        let values = Array3::from_shape_fn((4, 3, 5), |(a, b, c)| {
            ((a * 31 + b * 17 + c * 7) % 23) as f32 - 9.3
        });
        for axis in 0..3 {
            let mut writer = BundleWriter::default();
            writer.int8("w", values.view().into_dyn(), axis);
            let read = Bundle::from_bytes(writer.finish(1, &(), &()).unwrap())
                .unwrap()
                .f32("w")
                .unwrap();
            for (before, after) in values.axis_iter(Axis(axis)).zip(read.axis_iter(Axis(axis))) {
                let step = before.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0;
                assert!(
                    before
                        .iter()
                        .zip(&after)
                        .all(|(b, a)| (b - a).abs() <= step * 0.5001),
                    "axis {axis}"
                );
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let file = sample();
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(Bundle::from_bytes(damaged).is_err(), "byte {at}");
            assert!(
                Bundle::from_bytes(file[..at].to_vec()).is_err(),
                "cut at {at}"
            );
        }
        assert!(matches!(
            Bundle::from_bytes(file[..70].to_vec()),
            Err(BundleError::Truncated { .. })
        ));
    }

    #[test]
    fn the_header_alone_tells_what_the_whole_does_and_is_checked_without_the_weights() {
        let file = sample();
        let (header, bundle) = (
            Header::of(&file).unwrap(),
            Bundle::from_bytes(file.clone()).unwrap(),
        );
        assert_eq!(header.fingerprint, bundle.fingerprint());
        assert_eq!(header.size, file.len());
        assert_eq!(header.about::<String>().unwrap(), "about");
        let mut damaged = file.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(Header::of(&damaged).is_ok() && Bundle::from_bytes(damaged).is_err());
        for at in (0..PRELUDE).chain([bundle.size() - 1]) {
            assert!(Header::of(&file[..at]).is_err(), "cut at {at}");
        }
        for at in 0..PRELUDE {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(Header::of(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_version_and_other_files_are_named() {
        let mut file = sample();
        file[8] = 4;
        assert!(matches!(
            Bundle::from_bytes(file),
            Err(BundleError::Newer { found: 4 })
        ));
        assert!(matches!(
            Bundle::from_bytes(b"PK\x03\x04".to_vec()),
            Err(BundleError::NotABundle)
        ));
    }

    #[test]
    fn the_fingerprint_depends_on_weights_and_description_but_not_on_the_name() {
        let make = |weight: f32, description: u32, about: &str| {
            let mut writer = BundleWriter::default();
            writer.f32("w", array![weight].view().into_dyn());
            Bundle::from_bytes(writer.finish(1, &description, &about).unwrap())
                .unwrap()
                .fingerprint()
        };
        assert_eq!(make(1.0, 1, "a"), make(1.0, 1, "b"));
        assert_ne!(make(1.0, 1, "a"), make(1.5, 1, "a"));
        assert_ne!(make(1.0, 1, "a"), make(1.0, 2, "a"));
    }

    #[test]
    fn a_table_that_lies_within_a_sound_checksum_is_refused() {
        for (shape, encoding, offset) in [
            (vec![1 << 40], Encoding::F32, 0),
            (vec![u64::MAX, u64::MAX], Encoding::F32, 0),
            (vec![2], Encoding::F32, u64::MAX),
            (vec![2, 2], Encoding::Int8 { axis: 5, scales: 0 }, 0),
            (
                vec![2, 2],
                Encoding::Int8 {
                    axis: 0,
                    scales: 1 << 50,
                },
                0,
            ),
            (vec![0, 1 << 62], Encoding::Int8 { axis: 1, scales: 0 }, 0),
        ] {
            let entry = Entry {
                name: "w".into(),
                shape,
                encoding,
                offset,
            };
            let writer = BundleWriter::forged(vec![entry], vec![0; 64]);
            let bundle = Bundle::from_bytes(writer.finish(1, &(), &()).unwrap()).unwrap();
            assert!(
                matches!(bundle.f32("w"), Err(BundleError::Damaged { .. })),
                "{encoding:?}"
            );
        }
    }
}
