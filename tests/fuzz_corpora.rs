//! The seeds of the fuzz targets, and all that fuzzing has found, through the same functions as in `fuzz/`: what was mended
//! stays mended, without a fuzzer.

#[path = "../fuzz/harness.rs"]
mod harness;
#[cfg(feature = "rtsp")]
#[path = "../fuzz/rtsp.rs"]
mod rtsp;

use std::fs;
use std::path::Path;

/// Runs `target` on its seeds and regressions, on the files of the fixtures in `more`, and on each of them cut and flipped
/// in a few places.
fn replay(name: &str, target: fn(&[u8]), more: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [
        format!("fuzz/seeds/{name}"),
        format!("fuzz/regressions/{name}"),
    ];
    let folders = folders
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied());
    let mut files = 0;
    for folder in folders {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
        {
            let bytes = fs::read(&entry).unwrap();
            target(&bytes);
            let step = (bytes.len() / 16).max(1);
            for at in (0..bytes.len()).step_by(step) {
                target(&bytes[..at]);
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                target(&flipped);
            }
            files += 1;
        }
    }
    assert!(files > 0, "{name} has no seeds");
    println!("{name}: {files} files");
}

#[test]
fn prompt_files() {
    replay("prompt_file", harness::prompt_file, &["prompts"]);
}

#[test]
fn prompts_as_json() {
    replay("prompt_json", harness::prompt_json, &[]);
}

#[test]
fn bundles() {
    replay("bundle", harness::bundle, &[]);
}

#[test]
fn motion_jpeg() {
    replay("mjpeg", harness::mjpeg, &["tests/fixtures/mjpeg"]);
}

#[test]
fn pictures() {
    replay("picture", harness::picture, &["tests/fixtures/picture"]);
}

#[test]
fn answers_of_cameras() {
    replay("http_answer", harness::http_answer, &[]);
}

#[cfg(feature = "rtsp")]
#[test]
fn streams_of_cameras() {
    replay("rtsp", rtsp::rtsp, &[]);
}

#[test]
fn label_files() {
    replay("labels", harness::labels, &[]);
}

#[test]
fn tokenizers() {
    replay("tokenizer", harness::tokenizer, &[]);
}

#[test]
fn onnx_files() {
    replay(
        "onnx",
        harness::onnx,
        &["tests/fixtures/import/dynamic-int8"],
    );
}

#[cfg(feature = "serve")]
#[test]
fn configurations_of_serve() {
    replay("serve_config", harness::serve_config, &[]);
}

#[cfg(all(feature = "serve", unix))]
#[test]
fn requests_to_serve() {
    replay("serve_request", harness::serve_request, &[]);
}

#[cfg(feature = "fleet")]
#[test]
fn notices_of_a_fleet() {
    replay(
        "fleet_notice",
        harness::fleet_notice,
        &["tests/fixtures/fleet"],
    );
}
