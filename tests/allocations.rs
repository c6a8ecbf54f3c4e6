//! Untrusted bytes may not take more memory than a small multiple of their own: an allocator counts.

use edge_rlp::frames::{self, MAX_PIXELS, PictureError, decode_picture};
use edge_rlp::store;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ImageFormat, Rgba};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that are allocated now, and the most that ever were since the last [`peak_of`].
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

impl Counting {
    fn add(bytes: usize) {
        let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(now, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::add(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there for a moment.
        Counting::add(size);
        let moved = unsafe { System.realloc(memory, layout, size) };
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        moved
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// To be held by a test from its first allocation to its last: those of another test would be counted, too.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work` returns, and the most bytes that it held beyond those that were there before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed) - before)
}

/// A prompt file whose checksum is right, whatever its payload.
fn sealed(payload: &[u8]) -> Vec<u8> {
    let mut file = store::format::MAGIC.to_vec();
    file.extend(1u16.to_le_bytes());
    file.extend((payload.len() as u32).to_le_bytes());
    file.extend(payload);
    file.extend(blake3::hash(&file).as_bytes());
    file
}

/// The length of a list as postcard writes it.
fn varint(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes
}

/// Lists of empty things, and of numbers: with 15 MiB they took up to 425 MB.
#[test]
fn a_prompt_file_takes_a_small_multiple_of_its_bytes() {
    let _alone = alone();
    const COUNT: usize = 7 << 20;
    let head = [&[0][..], &[0; 32], &[0]].concat();
    let labels = [&head[..], &varint(COUNT), &vec![0; 2 * COUNT]].concat();
    let numbers = [
        &head[..],
        &varint(0),
        &[4, 4, 1],
        &varint(COUNT / 2),
        &vec![0; 2 * COUNT],
    ]
    .concat();
    let endless = [&head[..], &varint(u32::MAX as usize), &vec![0; 1 << 20]].concat();
    for (name, payload) in [
        ("labels", labels),
        ("numbers", numbers),
        ("endless", endless),
    ] {
        let file = sealed(&payload);
        let (decoded, peak) = peak_of(|| store::decode(&file, "x.rlp"));
        assert!(decoded.is_err(), "{name}");
        println!("prompt file, {name}: {} bytes took {peak}", file.len());
        assert!(peak < 4 * file.len() + (4 << 20), "{name}: {peak}");
    }
}

#[test]
fn a_prompt_as_json_takes_a_small_multiple_of_its_bytes() {
    let _alone = alone();
    let many = |item: &str| vec![item; (8 << 20) / (item.len() + 1)].join(",");
    let texts = [
        ("rows", format!(r#"{{"change":{{"full":[{}]}}"#, many("[]"))),
        (
            "numbers",
            format!(r#"{{"change":{{"full":[[{}]]}}"#, many("0")),
        ),
        (
            "labels",
            format!(r#"{{"labels":[{}]"#, many(r#"{"label":"","words":""}"#)),
        ),
        (
            "spectrum",
            format!(r#"{{"context_singular_values":[{}]"#, many("0")),
        ),
        ("brackets", "[".repeat(8 << 20)),
    ];
    for (name, text) in texts {
        let (decoded, peak) = peak_of(|| store::json::decode(text.as_bytes(), "x.json"));
        assert!(decoded.is_err(), "{name}");
        println!("prompt as JSON, {name}: {} bytes took {peak}", text.len());
        assert!(peak < 4 * text.len(), "{name}: {peak}");
    }
}

/// What a picture may take in this program of tests.
const BUDGET: usize = 48 << 20;

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

/// A JPEG that says it has `side` x `side` pixels; the decoder makes up those that are not there.
fn blown_up(name: &str, side: u16) -> Vec<u8> {
    let mut bytes = fixture(name);
    let frame = bytes
        .windows(2)
        .position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2]))
        .unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
    bytes
}

fn drawn(side: u32) -> DynamicImage {
    let draw = |x, y| Rgba([(x ^ y) as u16 * 99, x as u16, y as u16, 65_535]);
    DynamicImage::ImageRgba16(image::ImageBuffer::from_fn(side, side, draw))
}

fn encoded(side: u32, format: &str) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = drawn(side);
    let picture = match format {
        "png, RGBA of 16 bits" => picture,
        "png, grey of 16 bits" => picture.into_luma16().into(),
        "png, RGBA" | "webp" | "gif" => picture.into_rgba8().into(),
        _ => picture.into_rgb8().into(),
    };
    match format {
        "jpeg" => picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 80)),
        "bmp" => picture.write_to(&mut bytes, ImageFormat::Bmp),
        "ppm" => picture.write_to(&mut bytes, ImageFormat::Pnm),
        "webp" => picture.write_to(&mut bytes, ImageFormat::WebP),
        "gif" => picture.write_to(&mut bytes, ImageFormat::Gif),
        _ => picture.write_with_encoder(PngEncoder::new_with_quality(
            &mut bytes,
            CompressionType::Fast,
            FilterType::NoFilter,
        )),
    }
    .unwrap();
    bytes.into_inner()
}

/// Whatever the format and the size: a picture is decoded within the budget, or refused before it takes any.
#[test]
fn a_picture_is_decoded_within_the_budget_or_refused() {
    let _alone = alone();
    frames::limit_memory(BUDGET as u64);
    let mut pictures = Vec::new();
    for side in [300, 1200, 2400, 3600] {
        for format in [
            "jpeg",
            "bmp",
            "ppm",
            "png",
            "png, RGBA",
            "png, RGBA of 16 bits",
            "png, grey of 16 bits",
        ] {
            pictures.push((format, side, encoded(side, format)));
        }
        for format in [
            "progressive.jpg",
            "cmyk.jpg",
            "rgb420.jpg",
            "grey.jpg",
            "exif6.jpg",
        ] {
            pictures.push((format, side, blown_up(format, side as u16)));
        }
    }
    for side in [300, 1200] {
        for format in ["webp", "gif"] {
            pictures.push((format, side, encoded(side, format)));
        }
    }
    let (mut decoded, mut refused) = (0, 0);
    for (format, side, bytes) in pictures {
        let (picture, peak) = peak_of(|| decode_picture(&bytes, MAX_PIXELS));
        let limit = match picture {
            Ok(_) => BUDGET - bytes.len(),
            Err(PictureError::TooMuchMemory { .. } | PictureError::Lost(_)) => {
                2 * bytes.len() + (1 << 20)
            }
            Err(error) => panic!("{format}, {side}: {error}"),
        };
        println!(
            "{format}, {side}: {} bytes took {peak}, {}",
            bytes.len(),
            picture.is_ok()
        );
        assert!(
            peak <= limit,
            "{format}, {side}: {peak} bytes, {limit} expected"
        );
        if picture.is_ok() {
            decoded += 1
        } else {
            refused += 1
        }
    }
    assert!(
        decoded > 20 && refused > 5,
        "{decoded} decoded, {refused} refused"
    );
}

/// Fuzzing found a WebP file of 188 bytes whose decoder asked for 2 GB, and others up to 4 GB, for metadata that were not there.
#[test]
fn no_small_file_asks_for_much_memory() {
    let _alone = alone();
    frames::limit_memory(BUDGET as u64);
    let mut tried = 0;
    for folder in ["tests/fixtures/picture", "fuzz/regressions/picture"] {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let (_, peak) = peak_of(|| decode_picture(&bytes, MAX_PIXELS));
            assert!(peak <= BUDGET, "{}: {peak} bytes", path.display());
            tried += 1;
        }
    }
    assert!(tried > 10, "{tried}");
}

/// Refused before: a phone's picture took 150 MB, and more than pictures may have pixels.
#[test]
fn a_phones_picture_takes_what_a_quarter_of_it_takes() {
    let _alone = alone();
    frames::limit_memory(BUDGET as u64);
    let draw =
        |x: u32, y: u32| image::Rgb([(x / 32) as u8, (y / 24) as u8, (x / 512 + y / 512) as u8]);
    let picture = image::RgbImage::from_fn(8160, 6144, draw);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("phone.jpg");
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 80)
        .encode_image(&picture)
        .unwrap();
    drop(picture);
    std::fs::write(&file, &bytes).unwrap();
    let started = std::time::Instant::now();
    let (decoded, peak) = peak_of(|| frames::read_picture(&file, MAX_PIXELS).unwrap());
    println!(
        "a picture of 8160 x 6144 pixels, {} bytes, took {peak} and {:?}",
        bytes.len(),
        started.elapsed()
    );
    assert_eq!(decoded.dimensions(), (2040, 1536));
    assert!(peak < BUDGET, "{peak}");
    // A camera sends none as large.
    let refused = decode_picture(&bytes, frames::MAX_CAMERA_PIXELS);
    assert!(matches!(refused, Err(PictureError::TooManyPixels { .. })));
}
