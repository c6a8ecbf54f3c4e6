//! Where pictures come from: cameras, files, folders and drawn demo scenes. It must not know what is done with them.

pub mod demo;
pub mod folder;
pub mod http;
pub mod live;
pub mod mjpeg;
pub mod picture;
pub mod source;
pub mod split_file;
#[cfg(feature = "camera")]
pub mod v4l2;
pub mod watched_folder;

pub use folder::{FolderError, LabelledPictures, labelled_folder, pictures_in};
pub use live::{Live, Patience};
pub use picture::{MAX_PIXELS, PictureError, decode_picture, read_picture};
pub use source::{CameraOptions, CameraSource, CaptureFormat, Frame, Frames, FramesError, Seen};
pub use split_file::{SplitError, SplitFile, find_split, read_split};
