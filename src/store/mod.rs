//! What is kept on disk: prompt files, written atomically, with their history, models, and the shots that prompts are made
//! from.

#[doc(hidden)]
pub mod atomic;
mod bounded;
mod error;
#[doc(hidden)]
pub mod file_system;
#[doc(hidden)]
pub mod format;
pub mod home;
#[doc(hidden)]
pub mod json;
mod kept_pictures;

#[cfg(test)]
pub(crate) mod faults;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod survival;

pub use error::{DiskError, ExistsError, MissingError, NameError, PromptFileError, StoreError};
pub use file_system::free_space;
pub use format::{decode, digest, encode};
pub(crate) use home::label_of;
pub use home::{
    Exposure, Generation, Home, LABELS_FILE, Listed, LoadedPrompt, Saved, Settings, Shot,
};
pub use kept_pictures::KeptPictures;
#[cfg(feature = "serve")]
pub(crate) use kept_pictures::retire;
