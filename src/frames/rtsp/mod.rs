//! Cameras that speak RTSP, over TCP or UDP, with digest or basic logins. H.264 is decoded here and motion JPEG is taken as
//! it comes; H.265 goes through ffmpeg where that is installed.

mod choice;
mod error;
mod h264;
mod h265;
mod turns;

pub use error::RtspError;
pub use h265::ffmpeg_is_installed;

use super::frame::RawFrame;
use super::live::Sink;
use super::{CameraUrl, FramesError, MAX_CAMERA_PIXELS, RtspTransport};
use choice::Choice;
use futures_util::StreamExt as _;
use h264::Decoder;
use h265::Transcoder;
use retina::client::{
    Credentials, Demuxed, Described, InitialTimestampPolicy, PlayOptions, Session, SessionGroup,
    SessionOptions, SetupOptions, Stream, Transport,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a capture that waits looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);
/// How long a camera may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// Packets in a row that cannot be used before the stream has failed.
const MAX_BROKEN: usize = 50;
/// How long a rate is measured, and over how many pictures.
const MEASURE: Duration = Duration::from_secs(4);
const MEASURED: usize = 31;

/// How a stream is asked for, and how long it is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// How packets are sent.
    pub transport: RtspTransport,
    /// A camera without data for so long has failed.
    pub quiet: Duration,
    /// Pictures are looked at no more often than this, so that key frames will do where they come as often.
    pub interval: Duration,
}

/// What a camera sends.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct RtspStream {
    /// `video`, `audio` or `application`.
    pub media: String,
    /// As in `h264`.
    pub codec: String,
    /// In pixels, of video.
    pub width: Option<u32>,
    /// In pixels, of video.
    pub height: Option<u32>,
    /// Pictures a second: measured where the camera does not say.
    pub rate: Option<f32>,
    /// Whether it is the one that is read.
    pub used: bool,
}

/// Captures from `camera` until the sink wants no more.
///
/// # Errors
/// Where the camera cannot be reached, refuses, or breaks off.
pub fn capture(camera: &CameraUrl, request: Request, sink: &Sink) -> Result<(), FramesError> {
    let group = Arc::new(SessionGroup::default());
    let wanted = || sink.wanted();
    let asking = Asking {
        camera,
        request,
        wanted: &wanted,
    };
    // The threads around ffmpeg end with the capture.
    std::thread::scope(|scope| {
        run(&group, async {
            let session = asking.describe(&group).await?;
            let index = used(session.streams())?;
            let codec = session.streams()[index].encoding_name().to_owned();
            let mut pictures = match codec.as_str() {
                "jpeg" => Pictures::Jpeg,
                "h265" => Pictures::Transcoded(Transcoder::start(scope, sink)?),
                _ => Pictures::Decoded(Decoder::new()),
            };
            let stream = asking.play(session, index).await?;
            frames(stream, request, sink, &mut pictures).await
        })
    })?;
    Ok(())
}

/// What `camera` sends, as long as that is `wanted`.
///
/// # Errors
/// Where the camera cannot be reached or refuses.
pub fn streams(
    camera: &CameraUrl,
    request: Request,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<RtspStream>, FramesError> {
    let group = Arc::new(SessionGroup::default());
    let asking = Asking {
        camera,
        request,
        wanted,
    };
    let found = run(&group, async {
        let session = asking.describe(&group).await?;
        let chosen = used(session.streams()).ok();
        let described = session.streams().iter().enumerate();
        let mut found: Vec<RtspStream> = described
            .map(|(index, stream)| described_stream(stream, chosen == Some(index)))
            .collect();
        if let Some(index) = chosen {
            let stream = asking.play(session, index).await?;
            let (rate, size) = measured(stream, request, wanted).await?;
            found[index].rate = found[index].rate.or(rate);
            if let Some((width, height)) = size {
                (found[index].width, found[index].height) = (Some(width), Some(height));
            }
        }
        Ok(found)
    })?;
    Ok(found)
}

/// Runs `work` to its end, and lets the camera know of it: cameras allow few sessions.
fn run<T>(
    group: &SessionGroup,
    work: impl Future<Output = Result<T, RtspError>>,
) -> Result<T, RtspError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    runtime.block_on(async {
        // A camera that does not answer has ended it for its part.
        let _ = tokio::time::timeout(GOODBYE, group.await_teardown()).await;
    });
    runtime.shutdown_timeout(Duration::ZERO);
    done
}

