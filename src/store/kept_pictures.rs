//! A folder of pictures that is bounded in number and bytes: the oldest make room for new ones. `000001.jpg` and so on, so that
//! the order is known without a clock; whatever else lies there, and what was sorted into sub-folders, is left alone. A folder
//! that holds numbered pictures of somebody else is refused: they would be the oldest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::file_system::{Access, Disk, FileSystem};
use super::{Home, StoreError, atomic};

const EXTENSION: &str = ".jpg";
/// Says that the numbered pictures beside it are this program's; holds the number of the newest that was removed, if one was while it
/// was the newest.
const MARK: &str = ".edge-rlp";
/// More bytes than a number has.
const MAX_MARK: u64 = 32;

/// A bounded folder of pictures.
#[derive(Clone)]
pub struct KeptPictures {
    files: Arc<dyn FileSystem>,
    folder: PathBuf,
    most: usize,
    most_bytes: u64,
}

impl std::fmt::Debug for KeptPictures {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} pictures in {}", self.most, self.folder.display())
    }
}

impl KeptPictures {
    /// Pictures that are kept at most where nobody says how many, and their bytes.
    pub const MOST: usize = 200;
    /// The bytes that pictures of one folder may have together.
    pub const BYTES: u64 = 64 << 20;

    /// At most `most` pictures of `most_bytes` together in `folder`, which is made when there is one.
    pub fn new(folder: &Path, most: usize, most_bytes: u64) -> KeptPictures {
        KeptPictures::with_files(folder, (most, most_bytes), Arc::new(Disk))
    }

    /// The same on any file system.
    pub fn with_files(
        folder: &Path,
        (most, most_bytes): (usize, u64),
        files: Arc<dyn FileSystem>,
    ) -> KeptPictures {
        KeptPictures {
            files,
            folder: folder.into(),
            most,
            most_bytes,
        }
    }

