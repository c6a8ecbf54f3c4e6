//! How many shots each prompt has and how many bytes, remembered, so that keeping one does not take the longer the more there
//! are. A folder tells when something was added to it or removed from it: it is counted anew then, and now and then all are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::store::{Home, Shot, StoreError};

/// All folders of a prompt are counted anew after so long, whatever they tell.
const TRUSTED: Duration = Duration::from_secs(10 * 60);
/// Two changes so close together may bear the same time, so one that is younger than this when it is read tells nothing.
const YOUNG: Duration = Duration::from_secs(2);

/// What is remembered of all prompts.
#[derive(Default)]
pub struct Ledger {
    prompts: BTreeMap<String, Counted>,
    /// How many folders were read so far.
    #[cfg(test)]
    pub read: usize,
}

/// The shots of a prompt.
struct Counted {
    since: Instant,
    folders: BTreeMap<PathBuf, Folder>,
}

/// Those of a label.
#[derive(Clone, Copy)]
struct Folder {
    /// When it last changed; none where it has to be read anew.
    changed: Option<SystemTime>,
    shots: usize,
    bytes: u64,
}

impl Ledger {
    /// How many shots `prompt` has, and their bytes.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn count(&mut self, home: &Home, prompt: &str) -> Result<(usize, u64), StoreError> {
        let known = self.prompts.remove(prompt);
        let known = known.filter(|known| known.since.elapsed() < TRUSTED);
        let mut counted = Counted {
            since: known
                .as_ref()
                .map_or_else(Instant::now, |known| known.since),
            folders: BTreeMap::new(),
        };
        for folder in home.label_folders(&home.shots_folder(prompt)?)? {
            let changed = home.label_changed(&folder);
            let before = known.as_ref().and_then(|known| known.folders.get(&folder));
            let found = match before {
                Some(before) if changed.is_some() && before.changed == changed => *before,
                _ => {
                    #[cfg(test)]
                    {
                        self.read += 1;
                    }
                    let (shots, bytes) = home.count_shots(&folder)?;
                    let told = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > YOUNG);
                    let changed = changed.filter(told);
                    Folder {
                        changed,
                        shots,
                        bytes,
                    }
                }
            };
            counted.folders.insert(folder, found);
        }
        let folders = || counted.folders.values();
        let sum = (
            folders().map(|folder| folder.shots).sum(),
            folders().map(|folder| folder.bytes).sum(),
        );
        self.prompts.insert(prompt.to_owned(), counted);
        Ok(sum)
    }

    /// Takes note of a shot that was just kept; how many its label has now. To be called after [`Ledger::count`] without letting
    /// another be kept in between.
    pub fn add(&mut self, home: &Home, prompt: &str, shot: &Shot, bytes: usize) -> usize {
        let (Some(counted), Some(folder)) = (self.prompts.get_mut(prompt), shot.path.parent())
        else {
            return 1;
        };
        let none = Folder {
            changed: None,
            shots: 0,
            bytes: 0,
        };
        let label = counted.folders.entry(folder.to_owned()).or_insert(none);
        label.changed = home.label_changed(folder);
        label.shots += 1;
        label.bytes += bytes as u64;
        label.shots
    }

    /// Counts all of `prompt` anew when it is next asked for.
    pub fn forget(&mut self, prompt: &str) {
        self.prompts.remove(prompt);
    }
}
