//! How a camera is used: what it is asked for, and how long it is waited for.

use super::FramesError;
use std::str::FromStr;
use std::time::Duration;

/// How a camera is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CameraOptions {
    /// What to ask a device for; 640x480@30 where nothing is said.
    pub format: Option<CaptureFormat>,
    /// Without a frame for so long, over all tries to open it, a camera is given up.
    pub timeout: Duration,
}

impl CameraOptions {
    /// The usual format; given up after `timeout` without a frame.
    pub fn within(timeout: Duration) -> CameraOptions {
        CameraOptions {
            format: None,
            timeout,
        }
    }

    /// The same with another format.
    pub fn with_format(self, format: Option<CaptureFormat>) -> CameraOptions {
        CameraOptions { format, ..self }
    }
}

impl Default for CameraOptions {
    fn default() -> CameraOptions {
        CameraOptions::within(Duration::from_secs(30))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
