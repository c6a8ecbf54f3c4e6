//! Data sets: labelled pictures on disk, as folders or as the split files of published benchmarks.

mod labelled_folder;
mod split_file;

pub use labelled_folder::{LabelledFolder, labelled_folder};
pub use split_file::{SplitError, SplitFile, find_split, read_split};
