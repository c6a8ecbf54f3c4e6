//! A folder that something else puts pictures into (a motion detector, a copy over the network), and the folders in it: each
//! new picture becomes a frame, once it is whole. The system tells which files change, where it can; file systems shared over a
//! network tell nobody, and are listed again and again, as seldom as their size asks for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;

use super::folder::{hidden, is_of_system, is_picture_below};
use super::folder_changes::{Changes, Identity, Names, identity};
use super::{FramesError, MAX_PIXELS, PictureError, read_picture};

/// The time between two looks at a file that may be unfinished, and the shortest between two listings.
const POLL: Duration = Duration::from_millis(200);
/// A picture that cannot be read for so long is broken, not unfinished.
const UNFINISHED: Duration = Duration::from_secs(3);
/// The folder is listed for one part in so many of the time: the processor is for pictures.
const SHARE: u32 = 50;
/// How often it is listed although the system tells of changes, which it may not do of all.
const RELIST: Duration = Duration::from_secs(30);
/// File systems tell times as coarsely as this.
const COARSE: Duration = Duration::from_secs(2);
/// Folders within folders that are looked into.
const DEEPEST: usize = 16;

/// Size and time of a file: what changes while it is written.
type State = (u64, Option<SystemTime>);

/// Pictures by their paths below the folder.
type Pictures = HashMap<PathBuf, State>;

/// A folder that is watched.
pub struct WatchedFolder {
    path: PathBuf,
    /// Which folder has that path: a share that goes away leaves another one there.
    identity: Option<Identity>,
    /// Files that are done with, or were there before.
    seen: Pictures,
    /// What was seen in the folder that had the path before: when a share comes back, so do its files.
    before: Pictures,
    /// When a picture was last known to lie there. Those of an earlier time in a folder that takes its place are not new.
    since: SystemTime,
    /// Files that may still be written to: as last seen, and when they first could not be read.
    pending: HashMap<PathBuf, (State, Instant)>,
    /// Those of them that had not changed at the last look at all, in the order in which they were written: with thousands waiting, all
    /// are not looked at again for each.
    ready: VecDeque<(PathBuf, State)>,
    /// What the system has told since that look.
    told: HashSet<PathBuf>,
    /// Files that were still to be looked at when the folder went away.
    owed: Pictures,
    /// What the system tells; none where it cannot.
    changes: Option<Changes>,
    /// When to list all of it again.
    next_listing: Instant,
}

/// What comes of watching.
pub enum Arrival {
    /// A new picture.
    Picture(RgbImage, PathBuf),
    /// A file that is not a picture, or is damaged.
    Unusable(PictureError),
    /// Another folder has taken the place of the one that was watched, with so many pictures that are not new.
    Replaced(usize),
    /// The caller has asked to stop.
    Stopped,
}

