//! `--camera rtsp://...` and `cameras rtsp://...`, as a person uses them, against a camera on loopback.
#![cfg(feature = "rtsp")]

use crate::support::rtsp as camera;
use crate::support::{Directory, Invocation};
use camera::{Behaviour, Camera, H264, Then};
use std::time::Duration;

fn with_labels() -> Directory {
    let dir = Directory::new();
    dir.write("labels.txt", "mug\nfish\n");
    dir
}

fn watch(dir: &Directory, words: &str) -> Invocation {
    dir.command("classify --labels labels.txt --every-frame --camera-timeout 3s")
        .words(words)
}

/// One that wants the user admin with the password s3cr3tword.
fn guarded() -> Camera {
    Camera::like(Behaviour {
        login: Some(("admin", "s3cr3tword")),
        ..Behaviour::good()
    })
}

#[test]
fn a_stream_behind_a_login_is_named_and_the_password_kept() {
    let (dir, camera) = (with_labels(), guarded());
    let address = camera.url("admin:s3cr3tword@");
    for transport in ["tcp", "udp"] {
        let words = format!("--json --frames 3 --rtsp-transport {transport} --camera {address}");
        let ran = watch(&dir, &words).ok();
        let shown = camera.url("");
        assert_eq!(ran.lines()[0]["source"].as_str(), Some(&*shown), "{ran}");
        assert!(!format!("{ran}").replace(&address, "").contains("s3cr3t"));
        ran.says("3 frames");
    }
}

#[test]
fn a_login_that_is_refused_or_missing_is_not_answered_with_more_patience() {
    let (dir, camera) = (with_labels(), guarded());
    let words = format!("--camera {}", camera.url("admin:wrongword@"));
    let ran = watch(&dir, &words).fails(1, "refuses the name and the password");
    assert!(!ran.stderr.contains("waits longer"), "{ran}");
    // Some cameras lock an account after five.
    let tries = camera.requests();
    let tries = tries.iter().filter(|request| request.contains("Digest"));
    assert!((2..=4).contains(&tries.count()), "{ran}");

    let ran = watch(&dir, &format!("--camera {}", camera.url("")));
    let ran = ran.fails(1, "none was given ... USER:PASSWORD@ ... --camera-config");
    assert!(!ran.stderr.contains("waits longer"), "{ran}");
    let silent = Camera::like(Behaviour::then(0, Then::Silence));
    let ran = watch(&dir, &format!("--camera {}", silent.url("")));
    ran.fails(1, "no picture came for 3 s ... waits longer");
}

#[test]
fn a_restart_of_the_camera_is_told_and_survived() {
    let dir = with_labels();
    let camera = Camera::new(|connection| match connection {
        // Fewer packets than the frames that are asked for.
        0 => Behaviour::then(7, Then::Close),
        1 => Behaviour {
            refuses: Some(("DESCRIBE", 503)),
            ..Behaviour::good()
        },
        _ => Behaviour::good(),
    });
    let ran = watch(&dir, &format!("--frames 8 --camera {}", camera.url(""))).ok();
    ran.says("8 frames")
        .says("the camera ended its stream; trying again");
    ran.says("serves no more viewers now (503)");
}

#[test]
fn h265_without_ffmpeg_names_the_smaller_stream() {
    let dir = with_labels();
    let camera = Camera::like(Behaviour {
        media: H264
            .replace("H264", "H265")
            .replace("a=fmtp:96 packetization-mode=1\r\n", ""),
        ..Behaviour::good()
    });
    let watching = watch(&dir, &format!("--camera {}", camera.url(""))).env("PATH", "/nowhere");
    let ran = watching.fails(1, "H.265 ... ffmpeg ... not installed ... /Channels/102");
    assert!(!ran.stderr.contains("waits longer"), "{ran}");
}

#[test]
fn cameras_tells_what_a_camera_on_the_network_sends() {
    let dir = with_labels();
    let camera = Camera::like(Behaviour {
        media: format!("m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n{H264}"),
        pause: Duration::from_millis(40),
        ..Behaviour::good()
    });
    let line = format!("cameras {}", camera.url(""));
    let ran = dir.ok(&line);
    ran.prints("audio PCMU\nvideo H264 96x64@25.0  is read");
    let found = dir.ok(&format!("{line} --json")).lines();
    assert_eq!(
        (&found[1]["codec"], &found[1]["width"], &found[1]["used"]),
        (&"h264".into(), &96.into(), &true.into())
    );
    let guarded = guarded();
    let refused = format!("cameras {} --camera-timeout 2s", guarded.url(""));
    dir.fails(&refused, 1, "none was given");
    dir.fails("cameras http://127.0.0.1:9/", 2, "rtsp://");
    dir.fails("cameras rtsp://127.0.0.1:9/", 1, "cannot reach the camera");
    let wrong = "classify --labels labels.txt --camera rtsp://127.0.0.1:9/ --rtsp-transport quic";
    dir.command(wrong).ends(2).says("neither tcp nor udp");
}
