//! The file that holds one model: named tensors and texts behind a checked header (docs/model-bundle.md has every
//! byte). It knows sizes, precisions and checksums; it must not know what the tensors mean.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use ndarray::{Array, ArrayD, ArrayViewD, Axis, Dimension, IxDyn};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The first eight bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"RLPMODEL";
/// The version that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;

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
    #[error(
        "this is not a model bundle: it does not begin with RLPMODEL; make one with `edge-rlp model import`"
    )]
    NotABundle,
    #[error(
        "the model bundle has format version {found}, this program reads up to {VERSION}; use a newer edge-rlp"
    )]
    Newer { found: u32 },
    #[error(
        "the model bundle has {found} bytes where its header says {expected}; it was cut short, copy it again"
    )]
    Truncated { found: u64, expected: u64 },
    #[error("the model bundle is damaged ({what}); copy it again or import the model anew")]
    Damaged { what: String },
    #[error(
        "tensor `{name}` holds values that are not finite, so no bundle is made of it; the model's files are broken"
    )]
    NotFinite { name: String },
    #[error("the model bundle has no tensor `{name}`; import the model anew")]
    Missing { name: String },
    #[error(
        "tensor `{name}` of the model bundle has shape {found:?}, not {rank} axes; import the model anew"
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

/// Collects the tensors of a bundle and then yields its bytes.
#[derive(Clone, Default)]
pub struct BundleWriter {
    entries: Vec<Entry>,
    data: Vec<u8>,
    not_finite: Option<String>,
}

impl BundleWriter {
    fn push(&mut self, bytes: impl IntoIterator<Item = u8>) -> u64 {
        self.data
            .resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        let offset = self.data.len() as u64;
        self.data.extend(bytes);
        offset
    }

    fn entry(&mut self, name: &str, shape: &[usize], encoding: Encoding, offset: u64) {
        let shape = shape.iter().map(|&n| n as u64).collect();
        self.entries.push(Entry {
            name: name.to_owned(),
            shape,
            encoding,
            offset,
        });
    }

    fn notice(&mut self, name: &str, values: &ArrayViewD<f32>) {
        if self.not_finite.is_none() && !values.iter().all(|v| v.is_finite()) {
            self.not_finite = Some(name.to_owned());
        }
    }

    /// Keeps `values` as they are.
    pub fn f32(&mut self, name: &str, values: ArrayViewD<f32>) {
        self.notice(name, &values);
        let offset = self.push(values.iter().flat_map(|v| v.to_le_bytes()));
        self.entry(name, values.shape(), Encoding::F32, offset);
    }

    /// Keeps integers as they are.
    pub fn i64(&mut self, name: &str, values: ArrayViewD<i64>) {
        let offset = self.push(values.iter().flat_map(|v| v.to_le_bytes()));
        self.entry(name, values.shape(), Encoding::I64, offset);
    }

    /// Keeps `values` in eight bits, symmetric, with one scale for each index of `axis`: the largest magnitude becomes
    /// 127.
    pub fn int8(&mut self, name: &str, values: ArrayViewD<f32>, axis: usize) {
        self.notice(name, &values);
        let scales: Vec<f32> = values
            .axis_iter(Axis(axis))
            .map(|channel| channel.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0)
            .collect();
        let mut quotients = values.to_owned();
        for (mut channel, &scale) in quotients.axis_iter_mut(Axis(axis)).zip(&scales) {
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            channel.mapv_inplace(|v| (v * inverse).round());
        }
        let scales = self.push(scales.iter().flat_map(|s| s.to_le_bytes()));
        let offset = self.push(quotients.iter().map(|&q| (q as i8) as u8));
        self.entry(
            name,
            values.shape(),
            Encoding::Int8 {
                axis: axis as u8,
                scales,
            },
            offset,
        );
    }

