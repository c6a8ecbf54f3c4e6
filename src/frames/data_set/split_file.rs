//! The split files of CoOp (`split_zhou_*.json`): which pictures of a data set train and which test, and what they
//! show.

use crate::files;
use serde::Deserialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How CoOp's files are called.
const PREFIX: &str = "split_zhou_";
/// The largest file that is read: the names of some million pictures.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// Why a split file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// It cannot be read.
    #[error("{}: cannot be read ({source}): check the path and its permissions", path.display())]
    Read {
        /// The split file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is JSON of another form, or none.
    #[error("{}: this is not a split file ({source}): it holds lists \"train\" and \"test\" of [path, number, class name]", path.display())]
    Format {
        /// The split file.
        path: PathBuf,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// One of its lists is empty.
    #[error("{}: the list \"{list}\" is empty", path.display())]
    Empty {
        /// The split file.
        path: PathBuf,
        /// `train` or `test`.
        list: &'static str,
    },
    /// A class has two names.
    #[error("{}: the class {number} is called {first:?} and {second:?}: correct one", path.display())]
    TwoNames {
        /// The split file.
        path: PathBuf,
        /// The class's number.
        number: usize,
        /// Its first name.
        first: String,
        /// Its other name.
        second: String,
    },
    /// The numbers of the classes have a gap.
    #[error("{}: no picture is of class {missing}, but there is a class {highest}: classes are numbered without gaps", path.display())]
    Gap {
        /// The split file.
        path: PathBuf,
        /// The lowest number without a picture.
        missing: usize,
        /// The highest number with one.
        highest: usize,
    },
    /// Its pictures are not where they were looked for.
    #[error("{}: its first picture, {picture}, is neither in {} nor in a folder of it", path.display(), dir.display())]
    NoPictures {
        /// The split file.
        path: PathBuf,
        /// The first picture, as the file names it.
        picture: String,
        /// The folder it was looked for in.
        dir: PathBuf,
    },
    /// A folder has several split files.
    #[error("{} holds {count} split files", dir.display())]
    Several {
        /// The folder.
        dir: PathBuf,
        /// How many it has.
        count: usize,
    },
}

/// A data set in two parts. Nothing is decoded, nor known to exist but the first picture.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SplitFile {
    /// Class names by number.
    pub classes: Vec<String>,
    /// Pictures to train on and the number of their class.
    pub train: Vec<(PathBuf, usize)>,
    /// Pictures to test on.
    pub test: Vec<(PathBuf, usize)>,
}

#[derive(Deserialize)]
struct Lists {
    train: Vec<(String, usize, String)>,
    test: Vec<(String, usize, String)>,
}

/// The split file in `dir`, if there is one.
///
/// # Errors
/// If there are several.
pub fn find_split(dir: &Path) -> Result<Option<PathBuf>, SplitError> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(None);
    };
    let is_split = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(PREFIX) && name.ends_with(".json")
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_split)
        .collect();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        count => Err(SplitError::Several {
            dir: dir.to_owned(),
            count,
        }),
    }
}