    /// Those of a home folder that wait to be labelled: `most` at most, of [`KeptPictures::BYTES`].
    pub fn uncertain(home: &Home, most: usize) -> KeptPictures {
        KeptPictures::new(&home.root().join("uncertain"), most, KeptPictures::BYTES)
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps `jpeg`, the bytes of a JPEG file, for this account alone, in place of the oldest where there are too many.
    ///
    /// # Errors
    /// If it cannot be written, or has more bytes than all may have.
    pub fn add(&self, jpeg: &[u8]) -> Result<PathBuf, StoreError> {
        let failed = StoreError::writing(&self.folder);
        let wanted = jpeg.len() as u64;
        if wanted > self.most_bytes {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        atomic::create_folder(&*self.files, &self.folder, Access::Owner).map_err(failed)?;
        atomic::clean(&*self.files, &self.folder);
        let kept = self.kept()?;
        let mark = self.folder.join(MARK);
        if self.files.kind(&mark).is_none() {
            if !kept.is_empty() {
                return Err(StoreError::writing(&self.folder)(io::Error::other(
                    "it holds numbered pictures of something else: use a folder of its own",
                )));
            }
            atomic::write(&*self.files, &mark, b"", Access::Owner)
                .map_err(StoreError::writing(&mark))?;
        }
        let newest = kept.last().map_or(0, |(number, ..)| *number);
        let newest = newest.max(marked(&*self.files, &self.folder));
        let mut bytes: u64 = kept.iter().map(|(.., bytes)| bytes).sum();
        let mut count = kept.len();
        for (_, path, of) in &kept {
            if count < self.most.max(1) && bytes + wanted <= self.most_bytes {
                break;
            }
            self.files
                .remove_file(path)
                .map_err(StoreError::writing(path))?;
            (count, bytes) = (count - 1, bytes - of);
        }
        let path = self.folder.join(format!("{:06}{EXTENSION}", newest + 1));
        atomic::write(&*self.files, &path, jpeg, Access::Owner)
            .map_err(StoreError::writing(&path))?;
        Ok(path)
    }

    /// Removes those that were kept more than `age` before `now`; how many there were.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove_older(&self, age: Duration, now: SystemTime) -> Result<usize, StoreError> {
        if self.files.kind(&self.folder.join(MARK)).is_none() {
            return Ok(0);
        }
        let mut removed = 0;
        for (number, path, _) in self.kept()? {
            let kept = self.files.modified(&path).ok();
            let passed = kept.and_then(|kept| now.duration_since(kept).ok());
            if passed.is_some_and(|passed| passed > age) {
                retire(&*self.files, &self.folder, number);
                self.files
                    .remove_file(&path)
                    .map_err(StoreError::writing(&path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Numbers, files and bytes, oldest first.
    fn kept(&self) -> Result<Vec<(u64, PathBuf, u64)>, StoreError> {
        let listed = self.files.list(&self.folder);
        let mut kept: Vec<(u64, PathBuf, u64)> = listed
            .map_err(StoreError::writing(&self.folder))?
            .iter()
            .filter_map(|name| {
                let number = numbered(name)?;
                let path = self.folder.join(name);
                let bytes = self.files.size(&path).ok()?;
                Some((number, path, bytes))
            })
            .collect();
        kept.sort();
        Ok(kept)
    }
}

fn numbered(name: &str) -> Option<u64> {
    name.strip_suffix(EXTENSION)?.parse().ok()
}

fn marked(files: &dyn FileSystem, folder: &Path) -> u64 {
    let mark = files.read(&folder.join(MARK), MAX_MARK).unwrap_or_default();
    let number = String::from_utf8(mark).ok();
    number.map_or(0, |number| number.trim().parse().unwrap_or(0))
}

/// To be called before the picture of this number is removed: where it is the newest, the next must not be taken for it. As far as
/// that can be written.
pub(crate) fn retire(files: &dyn FileSystem, folder: &Path, number: u64) {
    let names = files.list(folder).unwrap_or_default();
    let newest = names.iter().filter_map(|name| numbered(name)).max();
    if newest == Some(number) && number > marked(files, folder) {
        let text = number.to_string();
        let _ = atomic::write(files, &folder.join(MARK), text.as_bytes(), Access::Owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names = Disk.list(folder).unwrap();
        names.retain(|name| name != MARK);
        names
    }

    /// `--keep-uncertain` of a folder of photographs had the oldest of them make room.
    #[test]
    fn numbered_pictures_of_somebody_else_are_not_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("000001.jpg"), "a holiday").unwrap();
        let error = KeptPictures::new(dir.path(), 1, 1000).add(&[7]);
        let message = error.unwrap_err().to_string();
        assert!(message.contains("a folder of its own"), "{message}");
        assert_eq!(names(dir.path()), ["000001.jpg"]);
    }

    /// Somebody's page may still show the one that had the number, and label the other.
    #[test]
    fn no_number_is_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptPictures::new(dir.path(), 5, 1000);
        kept.add(&[1]).unwrap();
        let newest = kept.add(&[2]).unwrap();
        assert!(newest.ends_with("000002.jpg"));
        retire(&Disk, dir.path(), 2);
        std::fs::remove_file(newest).unwrap();
        assert!(kept.add(&[3]).unwrap().ends_with("000003.jpg"));
        let (later, none) = (SystemTime::now() + Duration::from_secs(9), Duration::ZERO);
        assert_eq!(kept.remove_older(none, later).unwrap(), 2);
        assert!(kept.add(&[4]).unwrap().ends_with("000004.jpg"));
    }

    #[test]
    fn pictures_that_are_too_old_go() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptPictures::new(dir.path(), 9, 1000);
        (0..3).for_each(|_| drop(kept.add(&[7]).unwrap()));
        let day = Duration::from_secs(86_400);
        let now = SystemTime::now();
        assert_eq!(kept.remove_older(day, now).unwrap(), 0);
        assert_eq!(kept.remove_older(day, now + 2 * day).unwrap(), 3);
        assert!(names(dir.path()).is_empty());
        let nowhere = KeptPictures::new(&dir.path().join("none"), 9, 1000);
        assert_eq!(nowhere.remove_older(day, now).unwrap(), 0);
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("in/uncertain");
        let kept = KeptPictures::new(&folder, 3, 1000);
        for size in [10, 20, 30, 40] {
            kept.add(&vec![7; size]).unwrap();
        }
        assert_eq!(names(&folder), ["000002.jpg", "000003.jpg", "000004.jpg"]);
        kept.add(&[7; 950]).unwrap();
        assert_eq!(names(&folder), ["000004.jpg", "000005.jpg"]);
        assert!(kept.add(&[7; 1001]).is_err());
        assert_eq!(names(&folder).len(), 2, "nothing made room for it");
        // What is not of this folder is left alone.
        std::fs::create_dir(folder.join("mug")).unwrap();
        std::fs::write(folder.join("mug/000001.jpg"), "x").unwrap();
        std::fs::write(folder.join("note.txt"), "x").unwrap();
        (0..5).for_each(|_| drop(kept.add(&[7; 10]).unwrap()));
        assert_eq!(names(&folder).len(), 5);
    }

    #[cfg(unix)]
    #[test]
    fn pictures_are_for_this_account_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("uncertain");
        let path = KeptPictures::new(&folder, 3, 1000).add(&[1]).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
    }
}
