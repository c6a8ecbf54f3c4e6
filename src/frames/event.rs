//! What comes of waiting for a frame of a camera: the frame, or what went wrong.

use std::time::Duration;

use super::frame::Frame;
use super::{LazyFrame, PictureError};

/// What comes of waiting for a frame.
#[derive(Debug)]
pub enum CameraEvent {
    /// The next frame.
    Frame(Box<Frame>),
    /// A frame that nobody wanted, and that was not decoded where that was left to do.
    Passed(LazyFrame),
    /// Something went wrong, and watching goes on.
    Problem(CameraProblem),
    /// The stream has ended, or the caller has asked to stop.
    End,
}

impl CameraEvent {
    /// For whoever keeps the picture itself: nothing that it was made from.
    pub(super) fn without_planes(mut self) -> CameraEvent {
        if let CameraEvent::Frame(frame) = &mut self {
            frame.planes = None;
        }
        self
    }
}

/// What can go wrong with a camera without ending its frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CameraProblem {
    /// It failed or fell silent, and is opened again after a pause.
    #[error("camera {camera}: {reason}; trying again in {:.1} s", pause.as_secs_f32())]
    Lost {
        /// The camera as it was named; a password is not shown.
        camera: String,
        /// What happened.
        reason: String,
        /// How long until it is opened again.
        pause: Duration,
    },
    /// A picture that it sent cannot be used.
    #[error("camera {camera}, picture {index}: {error}")]
    Picture {
        /// The camera as it was named; a password is not shown.
        camera: String,
        /// How many frames came before it.
        index: u64,
        /// What is wrong with it.
        error: PictureError,
    },
    /// A file of a watched folder cannot be used.
    #[error(transparent)]
    File(PictureError),
    /// Another folder has taken the place of a watched one.
    #[error(
        "camera {camera}: another folder has this name now, as where a share or a disk comes or goes; it is watched on, and {pictures} older pictures in it are left alone"
    )]
    Replaced {
        /// The camera as it was named.
        camera: String,
        /// Pictures in it that are not new.
        pictures: usize,
    },
    /// What was told before has happened again.
    #[error("camera {camera}: {more} more like it: {words}")]
    Repeated {
        /// The camera, without its login.
        camera: String,
        /// What is to be said of the newest.
        words: String,
        /// How often, since it was last told.
        more: u64,
    },
}

impl CameraProblem {
    /// The camera, and what is said of it; others of the same kind differ in nothing but numbers.
    pub(super) fn said(&self) -> (String, String) {
        match self {
            CameraProblem::Lost { camera, reason, .. } => (camera.clone(), reason.clone()),
            CameraProblem::Picture { camera, error, .. } => (camera.clone(), error.to_string()),
            CameraProblem::File(PictureError::File { path, problem }) => {
                let folder = path.parent().unwrap_or(path);
                let camera = format!("dir:{}", folder.display());
                (camera, problem.to_string())
            }
            CameraProblem::File(error) => ("dir:".into(), error.to_string()),
            CameraProblem::Replaced { camera, .. } => (camera.clone(), "another folder".into()),
            CameraProblem::Repeated { camera, words, .. } => (camera.clone(), words.clone()),
        }
    }
}

/// `text` without its numbers, which differ from one trouble to the next of its kind.
pub(super) fn without_numbers(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' if words.ends_with('#') => {}
            '0'..='9' => words.push('#'),
            c => words.push(c),
        }
    }
    words.replace('#', "N")
}
