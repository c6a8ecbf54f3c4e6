//! `classify --camera`: what watching a camera yields goes to the report, and changes of label to the user's command.

use super::broker::Reporting;
use super::on_change::{Job, OnChange};
use super::report::{Picture, Report};
use crate::classifier::Classifier;
use crate::cli::camera::Camera;
use crate::cli::output::{count, percent};
use crate::cli::sentence;
use crate::cli::shots::Retention;
use crate::cli::usage;
use crate::frames::{CameraProblem, CameraSource, CaptureCounts, Delivery};
use crate::host::supervisor::Supervisor;
use crate::prompt::{Label, Region};
use crate::store::KeptPictures;
use crate::watch::motion::Sensitivity;
use crate::watch::{
    Event, Liveness, Meter, MotionGate, PromptChange, Renewal, Uncertain, Watch, WatchOptions,
};
use anyhow::bail;
use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// How often the demo camera shows a scene to people, unless `--every` or `--frames` says otherwise.
const DEMO_PACE: Duration = Duration::from_millis(500);
/// The live demo camera's scenes: not those that `adapt --camera demo` learns from.
const LIVE_SEED: u64 = 1_000_000;
/// How often the rates are reported: on a terminal, and where each report is a line of a log.
const TERMINAL_PACE: Duration = Duration::from_millis(500);
const LOG_PACE: Duration = Duration::from_secs(60);

/// Names the frames of `camera` until it ends, enough were seen, or the user stops it; with the prompt that `renewal` finds
/// in place of an earlier one.
///
/// # Errors
/// If the camera cannot be opened, or is given up.
pub fn watch<'a>(
    (camera, regions): (&Camera, Vec<Region>),
    classifier: Classifier<'a>,
    renewal: Option<Renewal<'a>>,
    (report, reporting): (&mut Report, Option<Reporting>),
) -> anyhow::Result<()> {
    let (arguments, context) = (report.arguments, report.context);
    let delivery = if arguments.every_frame {
        Delivery::Every
    } else {
        Delivery::Newest
    };
    let options = camera
        .options
        .with_delivery(delivery)
        .with_interval(arguments.every.unwrap_or_default());
    let mut frames = camera.source.open(LIVE_SEED, &options)?;
    let (failures, failed) = mpsc::channel();
    let supervisor = Supervisor::starting();
    let consumers = Consumers {
        on_change: on_change(classifier.labels(), failures, report)?,
        failed,
        reporting,
        uncertain: uncertain(report)?,
        supervisor: &supervisor,
        rates: Rates::new(),
        camera,
        report,
    };
    if matches!(camera.source, CameraSource::Folder(_)) {
        // Nobody may put a picture into a folder for days, and nothing is wrong then.
        supervisor.ready();
    }
    let stop = || {
        supervisor.alive();
        context.stopped()
    };
    let options = options_of(&camera.source, regions, consumers.report);
    let mut watch = Watch::new(&mut frames, classifier, renewal, options);
    let retention = Retention::new(context);
    consumers.follow(&mut watch, &retention, &stop)
}

/// Who hears what watching yields.
struct Consumers<'c, 'r> {
    camera: &'c Camera,
    report: &'c mut Report<'r>,
    supervisor: &'c Supervisor,
    reporting: Option<Reporting>,
    on_change: Option<OnChange>,
    /// What went wrong with the command for changes.
    failed: Receiver<String>,
    uncertain: Option<Uncertain>,
    rates: Rates,
}

impl Consumers<'_, '_> {
    /// Hands on every event of `watch` to its end.
    fn follow(
        mut self,
        watch: &mut Watch,
        retention: &Retention,
        stop: &dyn Fn() -> bool,
    ) -> anyhow::Result<()> {
        loop {
            match retention.apply() {
                Ok(removed) => removed.into_iter().for_each(|said| self.report.note(said)),
                Err(error) => self.report.warn(sentence(&error)),
            }
            let event = match watch.next(stop) {
                Ok(event) => event,
                Err(error) => {
                    if let Some(mut reporting) = self.reporting {
                        reporting.given_up(&error.to_string());
                        tell(reporting.finish(), self.report);
                    }
                    return Err(error.into());
                }
            };
            if let Some(reporting) = &mut self.reporting {
                reporting.report(&event);
                tell(reporting.news(), self.report);
            }
            match event {
                Event::Ended => break,
                event => self.hear(event, watch.counts())?,
            }
            let failed = self.failed.try_iter();
            failed.for_each(|message| self.report.warn(message));
        }
        self.finish(watch)
    }

