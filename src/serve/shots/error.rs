//! Why labelled pictures and labels stay as they are.

use crate::frames::PictureError;
use crate::prompt::{LabelFault, LabelsError};
use crate::serve::cameras::NoLabels;
use crate::store::StoreError;

/// Why shots or labels stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShotsError {
    /// The label is none of the prompt's.
    #[error("the prompt {prompt} has no label {label:?}: add it first")]
    NoLabel {
        /// The prompt.
        prompt: String,
        /// The label.
        label: String,
    },
    /// The prompt has as many shots as it may have.
    #[error(
        "the prompt {prompt} has {pictures} pictures of {megabytes} MB together, as many as [shots] allows: remove some, or allow more there"
    )]
    Full {
        /// The prompt.
        prompt: String,
        /// How many it has.
        pictures: usize,
        /// And their bytes, in millions.
        megabytes: u64,
    },
    /// There is no such shot.
    #[error("the prompt {prompt} has no shot {id:?}: it may have been removed meanwhile")]
    NoShot {
        /// The prompt.
        prompt: String,
        /// The shot's id.
        id: String,
    },
    /// Nothing that was kept here is left to take back.
    #[error("nothing is left to take back")]
    NothingToUndo,
    /// A label cannot have this name.
    #[error("{label:?} cannot be a label: {fault}")]
    Name {
        /// The name.
        label: String,
        /// What is wrong with it.
        fault: LabelFault,
    },
    /// The labels cannot be used together.
    #[error("{0}")]
    Labels(LabelsError),
    /// The picture cannot be used.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The home folder refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The labels there are cannot be read.
    #[error(transparent)]
    NoLabels(#[from] NoLabels),
}
