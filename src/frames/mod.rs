//! Where pictures come from: cameras, files, folders and drawn demo scenes. What is done with them is decided above:
//! nothing here knows models or prompts.

pub mod camera_file;
mod camera_url;
mod content;
mod cut;
pub mod data_set;
pub mod demo;
mod error;
mod event;
mod folder;
mod folder_camera;
mod folder_changes;
pub(crate) mod frame;
pub(crate) mod glance;
#[doc(hidden)]
pub mod http;
mod jpeg;
pub(crate) mod lazy;
#[doc(hidden)]
pub mod live;
pub mod metadata;
#[doc(hidden)]
pub mod mjpeg;
mod options;
mod pace;
pub mod picture;
pub(crate) mod planes;
#[doc(hidden)]
pub mod reduced;
pub(crate) mod reuse;
#[cfg(feature = "rtsp")]
pub mod rtsp;
mod scan;
pub mod source;
mod troubles;
#[cfg(feature = "camera")]
pub mod v4l2;
#[doc(hidden)]
pub mod watched_folder;
mod webp;

pub use camera_url::{CameraUrl, Login};
pub use content::Content;
pub use cut::{cut, read_region};
pub use data_set::{
    LabelledFolder, SplitError, SplitFile, find_split, labelled_folder, read_split,
};
pub use error::{DemoError, DeviceError, FramesError, HttpError};
pub use event::{CameraEvent, CameraProblem};
pub use folder::{FolderError, FoundPictures, LeftOut, loose_pictures, pictures_in};
pub use frame::Frame;
#[doc(hidden)]
pub use frame::RawFrame;
pub use lazy::LazyFrame;
pub use live::CaptureCounts;
pub use options::{
    CameraOptions, CaptureFormat, Delivery, Fingerprint, MAX_CAMERA_PIXELS, RtspTransport, Trust,
};
pub use picture::{MAX_PIXELS, PictureError, decode_picture, limit_memory, read_picture};
pub use source::{CameraSource, Frames};