/// Reads the split file at `path`. Its pictures lie in `dir`, or in a folder of it.
///
/// # Errors
/// If the file cannot be read, is not a split file, numbers its classes oddly, or `dir` does not have its first picture.
pub fn read_split(path: &Path, dir: &Path) -> Result<SplitFile, SplitError> {
    let here = || path.to_owned();
    let bytes = read_bytes(path).map_err(|source| SplitError::Read {
        path: here(),
        source,
    })?;
    let Lists { train, test } =
        serde_json::from_slice(&bytes).map_err(|source| SplitError::Format {
            path: here(),
            source,
        })?;
    for (list, items) in [("train", &train), ("test", &test)] {
        if items.is_empty() {
            let path = here();
            return Err(SplitError::Empty { path, list });
        }
    }
    let classes = class_names(path, train.iter().chain(&test))?;
    let root = root_of(&train[0].0, dir).ok_or_else(|| SplitError::NoPictures {
        path: here(),
        picture: train[0].0.clone(),
        dir: dir.to_owned(),
    })?;
    let located = |items: Vec<(String, usize, String)>| {
        let place = |(picture, number, _): (String, usize, String)| (root.join(picture), number);
        items.into_iter().map(place).collect()
    };
    Ok(SplitFile {
        classes,
        train: located(train),
        test: located(test),
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = files::read(path, MAX_FILE_BYTES)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is above 512 MiB: not a split file"));
    }
    Ok(bytes)
}

fn class_names<'a>(
    path: &Path,
    items: impl Iterator<Item = &'a (String, usize, String)>,
) -> Result<Vec<String>, SplitError> {
    let mut names: std::collections::BTreeMap<usize, &String> = Default::default();
    for (_, number, name) in items {
        let first = *names.entry(*number).or_insert(name);
        if first != name {
            return Err(SplitError::TwoNames {
                path: path.to_owned(),
                number: *number,
                first: first.clone(),
                second: name.clone(),
            });
        }
    }
    let highest = names.keys().next_back().copied().unwrap_or(0);
    match (0..=highest).find(|number| !names.contains_key(number)) {
        Some(missing) => Err(SplitError::Gap {
            path: path.to_owned(),
            missing,
            highest,
        }),
        None => Ok(names.into_values().cloned().collect()),
    }
}

/// Where `picture` lies: `dir`, or a folder of it.
fn root_of(picture: &str, dir: &Path) -> Option<PathBuf> {
    if dir.join(picture).is_file() {
        return Some(dir.to_owned());
    }
    let mut folders: Vec<PathBuf> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders
        .into_iter()
        .find(|folder| folder.join(picture).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `images/a/1.jpg` and a split file of `text`.
    fn folder(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("images/a")).unwrap();
        fs::write(dir.path().join("images/a/1.jpg"), "").unwrap();
        fs::write(dir.path().join("split_zhou_Pets.json"), text).unwrap();
        dir
    }

    fn read(text: &str) -> Result<SplitFile, SplitError> {
        let dir = folder(text);
        let file = find_split(dir.path()).unwrap().unwrap();
        read_split(&file, dir.path())
    }

    #[test]
    fn pictures_are_found_in_a_folder_beside_the_file() {
        let dir = folder(
            r#"{"train": [["a/1.jpg", 1, "cat"]], "val": [], "test": [["b/2.jpg", 0, "Ram C/V"]]}"#,
        );
        let file = find_split(dir.path()).unwrap().unwrap();
        let found = read_split(&file, dir.path()).unwrap();
        assert_eq!(found.classes, ["Ram C/V", "cat"]);
        assert_eq!(found.train, [(dir.path().join("images/a/1.jpg"), 1)]);
        assert_eq!(found.test, [(dir.path().join("images/b/2.jpg"), 0)]);
        assert_eq!(find_split(&dir.path().join("images")).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_a_sentence_that_names_the_file() {
        for (text, word) in [
            ("{", "line 1"),
            (r#"{"train": [], "test": []}"#, "\"train\" is empty"),
            (
                r#"{"train": [["a/1.jpg", 0, "cat"], ["a/2.jpg", 0, "dog"]], "test": [["x", 1, "y"]]}"#,
                "\"dog\"",
            ),
            (
                r#"{"train": [["a/1.jpg", 0, "cat"]], "test": [["x", 2, "y"]]}"#,
                "no picture is of class 1",
            ),
            (
                r#"{"train": [["gone.jpg", 0, "cat"]], "test": [["x", 0, "cat"]]}"#,
                "gone.jpg",
            ),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(
                message.contains(word) && message.contains("split_zhou_Pets.json"),
                "{message}"
            );
        }
        let dir = folder("{}");
        fs::write(dir.path().join("split_zhou_Cars.json"), "{}").unwrap();
        assert!(matches!(
            find_split(dir.path()),
            Err(SplitError::Several { count: 2, .. })
        ));
    }
}
