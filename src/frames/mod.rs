//! Where pictures come from: cameras, files, folders and drawn demo scenes. It must not know what is done with them.

pub mod demo;
pub mod folder;
pub mod picture;
pub mod source;
pub mod split_file;

pub use folder::{FolderError, LabelledPictures, labelled_folder, pictures_in};
pub use picture::{MAX_PIXELS, PictureError, decode_picture, read_picture};
pub use source::{CameraSource, Frame, FramesError};
pub use split_file::{SplitError, SplitFile, find_split, read_split};
