//! Figures for Prometheus, and whether all is well.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::State;
use crate::host::memory;
use crate::serve::cameras::Phase;
use crate::serve::metrics::BUCKETS;
use crate::watch::Shown;

/// The process answers.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// Whether every camera has sent a picture since it was added, or was found to be gone: what a start waits for.
pub async fn ready(server: State) -> Response {
    let cameras = server.cameras.all();
    let waiting: Vec<String> = cameras
        .iter()
        .map(|camera| camera.state())
        .filter(|state| state.state == Phase::Starting)
        .map(|state| state.name)
        .collect();
    let code = match waiting.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (
        code,
        Json(json!({ "ready": waiting.is_empty(), "waiting_for": waiting })),
    )
        .into_response()
}

/// All figures, as Prometheus reads them.
pub async fn metrics(server: State) -> Response {
    let mut text = Text::default();
    let cameras = server.cameras.all();
    for camera in &cameras {
        let state = camera.state();
        let name = [("camera", state.name.as_str())];
        text.add(LOOKED_AT, &name, state.looked_at as f64);
        text.add(CAPTURED, &name, state.captured as f64);
        text.add(DROPPED, &name, state.dropped as f64);
        text.add(FPS, &name, state.fps.into());
        for phase in [
            Phase::Starting,
            Phase::Live,
            Phase::Stalled,
            Phase::Ended,
            Phase::Failed,
        ] {
            let labels = [name[0], ("state", phase.name())];
            text.add(STATE, &labels, f64::from(u8::from(state.state == phase)));
        }
        for region in &state.regions {
            let of = [name[0], ("region", region.name.as_str())];
            let shown = region.label.as_ref().map(Shown::to_string);
            if let (Some(shown), Some(probability)) = (&shown, region.probability) {
                let labels = [of[0], of[1], ("label", shown.as_str())];
                text.add(LABEL, &labels, 1.0);
                text.add(PROBABILITY, &of, probability.into());
            }
        }
        let cumulated = camera.latency.cumulated();
        for (end, count) in BUCKETS.iter().zip(&cumulated) {
            let end = end.to_string();
            text.bucket(&[name[0], ("le", &end)], *count);
        }
        let all = cumulated.last().copied().unwrap_or_default();
        text.bucket(&[name[0], ("le", "+Inf")], all);
        text.histogram(&name, camera.latency.total(), all);
    }
    text.add(
        TRAINING,
        &[],
        f64::from(u8::from(server.training.running().is_some())),
    );
    text.add(VIEWERS, &[], server.viewers.count() as f64);
    if let Some(bytes) = memory::resident() {
        text.add(MEMORY, &[], bytes as f64);
    }
    text.add(UPTIME, &[], server.started.elapsed().as_secs_f64());
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, text.to_string()).into_response()
}

/// Name, kind and meaning of a figure.
type Figure = (&'static str, &'static str, &'static str);

const LOOKED_AT: Figure = (
    "edge_rlp_frames_total",
    "counter",
    "Pictures that were looked at.",
);
const CAPTURED: Figure = (
    "edge_rlp_frames_captured_total",
    "counter",
    "Pictures that cameras sent.",
);
const DROPPED: Figure = (
    "edge_rlp_frames_dropped_total",
    "counter",
    "Pictures that nobody looked at because a newer one came.",
);
const FPS: Figure = (
    "edge_rlp_frames_per_second",
    "gauge",
    "Pictures that are looked at in a second.",
);
const STATE: Figure = (
    "edge_rlp_camera_state",
    "gauge",
    "1 for the state that a camera is in.",
);
const LABEL: Figure = (
    "edge_rlp_region_label",
    "gauge",
    "1 for the label that a region shows.",
);
const PROBABILITY: Figure = (
    "edge_rlp_region_probability",
    "gauge",
    "How probable the nearest label is.",
);
const LATENCY: Figure = (
    "edge_rlp_naming_seconds",
    "histogram",
    "How long naming a picture took.",
);
const TRAINING: Figure = (
    "edge_rlp_training_running",
    "gauge",
    "1 while a prompt is trained.",
);
const VIEWERS: Figure = (
    "edge_rlp_viewers",
    "gauge",
    "Moving pictures and event streams that are open.",
);
const MEMORY: Figure = (
    "edge_rlp_resident_memory_bytes",
    "gauge",
    "Memory that the process takes.",
);
const UPTIME: Figure = (
    "edge_rlp_uptime_seconds",
    "gauge",
    "Since the process was started.",
);

/// Lines by figure: all of one stand together.
#[derive(Default)]
struct Text {
    figures: BTreeMap<Figure, String>,
}

impl Text {
    fn add(&mut self, figure: Figure, labels: &[(&str, &str)], value: f64) {
        self.line(figure, "", labels, value);
    }

    fn bucket(&mut self, labels: &[(&str, &str)], count: u64) {
        self.line(LATENCY, "_bucket", labels, count as f64);
    }

    fn histogram(&mut self, labels: &[(&str, &str)], total: f64, count: u64) {
        self.line(LATENCY, "_sum", labels, total);
        self.line(LATENCY, "_count", labels, count as f64);
    }

    fn line(&mut self, figure: Figure, end: &str, labels: &[(&str, &str)], value: f64) {
        let text = self.figures.entry(figure).or_default();
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}{end}{labels} {value}", figure.0);
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for ((name, kind, meaning), lines) in &self.figures {
            write!(
                out,
                "# HELP {name} {meaning}\n# TYPE {name} {kind}\n{lines}"
            )?;
        }
        Ok(())
    }
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\");
    value.replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_lines_as_prometheus_reads_them() {
        let mut text = Text::default();
        text.add(FPS, &[("camera", "a\"b\\")], 1.5);
        text.add(UPTIME, &[], 3.0);
        text.bucket(&[("le", "+Inf")], 2);
        let text = text.to_string();
        assert!(
            text.contains("edge_rlp_frames_per_second{camera=\"a\\\"b\\\\\"} 1.5\n"),
            "{text}"
        );
        assert!(text.contains("# TYPE edge_rlp_uptime_seconds gauge\nedge_rlp_uptime_seconds 3\n"));
        assert!(text.contains("edge_rlp_naming_seconds_bucket{le=\"+Inf\"} 2\n"));
    }
}
