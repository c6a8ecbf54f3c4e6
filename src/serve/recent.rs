//! Pictures that are worth labelling: those that a prompt was unsure of, or at which the label changed. They lie in
//! `recent/CAMERA/000001.jpg` of the home folder, each with a `000001.json` that says what it was taken for, bounded in number,
//! bytes and age, and for this account alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::changes::{RecentChange, now, seconds};
use super::config::RecentConfig;
use crate::store::atomic;
use crate::store::file_system::{self, Access, Disk, FileSystem};
use crate::store::home::check_name;
use crate::store::{KeptPictures, StoreError, retire};
use crate::watch::{KeepError, Named, Shown, Uncertain};

/// The folder in the home folder.
const FOLDER: &str = "recent";
/// What stands between a camera and a number in an id: no camera has it in its name.
const SEPARATOR: char = '~';
/// The longest description that is read.
const MAX_BYTES: u64 = 4096;
/// So long after a picture its description is there, or will never be.
const DESCRIBED: Duration = Duration::from_secs(10);
/// The longest picture that is read.
const MAX_PICTURE: u64 = 64 << 20;

/// A picture that is worth labelling.
#[derive(Clone, Debug, Serialize)]
pub struct RecentPicture {
    /// Which one it is.
    pub id: String,
    /// The camera that it is of.
    pub camera: String,
    /// What it was taken for.
    #[serde(flatten)]
    pub about: About,
}

/// What a picture was taken for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// The region that it shows.
    pub region: String,
    /// When, in seconds since 1970.
    pub at: f64,
    /// The label, or `unknown`.
    pub label: String,
    /// How probable the nearest label was, in `0..=1`.
    pub probability: f32,
    /// Why it is worth labelling.
    pub reason: Reason,
}

/// Why a picture is worth labelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The prompt was unsure.
    Uncertain,
    /// The label changed.
    Changed,
}

/// All pictures of all cameras.
pub struct Recent {
    files: Arc<dyn FileSystem>,
    folder: PathBuf,
    bounds: Mutex<RecentConfig>,
}

/// Keeps those of one region.
pub struct Keeper {
    files: Arc<dyn FileSystem>,
    camera: String,
    region: String,
    /// None where nothing is to be kept.
    uncertain: Option<Uncertain>,
}

impl Recent {
    /// Of the home folder at `root`.
    pub fn new(root: &Path, bounds: RecentConfig) -> Recent {
        Recent::with_files(root, bounds, Arc::new(Disk))
    }

    /// Of a home folder on any file system.
    pub fn with_files(root: &Path, bounds: RecentConfig, files: Arc<dyn FileSystem>) -> Recent {
        Recent {
            files,
            folder: root.join(FOLDER),
            bounds: Mutex::new(bounds),
        }
    }

