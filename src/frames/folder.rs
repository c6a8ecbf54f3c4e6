//! The picture files in a folder, or in any mixture of files and folders. What they are for is decided above.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// File name extensions taken for pictures, in any case.
const EXTENSIONS: [&str; 14] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "pbm", "pgm", "ppm", "pnm", "tif",
    "tiff",
];
/// Those of pictures and films of kinds that are not read: files that people expect to be.
const NOT_READ: [&str; 52] = [
    "heic", "heif", "hif", "avif", "jxl", "jp2", "jpx", "psd", "svg", "ico", "tga", "exr", "hdr",
    "dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf", "raw", "pcx", "qoi", "dds", "xcf",
    "wdp", "jxr", "xbm", "xpm", "mp4", "mov", "m4v", "avi", "mkv", "webm", "mpg", "mpeg", "ts",
    "mts", "m2ts", "3gp", "wmv", "flv", "ogv", "mjpeg", "mjpg", "h264", "264", "h265", "265",
    "hevc",
];
/// Folders that systems and storage devices make: their files are copies and remains, and their names are no labels.
const SYSTEM: [&str; 14] = [
    "__MACOSX",
    "@eaDir",
    "@tmp",
    "@Recycle",
    "@Recently-Snapshot",
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "RECYCLER",
    "lost+found",
    "System Volume Information",
    "FOUND.000",
    "LOST.DIR",
    "Network Trash Folder",
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
    #[error(
        "{}: there is no picture in this folder (JPEG, PNG, WebP, TIFF, BMP, GIF, PNM){}",
        path.display(),
        if left_out.is_empty() { String::new() } else { format!(", but {left_out}") }
    )]
    NoPictures {
        /// The folder.
        path: PathBuf,
        /// What lies there instead.
        left_out: LeftOut,
    },
}

/// What lies in folders of pictures and is not one of them, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// By extension in small letters: as it is first written, and how many files have it.
    kinds: BTreeMap<String, (String, usize)>,
    /// By name: how many system folders.
    system: BTreeMap<String, usize>,
    /// How many links to folders are not followed.
    links: usize,
    /// How many pictures lie in folders that are not looked into.
    deeper: usize,
}

impl LeftOut {
    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.system.is_empty() && self.links + self.deeper == 0
    }

    /// Counts what `other` counted, too.
    pub fn extend(&mut self, other: LeftOut) {
        for (kind, (written, count)) in other.kinds {
            self.kinds.entry(kind).or_insert((written, 0)).1 += count;
        }
        for (name, count) in other.system {
            *self.system.entry(name).or_default() += count;
        }
        self.links += other.links;
        self.deeper += other.deeper;
    }

    /// Counts the pictures that lie in `folders` themselves, as far as they can be read.
    pub(super) fn deeper(&mut self, folders: &[PathBuf]) {
        let inside = folders.iter().filter_map(|folder| list(folder).ok());
        self.deeper += inside.map(|entries| entries.pictures.len()).sum::<usize>();
    }

    fn file(&mut self, path: &Path) {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        let kind = extension.to_lowercase();
        if NOT_READ.contains(&kind.as_str()) {
            let written = format!(".{extension}");
            self.kinds.entry(kind).or_insert((written, 0)).1 += 1;
        }
    }

    fn folder(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        *self.system.entry(name.into_owned()).or_default() += 1;
    }
}

impl fmt::Display for LeftOut {
    /// For people: `6 files of kinds that are not read: .HEIC (convert them to JPEG, ...); 2 folders of the system (@eaDir)`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        let files: usize = self.kinds.values().map(|(_, count)| count).sum();
        if files > 0 {
            let written: Vec<&str> = self.kinds.values().map(|(kind, _)| kind.as_str()).collect();
            let (s, are) = if files == 1 {
                ("", "a kind that is")
            } else {
                ("s", "kinds that are")
            };
            let mut part = format!("{files} file{s} of {are} not read: {}", written.join(", "));
            let mut advices: Vec<&str> = Vec::new();
            for advice in self.kinds.keys().filter_map(|kind| advice(kind)) {
                if !advices.contains(&advice) {
                    advices.push(advice);
                }
            }
            if !advices.is_empty() {
                part += &format!(" ({})", advices.join("; "));
            }
            parts.push(part);
        }
        let folders: usize = self.system.values().sum();
        if folders > 0 {
            let names: Vec<&str> = self.system.keys().map(String::as_str).collect();
            let s = if folders == 1 { "" } else { "s" };
            parts.push(format!(
                "{folders} folder{s} of the system or of thumbnails ({})",
                names.join(", ")
            ));
        }
        match self.links {
            0 => {}
            1 => parts.push(
                "1 link to a folder that holds this one, is looked into anyway, or cannot be read"
                    .into(),
            ),
            links => parts.push(format!(
                "{links} links to folders that hold this one, are looked into anyway, or cannot be read"
            )),
        }
        match self.deeper {
            0 => {}
            1 => parts.push("1 picture that lies in folders inside that of a label".into()),
            deeper => parts.push(format!(
                "{deeper} pictures that lie in folders inside that of a label"
            )),
        }
        out.write_str(&parts.join("; "))
    }
}

