//! Files that others give: only regular ones are opened, and none is read without a limit. A FIFO would be waited for without
//! end, and a device can do anything when it is opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file for reading; links are followed.
///
/// # Errors
/// If it cannot be opened, or is a folder, a FIFO, a socket or a device.
pub fn open(path: &Path) -> io::Result<File> {
    // Before it is opened, for opening alone can do something; and after, for it may have become another in between.
    check(&fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A FIFO that took its place is not waited for.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    let file = options.open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// The bytes of a regular file, `limit + 1` at most, so that a caller sees that there are too many.
///
/// # Errors
/// As [`open`], and if it cannot be read.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How a pointer of Git LFS begins, which a clone without it leaves in place of a large file.
pub const LFS_VERSION: &[u8] = b"version https://git-lfs";
/// What such a file is, and what to do about it.
pub const LFS_POINTER: &str = "a pointer of Git LFS, not the file itself: run `git lfs pull` where it was cloned, or \
    download the file";

/// Whether the file at `path` is a pointer of Git LFS.
pub fn is_lfs_pointer(path: &Path) -> bool {
    let most = LFS_VERSION.len() as u64;
    read(path, most).is_ok_and(|bytes| bytes.starts_with(LFS_VERSION))
}

fn check(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_one_byte_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 9).unwrap(), b"12345");
        assert_eq!(read(&path, 2).unwrap(), b"123");
        assert_eq!(
            read(folder.path(), 9).unwrap_err().kind(),
            io::ErrorKind::IsADirectory
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_what_is_not_a_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, b"x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&link, 9).unwrap(), b"x");
        let fifo = folder.path().join("fifo.jpg");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for path in [&fifo, Path::new("/dev/zero")] {
            let error = read(path, 9).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
    }
}
