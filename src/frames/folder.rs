//! Picture files in folders: one folder a label, or any mixture of files and folders. It must not know what the
//! pictures are for, nor how many are enough.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;

use super::picture::{PictureError, read_picture};

/// File name extensions taken for pictures, in any case.
const EXTENSIONS: [&str; 12] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "pbm", "pgm", "ppm", "pnm",
];
/// The sub-folder taken in place of a folder that is split into train and test.
const TRAIN: &str = "train";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    #[error("{}: cannot be read ({source}): check the path and its permissions", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the label {label:?} has no folder in {}: found {found}; add the folder or remove the label", dir.display())]
    MissingLabel {
        label: String,
        dir: PathBuf,
        found: String,
    },
    #[error("the label {label:?} fits more than one folder in {}: {found}; rename one", dir.display())]
    AmbiguousLabel {
        label: String,
        dir: PathBuf,
        found: String,
    },
    #[error("the labels {first:?} and {second:?} both mean the folder {}: remove one", folder.display())]
    SharedFolder {
        first: String,
        second: String,
        folder: PathBuf,
    },
    #[error("{}: there is no picture in this folder (JPEG, PNG, WebP, BMP, GIF, PNM)", path.display())]
    NoPictures { path: PathBuf },
}

/// The picture files of each label. Nothing is decoded yet, so that a large folder costs only its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledPictures {
    /// The folder that holds the label folders: the one asked for, or its `train`.
    pub root: PathBuf,
    /// The picture files of each label, sorted by name, in the order of the labels.
    pub paths: Vec<Vec<PathBuf>>,
    /// Sub-folders that are no label's: worth a warning.
    pub unused: Vec<PathBuf>,
}

impl LabelledPictures {
    /// How many picture files each label has, readable or not.
    pub fn counts(&self) -> Vec<usize> {
        self.paths.iter().map(Vec::len).collect()
    }

    /// Every picture with its label's index and its path, decoded one at a time as the iterator is driven. An error
    /// names its file; who iterates counts it and goes on.
    pub fn pictures(
        &self,
        max_pixels: u64,
    ) -> impl Iterator<Item = (usize, &Path, Result<RgbImage, PictureError>)> {
        let files = self.paths.iter().enumerate();
        files.flat_map(move |(label, paths)| {
            let decode = move |path: &PathBuf| read_picture(path, max_pixels);
            paths
                .iter()
                .map(move |path| (label, path.as_path(), decode(path)))
        })
    }
}

/// Finds the folder of each label in `dir`, or in `dir/train` when `dir` itself has none of them.
///
/// A folder with the label's exact name is preferred; otherwise case does not count and an underscore is a space.
/// Hidden files, files that are no pictures and folders inside a label's folder are ignored.
///
/// # Errors
/// A folder that cannot be read, a label without a folder or with several, and two labels with the same folder.
pub fn labelled_folder(
    dir: &Path,
    labels: &[impl AsRef<str>],
) -> Result<LabelledPictures, FolderError> {
    let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
    let (mut root, mut folders) = (dir.to_owned(), list(dir)?.folders);
    let train = dir.join(TRAIN);
    let matched = |label: &&str| !matches(label, &folders).is_empty();
    if train.is_dir() && !labels.iter().any(matched) {
        (folders, root) = (list(&train)?.folders, train);
    }

    let mut taken: Vec<&PathBuf> = Vec::with_capacity(labels.len());
    for &label in &labels {
        let found = matches(label, &folders);
        let folder = match found.as_slice() {
            &[folder] => folder,
            [] => {
                return Err(FolderError::MissingLabel {
                    label: label.into(),
                    dir: root,
                    found: names(&folders),
                });
            }
            several => {
                return Err(FolderError::AmbiguousLabel {
                    label: label.into(),
                    dir: root,
                    found: names(several.iter().copied()),
                });
            }
        };
        let earlier = taken
            .iter()
            .zip(&labels)
            .find(|(other, _)| **other == folder);
        if let Some((_, &first)) = earlier {
            return Err(FolderError::SharedFolder {
                first: first.into(),
                second: label.into(),
                folder: folder.clone(),
            });
        }
        taken.push(folder);
    }
    let paths = taken.iter().map(|folder| Ok(list(folder)?.pictures));
    let paths = paths.collect::<Result<_, FolderError>>()?;
    let unused = folders.iter().filter(|folder| !taken.contains(folder));
    let unused = unused.cloned().collect();
    Ok(LabelledPictures {
        root,
        paths,
        unused,
    })
}

