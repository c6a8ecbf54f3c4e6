//! The features of a data set's pictures, with a progress bar.

use super::super::Context;
use crate::adapt::AdaptError;
use crate::adapt::features::{self, Extraction, FeatureSet, Monitor, Pictures};
use crate::clip::Model;
use crate::evaluate::data_set::File;
use crate::frames::{MAX_PIXELS, PictureError, read_region};
use crate::prompt::Region;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Features of files, and which file each is of.
pub struct Extracted {
    pub set: FeatureSet,
    /// The index of the file of each row.
    pub files: Vec<usize>,
    /// Files that could not be read.
    pub skipped: usize,
    /// Processor time a picture and view took, with decoding, in seconds.
    pub seconds_each: f64,
}

/// Decodes and encodes each of `files` once, or each of the `regions` of it.
pub fn extract(
    model: &Model,
    files: &[File],
    regions: &[Region],
    extraction: Extraction,
    context: &Context,
) -> anyhow::Result<Extracted> {
    let parts = regions.len().max(1);
    let count = files.len() * parts;
    let bar = context.output.progress("pictures", count as u64);
    let unreadable: Mutex<Vec<(usize, PictureError)>> = Mutex::default();
    let failures = || unreadable.lock().unwrap_or_else(PoisonError::into_inner);
    let load = |index: usize| {
        let (path, class) = &files[index / parts];
        match read_region(path, MAX_PIXELS, regions.get(index % parts)) {
            Ok(picture) => Some((picture, *class)),
            Err(error) => {
                failures().push((index, error));
                None
            }
        }
    };
    let started = Instant::now();
    let pictures = Pictures { count, load: &load };
    let monitor = Monitor {
        done: &|count| bar.set_position(count as u64),
        stop: &context.stop,
    };
    let set = features::extract(model, pictures, extraction, monitor);
    bar.finish_and_clear();
    if context.stopped() {
        return Err(AdaptError::Stopped.into());
    }
    let set = set?;
    let busy = started.elapsed().as_secs_f64() * extraction.threads.min(count) as f64;
    let mut failed = std::mem::take(&mut *failures());
    failed.sort_by_key(|(index, _)| *index);
    if let Some((_, first)) = failed.first().filter(|_| failed.len() == count) {
        anyhow::bail!("none of {count} pictures can be used; the first: {first}");
    }
    for (_, error) in &failed {
        context.output.warn(format!("{error}; skipped"));
    }
    let readable = |index: &usize| failed.iter().all(|(failed, _)| failed != index);
    Ok(Extracted {
        seconds_each: busy / (set.labels.len().max(1) * extraction.views) as f64,
        files: (0..count)
            .filter(readable)
            .map(|index| index / parts)
            .collect(),
        skipped: failed.len(),
        set,
    })
}
