//! Collects tensors and yields the bytes of a bundle.

use ndarray::{ArrayViewD, Axis};
use serde::Serialize;

use super::{
    ALIGNMENT, BundleError, CHECKED, Encoding, Entry, MAGIC, PRELUDE, checksum, damaged,
    fingerprint,
};

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
    /// 127, unless the values are whole multiples of a coarser step, as those of a model that was quantised before.
    pub fn int8(&mut self, name: &str, values: ArrayViewD<f32>, axis: usize) {
        self.notice(name, &values);
        let values = values.as_standard_layout();
        let flat = values.as_slice().expect("standard layout");
        // A channel is every `channels`-th run of neighbours.
        let channels = values.len_of(Axis(axis));
        let run = values.shape()[axis + 1..].iter().product::<usize>().max(1);
        let mut channel = Vec::with_capacity(flat.len() / channels.max(1));
        let scale = |index| {
            channel.clear();
            let runs = flat.chunks_exact(run).skip(index).step_by(channels);
            channel.extend(runs.flatten());
            step(&channel)
        };
        let scales: Vec<f32> = (0..channels).map(scale).collect();
        let quotients =
            flat.chunks_exact(run)
                .zip(scales.iter().cycle())
                .flat_map(|(run, &scale)| {
                    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                    run.iter().map(move |v| ((v * inverse).round() as i8) as u8)
                });
        let scale_bytes = self.push(scales.iter().flat_map(|s| s.to_le_bytes()));
        let offset = self.push(quotients);
        self.entry(
            name,
            values.shape(),
            Encoding::Int8 {
                axis: axis as u8,
                scales: scale_bytes,
            },
            offset,
        );
    }

    /// Keeps a text or any other bytes.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let offset = self.push(bytes.iter().copied());
        self.entry(name, &[bytes.len()], Encoding::Bytes, offset);
    }

    /// The whole file, of a version from 1 to [`VERSION`](super::VERSION). `description` takes part in the fingerprint, `about` (name, provenance) does not.
    pub fn finish<D: Serialize, A: Serialize>(
        self,
        version: u32,
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
            version,
            description.len() as u32,
            table.len() as u32,
            about.len() as u32,
        ] {
            file.extend(number.to_le_bytes());
        }
        file.extend(((start + self.data.len()) as u64).to_le_bytes());
        file.extend(fingerprint(&identity, [&self.data[..]]).0);
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

/// Replaces what a whole file says in its about section by something of the same length.
pub fn replace_about<A: Serialize>(file: &mut [u8], about: &A) -> Result<(), BundleError> {
    let about = postcard::to_stdvec(about)
        .map_err(|error| damaged(format!("its header cannot be written: {error}")))?;
    let part = |at: usize| {
        let bytes: [u8; 4] = file[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    };
    let from = PRELUDE + part(12) + part(16);
    if part(20) != about.len() {
        return Err(damaged("another length of its about section"));
    }
    let data = (from + about.len()).next_multiple_of(ALIGNMENT);
    file[from..from + about.len()].copy_from_slice(&about);
    let checksum = checksum(&file[..data], from);
    file[CHECKED..PRELUDE].copy_from_slice(&checksum);
    Ok(())
}

/// The coarsest step that all values are whole multiples of, none more than 127 steps from zero; where there is none,
/// the step of which the largest magnitude is 127.
fn step(values: &[f32]) -> f32 {
    let most = values.iter().fold(0f32, |most, v| most.max(v.abs()));
    let is_step = |count: &f32| {
        let inverse = count / most;
        let whole = |v: &f32| (v * inverse - (v * inverse).round()).abs() < 1e-3;
        inverse.is_finite() && values.iter().all(whole)
    };
    let mut counts = (1..127).map(|count| count as f32);
    most / counts.find(is_step).unwrap_or(127.0)
}

#[cfg(test)]
impl BundleWriter {
    /// A writer with any table of entries, true or not.
    pub(super) fn forged(entries: Vec<Entry>, data: Vec<u8>) -> BundleWriter {
        BundleWriter {
            entries,
            data,
            not_finite: None,
        }
    }
}
