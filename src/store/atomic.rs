//! Writes that are whole or absent: a temporary file in the same folder, synced, renamed, and the folder synced.

use super::file_system::{Access, FileSystem, Kind};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

/// Puts `bytes` at `path`. After success they are there, whatever happens to the power; until then whatever was
/// there before still is.
pub fn write(files: &dyn FileSystem, path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}{TEMPORARY}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    if let Err(error) = files
        .write_synced(&temporary, bytes, access)
        .and_then(|()| files.rename(&temporary, path))
    {
        // What is left behind otherwise is removed by `clean`.
        let _ = files.remove_file(&temporary);
        return Err(error);
    }
    files.sync_dir(&folder_of(path))
}

/// What a write may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Nothing: whatever has the name is in the way.
    Nothing,
    /// A regular file. A link, a device or a FIFO is in the way.
    File,
    /// Whatever has the name, but for a folder. A link is replaced, not what it leads to.
    Anything,
}

/// Puts `bytes` at `path` as [`write`] does, where `replace` allows it.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] with nothing written where something is in the way, and as [`write`].
pub fn write_over(
    files: &dyn FileSystem,
    path: &Path,
    bytes: &[u8],
    replace: Replace,
    access: Access,
) -> io::Result<()> {
    may_replace(files, path, replace)?;
    write(files, path, bytes, access)
}

/// Whether [`write_over`] would write to `path`, tried out with a file beside it that goes away again: to be asked before
/// work that would be lost otherwise.
///
/// # Errors
/// Those of [`write_over`].
pub fn check_over(files: &dyn FileSystem, path: &Path, replace: Replace) -> io::Result<()> {
    may_replace(files, path, replace)?;
    path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let trial = folder_of(path).join(format!(".trial.{}{TEMPORARY}", std::process::id()));
    let written = files.write_synced(&trial, b"trial", Access::Owner);
    let _ = files.remove_file(&trial);
    written
}

fn may_replace(files: &dyn FileSystem, path: &Path, replace: Replace) -> io::Result<()> {
    if files.kind(path) == Some(Kind::Other) && files.list(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a folder",
        ));
    }
    let in_the_way = match (replace, files.kind(path)) {
        (_, None) | (Replace::Anything, _) | (Replace::File, Some(Kind::File)) => None,
        (Replace::Nothing, Some(Kind::File)) => Some("it exists"),
        (_, Some(Kind::Other)) => Some("it exists, and is not a regular file"),
    };
    match in_the_way {
        Some(why) => Err(io::Error::new(io::ErrorKind::AlreadyExists, why)),
        None => Ok(()),
    }
}

/// Puts files into the folder `out`, which is made where it is missing and must hold nothing: `content` are paths in it,
/// folders before what lies in them left to us, and their bytes. All of them are written aside and made safe before the
/// first appears; what then appears in `out` does so in the order in which it first occurs in `content`. An error in `content` ends it.
///
/// # Errors
/// [`io::ErrorKind::DirectoryNotEmpty`] where something is in `out`; whatever else fails leaves it empty.
pub fn write_folder(
    files: &dyn FileSystem,
    out: &Path,
    content: impl IntoIterator<Item = io::Result<(PathBuf, Vec<u8>)>>,
) -> io::Result<()> {
    create_folder(files, out, Access::Usual)?;
    let staging = out.join(format!(".{}{TEMPORARY}", std::process::id()));
    let left_over = |name: &String| name.starts_with('.') && name.ends_with(TEMPORARY);
    let names = files.list(out)?;
    if !names.iter().all(left_over) {
        return Err(io::ErrorKind::DirectoryNotEmpty.into());
    }
    for name in names {
        remove_tree(files, &out.join(name));
    }
    let mut appear = Vec::new();
    let mut moved = 0;
    let written = (|| {
        files.create_dir(&staging, Access::Usual)?;
        let mut folders = HashSet::from([PathBuf::new()]);
        for file in content {
            let (path, bytes) = file?;
            let above: Vec<_> = path.ancestors().skip(1).collect();
            for folder in above.into_iter().rev() {
                if folders.insert(folder.to_owned()) {
                    files.create_dir(&staging.join(folder), Access::Usual)?;
                }
            }
            files.write_new(&staging.join(&path), &bytes)?;
            let first = path.iter().next().map(PathBuf::from).unwrap_or_default();
            if !appear.contains(&first) {
                appear.push(first);
            }
        }
        files.sync_tree(&staging)?;
        for name in &appear {
            files.rename(&staging.join(name), &out.join(name))?;
            moved += 1;
        }
        files.remove_dir(&staging)?;
        files.sync_dir(out)
    })();
    written.inspect_err(|_| {
        for name in &appear[..moved] {
            remove_tree(files, &out.join(name));
        }
        remove_tree(files, &staging);
    })
}

/// Removes a file, or a folder with all that is in it, as far as that can be done.
fn remove_tree(files: &dyn FileSystem, path: &Path) {
    if files.remove_file(path).is_err() {
        for name in files.list(path).unwrap_or_default() {
            remove_tree(files, &path.join(name));
        }
        let _ = files.remove_dir(path);
    }
}

/// Makes `folder` and the folders above it, as far as they are missing, and makes them outlive a power cut.
pub fn create_folder(files: &dyn FileSystem, folder: &Path, access: Access) -> io::Result<()> {
    let parent = folder_of(folder);
    let mut made = files.create_dir(folder, access);
    if matches!(&made, Err(error) if error.kind() == io::ErrorKind::NotFound) && parent != folder {
        create_folder(files, &parent, access)?;
        made = files.create_dir(folder, access);
    }
    match made {
        // Another process may have made it between two of these steps.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        result => result?,
    }
    files.sync_dir(&parent).inspect_err(|_| {
        // The next attempt must not take an unsynced folder for a safe one.
        let _ = files.remove_dir(folder);
    })
}

