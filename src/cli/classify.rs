//! `edge-rlp classify`: names what pictures show, from files, folders or a camera, with a prompt or zero-shot.

use super::output::percent;
use super::{Context, Exit, model, usage};
use crate::adapt::loss::probabilities;
use crate::clip::Model;
use crate::frames::{
    CameraOptions, CameraSource, CaptureFormat, FramesError, MAX_PIXELS, Patience, Seen,
    pictures_in, read_picture,
};
use crate::prompt::{Label, Template, labels};
use crate::store::{Loaded, StoreError};
use anyhow::bail;
use image::RgbImage;
use ndarray::{Array2, Axis};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the demo camera shows a scene to people, unless `--every` or `--frames` says otherwise.
const DEMO_PACE: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct Arguments {
    /// Pictures, and folders of pictures
    #[arg(value_name = "PATH", group = "source")]
    paths: Vec<PathBuf>,
    /// Watch a camera: 0, /dev/video0, http://HOST/PATH, - (motion JPEG on standard input), dir:PATH (new pictures
    /// of a folder), or demo[:CONDITION] (drawn pictures)
    #[arg(long, value_name = "SRC", group = "source")]
    camera: Option<String>,
    /// A prompt by name, or a prompt file [default: the prompt "default"; with --labels none, that is zero-shot]
    #[arg(long, value_name = "NAME|FILE")]
    prompt: Option<String>,
    /// The labels to choose from [default: those the prompt was trained on]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// A model of the home folder, or a bundle file [default: the one the prompt was made with; without a prompt,
    /// the one inside the program]
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
    /// How many of the best labels to tell
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Answer "unknown" where the best label's probability is lower
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    threshold: f32,
    /// What to ask a camera for [default: 640x480@30]
    #[arg(long, value_name = "WxH@FPS")]
    format: Option<CaptureFormat>,
    /// Give a camera up that has sent nothing for so long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "30s")]
    camera_timeout: Duration,
    /// Stop after so many frames of the camera
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// Time between frames of the camera, as in 500ms, 2s or 1m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "every_frame")]
    every: Option<Duration>,
    /// A line for every frame of the camera, not only where the label changes
    #[arg(long)]
    every_frame: bool,
    /// Comma-separated values with a header
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    if !(0.0..=1.0).contains(&arguments.threshold) {
        return Err(usage(format!(
            "--threshold {}: give a probability from 0 to 1",
            arguments.threshold
        )));
    }
    let source = match &arguments.camera {
        Some(source) => Source::Camera(source.parse::<CameraSource>().map_err(usage)?),
        None => Source::Files(pictures_in(&arguments.paths)?),
    };
    let labels = arguments.labels.as_deref().map(labels::read).transpose()?;
    let prompt = prompt(&arguments, labels.is_some(), context)?;
    let model = model::open_for(arguments.model.as_deref(), prompt.as_ref(), context)?;
    let classifier = Classifier::new(&model, labels, prompt, context)?;
    let mut report = Report::new(&arguments, context, &classifier.labels);
    match source {
        Source::Files(paths) => files(&paths, &classifier, &mut report),
        Source::Camera(camera) => watch(&camera, &classifier, &mut report),
    }?;
    report.summary();
    Ok(if report.skipped > 0 {
        Exit::NothingAccepted
    } else {
        Exit::Done
    })
}

/// The prompt to use: the one asked for, else the default one unless labels are given, which means none.
fn prompt(
    arguments: &Arguments,
    labels_given: bool,
    context: &Context,
) -> anyhow::Result<Option<Loaded>> {
    let name = match &arguments.prompt {
        Some(name) => name.as_str(),
        None if labels_given => return Ok(None),
        None => "default",
    };
    let loaded = match context.home.load(name) {
        Err(StoreError::NotFound { .. }) if arguments.prompt.is_none() => anyhow::bail!(
            "there is no prompt yet: make one with \"edge-rlp adapt\", or name the labels with --labels FILE"
        ),
        loaded => loaded?,
    };
    if let Some(warning) = &loaded.warning {
        context.output.warn(warning);
    }
    Ok(Some(loaded))
}

enum Source {
    Files(Vec<PathBuf>),
    Camera(CameraSource),
}