/// A camera that is being asked for its stream.
struct Asking<'a> {
    camera: &'a CameraUrl,
    request: Request,
    /// Whether anybody still waits for the answers.
    wanted: &'a dyn Fn() -> bool,
}

impl Asking<'_> {
    /// What the camera answers within the time that it has.
    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, retina::Error>>,
    ) -> Result<T, RtspError> {
        let asked = Instant::now();
        let mut answer = pin!(answer);
        while (self.wanted)() && asked.elapsed() < self.request.quiet {
            if let Ok(answer) = tokio::time::timeout(LOOK, &mut answer).await {
                return answer
                    .map_err(|error| RtspError::of(&error, self.camera.login().is_some()));
            }
        }
        Err(RtspError::Quiet)
    }

    async fn describe(&self, group: &Arc<SessionGroup>) -> Result<Session<Described>, RtspError> {
        let credentials = self.camera.login().map(|login| Credentials {
            username: login.user,
            password: login.password,
        });
        let options = SessionOptions::default()
            .creds(credentials)
            .session_group(Arc::clone(group))
            .user_agent("edge-rlp".into());
        self.answer(Session::describe(self.camera.without_login(), options))
            .await
    }

    async fn play(
        &self,
        mut session: Session<Described>,
        index: usize,
    ) -> Result<Demuxed, RtspError> {
        let transport = match self.request.transport {
            RtspTransport::Tcp => Transport::Tcp(Default::default()),
            RtspTransport::Udp => Transport::Udp(Default::default()),
        };
        let setup = SetupOptions::default()
            .transport(transport)
            .frame_format(FrameFormat::SIMPLE);
        self.answer(session.setup(index, setup)).await?;
        // Many cameras leave out what the standard wants said of timestamps.
        let options = PlayOptions::default().initial_timestamp(InitialTimestampPolicy::Permissive);
        let playing = self.answer(session.play(options)).await?;
        let demuxed = playing.demuxed();
        demuxed.map_err(|error| RtspError::of(&error, true))
    }
}

/// The stream that is read: the first one whose codec is known, H.265 last.
fn used(streams: &[Stream]) -> Result<usize, RtspError> {
    for codec in ["h264", "jpeg", "h265"] {
        let found = streams
            .iter()
            .position(|stream| stream.encoding_name() == codec);
        if let Some(index) = found {
            return Ok(index);
        }
    }
    let video = streams.iter().find(|stream| stream.media() == "video");
    Err(match video {
        Some(stream) => RtspError::Codec(stream.encoding_name().to_uppercase()),
        None => {
            let media: Vec<&str> = streams.iter().map(Stream::media).collect();
            RtspError::NoVideo(media.join(", "))
        }
    })
}

/// How the pictures of a stream are had from its frames.
enum Pictures<'a> {
    Decoded(Decoder),
    Jpeg,
    Transcoded(Transcoder<'a>),
}

impl Pictures<'_> {
    /// Takes in a frame. The sink gets the picture, if there is one already and it is wanted. False where it was left out for want of
    /// time.
    fn take(&mut self, frame: VideoFrame, sink: &Sink) -> Result<bool, String> {
        let picture = match self {
            Pictures::Decoded(decoder) => decoder.decode(frame.data())?,
            Pictures::Jpeg => Some(RawFrame::Jpeg(frame.into_data())),
            Pictures::Transcoded(transcoder) => return transcoder.take(frame.into_data()),
        };
        if let Some(picture) = picture {
            sink.put(picture);
        }
        Ok(true)
    }
}

