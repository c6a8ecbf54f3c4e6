//! Cameras on loopback that answer in every way, and mostly badly.

mod odd;

use super::*;
use crate::frames::live::{Event, Live, Timeouts};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

const STREAM: &[u8] = include_bytes!("../../../../tests/fixtures/mjpeg/ffmpeg-multipart.mjpeg");
const PICTURES: &[u8] = include_bytes!("../../../../tests/fixtures/mjpeg/ffmpeg.mjpeg");
const QUICK: Timeouts = Timeouts {
    stall: Duration::from_millis(800),
    pause: Duration::from_millis(5),
    give_up: Duration::from_millis(2500),
    fresh: Duration::from_secs(60),
    goodbye: Duration::ZERO,
};

fn patience(quiet: Duration) -> Patience {
    Patience {
        quiet,
        trust: Trust::Authorities,
    }
}

/// What a camera does with one connection.
type Behaviour = fn(&mut TcpStream) -> io::Result<()>;

/// A camera on loopback that answers its connections as `replies` say, the last one again and again. Returns its
/// address.
fn camera(replies: &'static [Behaviour]) -> CameraUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2048];
            let _ = stream.read(&mut request);
            // A client that has left is what some of these tests are about.
            let _ = replies[index.min(replies.len() - 1)](&mut stream);
        }
    });
    CameraUrl::parse(&format!("http://{address}/video?x=1")).unwrap()
}

/// Watches until a picture comes, and returns the failures before it; or the error in which it ends.
fn first_picture(camera: CameraUrl) -> (Result<RawFrame, FramesError>, Vec<String>) {
    let capture = move |sink: &Sink| capture(&camera, patience(QUICK.stall / 2), sink);
    let mut live = Live::start(Arc::new(capture), QUICK);
    let mut failures = Vec::new();
    loop {
        match live.next(&|| false) {
            Ok(Event::Frame(frame, _)) => return (Ok(frame), failures),
            Ok(Event::Lost { reason, .. }) => failures.push(reason),
            Ok(Event::End) => panic!("a camera has no end: {failures:?}"),
            Err(error) => return (Err(error), failures),
        }
    }
}

fn assert_picture(replies: &'static [Behaviour]) -> Vec<String> {
    let (frame, failures) = first_picture(camera(replies));
    let picture = frame.unwrap().decode().unwrap();
    assert_eq!(picture.dimensions(), (64, 48));
    failures
}

fn assert_fails(replies: &'static [Behaviour], expected: &str) {
    let (frame, failures) = first_picture(camera(replies));
    let error = frame.unwrap_err().to_string();
    // On a loaded machine single tries may run out of time.
    let told = failures.iter().any(|failure| failure.contains(expected));
    assert!(told, "{failures:?}; {error}");
}

fn stream(out: &mut TcpStream) -> io::Result<()> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=ffmpeg\r\n\r\n",
    )?;
    out.write_all(STREAM)
}

fn stall(_: &mut TcpStream) -> io::Result<()> {
    // Longer than it is waited for, and less than twice as long.
    thread::sleep(Duration::from_millis(600));
    Ok(())
}

fn garbage(out: &mut TcpStream) -> io::Result<()> {
    out.write_all(&[0xa5; 4000])
}

#[test]
fn a_multipart_stream_is_read() {
    assert!(assert_picture(&[stream]).is_empty());
}

#[test]
fn chunks_may_fall_anywhere() {
    fn chunked(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for piece in PICTURES.chunks(97) {
            write!(out, "{:x}; why=not\r\n", piece.len())?;
            out.write_all(piece)?;
            out.write_all(b"\r\n")?;
        }
        out.write_all(b"0\r\n\r\n")
    }
    assert!(assert_picture(&[chunked]).is_empty());
}

#[test]
fn a_camera_of_single_pictures_is_asked_again() {
    fn single(out: &mut TcpStream) -> io::Result<()> {
        let length = PICTURES.len() / 5 * 2;
        write!(
            out,
            "HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
        )?;
        out.write_all(&PICTURES[..length])
    }
    let url = camera(&[single]);
    let capture = move |sink: &Sink| capture(&url, patience(Duration::from_secs(2)), sink);
    let mut live = Live::start(Arc::new(capture), Timeouts::within(Duration::from_secs(30)));
    for _ in 0..2 {
        assert!(matches!(live.next(&|| false).unwrap(), Event::Frame(..)));
    }
}

#[test]
fn a_camera_that_stalls_resets_or_talks_nonsense_is_asked_again() {
    fn reset(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n\xff\xd8\xff")
    }
    let failures = assert_picture(&[stall, reset, garbage, stream]);
    assert_eq!(failures.len(), 3, "{failures:?}");
    for (sentence, expected) in failures
        .iter()
        .zip(["quiet", "broke off", "not answer in HTTP"])
    {
        assert!(sentence.contains(expected), "{sentence}");
    }
}

#[test]
fn a_camera_that_moved_is_followed_but_not_without_end() {
    fn moved(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n")
    }
    assert!(assert_picture(&[moved, stream]).is_empty());
    assert_fails(&[moved], "without end");
}

#[test]
fn refusals_say_what_to_do() {
    fn login(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\n\r\n")
    }
    fn missing(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n")
    }
    fn page(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n<html>no picture</html>")
    }
    assert_fails(&[login], "asks for a name and a password");
    assert_fails(&[missing], "404 Not Found");
    assert_fails(&[page], "without a JPEG picture");
    assert_fails(&[garbage], "not answer in HTTP");
    let nobody = CameraUrl::parse("http://127.0.0.1:1/").unwrap();
    let (frame, failures) = first_picture(nobody);
    assert!(
        frame.is_err() && failures[0].contains("cannot reach 127.0.0.1:1"),
        "{failures:?}"
    );
}

#[test]
fn a_capture_that_was_given_up_ends_though_its_camera_goes_on() {
    // A head that never ends, byte by byte: no read is ever late.
    fn drip(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: ")?;
        loop {
            out.write_all(b"z")?;
            thread::sleep(Duration::from_millis(10));
        }
    }
    // Pictures as fast as they are taken, none of which is looked at.
    fn flood(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            out.write_all(PICTURES)?;
        }
    }
    for replies in [&[drip as Behaviour] as &'static [Behaviour], &[flood]] {
        let url = camera(replies);
        let (ended, end) = std::sync::mpsc::channel();
        let capturing = move |sink: &Sink| {
            let captured = capture(&url, patience(Duration::from_secs(2)), sink);
            let _ = ended.send(());
            captured
        };
        let live = Live::start(Arc::new(capturing), QUICK);
        thread::sleep(Duration::from_millis(100));
        drop(live);
        end.recv_timeout(Duration::from_secs(2)).unwrap();
    }
}
