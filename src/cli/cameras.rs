//! `edge-rlp cameras`: what `--camera` can name on this machine.

use super::{Context, Exit};

#[cfg(feature = "camera")]
pub fn run(context: &Context) -> anyhow::Result<Exit> {
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
            "no camera found: plug one in, or use --camera - (a pipe), http://HOST/PATH, dir:PATH or demo. A camera of a \
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
pub fn run(_: &Context) -> anyhow::Result<Exit> {
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
