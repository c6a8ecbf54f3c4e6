//! `edge-rlp bench`: every figure that was asked for is there, and only those.

mod support;

use serde_json::Value;
use support::{Directory, code, stderr, stdout};

#[test]
fn each_figure_has_a_median_and_a_spread() {
    let dir = Directory::new();
    let measured = dir.run(&["bench", "--classes", "2,3", "--repeats", "1", "--json"]);
    assert_eq!(code(&measured), 0, "{}", stderr(&measured));
    let figures: Value = serde_json::from_str(&stdout(&measured)).unwrap();
    for at in [
        "/image_ms",
        "/preprocess_ms",
        "/text_ms",
        "/step_ms/2",
        "/step_ms/3",
        "/cold_start_ms",
        "/peak_mb/classify",
        "/peak_mb/adapt",
    ] {
        let figure = figures
            .pointer(at)
            .unwrap_or_else(|| panic!("{at} is missing in {figures}"));
        assert!(figure["median"].as_f64().unwrap() > 0.0, "{at}: {figure}");
        assert!(figure["spread"].as_f64().unwrap() >= 0.0, "{at}: {figure}");
    }
    assert_eq!(figures["model"]["name"], "default");
}

#[test]
fn only_what_is_asked_for_is_measured_and_told() {
    let dir = Directory::new();
    let measured = dir.run(&[
        "bench",
        "--only",
        "image",
        "--repeats",
        "3",
        "--threads",
        "1",
    ]);
    assert_eq!(code(&measured), 0, "{}", stderr(&measured));
    let told = stdout(&measured);
    assert!(
        told.contains("one picture") && told.contains("threads: 1"),
        "{told}"
    );
    assert!(
        !told.contains("training step") && !told.contains("memory"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_measured_is_told_once() {
    let dir = Directory::new();
    let missing = dir.run(&["bench", "--model", "nowhere", "--only", "start"]);
    assert_eq!(code(&missing), 1);
    assert_eq!(
        stderr(&missing).matches("error:").count(),
        1,
        "{}",
        stderr(&missing)
    );
    assert_eq!(code(&dir.run(&["bench", "--only", "speed"])), 2);
    assert_eq!(code(&dir.run(&["bench", "--classes", "1"])), 2);
}
