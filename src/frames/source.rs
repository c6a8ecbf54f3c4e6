//! What `--camera` names: a camera, a device, a folder, standard input, a camera on the network or the demo scenes, and
//! the frames that come from it. It must not know what is done with a frame.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

use super::demo::{self, DemoError};
use super::http::{self, CameraUrl};
use super::live::{Capture, Event, Live, Patience, RawFrame, Sink};
use super::mjpeg::Splitter;
use super::watched_folder::{Arrival, WatchedFolder};

/// One picture of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The picture, 8 bits a channel.
    pub image: RgbImage,
    /// Where it comes from: the camera as given, or the file.
    pub source: String,
    /// Its number in the stream, from 0; frames that were dropped count.
    pub index: u64,
    /// What it shows, where the source knows: demo scenes do.
    pub label: Option<String>,
    /// The JPEG that it was decoded from, as it came, where the camera sends those.
    pub jpeg: Option<Vec<u8>>,
}

/// The quality of the JPEGs that frames are kept as, of 100.
const KEPT_QUALITY: u8 = 95;

impl Frame {
    /// The frame as a JPEG file: the bytes that the camera sent, or else a new one that loses next to nothing.
    ///
    /// # Errors
    /// If the picture is too large for a JPEG: above 65,535 pixels wide or high.
    pub fn to_jpeg(&self) -> Result<Cow<'_, [u8]>, FramesError> {
        if let Some(jpeg) = &self.jpeg {
            return Ok(jpeg.into());
        }
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, KEPT_QUALITY)
            .encode_image(&self.image)
            .map_err(|error| FramesError::Camera(format!("{}: {error}", self.source)))?;
        Ok(bytes.into())
    }
}

/// A parsed `--camera SRC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraSource {
    /// A camera by its number: 0 is /dev/video0.
    Index(u32),
    /// A camera by its device file, such as `/dev/video0` or a link of `/dev/v4l/by-id`.
    Device(PathBuf),
    /// New pictures of a folder: `dir:PATH`.
    Folder(PathBuf),
    /// Motion JPEG on standard input: `-`.
    Stdin,
    /// A camera on the network: `http://...`.
    Http(CameraUrl),
    /// Drawn scenes under one condition, or several in turn (indices into [`demo::CONDITIONS`]): `demo`,
    /// `demo:CONDITION` or `demo:CONDITION,CONDITION`.
    Demo(Vec<usize>),
}

/// Why a camera cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramesError {
    /// The text after `--camera` has no meaning.
    #[error(
        "\"{0}\" is no camera; use a number, a device such as /dev/video0, dir:PATH, http://HOST/PATH, - or demo[:CONDITION]"
    )]
    UnknownSource(String),
    /// Not an address of a camera.
    #[error("\"{address}\" is no address of a camera: {reason}")]
    Address { address: String, reason: String },
    /// Not a size and rate.
    #[error("\"{0}\" is no format; write width, height and pictures a second, as in 640x480@30")]
    Format(String),
    /// Not a demo condition.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// This program was built without a part.
    #[error(
        "camera {0} cannot be read: this program was built without the feature `camera`; build it with that, or pipe pictures in with --camera -"
    )]
    NotBuilt(String),
    /// A device that is not a camera.
    #[error("{path} is no /dev/videoN, nor a link to one; `edge-rlp cameras` lists what there is")]
    NotVideo { path: PathBuf },
    /// A folder that cannot be watched.
    #[error("{path} cannot be watched ({source})")]
    Folder { path: PathBuf, source: io::Error },
    /// A camera that failed, in a sentence.
    #[error("{0}")]
    Camera(String),
    /// A panic inside a driver's library.
    #[error("the camera's driver made a mistake")]
    Driver,
    /// All patience is used up.
    #[error(
        "no picture came for {seconds} s{}; --camera-timeout waits longer",
        reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    )]
    GaveUp {
        seconds: f32,
        reason: Option<String>,
    },
}

/// Size and rate that a camera is asked for; it gives what is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureFormat {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Pictures a second.
    pub rate: u32,
}

impl FromStr for CaptureFormat {
    type Err = FramesError;

    /// Reads `WIDTHxHEIGHT@RATE`.
    fn from_str(text: &str) -> Result<CaptureFormat, FramesError> {
        let numbers = || {
            let (size, rate) = text.split_once('@')?;
            let (width, height) = size.split_once('x')?;
            let number = |text: &str| {
                text.parse()
                    .ok()
                    .filter(|number| (1..=16_384).contains(number))
            };
            Some(CaptureFormat {
                width: number(width)?,
                height: number(height)?,
                rate: number(rate)?,
            })
        };
        numbers().ok_or_else(|| FramesError::Format(text.to_owned()))
    }
}

/// How a camera is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct CameraOptions {
    /// What to ask a device for [default: 640x480@30].
    pub format: Option<CaptureFormat>,
    pub patience: Patience,
}

impl FromStr for CameraSource {
    type Err = FramesError;

