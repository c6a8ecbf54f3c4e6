//! The home folder: prompts by name, each with its history of generations, models by name, and the shots of prompts. It must not know how
//! the folder was chosen.
//!
//! `prompts/NAME.rlp` is the prompt in use, `prompts/NAME.history/000001.rlp` and so on are all its generations,
//! that one included. A generation enters the history before it comes into use, so whatever interrupts a save,
//! the prompt in use is whole and the history has it.

use super::StoreError;
use super::atomic;
use super::file_system::{Disk, FileSystem};
use super::format::{self, MAX_FILE_BYTES};
use super::record::{MAX_SEQUENCE, Prompt};
use lock::{LOCK_WAIT, Waiting};
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The longest name of a prompt, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// How many generations of a prompt are kept.
pub const RETENTION: usize = 10;

const EXTENSION: &str = ".rlp";
const HISTORY: &str = ".history";

/// A home folder. Readers never wait; writers take turns by a lock.
#[derive(Clone)]
pub struct Home {
    root: PathBuf,
    files: Arc<dyn FileSystem>,
    retention: usize,
    lock_wait: Duration,
    holder: Arc<str>,
    waiting: Arc<Waiting>,
}

/// A prompt that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub record: Prompt,
    /// The file it was read from.
    pub path: PathBuf,
    /// The size of that file.
    pub bytes: usize,
    /// Why this is an older generation than the one asked for, if it is.
    pub warning: Option<String>,
}

/// One prompt of the home folder.
#[derive(Debug)]
pub struct Listed {
    pub name: String,
    pub prompt: Result<Loaded, StoreError>,
}

/// One generation of a prompt.
#[derive(Debug)]
pub struct Generation {
    pub sequence: u64,
    pub path: PathBuf,
    pub prompt: Result<Loaded, StoreError>,
    /// Whether this is the prompt in use.
    pub current: bool,
}

/// What a save wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    pub path: PathBuf,
    pub bytes: usize,
    pub sequence: u64,
}

impl Home {
    /// The home folder at `root`, which is made when something is first saved.
    pub fn new(root: impl Into<PathBuf>) -> Home {
        Home::with_files(root, Arc::new(Disk))
    }

    /// A home folder on any file system.
    pub fn with_files(root: impl Into<PathBuf>, files: Arc<dyn FileSystem>) -> Home {
        Home {
            root: root.into(),
            files,
            retention: RETENTION,
            lock_wait: LOCK_WAIT,
            holder: std::process::id().to_string().into(),
            waiting: Arc::new(|_| ControlFlow::Continue(())),
        }
    }

    /// Names what this process does to those who wait for it, and says what is done while it waits for another: it is
    /// called with a sentence once, then with nothing until the wait is over or it breaks it off.
    pub fn introduced(
        mut self,
        command: &str,
        waiting: impl Fn(Option<&str>) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Home {
        self.holder = format!("{} {command}", std::process::id()).into();
        self.waiting = Arc::new(waiting);
        self
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the prompt `name` lies, or would lie.
    pub fn prompt_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_prompt_name(name)?;
        Ok(self.prompts().join(format!("{name}{EXTENSION}")))
    }

    /// Whether something could be saved here, tried out with a file that goes away again: to be asked before
    /// work that would be lost otherwise.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        self.try_out(self.prompts())
    }

    fn try_out(&self, folder: PathBuf) -> Result<(), StoreError> {
        let trial = folder.join(format!(".trial.{}.tmp", std::process::id()));
        let written = atomic::create_folder(&*self.files, &folder)
            .and_then(|()| self.files.write_synced(&trial, b"trial"));
        // Whether it was written or begun; another process that is saving may have cleaned it up already.
        let _ = self.files.remove_file(&trial);
        written.map_err(|source| StoreError::Write {
            path: folder,
            source,
        })
    }

