//! The splitter of motion JPEG: MB/s of the median round, on streams of a camera and on those that a hostile one sends, a line
//! of JSON each, and how much longer twice the bytes take.
//! `cargo bench --bench splitter`

use std::hint::black_box;
use std::time::Instant;

use edge_rlp::frames::mjpeg::Splitter;

const ROUNDS: usize = 11;
const BYTES: usize = 4 << 20;
/// What one read of a socket brings.
const PIECE: usize = 64 << 10;

fn main() {
    let camera = include_bytes!("../tests/fixtures/mjpeg/ffmpeg.mjpeg").to_vec();
    let multipart = include_bytes!("../tests/fixtures/mjpeg/ffmpeg-multipart.mjpeg").to_vec();
    let segment = |inside: &[u8]| {
        let inside = inside.repeat(65_000 / inside.len());
        let length = (inside.len() + 2) as u16;
        [&[0xff, 0xe1][..], &length.to_be_bytes(), &inside].concat()
    };
    for (name, part) in [
        ("camera", camera),
        ("camera, multipart", multipart),
        ("zeros", vec![0; 1000]),
        ("false starts", vec![0xff, 0xd8, 0xff, 0]),
        ("false starts in segments", segment(&[0xff, 0xd8, 0xff, 0])),
        (
            "starts of segments",
            segment(&[0xff, 0xd8, 0xff, 0xe1, 0xf0, 0]),
        ),
        ("tiny pictures", vec![0xff, 0xd8, 0xff, 0xd9]),
    ] {
        let stream = part.repeat(2 * BYTES / part.len());
        let (half, whole) = (median(&stream[..BYTES]), median(&stream));
        println!(
            "{}",
            serde_json::json!({
                "stream": name,
                "megabytes_a_second": (stream.len() as f64 / whole / 1e5).round() / 10.0,
                "twice_the_bytes": (100.0 * whole / half).round() / 100.0,
            })
        );
    }
}

/// Seconds that splitting takes.
fn median(stream: &[u8]) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let mut splitter = Splitter::default();
            for piece in stream.chunks(PIECE) {
                black_box(splitter.push(piece));
            }
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}
