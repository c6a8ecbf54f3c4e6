//! Why pictures cannot be had from where they should come from.

use crate::masked::{ShownUrl, masked};
use std::io;
use std::path::PathBuf;

/// Why a camera cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramesError {
    /// The name of a camera that has no meaning.
    #[error(
        "\"{}\" is not a camera; use a number, a device such as /dev/video0, dir:PATH, http://HOST/PATH, - or demo[:CONDITION]",
        masked(.0)
    )]
    UnknownSource(String),
    /// Not the address of a camera.
    #[error("{address:?} is not the address of a camera: {reason}")]
    Address { address: ShownUrl, reason: String },
    /// Not a size and a rate.
    #[error(
        "\"{0}\" is not a capture format; write width, height and pictures a second, as in 640x480@30"
    )]
    Format(String),
    /// Not a demo condition.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// This program was built without what reads the camera named.
    #[error("camera {0} cannot be read: this program was built without the feature `camera`")]
    NotBuilt(String),
    /// A device that is not a camera.
    #[error("{} is neither a /dev/videoN nor a link to one", path.display())]
    NotVideo { path: PathBuf },
    /// A folder that cannot be watched.
    #[error("{} cannot be watched ({source})", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// A camera of this machine that failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A camera on the network that failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Standard input that failed.
    #[error("standard input cannot be read ({0})")]
    Stdin(io::Error),
    /// A panic inside a driver's library.
    #[error("the camera's driver made a mistake")]
    Driver,
    /// No picture has come within the time that was allowed.
    #[error(
        "no picture came for {seconds} s{}",
        reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    )]
    GaveUp {
        seconds: f32,
        /// What went wrong last, if anything is known to have.
        reason: Option<String>,
    },
}

/// Why a camera of this machine cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    #[error(
        "/dev/video{index} cannot be opened ({reason}): is it plugged in, free, and may this account read it (group video)?"
    )]
    Open { index: String, reason: String },
    #[error("the camera offers neither MJPEG nor YUYV pictures ({0})")]
    Offers(String),
    #[error("the camera sends {0} pictures; only MJPEG and YUYV are supported")]
    Sends(String),
    /// What the driver says.
    #[error("{0}")]
    Failed(String),
}

/// Why a camera on the network cannot be used, for now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    #[error("cannot reach {host}:{port} ({source})")]
    Unreachable {
        host: String,
        port: u16,
        source: io::Error,
    },
    /// No data came for as long as was allowed.
    #[error("the camera has gone quiet")]
    Quiet,
    #[error("the camera broke off in the middle of a picture")]
    CutOff,
    #[error("the connection to the camera failed ({0})")]
    Connection(io::Error),
    #[error("the camera does not answer in HTTP ({0})")]
    NotHttp(String),
    #[error("the camera asks for another name and password: http://USER:PASSWORD@HOST/PATH")]
    Login,
    #[error(
        "the camera asks for a digest login, which is not supported: allow basic login in its settings"
    )]
    DigestLogin,
    #[error("the camera answers {}", format!("{status} {reason}").trim_end())]
    Status { status: u16, reason: String },
    #[error("the camera redirects to {place:?} ({source})")]
    BadRedirect {
        place: String,
        source: url::ParseError,
    },
    #[error("the camera redirects to {0}, and only http is supported")]
    RedirectScheme(String),
    #[error("the camera redirects from one address to another without end")]
    RedirectLoop,
    #[error("the camera sent nothing")]
    Nothing,
    #[error("the camera sent {bytes} bytes without a JPEG picture among them")]
    NoPicture { bytes: u64 },
    #[error("the camera ended its stream")]
    Ended,
}

impl From<io::Error> for HttpError {
    /// What goes wrong with a connection once there is one.
    fn from(error: io::Error) -> HttpError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HttpError::Quiet,
            io::ErrorKind::UnexpectedEof => HttpError::CutOff,
            _ => HttpError::Connection(error),
        }
    }
}

/// Why a demo scene cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// No such condition.
    #[error("there is no demo condition \"{name}\"; choose one of: {known}")]
    UnknownCondition {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}
