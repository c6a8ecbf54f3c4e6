//! Time and memory from bytes to features: opening the default model, or the bundle given, and encoding one picture and
//! ten texts. `cargo bench --bench open_model [-- BUNDLE]` prints one JSON line; medians of repeated runs.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use edge_rlp::clip::Model;
use edge_rlp::host::memory::peak;

fn median_ms(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// Peak resident memory in MiB, where the system tells.
fn peak_mib() -> Option<f64> {
    Some(peak()? as f64 / f64::from(1 << 20))
}

fn main() {
    let bundle = std::env::args_os()
        .skip(1)
        .map(PathBuf::from)
        .find(|path| path.is_file());
    let open = || match &bundle {
        Some(path) => Model::open(path),
        None => Model::embedded(),
    };
    let before = peak_mib();
    let start = Instant::now();
    let model = open().expect("the bundle opens");
    let first_open = start.elapsed().as_secs_f64() * 1e3;
    let picture = image::RgbImage::from_fn(320, 240, |x, y| {
        image::Rgb([x as u8, y as u8, (x ^ y) as u8])
    });
    let first = Instant::now();
    black_box(model.encode_image(&picture).expect("a picture is encoded"));
    let first_image = first.elapsed().as_secs_f64() * 1e3;
    let peak = peak_mib();
    let sequences: Vec<Vec<u32>> = (0..10)
        .map(|i| model.tokenizer.sequence([10 + i, 20, 30, 40]))
        .collect();
    let result = serde_json::json!({
        "model": model.name,
        "bytes": model.summary().bytes,
        "first_open_ms": first_open,
        "first_picture_ms": first_image,
        "mib_before": before,
        "mib_after_first_picture": peak,
        "open_ms": median_ms(9, || drop(black_box(open().expect("the bundle opens")))),
        "picture_ms": median_ms(25, || drop(black_box(model.encode_image(&picture)))),
        "ten_texts_ms": median_ms(25, || drop(black_box(model.text.encode(&sequences)))),
    });
    println!("{result}");
}
