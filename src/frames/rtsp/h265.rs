//! H.265 to pictures, by ffmpeg where it is installed: frames go into its standard input, so that it sees neither the
//! camera's address nor its password, and motion JPEG comes out.

use super::RtspError;
use crate::frames::frame::RawFrame;
use crate::frames::live::Sink;
use crate::frames::mjpeg::Splitter;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Scope;

/// Frames that wait for ffmpeg: about a second. With more, all are left out up to the next key frame, for what refers to a frame that
/// is missing would be smeared.
const WAITING: usize = 25;
/// How the names of this program's variables begin: some hold passwords, and an address with one.
const OWN: &str = "EDGE_RLP_";

/// Whether H.265 can be decoded here.
pub fn ffmpeg_is_installed() -> bool {
    let mut version = ffmpeg();
    let version = version.arg("-version").stdin(Stdio::null());
    let asked = version.stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// What starts ffmpeg, which is told nothing that was told to this program.
fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(OWN) {
            command.env_remove(name);
        }
    }
    command
}

/// A running ffmpeg. It ends with this.
pub struct Transcoder<'a> {
    child: Child,
    frames: Option<SyncSender<Vec<u8>>>,
    scope: PhantomData<&'a ()>,
}

impl<'a> Transcoder<'a> {
    /// Starts ffmpeg, whose pictures `sink` gets.
    ///
    /// # Errors
    /// If it is not installed, or cannot be started.
    pub fn start<'env>(
        scope: &'a Scope<'a, 'env>,
        sink: &'env Sink,
    ) -> Result<Transcoder<'a>, RtspError> {
        let mut child = ffmpeg()
            // What the first frame says is enough; more is waited for by ffmpeg as long as it takes.
            .args(["-loglevel", "quiet", "-probesize", "32"])
            .args(["-fflags", "nobuffer", "-f", "hevc", "-i", "pipe:0"])
            .args(["-f", "mjpeg", "-q:v", "3", "-flush_packets", "1", "pipe:1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => RtspError::H265,
                io::ErrorKind::PermissionDenied => RtspError::FfmpegRefused,
                _ => RtspError::Ffmpeg(error),
            })?;
        let (frames, waiting) = sync_channel::<Vec<u8>>(WAITING);
        if let Some(mut input) = child.stdin.take() {
            scope.spawn(move || {
                while let Ok(frame) = waiting.recv() {
                    if input.write_all(&frame).is_err() {
                        break;
                    }
                }
            });
        }
        if let Some(output) = child.stdout.take() {
            scope.spawn(move || pictures(output, sink));
        }
        Ok(Transcoder {
            child,
            frames: Some(frames),
            scope: PhantomData,
        })
    }

    /// Takes in a frame. False for one that ffmpeg is too slow for, which is dropped: those that refer to it are of no use either.
    ///
    /// # Errors
    /// If ffmpeg has ended, and how.
    pub fn take(&mut self, frame: Vec<u8>) -> Result<bool, String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("ffmpeg ended, {status}"));
        }
        let sent = |frames: &SyncSender<Vec<u8>>| frames.try_send(frame).is_ok();
        Ok(self.frames.as_ref().is_some_and(sent))
    }
}

impl Drop for Transcoder<'_> {
    fn drop(&mut self) {
        self.frames = None;
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pictures(mut output: impl Read, sink: &Sink) {
    let mut splitter = Splitter::default();
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = output.read(&mut bytes) {
        for picture in splitter.push(&bytes[..count]) {
            sink.put(RawFrame::Jpeg(picture));
        }
    }
}
