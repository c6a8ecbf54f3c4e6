//! The shots of a home folder: labelled pictures that a prompt is made from, kept so that adapting again needs no
//! camera. `shots/NAME/LABEL/000001.jpg` and so on: numbered through all labels of a prompt, so that the newest is
//! known without a clock. They show people: files and folders are for this account alone.

mod names;
#[cfg(test)]
mod tests;

use super::Home;
use super::names::check_prompt_name;
use crate::prompt::region::check_regions;
use crate::prompt::{Label, Region, labels};
use crate::store::file_system::Access;
use crate::store::{DiskError, StoreError, atomic};
use names::folder_name;
pub(crate) use names::label_of;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file beside the label folders that says in which order and with which words the labels are read.
pub const LABELS_FILE: &str = "labels.txt";
/// The file beside them that says which parts of a camera's pictures the shots are, as `--region` has them: one a line.
pub const REGIONS_FILE: &str = "regions.txt";
/// More bytes than the regions of a camera take.
const MOST_REGIONS_BYTES: u64 = 8 << 10;
/// More bytes than the labels of a prompt take.
const MOST_LABELS_BYTES: u64 = 1 << 20;
/// The folder in the home folder that the shots of all prompts are in.
pub(super) const SHOTS: &str = "shots";
/// From 1970 to 2026.
const BEFORE_ANY_SHOT: Duration = Duration::from_secs(1_767_225_600);
/// How the file names of shots end.
const EXTENSION: &str = ".jpg";

/// A kept picture.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shot {
    /// Its place among all shots of the prompt, from 1.
    pub number: u64,
    /// The name of its label.
    pub label: String,
    /// Its file.
    pub path: PathBuf,
}

impl Home {
    /// Where the shots of the prompt `name` lie, or would lie.
    ///
    /// # Errors
    /// If no prompt can have this name.
    pub fn shots_folder(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_prompt_name(name)?;
        Ok(self.root.join(SHOTS).join(name))
    }

