//! A disk for tests, in memory, on which any operation can be made to fail and the power can be cut at any
//! operation. It keeps apart what a program sees and what is safe, as the kernel's caches do.

use super::file_system::{Access, FileSystem, Growing, Lock};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

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
    /// As many as were written, but zeros: the length was safe before the bytes.
    Zeroed,
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
        let bytes = [Bytes::None, Bytes::All, Bytes::Half, Bytes::Zeroed];
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
    modified: Option<SystemTime>,
}

#[derive(Default)]
struct State {
    seen: BTreeMap<PathBuf, Node>,
    safe: BTreeMap<PathBuf, Node>,
    contents: Vec<Content>,
    /// Folders that have another name: until the new one is synced, what is safe in them is so under the old one.
    moves: Vec<(PathBuf, PathBuf)>,
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
            // Of a file that grew, what was synced before stays.
            let grown = content.seen.starts_with(&content.safe);
            let kept = if grown { content.safe.len() } else { 0 };
            let new = content.seen.len() - kept;
            if content.seen != content.safe {
                match survival.bytes {
                    Bytes::None => content.seen = content.safe.clone(),
                    Bytes::All => {}
                    Bytes::Half => content.seen.truncate(kept + new / 2),
                    Bytes::Zeroed => content.seen[kept..].fill(0),
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

    /// Has a file be written at that time.
    pub fn date(&self, file: &Path, time: SystemTime) {
        let state = &mut *self.state();
        if let Some(Node::File(id)) = state.seen.get(file) {
            state.contents[*id].modified = Some(time);
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

    /// A new, empty file.
    fn make(&mut self, file: &Path) -> usize {
        let id = self.contents.len();
        self.contents.push(Content::default());
        self.seen.insert(file.into(), Node::File(id));
        id
    }

    /// One operation: adds bytes to a file, half of them where it fails.
    fn append(&mut self, id: usize, bytes: &[u8]) -> io::Result<()> {
        let written = self.step();
        let off = matches!(self.fault, Some((k, Fault::PowerCut)) if self.operations > k);
        let length = match written {
            Ok(()) => bytes.len(),
            Err(_) if off => 0,
            Err(_) => bytes.len() / 2,
        };
        self.contents[id].seen.extend(&bytes[..length]);
        written
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

/// What `path` is called once `from` is called `to`: a folder takes along what lies in it.
fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

impl FileSystem for FaultyDisk {
    fn create_dir(&self, folder: &Path, _: Access) -> io::Result<()> {
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
        let moves = std::mem::take(&mut state.moves);
        for (from, to) in moves {
            if to.parent() != Some(folder) {
                state.moves.push((from, to));
                continue;
            }
            let safe = std::mem::take(&mut state.safe).into_iter();
            let moved = safe.map(|(path, node)| (moved(&path, &from, &to), node));
            state.safe = moved.collect();
        }
        state.safe.retain(|path, _| path.parent() != Some(folder));
        let synced: Vec<_> = state
            .names_in(folder)
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        state.safe.extend(synced);
        Ok(())
    }

    /// Three operations: make the file, write it (half of it where that fails), sync it.
    fn write_synced(&self, file: &Path, bytes: &[u8], _: Access) -> io::Result<()> {
        let state = &mut *self.state();
        state.step()?;
        state.folder(file.parent().unwrap_or(Path::new("/")))?;
        let id = state.make(file);
        state.append(id, bytes)?;
        state.step()?;
        state.contents[id].safe = bytes.to_vec();
        Ok(())
    }

    /// Two operations: make the file, write it (half of it where that fails).
    fn write_new(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.state();
        state.step()?;
        state.folder(file.parent().unwrap_or(Path::new("/")))?;
        if state.seen.contains_key(file) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.make(file);
        state.append(id, bytes)
    }

    fn sync_tree(&self, folder: &Path) -> io::Result<()> {
        let state = &mut *self.state();
        state.step()?;
        state.folder(folder)?;
        let below = |path: &Path| path != folder && path.starts_with(folder);
        state.safe.retain(|path, _| !below(path));
        for (path, node) in state.seen.iter().filter(|(path, _)| below(path)) {
            state.safe.insert(path.clone(), *node);
            if let Node::File(id) = *node {
                let content = &mut state.contents[id];
                content.safe = content.seen.clone();
            }
        }
        Ok(())
    }

    fn open_growing(&self, file: &Path) -> io::Result<Option<Box<dyn Growing>>> {
        let state = &mut *self.state();
        state.step()?;
        state.folder(file.parent().unwrap_or(Path::new("/")))?;
        let id = match state.file(file) {
            Ok(id) => id,
            Err(_) => state.make(file),
        };
        let disk = self.clone();
        Ok(Some(Box::new(GrowingFile { disk, id })))
    }

    fn size(&self, file: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.contents[state.file(file)?].seen.len() as u64)
    }

    fn modified(&self, file: &Path) -> io::Result<SystemTime> {
        let state = self.state();
        Ok(state.contents[state.file(file)?]
            .modified
            .unwrap_or(UNIX_EPOCH))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if !state.seen.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.folder(from).is_ok() {
            state.moves.push((from.into(), to.into()));
        }
        state.seen.remove(to);
        let seen = std::mem::take(&mut state.seen).into_iter();
        let moved = seen.map(|(path, node)| (moved(&path, from, to), node));
        state.seen = moved.collect();
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

    fn try_lock(&self, _: &Path, _: &str) -> io::Result<Option<Lock>> {
        Ok(Some(Lock { _held: None }))
    }
}

/// A [`Growing`] file of the disk.
struct GrowingFile {
    disk: FaultyDisk,
    id: usize,
}

impl Growing for GrowingFile {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.step()?;
        state.contents[self.id].seen.resize(length as usize, 0);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.state().append(self.id, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.step()?;
        let content = &mut state.contents[self.id];
        content.safe = content.seen.clone();
        Ok(())
    }

    fn content(&mut self) -> io::Result<Box<dyn Read + '_>> {
        let seen = self.disk.state().contents[self.id].seen.clone();
        Ok(Box::new(io::Cursor::new(seen)))
    }
}
