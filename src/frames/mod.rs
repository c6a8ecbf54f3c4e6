//! Where pictures come from: folders and drawn demo scenes. It must not know what is done with them.

pub mod folder;
pub mod picture;

pub use folder::{LabelledPictures, labelled_folder, pictures_in};
pub use picture::{MAX_PIXELS, decode_picture, read_picture};
