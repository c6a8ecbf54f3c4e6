//! Opens a bundle by memory map, checks all of it, and hands out its tensors.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use ndarray::{Array, Array1, ArrayD, ArrayViewD, Dimension, IxDyn};
use serde::de::DeserializeOwned;

use crate::files;
use crate::host::memory;
use crate::ops::matrix::Bytes;

use super::{
    ALIGNMENT, BundleError, CHECKED, Encoding, Entry, Fingerprint, MAGIC, MAX_HEADER, MAX_RANK,
    PRELUDE, VERSION, checksum, damaged, fingerprint,
};

#[derive(Clone)]
pub(super) enum Storage {
    Mapped(Arc<Mmap>),
    Static(&'static [u8]),
    Owned(Arc<[u8]>),
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

impl Bytes for Storage {
    fn bytes(&self) -> &[u8] {
        self.bytes()
    }

    fn release(&self, bytes: Range<usize>) {
        self.release(bytes);
    }
}

impl Storage {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Storage::Mapped(map) => map,
            Storage::Static(bytes) => bytes,
            Storage::Owned(bytes) => bytes,
        }
    }
}

impl Storage {
    /// Gives the memory of these bytes back, if they are a file's: reading them again reads the file again.
    fn release(&self, bytes: Range<usize>) {
        if let Storage::Mapped(map) = self {
            memory::release(map, bytes);
        }
    }
}

/// How much of the data is hashed at a time.
const PIECE: usize = 4 << 20;

/// A tensor in eight bits: `value * scale`, one scale for each index of `axis`.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8View<'a> {
    pub values: ArrayViewD<'a, i8>,
    pub scales: Array1<f32>,
    pub axis: usize,
}

/// An open bundle. Its bytes stay where they are (memory map, program image) until a tensor is asked for.
#[derive(Clone)]
pub struct Bundle {
    storage: Storage,
    entries: BTreeMap<String, Entry>,
    parts: Parts,
}

/// Where in a bundle what lies, and what its header says of the whole.
#[derive(Clone)]
struct Parts {
    version: u32,
    description: Range<usize>,
    table: Range<usize>,
    about: Range<usize>,
    data: usize,
    fingerprint: Fingerprint,
}

impl Parts {
    /// Checks magic, version, length and the header's checksum, which covers the fingerprint and `about`. Whether
    /// description, table and data fit the fingerprint is not looked at.
    fn of(bytes: &[u8]) -> Result<Parts, BundleError> {
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
        let mut fingerprint = Fingerprint([0; 32]);
        fingerprint
            .0
            .copy_from_slice(&header[CHECKED - 32..CHECKED]);
        Ok(Parts {
            version,
            description,
            table,
            about,
            data,
            fingerprint,
        })
    }
}

/// What a bundle says of itself, read without looking at its weights: quick, whatever their size.
pub struct Header {
    pub fingerprint: Fingerprint,
    /// Bytes of the whole file.
    pub size: usize,
    about: Vec<u8>,
}

impl Header {
    /// The header of the bundle at `path`. It is whole, and so is the file's length; the weights may be damaged.
    pub fn read(path: &Path) -> Result<Header, BundleError> {
        Header::of(map(path)?.bytes())
    }

    /// The header of a bundle in memory.
    pub fn of(bytes: &[u8]) -> Result<Header, BundleError> {
        let parts = Parts::of(bytes)?;
        Ok(Header {
            fingerprint: parts.fingerprint,
            size: bytes.len(),
            about: bytes[parts.about].to_vec(),
        })
    }

    /// What [`finish`](super::BundleWriter::finish)(super::BundleWriter::finish) was given as `about`.
    pub fn about<A: DeserializeOwned>(&self) -> Result<A, BundleError> {
        decode(&self.about, ABOUT)
    }
}

/// The file at `path` in memory, by map.
fn map(path: &Path) -> Result<Storage, BundleError> {
    let file = files::open(path)?;
    if file.metadata()?.len() == 0 {
        return Err(BundleError::NotABundle);
    }
    Ok(Storage::Mapped(Arc::new(memory::map(&file)?)))
}

const ABOUT: &str = "the name and provenance of the model";

impl Bundle {
    /// Maps the file at `path` into memory and checks all of it.
    pub fn open(path: &Path) -> Result<Bundle, BundleError> {
        Bundle::check(map(path)?)
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
        let parts = Parts::of(bytes)?;
        let header = &bytes[..parts.data];
        // A map's pages count as this program's memory once they were read, so each piece is given back at once.
        let pieces = (parts.data..bytes.len()).step_by(PIECE).map(|start| {
            let end = bytes.len().min(start + PIECE);
            storage.release(start.saturating_sub(PIECE)..start);
            &bytes[start..end]
        });
        let found = fingerprint(&header[PRELUDE..parts.table.end], pieces);
        storage.release(0..bytes.len());
        if found != parts.fingerprint {
            return Err(damaged("its weights do not fit its fingerprint"));
        }
        let entries: Vec<Entry> = decode(&header[parts.table.clone()], "the table of tensors")?;
        let entries = entries
            .into_iter()
            .map(|entry| (entry.name.clone(), entry))
            .collect();
        Ok(Bundle {
            entries,
            parts,
            storage,
        })
    }

    /// The version of its format.
    pub fn version(&self) -> u32 {
        self.parts.version
    }