/// Removes temporary files that an interrupted write left in `folder`. The caller holds the lock, so that no
/// write is under way; what cannot be removed is left for the next time.
pub fn clean(files: &dyn FileSystem, folder: &Path) {
    clean_all(files, folder, ".");
}

/// As [`clean`], of writes to the file `of` alone.
pub fn clean_of(files: &dyn FileSystem, folder: &Path, of: &str) {
    clean_all(files, folder, &format!(".{of}."));
}

fn clean_all(files: &dyn FileSystem, folder: &Path, begins: &str) {
    for name in files.list(folder).unwrap_or_default() {
        if name.starts_with(begins) && name.ends_with(TEMPORARY) {
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
        let run =
            |disk: &FaultyDisk| write(disk, Path::new("/f/x"), b"the new bytes", Access::Usual);
        let prepare = || {
            let disk = FaultyDisk::default();
            create_folder(&disk, Path::new("/f"), Access::Usual).unwrap();
            write(&disk, Path::new("/f/x"), b"the old bytes", Access::Usual).unwrap();
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

    fn pictures() -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
        let file = |path: &str| (PathBuf::from(path), path.as_bytes().to_vec());
        ["a/b/1", "a/b/2", "c/3", "labels"].into_iter().map(file)
    }

    #[test]
    fn a_folder_is_whole_empty_or_lacks_its_last_parts_wherever_its_writing_is_cut() {
        let prepare = || {
            let disk = FaultyDisk::default();
            create_folder(&disk, Path::new("/f"), Access::Usual).unwrap();
            disk.count_from_here();
            disk
        };
        let run = |disk: &FaultyDisk| write_folder(disk, Path::new("/f/out"), pictures().map(Ok));
        let whole = prepare();
        run(&whole).unwrap();
        let survivals = Survival::all();
        let cuts = survivals.iter().map(|s| (Fault::PowerCut, *s));
        let failures = [Fault::FailOnce, Fault::FailFromThere].map(|f| (f, survivals[0]));
        let mut tried = 0;
        for (fault, survival) in cuts.chain(failures) {
            for k in 1..=whole.operations() + 1 {
                let disk = prepare();
                disk.fault_at(k, fault);
                let done = run(&disk).is_ok();
                match fault {
                    Fault::PowerCut => disk.restart(survival),
                    _ => disk.heal(),
                }
                let there = |path: &Path| disk.read(&Path::new("/f/out").join(path), 100).ok();
                for (path, bytes) in pictures() {
                    let found = there(&path);
                    assert!(
                        found.as_ref() == Some(&bytes) || (found.is_none() && !done),
                        "{fault:?} at {k}, {survival:?}: {path:?} is {found:?}"
                    );
                }
                if fault == Fault::FailOnce && !done {
                    run(&disk).unwrap();
                }
                tried += 1;
            }
        }
        println!("folder: {tried} failures and power cuts survived");
    }

    #[test]
    fn a_folder_in_use_is_left_alone_and_what_an_earlier_run_left_is_not_in_the_way() {
        let disk = FaultyDisk::default();
        create_folder(&disk, Path::new("/out/.77.tmp/a"), Access::Usual).unwrap();
        disk.write_new(Path::new("/out/.77.tmp/a/x"), b"half")
            .unwrap();
        write_folder(&disk, Path::new("/out"), pictures().map(Ok)).unwrap();
        assert_eq!(disk.list(Path::new("/out")).unwrap(), ["a", "c", "labels"]);
        let again = write_folder(&disk, Path::new("/out"), pictures().map(Ok)).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::DirectoryNotEmpty);
    }

    #[test]
    fn folders_are_made_all_the_way_down_and_outlive_a_power_cut() {
        let disk = FaultyDisk::default();
        create_folder(&disk, Path::new("/a/b/c"), Access::Usual).unwrap();
        create_folder(&disk, Path::new("/a/b/c"), Access::Usual).unwrap();
        disk.restart(Survival::all()[0]);
        assert!(disk.list(Path::new("/a/b/c")).unwrap().is_empty());
    }

    #[test]
    fn only_what_may_be_replaced_is() {
        use super::super::file_system::Disk;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), b"old").unwrap();
        let refused = |name: &str, replace| {
            let error = write_over(&Disk, &at(name), b"new", replace, Access::Usual).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
        };
        refused("file", Replace::Nothing);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
            let made = std::process::Command::new("mkfifo")
                .arg(at("fifo"))
                .status();
            assert!(made.unwrap().success());
            for name in ["link", "fifo"] {
                refused(name, Replace::Nothing);
                refused(name, Replace::File);
            }
            write_over(&Disk, &at("link"), b"new", Replace::Anything, Access::Usual).unwrap();
            assert_eq!(std::fs::read(at("file")).unwrap(), b"old");
            assert_eq!(std::fs::read(at("link")).unwrap(), b"new");
        }
        write_over(&Disk, &at("file"), b"new", Replace::File, Access::Usual).unwrap();
        assert_eq!(std::fs::read(at("file")).unwrap(), b"new");
        write_over(&Disk, &at("none"), b"new", Replace::Nothing, Access::Usual).unwrap();
    }

    #[test]
    fn a_path_without_a_file_name_is_an_error() {
        assert!(write(&FaultyDisk::default(), Path::new("/"), b"x", Access::Usual).is_err());
    }
}
