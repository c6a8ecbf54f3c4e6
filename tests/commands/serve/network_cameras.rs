//! Cameras on the network: their logins, one that hangs, and the one program that is run for them.

use super::*;
use crate::support::rtsp as camera;

#[test]
fn a_login_that_stands_in_a_file_is_checked_used_and_out_of_reach_of_the_api() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Directory::new();
    let guarded = camera::Camera::like(camera::Behaviour {
        login: Some(("admin", "s3cr3tword")),
        ..camera::Behaviour::good()
    });
    let config = format!(
        "[[camera]]\nname = \"door\"\nsource = \"{}\"\nrtsp_transport = \"udp\"\nlogin_file = \"door.conf\"\n",
        guarded.url("")
    );
    dir.write("edge-rlp.toml", &config);
    let check = |says: &str| {
        let place = format!("edge-rlp.toml, line 5, column 14: door.conf {says}");
        dir.fails("serve --check --config edge-rlp.toml", 2, &place);
    };
    check("cannot be read");
    dir.write(
        "door.conf",
        "EDGE_RLP_CAMERA_USER=admin\nEDGE_RLP_CAMERA_PASSWORD=s3cr3tword\n",
    );
    let file = dir.path().join("door.conf");
    let close = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    close(0o644);
    check("may hold a password ... chmod 640");
    close(0o600);
    dir.ok("serve --check --config edge-rlp.toml");
    let served = Served::start(&dir, &config);
    served.until("/api/v1/cameras/door", is_live);
    assert!(
        guarded
            .requests()
            .iter()
            .any(|request| request.contains("RTP/AVP") && !request.contains("RTP/AVP/TCP")),
        "it was not asked for datagrams"
    );
    // Whoever changes something else keeps it; nobody makes the box read a file of their choice.
    let change = |value: Value| served.send("PUT", "/api/v1/cameras/door", &value);
    let kept = change(json!({ "source": guarded.url(""), "every": "1s" }));
    assert_eq!(kept.status, 200, "{kept:?}");
    let text = || std::fs::read_to_string(dir.path().join("edge-rlp.toml")).unwrap();
    assert!(text().contains("login_file = \"door.conf\""), "{}", text());
    let refused = change(json!({ "source": guarded.url(""), "login_file": "/etc/passwd" }));
    assert!(refused.detail().contains("names a file of the box"));
    assert_eq!(change(json!({ "source": "demo" })).status, 200);
    assert!(!text().contains("login_file"), "{}", text());
    assert!(!served.said().contains("s3cr3t"));
}

#[test]
fn a_camera_that_hangs_says_so_is_opened_again_and_the_others_go_on() {
    let dir = Directory::new();
    let hangs = camera::Camera::new(|connection| match connection {
        0 => camera::Behaviour::then(5, camera::Then::Silence),
        _ => camera::Behaviour::good(),
    });
    let config = format!(
        "{TWO}\n[[camera]]\nname = \"hangs\"\nsource = \"{}\"\ntimeout = \"2s\"\nfrozen_after = \"0s\"\n",
        hangs.url("")
    );
    let served = Served::start(&dir, &config);
    let hung = served.until("/api/v1/cameras/hangs", |camera| {
        camera["error"].is_string()
    });
    assert!(
        ["stalled", "failed"].contains(&hung["state"].as_str().unwrap()),
        "{hung}"
    );
    let looked_at = || served.get("/api/v1/cameras/one").json()["looked_at"].as_u64();
    let before = looked_at();
    served.until("/api/v1/cameras/one", |one| {
        is_live(one) && one["looked_at"].as_u64() > before
    });
    let again = served.until("/api/v1/cameras/hangs", is_live);
    assert!(again["error"].is_null(), "{again}");
}

/// `serve` could start no ffmpeg: it gives up running programs before it reads pictures.
#[cfg(target_os = "linux")]
#[test]
fn ffmpeg_can_be_started_for_h265_and_nothing_else() {
    let dir = Directory::new();
    let ffmpeg = dir.path().join("tools/ffmpeg");
    std::fs::create_dir(ffmpeg.parent().unwrap()).unwrap();
    let picture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/picture/rgb444.jpg"
    );
    // It tells whether it could write elsewhere or start a program, and then shows one picture again and again.
    let source = format!(
        "use std::io::{{Read, Write}};
        fn main() {{
            let ran = std::process::Command::new(\"/bin/sh\").args([\"-c\", \"true\"]).status().is_ok();
            let wrote = std::fs::write(\"elsewhere/x\", \"x\").is_ok();
            std::fs::write(\"home/told\", format!(\"ran {{ran}} wrote {{wrote}}\")).unwrap();
            std::io::stdin().read(&mut [0; 9]).unwrap();
            while std::io::stdout().write_all(include_bytes!({picture:?})).is_ok() {{
                std::thread::sleep(std::time::Duration::from_millis(20));
            }}
        }}"
    );
    dir.write("ffmpeg.rs", &source);
    for folder in [dir.path().join("elsewhere"), dir.home()] {
        std::fs::create_dir(folder).unwrap();
    }
    let compiled = std::process::Command::new("rustc")
        .args(["--edition", "2021", "-o"])
        .args([&ffmpeg, &dir.path().join("ffmpeg.rs")])
        .status();
    assert!(compiled.is_ok_and(|status| status.success()));
    let sends = camera::Camera::like(camera::Behaviour {
        media: "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=fmtp:96 sprop-vps=QAEMAf//AWAAAAMAkAAAAwAAAwA/LAwAAgAAAwAoAAIAAgACgA==;sprop-sps=QgEBAWAAAAMAkAAAAwAAAwA/oAUCAXFlLkkyS7I=;sprop-pps=RAHA8vAzJA==\r\na=control:trackID=0\r\n".into(),
        // A key frame's head, and nothing that only a decoder would look at.
        ..camera::Behaviour::then(
            0,
            camera::Then::Payloads(vec![[&[0x26, 0x01, 0xaf][..], &[7; 40]].concat()]),
        )
    });
    let config = format!(
        "[[camera]]\nname = \"h265\"\nsource = \"{}\"\n",
        sends.url("")
    );
    std::fs::create_dir(dir.path().join("box")).unwrap();
    dir.write("box/edge-rlp.toml", &config);
    let path = std::env::join_paths([ffmpeg.parent().unwrap(), "/usr/bin".as_ref()]).unwrap();
    let serving = dir
        .command("serve --config box/edge-rlp.toml --listen 127.0.0.1:0")
        .env("PATH", path);
    let served = Served::started(serving);
    served.until("/api/v1/cameras/h265", is_live);
    let told = std::fs::read_to_string(dir.home().join("told")).unwrap();
    println!("the stand-in: {told}");
    // Where the kernel has no Landlock, neither is held to.
    assert!(["ran false wrote false", "ran true wrote true"].contains(&told.as_str()));
}
