//! Everything that frames can come from, under one name each: a camera of this machine or on the network, a pipe, a folder,
//! the demo scenes. [`CameraSource`] is such a name, [`CameraSource::open`] opens it, and [`Frames`] are what comes from it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::demo;
use super::event::{CameraEvent, CameraProblem};
use super::folder_camera::{FolderCamera, FolderEvent};
use super::frame::{Frame, RawFrame};
use super::glance::Unopened;
use super::http::{self, Patience};
use super::live::{Capture, CaptureCounts, Event, Live, Sink, Timeouts};
use super::mjpeg::Splitter;
use super::options::{CameraOptions, CaptureFormat};
use super::pace::Paced;
use super::troubles::Troubles;
use super::watched_folder::Arrival;
use super::{CameraUrl, Delivery, FramesError, LazyFrame, Login};

/// Key frames of a camera are no further apart.
const KEY_FRAMES: Duration = Duration::from_secs(30);
/// How long an RTSP camera is given to be told that nobody watches any more: it allows few sessions, and keeps those that were not
/// ended.
const GOODBYE: Duration = Duration::from_secs(1);

/// The name of a camera, as [`CameraSource::from_str`] reads it and `Display` shows it: never with a password.
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
    /// Motion JPEG in a file: `file:PATH`. Every picture of it, to its end.
    File(PathBuf),
    /// A camera on the network: `http://...` or `https://...`.
    Http(CameraUrl),
    /// One that speaks RTSP: `rtsp://...`.
    Rtsp(CameraUrl),
    /// Drawn scenes under one condition, or several in turn (indices into [`demo::CONDITIONS`]): `demo`,
    /// `demo:CONDITION` or `demo:CONDITION,CONDITION`.
    Demo(Vec<usize>),
}

impl CameraSource {
    /// Whether it is a file: every picture counts, and none comes again.
    pub fn is_recorded(&self) -> bool {
        matches!(self, CameraSource::File(_))
    }
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
        if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            return Ok(CameraSource::File(path.into()));
        }
        if text.starts_with("/dev/") {
            return Ok(CameraSource::Device(text.into()));
        }
        if text.contains("://") {
            let url = CameraUrl::parse(text)?;
            return Ok(if url.is_rtsp() {
                CameraSource::Rtsp(url)
            } else {
                CameraSource::Http(url)
            });
        }
        text.parse().map(CameraSource::Index).map_err(|_| unknown())
    }
}

impl CameraSource {
    /// The same, with `login` where it is a camera on the network whose address has none.
    pub fn with_login(self, login: &Login) -> CameraSource {
        match self {
            CameraSource::Http(url) => CameraSource::Http(url.with_login(login)),
            CameraSource::Rtsp(url) => CameraSource::Rtsp(url.with_login(login)),
            other => other,
        }
    }
}

