//! A folder that something else puts pictures into (a motion detector, a copy over the network): each new one becomes a
//! frame, once it is whole. The system tells which files change, where it can; file systems shared over a network tell nobody,
//! and are listed again and again, as seldom as their size asks for.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;

use super::folder::is_picture_name;
use super::folder_changes::{Changes, Names};
use super::{FramesError, MAX_PIXELS, PictureError, read_picture};

/// The time between two looks at a file that may be unfinished, and the shortest between two listings.
const POLL: Duration = Duration::from_millis(200);
/// A picture that cannot be read for so long is broken, not unfinished.
const UNFINISHED: Duration = Duration::from_secs(3);
/// The folder is listed for one part in so many of the time: the processor is for pictures.
const SHARE: u32 = 50;
/// How often it is listed although the system tells of changes, which it may not do of all.
const RELIST: Duration = Duration::from_secs(30);

/// Size and time of a file: what changes while it is written.
type State = (u64, Option<SystemTime>);

/// A folder that is watched.
pub struct WatchedFolder {
    path: PathBuf,
    /// Files that are done with, or were there before, by name.
    seen: HashMap<OsString, State>,
    /// Files that may still be written to: as last seen, and when they first could not be read.
    pending: HashMap<OsString, (State, Instant)>,
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
    /// The caller has asked to stop.
    Stopped,
}

