//! A folder that something else puts pictures into (a motion detector, a copy over the network): each new one becomes a
//! frame, once it is whole. It polls, since file systems shared over a network tell nobody of changes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;

use super::folder::is_picture_name;
use super::{FramesError, MAX_PIXELS, PictureError, read_picture};

const POLL: Duration = Duration::from_millis(200);
/// A picture that cannot be read for so long is broken, not unfinished.
const UNFINISHED: Duration = Duration::from_secs(3);

/// Size and time of a file: what changes while it is written.
type State = (u64, Option<SystemTime>);

/// A folder that is watched.
pub struct WatchedFolder {
    path: PathBuf,
    /// Files that are done with, or were there before.
    seen: HashMap<PathBuf, State>,
    /// Files that may still be written to: as last seen, and when they first could not be read.
    pending: HashMap<PathBuf, (State, Instant)>,
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
        let mut folder = WatchedFolder {
            path: path.to_owned(),
            seen: HashMap::new(),
            pending: HashMap::new(),
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
            let present = self.list()?;
            self.seen.retain(|path, _| present.contains_key(path));
            self.pending.retain(|path, _| present.contains_key(path));
            let mut fresh: Vec<(PathBuf, State)> = present
                .into_iter()
                .filter(|(path, state)| self.seen.get(path) != Some(state))
                .collect();
            fresh.sort_by(|a, b| (a.1.1, &a.0).cmp(&(b.1.1, &b.0)));
            for (path, state) in fresh {
                if let Some(arrival) = self.look(path, state) {
                    return Ok(arrival);
                }
            }
            if stop() {
                return Ok(Arrival::Stopped);
            }
            thread::sleep(POLL);
        }
    }

    /// Reads a file that has not changed since the last look.
    fn look(&mut self, path: PathBuf, state: State) -> Option<Arrival> {
        match self.pending.get(&path) {
            Some(&(before, since)) if before == state => match read_picture(&path, MAX_PIXELS) {
                Ok(picture) => {
                    self.done(&path, state);
                    Some(Arrival::Picture(picture, path))
                }
                Err(error) if since.elapsed() >= UNFINISHED => {
                    self.done(&path, state);
                    Some(Arrival::Unusable(error))
                }
                Err(_) => None,
            },
            _ => {
                self.pending.insert(path, (state, Instant::now()));
                None
            }
        }
    }

    fn done(&mut self, path: &Path, state: State) {
        self.pending.remove(path);
        self.seen.insert(path.to_owned(), state);
    }

    fn list(&self) -> Result<HashMap<PathBuf, State>, FramesError> {
        let failed = |source| FramesError::Folder {
            path: self.path.clone(),
            source,
        };
        let mut found = HashMap::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // A file may vanish between the listing and the look at it.
            if let Some(metadata) = fs::metadata(&path).ok().filter(|_| is_picture_name(&path))
                && metadata.is_file()
            {
                found.insert(path, (metadata.len(), metadata.modified().ok()));
            }
        }
        Ok(found)
    }
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
    fn new_pictures_come_once_and_old_ones_never() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), "old.png", 1);
        let mut folder = WatchedFolder::new(dir.path()).unwrap();
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
}
