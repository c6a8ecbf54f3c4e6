//! The prompts of a home folder: `prompts/NAME.rlp` is the prompt in use, `prompts/NAME.history/000001.rlp` and so on are all
//! its generations, that one included. A generation enters the history before it comes into use, so whatever interrupts a
//! save, the prompt in use is whole and the history has it.

use super::Home;
use super::names::{PROMPT_EXTENSION, check_prompt_name};
use crate::prompt::Prompt;
use crate::prompt::record::MAX_SEQUENCE;
use crate::store::atomic;
use crate::store::error::{DiskError, MissingError, PromptFileError, StoreError};
use crate::store::file_system::Access;
use crate::store::format::{self, MAX_FILE_BYTES};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// How the names of the folders of generations end.
const HISTORY: &str = ".history";

/// A prompt that was read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadedPrompt {
    /// The prompt.
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
#[non_exhaustive]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The prompt, or why its file cannot be used.
    pub prompt: Result<LoadedPrompt, StoreError>,
}

/// One generation of a prompt.
#[derive(Debug)]
#[non_exhaustive]
pub struct Generation {
    /// Its number: 1 was the first that was saved.
    pub sequence: u64,
    /// Its file.
    pub path: PathBuf,
    /// The prompt, or why its file cannot be used.
    pub prompt: Result<LoadedPrompt, StoreError>,
    /// Whether this is the prompt in use.
    pub current: bool,
}

/// What a save wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: usize,
    /// The number of the generation; 0 outside the home folder.
    pub sequence: u64,
}

impl Home {
    /// Where the prompt `name` lies, or would lie.
    pub fn prompt_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_prompt_name(name)?;
        Ok(self.prompts().join(format!("{name}{PROMPT_EXTENSION}")))
    }

    /// All prompts by name; a damaged one comes as its error.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let names: BTreeSet<String> = self
            .names_in(&self.prompts())?
            .iter()
            .filter_map(|file| {
                file.strip_suffix(PROMPT_EXTENSION)
                    .or(file.strip_suffix(HISTORY))
            })
            .filter(|name| check_prompt_name(name).is_ok())
            .map(str::to_owned)
            .collect();
        let listed = names.into_iter().map(|name| Listed {
            prompt: self.load(&name),
            name,
        });
        // An empty folder of generations is not a prompt.
        Ok(listed
            .filter(|l| {
                let missing = StoreError::is_missing_prompt;
                !l.prompt.as_ref().is_err_and(missing)
            })
            .collect())
    }

    /// The prompt of a name, or of a file where `prompt` holds a separator or ends with `.rlp`. Where the newest
    /// generation of a named prompt is damaged or missing, the newest that is whole comes back with a warning.
    pub fn load(&self, prompt: impl AsRef<Path>) -> Result<LoadedPrompt, StoreError> {
        let file = prompt.as_ref();
        let is_name =
            |text: &&str| !text.contains(['/', '\\']) && !text.ends_with(PROMPT_EXTENSION);
        let Some(prompt) = file.to_str().filter(is_name) else {
            return self.read(file);
        };
        let path = self.prompt_path(prompt)?;
        let newest = match self.read(&path) {
            result
            @ (Ok(_) | Err(StoreError::PromptFile(PromptFileError::NewerVersion { .. }))) => {
                return result;
            }
            Err(error) => error,
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
            StoreError::Disk(DiskError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound && generations.is_empty() =>
            {
                Err(MissingError::Prompt {
                    name: prompt.into(),
                    folder: self.prompts(),
                }
                .into())
            }
            newest => Err(MissingError::WholeGeneration {
                name: prompt.into(),
                newest: newest.into(),
            }
            .into()),
        }
    }

    /// The generations of a prompt that are kept, oldest first. A file that was copied over the prompt in use
    /// and is not a generation yet comes last.
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
        let origin = |loaded: &LoadedPrompt| {
            let provenance = &loaded.record.provenance;
            provenance.restores.unwrap_or(provenance.sequence)
        };
        let record = match to {
            Some(sequence) => {
                if !self.sequences(name)?.contains(&sequence) {
                    return Err(MissingError::Generation {
                        name: name.into(),
                        sequence,
                    }
                    .into());
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
                    .ok_or(MissingError::EarlierGeneration {
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
            .contains(&format!("{name}{PROMPT_EXTENSION}"));
        if !there && sequences.is_empty() {
            return Err(MissingError::Prompt {
                name: name.into(),
                folder: self.prompts(),
            }
            .into());
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
        removed.map_err(StoreError::writing(&path))
    }

    fn save_locked(
        &self,
        name: &str,
        record: &Prompt,
        restores: Option<u64>,
    ) -> Result<Saved, StoreError> {
        let path = self.prompt_path(name)?;
        let folder = self.history_folder(name);
        self.create_folder(&folder, Access::Usual)?;
        atomic::clean(&*self.files, &self.prompts());
        atomic::clean(&*self.files, &folder);
        self.adopt(name, &path)?;
        let next = 1 + self.sequences(name)?.last().copied().unwrap_or(0);
        let mut record = record.clone();
        record.provenance.restores = restores;
        let (bytes, sequence) = self.add_generation(name, record, next)?;
        if let Err(error) = self.write(&path, &bytes, Access::Usual) {
            // What never came into use is no generation. Where it cannot be removed either, it is one that can be gone back to.
            let in_use = self.files.read(&path, MAX_FILE_BYTES);
            if !in_use.is_ok_and(|in_use| in_use == bytes) {
                let _ = self
                    .files
                    .remove_file(&self.generation_path(name, sequence));
            }
            return Err(error);
        }
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

    /// A file that was copied over the prompt in use is not a generation yet: it becomes one before it is replaced.
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
            return Err(MissingError::SequenceNumber { name: name.into() }.into());
        }
        record.provenance.sequence = sequence;
        let bytes = format::encode(&record)?;
        let path = self.generation_path(name, sequence);
        self.write(&path, &bytes, Access::Usual)?;
        Ok((bytes, sequence))
    }

    pub(super) fn read(&self, path: &Path) -> Result<LoadedPrompt, StoreError> {
        let bytes = self
            .files
            .read(path, MAX_FILE_BYTES)
            .map_err(StoreError::reading(path))?;
        let record = format::decode(&bytes, &path.display().to_string())?;
        Ok(LoadedPrompt {
            record,
            path: path.into(),
            bytes: bytes.len(),
            warning: None,
        })
    }

    /// The sequence numbers in the history of a prompt, ascending.
    fn sequences(&self, name: &str) -> Result<Vec<u64>, StoreError> {
        let number = |file: &String| -> Option<u64> {
            let sequence = file.strip_suffix(PROMPT_EXTENSION)?.parse().ok()?;
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

    pub(super) fn history_folder(&self, name: &str) -> PathBuf {
        self.prompts().join(format!("{name}{HISTORY}"))
    }

    pub(super) fn generation_path(&self, name: &str, sequence: u64) -> PathBuf {
        self.history_folder(name).join(generation_name(sequence))
    }
}

fn generation_name(sequence: u64) -> String {
    format!("{sequence:06}{PROMPT_EXTENSION}")
}