/// Hands over the pictures of `stream` as long as they are wanted.
async fn frames(
    mut stream: Demuxed,
    request: Request,
    sink: &Sink,
    pictures: &mut Pictures<'_>,
) -> Result<(), RtspError> {
    let mut choice = Choice::new(request.interval);
    let (mut heard, mut decoded) = (Instant::now(), Instant::now());
    let (mut broken, mut last_error) = (0, None);
    let (mut bytes, mut reason) = (0, String::new());
    let mut silence = match request.transport {
        RtspTransport::Tcp => RtspError::Quiet,
        RtspTransport::Udp => RtspError::NoDatagrams,
    };
    while sink.wanted() {
        if decoded.elapsed() >= request.quiet && bytes > 0 {
            return Err(RtspError::Undecodable { bytes, reason });
        }
        let item = match tokio::time::timeout(LOOK, stream.next()).await {
            Err(_) if heard.elapsed() >= request.quiet => return Err(silence),
            Err(_) => continue,
            Ok(None) => {
                let broken = last_error.map(|error| RtspError::of(&error, true));
                return Err(broken.unwrap_or(RtspError::Ended));
            }
            Ok(Some(item)) => item,
        };
        let frame = match item {
            Ok(CodecItem::VideoFrame(frame)) => frame,
            // Reports go on where a camera's encoder hangs.
            Ok(_) if heard.elapsed() >= request.quiet => return Err(silence),
            Ok(_) => continue,
            // A lost, reordered or broken packet. What ends the connection is told again, or the stream ends.
            Err(error) => {
                broken += 1;
                if broken >= MAX_BROKEN {
                    return Err(RtspError::of(&error, true));
                }
                last_error = Some(error);
                choice.wait_for_key_frame();
                continue;
            }
        };
        (heard, broken, silence) = (Instant::now(), 0, RtspError::Quiet);
        check_size(&stream)?;
        if !choice.wants(&frame) {
            decoded = Instant::now();
            continue;
        }
        let size = frame.data().len() as u64;
        match pictures.take(frame, sink) {
            Ok(taken) => {
                (decoded, bytes) = (Instant::now(), 0);
                if !taken {
                    choice.wait_for_key_frame();
                }
            }
            Err(error) => {
                bytes += size;
                reason = error;
                choice.wait_for_key_frame();
            }
        }
    }
    Ok(())
}

/// Refuses pictures that would take too much memory, before they are decoded.
fn check_size(stream: &Demuxed) -> Result<(), RtspError> {
    for stream in stream.streams() {
        let Some(ParametersRef::Video(video)) = stream.parameters() else {
            continue;
        };
        let (width, height) = video.coded_pixel_dimensions();
        if u64::from(width) * u64::from(height) > MAX_CAMERA_PIXELS {
            let limit = MAX_CAMERA_PIXELS;
            return Err(RtspError::TooManyPixels {
                width,
                height,
                limit,
            });
        }
    }
    Ok(())
}

fn described_stream(stream: &Stream, used: bool) -> RtspStream {
    let video = match stream.parameters() {
        Some(ParametersRef::Video(video)) => Some(video),
        _ => None,
    };
    let size = video.map(|video| video.pixel_dimensions());
    RtspStream {
        media: stream.media().to_owned(),
        codec: stream.encoding_name().to_owned(),
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
        rate: stream.framerate(),
        used,
    }
}

/// Pictures a second of `stream`, and their size where only its frames say it.
async fn measured(
    mut stream: Demuxed,
    request: Request,
    wanted: &dyn Fn() -> bool,
) -> Result<(Option<f32>, Option<(u32, u32)>), RtspError> {
    let started = Instant::now();
    let (mut first, mut last, mut count) = (None, 0.0, 0);
    let longest = MEASURE.min(request.quiet);
    while count < MEASURED && started.elapsed() < longest && wanted() {
        match tokio::time::timeout(LOOK, stream.next()).await {
            Err(_) => {}
            Ok(Some(Ok(CodecItem::VideoFrame(frame)))) => {
                last = frame.timestamp().elapsed_secs();
                first.get_or_insert(last);
                count += 1;
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_)) | None) => break,
        }
    }
    let size = stream
        .streams()
        .iter()
        .find_map(|stream| match stream.parameters() {
            Some(ParametersRef::Video(video)) => Some(video.pixel_dimensions()),
            _ => None,
        });
    let spent = last - first.unwrap_or(last);
    let rate = (count > 1 && spent > 0.0).then(|| (f64::from(count as u32 - 1) / spent) as f32);
    Ok((rate, size))
}

#[cfg(test)]
mod tests;
