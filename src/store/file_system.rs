//! The few operations on files that keeping something safely needs, behind a trait so that tests can make each
//! of them fail.

use crate::files;
use std::any::Any;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::SystemTime;

/// Operations on files and folders. Names of entries reach the disk for certain only with
/// [`FileSystem::sync_dir`] on their folder.
pub trait FileSystem: Send + Sync {
    /// Makes one folder; its parent exists.
    fn create_dir(&self, folder: &Path, access: Access) -> io::Result<()>;
    /// Makes the names in `folder` outlive a power cut.
    fn sync_dir(&self, folder: &Path) -> io::Result<()>;
    /// Writes a file from the start, replacing what was there. On success its bytes outlive a power cut.
    fn write_synced(&self, file: &Path, bytes: &[u8], access: Access) -> io::Result<()>;
    /// Writes a file that does not exist yet. Its bytes outlive a power cut after [`FileSystem::sync_tree`].
    fn write_new(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that lies in `folder`, however deep, outlive a power cut.
    fn sync_tree(&self, folder: &Path) -> io::Result<()>;
    /// Opens a file to add to, made where it is missing; none where it is open so already, in this process or another.
    fn open_growing(&self, file: &Path) -> io::Result<Option<Box<dyn Growing>>>;
    /// The size of a file, in bytes; an error where it is none.
    fn size(&self, file: &Path) -> io::Result<u64>;
    /// When the bytes of a file were written, by the clock of that moment.
    fn modified(&self, file: &Path) -> io::Result<SystemTime>;
    /// What has this name, if anything has.
    fn kind(&self, path: &Path) -> Option<Kind> {
        self.size(path).ok().map(|_| Kind::File)
    }
    /// Gives a file or a folder another name on the same disk, replacing a file that had that name, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// The bytes of a file, `limit + 1` at most, so that a caller sees that there are too many.
    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>>;
    /// The names in a folder, in order; names that are not Unicode are left out: none of ours is one.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Removes a file.
    fn remove_file(&self, file: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, folder: &Path) -> io::Result<()>;
    /// The lock on `file`, held until it is dropped, or none where another process holds it. Whoever holds it is named in
    /// the file.
    fn try_lock(&self, file: &Path, holder: &str) -> io::Result<Option<Lock>>;
}

/// Who may look at what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whom the account's umask lets.
    Usual,
    /// The account alone, whatever its umask: modes 0600 and 0700.
    Owner,
}

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A link, whatever it leads to, a folder, a FIFO, a socket or a device.
    Other,
}

/// The names in a folder; none where it does not exist.
pub(crate) fn names_in(files: &dyn FileSystem, folder: &Path) -> io::Result<Vec<String>> {
    match files.list(folder) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        names => names,
    }
}

/// Bytes that may be written below `folder`, where the system says.
pub fn free_space(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(folder).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

/// A file that grows, kept from others as long as it is open.
pub trait Growing: Send {
    /// Leaves the first `length` bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Adds bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what is there outlive a power cut.
    fn sync(&mut self) -> io::Result<()>;
    /// Everything from the start on.
    fn content(&mut self) -> io::Result<Box<dyn Read + '_>>;
}

/// A lock that is held; a file system without other processes has nothing to hold.
pub struct Lock {
    pub(super) _held: Option<Box<dyn Any + Send>>,
}

/// The disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl FileSystem for Disk {
    fn create_dir(&self, folder: &Path, access: Access) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        if access == Access::Owner {
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        }
        #[cfg(not(unix))]
        let _ = access;
        builder.create(folder)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        // Windows has no such operation, and some file systems (FAT, FUSE) answer that they have none.
        if cfg!(not(unix)) {
            return Ok(());
        }
        match File::open(folder)?.sync_all() {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    fn write_synced(&self, file: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
        // Never through a link that someone left under this name.
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        restrict(&mut options, access);
        let mut opened = options.open(file)?;
        opened.write_all(bytes)?;
        opened.sync_all()
    }

    fn write_new(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut opened = OpenOptions::new().write(true).create_new(true).open(file)?;
        opened.write_all(bytes)
    }

    fn sync_tree(&self, folder: &Path) -> io::Result<()> {
        // One call for the whole disk costs far less than one for each of a thousand small files.
        #[cfg(target_os = "linux")]
        return Ok(rustix::fs::syncfs(File::open(folder)?)?);
        #[cfg(not(target_os = "linux"))]
        {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    self.sync_tree(&entry.path())?;
                } else {
                    File::open(entry.path())?.sync_all()?;
                }
            }
            self.sync_dir(folder)
        }
    }

    fn open_growing(&self, file: &Path) -> io::Result<Option<Box<dyn Growing>>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let opened = open_own(&mut options, file)?;
        match opened.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(Some(Box::new(GrowingFile(opened)))),
        }
    }

    fn size(&self, file: &Path) -> io::Result<u64> {
        let found = fs::metadata(file)?;
        if !found.is_file() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(found.len())
    }

    fn modified(&self, file: &Path) -> io::Result<SystemTime> {
        fs::metadata(file)?.modified()
    }

    fn kind(&self, path: &Path) -> Option<Kind> {
        let found = fs::symlink_metadata(path).ok()?;
        Some(if found.is_file() {
            Kind::File
        } else {
            Kind::Other
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        files::read(file, limit)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn remove_dir(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir(folder)
    }

    fn try_lock(&self, file: &Path, holder: &str) -> io::Result<Option<Lock>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        // Whoever can open it can hold it for ever.
        restrict(&mut options, Access::Owner);
        let mut opened = open_own(&mut options, file)?;
        keep_to_owner(&opened);
        match opened.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        // Who holds it, for the message of the one who waits; no loss if it cannot be written.
        let _ = opened
            .set_len(0)
            .and_then(|()| opened.write_all(holder.as_bytes()));
        Ok(Some(Lock {
            _held: Some(Box::new(opened)),
        }))
    }
}

/// Opens a file of ours, which is no link that somebody left under its name, and waits for nobody.
fn open_own(options: &mut OpenOptions, file: &Path) -> io::Result<File> {
    let refused = || {
        let what = format!("{} is a link, or no file: remove it", file.display());
        io::Error::new(io::ErrorKind::InvalidInput, what)
    };
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits() as i32);
    }
    let is_other = || fs::symlink_metadata(file).is_ok_and(|found| !found.is_file());
    match options.open(file) {
        Ok(opened) if opened.metadata()?.is_file() => Ok(opened),
        Ok(_) => Err(refused()),
        Err(_) if is_other() => Err(refused()),
        Err(error) => Err(error),
    }
}

