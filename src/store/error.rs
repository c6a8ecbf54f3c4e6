//! Why something could not be kept or read back, by what it is about: a name, a prompt file, what is missing or in the
//! way, and the disk.

use std::io;
use std::path::{Path, PathBuf};

/// Why something could not be kept or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A prompt or a model cannot have that name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The bytes of a file are not a prompt that can be used.
    #[error(transparent)]
    PromptFile(#[from] PromptFileError),
    /// What was asked for is not in the home folder.
    #[error(transparent)]
    Missing(#[from] MissingError),
    /// Something is there that may not be replaced.
    #[error(transparent)]
    Exists(#[from] ExistsError),
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What a person set for good cannot be used.
    #[error("{} cannot be used: {fault}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Why, as the end of a sentence.
        fault: String,
    },
    /// Another process kept the writers' lock for too long.
    #[error("{} is in use by another edge-rlp{holder}: wait for it to end and try again", root.display())]
    Locked {
        /// The home folder.
        root: PathBuf,
        /// ` (process 17, adapt)`, or nothing where the holder is not known.
        holder: String,
    },
}

/// Why a prompt or a model cannot have a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It could not be the name of a file on every system.
    #[error(
        "{name:?} cannot name a {what}: use 1 to {most} letters, digits, '-', '_' and '.', not first '.' or '-', nor {extension} at the end"
    )]
    Characters {
        /// The name as it was given.
        name: String,
        /// `prompt` or `model`.
        what: &'static str,
        /// How a name may not end, because files of its kind do.
        extension: &'static str,
        /// Bytes that a name may have.
        most: usize,
    },
    /// It is the name of the embedded model.
    #[error("{name} is what the model inside the program is called: choose another name")]
    Reserved {
        /// The name as it was given.
        name: String,
    },
}

/// Why the bytes of a file are not a prompt that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptFileError {
    /// It does not begin with the magic bytes of a prompt file.
    #[error("{file} is not a prompt file: it does not begin like one")]
    Magic {
        /// The file, or where the bytes came from.
        file: String,
    },
    /// Its header names another length than it has: it was cut off, or something was added.
    #[error(
        "{file} is damaged: it is {found} bytes long and should be {expected}; copy it again or roll back"
    )]
    Length {
        /// The file, or where the bytes came from.
        file: String,
        /// Bytes that its header implies.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// Its checksum is not that of its content.
    #[error("{file} is damaged: its checksum does not match; copy it again or roll back")]
    Checksum {
        /// The file, or where the bytes came from.
        file: String,
    },
    /// It was written by a later edge-rlp.
    #[error(
        "{file} is a prompt file of version {version}, and this program reads up to version {supported}: update edge-rlp"
    )]
    NewerVersion {
        /// The file, or where the bytes came from.
        file: String,
        /// The version of its format.
        version: u16,
        /// The highest version that is read.
        supported: u16,
    },
    /// Its checksum is right, and its content is impossible all the same.
    #[error("{file} cannot be used as a prompt: {fault}")]
    Invalid {
        /// The file, or where the bytes came from.
        file: String,
        /// What is impossible, as the end of a sentence.
        fault: String,
    },
    /// It is larger than any prompt.
    #[error("{file} is above {} MiB: this is not a prompt file", limit >> 20)]
    TooLarge {
        /// The file, or where the bytes came from.
        file: String,
        /// In bytes.
        limit: u64,
    },
}

/// What a home folder does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MissingError {
    /// No model has that name.
    #[error("there is no model {name} in {}", folder.display())]
    Model {
        /// The name that was asked for.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// No prompt has that name.
    #[error("there is no prompt {name} in {}", folder.display())]
    Prompt {
        /// The name that was asked for.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The prompt has no generation of that number.
    #[error("the prompt {name} has no generation {sequence}")]
    Generation {
        /// The name that was asked for.
        name: String,
        /// The sequence number that was asked for.
        sequence: u64,
    },
    /// The generation is the oldest one that is kept.
    #[error("the prompt {name} has no generation before {sequence} to go back to")]
    EarlierGeneration {
        /// The name that was asked for.
        name: String,
        /// The sequence number of that generation.
        sequence: u64,
    },
    /// There are generations, but all of them are damaged.
    #[error("no generation of the prompt {name} can be read, the newest because: {newest}")]
    WholeGeneration {
        /// The name that was asked for.
        name: String,
        /// What is wrong with the newest one.
        newest: Box<StoreError>,
    },
    /// Sequence numbers are counted up, and there is none left.
    #[error(
        "the prompt {name} has used up its sequence numbers: remove it or save under another name"
    )]
    SequenceNumber {
        /// The name that was asked for.
        name: String,
    },
}

/// What a write would have to replace, and may not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExistsError {
    /// A model has that name.
    #[error("there is already a model {name} ({})", path.display())]
    Model {
        /// The name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// A file lies where another was to be written.
    #[error("{} exists{}", path.display(), if *regular { "" } else { ", and is not a regular file" })]
    File {
        /// That file.
        path: PathBuf,
        /// Not a link, a device or a FIFO.
        regular: bool,
    },
}

/// What the file system refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something in the home folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    WriteHome {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file outside the home folder cannot be written.
    #[error("cannot write {}: {source}; choose a folder that is writable and has room to spare", path.display())]
    WriteFile {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether it says that there is no prompt of the name asked for.
    pub fn is_missing_prompt(&self) -> bool {
        matches!(self, StoreError::Missing(MissingError::Prompt { .. }))
    }

    /// That `path` cannot be read, for `map_err`.
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        |source| {
            let path = path.to_owned();
            DiskError::Read { path, source }.into()
        }
    }

    /// That `path`, which lies in the home folder, cannot be written, for `map_err`.
    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        |source| {
            let path = path.to_owned();
            DiskError::WriteHome { path, source }.into()
        }
    }
}
