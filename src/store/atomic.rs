//! Writes that are whole or absent: a temporary file in the same folder, synced, renamed, and the folder synced.
//! It must not know what is written.

use super::file_system::FileSystem;
use std::io;
use std::path::{Path, PathBuf};

/// Puts `bytes` at `path`. After success they are there, whatever happens to the power; until then whatever was
/// there before still is.
pub fn write(files: &dyn FileSystem, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}{TEMPORARY}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    if let Err(error) = files
        .write_synced(&temporary, bytes)
        .and_then(|()| files.rename(&temporary, path))
    {
        // What is left behind otherwise is removed by `clean`.
        let _ = files.remove_file(&temporary);
        return Err(error);
    }
    files.sync_dir(&folder_of(path))
}

/// Makes `folder` and the folders above it, as far as they are missing, and makes them outlive a power cut.
pub fn create_folder(files: &dyn FileSystem, folder: &Path) -> io::Result<()> {
    let parent = folder_of(folder);
    match files.create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent != folder => {
            create_folder(files, &parent)?;
            files.create_dir(folder)?;
        }
        result => result?,
    }
    files.sync_dir(&parent).inspect_err(|_| {
        // The next attempt shall not take an unsynced folder for a safe one.
        let _ = files.remove_dir(folder);
    })
}

/// Removes temporary files that an interrupted write left in `folder`. The caller holds the lock, so that no
/// write is under way; what cannot be removed is left for the next time.
pub fn clean(files: &dyn FileSystem, folder: &Path) {
    for name in files.list(folder).unwrap_or_default() {
        if name.starts_with('.') && name.ends_with(TEMPORARY) {
            let _ = files.remove_file(&folder.join(name));
        }
    }
}

/// How the names of temporary files end.
const TEMPORARY: &str = ".tmp";

/// The folder a path lies in; for a bare name the current one.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.into(),
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::{Fault, FaultyDisk, Survival};
    use super::*;

    #[test]
    fn a_write_that_is_cut_anywhere_leaves_the_old_bytes_or_the_new() {
        let run = |disk: &FaultyDisk| write(disk, Path::new("/f/x"), b"the new bytes");
        let prepare = || {
            let disk = FaultyDisk::default();
            create_folder(&disk, Path::new("/f")).unwrap();
            write(&disk, Path::new("/f/x"), b"the old bytes").unwrap();
            disk.count_from_here();
            disk
        };
        let whole = prepare();
        run(&whole).unwrap();
        assert!(whole.operations() >= 5, "{}", whole.operations());
        for survival in Survival::all() {
            for k in 1..=whole.operations() + 1 {
                let disk = prepare();
                disk.fault_at(k, Fault::PowerCut);
                let done = run(&disk).is_ok();
                disk.restart(survival);
                let found = disk.read(Path::new("/f/x"), 100).unwrap();
                assert!(
                    found == b"the new bytes" || (found == b"the old bytes" && !done),
                    "{k} {found:?}"
                );
                clean(&disk, Path::new("/f"));
                assert_eq!(disk.list(Path::new("/f")).unwrap(), ["x"]);
            }
        }
    }

    #[test]
    fn folders_are_made_all_the_way_down_and_outlive_a_power_cut() {
        let disk = FaultyDisk::default();
        create_folder(&disk, Path::new("/a/b/c")).unwrap();
        create_folder(&disk, Path::new("/a/b/c")).unwrap();
        disk.restart(Survival::all()[0]);
        assert!(disk.list(Path::new("/a/b/c")).unwrap().is_empty());
    }

    #[test]
    fn a_path_without_a_file_name_is_an_error() {
        assert!(write(&FaultyDisk::default(), Path::new("/"), b"x").is_err());
    }
}
