//! The system refuses memory at any moment: every parser is run in a process of its own whose k-th allocation fails, once or
//! from there on. It then refuses the input, does without, or ends with what the standard library says of it; it never goes
//! wrong in another way, and never hangs.
#![cfg(unix)]

#[path = "../fuzz/harness.rs"]
mod harness;

use edge_rlp::frames::metadata::without_metadata;
use edge_rlp::frames::{MAX_CAMERA_PIXELS, decode_picture, read_split};
use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Allocations since [`arm`]; the first that fails, and the last.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static FIRST: AtomicUsize = AtomicUsize::new(usize::MAX);
static LAST: AtomicUsize = AtomicUsize::new(0);

struct Failing;

/// Whether this allocation is one that fails.
fn fails() -> bool {
    let number = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    (FIRST.load(Ordering::Relaxed)..=LAST.load(Ordering::Relaxed)).contains(&number)
}

// SAFETY: every call goes to the system's allocator as it came, or fails as that may.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match fails() {
            true => ptr::null_mut(),
            false => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match fails() {
            true => ptr::null_mut(),
            false => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match fails() {
            true => ptr::null_mut(),
            false => unsafe { System.realloc(memory, layout, size) },
        }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Counts from here on, and fails from `first` to `last`.
fn arm(first: usize, last: usize) {
    COUNT.store(0, Ordering::Relaxed);
    LAST.store(last, Ordering::Relaxed);
    FIRST.store(first, Ordering::Relaxed);
}

fn picture(bytes: &[u8]) {
    let _ = decode_picture(bytes, MAX_CAMERA_PIXELS);
}

fn metadata(bytes: &[u8]) {
    let _ = without_metadata(bytes);
}

/// A parser: what it reads, itself, and a file that makes it do all it can.
type Parser = (&'static str, fn(&[u8]), &'static str);

const PARSERS: [Parser; 17] = [
    ("JPEG", picture, "tests/fixtures/picture/rgb420.jpg"),
    (
        "progressive JPEG",
        picture,
        "tests/fixtures/picture/progressive.jpg",
    ),
    ("turned JPEG", picture, "tests/fixtures/picture/exif6.jpg"),
    ("PNG", picture, "tests/fixtures/picture/palette.png"),
    ("WebP", picture, "tests/fixtures/picture/rgb.webp"),
    ("GIF", picture, "tests/fixtures/picture/palette.gif"),
    ("BMP", picture, "tests/fixtures/picture/rgb.bmp"),
    ("PNM", picture, "tests/fixtures/picture/rgb.ppm"),
    ("metadata", metadata, "tests/fixtures/picture/exif1.jpg"),
    ("splitter", harness::mjpeg, "fuzz/seeds/mjpeg/thumbnail"),
    (
        "HTTP",
        harness::http_answer,
        "fuzz/seeds/http_answer/chunks",
    ),
    ("prompt file", harness::prompt_file, "prompts/golden-v3.rlp"),
    (
        "prompt as JSON",
        harness::prompt_json,
        "fuzz/seeds/prompt_json/full.json",
    ),
    ("labels", harness::labels, "fuzz/seeds/labels/scripts"),
    ("bundle", harness::bundle, "fuzz/seeds/bundle/tiny.rlpm"),
    (
        "tokenizer",
        harness::tokenizer,
        "fuzz/seeds/tokenizer/small.json",
    ),
    ("split file", split_file, "fuzz/seeds/tokenizer/small.json"),
];

fn split_file(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let _ = read_split(file.path(), Path::new("."));
}

/// Allocations of each parser that are made to fail, spread evenly, in each way.
const TRIED: usize = 12;

/// What [`every_parser_survives_memory_that_is_refused`] runs: the parser PARSER with the allocations FIRST to LAST failing.
#[test]
#[ignore = "is run by another test, in a process of its own"]
fn one_parser() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<usize>().unwrap();
    let (_, parse, file) = PARSERS[number("PARSER")];
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    arm(number("FIRST"), number("LAST"));
    parse(&bytes);
    let count = COUNT.load(Ordering::Relaxed);
    arm(usize::MAX, 0);
    println!("done after {count} allocations");
}

fn run(parser: usize, first: usize, last: usize) -> Output {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "one_parser",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("PARSER", parser.to_string())
        .env("FIRST", first.to_string())
        .env("LAST", last.to_string())
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    child.unwrap().wait_with_output().unwrap()
}

#[test]
fn every_parser_survives_memory_that_is_refused() {
    for (parser, (name, ..)) in PARSERS.iter().enumerate() {
        let whole = run(parser, usize::MAX, 0);
        let said = String::from_utf8(whole.stdout).unwrap();
        let count = said.split("done after ").nth(1);
        let count = count.unwrap_or_else(|| panic!("{name}: {said}"));
        let count: usize = count.split(' ').next().unwrap().parse().unwrap();
        let (mut ended, mut aborted, mut slowest) = (0, 0, Duration::ZERO);
        for first in (1..=count).step_by(count.div_ceil(TRIED).max(1)) {
            for last in [first, usize::MAX] {
                let started = Instant::now();
                let output = run(parser, first, last);
                slowest = slowest.max(started.elapsed());
                let words = String::from_utf8_lossy(&output.stderr).into_owned();
                let told = words.contains("memory allocation of");
                let context = format!(
                    "{name}: {first}..{last} of {count}: {:?}: {words}",
                    output.status
                );
                match output.status.code() {
                    Some(0) => ended += 1,
                    None if output.status.signal() == Some(6) && told => aborted += 1,
                    // tract panics where Rust itself aborts.
                    Some(101) if words.contains("failed to allocate") => aborted += 1,
                    _ => panic!("{context}"),
                }
            }
        }
        assert!(slowest < Duration::from_secs(600), "{name}: {slowest:?}");
        println!("{name}: {count} allocations; {ended} went on or were refused, {aborted} ended");
    }
}
