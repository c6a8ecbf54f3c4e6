//! Names, passwords and tokens of cameras and servers: in no message, JSON, environment of a command or list of processes.

use crate::support::server::{Reply, Server};
use crate::support::{Directory, Ran};
use std::fs;
use std::time::{Duration, Instant};

const SECRET: &str = "s3cr3tword";
const PICTURE: &[u8] = include_bytes!("../fixtures/picture/rgb420.jpg");

fn with_labels() -> Directory {
    let dir = Directory::new();
    dir.write("labels.txt", "mug\nfish\n");
    dir
}

/// A camera of single pictures that wants the user admin with the password [`SECRET`].
fn camera() -> Server {
    Server::new(|request| match request.headers.get("authorization") {
        // "admin:s3cr3tword" in base 64.
        Some(login) if login == "Basic YWRtaW46czNjcjN0d29yZA==" => {
            Reply::ok(PICTURE).with("Content-Type", "image/jpeg")
        }
        _ => Reply::status(401).with("WWW-Authenticate", "Basic realm=\"cam\""),
    })
}

#[track_caller]
fn keeps_it(ran: &Ran) {
    assert!(
        !format!("{}{}", ran.stdout, ran.stderr).contains(SECRET),
        "{ran}"
    );
}

#[test]
fn whatever_is_wrong_with_an_address_its_password_is_not_repeated() {
    let dir = with_labels();
    for address in [
        "https://admin:s3cr3tword@127.0.0.1:1/x",
        "http://admin:s3cr3tword@127.0.0.1:1/x?pwd=s3cr3tword",
        "rtsp://admin:s3cr3tword@127.0.0.1:1/user=admin_password=s3cr3tword_channel=1",
        "gopher://admin:s3cr3tword@127.0.0.1/x",
        "http://admin:s3cr3tword#x@127.0.0.1/x",
        "http://admin:s3cr3tword/x@127.0.0.1:1/x",
        "http://admin:s3cr3tword@127.0.0.1:99999/x",
        "http://admin:s3cr3tword@/x",
        "admin:s3cr3tword@127.0.0.1/x",
    ] {
        for line in [
            "classify --labels labels.txt --camera-timeout 300ms --camera",
            "classify --labels labels.txt --camera-timeout 300ms --json --camera",
            "adapt --unlabelled --labels labels.txt --camera-timeout 300ms --camera",
            "adapt --camera",
            "adapt",
            "classify",
            "classify --labels labels.txt",
            "model pull --connect-timeout 1s --retry-pause 1ms",
            "model pull --json --endpoint http://127.0.0.1:1 --retry-pause 1ms",
            "model",
            "prompt show",
            "--camera",
        ] {
            let ran = dir.command(line).arg(address).run();
            assert_ne!(ran.code, 0, "{ran}");
            keeps_it(&ran);
        }
    }
}

#[test]
fn a_number_sign_in_a_password_is_told_how_to_write_it() {
    let dir = with_labels();
    let ran = dir.fails(
        "classify --labels labels.txt --camera http://admin:s3cr3tword#1@127.0.0.1/x",
        2,
        "write # as %23",
    );
    keeps_it(&ran);
}

#[test]
fn an_address_without_camera_before_it_is_told_so() {
    let dir = with_labels();
    let ran = dir.fails(
        "classify http://admin:s3cr3tword@127.0.0.1/x",
        2,
        "say --camera before it",
    );
    keeps_it(&ran);
}

#[test]
fn the_camera_is_named_without_its_login_in_json_and_to_commands() {
    let (dir, camera) = (with_labels(), camera());
    let address = camera
        .url("/snap?token=s3cr3tword")
        .replace("://", "://admin:s3cr3tword@");
    let ran = dir
        .command("classify --labels labels.txt --json --frames 2 -v --every-frame --exec")
        .arg("env >> told")
        .arg("--camera")
        .arg(address)
        .ok();
    keeps_it(&ran);
    assert!(
        ran.lines()[0]["source"]
            .as_str()
            .unwrap()
            .ends_with("/snap?token=***"),
        "{ran}"
    );
    let told = fs::read_to_string(dir.path().join("told")).unwrap();
    assert!(told.contains("EDGE_RLP_SOURCE=http://127.0.0.1:"), "{told}");
    assert!(!told.contains(SECRET), "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_password_on_the_command_line_leaves_the_list_of_processes() {
    let dir = with_labels();
    let silent = Server::new(|_| Reply::ok(b"").stalled_after(0, Duration::from_secs(20)));
    let address = silent.url("/video").replace("://", "://admin:s3cr3tword@");
    let mut watching = dir
        .command("classify --labels labels.txt --camera")
        .arg(address);
    let mut child = watching.start();
    let list = format!("/proc/{}/cmdline", child.id());
    let started = Instant::now();
    while silent.requests().is_empty() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "it never asked"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let shown = fs::read_to_string(list).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        shown.contains("***@127.0.0.1") && !shown.contains(SECRET),
        "{shown}"
    );
}

#[cfg(unix)]
#[test]
fn a_login_comes_from_a_file_from_systemd_or_from_the_environment() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, camera) = (with_labels(), camera());
    let address = camera.url("/snap");
    let line = "classify --labels labels.txt --frames 1";
    let login = "EDGE_RLP_CAMERA_USER=admin\nEDGE_RLP_CAMERA_PASSWORD=s3cr3tword\n";
    dir.write("camera.conf", &format!("CAMERA={address}\n{login}"));
    let config = dir.path().join("camera.conf");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    dir.fails(
        &format!("{line} --camera-config camera.conf"),
        2,
        "camera.conf ... 644 ... chmod 640",
    );
    fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).unwrap();
    keeps_it(&dir.ok(&format!("{line} --camera-config camera.conf")));
    keeps_it(
        &dir.command(line)
            .env("CREDENTIALS_DIRECTORY", dir.path())
            .ok(),
    );
    keeps_it(
        &dir.command(line)
            .words("--camera")
            .arg(&address)
            .env("EDGE_RLP_CAMERA_USER", "admin")
            .env("EDGE_RLP_CAMERA_PASSWORD", SECRET)
            .ok(),
    );
    dir.fails(
        &format!("{line} --camera-config labels.txt"),
        2,
        "labels.txt",
    );
    dir.fails(&format!("{line} --camera-config nowhere"), 2, "nowhere");
}