/// Has a file that is made readable for those whom `access` means.
fn restrict(options: &mut OpenOptions, access: Access) {
    #[cfg(unix)]
    if access == Access::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = (options, access);
}

/// Takes from others what an earlier version, or another umask, gave them; a file of another account stays as it is.
fn keep_to_owner(file: &File) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = |found: &fs::Metadata| found.permissions().mode() & 0o077 != 0;
        if file.metadata().is_ok_and(|found| open(&found)) {
            let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
        }
    }
    #[cfg(not(unix))]
    let _ = file;
}

/// A [`Growing`] file on the disk.
struct GrowingFile(File);

impl Growing for GrowingFile {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)?;
        self.0.seek(SeekFrom::End(0)).map(|_| ())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.seek(SeekFrom::End(0))?;
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn content(&mut self) -> io::Result<Box<dyn Read + '_>> {
        self.0.seek(SeekFrom::Start(0))?;
        Ok(Box::new(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_does_what_the_trait_says() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        Disk.write_synced(&a, b"first", Access::Usual).unwrap();
        Disk.write_synced(&a, b"1st", Access::Usual).unwrap();
        Disk.write_synced(&b, b"second", Access::Usual).unwrap();
        assert_eq!(Disk.list(folder.path()).unwrap(), ["a", "b"]);
        Disk.rename(&b, &a).unwrap();
        Disk.sync_dir(folder.path()).unwrap();
        assert_eq!(Disk.read(&a, 100).unwrap(), b"second");
        assert_eq!(Disk.read(&a, 3).unwrap(), b"seco");
        Disk.remove_file(&a).unwrap();
        Disk.remove_dir(folder.path()).unwrap();
        assert!(Disk.list(folder.path()).is_err());
    }

    #[test]
    fn a_file_grows_is_cut_and_belongs_to_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let mut file = Disk.open_growing(&path).unwrap().unwrap();
        assert!(Disk.open_growing(&path).unwrap().is_none());
        file.append(b"first").unwrap();
        file.cut(2).unwrap();
        file.append(b"nally").unwrap();
        file.sync().unwrap();
        let mut text = String::new();
        file.content().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), Disk.size(&path).unwrap()), ("finally", 7));
        file.append(b".").unwrap();
        drop(file);
        assert!(Disk.open_growing(&path).unwrap().is_some());
        assert_eq!(fs::read(&path).unwrap(), b"finally.");
        assert!(Disk.size(folder.path()).is_err());
    }

    #[test]
    fn new_files_replace_nothing_and_a_tree_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("inner"), folder.path().join("inner/x"));
        Disk.create_dir(&inner, Access::Usual).unwrap();
        Disk.write_new(&file, b"x").unwrap();
        assert!(Disk.write_new(&file, b"y").is_err());
        Disk.sync_tree(folder.path()).unwrap();
        Disk.rename(&inner, &folder.path().join("other")).unwrap();
        assert_eq!(fs::read(folder.path().join("other/x")).unwrap(), b"x");
    }

    #[cfg(unix)]
    #[test]
    fn writing_replaces_a_link_and_not_what_it_points_at() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        Disk.write_synced(&link, b"other", Access::Usual).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"mine");
        assert_eq!(fs::read(&link).unwrap(), b"other");
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_or_a_download_is_no_link_and_no_fifo() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("mine"), folder.path().join("lock"));
        fs::write(&file, "mine").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let dangling = folder.path().join("dangling");
        std::os::unix::fs::symlink(folder.path().join("new"), &dangling).unwrap();
        for path in [&*link, &fifo, &dangling, folder.path()] {
            let locked = Disk.try_lock(path, "a").map(|_| ()).unwrap_err();
            assert!(locked.to_string().contains("remove it"), "{locked}");
            assert!(Disk.open_growing(path).is_err());
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        assert!(!folder.path().join("new").exists());
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lock");
        let lock = Disk.try_lock(&file, "a long name").unwrap().unwrap();
        assert!(Disk.try_lock(&file, "b").unwrap().is_none());
        assert_eq!(fs::read_to_string(&file).unwrap(), "a long name");
        drop(lock);
        assert!(Disk.try_lock(&file, "b").unwrap().is_some());
        assert_eq!(fs::read_to_string(&file).unwrap(), "b");
    }
}
