//! Why a box does not take what has come over the broker.

use crate::store::PromptFileError;

/// Why a notice is not followed. What is in use stays in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is too large to be looked at.
    #[error("it has {bytes} bytes, and a notice has {most} at most")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many are looked at.
        most: usize,
    },
    /// It is no notice, or a damaged one.
    #[error("it is no notice, or damaged: {fault}")]
    Malformed {
        /// What is wrong with it.
        fault: String,
    },
    /// A newer program made it.
    #[error(
        "it is a notice of version {version}, and this program reads {supported} and older: bring the program up to date"
    )]
    Newer {
        /// Its version.
        version: u16,
        /// The newest that is read.
        supported: u16,
    },
    /// Nobody has signed it.
    #[error("nobody has signed it")]
    Unsigned,
    /// Nobody whom this box trusts has signed it.
    #[error("it is signed by the key {key}, which this box does not trust")]
    UnknownKey {
        /// The key's number.
        key: String,
    },
    /// It says that a trusted key has signed it, and that is not so.
    #[error(
        "it says that the key {key} has signed it, and that key has not: it was changed on its way, or is forged"
    )]
    Forged {
        /// The key's number.
        key: String,
    },
    /// It is for boxes of another group.
    #[error("it is for the group {of}, and this box follows {follows}")]
    OtherGroup {
        /// Whom it is for.
        of: String,
        /// What the box follows.
        follows: String,
    },
    /// It is for another region than the one at whose topic it came.
    #[error("it is for the region {of:?}, and came as one for {at:?}")]
    OtherRegion {
        /// What it is for.
        of: String,
        /// Where it came.
        at: String,
    },
    /// It is for another model than the box has.
    #[error("it is for the model {of} ({fingerprint}), and this box has {has}")]
    OtherModel {
        /// The name of its model.
        of: String,
        /// The first digits of that model's fingerprint.
        fingerprint: String,
        /// What the box has, in words.
        has: String,
    },
    /// The box has a newer one: somebody sends an old one again.
    #[error("it is generation {offered}, and this box has seen {seen}: an old one was sent again")]
    Older {
        /// Its generation.
        offered: u64,
        /// The newest that the box has seen.
        seen: u64,
    },
    /// Two different ones with one number.
    #[error(
        "it is another generation {generation} than the one that this box has seen: publish it with a number of its own"
    )]
    Conflict {
        /// The number of both.
        generation: u64,
    },
    /// Its prompt does not fit the model that it names.
    #[error("its prompt does not fit its model: {fault}")]
    Unfit {
        /// What is wrong with it.
        fault: String,
    },
    /// Its prompt cannot be used.
    #[error("its prompt cannot be used: {0}")]
    Prompt(#[from] PromptFileError),
}

impl Refusal {
    /// One word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::TooLarge { .. } => "too-large",
            Refusal::Malformed { .. } => "malformed",
            Refusal::Newer { .. } => "newer",
            Refusal::Unsigned => "unsigned",
            Refusal::UnknownKey { .. } => "unknown-key",
            Refusal::Forged { .. } => "forged",
            Refusal::OtherGroup { .. } => "other-group",
            Refusal::OtherRegion { .. } => "other-region",
            Refusal::OtherModel { .. } => "other-model",
            Refusal::Older { .. } => "older",
            Refusal::Conflict { .. } => "conflict",
            Refusal::Unfit { .. } => "unfit",
            Refusal::Prompt(_) => "prompt",
        }
    }
}
