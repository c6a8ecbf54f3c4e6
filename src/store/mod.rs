//! What is kept on disk: prompt files, written atomically, with their history, and the shots they are made from. It
//! must not know how prompts are made.

pub mod atomic;
pub mod file_system;
pub mod format;
pub mod home;
pub mod json;
pub mod record;

#[cfg(test)]
pub(crate) mod faults;
#[cfg(test)]
mod survival;

pub use file_system::free_space;
pub use format::{decode, digest, encode};
pub use home::{Generation, Home, LABELS_FILE, Listed, Loaded, Saved, Shot};
pub use record::{Calibration, FeatureStatistics, Metrics, Prompt, Provenance};

use std::io;
use std::path::PathBuf;

/// Why something could not be kept or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("{file} is not a prompt file: it does not begin like one")]
    NotAPrompt { file: String },
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
    #[error("{file} is above {} MiB: this is not a prompt file", format::MAX_FILE_BYTES >> 20)]
    TooLarge { file: String },
    #[error(
        "{file} was trained for the model {trained_for} ({trained_for_fingerprint}) and cannot be used with {model} ({model_fingerprint}): choose that model or adapt again"
    )]
    OtherModel {
        file: String,
        trained_for: String,
        trained_for_fingerprint: String,
        model: String,
        model_fingerprint: String,
    },
    #[error(
        "{name:?} cannot name a {what}: use 1 to {} letters, digits, '-', '_' and '.', not first '.' or '-', nor {extension} at the end",
        home::MAX_NAME_BYTES
    )]
    Name {
        name: String,
        what: &'static str,
        extension: &'static str,
    },
    #[error("{name} is what the model inside the program is called: choose another name")]
    Reserved { name: String },
    #[error("there is already a model {name} ({}): choose another name, or replace it with --force", path.display())]
    ModelExists { name: String, path: PathBuf },
    #[error("there is no model {name} in {}: `edge-rlp model list` names those that are", folder.display())]
    NoModel { name: String, folder: PathBuf },
    #[error("there is no prompt {name} in {folder}: `edge-rlp prompt list` names those that are")]
    NotFound { name: String, folder: PathBuf },
    #[error(
        "the prompt {name} has no generation {sequence}: `edge-rlp prompt history {name}` names those that are"
    )]
    NoGeneration { name: String, sequence: u64 },
    #[error("the prompt {name} has no generation before {sequence} to go back to")]
    NothingEarlier { name: String, sequence: u64 },
    #[error("no generation of the prompt {name} can be read, the newest because: {newest}")]
    AllDamaged {
        name: String,
        newest: Box<StoreError>,
    },
    #[error(
        "the prompt {name} has used up its sequence numbers: remove it or save under another name"
    )]
    SequenceEnd { name: String },
    #[error("cannot write {}: {source}; make that folder writable with room to spare, or choose another with EDGE_RLP_HOME", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}; choose a folder that is writable and has room to spare", path.display())]
    WriteFile { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} exists: choose another name, or replace it with --force", path.display())]
    FileExists { path: PathBuf },
    #[error("{} is in use by another edge-rlp{holder}: wait for it to end and try again", root.display())]
    Locked { root: PathBuf, holder: String },
}
