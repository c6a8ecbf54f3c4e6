//! What can be wrong with a camera that speaks RTSP.

use std::io;

/// Why a camera that speaks RTSP cannot be used, for now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RtspError {
    /// Nobody answers there.
    #[error("cannot reach the camera ({0})")]
    Unreachable(String),
    /// No name and password were given.
    #[error("the camera asks for a name and a password, and none was given")]
    LoginMissing,
    /// Those that were given are wrong.
    #[error("the camera refuses the name and the password that were given")]
    LoginRefused,
    /// It asks for a login of another kind than digest and basic.
    #[error(
        "the camera asks for a login of a kind that is not supported: allow digest or basic in its settings"
    )]
    LoginKind,
    /// It has no stream of this name.
    #[error("the camera has no stream of this name (404): its manual names the path")]
    NoStream,
    /// It serves no more viewers.
    #[error("the camera serves no more viewers now ({0})")]
    Busy(u16),
    /// It does not send over TCP, or over UDP.
    #[error("the camera does not send this way: choose the other of tcp and udp")]
    Transport,
    /// It numbers the channels within the connection as nobody else does.
    #[error(
        "the camera numbers the channels of its connection in a way that is not supported ({0}): choose udp, or read it through \
         ffmpeg"
    )]
    Channels(String),
    /// Datagrams were asked for, and none came.
    #[error(
        "the camera answers, but its datagrams do not arrive: a firewall may stop them; tcp sends within the connection"
    )]
    NoDatagrams,
    /// Another status of RTSP.
    #[error("the camera answers {0}")]
    Status(u16),
    /// It sends these media alone.
    #[error("the camera sends no video (only {0})")]
    NoVideo(String),
    /// It sends video of this codec.
    #[error("the camera sends {0}, which is not supported: set H.264 in its settings")]
    Codec(String),
    /// H.265 without ffmpeg.
    #[error(
        "the camera sends H.265, which needs ffmpeg, and that is not installed; most cameras have a second, smaller stream in \
         H.264 (Hikvision: .../Channels/102, Dahua: ...&subtype=1, others: .../stream2), or can be set to H.264"
    )]
    H265,
    /// ffmpeg that may not be run, as what a process that has given up other programs does not know from its start.
    #[error(
        "ffmpeg, which decodes the camera's H.265, may not be run here: where it was installed or renewed after this program was \
         started, start this program again"
    )]
    FfmpegRefused,
    /// ffmpeg cannot be started.
    #[error("ffmpeg, which decodes the camera's H.265, failed ({0})")]
    Ffmpeg(io::Error),
    /// Its pictures are too large.
    #[error(
        "the camera's pictures have {width} x {height} pixels, more than the {limit} allowed: choose its smaller stream"
    )]
    TooManyPixels {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// The most pixels.
        limit: u64,
    },
    /// No data came for as long as was allowed.
    #[error("the camera has gone quiet")]
    Quiet,
    /// The stream is over.
    #[error("the camera ended its stream")]
    Ended,
    /// What comes cannot be decoded.
    #[error(
        "the camera sent {bytes} bytes of video without a picture that can be decoded ({reason})"
    )]
    Undecodable {
        /// Bytes of frames since the last picture.
        bytes: u64,
        /// What the decoder says of the last one.
        reason: String,
    },
    /// The connection failed, or what came over it made no sense.
    #[error("the camera broke off ({0})")]
    Broken(String),
    /// This machine gives no more threads or descriptors.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl RtspError {
    /// Whether it may pass by itself; else a setting has to be changed, of the camera or here.
    pub fn may_pass(&self) -> bool {
        match self {
            RtspError::Unreachable(_)
            | RtspError::Busy(_)
            | RtspError::Status(_)
            | RtspError::Quiet
            | RtspError::Ended
            | RtspError::Undecodable { .. }
            | RtspError::Broken(_)
            | RtspError::System(_) => true,
            RtspError::LoginMissing
            | RtspError::LoginRefused
            | RtspError::LoginKind
            | RtspError::NoStream
            | RtspError::Transport
            | RtspError::Channels(_)
            | RtspError::NoDatagrams
            | RtspError::NoVideo(_)
            | RtspError::Codec(_)
            | RtspError::H265
            | RtspError::FfmpegRefused
            | RtspError::Ffmpeg(_)
            | RtspError::TooManyPixels { .. } => false,
        }
    }

    /// What `error` of the client's comes to; a login was `given` or not.
    pub(super) fn of(error: &retina::Error, given: bool) -> RtspError {
        let said = error.to_string();
        if let Some(channels) = channels(&said) {
            return RtspError::Channels(channels);
        }
        match error.status_code() {
            Some(401) if said.contains("Can't understand WWW-Authenticate") => RtspError::LoginKind,
            Some(401 | 403) if given => RtspError::LoginRefused,
            Some(401 | 403) => RtspError::LoginMissing,
            Some(404 | 454) => RtspError::NoStream,
            Some(status @ (453 | 503)) => RtspError::Busy(status),
            Some(461) => RtspError::Transport,
            // An answer that means well and cannot be read has a status of success.
            Some(status) if !(200..300).contains(&status) => RtspError::Status(status),
            _ if said.starts_with(UNREACHABLE) => RtspError::Unreachable(first_line(&said)),
            _ => RtspError::Broken(first_line(&said)),
        }
    }
}

/// The channels that the client refuses, for it takes an even one and the next, as the standard has it.
fn channels(said: &str) -> Option<String> {
    const REFUSED: [&str; 2] = [
        "Expected adjacent channels; got ",
        "Can't assign odd channel id ",
    ];
    let (_, named) = REFUSED.iter().find_map(|words| said.split_once(words))?;
    let number = |c: char| c.is_ascii_digit() || c == '-';
    let named: String = named.chars().take_while(|c| number(*c)).collect();
    (!named.is_empty()).then_some(named)
}

const UNREACHABLE: &str = "Unable to connect to RTSP server: ";

/// What the client says of an error, without the connection and the packet. An address in it is shown without secrets.
fn first_line(said: &str) -> String {
    let line = said.lines().next().unwrap_or_default();
    let line = line.trim_start_matches(UNREACHABLE);
    let words = line.trim_end_matches(':').trim().split(' ');
    let shown = words.map(|word| match word.contains("://") {
        true => crate::masked::masked(word),
        false => word.to_owned(),
    });
    let shown: String = shown.collect::<Vec<_>>().join(" ");
    // A camera may have sent what is repeated here.
    shown
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_s_error_is_one_short_line_without_secrets() {
        let said = "bad control rtsp://admin:s3cret@cam/user=admin_password=s3cret_x=1 in SDP:\n\nconn: 127.0.0.1";
        let line = first_line(said);
        assert!(
            !line.contains("s3cret") && line.starts_with("bad control rtsp://"),
            "{line}"
        );
        assert_eq!(
            first_line("Unable to connect to RTSP server: refused (os error 111)"),
            "refused (os error 111)"
        );
        assert_eq!(first_line(&"\x1b[2Jx".repeat(100)).len(), 200);
    }
}
