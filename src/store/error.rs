//! Why something could not be kept or read back, by what it is about: a name, a prompt file, what is missing or in the
//! way, and the disk.

use std::io;
use std::path::{Path, PathBuf};

/// Why something could not be kept or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    PromptFile(#[from] PromptFileError),
    #[error(transparent)]
    Missing(#[from] MissingError),
    #[error(transparent)]
    Exists(#[from] ExistsError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process kept the writers' lock for too long.
    #[error("{} is in use by another edge-rlp{holder}: wait for it to end and try again", root.display())]
    Locked {
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
        name: String,
        /// `prompt` or `model`.
        what: &'static str,
        extension: &'static str,
        /// Bytes that a name may have.
        most: usize,
    },
    #[error("{name} is what the model inside the program is called: choose another name")]
    Reserved { name: String },
}

/// Why the bytes of a file are not a prompt that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptFileError {
    #[error("{file} is not a prompt file: it does not begin like one")]
    Magic { file: String },
    #[error(
        "{file} is damaged: it is {found} bytes long and should be {expected}; copy it again or roll back"
    )]
    Length {
        file: String,
        expected: u64,
        found: u64,
    },
    #[error("{file} is damaged: its checksum does not match; copy it again or roll back")]
    Checksum { file: String },
    #[error(
        "{file} is a prompt file of version {version}, and this program reads up to version {supported}: update edge-rlp"
    )]
    NewerVersion {
        file: String,
        version: u16,
        supported: u16,
    },
    #[error("{file} cannot be used as a prompt: {fault}")]
    Invalid { file: String, fault: String },
    #[error("{file} is above {} MiB: this is not a prompt file", limit >> 20)]
    TooLarge {
        file: String,
        /// In bytes.
        limit: u64,
    },
}

/// What a home folder does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MissingError {
    #[error("there is no model {name} in {}", folder.display())]
    Model { name: String, folder: PathBuf },
    #[error("there is no prompt {name} in {}", folder.display())]
    Prompt { name: String, folder: PathBuf },
    #[error("the prompt {name} has no generation {sequence}")]
    Generation { name: String, sequence: u64 },
    #[error("the prompt {name} has no generation before {sequence} to go back to")]
    EarlierGeneration { name: String, sequence: u64 },
    /// There are generations, but all of them are damaged.
    #[error("no generation of the prompt {name} can be read, the newest because: {newest}")]
    WholeGeneration {
        name: String,
        newest: Box<StoreError>,
    },
    #[error(
        "the prompt {name} has used up its sequence numbers: remove it or save under another name"
    )]
    SequenceNumber { name: String },
}

/// What a write would have to replace, and may not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExistsError {
    #[error("there is already a model {name} ({})", path.display())]
    Model { name: String, path: PathBuf },
    #[error("{} exists{}", path.display(), if *regular { "" } else { ", and is not a regular file" })]
    File {
        path: PathBuf,
        /// Not a link, a device or a FIFO.
        regular: bool,
    },
}

/// What the file system refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Something in the home folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    WriteHome { path: PathBuf, source: io::Error },
    /// A file outside the home folder cannot be written.
    #[error("cannot write {}: {source}; choose a folder that is writable and has room to spare", path.display())]
    WriteFile { path: PathBuf, source: io::Error },
}

impl StoreError {
    /// Whether it says that there is no prompt of the name asked for.
    pub fn is_missing_prompt(&self) -> bool {
        matches!(self, StoreError::Missing(MissingError::Prompt { .. }))
    }

    /// That `path` cannot be read, for `map_err`.
    pub(super) fn reading(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        |source| {
            let path = path.to_owned();
            DiskError::Read { path, source }.into()
        }
    }

    /// That `path`, which lies in the home folder, cannot be written, for `map_err`.
    pub(super) fn writing(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        |source| {
            let path = path.to_owned();
            DiskError::WriteHome { path, source }.into()
        }
    }
}
