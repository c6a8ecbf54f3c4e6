//! Cameras behind https, with certificates that they signed themselves, as cameras have them: against openssl's own server.
#![cfg(feature = "https")]

use crate::support::{Directory, Invocation};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PICTURE: &[u8] = include_bytes!("../fixtures/picture/rgb420.jpg");

/// A camera of single pictures behind `openssl s_server`.
struct Camera {
    server: Child,
    port: u16,
    /// The SHA-256 of its certificate, as openssl shows it.
    fingerprint: String,
    dir: Directory,
}

fn openssl(dir: &Directory, line: &str) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(line.split_whitespace())
        .current_dir(dir.path())
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn output(mut command: Command) -> String {
    let ran = command.output();
    let ran = ran.expect("these tests need openssl: scripts/setup.sh installs it");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8(ran.stdout).unwrap()
}

impl Camera {
    /// One whose key is made by `key` and whose server has the options `options`.
    fn new(key: &str, options: &str) -> Camera {
        let dir = Directory::new();
        dir.write("labels.txt", "mug\nfish\n");
        let request = format!(
            "req -x509 {key} -nodes -days 2 -subj /CN=camera -keyout key.pem -out cert.pem"
        );
        output(openssl(&dir, &request));
        let shown = output(openssl(
            &dir,
            "x509 -in cert.pem -noout -fingerprint -sha256",
        ));
        let fingerprint = shown.trim().rsplit('=').next().unwrap().to_owned();
        let head = format!(
            "HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            PICTURE.len()
        );
        fs::write(
            dir.path().join("snapshot"),
            [head.as_bytes(), PICTURE].concat(),
        )
        .unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let serve = format!(
            "s_server -HTTP -quiet -accept 127.0.0.1:{port} -cert cert.pem -key key.pem {options}"
        );
        let mut server = openssl(&dir, &serve);
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let camera = Camera {
            server: server.unwrap(),
            port,
            fingerprint,
            dir,
        };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "{serve}");
            std::thread::sleep(Duration::from_millis(20));
        }
        camera
    }

    /// `classify` that watches it.
    fn watch(&self, words: &str) -> Invocation {
        let line = format!(
            "classify --labels labels.txt --every-frame --camera-timeout 4s --frames 2 {words} --camera https://127.0.0.1:{}/snapshot",
            self.port
        );
        self.dir.command(&line)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_certificate_that_a_camera_signed_itself_is_refused_with_its_fingerprint_and_the_cure() {
    let camera = Camera::new("-newkey rsa:2048", "");
    let ran = camera
        .watch("")
        .fails(1, "not vouched for ... --fingerprint");
    let shown = camera.fingerprint.replace(':', "").to_ascii_lowercase();
    let told = ran.error().replace(':', "").to_ascii_lowercase();
    assert!(told.contains(&shown), "{ran}");
    assert!(!ran.stderr.contains("waits longer"), "{ran}");
}

#[test]
fn a_pinned_certificate_is_trusted_and_no_other() {
    let camera = Camera::new("-newkey ec -pkeyopt ec_paramgen_curve:prime256v1", "");
    let pinned = camera.watch(&format!("--fingerprint {}", camera.fingerprint));
    pinned.ok().says("2 frames");
    let other = "ab".repeat(32);
    let ran = camera.watch(&format!("--fingerprint {other}"));
    let ran = ran.fails(1, "shows a certificate with the fingerprint");
    assert!(!ran.stderr.contains("waits longer"), "{ran}");
}

#[test]
fn any_certificate_is_taken_where_that_is_asked_for_and_that_is_told_once() {
    for (key, options) in [
        ("-newkey rsa:2048", "-tls1_3"),
        ("-newkey rsa:2048", "-tls1_2"),
        // An old camera, whose key nobody would take.
        (
            "-newkey rsa:1024",
            "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0",
        ),
    ] {
        let camera = Camera::new(key, options);
        let ran = camera.watch("--insecure-tls").ok();
        ran.says("2 frames");
        assert_eq!(ran.stderr.matches("--insecure-tls").count(), 1, "{ran}");
    }
}

#[test]
fn a_camera_that_speaks_only_old_tls_is_told_as_that() {
    let camera = Camera::new("-newkey rsa:2048", "-tls1_1 -cipher ALL:@SECLEVEL=0");
    let ran = camera.watch("--insecure-tls");
    ran.fails(1, "speaks no TLS that is safe");
}
