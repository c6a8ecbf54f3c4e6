//! Why pictures cannot be had from where they should come from.

use super::camera_file::CameraFileError;
use super::content::Content;
use super::options::Fingerprint;
use crate::masked::{ShownUrl, masked};
use std::io;
use std::path::{Path, PathBuf};

/// Why a camera cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramesError {
    /// The name of a camera that has no meaning.
    #[error(
        "\"{}\" is not a camera; use a number, a device such as /dev/video0, dir:PATH, file:PATH, rtsp://HOST/PATH, http://HOST/PATH, - or demo[:CONDITION]",
        masked(.0)
    )]
    UnknownSource(String),
    /// Not the address of a camera.
    #[error("{address:?} is not the address of a camera: {reason}")]
    Address {
        /// The address as it was given; a password in it is not shown.
        address: ShownUrl,
        /// Why it is none.
        reason: String,
    },
    /// Not a size and a rate.
    #[error(
        "\"{0}\" is not a capture format; write width, height and pictures a second, as in 640x480@30"
    )]
    Format(String),
    /// Not a way to send.
    #[error("\"{0}\" is neither tcp nor udp")]
    Transport(String),
    /// Not a fingerprint of a certificate.
    #[error(
        "\"{0}\" is not a certificate's fingerprint; write the 64 hexadecimal digits of its SHA-256"
    )]
    Fingerprint(String),
    /// Not a demo condition.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// This program was built without what reads the camera named.
    #[error("camera {0} cannot be read: this program was built without the feature `camera`")]
    NotBuilt(String),
    /// This program was built without what reads RTSP.
    #[error("camera {0} cannot be read: this program was built without the feature `rtsp`")]
    NotBuiltRtsp(String),
    /// A device that is not a camera.
    #[error("{} is neither a /dev/videoN nor a link to one", path.display())]
    NotVideo {
        /// The device as it was given.
        path: PathBuf,
    },
    /// A folder that cannot be watched.
    #[error("{} cannot be watched ({source})", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of motion JPEG that cannot be read.
    #[error("{} cannot be read ({source})", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file with a camera's login that cannot be used.
    #[error(transparent)]
    Login(#[from] CameraFileError),
    /// A camera of this machine that failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A camera on the network that failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A camera that speaks RTSP and failed.
    #[cfg(feature = "rtsp")]
    #[error(transparent)]
    Rtsp(#[from] super::rtsp::RtspError),
    /// Standard input that failed.
    #[error("standard input cannot be read ({0})")]
    Stdin(io::Error),
    /// Standard input that holds something else.
    #[error("standard input has sent {}", nothing_usable(*bytes, *guess))]
    StdinContent {
        /// Bytes that were looked at.
        bytes: u64,
        /// What it seems to be instead.
        guess: Option<Content>,
        /// Whether nothing more will come.
        ended: bool,
    },
    /// A file that holds something else than motion JPEG.
    #[error("{} holds {}", path.display(), nothing_usable(*bytes, *guess))]
    FileContent {
        /// The file.
        path: PathBuf,
        /// Bytes that were looked at.
        bytes: u64,
        /// What it seems to be instead.
        guess: Option<Content>,
        /// Whether nothing more will come.
        ended: bool,
    },
    /// A panic inside a driver's library.
    #[error("the camera's driver made a mistake")]
    Driver,
    /// No picture has come within the time that was allowed.
    #[error(
        "no picture came for {seconds} s{}",
        cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default()
    )]
    GaveUp {
        /// How long nothing came.
        seconds: f32,
        /// What went wrong last, if anything is known to have.
        cause: Option<Box<FramesError>>,
    },
    /// A camera that is open and sends nothing.
    #[error("no frame for {seconds} s")]
    Stalled {
        /// How long nothing came.
        seconds: f32,
    },
    /// What was told of pictures that were of no use, or of a folder that is away.
    #[error("{0}")]
    Trouble(String),
}

impl FramesError {
    /// The same of a file, where it was said of standard input.
    pub(super) fn in_file(self, path: &Path) -> FramesError {
        let path = path.to_owned();
        match self {
            FramesError::Stdin(source) => FramesError::File { path, source },
            FramesError::StdinContent {
                bytes,
                guess,
                ended,
            } => FramesError::FileContent {
                path,
                bytes,
                guess,
                ended,
            },
            other => other,
        }
    }

    /// Whether a camera refused a name and a password.
    pub(super) fn is_refused_login(&self) -> bool {
        match self {
            FramesError::Http(HttpError::LoginRefused) => true,
            #[cfg(feature = "rtsp")]
            FramesError::Rtsp(super::rtsp::RtspError::LoginRefused) => true,
            _ => false,
        }
    }
}