/// The picture files that `paths` mean, in the order given: a file stands for itself, whatever its name; a folder for
/// the pictures in it and in its sub-folders, sorted by name, hidden ones left out.
///
/// # Errors
/// A path that does not exist or cannot be read, and a folder without pictures.
pub fn pictures_in(paths: &[impl AsRef<Path>]) -> Result<Vec<PathBuf>, FolderError> {
    let mut pictures = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let kind = fs::metadata(path).map_err(|source| unreadable(path, source))?;
        if !kind.is_dir() {
            pictures.push(path.to_owned());
            continue;
        }
        let before = pictures.len();
        collect(path, &mut pictures)?;
        if pictures.len() == before {
            return Err(FolderError::NoPictures { path: path.into() });
        }
    }
    Ok(pictures)
}

fn collect(folder: &Path, pictures: &mut Vec<PathBuf>) -> Result<(), FolderError> {
    let entries = list(folder)?;
    pictures.extend(entries.pictures);
    for folder in entries.folders {
        // A link to a folder could lead round in a circle.
        if !folder.is_symlink() {
            collect(&folder, pictures)?;
        }
    }
    Ok(())
}

/// What is in one folder, sorted by name.
struct Entries {
    folders: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
}

fn list(dir: &Path) -> Result<Entries, FolderError> {
    let fail = |source| unreadable(dir, source);
    let (mut folders, mut pictures) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if hidden(&path) {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if is_picture(&path) {
            pictures.push(path);
        }
    }
    folders.sort();
    pictures.sort();
    Ok(Entries { folders, pictures })
}

fn unreadable(path: &Path, source: std::io::Error) -> FolderError {
    let path = path.to_owned();
    FolderError::Read { path, source }
}

fn hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a file's name is a picture's, and not that of a hidden file, as half-copied ones are.
pub(super) fn is_picture_name(path: &Path) -> bool {
    is_picture(path) && !hidden(path)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    let known = |known: &&str| extension.eq_ignore_ascii_case(OsStr::new(known));
    EXTENSIONS.iter().any(known)
}

/// The folders a label may mean: the one with its very name, or all that differ in case and underscores only.
fn matches<'a>(label: &str, folders: &'a [PathBuf]) -> Vec<&'a PathBuf> {
    let exact = folders
        .iter()
        .find(|folder| folder.file_name() == Some(OsStr::new(label)));
    if let Some(folder) = exact {
        return vec![folder];
    }
    let plain = |name: &str| name.replace('_', " ").trim().to_lowercase();
    let label = plain(label);
    let same = |folder: &&PathBuf| plain(&name(folder)) == label;
    folders.iter().filter(same).collect()
}