    fn hear(&mut self, event: Event, counts: Option<CaptureCounts>) -> anyhow::Result<()> {
        match event {
            Event::Named(named) => {
                self.supervisor.ready();
                self.rates.add(named.frame.index, named.latency);
                self.report.picture(&Picture::of(&named))?;
                if let Some(uncertain) = &mut self.uncertain
                    && let Err(error) = uncertain.offer(&named, Instant::now())
                {
                    self.report.warn(format!(
                        "a picture that is worth labelling was not kept: {error}"
                    ));
                }
                if let (Some(on_change), Some(change)) = (&self.on_change, named.change) {
                    on_change.changed(change);
                }
                self.rates.report(counts, self.report);
            }
            Event::Still(_) => self.rates.report(counts, self.report),
            Event::Prompt(change) => say(&change, self.report),
            Event::Liveness(liveness) => {
                let words = format!("camera {} {liveness}", self.camera.source);
                match liveness {
                    Liveness::Frozen(_) => self.report.warn(&words),
                    Liveness::Moving(_) => self.report.note(&words),
                }
                self.supervisor.status(&words);
            }
            Event::Problem(problem) => {
                // One of a file will not be followed by a better one of the same.
                if self.camera.source.is_recorded() {
                    self.report.skipped += match &problem {
                        CameraProblem::Repeated { more, .. } => *more as usize,
                        _ => 1,
                    };
                }
                self.report.warn(problem);
            }
            Event::Ended => {}
        }
        Ok(())
    }

    /// Waits for who is not done yet, and says what it came to.
    fn finish(self, watch: &Watch) -> anyhow::Result<()> {
        let report = self.report;
        let stopped = report.context.stopped();
        if let Some(on_change) = self.on_change {
            on_change.finish(stopped);
            self.failed
                .try_iter()
                .for_each(|message| report.warn(message));
        }
        if let Some(reporting) = self.reporting {
            tell(reporting.finish(), report);
        }
        report.rates = Some(in_words(&self.rates.all, self.rates.started.elapsed()));
        if let Some(uncertain) = self.uncertain.filter(|uncertain| uncertain.count() > 0) {
            let (count, folder) = (uncertain.count(), uncertain.folder().display());
            let were = match count {
                1 => "a picture that is worth labelling was".to_owned(),
                _ => format!("{count} pictures that are worth labelling were"),
            };
            report.note(format!(
                "{were} kept in {folder}: `edge-rlp adapt --shots-from {folder}` labels them"
            ));
        }
        if report.arguments.motion.is_some() {
            let savings = watch.savings();
            report.saved = Some(format!(
                "{} not named, for nothing changed in them: {} less time for naming ({:.1} s saved)",
                savings.still,
                percent(savings.share() as f32),
                savings.saved().as_secs_f64()
            ));
        }
        if let Some(counts) = watch.counts() {
            report.dropped = counts.dropped;
            if counts.captured == 0 && !stopped {
                bail!("camera {} ended without a picture", self.camera.source);
            }
        }
        Ok(())
    }
}

/// Says what there is to say of a broker: warnings, and what else there is.
fn tell(news: impl IntoIterator<Item = (bool, String)>, report: &Report) {
    for (is_warning, words) in news {
        if is_warning {
            report.warn(words);
        } else {
            report.note(words);
        }
    }
}

/// The user's command for changes to one of `labels`, if there is one; `failures` hears of what goes wrong with it.
fn on_change(
    labels: &[Label],
    failures: Sender<String>,
    report: &Report,
) -> anyhow::Result<Option<OnChange>> {
    let Some(command) = &report.arguments.exec else {
        return Ok(None);
    };
    if let Some(label) = labels.iter().find(|label| label.name.starts_with('-')) {
        report.warn(format!(
            "the label {:?} begins with -: write -- before \"$EDGE_RLP_LABEL\" in the command of --exec, or it is taken for an option",
            label.name
        ));
    }
    let job = Job {
        command: command.clone(),
        timeout: report.arguments.exec_timeout,
    };
    let on_change = OnChange::new(job, move |message| {
        // Nobody listens once watching is over.
        let _ = failures.send(message);
    })?;
    Ok(Some(on_change))
}

