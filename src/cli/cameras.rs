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
            None => output.line(format!("   {}", camera.formats.join(", "))),
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

#[cfg(not(feature = "camera"))]
pub fn run(_: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!(
        "this program was built without the feature `camera`: build it with that, or use --camera - (a pipe), \
         http://HOST/PATH, dir:PATH or demo"
    )
}