    /// Bounds them by other numbers from now on.
    pub fn bound(&self, bounds: RecentConfig) {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    fn bounds(&self) -> RecentConfig {
        let bounds = self.bounds.lock();
        bounds.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What keeps the pictures of a region.
    pub fn keeper(&self, camera: &str, region: &str) -> Keeper {
        let RecentConfig {
            pictures, bytes, ..
        } = self.bounds();
        let folder = self.folder.join(camera);
        let files = || Arc::clone(&self.files);
        let kept = || KeptPictures::with_files(&folder, (pictures, bytes), files());
        Keeper {
            files: Arc::clone(&self.files),
            camera: camera.to_owned(),
            region: region.to_owned(),
            uncertain: (pictures > 0 && bytes > 0).then(|| Uncertain::new(kept())),
        }
    }

    /// All of `camera`, or of all cameras, the newest first.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn list(&self, camera: Option<&str>) -> Result<Vec<RecentPicture>, StoreError> {
        let cameras = match camera {
            Some(camera) => vec![camera.to_owned()],
            None => self.names(&self.folder)?,
        };
        let mut found = Vec::new();
        for camera in cameras {
            if check_name(&camera, "camera", ".toml").is_err() {
                continue;
            }
            let folder = self.folder.join(&camera);
            let names = self.names(&folder)?;
            for number in names.iter().filter_map(|name| number(name)) {
                // One that is only being kept is described in a moment.
                let Some(about) = self.about(&folder, number) else {
                    continue;
                };
                found.push(RecentPicture {
                    id: format!("{camera}{SEPARATOR}{number}"),
                    about,
                    camera: camera.clone(),
                });
            }
        }
        found.sort_by(|a, b| b.about.at.total_cmp(&a.about.at));
        Ok(found)
    }

    /// The picture of this id and the bytes of its JPEG; none where it is gone.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<(RecentPicture, Vec<u8>)>, StoreError> {
        let Some((folder, camera, number)) = self.place(id) else {
            return Ok(None);
        };
        let path = folder.join(format!("{number}.jpg"));
        match self.files.read(&path, MAX_PICTURE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::reading(&path)(error)),
            Ok(jpeg) => {
                let Some(about) = self.about(&folder, number) else {
                    return Ok(None);
                };
                let picture = RecentPicture {
                    id: id.to_owned(),
                    about,
                    camera,
                };
                Ok(Some((picture, jpeg)))
            }
        }
    }

    /// Removes the picture of this id; whether it was there.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let Some((folder, _, number)) = self.place(id) else {
            return Ok(false);
        };
        let path = folder.join(format!("{number}.jpg"));
        if let Ok(number) = number.parse() {
            retire(&*self.files, &folder, number);
        }
        let there = match self.files.remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            removed => removed.map(|()| true).map_err(StoreError::writing(&path))?,
        };
        let _ = self
            .files
            .remove_file(&folder.join(format!("{number}.json")));
        self.files
            .sync_dir(&folder)
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
            .map_err(StoreError::writing(&folder))?;
        Ok(there)
    }

    /// Removes all of `camera`; how many there were.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove_all(&self, camera: &str) -> Result<usize, StoreError> {
        let mut removed = 0;
        let names = self.names(&self.folder.join(camera))?;
        for number in names.iter().filter_map(|name| number(name)) {
            removed += usize::from(self.remove(&format!("{camera}{SEPARATOR}{number}"))?);
        }
        Ok(removed)
    }

    /// Removes those that are older than they may become, and descriptions whose picture made room for others; how many
    /// pictures went.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn purge(&self) -> Result<usize, StoreError> {
        let oldest = now() - self.bounds().keep_for.as_secs_f64();
        let mut removed = 0;
        for picture in self.list(None)? {
            if picture.about.at < oldest {
                removed += usize::from(self.remove(&picture.id)?);
            }
        }
        for camera in self.names(&self.folder)? {
            let folder = self.folder.join(camera);
            for name in self.names(&folder)? {
                let Some(number) = name.strip_suffix(".json") else {
                    continue;
                };
                if self
                    .files
                    .kind(&folder.join(format!("{number}.jpg")))
                    .is_none()
                {
                    let _ = self.files.remove_file(&folder.join(&name));
                }
            }
        }
        Ok(removed)
    }

    fn place<'a>(&self, id: &'a str) -> Option<(PathBuf, String, &'a str)> {
        let (camera, digits) = id.split_once(SEPARATOR)?;
        check_name(camera, "camera", ".toml").ok()?;
        let fine = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        fine.then(|| (self.folder.join(camera), camera.to_owned(), digits))
    }

    /// What is known of a picture; where its description is gone for good, when it was written. None while it may still be
    /// described.
    fn about(&self, folder: &Path, number: &str) -> Option<About> {
        let described = || {
            let bytes = self
                .files
                .read(&folder.join(format!("{number}.json")), MAX_BYTES);
            serde_json::from_slice(&bytes.ok()?).ok()
        };
        described().or_else(|| {
            let written = self
                .files
                .modified(&folder.join(format!("{number}.jpg")))
                .ok()?;
            let age = written.elapsed().unwrap_or_default();
            (age > DESCRIBED).then(|| About {
                region: String::new(),
                at: seconds(written),
                label: Shown::Unknown.to_string(),
                probability: 0.0,
                reason: Reason::Uncertain,
            })
        })
    }

    fn names(&self, folder: &Path) -> Result<Vec<String>, StoreError> {
        file_system::names_in(&*self.files, folder).map_err(StoreError::reading(folder))
    }
}