    /// All prompts by name; a damaged one comes as its error.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let names: BTreeSet<String> = self
            .names_in(&self.prompts())?
            .iter()
            .filter_map(|file| file.strip_suffix(EXTENSION).or(file.strip_suffix(HISTORY)))
            .filter(|name| check_prompt_name(name).is_ok())
            .map(str::to_owned)
            .collect();
        let listed = names.into_iter().map(|name| Listed {
            prompt: self.load(&name),
            name,
        });
        // An empty folder of generations is no prompt.
        Ok(listed
            .filter(|l| !matches!(l.prompt, Err(StoreError::NotFound { .. })))
            .collect())
    }

    /// The prompt of a name, or of a file where `prompt` holds a separator or ends with `.rlp`. Where the newest
    /// generation of a named prompt is damaged or missing, the newest that is whole comes back with a warning.
    pub fn load(&self, prompt: impl AsRef<Path>) -> Result<Loaded, StoreError> {
        let file = prompt.as_ref();
        let is_name = |text: &&str| !text.contains(['/', '\\']) && !text.ends_with(EXTENSION);
        let Some(prompt) = file.to_str().filter(is_name) else {
            return self.read(file);
        };
        let path = self.prompt_path(prompt)?;
        let newest = match self.read(&path) {
            Err(error) if !matches!(error, StoreError::NewerVersion { .. }) => error,
            result => return result,
        };
        let generations = self.sequences(prompt)?;
        for sequence in generations.iter().rev() {
            if let Ok(mut loaded) = self.read(&self.generation_path(prompt, *sequence)) {
                let warning = format!("{newest}; using generation {sequence} from the history");
                loaded.warning = Some(warning);
                return Ok(loaded);
            }
        }
        match newest {
            StoreError::Read { source, .. }
                if source.kind() == io::ErrorKind::NotFound && generations.is_empty() =>
            {
                Err(StoreError::NotFound {
                    name: prompt.into(),
                    folder: self.prompts(),
                })
            }
            newest => Err(StoreError::AllDamaged {
                name: prompt.into(),
                newest: newest.into(),
            }),
        }
    }

    /// The generations of a prompt that are kept, oldest first. A file that was copied over the prompt in use
    /// and is no generation yet comes last.
    pub fn history(&self, name: &str) -> Result<Vec<Generation>, StoreError> {
        let in_use = self.load(name)?;
        let generation = |sequence| {
            let path = self.generation_path(name, sequence);
            let prompt = self.read(&path);
            let current = prompt
                .as_ref()
                .is_ok_and(|loaded| loaded.record == in_use.record);
            Generation {
                sequence,
                path,
                prompt,
                current,
            }
        };
        let mut generations: Vec<_> = self.sequences(name)?.into_iter().map(generation).collect();
        if !generations.iter().any(|generation| generation.current) {
            generations.push(Generation {
                sequence: in_use.record.provenance.sequence,
                path: in_use.path.clone(),
                prompt: Ok(in_use),
                current: true,
            });
        }
        Ok(generations)
    }

    /// Keeps `record` as the next generation of the prompt `name` and brings it into use. The sequence number
    /// is given here.
    pub fn save(&self, name: &str, record: &Prompt) -> Result<Saved, StoreError> {
        let _lock = self.lock(name)?;
        self.save_locked(name, record, None)
    }

    /// Brings back an earlier generation, as a new one: generation `to`, or the one before that in use.
    pub fn rollback(&self, name: &str, to: Option<u64>) -> Result<Saved, StoreError> {
        let _lock = self.lock(name)?;
        let origin = |loaded: &Loaded| {
            let provenance = &loaded.record.provenance;
            provenance.restores.unwrap_or(provenance.sequence)
        };
        let record = match to {
            Some(sequence) => {
                if !self.sequences(name)?.contains(&sequence) {
                    return Err(StoreError::NoGeneration {
                        name: name.into(),
                        sequence,
                    });
                }
                self.read(&self.generation_path(name, sequence))?
            }
            None => {
                let current = origin(&self.load(name)?);
                let readable = self
                    .history(name)?
                    .into_iter()
                    .filter_map(|g| g.prompt.ok());
                readable
                    .filter(|loaded| origin(loaded) < current)
                    .max_by_key(origin)
                    .ok_or(StoreError::NothingEarlier {
                        name: name.into(),
                        sequence: current,
                    })?
            }
        };
        self.save_locked(name, &record.record, Some(origin(&record)))
    }

    /// Removes a prompt and its history.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.prompt_path(name)?;
        let _lock = self.lock(name)?;
        let (folder, sequences) = (self.history_folder(name), self.sequences(name)?);
        let there = self
            .names_in(&self.prompts())?
            .contains(&format!("{name}{EXTENSION}"));
        if !there && sequences.is_empty() {
            return Err(StoreError::NotFound {
                name: name.into(),
                folder: self.prompts(),
            });
        }
        // The history first: as long as anything is left, the prompt in use is.
        let files = &*self.files;
        let removed = (|| {
            atomic::clean(files, &folder);
            for sequence in &sequences {
                files.remove_file(&self.generation_path(name, *sequence))?;
            }
            if !sequences.is_empty() {
                files.sync_dir(&folder)?;
            }
            // It stays where someone has put something else into it.
            let _ = files.remove_dir(&folder);
            if there {
                files.remove_file(&path)?;
            }
            files.sync_dir(&self.prompts())
        })();
        removed.map_err(|source| StoreError::Write { path, source })
    }

    fn save_locked(
        &self,
        name: &str,
        record: &Prompt,
        restores: Option<u64>,
    ) -> Result<Saved, StoreError> {
        let path = self.prompt_path(name)?;
        let folder = self.history_folder(name);
        atomic::create_folder(&*self.files, &folder).map_err(|source| StoreError::Write {
            path: folder.clone(),
            source,
        })?;
        atomic::clean(&*self.files, &self.prompts());
        atomic::clean(&*self.files, &folder);
        self.adopt(name, &path)?;
        let next = 1 + self.sequences(name)?.last().copied().unwrap_or(0);
        let mut record = record.clone();
        record.provenance.restores = restores;
        let (bytes, sequence) = self.add_generation(name, record, next)?;
        self.write(&path, &bytes)?;
        let sequences = self.sequences(name)?;
        for old in &sequences[..sequences.len().saturating_sub(self.retention)] {
            // The prompt is saved; what is left over goes with the next one.
            let _ = self.files.remove_file(&self.generation_path(name, *old));
        }
        Ok(Saved {
            path,
            bytes: bytes.len(),
            sequence,
        })
    }

    /// A file that was copied over the prompt in use is no generation yet: it becomes one before it is replaced.
    fn adopt(&self, name: &str, path: &Path) -> Result<(), StoreError> {
        let Ok(current) = self.read(path) else {
            return Ok(());
        };
        let sequence = current.record.provenance.sequence;
        let kept = self.read(&self.generation_path(name, sequence));
        if kept.is_ok_and(|kept| kept.record == current.record) {
            return Ok(());
        }
        let next = 1 + self.sequences(name)?.last().copied().unwrap_or(0);
        self.add_generation(name, current.record, next.max(sequence))
            .map(|_| ())
    }

    fn add_generation(
        &self,
        name: &str,
        mut record: Prompt,
        sequence: u64,
    ) -> Result<(Vec<u8>, u64), StoreError> {
        if sequence > MAX_SEQUENCE {
            return Err(StoreError::SequenceEnd { name: name.into() });
        }
        record.provenance.sequence = sequence;
        let bytes = format::encode(&record)?;
        self.write(&self.generation_path(name, sequence), &bytes)?;
        Ok((bytes, sequence))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        atomic::write(&*self.files, path, bytes).map_err(|source| StoreError::Write {
            path: path.into(),
            source,
        })
    }

    fn read(&self, path: &Path) -> Result<Loaded, StoreError> {
        let bytes = self
            .files
            .read(path, MAX_FILE_BYTES)
            .map_err(|source| StoreError::Read {
                path: path.into(),
                source,
            })?;
        let record = format::decode(&bytes, &path.display().to_string())?;
        Ok(Loaded {
            record,
            path: path.into(),
            bytes: bytes.len(),
            warning: None,
        })
    }

    /// The sequence numbers in the history of a prompt, ascending.
    fn sequences(&self, name: &str) -> Result<Vec<u64>, StoreError> {
        let number = |file: &String| -> Option<u64> {
            let sequence = file.strip_suffix(EXTENSION)?.parse().ok()?;
            ((1..=MAX_SEQUENCE).contains(&sequence) && *file == generation_name(sequence))
                .then_some(sequence)
        };
        let mut numbers: Vec<u64> = self
            .names_in(&self.history_folder(name))?
            .iter()
            .filter_map(number)
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The names in a folder; none where it does not exist.
    fn names_in(&self, folder: &Path) -> Result<Vec<String>, StoreError> {
        match self.files.list(folder) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(Vec::new())
            }
            result => result.map_err(|source| StoreError::Read {
                path: folder.into(),
                source,
            }),
        }
    }

    fn prompts(&self) -> PathBuf {
        self.root.join("prompts")
    }

    fn history_folder(&self, name: &str) -> PathBuf {
        self.prompts().join(format!("{name}{HISTORY}"))
    }

    fn generation_path(&self, name: &str, sequence: u64) -> PathBuf {
        self.history_folder(name).join(generation_name(sequence))
    }
}

fn generation_name(sequence: u64) -> String {
    format!("{sequence:06}{EXTENSION}")
}

fn check_prompt_name(name: &str) -> Result<(), StoreError> {
    check_name(name, "prompt", EXTENSION)
}

/// Whether `name` can be a file's name before `extension`, on any system, and stays in its folder.
fn check_name(name: &str, what: &'static str, extension: &'static str) -> Result<(), StoreError> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fine = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.chars().all(allowed)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(extension);
    if fine {
        Ok(())
    } else {
        Err(StoreError::Name {
            name: name.into(),
            what,
            extension,
        })
    }
}

mod cache;
mod export;
mod lock;
mod models;
mod shots;

pub use shots::{LABELS_FILE, Shot};

#[cfg(test)]
mod tests;
