//! Cameras over a long time, in a process of its own: memory and descriptors stay what they were, and little is said. Here for
//! seconds; so many times as long with EDGE_RLP_LONG_RUN=50 cargo test --release --test long_runs -- --nocapture

use edge_rlp::frames::{CameraEvent, CameraOptions, CameraSource, Frames};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "rtsp")]
#[path = "support/rtsp.rs"]
mod rtsp;

/// By how much memory may grow, in KiB: arenas of the allocator for each thread.
const GROWTH: u64 = 6 << 10;

/// One at a time, or one measures the other.
static ALONE: Mutex<()> = Mutex::new(());

fn times_as_long() -> u64 {
    let said = std::env::var("EDGE_RLP_LONG_RUN").ok();
    said.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// KiB that are resident, and open descriptors.
fn held() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    (memory.unwrap_or(0), descriptors)
}

/// Prints what is held now, and compares it with `before`.
fn stays(before: Option<(u64, usize)>, when: &str) -> (u64, usize) {
    let now = held();
    println!("{when}: {} KiB resident, {} descriptors", now.0, now.1);
    if let Some((memory, descriptors)) = before {
        assert!(
            now.0 <= memory + GROWTH,
            "{when}: {} KiB after {memory}",
            now.0
        );
        assert!(
            now.1 <= descriptors + 4,
            "{when}: {} after {descriptors}",
            now.1
        );
    }
    now
}

#[cfg(feature = "rtsp")]
#[test]
fn thousands_of_pictures_over_rtsp_leave_memory_flat() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let camera = rtsp::Camera::like(rtsp::Behaviour {
        pause: Duration::ZERO,
        ..rtsp::Behaviour::good()
    });
    let source: CameraSource = camera.url("").parse().unwrap();
    let mut frames = source.open(0, &CameraOptions::default()).unwrap();
    let pictures = 4000 * times_as_long();
    let (mut before, mut next) = (None, pictures / 10);
    let started = Instant::now();
    loop {
        match frames.next(&|| false).unwrap() {
            CameraEvent::Frame(frame) => assert_eq!(frame.image.dimensions(), (96, 64)),
            other => panic!("{other:?}"),
        }
        let counts = frames.counts().unwrap();
        if counts.captured >= next {
            let when = format!(
                "{} pictures decoded, {} looked at",
                counts.captured,
                counts.captured - counts.dropped
            );
            before = Some(stays(before, &when))
                .filter(|_| before.is_none())
                .or(before);
            next += pictures / 10;
        }
        if counts.captured >= pictures {
            break;
        }
    }
    println!("{:.1} s", started.elapsed().as_secs_f64());
}

const PICTURE: &[u8] = include_bytes!("fixtures/picture/rgb420.jpg");
const TAIL: &[u8] = include_bytes!("fixtures/picture/lost/tail.jpg");
const OK: &str = "HTTP/1.1 200 OK\r\n";
const TYPE: &str = "Content-Type: image/jpeg\r\n";

/// What a camera sends.
type Way = fn(&mut TcpStream) -> io::Result<()>;