/// The digits of a picture's name.
fn number(name: &str) -> Option<&str> {
    let digits = name.strip_suffix(".jpg")?;
    let fine = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    fine.then_some(digits)
}

impl Keeper {
    /// Keeps what was named if it is worth labelling; what is to be said of it, if so.
    ///
    /// # Errors
    /// If it cannot be written; watching can go on.
    pub fn offer(&mut self, named: &Named) -> Result<Option<RecentChange>, KeepError> {
        let Some(uncertain) = &mut self.uncertain else {
            return Ok(None);
        };
        let Some(path) = uncertain.offer(named, Instant::now())? else {
            return Ok(None);
        };
        let changed = (named.change.as_ref()).is_some_and(|change| change.previous.is_some());
        let about = About {
            region: self.region.clone(),
            at: now(),
            label: Shown::of(&named.answer).to_string(),
            probability: named.answer.best().probability,
            reason: if changed {
                Reason::Changed
            } else {
                Reason::Uncertain
            },
        };
        let described = serde_json::to_vec(&about).unwrap_or_default();
        // Without it the picture is still one.
        let _ = atomic::write(
            &*self.files,
            &path.with_extension("json"),
            &described,
            Access::Owner,
        );
        let digits = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Some(RecentChange {
            id: format!("{}{SEPARATOR}{digits}", self.camera),
            camera: self.camera.clone(),
            gone: false,
        }))
    }
}

/// How often old pictures are looked for.
pub const PURGE: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(recent: &Recent, camera: &str, number: u32, at: f64) {
        let folder = recent.folder.join(camera);
        std::fs::create_dir_all(&folder).unwrap();
        let about = About {
            region: "whole".into(),
            at,
            label: "mug".into(),
            probability: 0.5,
            reason: Reason::Changed,
        };
        std::fs::write(folder.join(format!("{number:06}.jpg")), b"jpeg").unwrap();
        let described = serde_json::to_vec(&about).unwrap();
        std::fs::write(folder.join(format!("{number:06}.json")), described).unwrap();
    }

    fn ids(recent: &Recent, camera: Option<&str>) -> Vec<String> {
        let listed = recent.list(camera).unwrap().into_iter();
        listed.map(|picture| picture.id).collect()
    }

    #[test]
    fn pictures_are_listed_by_time_and_go_when_they_are_old_or_their_camera_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let recent = Recent::new(dir.path(), RecentConfig::default());
        let day = 24.0 * 3600.0;
        keep(&recent, "a", 1, now() - 8.0 * day);
        keep(&recent, "a", 2, now());
        keep(&recent, "b", 7, now() - day);
        assert_eq!(ids(&recent, None), ["a~000002", "b~000007", "a~000001"]);
        assert_eq!(ids(&recent, Some("b")), ["b~000007"]);
        // A description whose picture made room for others.
        let left = dir.path().join("recent/a/000000.json");
        std::fs::write(&left, b"{}").unwrap();
        assert_eq!(recent.purge().unwrap(), 1);
        assert!(!left.exists());
        assert_eq!(ids(&recent, None), ["a~000002", "b~000007"]);
        assert_eq!(recent.remove_all("a").unwrap(), 1);
        let left = std::fs::read_dir(dir.path().join("recent/a")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".edge-rlp"], "the number that is not given again");
        let (picture, jpeg) = recent.get("b~000007").unwrap().unwrap();
        assert_eq!(
            (picture.about.label.as_str(), &jpeg[..]),
            ("mug", &b"jpeg"[..])
        );
    }

    #[test]
    fn ids_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let recent = Recent::new(dir.path(), RecentConfig::default());
        std::fs::write(dir.path().join("1.jpg"), b"secret").unwrap();
        std::fs::create_dir(dir.path().join("recent")).unwrap();
        for id in [
            "", "~", "..~1", "../..~1", "a~../1", "a~1.jpg", "a", "~1", ".~1", "a~",
        ] {
            assert!(recent.get(id).unwrap().is_none(), "{id}");
            assert!(!recent.remove(id).unwrap(), "{id}");
        }
        assert!(dir.path().join("1.jpg").exists());
    }
}