impl WatchedFolder {
    /// Watches the folder at `path`. Pictures that lie there already, and in the folders in it, are left alone. `alive` is called at
    /// each file: a share may take minutes to tell of many.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn new(path: &Path, alive: &dyn Fn()) -> Result<WatchedFolder, FramesError> {
        // Before the listing, so that nothing comes in between unnoticed.
        let changes = Changes::of(path);
        WatchedFolder::with_changes(path, changes, alive)
    }

    fn with_changes(
        path: &Path,
        changes: Option<Changes>,
        alive: &dyn Fn(),
    ) -> Result<WatchedFolder, FramesError> {
        let mut folder = WatchedFolder {
            path: path.to_owned(),
            identity: identity(path),
            seen: HashMap::new(),
            before: HashMap::new(),
            since: SystemTime::now(),
            pending: HashMap::new(),
            ready: VecDeque::new(),
            told: HashSet::new(),
            owed: HashMap::new(),
            changes,
            next_listing: Instant::now(),
        };
        folder.seen = folder.list(alive)?;
        Ok(folder)
    }

    /// How many pictures lay there at the start.
    pub fn left_alone(&self) -> usize {
        self.seen.len()
    }

    /// Waits for the next picture, in the order in which they were written. `stop` is asked many times a second, each time
    /// that the folder, or a file in it, was found there.
    ///
    /// # Errors
    /// If the folder cannot be listed for now: to be called again, it forgets nothing.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Arrival, FramesError> {
        let alive = || {
            stop();
        };
        loop {
            let found = fs::metadata(&self.path).map_err(|source| self.away(source));
            let found = found.map(|_| identity(&self.path))?;
            if found != self.identity {
                return self.replaced(found, &alive);
            }
            if let Some(arrival) = self.next_ready() {
                return Ok(arrival);
            }
            let changed = self.changed(&alive)?;
            let mut fresh: Vec<(PathBuf, State)> = changed.into_iter().collect();
            fresh.retain(|(name, state)| self.seen.get(name) != Some(state));
            fresh.sort_by(|a, b| (a.1.1, &a.0).cmp(&(b.1.1, &b.0)));
            let mut arrival = None;
            for (name, state) in fresh {
                if arrival.is_none() {
                    arrival = self.look(name, state);
                } else {
                    if self.pending.get(&name).map(|(before, _)| before) == Some(&state) {
                        self.ready.push_back((name.clone(), state));
                    }
                    // The system tells of it once: it is not to be forgotten for the one before it.
                    self.note(name, state);
                }
            }
            if let Some(arrival) = arrival {
                return Ok(arrival);
            }
            if !self.seen.is_empty() {
                self.since = SystemTime::now();
            }
            if stop() {
                return Ok(Arrival::Stopped);
            }
            match &self.changes {
                Some(changes) if self.pending.is_empty() => changes.wait(POLL),
                _ => thread::sleep(POLL),
            }
        }
    }

    /// The next of those that are ready, unless it is time to look at all.
    fn next_ready(&mut self) -> Option<Arrival> {
        if self.ready.is_empty() {
            return None;
        }
        match self.changes.as_mut().map(Changes::take) {
            Some(Names::These(names)) => self.told.extend(names),
            Some(Names::All) => self.next_listing = Instant::now(),
            None => {}
        }
        if Instant::now() >= self.next_listing {
            self.ready.clear();
        }
        while let Some((name, before)) = self.ready.pop_front() {
            // What has changed, or has gone, is met by looking at all.
            let same = state(&self.path.join(&name)).is_ok_and(|now| now == Some(before));
            if same && !self.told.contains(&name) {
                let arrival = self.look(name, before);
                if arrival.is_some() {
                    return arrival;
                }
            }
        }
        None
    }

    /// Watches the folder that has the path now. What it holds may be what a share held before it went away, or what lay
    /// there all the time: such pictures are not new.
    fn replaced(
        &mut self,
        identity: Option<Identity>,
        alive: &dyn Fn(),
    ) -> Result<Arrival, FramesError> {
        let changes = Changes::of(&self.path);
        let told = std::mem::replace(&mut self.changes, changes);
        let present = self.list(alive).inspect_err(|_| self.changes = told)?;
        self.identity = identity;
        self.ready.clear();
        let waiting = self.pending.drain().map(|(name, (state, _))| (name, state));
        self.owed.extend(waiting);
        if !self.seen.is_empty() {
            self.before = std::mem::take(&mut self.seen);
        }
        let (before, since, owed) = (&self.before, self.since, &self.owed);
        let old = |(name, state): &(PathBuf, State)| {
            if owed.get(name) == Some(state) {
                return false;
            }
            before.get(name) == Some(state) || state.1.is_some_and(|time| time + COARSE < since)
        };
        self.seen = present.into_iter().filter(old).collect();
        if !self.seen.is_empty() {
            self.owed = HashMap::new();
        }
        // What is new is met by listing again.
        self.next_listing = Instant::now();
        Ok(Arrival::Replaced(self.seen.len()))
    }

    /// The files that may have changed since the last look: those that the system names and those that may be unfinished, or
    /// all of them. What is gone is forgotten.
    fn changed(&mut self, alive: &dyn Fn()) -> Result<Pictures, FramesError> {
        let told = match &mut self.changes {
            Some(changes) => changes.take(),
            None => Names::These(Vec::new()),
        };
        match told {
            Names::These(names) if Instant::now() < self.next_listing => {
                let mut present = HashMap::new();
                let pending: Vec<PathBuf> = self.pending.keys().cloned().collect();
                let told: Vec<PathBuf> = self.told.drain().collect();
                for name in names.into_iter().chain(told).chain(pending) {
                    match state(&self.path.join(&name)) {
                        Ok(Some(state)) => {
                            present.insert(name, state);
                        }
                        Ok(None) => {
                            self.seen.remove(&name);
                            self.pending.remove(&name);
                        }
                        // Away for now, or not ours to look at.
                        Err(_) => {}
                    }
                }
                Ok(present)
            }
            _ => {
                let present = self.list(alive)?;
                self.told.clear();
                self.seen.retain(|name, _| present.contains_key(name));
                self.pending.retain(|name, _| present.contains_key(name));
                Ok(present)
            }
        }
    }

    /// Reads a file that has not changed since the last look.
    fn look(&mut self, name: PathBuf, state: State) -> Option<Arrival> {
        let path = self.path.join(&name);
        match self.pending.get(&name) {
            Some(&(before, since)) if before == state => match read_picture(&path, MAX_PIXELS) {
                Ok(picture) => {
                    self.done(name, state);
                    Some(Arrival::Picture(picture, path))
                }
                Err(error) if since.elapsed() >= UNFINISHED => {
                    self.done(name, state);
                    Some(Arrival::Unusable(error))
                }
                Err(_) => None,
            },
            _ => {
                self.note(name, state);
                None
            }
        }
    }

    /// Has a file looked at until it is done with.
    fn note(&mut self, name: PathBuf, state: State) {
        if self.pending.get(&name).map(|(before, _)| before) != Some(&state) {
            self.pending.insert(name, (state, Instant::now()));
        }
    }

    fn done(&mut self, name: PathBuf, state: State) {
        self.pending.remove(&name);
        self.seen.insert(name, state);
    }

    /// All pictures that lie in the folder and in those in it now; and the system is asked to tell of each of these.
    fn list(&mut self, alive: &dyn Fn()) -> Result<Pictures, FramesError> {
        let started = Instant::now();
        let mut found = HashMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            // Before it is listed, so that nothing comes in between unnoticed.
            if let Some(changes) = &mut self.changes
                && !changes.follow(&folder)
            {
                self.changes = None;
            }
            match self.list_one(&folder, (&mut found, &mut folders), alive) {
                Ok(()) => {}
                Err(error) if folder.as_os_str().is_empty() => return Err(self.away(error)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // It may be back with the next listing: its files are not new then.
                Err(_) => {
                    let known = self
                        .seen
                        .iter()
                        .filter(|(name, _)| name.starts_with(&folder));
                    found.extend(known.map(|(name, state)| (name.clone(), *state)));
                }
            }
        }
        let least = match self.changes {
            Some(_) => RELIST,
            None => POLL,
        };
        let now = Instant::now();
        self.next_listing = now + least.max((now - started) * SHARE);
        Ok(found)
    }

    /// Adds the pictures of one folder to `found`, and the folders in it to `folders`.
    fn list_one(
        &self,
        folder: &Path,
        (found, folders): (&mut Pictures, &mut Vec<PathBuf>),
        alive: &dyn Fn(),
    ) -> io::Result<()> {
        for entry in fs::read_dir(self.path.join(folder))? {
            let entry = entry?;
            alive();
            let name = folder.join(entry.file_name());
            let kind = entry.file_type();
            // A link to a folder could lead round in a circle.
            if kind.is_ok_and(|kind| kind.is_dir()) {
                let deep = name.components().count() > DEEPEST;
                if !(deep || hidden(&name) || is_of_system(&name)) {
                    folders.push(name);
                }
                continue;
            }
            if !is_picture_below(&name) {
                continue;
            }
            match state(&self.path.join(&name)) {
                Ok(Some(state)) => drop(found.insert(name, state)),
                Ok(None) => {}
                Err(_) => {
                    let known = self.seen.get(&name).copied();
                    found.extend(known.map(|state| (name, state)));
                }
            }
        }
        Ok(())
    }

    fn away(&self, source: io::Error) -> FramesError {
        FramesError::Folder {
            path: self.path.clone(),
            source,
        }
    }
}

/// Size and time of a file; none where it has vanished, or is none.
///
/// # Errors
/// If the system cannot tell for now.
fn state(path: &Path) -> io::Result<Option<State>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some((metadata.len(), metadata.modified().ok()))),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
