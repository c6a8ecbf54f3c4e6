//! Which pictures of a data set train and which test: a split file's, `train` and `test`, or a share that is held out.

use crate::adapt::pictures::labels_of;
use crate::adapt::{AdaptError, PicturesError, Split};
use crate::frames::{FolderError, LeftOut, SplitError, find_split, labelled_folder, read_split};
use crate::prompt::labels::same_name;
use crate::prompt::{Label, LabelFault};
use std::path::{Path, PathBuf};

/// A picture file and the class it shows.
pub type File = (PathBuf, usize);

/// Why a data set cannot be evaluated on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataSetError {
    /// A class of a split file has an impossible name.
    #[error("{}: the class {name:?} cannot be a label", file.display())]
    ClassName {
        /// The split file.
        file: PathBuf,
        /// The class as it is called there.
        name: String,
        /// What is wrong with the name.
        source: LabelFault,
    },
    /// A label that is no class of the split file.
    #[error("{}: it has no class {label:?}", file.display())]
    NoClass {
        /// The split file.
        file: PathBuf,
        /// The label.
        label: String,
    },
    /// Two labels that are one class of the split file.
    #[error("{}: two of the labels are the class {class:?}", file.display())]
    Twice {
        /// The split file.
        file: PathBuf,
        /// The class.
        class: String,
    },
    /// No picture is left to test on.
    #[error("{}: there is no picture to test on", dir.display())]
    NothingToTest {
        /// The folder of the data set.
        dir: PathBuf,
    },
    /// The share that is held out is out of range.
    #[error(transparent)]
    Holdout(#[from] AdaptError),
    /// The split file cannot be used.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The folders do not fit the labels.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There are no labels, or they cannot be used.
    #[error(transparent)]
    Labels(#[from] PicturesError),
}

/// Labelled picture files in two parts; nothing is decoded yet.
pub struct DataSet {
    /// The folder as given.
    pub name: String,
    /// The classes, in order.
    pub labels: Vec<Label>,
    /// The classes in the order whose first half is base: by number where a split file gives them, else by name.
    pub order: Vec<usize>,
    /// Pictures to fit methods to.
    pub train: Vec<File>,
    /// Pictures that judge them.
    pub test: Vec<File>,
    /// Folders that are left out because no label has their name: worth a warning.
    pub unused: Vec<PathBuf>,
    /// Files beside the pictures that people may take for some: worth a warning, too.
    pub left_out: LeftOut,
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
    ///
    /// # Errors
    /// If the split file, the folders or the labels cannot be used, or no picture is left to test on.
    pub fn open(dir: &Path, reading: Reading) -> Result<DataSet, DataSetError> {
        let found = match reading.split {
            Some(file) => Some(file.to_owned()),
            None => find_split(dir)?,
        };
        match found {
            Some(file) => {
                let all = Self::from_split(&file, dir)?;
                match &reading.labels {
                    Some(labels) => all.of(labels, &file),
                    None => Ok(all),
                }
            }
            None => Self::from_folders(dir, reading),
        }
    }

    fn from_split(file: &Path, dir: &Path) -> Result<DataSet, DataSetError> {
        let split = read_split(file, dir)?;
        let label = |name: &String| {
            // Names of cars hold slashes; the words keep them.
            Label::new(&name.replace(['/', '\\'], "-"), Some(name)).map_err(|source| {
                DataSetError::ClassName {
                    file: file.into(),
                    name: name.clone(),
                    source,
                }
            })
        };
        let labels = split
            .classes
            .iter()
            .map(label)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(DataSet {
            name: dir.display().to_string(),
            order: (0..labels.len()).collect(),
            labels,
            train: split.train,
            test: split.test,
            unused: Vec::new(),
            left_out: LeftOut::default(),
        })
    }

    /// The part of it that is of `labels`, as they are written and in their order.
    fn of(self, labels: &[Label], file: &Path) -> Result<DataSet, DataSetError> {
        let mut places = vec![None; self.labels.len()];
        for (place, label) in labels.iter().enumerate() {
            let known = self.labels.iter();
            let found = known.enumerate().find(|(_, known)| {
                same_name(&known.name, &label.name) || same_name(&known.words, &label.name)
            });
            let Some((class, _)) = found else {
                return Err(DataSetError::NoClass {
                    file: file.into(),
                    label: label.name.clone(),
                });
            };
            if places[class].replace(place).is_some() {
                return Err(DataSetError::Twice {
                    file: file.into(),
                    class: self.labels[class].name.clone(),
                });
            }
        }
        let renumbered = |files: Vec<File>| {
            let of = |(path, class): File| places[class].map(|place| (path, place));
            files.into_iter().filter_map(of).collect::<Vec<_>>()
        };
        let order = self.order.iter().filter_map(|&class| places[class]);
        let test = renumbered(self.test);
        if test.is_empty() {
            return Err(DataSetError::NothingToTest {
                dir: self.name.into(),
            });
        }
        Ok(DataSet {
            order: order.collect(),
            labels: labels.into(),
            train: renumbered(self.train),
            test,
            ..self
        })
    }

    fn from_folders(dir: &Path, reading: Reading) -> Result<DataSet, DataSetError> {
        let (train, test) = (dir.join("train"), dir.join("test"));
        let divided = train.is_dir() && test.is_dir();
        let first = if divided { train.as_path() } else { dir };
        let labels = match reading.labels {
            Some(labels) => labels,
            None => labels_of(dir, first)?,
        };
        let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        let (mut unused, mut left_out) = (Vec::new(), LeftOut::default());
        let mut list = |dir: &Path| -> Result<Vec<File>, FolderError> {
            let found = labelled_folder(dir, &names)?;
            unused.extend(found.unused);
            left_out.extend(found.left_out);
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
        if test.is_empty() {
            return Err(DataSetError::NothingToTest { dir: dir.into() });
        }
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|&a, &b| labels[a].name.cmp(&labels[b].name));
        Ok(DataSet {
            name: dir.display().to_string(),
            labels,
            order,
            train,
            test,
            unused,
            left_out,
        })
    }
}

/// Without `test`, a share of each class tests; the same one for every seed.
fn hold_out(
    files: Vec<File>,
    classes: usize,
    share: f32,
) -> Result<(Vec<File>, Vec<File>), AdaptError> {
    if share == 1.0 {
        return Ok((Vec::new(), files));
    }
    let truth: Vec<usize> = files.iter().map(|(_, class)| *class).collect();
    let split = Split::new(&truth, classes, share, 0)?;
    let pick = |rows: Vec<usize>| rows.into_iter().map(|row| files[row].clone()).collect();
    Ok((pick(split.train), pick(split.holdout)))
}