    /// Keeps a text or any other bytes.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let offset = self.push(bytes.iter().copied());
        self.entry(name, &[bytes.len()], Encoding::Bytes, offset);
    }

    /// The whole file. `description` takes part in the fingerprint, `about` (name, provenance) does not.
    pub fn finish<D: Serialize, A: Serialize>(
        self,
        description: &D,
        about: &A,
    ) -> Result<Vec<u8>, BundleError> {
        if let Some(name) = self.not_finite {
            return Err(BundleError::NotFinite { name });
        }
        let encode =
            |error: postcard::Error| damaged(format!("its header cannot be written: {error}"));
        let description = postcard::to_stdvec(description).map_err(encode)?;
        let table = postcard::to_stdvec(&self.entries).map_err(encode)?;
        let about = postcard::to_stdvec(about).map_err(encode)?;
        let identity = [&description[..], &table].concat();
        let start = (PRELUDE + identity.len() + about.len()).next_multiple_of(ALIGNMENT);
        let mut file = Vec::with_capacity(start + self.data.len());
        file.extend(MAGIC);
        for number in [
            VERSION,
            description.len() as u32,
            table.len() as u32,
            about.len() as u32,
        ] {
            file.extend(number.to_le_bytes());
        }
        file.extend(((start + self.data.len()) as u64).to_le_bytes());
        file.extend(fingerprint(&identity, &self.data).0);
        file.extend([0; PRELUDE - CHECKED]);
        file.extend(&identity);
        file.extend(&about);
        file.resize(start, 0);
        let checksum = checksum(&file, PRELUDE + identity.len());
        file[CHECKED..PRELUDE].copy_from_slice(&checksum);
        file.extend(self.data);
        Ok(file)
    }
}

fn fingerprint(identity: &[u8], data: &[u8]) -> Fingerprint {
    Fingerprint(
        *blake3::Hasher::new()
            .update(identity)
            .update(data)
            .finalize()
            .as_bytes(),
    )
}

/// Of what the fingerprint leaves out: the prelude before the checksum, and all from `about` up to the data.
fn checksum(header: &[u8], about: usize) -> [u8; 32] {
    *blake3::Hasher::new()
        .update(&header[..CHECKED])
        .update(&header[about..])
        .finalize()
        .as_bytes()
}

