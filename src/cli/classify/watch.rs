//! Watching a camera: its frames are named one after the other, smoothed over time, told where the label changes, and
//! handed to a command of the user's. It must not know how answers are printed.

use super::super::rest;
use super::super::supervisor::Supervisor;
use super::meter::Meter;
use super::on_change::OnChange;
use super::renewal::Renewal;
use super::report::{Picture, Report};
use super::smoothing::Smoothing;
use crate::classifier::Classifier;
use crate::frames::{CameraEvent, CameraOptions, CameraSource, Frames};
use anyhow::bail;
use std::io::{IsTerminal, stderr};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often the demo camera shows a scene to people, unless `--every` or `--frames` says otherwise.
const DEMO_PACE: Duration = Duration::from_millis(500);
/// The live demo camera's scenes: not those that `adapt --camera demo` learns from.
const LIVE_SEED: u64 = 1_000_000;
/// How often the rates are told: on a terminal, and where each telling is a line of a log.
const TERMINAL_PACE: Duration = Duration::from_millis(500);
const LOG_PACE: Duration = Duration::from_secs(60);

/// Names the frames of `camera` until it ends, enough were seen, or the user stops it; with the prompt that `renewal` finds
/// in place of an earlier one.
///
/// # Errors
/// If the camera cannot be opened, or is given up.
pub fn watch<'a>(
    camera: &CameraSource,
    classifier: &mut Classifier<'a>,
    mut renewal: Option<&mut Renewal<'a>>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (arguments, context) = (report.arguments, report.context);
    let demo = matches!(camera, CameraSource::Demo(_));
    let pace = match (arguments.every, arguments.frames) {
        (Some(every), _) => every,
        (None, None) if demo && !context.output.is_json() => DEMO_PACE,
        _ => Duration::ZERO,
    };
    let options = CameraOptions::within(arguments.camera_timeout).with_format(arguments.format);
    let mut frames = camera.open(LIVE_SEED, &options)?;
    let (failures, failed) = mpsc::channel();
    let on_change = match &arguments.exec {
        Some(command) => Some(OnChange::new(command.clone(), move |told| {
            // Nobody hears it only once watching is over.
            let _ = failures.send(told);
        })?),
        None => None,
    };
    let supervisor = Supervisor::ready();
    let stop = || {
        supervisor.alive();
        context.stopped()
    };
    let mut smoothing = Smoothing::new(arguments.smooth.unwrap_or_default());
    let mut rates = Rates::new();
    let mut last_frame = Instant::now();
    let mut watched = 0;
    while arguments.frames.is_none_or(|most| watched < most) {
        let frame = match frames.next(&stop)? {
            CameraEvent::Frame(frame) => frame,
            CameraEvent::Problem(problem) => {
                report.warn(problem);
                continue;
            }
            CameraEvent::End => break,
        };
        watched += 1;
        if let Some(renewed) = renewal.as_mut().and_then(|renewal| renewal.look(context)) {
            *classifier = renewed;
        }
        let truth = frame.label.as_deref();
        let started = Instant::now();
        let answer = classifier.classify(&frame.image)?;
        let latency = started.elapsed();
        rates.add(latency);
        let now = Instant::now();
        let answer = smoothing.add(answer, now - std::mem::replace(&mut last_frame, now));
        let change = report.picture(&Picture {
            source: &frame.source,
            frame: frame.index,
            truth: truth.filter(|name| classifier.class_of(name).is_some()),
            answer: &answer,
            latency,
        })?;
        if let (Some(on_change), Some(change)) = (&on_change, change) {
            on_change.changed(change);
        }
        failed.try_iter().for_each(|told| report.warn(told));
        rates.tell(&frames, report);
        rest(pace, &stop);
    }
    if let Some(on_change) = on_change {
        on_change.finish(context.stopped());
        failed.try_iter().for_each(|told| report.warn(told));
    }
    report.rates = Some(rates.all.in_words(rates.started.elapsed()));
    if let Some(counts) = frames.counts() {
        report.dropped = counts.dropped;
        if counts.captured == 0 && !context.stopped() {
            bail!("camera {camera} ended without a picture");
        }
    }
    Ok(())
}

/// The rates of all frames, and of those since they were last told.
struct Rates {
    started: Instant,
    all: Meter,
    told: Instant,
    since: Meter,
    pace: Duration,
}

impl Rates {
    fn new() -> Rates {
        let now = Instant::now();
        Rates {
            started: now,
            all: Meter::new(),
            told: now,
            since: Meter::new(),
            pace: match stderr().is_terminal() {
                true => TERMINAL_PACE,
                false => LOG_PACE,
            },
        }
    }

    fn add(&mut self, latency: Duration) {
        self.all.add(latency);
        self.since.add(latency);
    }

    /// Tells the rates if it is time to: on a terminal as one line that changes, else as a line of a log.
    fn tell(&mut self, frames: &Frames, report: &Report) {
        if self.told.elapsed() < self.pace {
            return;
        }
        let mut told = self.since.in_words(self.told.elapsed());
        if let Some(counts) = frames.counts() {
            told += &format!(", {} older ones dropped so far", counts.dropped);
        }
        report.status(told);
        (self.told, self.since) = (Instant::now(), Meter::new());
    }
}
