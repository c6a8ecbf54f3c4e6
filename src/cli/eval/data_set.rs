//! Data sets for `eval`: which pictures train and which test, and their features.

use super::super::pictures::labels_of;
use super::super::{Context, usage};
use crate::adapt::features::{self, Extraction, FeatureSet, Monitor, Pictures};
use crate::adapt::{AdaptError, Split};
use crate::clip::Model;
use crate::frames::{
    MAX_PIXELS, PictureError, find_split, labelled_folder, read_picture, read_split,
};
use crate::prompt::Label;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A picture file and the class it shows.
pub type File = (PathBuf, usize);

/// Labelled picture files in two parts; nothing is decoded yet.
pub struct DataSet {
    /// The folder as given.
    pub name: String,
    pub labels: Vec<Label>,
    /// The classes in the order whose first half is base: by number where a split file gives them, else by name.
    pub order: Vec<usize>,
    pub train: Vec<File>,
    pub test: Vec<File>,
}

/// How to read a data set.
pub struct Reading<'a> {
    /// The labels to use [default: the folder's labels.txt, or its sub-folders].
    pub labels: Option<Vec<Label>>,
    /// A split file of CoOp's [default: the one in the folder].
    pub split: Option<&'a Path>,
    /// The share of each class that tests where the folder has no `test`; 1 tests on everything.
    pub holdout: f32,
}

impl DataSet {
    /// Lists the pictures of `dir`: by a split file, by its `train` and `test`, or by holding a share out.
    pub fn open(dir: &Path, reading: Reading, context: &Context) -> anyhow::Result<DataSet> {
        let found = match reading.split {
            Some(file) => Some(file.to_owned()),
            None => find_split(dir)?,
        };
        match found {
            Some(file) => Self::from_split(&file, dir),
            None => Self::from_folders(dir, reading, context),
        }
    }

    fn from_split(file: &Path, dir: &Path) -> anyhow::Result<DataSet> {
        let split = read_split(file, dir)?;
        let label = |name: &String| {
            // Names of cars hold slashes; the words keep them.
            Label::new(&name.replace(['/', '\\'], "-"), Some(name)).with_context(|| {
                format!("{}: the class {name:?} cannot be a label", file.display())
            })
        };
        let labels = split
            .classes
            .iter()
            .map(label)
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(DataSet {
            name: dir.display().to_string(),
            order: (0..labels.len()).collect(),
            labels,
            train: split.train,
            test: split.test,
        })
    }

    fn from_folders(dir: &Path, reading: Reading, context: &Context) -> anyhow::Result<DataSet> {
        let (train, test) = (dir.join("train"), dir.join("test"));
        let divided = train.is_dir() && test.is_dir();
        let first = if divided { train.as_path() } else { dir };
        let labels = match reading.labels {
            Some(labels) => labels,
            None => labels_of(dir, first)?,
        };
        let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        let list = |dir: &Path| -> anyhow::Result<Vec<File>> {
            let found = labelled_folder(dir, &names)?;
            for folder in &found.unused {
                context.output.warn(format!(
                    "{}: no label has this folder's name; left out",
                    folder.display()
                ));
            }
            let classes = found.paths.into_iter().enumerate();
            Ok(classes
                .flat_map(|(class, paths)| paths.into_iter().map(move |path| (path, class)))
                .collect())
        };
        let (train, test) = if divided {
            (list(&train)?, list(&test)?)
        } else {
            hold_out(list(dir)?, labels.len(), reading.holdout)?
        };
        anyhow::ensure!(
            !test.is_empty(),
            "{}: there is no picture to test on",
            dir.display()
        );
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|&a, &b| labels[a].name.cmp(&labels[b].name));
        Ok(DataSet {
            name: dir.display().to_string(),
            labels,
            order,
            train,
            test,
        })
    }
}

/// Without `test`, a share of each class tests; the same one for every seed.
fn hold_out(
    files: Vec<File>,
    classes: usize,
    share: f32,
) -> anyhow::Result<(Vec<File>, Vec<File>)> {
    if share == 1.0 {
        return Ok((Vec::new(), files));
    }
    let truth: Vec<usize> = files.iter().map(|(_, class)| *class).collect();
    let split = Split::new(&truth, classes, share, 0).map_err(usage)?;
    let pick = |rows: Vec<usize>| rows.into_iter().map(|row| files[row].clone()).collect();
    Ok((pick(split.train), pick(split.holdout)))
}

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

/// Decodes and encodes each of `files` once.
pub fn extract(
    model: &Model,
    files: &[File],
    extraction: Extraction,
    context: &Context,
) -> anyhow::Result<Extracted> {
    let bar = context.output.progress("pictures", files.len() as u64);
    let unreadable: Mutex<Vec<(usize, PictureError)>> = Mutex::default();
    let failures = || unreadable.lock().unwrap_or_else(PoisonError::into_inner);
    let load = |index: usize| {
        let (path, class) = &files[index];
        match read_picture(path, MAX_PIXELS) {
            Ok(picture) => Some((picture, *class)),
            Err(error) => {
                failures().push((index, error));
                None
            }
        }
    };
    let started = Instant::now();
    let pictures = Pictures {
        count: files.len(),
        load: &load,
    };
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
    let busy = started.elapsed().as_secs_f64() * extraction.threads.min(files.len()) as f64;
    let mut failed = std::mem::take(&mut *failures());
    failed.sort_by_key(|(index, _)| *index);
    for (_, error) in &failed {
        context.output.warn(format!("{error}; skipped"));
    }
    let readable = |index: &usize| failed.iter().all(|(failed, _)| failed != index);
    Ok(Extracted {
        seconds_each: busy / (set.labels.len().max(1) * extraction.views) as f64,
        files: (0..files.len()).filter(readable).collect(),
        skipped: failed.len(),
        set,
    })
}