/// The ways in which a camera misbehaves, and what is said of each; nothing of those that are no trouble.
const WAYS: [(&str, Way); 16] = [
    ("", |out| {
        snapshot(
            out,
            "Server: x\r\nTue, 12 Jun 2012 01:56:34 GMT\r\n",
            PICTURE,
        )
    }),
    ("404", |out| {
        out.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n")
    }),
    ("", |out| snapshot(out, "Server : Cam\r\n", PICTURE)),
    ("none was given", |out| {
        out.write_all(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n")
    }),
    ("", |out| snapshot(out, "", &PICTURE[..PICTURE.len() - 2])),
    ("bits", |out| snapshot(out, "", &twelve_bits())),
    ("without end", |out| {
        out.write_all(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n")
    }),
    ("is missing", |out| snapshot(out, "", TAIL)),
    ("is it MP4?", |out| {
        write!(out, "{OK}\r\n")?;
        out.write_all(&b"\0\0\0\x20moofABCDEFGH".repeat(4000))
    }),
    ("does not answer in HTTP", |out| {
        out.write_all(&[0xa5; 4000])
    }),
    ("", |out| {
        write!(out, "{OK}{TYPE}Transfer-Encoding: chunked\r\n\r\n")?;
        out.write_all(PICTURE)
    }),
    ("", |out| {
        write!(out, "{OK}Content-Type: application/octet-stream\r\n\r\n")?;
        out.write_all(PICTURE)
    }),
    ("is missing", |out| {
        snapshot(out, "", &PICTURE[..PICTURE.len() / 2])
    }),
    ("sent nothing", |out| write!(out, "{OK}{TYPE}\r\n")),
    ("", |out| out.write_all(PICTURE)),
    ("ended", |out| {
        write!(
            out,
            "{OK}Content-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
        )?;
        for _ in 0..3 {
            write!(out, "--b\r\n{TYPE}\r\n")?;
            out.write_all(PICTURE)?;
        }
        Ok(())
    }),
];

fn snapshot(out: &mut TcpStream, lines: &str, picture: &[u8]) -> io::Result<()> {
    write!(
        out,
        "{OK}{lines}{TYPE}Content-Length: {}\r\n\r\n",
        picture.len()
    )?;
    out.write_all(picture)
}

/// A picture of 12 bits, which none of the usual decoders reads.
fn twelve_bits() -> Vec<u8> {
    let mut picture = PICTURE.to_vec();
    let frame = picture
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    picture[frame + 4] = 12;
    picture
}

/// A camera whose every second connection is well, and that misbehaves on the others in all ways in turn.
fn misbehaving() -> Frames {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut ways = WAYS.iter().cycle();
        let mut well = true;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2048];
            let count = stream.read(&mut request).unwrap_or(0);
            // A redirect goes on with the same trouble.
            let again = request[..count].starts_with(b"GET /again");
            let _ = match (again, well) {
                (true, _) => stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n"),
                (_, true) => snapshot(&mut stream, "", PICTURE),
                _ => (ways.next().unwrap().1)(&mut stream),
            };
            well ^= !again;
        }
    });
    let source: CameraSource = address.parse().unwrap();
    source.open(0, &CameraOptions::default()).unwrap()
}

/// A day of it, in seconds: each way is told once, then counted.
#[test]
fn a_camera_that_misbehaves_in_all_ways_in_turn_fills_neither_memory_nor_log() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut frames = misbehaving();
    let (mut told, mut pictures, mut before) = (Vec::new(), 0, None);
    let started = Instant::now();
    let mut end = Duration::from_secs(20 * times_as_long());
    while started.elapsed() < end {
        match frames.next(&|| false).unwrap() {
            CameraEvent::Frame(_) => pictures += 1,
            CameraEvent::Problem(problem) => {
                println!("{:5.1} s: {problem}", started.elapsed().as_secs_f64());
                told.push(problem.to_string());
            }
            other => panic!("{other:?}"),
        }
        if before.is_none() && started.elapsed() > end / 4 {
            before = Some(stays(None, "after a quarter"));
        }
        // A machine that is busy takes longer for each way.
        let missing = WAYS
            .iter()
            .any(|(words, _)| !told.iter().any(|said| said.contains(words)));
        if missing && started.elapsed() > end && end < Duration::from_secs(120) {
            end += Duration::from_secs(1);
        }
    }
    stays(before, "at the end");
    for (words, _) in WAYS {
        assert!(
            told.iter().any(|said| said.contains(words)),
            "{words}: {told:#?}"
        );
    }
    assert!(pictures >= 10, "{pictures}");
    let troubles = WAYS.iter().filter(|(words, _)| !words.is_empty()).count();
    let hours = started.elapsed().as_secs_f64() / 3600.0;
    // Once each, and their number every ten minutes.
    let most = troubles as f64 * (1.0 + 6.0 * hours);
    println!("{pictures} pictures, {} lines in {hours:.3} h", told.len());
    assert!(
        told.len() as f64 <= most.min(200.0 * hours.max(1.0)),
        "{told:#?}"
    );
}