    /// The shots in a folder that is laid out as [`Home::shots_folder`] is, oldest first; none where it does not
    /// exist. Other files are left out.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn shots_in(&self, folder: &Path) -> Result<Vec<Shot>, StoreError> {
        let mut shots = Vec::new();
        for label_folder in self.label_folders(folder)? {
            let name = label_folder.file_name().unwrap_or_default();
            let label = label_of(&name.to_string_lossy());
            let files = self.files_of_label(&label_folder)?;
            shots.extend(files.iter().filter_map(|file| {
                Some(Shot {
                    number: number_of(file)?,
                    label: label.clone(),
                    path: label_folder.join(file),
                })
            }));
        }
        shots.sort_by(|a, b| (a.number, &a.label).cmp(&(b.number, &b.label)));
        Ok(shots)
    }

    /// The folders of labels in `folder`, and what else somebody put beside them.
    pub(crate) fn label_folders(&self, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let mut names = self.names_in(folder)?;
        names.retain(|name| !name.starts_with('.') && name != LABELS_FILE && name != REGIONS_FILE);
        Ok(names.iter().map(|name| folder.join(name)).collect())
    }

    /// The names in the folder of a label; none where it is a file.
    fn files_of_label(&self, folder: &Path) -> Result<Vec<String>, StoreError> {
        match self.names_in(folder) {
            Err(StoreError::Disk(DiskError::Read { source, .. }))
                if source.kind() == io::ErrorKind::NotADirectory =>
            {
                Ok(Vec::new())
            }
            files => files,
        }
    }

    /// How many shots the folder of a label has, and their bytes.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn count_shots(&self, folder: &Path) -> Result<(usize, u64), StoreError> {
        let mut files = self.files_of_label(folder)?;
        files.retain(|file| number_of(file).is_some());
        let sizes = files
            .iter()
            .filter_map(|file| self.files.size(&folder.join(file)).ok());
        Ok((files.len(), sizes.sum()))
    }

    /// When something was last added to the folder of a label, or removed from it; none where that is not known.
    pub(crate) fn label_changed(&self, folder: &Path) -> Option<SystemTime> {
        self.files.modified(folder).ok()
    }

    /// The number of the newest shot in `folder`; 0 where there is none.
    fn newest_in(&self, folder: &Path) -> Result<u64, StoreError> {
        let mut newest = 0;
        for label_folder in self.label_folders(folder)? {
            let files = self.files_of_label(&label_folder)?;
            let numbers = files.iter().filter_map(|file| number_of(file));
            newest = numbers.fold(newest, u64::max);
        }
        Ok(newest)
    }

    /// Keeps `picture`, the bytes of a JPEG file, as the newest shot of `label` for the prompt `name`.
    ///
    /// # Errors
    /// If it cannot be written; then there is no such shot.
    pub fn add_shot(&self, name: &str, label: &str, picture: &[u8]) -> Result<Shot, StoreError> {
        let shots = self.shots_folder(name)?;
        let _lock = self.lock_all()?;
        let folder = shots.join(folder_name(label));
        self.create_folder(&folder, Access::Owner)?;
        atomic::clean(&*self.files, &folder);
        let number = self.newest_in(&shots)? + 1;
        let path = folder.join(file_name(number));
        self.write(&path, picture, Access::Owner).inspect_err(|_| {
            // Written, but not for certain: a shot that was refused must not turn up later.
            let _ = self.files.remove_file(&path);
        })?;
        Ok(Shot {
            number,
            label: label.into(),
            path,
        })
    }

    /// The prompts that shots are kept for, whether they were ever trained or not, by name.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn shots_of(&self) -> Result<Vec<String>, StoreError> {
        let names = self.names_in(&self.root.join(SHOTS))?.into_iter();
        Ok(names
            .filter(|name| check_prompt_name(name).is_ok())
            .collect())
    }

    /// When a shot was taken, as far as its file says, and its size in bytes.
    ///
    /// # Errors
    /// If it is gone.
    pub fn shot_file(&self, shot: &Shot) -> Result<(Option<SystemTime>, u64), StoreError> {
        let size = self.files.size(&shot.path);
        let size = size.map_err(StoreError::reading(&shot.path))?;
        let taken = self.files.modified(&shot.path).ok();
        Ok((taken.filter(|time| *time > UNIX_EPOCH), size))
    }

    /// Takes a shot back; one that is gone already stays so.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove_shot(&self, shot: &Shot) -> Result<(), StoreError> {
        self.remove_shots(std::slice::from_ref(shot)).map(drop)
    }

    /// Removes shots; those that are gone already stay so. How many were there.
    ///
    /// # Errors
    /// If one cannot be removed; those before it are gone.
    pub fn remove_shots(&self, shots: &[Shot]) -> Result<usize, StoreError> {
        let _lock = self.lock_all()?;
        let mut folders = BTreeSet::new();
        let mut removed = 0;
        for shot in shots {
            match self.files.remove_file(&shot.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => {
                    result.map_err(StoreError::writing(&shot.path))?;
                    removed += 1;
                }
            }
            folders.extend(shot.path.parent());
        }
        for folder in folders {
            atomic::clean(&*self.files, folder);
            self.sync_if_there(folder)?;
        }
        Ok(removed)
    }

    /// Gives shots of the prompt `name` another label. Their numbers stay, unless that label has a shot of the same.
    ///
    /// # Errors
    /// If one is gone or cannot be moved; those before it have the new label.
    pub fn move_shots(
        &self,
        name: &str,
        shots: &[Shot],
        label: &str,
    ) -> Result<Vec<Shot>, StoreError> {
        let folder = self.shots_folder(name)?;
        let _lock = self.lock_all()?;
        let to = folder.join(folder_name(label));
        self.create_folder(&to, Access::Owner)?;
        let kept = self.shots_in(&folder)?;
        let mut newest = kept.last().map_or(0, |shot| shot.number);
        let mut taken: BTreeSet<u64> = (kept.iter().filter(|shot| shot.label == label))
            .map(|shot| shot.number)
            .collect();
        let mut moved = Vec::new();
        for shot in shots.iter().filter(|shot| shot.label != label) {
            let mut number = shot.number;
            if !taken.insert(number) {
                newest += 1;
                number = newest;
                taken.insert(number);
            }
            let path = to.join(file_name(number));
            let from = shot.path.parent().unwrap_or(&folder);
            (self.files.rename(&shot.path, &path))
                // The new name first: until it is safe, the old one is.
                .and_then(|()| self.files.sync_dir(&to))
                .and_then(|()| self.files.sync_dir(from))
                .map_err(StoreError::writing(&shot.path))?;
            moved.push(Shot {
                number,
                label: label.into(),
                path,
            });
        }
        Ok(moved)
    }

    /// Removes all shots of the prompt `name`, their labels and what an interrupted write left of one. How many there were.
    ///
    /// # Errors
    /// If something cannot be removed; of the shots, the oldest go first.
    pub fn remove_all_shots(&self, name: &str) -> Result<usize, StoreError> {
        let folder = self.shots_folder(name)?;
        let shots = self.shots_in(&folder)?;
        let removed = self.remove_shots(&shots)?;
        let _lock = self.lock_all()?;
        for inner in self.names_in(&folder)? {
            let inner = folder.join(inner);
            atomic::clean(&*self.files, &inner);
            // It stays where someone has put something else into it.
            let _ = self.files.remove_dir(&inner);
        }
        atomic::clean(&*self.files, &folder);
        for file in [LABELS_FILE, REGIONS_FILE] {
            match self.files.remove_file(&folder.join(file)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(StoreError::writing(&folder))?,
            }
        }
        self.sync_if_there(&folder)?;
        let _ = self.files.remove_dir(&folder);
        self.sync_if_there(&self.root.join(SHOTS))?;
        Ok(removed)
    }

    /// The shots of the prompt `name` that were taken more than `age` before `now`, oldest number first. One whose time cannot
    /// be right, because it is before there was such a program, is not among them: the clock of the box was not set.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn shots_older_than(
        &self,
        name: &str,
        age: Duration,
        now: SystemTime,
    ) -> Result<Vec<Shot>, StoreError> {
        let first = UNIX_EPOCH + BEFORE_ANY_SHOT;
        let mut shots = self.shots_in(&self.shots_folder(name)?)?;
        shots.retain(|shot| {
            let taken = self.files.modified(&shot.path).ok();
            let taken = taken.filter(|taken| *taken >= first);
            let passed = taken.and_then(|taken| now.duration_since(taken).ok());
            passed.is_some_and(|passed| passed > age)
        });
        Ok(shots)
    }

    fn sync_if_there(&self, folder: &Path) -> Result<(), StoreError> {
        match self.files.sync_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(StoreError::writing(folder)),
        }
    }

    /// Keeps the labels of the shots of the prompt `name` beside them.
    ///
    /// # Errors
    /// If they cannot be written; then those that were there before still are.
    pub fn keep_shot_labels(&self, name: &str, labels: &[Label]) -> Result<(), StoreError> {
        let folder = self.shots_folder(name)?;
        self.keep_beside_shots(&folder, LABELS_FILE, &labels::to_text(labels))
    }

    /// The text that [`Home::keep_shot_labels`] kept for the prompt `name`; none where nothing was kept.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn shot_labels(&self, name: &str) -> Result<Option<String>, StoreError> {
        let path = self.shots_folder(name)?.join(LABELS_FILE);
        let damaged = |fault: &str| {
            let fault = io::Error::new(io::ErrorKind::InvalidData, fault);
            StoreError::reading(&path)(fault)
        };
        let bytes = match self.files.read(&path, MOST_LABELS_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(StoreError::reading(&path))?,
        };
        if bytes.len() as u64 > MOST_LABELS_BYTES {
            return Err(damaged("it is too long for a list of labels"));
        }
        let text = String::from_utf8(bytes);
        Ok(Some(text.map_err(|_| damaged("it is not text in UTF-8"))?))
    }

    /// Keeps which parts of a camera's pictures the shots for the prompt `name` are; none for whole pictures.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_shot_regions(&self, name: &str, regions: &[Region]) -> Result<(), StoreError> {
        let folder = self.shots_folder(name)?;
        let lines = regions.iter().map(|region| format!("{region}\n"));
        self.keep_beside_shots(&folder, REGIONS_FILE, &lines.collect::<String>())
    }

    /// What [`Home::keep_shot_regions`] kept in a folder of shots; none where it kept nothing that can be read.
    pub fn shot_regions(&self, folder: &Path) -> Option<Vec<Region>> {
        let bytes = self
            .files
            .read(&folder.join(REGIONS_FILE), MOST_REGIONS_BYTES);
        let text = String::from_utf8(bytes.ok()?).ok()?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let regions: Vec<Region> = lines.map(|line| line.parse().ok()).collect::<Option<_>>()?;
        check_regions(&regions).is_ok().then_some(regions)
    }

    fn keep_beside_shots(&self, folder: &Path, file: &str, text: &str) -> Result<(), StoreError> {
        let path = folder.join(file);
        let kept = self.files.read(&path, text.len() as u64 + 1);
        if kept.is_ok_and(|kept| kept == text.as_bytes()) {
            return Ok(());
        }
        let _lock = self.lock_all()?;
        self.create_folder(folder, Access::Owner)?;
        atomic::clean(&*self.files, folder);
        self.write(&path, text.as_bytes(), Access::Owner)
    }
}

fn file_name(number: u64) -> String {
    format!("{number:06}{EXTENSION}")
}

fn number_of(file: &str) -> Option<u64> {
    let digits = file.strip_suffix(EXTENSION)?;
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok()?;
    (all_digits && number > 0).then_some(number)
}