    fn from_str(text: &str) -> Result<CameraSource, FramesError> {
        let unknown = || FramesError::UnknownSource(text.to_owned());
        if text == "-" {
            return Ok(CameraSource::Stdin);
        }
        if text == "demo" {
            return Ok(CameraSource::Demo(vec![demo::condition_named("clear")?]));
        }
        if let Some(conditions) = text.strip_prefix("demo:") {
            let conditions = conditions.split(',').map(demo::condition_named);
            return Ok(CameraSource::Demo(conditions.collect::<Result<_, _>>()?));
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
        if text.contains("://") {
            return CameraUrl::parse(text).map(CameraSource::Http);
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
            CameraSource::Http(url) => write!(out, "{}", url.shown()),
            CameraSource::Demo(conditions) => {
                let names = conditions.iter().map(|&index| demo::CONDITIONS[index].name);
                write!(out, "demo:{}", names.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// The frames of a camera, in the order in which they came.
pub enum Frames {
    /// Drawn when asked for.
    Demo(Box<dyn Iterator<Item = Frame>>),
    /// Every new file.
    Folder { folder: WatchedFolder, next: u64 },
    /// Only the newest frame of a stream.
    Live { live: Live, source: String },
}

/// What comes of waiting for a frame.
pub enum Seen {
    Frame(Box<Frame>),
    /// Something went wrong, and watching goes on; in a sentence.
    Trouble(String),
    /// The stream has ended, or the caller has asked to stop.
    End,
}

impl CameraSource {
    /// Opens this camera. `seed` decides what the demo scenes show; give one seed for learning and another for
    /// classifying, or the same pictures come twice.
    ///
    /// # Errors
    /// If it cannot be one; a camera that is only away for the moment is waited for.
    pub fn open(&self, seed: u64, options: &CameraOptions) -> Result<Frames, FramesError> {
        let mut patience = options.patience;
        let capture: Arc<Capture> = match self {
            CameraSource::Demo(conditions) => {
                let scenes = demo::stream(conditions.clone(), seed);
                return Ok(Frames::Demo(Box::new(scenes)));
            }
            CameraSource::Folder(path) => {
                let folder = WatchedFolder::new(path)?;
                return Ok(Frames::Folder { folder, next: 0 });
            }
            CameraSource::Stdin => {
                // It cannot be opened anew, so nothing is gained by leaving a silent one.
                patience.stall = patience.give_up.max(Duration::from_secs(1));
                Arc::new(capture_stdin)
            }
            CameraSource::Http(url) => {
                // It tells what is wrong before it is left as hanging.
                let (url, quiet) = (url.clone(), patience.stall / 2);
                Arc::new(move |sink: &Sink| http::capture(&url, quiet, sink))
            }
            CameraSource::Index(index) => self.device(*index, options.format)?,
            CameraSource::Device(path) => {
                // A camera that is plugged in again may get another number: its link is followed at each try.
                let _ = video_index(path)?;
                let (path, format, shown) = (path.clone(), options.format, self.to_string());
                Arc::new(move |sink: &Sink| {
                    capture_device(video_index(&path)?, format, &shown, sink)
                })
            }
        };
        Ok(Frames::Live {
            live: Live::start(capture, patience),
            source: self.to_string(),
        })
    }

    fn device(
        &self,
        index: u32,
        format: Option<CaptureFormat>,
    ) -> Result<Arc<Capture>, FramesError> {
        let shown = self.to_string();
        if !cfg!(feature = "camera") {
            return Err(FramesError::NotBuilt(shown));
        }
        Ok(Arc::new(move |sink: &Sink| {
            capture_device(index, format, &shown, sink)
        }))
    }
}

#[cfg(feature = "camera")]
fn capture_device(
    index: u32,
    format: Option<CaptureFormat>,
    _: &str,
    sink: &Sink,
) -> Result<(), FramesError> {
    super::v4l2::capture(index, format, sink)
}

#[cfg(not(feature = "camera"))]
fn capture_device(
    _: u32,
    _: Option<CaptureFormat>,
    shown: &str,
    _: &Sink,
) -> Result<(), FramesError> {
    Err(FramesError::NotBuilt(shown.to_owned()))
}

/// N of a `/dev/videoN`, or of a link to one. A device that is away for the moment still has its number.
fn video_index(path: &Path) -> Result<u32, FramesError> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let index = real
        .to_str()
        .and_then(|path| path.strip_prefix("/dev/video")?.parse().ok());
    index.ok_or_else(|| FramesError::NotVideo {
        path: path.to_owned(),
    })
}

/// Motion JPEG from standard input, to its end.
fn capture_stdin(sink: &Sink) -> Result<(), FramesError> {
    split(&mut io::stdin().lock(), sink)
}

fn split(stream: &mut impl Read, sink: &Sink) -> Result<(), FramesError> {
    let mut splitter = Splitter::default();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let what = format!("standard input cannot be read ({error})");
                return Err(FramesError::Camera(what));
            }
        };
        for picture in splitter.push(&bytes[..count]) {
            if !sink.put(RawFrame::Jpeg(picture)) {
                return Ok(());
            }
        }
    }
}

impl Frames {
    /// Waits for the next frame. `stop` is asked many times a second.
    ///
    /// # Errors
    /// If there will be no more frames though the stream has not ended.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Seen, FramesError> {
        match self {
            Frames::Demo(_) if stop() => Ok(Seen::End),
            Frames::Demo(scenes) => Ok(scenes
                .next()
                .map_or(Seen::End, |frame| Seen::Frame(Box::new(frame)))),
            Frames::Folder { folder, next } => Ok(match folder.next(stop)? {
                Arrival::Picture(image, path) => {
                    *next += 1;
                    Seen::Frame(Box::new(Frame {
                        image,
                        source: path.to_string_lossy().into_owned(),
                        index: *next - 1,
                        label: None,
                        jpeg: None,
                    }))
                }
                Arrival::Trouble(told) => Seen::Trouble(told),
                Arrival::Stopped => Seen::End,
            }),
            Frames::Live { live, source } => Ok(match live.next(stop)? {
                Event::Frame(raw, index) => match raw.decode() {
                    Ok(image) => Seen::Frame(Box::new(Frame {
                        image,
                        source: source.clone(),
                        index,
                        label: None,
                        jpeg: match raw {
                            RawFrame::Jpeg(bytes) => Some(bytes),
                            RawFrame::Yuyv { .. } => None,
                        },
                    })),
                    Err(error) => {
                        Seen::Trouble(format!("camera {source}, picture {index}: {error}"))
                    }
                },
                Event::Trouble(told) => Seen::Trouble(format!("camera {source}: {told}")),
                Event::End => Seen::End,
            }),
        }
    }

    /// Frames that a live camera sent, and how many of those nobody looked at because a newer one came.
    pub fn counts(&self) -> Option<(u64, u64)> {
        match self {
            Frames::Live { live, .. } => Some(live.counts()),
            Frames::Demo(_) | Frames::Folder { .. } => None,
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
            "http://10.0.0.7:8080/video?size=640x480",
            "-",
            "demo:clear",
            "demo:peephole",
            "demo:clear,squeezed",
        ] {
            assert_eq!(text.parse::<CameraSource>().unwrap().to_string(), text);
        }
        assert_eq!(
            "demo".parse::<CameraSource>().unwrap(),
            CameraSource::Demo(vec![0])
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
    fn an_address_keeps_its_password_to_itself() {
        let camera: CameraSource = "http://admin:secret@cam.local/stream".parse().unwrap();
        assert_eq!(camera.to_string(), "http://cam.local/stream");
        for text in ["https://cam.local/", "rtsp://cam.local/", "http://"] {
            let message = text.parse::<CameraSource>().unwrap_err().to_string();
            assert!(message.contains("is no address of a camera"), "{message}");
        }
    }

    #[test]
    fn formats_are_read_or_refused() {
        let format: CaptureFormat = "1280x720@15".parse().unwrap();
        assert_eq!((format.width, format.height, format.rate), (1280, 720, 15));
        for text in [
            "",
            "640x480",
            "640@30",
            "0x480@30",
            "640x480@-1",
            "640x480@99999",
        ] {
            assert!(text.parse::<CaptureFormat>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_that_is_no_camera_is_refused() {
        let camera: CameraSource = "/dev/null".parse().unwrap();
        let message = camera
            .open(1, &CameraOptions::default())
            .err()
            .unwrap()
            .to_string();
        assert!(
            message.contains("/dev/null") && message.contains("edge-rlp cameras"),
            "{message}"
        );
    }

    #[test]
    fn a_stream_is_split_until_its_end() {
        let bytes = include_bytes!("../../tests/fixtures/mjpeg/ffmpeg.mjpeg");
        let live = Live::start(
            Arc::new(|sink: &Sink| split(&mut &bytes[..], sink)),
            Patience::default(),
        );
        let mut frames = Frames::Live {
            live,
            source: "-".into(),
        };
        let Seen::Frame(frame) = frames.next(&|| false).unwrap() else {
            panic!("the file holds pictures")
        };
        assert_eq!(
            (frame.image.dimensions(), frame.source.as_str()),
            ((64, 48), "-")
        );
        let kept = frame.to_jpeg().unwrap();
        assert!(
            bytes.windows(kept.len()).any(|part| part == kept.as_ref()),
            "the bytes as they came"
        );
    }

    #[test]
    fn a_frame_that_was_no_jpeg_is_kept_as_one_that_looks_the_same() {
        let frame = demo::stream(vec![0], 1).next().unwrap();
        let kept = frame.to_jpeg().unwrap();
        let again = crate::frames::decode_picture(&kept, 1 << 20).unwrap();
        let pairs = again.as_raw().iter().zip(frame.image.as_raw());
        let apart: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = apart as f64 / again.as_raw().len() as f64;
        assert!(mean < 2.0, "{mean}");
    }

    #[test]
    fn demo_frames_carry_number_source_and_label() {
        let camera: CameraSource = "demo:fog".parse().unwrap();
        let mut camera = camera.open(1, &CameraOptions::default()).unwrap();
        let mut frame = || match camera.next(&|| false).unwrap() {
            Seen::Frame(frame) => *frame,
            _ => panic!("the demo camera never ends"),
        };
        let frames: Vec<Frame> = (0..24).map(|_| frame()).collect();
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