fn name(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The names of the first folders, for a message.
fn names<'a>(folders: impl IntoIterator<Item = &'a PathBuf>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<String> = folders.into_iter().map(|folder| name(folder)).collect();
    match names.len() {
        0 => "no folder at all".into(),
        count if count > SHOWN => {
            format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN)
        }
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::MAX_PIXELS;

    /// A temporary folder with these files; a name that ends with "/" is a folder. Pictures are 1 x 1, and those named
    /// "bad" are empty.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            if name.ends_with('/') {
                fs::create_dir_all(path).unwrap();
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                path,
                if name.contains("bad") {
                    ""
                } else {
                    "P2 1 1 255 7\n"
                },
            )
            .unwrap();
        }
        dir
    }

    fn below(root: &Path, paths: &[PathBuf]) -> Vec<String> {
        let inner = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        paths.iter().map(inner).collect()
    }

    #[test]
    fn labels_find_their_folders_and_pictures_are_sorted() {
        let dir = folder(&[
            "cat/b.PNG",
            "cat/a.jpg",
            "cat/.hidden.png",
            "cat/notes.txt",
            "cat/inner/c.png",
            "Traffic_Cone/1.pgm",
            "spare/x.png",
            ".git/y.png",
            "readme.md",
        ]);
        let found = labelled_folder(dir.path(), &["traffic cone", "cat"]).unwrap();
        assert_eq!(found.counts(), [1, 2]);
        assert_eq!(below(dir.path(), &found.paths[0]), ["Traffic_Cone/1.pgm"]);
        assert_eq!(
            below(dir.path(), &found.paths[1]),
            ["cat/a.jpg", "cat/b.PNG"]
        );
        assert_eq!(below(dir.path(), &found.unused), ["spare"]);
    }

    #[test]
    fn train_stands_in_only_for_a_folder_without_labels() {
        let split = folder(&["train/cat/1.pgm", "test/cat/2.pgm"]);
        let found = labelled_folder(split.path(), &["cat"]).unwrap();
        assert_eq!(below(split.path(), &found.paths[0]), ["train/cat/1.pgm"]);
        assert_eq!(found.root, split.path().join("train"));
        assert!(found.unused.is_empty());

        let whole = folder(&["train/1.pgm", "plane/2.pgm", "train/plane/3.pgm"]);
        let found = labelled_folder(whole.path(), &["train", "plane"]).unwrap();
        assert_eq!(below(whole.path(), &found.paths[0]), ["train/1.pgm"]);
        assert_eq!(below(whole.path(), &found.paths[1]), ["plane/2.pgm"]);
    }

    #[test]
    fn the_exact_name_wins_and_ambiguity_is_an_error() {
        let dir = folder(&["red car/1.pgm", "red_car/2.pgm", "RED CAR/3.pgm"]);
        let found = labelled_folder(dir.path(), &["red_car"]).unwrap();
        assert_eq!(below(dir.path(), &found.paths[0]), ["red_car/2.pgm"]);
        let error = labelled_folder(dir.path(), &["Red_Car"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("RED CAR, red car, red_car"), "{error}");
        let error = labelled_folder(folder(&["cat/"]).path(), &["cat", "Cat"]).unwrap_err();
        assert!(matches!(error, FolderError::SharedFolder { .. }), "{error}");
    }

    #[test]
    fn a_label_without_a_folder_is_an_error_that_names_both_sides() {
        let dir = folder(&["cat/1.pgm", "dog/1.pgm"]);
        let error = labelled_folder(dir.path(), &["cat", "horse"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("horse") && error.contains("cat, dog"),
            "{error}"
        );
        let many: Vec<String> = (0..40).map(|i| format!("{i:02}/")).collect();
        let dir = folder(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let error = labelled_folder(dir.path(), &["cat"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("11 and 28 more"), "{error}");
        let error = labelled_folder(&dir.path().join("none"), &["cat"]).unwrap_err();
        assert!(matches!(error, FolderError::Read { .. }), "{error}");
    }

    #[test]
    fn unreadable_pictures_are_passed_over_one_by_one() {
        let dir = folder(&[
            "cat/1.pgm",
            "cat/2bad.png",
            "cat/3.pgm",
            "dog/bad.jpg",
            "owl/",
        ]);
        let found = labelled_folder(dir.path(), &["cat", "dog", "owl"]).unwrap();
        assert_eq!(found.counts(), [3, 1, 0]);
        let read: Vec<_> = found.pictures(MAX_PIXELS).collect();
        let labels: Vec<usize> = read.iter().map(|(label, _, _)| *label).collect();
        assert_eq!(labels, [0, 0, 0, 1]);
        let good: Vec<bool> = read.iter().map(|(_, _, picture)| picture.is_ok()).collect();
        assert_eq!(good, [true, false, true, false]);
        let warning = read[1].2.as_ref().unwrap_err().to_string();
        assert!(
            warning.contains("2bad.png") && warning.contains("empty"),
            "{warning}"
        );
    }

    #[test]
    fn files_and_folders_become_one_list() {
        let dir = folder(&[
            "b/2.pgm",
            "b/1.pgm",
            "b/in/3.pgm",
            "b/.in/4.pgm",
            "b/x.txt",
            "odd.name",
            "none/x.txt",
        ]);
        let at = |name: &str| dir.path().join(name);
        let list = pictures_in(&[at("odd.name"), at("b")]).unwrap();
        assert_eq!(
            below(dir.path(), &list),
            ["odd.name", "b/1.pgm", "b/2.pgm", "b/in/3.pgm"]
        );
        assert!(matches!(
            pictures_in(&[at("gone")]),
            Err(FolderError::Read { .. })
        ));
        assert!(matches!(
            pictures_in(&[at("none")]),
            Err(FolderError::NoPictures { .. })
        ));
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_and_circular_links_work() {
        use std::os::unix::ffi::OsStrExt;
        let dir = folder(&["cat/"]);
        let odd = dir
            .path()
            .join("cat")
            .join(OsStr::from_bytes(b"\xff\xfe.pgm"));
        fs::write(&odd, "P2 1 1 255 7\n").unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("cat/round")).unwrap();
        let found = labelled_folder(dir.path(), &["cat"]).unwrap();
        assert!(
            found
                .pictures(MAX_PIXELS)
                .all(|(_, path, picture)| path == odd && picture.is_ok())
        );
        assert_eq!(pictures_in(&[dir.path()]).unwrap(), [odd]);
    }
}