    /// Of everything that decides what the model computes.
    pub fn fingerprint(&self) -> Fingerprint {
        self.parts.fingerprint
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> usize {
        self.storage.bytes().len()
    }

    /// What [`finish`](super::BundleWriter::finish) was given as `description`.
    pub fn description<D: DeserializeOwned>(&self) -> Result<D, BundleError> {
        decode(
            &self.storage.bytes()[self.parts.description.clone()],
            "the description of the model",
        )
    }

    /// What [`finish`](super::BundleWriter::finish) was given as `about`.
    pub fn about<A: DeserializeOwned>(&self) -> Result<A, BundleError> {
        decode(&self.storage.bytes()[self.parts.about.clone()], ABOUT)
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

    pub(super) fn storage(&self) -> Storage {
        self.storage.clone()
    }

    pub(super) fn entry(&self, name: &str) -> Result<&Entry, BundleError> {
        self.entries.get(name).ok_or_else(|| BundleError::Missing {
            name: name.to_owned(),
        })
    }

    /// Where `count` numbers of `size` bytes at `offset` of the data lie in the file, within bounds.
    pub(super) fn range(
        &self,
        name: &str,
        offset: u64,
        count: u64,
        size: u64,
    ) -> Result<Range<usize>, BundleError> {
        let start = offset.checked_add(self.parts.data as u64);
        let length = count.checked_mul(size);
        let end = start
            .zip(length)
            .and_then(|(start, length)| start.checked_add(length));
        let within = start.zip(end).filter(|&(_, end)| end <= self.size() as u64);
        within
            .map(|(start, end)| start as usize..end as usize)
            .ok_or_else(|| damaged(format!("tensor `{name}` reaches beyond the end")))
    }

    fn slice(&self, name: &str, offset: u64, count: u64, size: u64) -> Result<&[u8], BundleError> {
        Ok(&self.storage.bytes()[self.range(name, offset, count, size)?])
    }

    /// The shape of an entry and how many numbers that is.
    pub(super) fn shape(&self, entry: &Entry) -> Result<(Vec<usize>, u64), BundleError> {
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

    /// Gives the memory of all tensors that were read so far back, where they are a file's.
    pub fn release(&self) {
        self.storage.release(0..self.size());
    }

    /// The same for the tensors whose names begin with `prefix`.
    pub fn release_some(&self, prefix: &str) {
        for entry in self
            .entries
            .values()
            .filter(|entry| entry.name.starts_with(prefix))
        {
            let Ok((_, count)) = self.shape(entry) else {
                continue;
            };
            let size = match entry.encoding {
                Encoding::F32 => 4,
                Encoding::I64 => 8,
                Encoding::Int8 { .. } | Encoding::Bytes => 1,
            };
            if let Ok(bytes) = self.range(&entry.name, entry.offset, count, size) {
                self.storage.release(bytes);
            }
        }
    }

    /// The shape of the floats `name`, if they are in eight bits or at least `least` of them.
    pub fn float_shape(&self, name: &str, least: u64) -> Result<Option<Vec<usize>>, BundleError> {
        let entry = self.entry(name)?;
        let (shape, count) = self.shape(entry)?;
        let size = match entry.encoding {
            Encoding::Int8 { .. } => 1,
            Encoding::F32 if count >= least => 4,
            _ => return Ok(None),
        };
        self.slice(name, entry.offset, count, size)?;
        Ok(Some(shape))
    }

    /// The tensor `name` as it lies in the file, if it is kept in eight bits: the integers, not copied, and one scale
    /// for each index of an axis.
    pub fn int8(&self, name: &str) -> Result<Option<Int8View<'_>>, BundleError> {
        let entry = self.entry(name)?;
        let Encoding::Int8 { axis, scales } = entry.encoding else {
            return Ok(None);
        };
        let (shape, count) = self.shape(entry)?;
        let axis = usize::from(axis);
        let channels = *entry
            .shape
            .get(axis)
            .ok_or_else(|| damaged(format!("tensor `{name}` has no axis {axis}")))?;
        let scales = numbers(self.slice(name, scales, channels, 4)?, f32::from_le_bytes);
        let bytes = self.slice(name, entry.offset, count, 1)?;
        let values = ArrayViewD::from_shape(IxDyn(&shape), memory::signed(bytes))
            .map_err(|error| damaged(format!("tensor `{name}`: {error}")))?;
        Ok(Some(Int8View {
            values,
            scales: Array1::from_vec(scales),
            axis,
        }))
    }

    /// The tensor `name` as floats; integers are multiplied by their scales.
    pub fn f32(&self, name: &str) -> Result<ArrayD<f32>, BundleError> {
        let entry = self.entry(name)?;
        let (shape, count) = self.shape(entry)?;
        let values = match entry.encoding {
            Encoding::F32 => numbers(
                self.slice(name, entry.offset, count, 4)?,
                f32::from_le_bytes,
            ),
            Encoding::Int8 { .. } => {
                let Some(Int8View {
                    values,
                    scales,
                    axis,
                }) = self.int8(name)?
                else {
                    return Err(damaged(format!("tensor `{name}` does not hold integers")));
                };
                let inner: usize = shape[axis + 1..].iter().product();
                let integers = values.as_slice().unwrap_or_default();
                let mut floats = Vec::with_capacity(integers.len());
                for (run, &scale) in integers
                    .chunks_exact(inner.max(1))
                    .zip(scales.iter().cycle())
                {
                    floats.extend(run.iter().map(|&q| f32::from(q) * scale));
                }
                floats
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