#[derive(Clone)]
enum Storage {
    Mapped(Arc<Mmap>),
    Static(&'static [u8]),
    Owned(Arc<[u8]>),
}

impl Storage {
    fn bytes(&self) -> &[u8] {
        match self {
            Storage::Mapped(map) => map,
            Storage::Static(bytes) => bytes,
            Storage::Owned(bytes) => bytes,
        }
    }
}

/// An open bundle. Its bytes stay where they are (memory map, program image) until a tensor is asked for.
#[derive(Clone)]
pub struct Bundle {
    storage: Storage,
    entries: BTreeMap<String, Entry>,
    description: Range<usize>,
    about: Range<usize>,
    data: usize,
    fingerprint: Fingerprint,
}

impl Bundle {
    /// Maps the file at `path` into memory and checks all of it.
    pub fn open(path: &Path) -> Result<Bundle, BundleError> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Err(BundleError::NotABundle);
        }
        // SAFETY: a map is undefined behaviour only if the file changes under it. Bundles are never written in place:
        // an import writes a temporary file and renames it, which leaves a mapped file as it was. Should something
        // else write into it all the same, the bytes are only ever read as plain numbers, within bounds that were
        // checked against the length of the map.
        let map = unsafe { Mmap::map(&file)? };
        Bundle::check(Storage::Mapped(Arc::new(map)))
    }

    /// Reads a bundle that is part of the program.
    pub fn from_static(bytes: &'static [u8]) -> Result<Bundle, BundleError> {
        Bundle::check(Storage::Static(bytes))
    }

    /// Reads a bundle from memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Bundle, BundleError> {
        Bundle::check(Storage::Owned(bytes.into()))
    }

    fn check(storage: Storage) -> Result<Bundle, BundleError> {
        let bytes = storage.bytes();
        if !bytes.starts_with(&MAGIC) {
            return Err(BundleError::NotABundle);
        }
        let found = bytes.len() as u64;
        let number = |at: usize| {
            let field = bytes
                .get(at..at + 4)
                .and_then(|field| field.try_into().ok())
                .map(u32::from_le_bytes);
            field.ok_or(BundleError::Truncated {
                found,
                expected: PRELUDE as u64,
            })
        };
        let version = number(8)?;
        if version > VERSION {
            return Err(BundleError::Newer { found: version });
        }
        let lengths = [
            number(12)? as usize,
            number(16)? as usize,
            number(20)? as usize,
        ];
        let expected = u64::from(number(24)?) | u64::from(number(28)?) << 32;
        if found < PRELUDE as u64 || found != expected {
            return Err(BundleError::Truncated {
                found,
                expected: expected.max(PRELUDE as u64),
            });
        }
        if lengths.iter().any(|&length| length > MAX_HEADER) {
            return Err(damaged("its header is larger than any model's"));
        }
        let description = PRELUDE..PRELUDE + lengths[0];
        let table = description.end..description.end + lengths[1];
        let about = table.end..table.end + lengths[2];
        let data = about.end.next_multiple_of(ALIGNMENT);
        let header = bytes
            .get(..data)
            .ok_or_else(|| damaged("its header is longer than the file"))?;
        if checksum(header, about.start) != header[CHECKED..PRELUDE] {
            return Err(damaged("the checksum of its header does not fit"));
        }
        let fingerprint = fingerprint(&header[PRELUDE..table.end], &bytes[data..]);
        if fingerprint.0 != header[CHECKED - 32..CHECKED] {
            return Err(damaged("its weights do not fit its fingerprint"));
        }
        let entries: Vec<Entry> = decode(&header[table], "the table of tensors")?;
        let entries = entries
            .into_iter()
            .map(|entry| (entry.name.clone(), entry))
            .collect();
        Ok(Bundle {
            entries,
            description,
            about,
            data,
            fingerprint,
            storage,
        })
    }

    /// What tells this model from every other.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> usize {
        self.storage.bytes().len()
    }

    /// What [`BundleWriter::finish`] was given as `description`.
    pub fn description<D: DeserializeOwned>(&self) -> Result<D, BundleError> {
        decode(
            &self.storage.bytes()[self.description.clone()],
            "the description of the model",
        )
    }

    /// What [`BundleWriter::finish`] was given as `about`.
    pub fn about<A: DeserializeOwned>(&self) -> Result<A, BundleError> {
        decode(
            &self.storage.bytes()[self.about.clone()],
            "the name and provenance of the model",
        )
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Numbers kept as floats.
    pub fn parameters(&self) -> u64 {
        let numbers = self
            .entries
            .values()
            .filter(|e| matches!(e.encoding, Encoding::F32 | Encoding::Int8 { .. }));
        numbers
            .map(|entry| entry.shape.iter().product::<u64>())
            .sum()
    }

    fn entry(&self, name: &str) -> Result<&Entry, BundleError> {
        self.entries.get(name).ok_or_else(|| BundleError::Missing {
            name: name.to_owned(),
        })
    }

    /// `count` numbers of `size` bytes at `offset` of the data, within bounds.
    fn slice(&self, name: &str, offset: u64, count: u64, size: u64) -> Result<&[u8], BundleError> {
        let data = &self.storage.bytes()[self.data..];
        let end = count
            .checked_mul(size)
            .and_then(|length| length.checked_add(offset));
        end.and_then(|end| data.get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?))
            .ok_or_else(|| damaged(format!("tensor `{name}` reaches beyond the end")))
    }

    /// The shape of an entry and how many numbers that is.
    fn shape(&self, entry: &Entry) -> Result<(Vec<usize>, u64), BundleError> {
        let count = entry
            .shape
            .iter()
            .try_fold(1u64, |count, &n| count.checked_mul(n));
        let shape: Option<Vec<usize>> = entry
            .shape
            .iter()
            .map(|&n| usize::try_from(n).ok())
            .collect();
        match (shape, count) {
            (Some(shape), Some(count)) if shape.len() <= MAX_RANK => Ok((shape, count)),
            _ => Err(damaged(format!(
                "tensor `{}` has an impossible shape",
                entry.name
            ))),
        }
    }

    /// The tensor `name` as floats; integers are multiplied by their scales.
    pub fn f32(&self, name: &str) -> Result<ArrayD<f32>, BundleError> {
        let entry = self.entry(name)?;
        let (shape, count) = self.shape(entry)?;
        let floats = |bytes: &[u8]| -> Vec<f32> { numbers(bytes, f32::from_le_bytes) };
        let values = match entry.encoding {
            Encoding::F32 => floats(self.slice(name, entry.offset, count, 4)?),
            Encoding::Int8 { axis, scales } => {
                let axis = usize::from(axis);
                let channels = *entry
                    .shape
                    .get(axis)
                    .ok_or_else(|| damaged(format!("tensor `{name}` has no axis {axis}")))?;
                let scales = floats(self.slice(name, scales, channels, 4)?);
                let bytes = self.slice(name, entry.offset, count, 1)?;
                let inner: usize = shape[axis + 1..].iter().product();
                let runs = bytes.chunks_exact(inner.max(1)).zip(scales.iter().cycle());
                runs.flat_map(|(run, &scale)| run.iter().map(move |&q| f32::from(q as i8) * scale))
                    .collect()
            }
            Encoding::I64 | Encoding::Bytes => {
                return Err(damaged(format!("tensor `{name}` does not hold floats")));
            }
        };
        ArrayD::from_shape_vec(IxDyn(&shape), values)
            .map_err(|error| damaged(format!("tensor `{name}`: {error}")))
    }

    /// The tensor `name` as floats of a known rank.
    pub fn array<D: Dimension>(&self, name: &str) -> Result<Array<f32, D>, BundleError> {
        let array = self.f32(name)?;
        let found = array.shape().to_vec();
        let rank = D::NDIM.unwrap_or(found.len());
        array.into_dimensionality().map_err(|_| BundleError::Rank {
            name: name.to_owned(),
            found,
            rank,
        })
    }

    /// The integers `name`, or nothing where `name` holds something else.
    pub fn i64(&self, name: &str) -> Result<Option<ArrayD<i64>>, BundleError> {
        let entry = self.entry(name)?;
        if entry.encoding != Encoding::I64 {
            return Ok(None);
        }
        let (shape, count) = self.shape(entry)?;
        let values = numbers(
            self.slice(name, entry.offset, count, 8)?,
            i64::from_le_bytes,
        );
        let array = ArrayD::from_shape_vec(IxDyn(&shape), values);
        array
            .map(Some)
            .map_err(|error| damaged(format!("tensor `{name}`: {error}")))
    }

    /// The text or bytes `name`.
    pub fn bytes(&self, name: &str) -> Result<&[u8], BundleError> {
        let entry = self.entry(name)?;
        let (_, count) = self.shape(entry)?;
        self.slice(name, entry.offset, count, 1)
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, BundleError> {
    postcard::from_bytes(bytes)
        .map_err(|error| damaged(format!("{what} cannot be decoded: {error}")))
}

fn numbers<const SIZE: usize, T>(bytes: &[u8], number: fn([u8; SIZE]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<SIZE>()
        .0
        .iter()
        .map(|&chunk| number(chunk))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Array3, Ix1, Ix2, array};

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
        writer.finish(&(7u32, "description"), &"about").unwrap()
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
            let read = Bundle::from_bytes(writer.finish(&(), &()).unwrap())
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
    fn a_newer_version_and_other_files_are_named() {
        let mut file = sample();
        file[8] = 2;
        assert!(matches!(
            Bundle::from_bytes(file),
            Err(BundleError::Newer { found: 2 })
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
            Bundle::from_bytes(writer.finish(&description, &about).unwrap())
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
            let mut writer = BundleWriter {
                data: vec![0; 64],
                ..BundleWriter::default()
            };
            writer.entries.push(Entry {
                name: "w".into(),
                shape,
                encoding,
                offset,
            });
            let bundle = Bundle::from_bytes(writer.finish(&(), &()).unwrap()).unwrap();
            assert!(
                matches!(bundle.f32("w"), Err(BundleError::Damaged { .. })),
                "{encoding:?}"
            );
        }
    }
}
