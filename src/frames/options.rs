//! How a camera is used: what it is asked for, and how long it is waited for.

use super::FramesError;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Pixels that a picture of a camera may have: the largest sensor that sends motion JPEG has 12.3 million.
pub const MAX_CAMERA_PIXELS: u64 = 13_000_000;

/// How a camera is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CameraOptions {
    /// What to ask a device for; 640x480@30 where nothing is said.
    pub format: Option<CaptureFormat>,
    /// Without a frame for so long, over all tries to open it, a camera is given up.
    pub timeout: Duration,
    /// Which https cameras are taken for what they say they are.
    pub trust: Trust,
    /// Which frames of a stream on standard input are handed over.
    pub delivery: Delivery,
    /// How RTSP cameras are asked to send.
    pub transport: RtspTransport,
    /// The time between two pictures that are looked at: where a camera's key frames come as often, they are decoded alone.
    pub interval: Duration,
}

/// Which frames are handed over where more come than are looked at. What is not live, as a file, always hands over every one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// The newest; older ones are dropped and counted.
    #[default]
    Newest,
    /// Every one: whoever writes the stream waits meanwhile.
    Every,
}

/// How an RTSP camera sends its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RtspTransport {
    /// Within the connection, so that none is lost.
    #[default]
    Tcp,
    /// As datagrams, which suits cameras that cannot do otherwise.
    Udp,
}

impl FromStr for RtspTransport {
    type Err = FramesError;

    fn from_str(text: &str) -> Result<RtspTransport, FramesError> {
        match text {
            "tcp" => Ok(RtspTransport::Tcp),
            "udp" => Ok(RtspTransport::Udp),
            _ => Err(FramesError::Transport(text.to_owned())),
        }
    }
}

/// Which certificates of https cameras are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those that a public authority vouches for.
    #[default]
    Authorities,
    /// This one and no other.
    Fingerprint(Fingerprint),
    /// All, whoever shows them.
    Anyone,
}

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = FramesError;

    /// Reads 64 hexadecimal digits, with colons between them or without, as openssl and browsers show them.
    fn from_str(text: &str) -> Result<Fingerprint, FramesError> {
        let refused = || FramesError::Fingerprint(text.to_owned());
        let digits = text
            .rsplit('=')
            .next()
            .unwrap_or_default()
            .replace([':', ' '], "");
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(refused());
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte =
                u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| refused())?;
        }
        Ok(Fingerprint(bytes))
    }
}

impl CameraOptions {
    /// The usual format; given up after `timeout` without a frame.
    pub fn within(timeout: Duration) -> CameraOptions {
        CameraOptions {
            format: None,
            timeout,
            trust: Trust::default(),
            delivery: Delivery::Newest,
            transport: RtspTransport::default(),
            interval: Duration::ZERO,
        }
    }

    /// The same with trust in other https cameras.
    pub fn with_trust(self, trust: Trust) -> CameraOptions {
        CameraOptions { trust, ..self }
    }

    /// The same with another way for RTSP cameras to send.
    pub fn with_transport(self, transport: RtspTransport) -> CameraOptions {
        CameraOptions { transport, ..self }
    }

    /// The same with another time between two pictures that are looked at.
    pub fn with_interval(self, interval: Duration) -> CameraOptions {
        CameraOptions { interval, ..self }
    }

    /// The same with another format.
    pub fn with_format(self, format: Option<CaptureFormat>) -> CameraOptions {
        CameraOptions { format, ..self }
    }

    /// The same with another choice of frames.
    pub fn with_delivery(self, delivery: Delivery) -> CameraOptions {
        CameraOptions { delivery, ..self }
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
    fn fingerprints_are_read_as_openssl_shows_them() {
        let plain = "0123456789abcdef".repeat(4);
        let fingerprint: Fingerprint = plain.parse().unwrap();
        assert_eq!(fingerprint.to_string(), plain);
        let pairs: Vec<&str> = (0..32)
            .map(|index| &plain[2 * index..2 * index + 2])
            .collect();
        let shown = format!("sha256 Fingerprint={}", pairs.join(":").to_uppercase());
        assert_eq!(shown.parse::<Fingerprint>().unwrap(), fingerprint);
        for text in ["", "01:02", &"g".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
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
}
