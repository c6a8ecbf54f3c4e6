//! What `--camera` names: a camera, a device, a folder, standard input or the demo scenes, and the frames that
//! come from it. It must not know what is done with a frame.

use super::demo::{self, DemoError};
use image::RgbImage;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// One picture of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The picture, 8 bits a channel.
    pub image: RgbImage,
    /// Where it comes from, as given to `--camera`.
    pub source: String,
    /// Its number in the stream, from 0.
    pub index: u64,
    /// What it shows, where the source knows: demo scenes do.
    pub label: Option<String>,
}

/// A parsed `--camera SRC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraSource {
    /// A camera by its number.
    Index(u32),
    /// A camera by its device file, such as `/dev/video0`.
    Device(PathBuf),
    /// The pictures of a folder: `dir:PATH`.
    Folder(PathBuf),
    /// Motion JPEG on standard input: `-`.
    Stdin,
    /// Drawn scenes under a condition (an index into [`demo::CONDITIONS`]): `demo` or `demo:CONDITION`.
    Demo(usize),
}

/// Why a camera cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramesError {
    /// The text after `--camera` has no meaning.
    #[error(
        "\"{0}\" is no camera; use a number, a device such as /dev/video0, dir:PATH, - or demo[:CONDITION]"
    )]
    UnknownSource(String),
    /// Not a demo condition.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// A source that cannot be read yet.
    #[error(
        "camera {0} cannot be read: this build reads demo scenes only; use --camera demo[:CONDITION], or save pictures \
         to files and name those"
    )]
    NotServed(CameraSource),
}

impl FromStr for CameraSource {
    type Err = FramesError;

    fn from_str(text: &str) -> Result<CameraSource, FramesError> {
        let unknown = || FramesError::UnknownSource(text.to_owned());
        if text == "-" {
            return Ok(CameraSource::Stdin);
        }
        if text == "demo" {
            return Ok(CameraSource::Demo(demo::condition_named("clear")?));
        }
        if let Some(condition) = text.strip_prefix("demo:") {
            return Ok(CameraSource::Demo(demo::condition_named(condition)?));
        }
        if let Some(path) = text.strip_prefix("dir:") {
            return if path.is_empty() {
                Err(unknown())
            } else {
                Ok(CameraSource::Folder(path.into()))
            };
        }
        if text.starts_with("/dev/") {
            return Ok(CameraSource::Device(text.into()));
        }
        text.parse().map(CameraSource::Index).map_err(|_| unknown())
    }
}

impl fmt::Display for CameraSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CameraSource::Index(index) => write!(out, "{index}"),
            CameraSource::Device(path) => write!(out, "{}", path.display()),
            CameraSource::Folder(path) => write!(out, "dir:{}", path.display()),
            CameraSource::Stdin => write!(out, "-"),
            CameraSource::Demo(condition) => {
                write!(out, "demo:{}", demo::CONDITIONS[*condition].name)
            }
        }
    }
}

impl CameraSource {
    /// The frames of this source, without end. `seed` decides what the demo scenes show; give one seed for
    /// learning and another for classifying, or the same pictures come twice.
    pub fn open(&self, seed: u64) -> Result<impl Iterator<Item = Frame> + use<>, FramesError> {
        match *self {
            CameraSource::Demo(condition) => Ok(demo::stream(condition, seed)),
            _ => Err(FramesError::NotServed(self.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_camera_option_is_read_and_shown_again() {
        for text in [
            "0",
            "17",
            "/dev/video0",
            "dir:some/where",
            "-",
            "demo:clear",
            "demo:peephole",
        ] {
            assert_eq!(text.parse::<CameraSource>().unwrap().to_string(), text);
        }
        assert_eq!(
            "demo".parse::<CameraSource>().unwrap(),
            CameraSource::Demo(0)
        );
        assert_eq!(
            "dir:a".parse::<CameraSource>().unwrap(),
            CameraSource::Folder("a".into())
        );
    }

    #[test]
    fn nonsense_is_refused_with_the_forms_there_are() {
        for text in ["", "dir:", "-1", "webcam", "99999999999"] {
            let message = text.parse::<CameraSource>().unwrap_err().to_string();
            assert!(message.contains("demo[:CONDITION]"), "{message}");
        }
        let message = "demo:moonlight"
            .parse::<CameraSource>()
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("moonlight") && message.contains("peephole"),
            "{message}"
        );
    }

    #[test]
    fn a_camera_that_is_not_served_says_what_to_use_instead() {
        let camera: CameraSource = "/dev/video0".parse().unwrap();
        let message = camera.open(1).err().unwrap().to_string();
        assert!(
            message.contains("/dev/video0") && message.contains("--camera demo"),
            "{message}"
        );
    }

    #[test]
    fn demo_frames_carry_number_source_and_label() {
        let camera: CameraSource = "demo:fog".parse().unwrap();
        let frames: Vec<Frame> = camera.open(1).unwrap().take(24).collect();
        for (index, frame) in (0..).zip(&frames) {
            assert_eq!((frame.index, frame.source.as_str()), (index, "demo:fog"));
        }
        for class in demo::CLASSES {
            let shown = frames
                .iter()
                .filter(|frame| frame.label.as_deref() == Some(class))
                .count();
            assert_eq!(shown, 2, "{class}");
        }
    }
}