fn files(paths: &[PathBuf], classifier: &Classifier, report: &mut Report) -> anyhow::Result<()> {
    for path in paths {
        if report.context.stopped() {
            break;
        }
        let picture = match read_picture(path, MAX_PIXELS) {
            Ok(picture) => picture,
            Err(error) => {
                report.skip(&error.to_string());
                continue;
            }
        };
        let folder = path
            .parent()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy());
        let truth = folder.and_then(|name| {
            classifier
                .labels
                .iter()
                .position(|label| label.name == name)
        });
        report.picture(
            &path.to_string_lossy(),
            0,
            truth,
            classifier.classify(&picture)?,
        )?;
    }
    Ok(())
}

fn watch(
    camera: &CameraSource,
    classifier: &Classifier,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (arguments, context) = (report.arguments, report.context);
    let demo = matches!(camera, CameraSource::Demo(_));
    let pace = match (arguments.every, arguments.frames) {
        (Some(every), _) => every,
        (None, None) if demo && !context.output.is_json() => DEMO_PACE,
        _ => Duration::ZERO,
    };
    let options = CameraOptions {
        format: arguments.format,
        patience: Patience::within(arguments.camera_timeout),
    };
    let mut frames = camera
        .open(LIVE_SEED, &options)
        .map_err(|error| match error {
            FramesError::NotVideo { .. } => usage(error),
            error => error.into(),
        })?;
    let mut watched = 0;
    while arguments.frames.is_none_or(|most| watched < most) {
        let frame = match frames.next(&|| context.stopped())? {
            Seen::Frame(frame) => frame,
            Seen::Trouble(told) => {
                context.output.warn(told);
                continue;
            }
            Seen::End => break,
        };
        watched += 1;
        let truth = classifier
            .labels
            .iter()
            .position(|label| Some(&label.name) == frame.label.as_ref());
        let answer = classifier.classify(&frame.image)?;
        report.picture(&frame.source, frame.index, truth, answer)?;
        rest(pace, context);
    }
    if let Some((captured, dropped)) = frames.counts() {
        report.dropped = dropped;
        if captured == 0 && !context.stopped() {
            bail!("camera {camera} ended without a picture");
        }
    }
    Ok(())
}

/// Sleeps for `pace`, unless asked to stop.
fn rest(pace: Duration, context: &Context) {
    let end = Instant::now() + pace;
    while !context.stopped() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// The live demo camera's scenes: not those that `adapt --camera demo` learns from.
const LIVE_SEED: u64 = 1_000_000;

/// Labels as text features, ready for pictures.
struct Classifier<'a> {
    model: &'a Model,
    labels: Vec<Label>,
    /// `[classes, joint]`.
    texts: Array2<f32>,
}

struct Answer {
    /// Classes and their probabilities, best first.
    ranking: Vec<(usize, f32)>,
    latency: Duration,
}

impl<'a> Classifier<'a> {
    fn new(
        model: &'a Model,
        labels: Option<Vec<Label>>,
        prompt: Option<Loaded>,
        context: &Context,
    ) -> anyhow::Result<Classifier<'a>> {
        let template = prompt
            .as_ref()
            .map_or_else(Template::default, |loaded| loaded.record.template.clone());
        let labels = match (labels, &prompt) {
            (Some(labels), _) => labels,
            (None, Some(loaded)) => loaded.record.labels.clone(),
            (None, None) => unreachable!("without labels a prompt was loaded"),
        };
        let layout = model::layout(model, &template, &labels)?;
        let mut rows = model.text.token_rows(&layout.context)?;
        match &prompt {
            Some(loaded) => {
                context
                    .output
                    .detail(format!("prompt {}", loaded.path.display()));
                rows += &loaded.record.delta.matrix();
            }
            None => context
                .output
                .note("zero-shot: no prompt is in use (--prompt NAME uses one)"),
        }
        let texts = model.text.class_features(rows.view(), &layout.suffixes)?;
        Ok(Classifier {
            model,
            labels,
            texts,
        })
    }

    fn classify(&self, picture: &RgbImage) -> anyhow::Result<Answer> {
        let started = Instant::now();
        let feature = self.model.encode_image(picture)?.insert_axis(Axis(0));
        let scores = probabilities(feature.view(), self.texts.view(), self.model.logit_scale);
        let latency = started.elapsed();
        let mut ranking: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
        ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(Answer { ranking, latency })
    }
}