/// How to make files of this kind readable.
pub(super) fn advice(kind: &str) -> Option<&'static str> {
    match kind {
        "heic" | "heif" | "hif" => Some(
            "convert HEIC to JPEG, as with `heif-convert IN.heic OUT.jpg`, or have the phone take \"most compatible\" pictures",
        ),
        "avif" => Some("convert AVIF to PNG, as with `avifdec IN.avif OUT.png`"),
        "mp4" | "mov" | "m4v" | "avi" | "mkv" | "webm" | "mpg" | "mpeg" | "ts" | "mts" | "m2ts"
        | "3gp" | "wmv" | "flv" | "ogv" => {
            Some("take single pictures out of a film, as with `ffmpeg -i FILM -r 1 %04d.jpg`")
        }
        "mjpeg" | "mjpg" => Some("name a film of JPEG pictures with --camera file:FILM"),
        _ => None,
    }
}

/// Picture files, and what was not taken for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundPictures {
    /// The picture files, in order.
    pub paths: Vec<PathBuf>,
    /// What lies beside them.
    pub left_out: LeftOut,
}

/// The picture files that `paths` mean, in the order given: a file stands for itself, whatever its name; a folder for
/// the pictures in it and in its sub-folders, sorted by name; hidden ones and those in folders of the system left out.
///
/// # Errors
/// A path that does not exist or cannot be read, and a folder without pictures.
pub fn pictures_in(paths: &[impl AsRef<Path>]) -> Result<FoundPictures, FolderError> {
    let mut found = FoundPictures::default();
    for path in paths.iter().map(AsRef::as_ref) {
        let kind = fs::metadata(path).map_err(|source| unreadable(path, source))?;
        if !kind.is_dir() {
            found.paths.push(path.to_owned());
            continue;
        }
        let mut inside = FoundPictures::default();
        let mut trees = vec![fs::canonicalize(path).map_err(|source| unreadable(path, source))?];
        collect(path, &mut inside, &mut trees)?;
        if inside.paths.is_empty() {
            return Err(FolderError::NoPictures {
                path: path.into(),
                left_out: inside.left_out,
            });
        }
        found.paths.extend(inside.paths);
        found.left_out.extend(inside.left_out);
    }
    Ok(found)
}

/// The picture files that lie in `folder` itself, by name: no hidden ones.
///
/// # Errors
/// If it cannot be read.
pub fn loose_pictures(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    Ok(list(folder)?.pictures)
}

/// Adds what is below `folder`. A link to a folder is followed where it leads out of all `trees` that are looked into, and not to one
/// that holds them: neither in a circle nor to the same pictures twice.
fn collect(
    folder: &Path,
    found: &mut FoundPictures,
    trees: &mut Vec<PathBuf>,
) -> Result<(), FolderError> {
    let entries = list(folder)?;
    found.paths.extend(entries.pictures);
    found.left_out.extend(entries.left_out);
    for folder in entries.folders {
        if !folder.is_symlink() {
            collect(&folder, found, trees)?;
            continue;
        }
        let target = fs::canonicalize(&folder).ok();
        let elsewhere = |target: &PathBuf| {
            trees
                .iter()
                .all(|tree| !target.starts_with(tree) && !tree.starts_with(target))
        };
        match target.filter(elsewhere) {
            Some(target) if fs::read_dir(&target).is_ok() => {
                trees.push(target);
                collect(&folder, found, trees)?;
            }
            _ => found.left_out.links += 1,
        }
    }
    Ok(())
}