impl WatchedFolder {
    /// Watches the folder at `path`. Pictures that lie there already are left alone.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn new(path: &Path) -> Result<WatchedFolder, FramesError> {
        // Before the listing, so that nothing comes in between unnoticed.
        let changes = Changes::of(path);
        WatchedFolder::with_changes(path, changes)
    }

    fn with_changes(path: &Path, changes: Option<Changes>) -> Result<WatchedFolder, FramesError> {
        let mut folder = WatchedFolder {
            path: path.to_owned(),
            seen: HashMap::new(),
            pending: HashMap::new(),
            changes,
            next_listing: Instant::now(),
        };
        folder.seen = folder.list()?;
        Ok(folder)
    }

    /// How many pictures lay there at the start.
    pub fn left_alone(&self) -> usize {
        self.seen.len()
    }

    /// Waits for the next picture, in the order in which they were written. `stop` is asked many times a second.
    ///
    /// # Errors
    /// If the folder can no longer be listed.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Arrival, FramesError> {
        loop {
            let mut fresh: Vec<(OsString, State)> = self.changed()?.into_iter().collect();
            fresh.retain(|(name, state)| self.seen.get(name) != Some(state));
            fresh.sort_by(|a, b| (a.1.1, &a.0).cmp(&(b.1.1, &b.0)));
            for (name, state) in fresh {
                if let Some(arrival) = self.look(name, state) {
                    return Ok(arrival);
                }
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

    /// The files that may have changed since the last look: those that the system names and those that may be unfinished, or
    /// all of them. What is gone is forgotten.
    fn changed(&mut self) -> Result<HashMap<OsString, State>, FramesError> {
        let told = match &mut self.changes {
            // Another folder may have taken its place, of which nothing is told.
            Some(changes) if !changes.are_of(&self.path) => {
                self.changes = Changes::of(&self.path);
                Names::All
            }
            Some(changes) => changes.take(),
            None => Names::These(Vec::new()),
        };
        match told {
            Names::These(names) if Instant::now() < self.next_listing => {
                let mut present = HashMap::new();
                let pending: Vec<OsString> = self.pending.keys().cloned().collect();
                for name in names.into_iter().chain(pending) {
                    match state(&self.path, &name) {
                        Some(state) => {
                            present.insert(name, state);
                        }
                        None => {
                            self.seen.remove(&name);
                            self.pending.remove(&name);
                        }
                    }
                }
                Ok(present)
            }
            _ => {
                let present = self.list()?;
                self.seen.retain(|name, _| present.contains_key(name));
                self.pending.retain(|name, _| present.contains_key(name));
                Ok(present)
            }
        }
    }

    /// Reads a file that has not changed since the last look.
    fn look(&mut self, name: OsString, state: State) -> Option<Arrival> {
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
                self.pending.insert(name, (state, Instant::now()));
                None
            }
        }
    }

    fn done(&mut self, name: OsString, state: State) {
        self.pending.remove(&name);
        self.seen.insert(name, state);
    }

    /// All pictures that lie in the folder now.
    fn list(&mut self) -> Result<HashMap<OsString, State>, FramesError> {
        let started = Instant::now();
        let failed = |source| FramesError::Folder {
            path: self.path.clone(),
            source,
        };
        let mut found = HashMap::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(state) = state(&self.path, &name) {
                found.insert(name, state);
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
}

/// Size and time of a file of `folder`, if it may be a picture; none where it has vanished.
fn state(folder: &Path, name: &OsStr) -> Option<State> {
    let path = Some(folder.join(name)).filter(|path| is_picture_name(path))?;
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((metadata.len(), metadata.modified().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(folder: &Path, name: &str, shade: u8) {
        RgbImage::from_pixel(8, 8, image::Rgb([shade; 3]))
            .save(folder.join(name))
            .unwrap();
    }

    fn picture(folder: &mut WatchedFolder) -> (u8, String) {
        match folder.next(&|| false).unwrap() {
            Arrival::Picture(picture, path) => {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (picture.get_pixel(0, 0)[0], name)
            }
            Arrival::Unusable(error) => panic!("{error}"),
            Arrival::Stopped => panic!("nobody asked to stop"),
        }
    }

    #[test]
    fn new_pictures_come_once_and_old_ones_never_whether_the_system_tells_or_not() {
        for told in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            save(dir.path(), "old.png", 1);
            let changes = Changes::of(dir.path()).filter(|_| told);
            assert_eq!(changes.is_some(), told && cfg!(target_os = "linux"));
            new_pictures_come_once(
                WatchedFolder::with_changes(dir.path(), changes).unwrap(),
                &dir,
            );
        }
    }

    fn new_pictures_come_once(mut folder: WatchedFolder, dir: &tempfile::TempDir) {
        assert_eq!(folder.left_alone(), 1);
        fs::write(dir.path().join("notes.txt"), "no picture").unwrap();
        save(dir.path(), "b.png", 2);
        assert_eq!(picture(&mut folder), (2, "b.png".into()));
        save(dir.path(), "a.png", 3);
        assert_eq!(picture(&mut folder), (3, "a.png".into()));
        assert!(matches!(folder.next(&|| true).unwrap(), Arrival::Stopped));
        // Written anew, a file is a new picture.
        fs::remove_file(dir.path().join("b.png")).unwrap();
        assert!(matches!(folder.next(&|| true).unwrap(), Arrival::Stopped));
        save(dir.path(), "b.png", 4);
        assert_eq!(picture(&mut folder), (4, "b.png".into()));
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for_and_a_broken_one_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = WatchedFolder::new(dir.path()).unwrap();
        save(dir.path(), "whole.png", 9);
        let bytes = fs::read(dir.path().join("whole.png")).unwrap();
        fs::remove_file(dir.path().join("whole.png")).unwrap();
        let (path, rest) = (dir.path().join("slow.png"), bytes.clone());
        fs::write(&path, &bytes[..20]).unwrap();
        let writer = thread::spawn(move || {
            thread::sleep(3 * POLL);
            fs::write(path, rest).unwrap();
        });
        assert_eq!(picture(&mut folder), (9, "slow.png".into()));
        writer.join().unwrap();
        fs::write(dir.path().join("broken.png"), &bytes[..20]).unwrap();
        let Arrival::Unusable(error) = folder.next(&|| false).unwrap() else {
            panic!("a broken file is trouble")
        };
        assert!(error.to_string().contains("broken.png"), "{error}");
    }

    #[test]
    fn files_of_another_time_arrive_like_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = WatchedFolder::new(dir.path()).unwrap();
        let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let times = [SystemTime::UNIX_EPOCH, SystemTime::now() + century];
        for (shade, time) in (1..).zip(times) {
            let name = format!("{shade}.png");
            save(dir.path(), &name, shade);
            let file = fs::File::options()
                .write(true)
                .open(dir.path().join(&name))
                .unwrap();
            file.set_modified(time).unwrap();
            assert_eq!(picture(&mut folder), (shade, name));
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let message = WatchedFolder::new(Path::new("no/such/folder"))
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains("no/such/folder"), "{message}");
    }

    #[test]
    fn a_folder_that_another_one_replaces_is_watched_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shots");
        fs::create_dir(&path).unwrap();
        let mut folder = WatchedFolder::new(&path).unwrap();
        fs::rename(&path, dir.path().join("away")).unwrap();
        fs::create_dir(&path).unwrap();
        save(&path, "new.png", 5);
        assert_eq!(picture(&mut folder), (5, "new.png".into()));
        save(&path, "newer.png", 6);
        let started = Instant::now();
        assert_eq!(picture(&mut folder), (6, "newer.png".into()));
        assert!(started.elapsed() < RELIST / 2);
        fs::remove_dir_all(&path).unwrap();
        assert!(folder.next(&|| false).is_err());
    }

    /// 50,000 old files took a quarter of a core for ever.
    #[test]
    fn many_old_files_are_not_listed_all_the_time() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..3000 {
            fs::File::create(dir.path().join(format!("{number}.jpg"))).unwrap();
        }
        for told in [true, false] {
            let changes = Changes::of(dir.path()).filter(|_| told);
            let mut folder = WatchedFolder::with_changes(dir.path(), changes).unwrap();
            assert_eq!(folder.left_alone() % 3000, usize::from(!told));
            let started = Instant::now();
            folder.list().unwrap();
            let took = started.elapsed();
            let pause = folder.next_listing.saturating_duration_since(started);
            let least = if told { RELIST } else { POLL };
            let most = took * (SHARE + 1) + least;
            println!("told {told}: listed in {took:?}, again after {pause:?}");
            assert!((least..=most).contains(&pause), "{pause:?} after {took:?}");
            if told {
                // It comes at once all the same.
                save(dir.path(), "new.png", 7);
                let started = Instant::now();
                assert_eq!(picture(&mut folder), (7, "new.png".into()));
                assert!(started.elapsed() < RELIST / 3);
            }
        }
    }
}