/// What keeps uncertain pictures, if that is asked for.
fn uncertain(report: &Report) -> anyhow::Result<Option<Uncertain>> {
    let Some(place) = &report.arguments.keep_uncertain else {
        return Ok(None);
    };
    let kept = match place.parse::<usize>() {
        Ok(0) => return Err(usage("--keep-uncertain 0 keeps nothing: leave it out")),
        Ok(most) => KeptPictures::uncertain(&report.context.home, most),
        // With a separator, so that it is no name of a prompt to whoever labels them.
        Err(_) => KeptPictures::new(
            &Path::new(".").join(place),
            KeptPictures::MOST,
            KeptPictures::BYTES,
        ),
    };
    Ok(Some(Uncertain::new(kept)))
}

fn options_of(camera: &CameraSource, regions: Vec<Region>, report: &Report) -> WatchOptions {
    let (arguments, output) = (report.arguments, &report.context.output);
    let demo = matches!(camera, CameraSource::Demo(_));
    WatchOptions {
        smooth: arguments.smooth.unwrap_or_default(),
        confirm: arguments.confirm.unwrap_or(1) as usize,
        frames: arguments.frames,
        regions,
        motion: arguments
            .motion
            .and_then(Sensitivity::new)
            .map(|sensitivity| MotionGate {
                sensitivity,
                at_least: arguments.at_least,
            }),
        frozen_after: Some(arguments.frozen_after).filter(|after| !after.is_zero()),
        pace: match (arguments.every, arguments.frames) {
            (Some(every), _) => every,
            (None, None) if demo && !output.is_json() => DEMO_PACE,
            _ => Duration::ZERO,
        },
    }
}

fn say(change: &PromptChange, report: &Report) {
    let prompt = report.arguments.prompt.as_deref();
    let prompt = prompt.unwrap_or(super::DEFAULT);
    let again = "start again to use it";
    match change {
        PromptChange::InUse { sequence } => report.note(format!(
            "prompt {prompt}, generation {sequence}, is in use from here on"
        )),
        PromptChange::OtherModel => report.warn(format!(
            "prompt {prompt} is now one for another model: {again}"
        )),
        PromptChange::OtherLabels => {
            report.warn(format!("prompt {prompt} now has other labels: {again}"));
        }
        PromptChange::Unusable(error) => report.warn(format!(
            "prompt {prompt} cannot be used as it is now: {error}"
        )),
    }
}

/// The rates of all frames, and of those since they were last reported.
struct Rates {
    started: Instant,
    all: Meter,
    /// The newest frame: each of its regions is an answer of its own.
    frame: Option<u64>,
    reported: Instant,
    since: Meter,
    pace: Duration,
}

impl Rates {
    fn new() -> Rates {
        let now = Instant::now();
        let terminal = stderr().is_terminal();
        Rates {
            started: now,
            all: Meter::default(),
            frame: None,
            reported: now,
            since: Meter::default(),
            pace: if terminal { TERMINAL_PACE } else { LOG_PACE },
        }
    }

    fn add(&mut self, frame: u64, latency: Duration) {
        if self.frame.replace(frame) == Some(frame) {
            return;
        }
        self.all.add(latency);
        self.since.add(latency);
    }

    /// Reports the rates if it is time to: on a terminal as one line that changes, else as a line of a log. `counts` are
    /// the frames that a live camera captured and dropped.
    fn report(&mut self, counts: Option<CaptureCounts>, report: &Report) {
        if self.reported.elapsed() < self.pace {
            return;
        }
        let mut words = in_words(&self.since, self.reported.elapsed());
        if let Some(counts) = counts {
            words += &format!(", {} older ones dropped so far", counts.dropped);
        }
        report.status(words);
        (self.reported, self.since) = (Instant::now(), Meter::default());
    }
}

/// For people, with the rate over `elapsed`.
fn in_words(meter: &Meter, elapsed: Duration) -> String {
    let rate = meter.frames() as f64 / elapsed.as_secs_f64().max(1e-9);
    let milliseconds = |share| meter.quantile(share).as_secs_f64() * 1e3;
    format!(
        "{}, {rate:.1} a second, latency {:.1} ms (median), {:.1} ms (95 %)",
        count(meter.frames(), "frame"),
        milliseconds(0.5),
        milliseconds(0.95)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_frames_by_time() {
        let mut meter = Meter::default();
        (0..1000).for_each(|_| meter.add(Duration::from_millis(5)));
        let words = in_words(&meter, Duration::from_secs(100));
        assert!(words.contains("1000 frames, 10.0 a second"), "{words}");
    }
}
