//! The picture files in a folder, or in any mixture of files and folders. What they are for is decided above.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// File name extensions taken for pictures, in any case.
const EXTENSIONS: [&str; 12] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "pbm", "pgm", "ppm", "pnm",
];

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It cannot be read.
    #[error("{}: cannot be read ({source}): check the path and its permissions", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A label has no folder.
    #[error("the label {label:?} has no folder in {}: found {found}; add the folder or remove the label", dir.display())]
    MissingLabel {
        /// The label's name.
        label: String,
        /// The folder that was looked in.
        dir: PathBuf,
        /// The names of its sub-folders, as the end of a sentence.
        found: String,
    },
    /// A label has several folders.
    #[error("the label {label:?} fits more than one folder in {}: {found}; rename one", dir.display())]
    AmbiguousLabel {
        /// The label's name.
        label: String,
        /// The folder that was looked in.
        dir: PathBuf,
        /// Their names.
        found: String,
    },
    /// Two labels have the same folder.
    #[error("the labels {first:?} and {second:?} both mean the folder {}: remove one", folder.display())]
    SharedFolder {
        /// The first label's name.
        first: String,
        /// The other label's name.
        second: String,
        /// The folder of both.
        folder: PathBuf,
    },
    /// A folder has no picture.
    #[error("{}: there is no picture in this folder (JPEG, PNG, WebP, BMP, GIF, PNM)", path.display())]
    NoPictures {
        /// The folder.
        path: PathBuf,
    },
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

/// What is in one folder, sorted by name; hidden entries and files that are not pictures are left out.
pub(super) struct Entries {
    pub folders: Vec<PathBuf>,
    pub pictures: Vec<PathBuf>,
}

/// Lists `dir`.
pub(super) fn list(dir: &Path) -> Result<Entries, FolderError> {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A temporary folder with these files; a name that ends with "/" is a folder. Pictures are 1 x 1, and those named
    /// "bad" are empty.
    pub fn folder(names: &[&str]) -> tempfile::TempDir {
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

    pub fn below(root: &Path, paths: &[PathBuf]) -> Vec<String> {
        let inner = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        paths.iter().map(inner).collect()
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
}
