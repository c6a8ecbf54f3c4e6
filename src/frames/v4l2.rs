//! Cameras that Linux serves as /dev/videoN (USB cameras, mostly), through nokhwa. It hangs on some devices without an
//! error; [`super::live::Live`] leaves such a capture behind.

use nokhwa::pixel_format::RgbFormat;
use nokhwa::utils::{
    ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType,
    Resolution,
};
use nokhwa::{Camera, NokhwaError};
use serde::Serialize;

use super::FramesError;
use super::error::DeviceError;
use super::frame::RawFrame;
use super::live::Sink;
use super::options::CaptureFormat;

/// What is asked for unless a person asks for something else: more pixels than any model takes, and no more.
const USUAL: CaptureFormat = CaptureFormat {
    width: 640,
    height: 480,
    rate: 30,
};
/// Compressed frames first: USB 2 carries them faster.
const FORMATS: [FrameFormat; 2] = [FrameFormat::MJPEG, FrameFormat::YUYV];

/// A camera of this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FoundCamera {
    /// Its number: N of `/dev/videoN`.
    pub index: u32,
    /// Its path, `/dev/videoN`.
    pub device: String,
    /// What the driver calls it.
    pub name: String,
    /// What it can send, `MJPEG 640x480@30` and so on; empty for devices that carry no pictures.
    pub formats: Vec<String>,
    /// Why its formats could not be read.
    pub problem: Option<String>,
}

/// All cameras of this machine, by index.
///
/// # Errors
/// If the system does not say.
pub fn list() -> Result<Vec<FoundCamera>, FramesError> {
    let found = nokhwa::query(ApiBackend::Video4Linux).map_err(|error| failed(&error))?;
    let mut cameras: Vec<FoundCamera> = found
        .iter()
        .filter_map(|info| {
            let index = info.index().as_index().ok()?;
            let (formats, problem) = match formats(index) {
                Ok(formats) => (formats, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            Some(FoundCamera {
                index,
                device: format!("/dev/video{index}"),
                name: info.human_name(),
                formats,
                problem,
            })
        })
        .collect();
    cameras.sort_by_key(|camera| camera.index);
    Ok(cameras)
}

fn formats(index: u32) -> Result<Vec<String>, FramesError> {
    let any = RequestedFormat::new::<RgbFormat>(RequestedFormatType::AbsoluteHighestFrameRate);
    let mut camera = Camera::new(CameraIndex::Index(index), any).map_err(|error| failed(&error))?;
    let mut formats = camera
        .compatible_camera_formats()
        .map_err(|error| failed(&error))?;
    formats.sort_by_key(|format| {
        (
            format.format().to_string(),
            format.resolution(),
            format.frame_rate(),
        )
    });
    formats.dedup();
    let shown = formats.iter().map(|format| {
        format!(
            "{} {}@{}",
            format.format(),
            format.resolution(),
            format.frame_rate()
        )
    });
    Ok(shown.collect())
}

/// Captures from camera `index` in the format nearest to `wanted` until the sink wants no more.
///
/// # Errors
/// If the camera cannot be opened, or fails.
pub fn capture(index: u32, wanted: Option<CaptureFormat>, sink: &Sink) -> Result<(), FramesError> {
    let mut camera = open(index, wanted.unwrap_or(USUAL))?;
    camera.open_stream().map_err(|error| failed(&error))?;
    loop {
        let buffer = camera.frame().map_err(|error| failed(&error))?;
        let data = buffer.buffer().to_vec();
        let frame = match buffer.source_frame_format() {
            FrameFormat::MJPEG => RawFrame::Jpeg(data),
            FrameFormat::YUYV => RawFrame::Yuyv {
                width: buffer.resolution().width(),
                height: buffer.resolution().height(),
                data,
            },
            other => return Err(DeviceError::Sends(other.to_string()).into()),
        };
        if !sink.put(frame) {
            return Ok(());
        }
    }
}

fn open(index: u32, wanted: CaptureFormat) -> Result<Camera, FramesError> {
    let resolution = Resolution::new(wanted.width, wanted.height);
    let mut last = None;
    for format in FORMATS {
        let nearest =
            RequestedFormatType::Closest(CameraFormat::new(resolution, format, wanted.rate));
        let request = RequestedFormat::with_formats(nearest, &FORMATS);
        match Camera::new(CameraIndex::Index(index), request) {
            Ok(camera) => return Ok(camera),
            // The device itself cannot be opened: no other format will help.
            Err(error @ NokhwaError::OpenDeviceError(..)) => return Err(failed(&error)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(FramesError::Driver, |error| {
        DeviceError::Offers(error.to_string()).into()
    }))
}

fn failed(error: &NokhwaError) -> FramesError {
    let failed = match error {
        NokhwaError::OpenDeviceError(index, reason) => DeviceError::Open {
            index: index.clone(),
            reason: reason.trim_start_matches("V4L2 Error: ").to_owned(),
        },
        other => DeviceError::Failed(other.to_string()),
    };
    failed.into()
}
