//! `edge-rlp cameras`: what `--camera` can name on this machine.

use super::camera::{Camera, CameraArguments};
use super::{Context, Exit, usage};
use crate::frames::CameraSource;

#[derive(clap::Args)]
pub struct Arguments {
    /// A camera on the network: rtsp://HOST/PATH [default: the cameras of this machine]
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,
    #[command(flatten)]
    reading: CameraArguments,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    match arguments.reading.camera(arguments.address.as_deref())? {
        None => list(context),
        Some(camera) if matches!(camera.source, CameraSource::Rtsp(_)) => streams(&camera, context),
        Some(camera) => Err(usage(format!(
            "{} is not asked what it sends: give an address that begins with rtsp://, or watch it with `edge-rlp classify \
             --camera`",
            camera.source
        ))),
    }
}

/// What a camera on the network sends.
#[cfg(feature = "rtsp")]
fn streams(camera: &Camera, context: &Context) -> anyhow::Result<Exit> {
    use crate::frames::rtsp;
    let CameraSource::Rtsp(url) = &camera.source else {
        return Ok(Exit::Done);
    };
    let request = rtsp::Request {
        transport: camera.options.transport,
        quiet: camera.options.timeout,
        interval: std::time::Duration::ZERO,
    };
    let output = &context.output;
    let found = rtsp::streams(url, request, &|| !context.stopped());
    if context.stopped() {
        anyhow::bail!("stopped");
    }
    let found = found?;
    for stream in &found {
        output.object(stream)?;
        let size = match (stream.width, stream.height) {
            (Some(width), Some(height)) => format!(" {width}x{height}"),
            _ => String::new(),
        };
        let rate = stream
            .rate
            .map(|rate| format!("@{rate:.1}"))
            .unwrap_or_default();
        let about = match (stream.used, stream.codec.as_str()) {
            (true, "h265") if rtsp::ffmpeg_is_installed() => "  is read, through ffmpeg",
            (true, "h265") => "  is read where ffmpeg is installed, which it is not here",
            (true, _) => "  is read",
            (false, _) => "",
        };
        output.line(format!(
            "{} {}{size}{rate}{about}",
            stream.media,
            stream.codec.to_uppercase()
        ));
    }
    if !found.iter().any(|stream| stream.used) {
        output.note(
            "none of these is video that is read: H.264, motion JPEG, or H.265 through ffmpeg",
        );
    }
    Ok(Exit::Done)
}

#[cfg(not(feature = "rtsp"))]
fn streams(camera: &Camera, _: &Context) -> anyhow::Result<Exit> {
    Err(crate::frames::FramesError::NotBuiltRtsp(camera.source.to_string()).into())
}

#[cfg(feature = "camera")]
fn list(context: &Context) -> anyhow::Result<Exit> {
    let output = &context.output;
    let cameras = crate::frames::v4l2::list()?;
    for camera in &cameras {
        output.object(camera)?;
        output.line(format!(
            "{}  {}  {}",
            camera.index, camera.device, camera.name
        ));
        match &camera.problem {
            Some(problem) => output.line(format!("   {problem}")),
            None if camera.formats.is_empty() => output.line("   carries no pictures"),
            None => {
                for line in by_encoding(&camera.formats) {
                    output.line(format!("   {line}"));
                }
            }
        }
    }
    if cameras.is_empty() {
        output.note(
            "no camera found: plug one in, or use --camera rtsp://HOST/PATH, http://HOST/PATH, - (a pipe), dir:PATH or demo. A camera of a \
             Raspberry Pi's or Jetson's own connector comes through a pipe: docs/cameras.md",
        );
    }
    Ok(Exit::Done)
}

/// A line an encoding, with the highest rate of each size: some cameras have hundreds of formats.
#[cfg(feature = "camera")]
fn by_encoding(formats: &[String]) -> Vec<String> {
    // In order of the list, which is by encoding, then size, then rate.
    let mut lines: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
    for format in formats {
        let (encoding, size_and_rate) = format.split_once(' ').unwrap_or((format, ""));
        let (size, rate) = size_and_rate
            .split_once('@')
            .unwrap_or((size_and_rate, "?"));
        if lines.last().is_none_or(|(last, _)| *last != encoding) {
            lines.push((encoding, Vec::new()));
        }
        if let Some((_, sizes)) = lines.last_mut() {
            match sizes.last_mut() {
                Some((last, highest)) if *last == size => *highest = rate,
                _ => sizes.push((size, rate)),
            }
        }
    }
    let line = |(encoding, sizes): (&str, Vec<(&str, &str)>)| {
        let sizes = sizes.iter().map(|(size, rate)| format!("{size}@{rate}"));
        format!("{encoding} {}", sizes.collect::<Vec<_>>().join(" "))
    };
    lines.into_iter().map(line).collect()
}

#[cfg(not(feature = "camera"))]
fn list(_: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!(
        "this program was built without the feature `camera`: build it with that, or use --camera - (a pipe), \
         http://HOST/PATH, dir:PATH or demo"
    )
}

#[cfg(all(test, feature = "camera"))]
mod tests {
    #[test]
    fn hundreds_of_formats_are_a_line_an_encoding() {
        let formats = [
            "MJPEG 640x480@15",
            "MJPEG 640x480@30",
            "MJPEG 1280x720@30",
            "YUYV 640x480@30",
        ];
        assert_eq!(
            super::by_encoding(&formats.map(str::to_owned)),
            ["MJPEG 640x480@30 1280x720@30", "YUYV 640x480@30"]
        );
    }
}