/// What is in one folder, sorted by name; hidden entries and files that are not pictures are left out.
pub(super) struct Entries {
    pub folders: Vec<PathBuf>,
    pub pictures: Vec<PathBuf>,
    pub left_out: LeftOut,
}

/// Lists `dir`.
pub(super) fn list(dir: &Path) -> Result<Entries, FolderError> {
    let fail = |source| unreadable(dir, source);
    let (mut folders, mut pictures) = (Vec::new(), Vec::new());
    let mut left_out = LeftOut::default();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if hidden(&path) {
            continue;
        }
        if path.is_dir() {
            if is_of_system(&path) {
                left_out.folder(&path);
            } else {
                folders.push(path);
            }
        } else if is_picture(&path) {
            pictures.push(path);
        } else {
            left_out.file(&path);
        }
    }
    folders.sort();
    pictures.sort();
    Ok(Entries {
        folders,
        pictures,
        left_out,
    })
}

fn unreadable(path: &Path, source: std::io::Error) -> FolderError {
    let path = path.to_owned();
    FolderError::Read { path, source }
}

/// Whether this is a folder that a system or a storage device made, in any case.
pub(super) fn is_of_system(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    SYSTEM
        .iter()
        .any(|system| name.eq_ignore_ascii_case(OsStr::new(system)))
}

pub(super) fn hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a path below a folder is that of a picture: neither hidden, as half-copied files are, nor in a folder that is
/// hidden or of the system.
pub(super) fn is_picture_below(relative: &Path) -> bool {
    is_picture(relative) && is_looked_into(relative)
}

/// Whether neither a path below a folder nor a folder on its way is hidden or of the system.
pub(super) fn is_looked_into(relative: &Path) -> bool {
    let ways = relative.ancestors();
    ways.take_while(|way| !way.as_os_str().is_empty())
        .all(|way| !hidden(way) && !is_of_system(way))
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

    #[cfg(unix)]
    #[test]
    fn links_to_folders_are_followed_and_lead_nowhere_twice() {
        let dir = folder(&["real/1.pgm", "set/fish/2.pgm"]);
        let set = dir.path().join("set");
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, set.join(name));
        link(&dir.path().join("real"), "mug").unwrap();
        link(&set, "round").unwrap();
        link(dir.path(), "up").unwrap();
        link(&set.join("fish"), "twice").unwrap();
        let found = pictures_in(std::slice::from_ref(&set)).unwrap();
        assert_eq!(below(&set, &found.paths), ["fish/2.pgm", "mug/1.pgm"]);
        let told = found.left_out.to_string();
        assert_eq!(
            told,
            "3 links to folders that hold this one, are looked into anyway, or cannot be read"
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
        let list = pictures_in(&[at("odd.name"), at("b")]).unwrap().paths;
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

    #[test]
    fn files_that_people_expect_to_be_read_are_counted_by_kind() {
        let dir = folder(&[
            "1.HEIC",
            "2.heic",
            "in/3.HEIC",
            "4.png",
            "notes.txt",
            "5.avif",
        ]);
        let found = pictures_in(&[dir.path()]).unwrap();
        let told = found.left_out.to_string();
        assert!(
            told.starts_with("4 files of kinds that are not read: .avif, ."),
            "{told}"
        );
        // Each with what to do about it, and not the first alone.
        assert!(told.contains("avifdec"), "{told}");
        assert!(told.contains("heif-convert"), "{told}");
        let phone = folder(&["1.HEIC", "2.HEIC", "3.HEIC"]);
        let message = pictures_in(&[phone.path()]).unwrap_err().to_string();
        assert!(
            message.contains("but 3 files of kinds that are not read: .HEIC (convert HEIC to JPEG"),
            "{message}"
        );
    }

    #[test]
    fn folders_of_systems_and_thumbnails_hold_no_pictures() {
        let dir = folder(&[
            "1.png",
            "@eaDir/1.png/thumb.jpg",
            "in/@eaDir/x.jpg",
            "__MACOSX/._1.png",
            "$RECYCLE.BIN/2.png",
            "lost+found/3.png",
            "System Volume Information/4.png",
        ]);
        let found = pictures_in(&[dir.path()]).unwrap();
        assert_eq!(below(dir.path(), &found.paths), ["1.png"]);
        let told = found.left_out.to_string();
        assert!(
            told.starts_with("6 folders") && told.contains("@eaDir"),
            "{told}"
        );
    }
}