/// Prints answers and counts them.
struct Report<'a> {
    arguments: &'a Arguments,
    context: &'a Context,
    labels: &'a [Label],
    /// What the line before said, to tell only changes.
    last: Option<String>,
    pictures: usize,
    skipped: usize,
    /// Frames of a live camera that came while another was being named.
    dropped: u64,
    /// Pictures whose right label is known, and how many of those were named so.
    judged: usize,
    right: usize,
    busy: Duration,
}

impl<'a> Report<'a> {
    fn new(arguments: &'a Arguments, context: &'a Context, labels: &'a [Label]) -> Report<'a> {
        if arguments.csv {
            context
                .output
                .line("source,frame,label,score,unknown,latency_ms");
        }
        Report {
            arguments,
            context,
            labels,
            last: None,
            pictures: 0,
            skipped: 0,
            dropped: 0,
            judged: 0,
            right: 0,
            busy: Duration::ZERO,
        }
    }

    fn skip(&mut self, reason: &str) {
        self.skipped += 1;
        self.context.output.warn(format!("{reason}; skipped"));
    }

    /// One answer; `truth` is the class that the folder's name or the demo camera gives.
    fn picture(
        &mut self,
        source: &str,
        frame: u64,
        truth: Option<usize>,
        answer: Answer,
    ) -> anyhow::Result<()> {
        let (class, score) = answer.ranking[0];
        let unknown = score < self.arguments.threshold;
        let label = if unknown {
            "unknown"
        } else {
            &self.labels[class].name
        };
        let latency = answer.latency.as_secs_f64() * 1e3;
        self.pictures += 1;
        self.busy += answer.latency;
        self.judged += usize::from(truth.is_some());
        self.right += usize::from(truth == Some(class) && !unknown);

        let top = &answer.ranking[..(self.arguments.top as usize).min(answer.ranking.len())];
        let output = &self.context.output;
        if output.is_json() {
            let top: Vec<_> = top
                .iter()
                .map(|&(class, score)| json!({ "label": self.labels[class].name, "score": score }))
                .collect();
            output.object(&json!({
                "source": source,
                "frame": frame,
                "label": label,
                "score": score,
                "top": top,
                "unknown": unknown,
                "latency_ms": latency,
                "truth": truth.map(|class| &self.labels[class].name),
            }))?;
        } else if self.arguments.csv {
            let (source, label) = (csv_field(source), csv_field(label));
            output.line(format!(
                "{source},{frame},{label},{score},{unknown},{latency:.3}"
            ));
        } else if self.arguments.camera.is_none()
            || self.arguments.every_frame
            || self.changes(label)
        {
            let place = match self.arguments.camera {
                Some(_) => format!("{source} #{frame}"),
                None => source.to_owned(),
            };
            let others = top
                .iter()
                .skip(1)
                .map(|&(class, score)| format!("{} {}", self.labels[class].name, percent(score)));
            let named = std::iter::once(format!("{label} {}", percent(score)))
                .chain(others)
                .collect::<Vec<_>>();
            output.line(format!("{place}  {}", named.join(", ")));
        }
        Ok(())
    }

    fn changes(&mut self, label: &str) -> bool {
        let changed = self.last.as_deref() != Some(label);
        self.last = Some(label.to_owned());
        changed
    }

    fn summary(&self) {
        if self.pictures == 0 {
            return;
        }
        let each = self.busy.as_secs_f64() * 1e3 / self.pictures as f64;
        let mut told = format!("{} pictures, {each:.1} ms each", self.pictures);
        if self.judged > 0 {
            let known = if self.arguments.camera.is_some() {
                "drawn"
            } else {
                "folders'"
            };
            let share = percent(self.right as f32 / self.judged as f32);
            told += &format!(
                "; {} of {} agree with the {known} labels ({share})",
                self.right, self.judged
            );
        }
        if self.dropped > 0 {
            told += &format!("; {} older frames dropped", self.dropped);
        }
        if self.skipped > 0 {
            told += &format!("; {} could not be read", self.skipped);
        }
        self.context.output.note(told);
    }
}

/// A field of comma-separated values, quoted where it must be (RFC 4180).
fn csv_field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_fields_are_quoted_only_where_they_must_be() {
        assert_eq!(csv_field("a b.png"), "a b.png");
        assert_eq!(csv_field("a,\"b\".png"), "\"a,\"\"b\"\".png\"");
    }
}