impl fmt::Display for CameraSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CameraSource::Index(index) => write!(out, "{index}"),
            CameraSource::Device(path) => write!(out, "{}", path.display()),
            CameraSource::Folder(path) => write!(out, "dir:{}", path.display()),
            CameraSource::Stdin => write!(out, "-"),
            CameraSource::File(path) => write!(out, "file:{}", path.display()),
            CameraSource::Http(url) | CameraSource::Rtsp(url) => write!(out, "{url}"),
            CameraSource::Demo(conditions) => {
                let names = conditions.iter().map(|&index| demo::CONDITIONS[index].name);
                write!(out, "demo:{}", names.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// The frames of a camera, in the order in which they came.
pub struct Frames {
    stream: Stream,
    troubles: Troubles,
    /// How the stream ended, while there is still something to tell of it.
    ended: Option<Result<(), FramesError>>,
}

enum Stream {
    /// Drawn when asked for.
    Demo(Box<dyn Iterator<Item = Frame>>),
    /// From elsewhere in this program.
    Given(Box<dyn Iterator<Item = Frame>>),
    /// Every new file.
    Folder {
        folder: FolderCamera,
        camera: String,
        next: u64,
    },
    /// Only the newest frame of a stream.
    Live { live: Live, camera: String },
}

impl CameraSource {
    /// Opens this camera. `seed` decides what the demo scenes show; give one seed for learning and another for
    /// classifying, or the same pictures come twice.
    ///
    /// # Errors
    /// If it cannot be one; a camera that is only away for the moment is waited for.
    pub fn open(&self, seed: u64, options: &CameraOptions) -> Result<Frames, FramesError> {
        let mut timeouts = Timeouts::within(options.timeout);
        let mut delivery = Delivery::Newest;
        let capture: Arc<Capture> = match self {
            CameraSource::Demo(conditions) => {
                let scenes = demo::stream(conditions.clone(), seed);
                return Ok(Frames::of(Stream::Demo(Box::new(scenes))));
            }
            CameraSource::Folder(path) => {
                // Decoding a large picture is no silence of the folder.
                timeouts.stall = (2 * timeouts.stall).min(timeouts.give_up);
                return Ok(Frames::of(Stream::Folder {
                    folder: FolderCamera::open(path, timeouts)?,
                    camera: self.to_string(),
                    next: 0,
                }));
            }
            CameraSource::Stdin => {
                // It cannot be opened anew, so nothing is gained by leaving a silent one.
                timeouts.stall = timeouts.give_up.max(Duration::from_secs(1));
                delivery = options.delivery;
                let quiet = timeouts.stall / 2;
                Arc::new(move |sink: &Sink| capture_stdin(quiet, sink))
            }
            CameraSource::File(path) => {
                // Nothing in it is newer than the rest, and it is not read a second time.
                delivery = Delivery::Every;
                timeouts.stall = timeouts.give_up.max(Duration::from_secs(1));
                let failed = |source| FramesError::File {
                    path: path.clone(),
                    source,
                };
                // A pipe is opened once somebody writes to it, which is waited for with the camera's patience.
                let waits = path
                    .metadata()
                    .is_ok_and(|of| !of.is_file() && !of.is_dir());
                let opened = (!waits).then(|| File::open(path)).transpose();
                let file = Mutex::new(Some(opened.map_err(failed)?));
                let path = path.clone();
                let quiet = timeouts.stall / 2;
                Arc::new(move |sink: &Sink| {
                    let file = file.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let Some(opened) = file else {
                        return Ok(());
                    };
                    let open = || {
                        File::open(&path).map_err(|source| FramesError::File {
                            path: path.clone(),
                            source,
                        })
                    };
                    let file = opened.map_or_else(open, Ok)?;
                    split(file, quiet, sink).map_err(|error| error.in_file(&path))
                })
            }
            CameraSource::Http(url) => {
                timeouts = Timeouts::on_network(options.timeout);
                let url = url.clone();
                let patience = Patience {
                    quiet: quiet_of(&timeouts),
                    trust: options.trust,
                };
                Arc::new(move |sink: &Sink| http::capture(&url, patience, sink))
            }
            CameraSource::Rtsp(url) => {
                let usual = Timeouts::on_network(options.timeout);
                timeouts = Timeouts {
                    // Where key frames come about as often as pictures are looked at, they alone are decoded; they are seconds apart.
                    fresh: usual.fresh + 2 * options.interval.min(KEY_FRAMES),
                    goodbye: GOODBYE,
                    ..usual
                };
                capture_rtsp(url, quiet_of(&timeouts), options)?
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
        Ok(Frames::of(Stream::Live {
            live: Live::deliver(capture, timeouts, delivery),
            camera: self.to_string(),
        }))
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

/// How long a camera on the network may be quiet: it says what is wrong before it is taken for hanging, or given up.
fn quiet_of(timeouts: &Timeouts) -> Duration {
    let before_given_up = timeouts.give_up.mul_f32(0.9);
    timeouts.stall.mul_f32(0.8).min(before_given_up)
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

#[cfg(feature = "rtsp")]
fn capture_rtsp(
    url: &CameraUrl,
    quiet: Duration,
    options: &CameraOptions,
) -> Result<Arc<Capture>, FramesError> {
    let url = url.clone();
    let request = super::rtsp::Request {
        transport: options.transport,
        quiet,
        interval: options.interval,
    };
    Ok(Arc::new(move |sink: &Sink| {
        super::rtsp::capture(&url, request, sink)
    }))
}

#[cfg(not(feature = "rtsp"))]
fn capture_rtsp(
    url: &CameraUrl,
    _: Duration,
    _: &CameraOptions,
) -> Result<Arc<Capture>, FramesError> {
    Err(FramesError::NotBuiltRtsp(url.to_string()))
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
fn capture_stdin(quiet: Duration, sink: &Sink) -> Result<(), FramesError> {
    split(io::stdin().lock(), quiet, sink)
}

/// Splits `stream` to its end. Where bytes come for as long as `quiet` and there is no picture among them, it is something
/// else.
fn split(stream: impl Read, quiet: Duration, sink: &Sink) -> Result<(), FramesError> {
    let wanted = || sink.wanted();
    let mut stream = Paced::new(stream, &wanted);
    let mut splitter = Splitter::default();
    let mut bytes = vec![0; 64 << 10];
    let (opened, mut pictures) = (Instant::now(), 0);
    let content = |splitter: &Splitter, ended| FramesError::StdinContent {
        bytes: splitter.skipped(),
        guess: splitter.guess(),
        ended,
    };
    loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => {
                if let Some(picture) = splitter.finish() {
                    pictures += 1;
                    sink.put(RawFrame::Jpeg(picture));
                }
                return match (pictures, splitter.skipped()) {
                    (0, 1..) => Err(content(&splitter, true)),
                    _ => Ok(()),
                };
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FramesError::Stdin(error)),
        };
        for picture in splitter.push(&bytes[..count]) {
            pictures += 1;
            if !sink.put(RawFrame::Jpeg(picture)) {
                return Ok(());
            }
        }
        if pictures == 0 && splitter.skipped() > 0 && opened.elapsed() >= quiet {
            return Err(content(&splitter, false));
        }
    }
}

impl Frames {
    fn of(stream: Stream) -> Frames {
        Frames {
            stream,
            troubles: Troubles::default(),
            ended: None,
        }
    }

    /// Frames that are at hand, to their end.
    pub fn given(frames: impl Iterator<Item = Frame> + 'static) -> Frames {
        Frames::of(Stream::Given(Box::new(frames)))
    }

    /// Waits for the next frame. `stop` is asked many times a second. A trouble that repeats is told once, then counted;
    /// its number is told from time to time and before the end.
    ///
    /// # Errors
    /// If there will be no more frames though the stream has not ended.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<CameraEvent, FramesError> {
        Ok(self.next_if(stop, &mut |_| true)?.without_planes())
    }

    /// The same, but a frame is decoded only where it is `wanted`, and is [`CameraEvent::Passed`] else.
    ///
    /// # Errors
    /// Those of [`Frames::next`].
    pub(crate) fn next_if(
        &mut self,
        stop: &dyn Fn() -> bool,
        wanted: &mut dyn FnMut(Unopened) -> bool,
    ) -> Result<CameraEvent, FramesError> {
        while self.ended.is_none() {
            match self.stream.next(stop, wanted) {
                Ok(CameraEvent::Problem(problem)) => {
                    if let Some(told) = self.troubles.add(problem, Instant::now()) {
                        return Ok(CameraEvent::Problem(told));
                    }
                }
                Ok(CameraEvent::End) => self.ended = Some(Ok(())),
                Err(error) => self.ended = Some(Err(error)),
                Ok(frame) => return Ok(frame),
            }
        }
        match self.repeated() {
            Some(told) => Ok(CameraEvent::Problem(told)),
            None => self
                .ended
                .take()
                .unwrap_or(Ok(()))
                .map(|()| CameraEvent::End),
        }
    }

    /// What was counted and not told yet, a kind at a time: for whoever needs no more frames.
    pub fn repeated(&mut self) -> Option<CameraProblem> {
        self.troubles.rest()
    }

    /// How many frames a live camera sent; none where every frame waits to be looked at.
    pub fn counts(&self) -> Option<CaptureCounts> {
        match &self.stream {
            Stream::Live { live, .. } => Some(live.counts()),
            Stream::Demo(_) | Stream::Given(_) | Stream::Folder { .. } => None,
        }
    }

    /// Whether the frames are drawn, each when it is asked for.
    pub fn are_drawn(&self) -> bool {
        matches!(self.stream, Stream::Demo(_))
    }
}

impl Stream {
    fn next(
        &mut self,
        stop: &dyn Fn() -> bool,
        wanted: &mut dyn FnMut(Unopened) -> bool,
    ) -> Result<CameraEvent, FramesError> {
        let mut opened = |frame: Frame| match wanted(Unopened::Picture(&frame.image)) {
            true => CameraEvent::Frame(Box::new(frame)),
            false => CameraEvent::Passed(Arc::new(frame).into()),
        };
        Ok(match self {
            Stream::Demo(_) | Stream::Given(_) if stop() => CameraEvent::End,
            Stream::Demo(frames) | Stream::Given(frames) => match frames.next() {
                Some(frame) => opened(frame),
                None => CameraEvent::End,
            },
            Stream::Folder {
                folder,
                camera,
                next,
            } => match folder.next(stop)? {
                FolderEvent::Arrival(Arrival::Picture(image, path)) => {
                    *next += 1;
                    opened(Frame {
                        image,
                        source: path.to_string_lossy().into_owned(),
                        index: *next - 1,
                        label: None,
                        jpeg: None,
                        planes: None,
                    })
                }
                FolderEvent::Arrival(Arrival::Unusable(error)) => {
                    CameraEvent::Problem(CameraProblem::File(error))
                }
                FolderEvent::Arrival(Arrival::Replaced(pictures)) => {
                    CameraEvent::Problem(CameraProblem::Replaced {
                        camera: camera.clone(),
                        pictures,
                    })
                }
                FolderEvent::Arrival(Arrival::Stopped) => CameraEvent::End,
                FolderEvent::Away { reason, pause } => CameraEvent::Problem(CameraProblem::Lost {
                    camera: camera.clone(),
                    reason,
                    pause,
                }),
            },
            Stream::Live { live, camera } => match live.next(stop)? {
                Event::Frame(raw, index) => {
                    let event = match wanted(Unopened::Raw(&raw)) {
                        true => decoded(raw, camera, index),
                        false => CameraEvent::Passed(LazyFrame::raw(raw, camera, index)),
                    };
                    match &event {
                        CameraEvent::Problem(problem) => live.unusable(&problem.to_string())?,
                        _ => live.usable(),
                    }
                    event
                }
                Event::Lost { reason, pause } => CameraEvent::Problem(CameraProblem::Lost {
                    camera: camera.clone(),
                    reason,
                    pause,
                }),
                Event::End => CameraEvent::End,
            },
        })
    }
}

fn decoded(mut raw: RawFrame, camera: &str, index: u64) -> CameraEvent {
    raw.make_whole();
    match raw.decode() {
        Ok(image) => CameraEvent::Frame(Box::new(raw.into_frame(image, camera, index))),
        Err(error) => CameraEvent::Problem(CameraProblem::Picture {
            camera: camera.to_owned(),
            index,
            error,
        }),
    }
}

#[cfg(test)]
mod tests;
