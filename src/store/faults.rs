//! A disk for tests, in memory, on which any operation can be made to fail and the power can be cut at any
//! operation. It keeps apart what a program sees and what is safe, as the kernel's caches do.

use super::file_system::{FileSystem, Lock};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails; those after it do not.
    FailOnce,
    /// It and all after it that write fail, as on a disk that is full or has become read-only.
    FailFromThere,
    /// Nothing happens any more until [`FaultyDisk::restart`].
    PowerCut,
}

/// Which unsynced changes a power cut spares. A real disk may spare any of them.
#[derive(Clone, Copy, Debug)]
pub struct Survival {
    names: Names,
    bytes: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    None,
    All,
    InHistory,
    OutsideHistory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    None,
    All,
    Half,
}

impl Survival {
    /// All that are tried; nothing unsynced survives the first.
    pub fn all() -> Vec<Survival> {
        let names = [
            Names::None,
            Names::All,
            Names::InHistory,
            Names::OutsideHistory,
        ];
        let bytes = [Bytes::None, Bytes::All, Bytes::Half];
        names
            .into_iter()
            .flat_map(|names| bytes.map(|bytes| Survival { names, bytes }))
            .collect()
    }

    fn spares_name(self, path: &Path) -> bool {
        let folder = path.parent().and_then(Path::extension);
        let in_history = folder.is_some_and(|extension| extension == "history");
        match self.names {
            Names::None => false,
            Names::All => true,
            Names::InHistory => in_history,
            Names::OutsideHistory => !in_history,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Clone, Default)]
struct Content {
    seen: Vec<u8>,
    safe: Vec<u8>,
}

#[derive(Default)]
struct State {
    seen: BTreeMap<PathBuf, Node>,
    safe: BTreeMap<PathBuf, Node>,
    contents: Vec<Content>,
    operations: usize,
    fault: Option<(usize, Fault)>,
}

/// The disk; a clone is the same disk.
#[derive(Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    /// Operations since the last [`FaultyDisk::count_from_here`].
    pub fn operations(&self) -> usize {
        self.state().operations
    }

    /// Starts counting anew.
    pub fn count_from_here(&self) {
        self.state().operations = 0;
    }

    /// Arms a fault at the `k`-th operation, counted from 1.
    pub fn fault_at(&self, k: usize, fault: Fault) {
        self.state().fault = Some((k, fault));
    }

    /// The fault is over, and what a program saw is still there.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// The power comes back: what was safe is there, and of the rest what `survival` spares.
    pub fn restart(&self, survival: Survival) {
        let state = &mut *self.state();
        let mut left = state.safe.clone();
        left.retain(|path, _| !survival.spares_name(path));
        left.extend(
            state
                .seen
                .iter()
                .filter(|(path, _)| survival.spares_name(path))
                .map(|(p, n)| (p.clone(), *n)),
        );
        // What lies in a folder that is gone is gone; a folder sorts before what lies in it.
        let mut whole = BTreeMap::new();
        for (path, node) in left {
            let parent = path.parent().unwrap_or(Path::new("/"));
            if parent == Path::new("/") || whole.get(parent) == Some(&Node::Folder) {
                whole.insert(path, node);
            }
        }
        for content in &mut state.contents {
            if content.seen != content.safe {
                match survival.bytes {
                    Bytes::None => content.seen = content.safe.clone(),
                    Bytes::All => {}
                    Bytes::Half => content.seen.truncate(content.seen.len() / 2),
                }
                content.safe = content.seen.clone();
            }
        }
        (state.seen, state.safe, state.fault) = (whole.clone(), whole, None);
    }

    /// Flips one bit of a file, safely.
    pub fn flip(&self, file: &Path, bit: usize) {
        let state = &mut *self.state();
        if let Some(Node::File(id)) = state.seen.get(file) {
            let content = &mut state.contents[*id];
            content.seen[bit / 8] ^= 1 << (bit % 8);
            content.safe = content.seen.clone();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    /// Counts one operation and says whether it fails.
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.fault {
            Some((k, Fault::FailOnce)) if self.operations == k => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some((k, Fault::FailFromThere)) if self.operations >= k => {
                Err(io::ErrorKind::ReadOnlyFilesystem.into())
            }
            Some((k, Fault::PowerCut)) if self.operations >= k => {
                Err(io::Error::other("the power is off"))
            }
            _ => Ok(()),
        }
    }

    fn folder(&self, folder: &Path) -> io::Result<()> {
        let there = folder == Path::new("/") || self.seen.get(folder) == Some(&Node::Folder);
        if there {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn file(&self, file: &Path) -> io::Result<usize> {
        match self.seen.get(file) {
            Some(Node::File(id)) => Ok(*id),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn names_in<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
        self.seen
            .iter()
            .filter(move |(path, _)| path.parent() == Some(folder))
    }
}

impl FileSystem for FaultyDisk {
    fn create_dir(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.folder(folder.parent().unwrap_or(Path::new("/")))?;
        if state.folder(folder).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.seen.insert(folder.into(), Node::Folder);
        Ok(())
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        let state = &mut *self.state();
        state.step()?;
        state.folder(folder)?;
        state.safe.retain(|path, _| path.parent() != Some(folder));
        let synced: Vec<_> = state
            .names_in(folder)
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        state.safe.extend(synced);
        Ok(())
    }

    /// Three operations: make the file, write it (half of it where that fails), sync it.
    fn write_synced(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.state();
        state.step()?;
        state.folder(file.parent().unwrap_or(Path::new("/")))?;
        let id = state.contents.len();
        state.contents.push(Content::default());
        state.seen.insert(file.into(), Node::File(id));
        let written = state.step();
        let length = if written.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        state.contents[id].seen = bytes[..length].to_vec();
        written?;
        state.step()?;
        state.contents[id].safe = bytes.to_vec();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let id = state.file(from)?;
        state.seen.remove(from);
        state.seen.insert(to.into(), Node::File(id));
        Ok(())
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let state = self.state();
        let content = &state.contents[state.file(file)?].seen;
        Ok(content.iter().copied().take(limit as usize + 1).collect())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.folder(folder)?;
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok(state.names_in(folder).map(|(path, _)| name(path)).collect())
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.file(file)?;
        state.seen.remove(file);
        Ok(())
    }

    fn remove_dir(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.folder(folder)?;
        if state.names_in(folder).next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.seen.remove(folder);
        Ok(())
    }

    fn try_lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Lock { _file: None }))
    }
}