/// Why a camera of this machine cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device cannot be opened.
    #[error(
        "/dev/video{index} cannot be opened ({reason}): is it plugged in, free, and may this account read it (group video)?"
    )]
    Open {
        /// N of `/dev/videoN`.
        index: String,
        /// What the driver says.
        reason: String,
    },
    /// It offers only these formats, none of which is supported.
    #[error("the camera offers neither MJPEG nor YUYV pictures ({0})")]
    Offers(String),
    /// It sends this format whatever it was asked for.
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
    /// No connection can be made.
    #[error("cannot reach {host}:{port} ({source})")]
    Unreachable {
        /// The host of the address.
        host: String,
        /// The port of the address.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// No data came for as long as was allowed.
    #[error("the camera has gone quiet")]
    Quiet,
    /// The connection ended within a picture.
    #[error("the camera broke off in the middle of a picture")]
    CutOff,
    /// The connection failed.
    #[error("the connection to the camera failed ({0})")]
    Connection(io::Error),
    /// It closes the connection without a word.
    #[error("the camera closed the connection and answered nothing")]
    NoAnswer,
    /// What answers is not an HTTP server; this is what it sent.
    #[error("the camera does not answer in HTTP ({0})")]
    NotHttp(String),
    /// No name and password were given.
    #[error("the camera asks for a name and a password, and none was given")]
    LoginMissing,
    /// It leads to this host, which asks for them: those that were given stay with the camera that they were given for.
    #[error(
        "the camera redirects to {0}, which asks for a name and a password; those that were given are not sent there: give that address and its login"
    )]
    LoginElsewhere(String),
    /// Those that were given are wrong.
    #[error("the camera refuses the name and the password that were given")]
    LoginRefused,
    /// Only logins of these kinds are offered.
    #[error(
        "the camera asks for a login of a kind that is not supported ({0}): allow digest or basic in its settings"
    )]
    LoginKind(String),
    /// The answer is an error.
    #[error("the camera answers {}", format!("{status} {reason}").trim_end())]
    Status {
        /// The HTTP status.
        status: u16,
        /// Its words, as the camera has them.
        reason: String,
    },
    /// The camera redirects to what is not an address.
    #[error("the camera redirects to {place:?} ({source})")]
    BadRedirect {
        /// Where to, as the camera has it.
        place: ShownUrl,
        /// Why it is none.
        source: url::ParseError,
    },
    /// The camera redirects to a scheme that is not supported.
    #[error("the camera redirects to {0}, and only http and https are supported")]
    RedirectScheme(String),
    /// The camera redirects to this host.
    #[error(
        "the camera redirects to {0}, an address of this machine, of its own link or of a cloud's metadata, where no redirect is followed"
    )]
    RedirectPlace(String),
    /// The camera redirects again and again.
    #[error("the camera redirects from one address to another without end")]
    RedirectLoop,
    /// The body is compressed, which nobody asked for.
    #[error(
        "the camera compresses what it sends ({0}), which is of no use for pictures: turn that off in its settings or in those of the server before it"
    )]
    Compressed(String),
    /// The answer has no body.
    #[error("the camera sent nothing")]
    Nothing,
    /// The body is not made of JPEG pictures.
    #[error("the camera sent {}", nothing_usable(*bytes, *guess))]
    NoPicture {
        /// Bytes that were looked at.
        bytes: u64,
        /// What they seem to be instead.
        guess: Option<Content>,
    },
    /// No encrypted connection can be made.
    #[error("the camera speaks no TLS that is safe, 1.2 or 1.3 ({0})")]
    Tls(String),
    /// No authority vouches for it, or it is for another name or time.
    #[error(
        "the camera's certificate is not vouched for ({reason}); if the camera signs its own, it is known by its fingerprint {fingerprint}"
    )]
    Certificate {
        /// What TLS says of it.
        reason: String,
        /// Its own.
        fingerprint: Fingerprint,
    },
    /// It is not the one that is trusted.
    #[error("the camera shows a certificate with the fingerprint {fingerprint}, not {pinned}")]
    OtherCertificate {
        /// The one that is trusted.
        pinned: Fingerprint,
        /// The one that it shows.
        fingerprint: Fingerprint,
    },
    /// This program was built without https.
    #[error("this program was built without the feature `https`")]
    NotBuilt,
    /// The stream is over.
    #[error("the camera ended its stream")]
    Ended,
}

/// What is said of bytes of which none is a picture.
fn nothing_usable(bytes: u64, guess: Option<Content>) -> String {
    let amount = match bytes {
        0..2000 => format!("{bytes} bytes"),
        2000..2_000_000 => format!("{} KB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    };
    let guess = guess.map(|guess| format!("; {guess}")).unwrap_or_default();
    format!("{amount} without a JPEG picture among them{guess}")
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
