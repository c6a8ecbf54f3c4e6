//! Labelled pictures as people lay them out: one sub-folder a label. How many are enough, and what for, is decided above.

use crate::frames::folder::{FolderError, LeftOut, list};
use crate::frames::picture::{PictureError, read_picture};
use crate::prompt::labels::same_name;
use crate::store;
use image::RgbImage;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The sub-folder taken in place of a folder that is split into train and test.
const TRAIN: &str = "train";
/// Where Frigate keeps what was labelled, beside a `train` of pictures that were not.
const DATASET: &str = "dataset";

/// The picture files of each label. Nothing is decoded yet, so that a large folder costs only its names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelledFolder {
    /// The folder that holds the label folders: the one asked for, its `train`, or its `dataset`.
    pub root: PathBuf,
    /// The picture files of each label, sorted by name, in the order of the labels.
    pub paths: Vec<Vec<PathBuf>>,
    /// Sub-folders that belong to no label: worth a warning.
    pub unused: Vec<PathBuf>,
    /// Files beside the pictures, and folders of the system.
    pub left_out: LeftOut,
}

impl LabelledFolder {
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

/// Finds the folder of each label in `dir`, or in `dir/train` or `dir/dataset` when `dir` itself has none of them; the latter
/// where there is a `train` without sub-folders beside it, as Frigate lays them out.
///
/// A folder with the label's exact name is preferred; otherwise one of the same name by [`crate::prompt::labels::normal`].
/// Hidden files, files that are not pictures and folders inside a label's folder are ignored.
///
/// # Errors
/// A folder that cannot be read, a label without a folder or with several, and two labels with the same folder.
pub fn labelled_folder(
    dir: &Path,
    labels: &[impl AsRef<str>],
) -> Result<LabelledFolder, FolderError> {
    let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
    let (mut root, mut entries) = (dir.to_owned(), list(dir)?);
    let matched = |label: &&str| !matches(label, &entries.folders).is_empty();
    if !labels.iter().any(matched)
        && let Some(inner) = labelled_inside(dir)?
    {
        (entries, root) = (list(&inner)?, inner);
    }
    let folders = entries.folders;
    let mut left_out = entries.left_out;

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
    let mut paths = Vec::with_capacity(taken.len());
    for folder in &taken {
        let inside = list(folder)?;
        paths.push(inside.pictures);
        left_out.extend(inside.left_out);
        left_out.deeper(&inside.folders);
    }
    let unused = folders.iter().filter(|folder| !taken.contains(folder));
    let unused = unused.cloned().collect();
    Ok(LabelledFolder {
        root,
        paths,
        unused,
        left_out,
    })
}

/// The folder inside `dir` that holds label folders in its stead.
fn labelled_inside(dir: &Path) -> Result<Option<PathBuf>, FolderError> {
    let (train, dataset) = (dir.join(TRAIN), dir.join(DATASET));
    let has_folders = |dir: &Path| Ok(dir.is_dir() && !list(dir)?.folders.is_empty());
    if !has_folders(&train)? && has_folders(&dataset)? {
        return Ok(Some(dataset));
    }
    Ok(Some(train).filter(|train| train.is_dir()))
}

/// The folders a label may mean: the one with its very name, all that read the same, or the one that shots of it are kept in.
fn matches<'a>(label: &str, folders: &'a [PathBuf]) -> Vec<&'a PathBuf> {
    let exact = folders
        .iter()
        .find(|folder| folder.file_name() == Some(OsStr::new(label)));
    if let Some(folder) = exact {
        return vec![folder];
    }
    let same = |folder: &&PathBuf| same_name(&name(folder), label);
    let found: Vec<&PathBuf> = folders.iter().filter(same).collect();
    if !found.is_empty() {
        return found;
    }
    let kept = |folder: &&PathBuf| store::label_of(&name(folder)) == label;
    folders.iter().filter(kept).collect()
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
    use crate::frames::folder::pictures_in;
    use crate::frames::folder::tests::{below, folder};
    use std::fs;

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
    fn a_label_that_is_no_folders_name_is_found_among_shots() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["mug", "%3Cb%3E%22it"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let found = labelled_folder(dir.path(), &["mug", "<b>\"it"]).unwrap();
        assert_eq!((found.paths.len(), found.unused.len()), (2, 0));
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
    fn a_data_set_of_frigate_is_its_dataset_and_not_its_train() {
        let dir = folder(&[
            "dataset/open/1.pgm",
            "dataset/closed/2.pgm",
            "train/unlabelled.pgm",
        ]);
        let found = labelled_folder(dir.path(), &["closed", "open"]).unwrap();
        assert_eq!(found.root, dir.path().join("dataset"));
        assert_eq!(below(dir.path(), &found.paths[1]), ["dataset/open/1.pgm"]);
        let no_labels: [&str; 0] = [];
        let found = labelled_folder(dir.path(), &no_labels).unwrap();
        assert_eq!(found.root, dir.path().join("dataset"));
        assert_eq!(found.unused.len(), 2);
    }

    #[test]
    fn a_folder_that_a_mac_wrote_decomposed_is_the_labels() {
        let dir = folder(&[
            "Cafe\u{301}/1.pgm",
            "fire_Extinguisher/2.pgm",
            "@eaDir/x.jpg",
            "Cafe\u{301}/3.HEIC",
        ]);
        let found = labelled_folder(dir.path(), &["caf\u{e9}", "fire extinguisher"]).unwrap();
        assert_eq!(found.counts(), [1, 1]);
        assert!(found.unused.is_empty(), "{:?}", found.unused);
        assert!(found.left_out.to_string().contains(".HEIC"));
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
        assert_eq!(pictures_in(&[dir.path()]).unwrap().paths, [odd]);
    }
}
