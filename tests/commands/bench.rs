//! `edge-rlp bench`: every figure that was asked for is there, and only those.

use crate::support::Directory;

#[test]
fn each_figure_has_a_median_and_a_spread() {
    let dir = Directory::new();
    let figures = dir.ok("bench --classes 2,3 --repeats 1 --json").json();
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
    let measured = dir.ok("bench --only image --repeats 3 --threads 1");
    measured.prints("one picture").prints("threads: 1");
    for other in ["training step", "memory"] {
        assert!(!measured.stdout.contains(other), "{measured}");
    }
}

#[test]
fn what_cannot_be_measured_is_told_once() {
    let dir = Directory::new();
    let missing = dir.fails("bench --model nowhere --only start", 1, "nowhere");
    assert_eq!(missing.stderr.matches("error:").count(), 1, "{missing}");
    dir.command("bench --only speed").ends(2);
    dir.command("bench --classes 1").ends(2);
}
