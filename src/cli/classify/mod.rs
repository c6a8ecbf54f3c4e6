//! `edge-rlp classify`: names what pictures show, from files, folders or a camera, with a prompt or zero-shot.

#[cfg(feature = "mqtt")]
pub(super) mod broker;
#[cfg(not(feature = "mqtt"))]
#[path = "no_broker.rs"]
mod broker;
mod on_change;
mod report;
mod watch;

use super::camera::{Camera, CameraArguments};
use super::regions::RegionArguments;
use super::{Context, Exit, model, usage};
use crate::classifier::{Classifier, Unknown};
use crate::clip::Model;
use crate::frames::{MAX_PIXELS, read_region};
use crate::masked::masked;
use crate::prompt::{Label, Prompt, Region, Template, labels};
use crate::store::LoadedPrompt;
use crate::watch::Renewal;
use broker::BrokerArguments;
use image::RgbImage;
use report::{Picture, Report};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").args(["paths", "camera"]))]
pub struct Arguments {
    /// Pictures, and folders of pictures
    #[arg(value_name = "PATH", conflicts_with = "camera_config")]
    paths: Vec<PathBuf>,
    /// Watch a camera: 0, /dev/video0, rtsp://HOST/PATH, http://HOST/PATH, - (motion JPEG on standard input), dir:PATH (new pictures
    /// of a folder), or demo[:CONDITION] (drawn pictures; demo:CONDITION,CONDITION takes turns)
    #[arg(long, value_name = "SRC")]
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
    /// How many of the best labels to name
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Answer "unknown" where the best label's probability is lower; 0 names every picture [default: what the prompt
    /// learnt on its held-out pictures]
    #[arg(long, value_name = "P")]
    threshold: Option<f32>,
    /// Stop after so many frames of the camera
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "paths")]
    frames: Option<u64>,
    /// Time between frames of the camera, as in 500ms, 2s or 1m
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration, conflicts_with = "every_frame")]
    every: Option<Duration>,
    /// A line for every frame of the camera, not only where the label changes
    #[arg(long, conflicts_with = "paths")]
    every_frame: bool,
    /// Average the answers of a camera over about so long, so that one odd frame changes no label
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration, conflicts_with = "paths")]
    smooth: Option<Duration>,
    /// Say that a camera shows something else only after so many answers alike
    #[arg(long, value_name = "N", conflicts_with = "paths", value_parser = clap::value_parser!(u32).range(1..))]
    confirm: Option<u32>,
    /// Run a command, by sh -c, whenever the label of a camera changes; EDGE_RLP_LABEL, EDGE_RLP_SCORE, EDGE_RLP_PREVIOUS,
    /// EDGE_RLP_SOURCE, EDGE_RLP_FRAME and EDGE_RLP_REGION say what to
    #[arg(long, value_name = "COMMAND", conflicts_with = "paths")]
    exec: Option<String>,
    /// End the command of --exec after so long, with all that it started; 0s never does
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration, default_value = "30s")]
    exec_timeout: Duration,
    /// Say so when a live camera has sent the very same picture for so long; 0s never does
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration, default_value = "5m")]
    frozen_after: Duration,
    #[command(flatten)]
    regions: RegionArguments,
    /// Name a camera's picture only when something in it changes; with a sensitivity from 1 to 100
    #[arg(long, value_name = "SENSITIVITY", num_args = 0..=1, default_missing_value = "50", value_parser = clap::value_parser!(u8).range(1..=100), conflicts_with = "paths")]
    motion: Option<u8>,
    /// With --motion, name one at least so often
    #[arg(long, requires = "motion", value_name = "DURATION", value_parser = crate::cli::duration, default_value = "30s")]
    at_least: Duration,
    /// Keep the pictures that a camera's answers were unsure of, or at which the label changed: in a folder, 200 at most,
    /// or N of them in the home folder
    #[arg(long, value_name = "DIR|N", conflicts_with = "paths")]
    keep_uncertain: Option<String>,
    /// Step back behind other programs by so much, from 0 to 19, as `nice` does
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=19))]
    pub nice: u8,
    /// Comma-separated values with a header
    #[arg(long, conflicts_with_all = ["json", "top"])]
    csv: bool,
    #[command(flatten, next_help_heading = "Camera")]
    reading: CameraArguments,
    #[command(flatten, next_help_heading = "MQTT")]
    broker: BrokerArguments,
}

impl Arguments {
    /// Whether it is a camera that is looked at.
    pub fn watches(&self) -> bool {
        self.paths.is_empty()
    }

    /// The folder of the user's that uncertain pictures are kept in.
    pub fn keeps_in(&self) -> Option<&Path> {
        let place = self.keep_uncertain.as_deref()?;
        place.parse::<usize>().is_err().then(|| Path::new(place))
    }

    /// Whether commands of the user's are run.
    pub fn runs_commands(&self) -> bool {
        self.exec.is_some()
    }
}

/// The prompt that is used where none is named.
const DEFAULT: &str = "default";
/// So many labels are named in a sentence.
const NAMED: usize = 3;

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    if let Some(threshold) = arguments.threshold
        && !(0.0..=1.0).contains(&threshold)
    {
        return Err(usage(format!(
            "--threshold {threshold}: give a probability from 0 to 1"
        )));
    }
    let source = if arguments.watches() {
        let camera = arguments.reading.camera(arguments.camera.as_deref())?;
        arguments.reading.warn(context);
        Source::Camera(camera.ok_or_else(|| {
            usage("say what to look at: pictures and folders, --camera SRC or --camera-config FILE")
        })?)
    } else {
        addresses_are_cameras(&arguments.paths)?;
        Source::Files(context.output.pictures_in(&arguments.paths)?)
    };
    let labels = arguments.labels.as_deref().map(labels::read).transpose()?;
    let prompt = prompt(&arguments, labels.is_some(), context)?;
    let model = model::open_for(arguments.model.as_deref(), prompt.as_ref(), context)?;
    // The process ends with the model: to free each of its tokeniser's pieces took 7 ms of a start.
    let model = ManuallyDrop::new(model);
    let naming = Naming {
        labels,
        prompt,
        unknown: arguments.threshold.map(Unknown::BelowProbability),
    };
    let classifier = naming.classifier(&model, context)?;
    let flags = &arguments.regions;
    let mut report = Report::new(&arguments, context);
    match source {
        Source::Files(paths) => {
            let regions = flags.of_files(naming.prompt.as_ref(), context)?;
            files(&paths, &regions, &classifier, &mut report)
        }
        Source::Camera(camera) => {
            let regions = flags.of_camera(naming.prompt.as_ref(), context)?;
            #[cfg(feature = "mqtt")]
            let reporting = arguments.broker.start(
                broker::Watched {
                    camera: &camera,
                    regions: &regions,
                    classifier: &classifier,
                    every: arguments.every,
                    prompt: naming.in_use(&arguments),
                },
                context,
            )?;
            #[cfg(not(feature = "mqtt"))]
            let reporting = None;
            let renewal = naming.renewal(&arguments, context);
            let looked_at = (&camera, regions);
            watch::watch(looked_at, classifier, renewal, (&mut report, reporting))
        }
    }?;
    report.summary();
    if let Some((done, all)) = report.cut_short.filter(|_| !context.output.is_closed()) {
        anyhow::bail!("stopped after {done} of {all} pictures");
    }
    Ok(if report.skipped > 0 {
        Exit::NothingAccepted
    } else {
        Exit::Done
    })
}

/// Those of `labels` that `record` was not trained on, for a sentence; none where there are none.
fn new_labels(record: &Prompt, labels: &[Label]) -> Option<String> {
    let new = record.new_classes(labels);
    let names = new.iter().map(|&class| labels[class].name.as_str());
    in_a_sentence(&names.collect::<Vec<_>>())
}

/// The first of some names, and how many more there are; none where there are none.
pub(in crate::cli) fn in_a_sentence(names: &[&str]) -> Option<String> {
    let (last, before) = names.split_last()?;
    Some(match before.len() {
        0 => (*last).to_owned(),
        1..NAMED => format!("{} and {last}", before.join(", ")),
        _ => {
            let more = names.len() - NAMED;
            format!("{} and {more} more", names[..NAMED].join(", "))
        }
    })
}

/// What pictures are named with; labels or a prompt are given.
struct Naming {
    /// What `--labels` holds.
    labels: Option<Vec<Label>>,
    prompt: Option<LoadedPrompt>,
    /// What replaces the prompt's own rule.
    unknown: Option<Unknown>,
}

impl Naming {
    fn classifier<'a>(
        &self,
        model: &'a Model,
        context: &Context,
    ) -> anyhow::Result<Classifier<'a>> {
        let classifier = match &self.prompt {
            Some(LoadedPrompt { record, path, .. }) => {
                let labels = self.labels.as_ref().unwrap_or(&record.labels);
                let classifier = Classifier::with_prompt_for(model, record, labels)?;
                if let Some(new) = new_labels(record, labels) {
                    context.output.note(format!(
                        "the prompt was not trained on {new}: such pictures are told by their label's words alone"
                    ));
                }
                if classifier.unknown() == Unknown::Never {
                    let then = match self.unknown {
                        Some(_) => "scores are as the model gives them",
                        None => {
                            "scores are as the model gives them, and no picture is unknown unless --threshold says so"
                        }
                    };
                    match record.calibration {
                        Some(_) => context.output.note(format!(
                            "the prompt's calibration is for the labels it was trained on, not for these: {then}"
                        )),
                        None => context
                            .output
                            .detail(format!("the prompt holds no calibration: {then}")),
                    }
                }
                context.output.detail(format!("prompt {}", path.display()));
                classifier
            }
            None => {
                let labels = self.labels.as_deref().unwrap_or_default();
                let classifier = Classifier::zero_shot(model, &Template::default(), labels)?;
                context
                    .output
                    .note("zero-shot: no prompt is in use (--prompt NAME uses one)");
                classifier
            }
        };
        if model.logit_bias.is_some() {
            context.output.note(
                "this model was trained with a sigmoid for each label by itself: the scores here are a softmax over the \
                 labels, which says what fits best, not whether any does",
            );
        }
        Ok(match self.unknown {
            Some(rule) => classifier.with_unknown(rule),
            None => classifier,
        })
    }

    /// What pictures are named with, for those that are told.
    #[cfg(feature = "mqtt")]
    fn in_use(&self, arguments: &Arguments) -> crate::mqtt::PromptInUse {
        let name = |_: &LoadedPrompt| arguments.prompt.as_deref().unwrap_or(DEFAULT).to_owned();
        let prompt = self.prompt.as_ref();
        crate::mqtt::PromptInUse {
            name: prompt.map(name),
            generation: prompt.map(|prompt| prompt.record.provenance.sequence),
        }
    }

    /// What looks out for another prompt while a camera is watched.
    fn renewal<'a>(self, arguments: &Arguments, context: &'a Context) -> Option<Renewal<'a>> {
        let source = arguments.prompt.as_deref().unwrap_or(DEFAULT);
        let mut renewal = Renewal::new(&context.home, source, self.prompt?.record);
        if let Some(labels) = self.labels {
            renewal = renewal.with_labels(labels);
        }
        if let Some(rule) = self.unknown {
            renewal = renewal.with_unknown(rule);
        }
        Some(renewal)
    }
}

/// The prompt to use: the one asked for, else the default one unless labels are given, which means none.
fn prompt(
    arguments: &Arguments,
    labels_given: bool,
    context: &Context,
) -> anyhow::Result<Option<LoadedPrompt>> {
    let name = match &arguments.prompt {
        Some(name) => name.as_str(),
        None if labels_given => return Ok(None),
        None => DEFAULT,
    };
    let loaded = match context.home.load(name) {
        Err(error) if error.is_missing_prompt() && arguments.prompt.is_none() => anyhow::bail!(
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
    Camera(Camera),
}

/// Wrong usage where an address stands among the pictures.
fn addresses_are_cameras(paths: &[PathBuf]) -> anyhow::Result<()> {
    let address = |path: &PathBuf| path.to_str().is_some_and(|path| path.contains("://"));
    match paths.iter().find(|path| address(path)) {
        Some(path) => Err(usage(format!(
            "{} is an address: say --camera before it",
            masked(&path.to_string_lossy())
        ))),
        None => Ok(()),
    }
}

/// Names each picture, or each of the `regions` of it.
fn files(
    paths: &[PathBuf],
    regions: &[Region],
    classifier: &Classifier,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut parts: Vec<Option<&Region>> = regions.iter().map(Some).collect();
    if parts.is_empty() {
        parts.push(None);
    }
    for (done, path) in paths.iter().enumerate() {
        if report.context.stopped() {
            report.cut_short = Some((done, paths.len()));
            break;
        }
        let folder = path
            .parent()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy());
        let class = folder.and_then(|name| classifier.class_of(&name));
        let truth = class.map(|class| classifier.labels()[class].name.as_str());
        let mut name = |picture: &RgbImage, region: &str| {
            let started = Instant::now();
            let answer = classifier.classify(picture)?;
            report.picture(&Picture {
                source: &path.to_string_lossy(),
                frame: 0,
                region,
                truth,
                answer: &answer,
                latency: started.elapsed(),
                changed: true,
                frozen: false,
            })
        };
        let mut unreadable = None;
        for region in &parts {
            match read_region(path, MAX_PIXELS, *region) {
                Ok(part) => name(&part, region.map_or("", |region| &region.name))?,
                Err(error) => unreadable = Some(error),
            }
        }
        if let Some(error) = unreadable {
            report.skip(&error.to_string());
        }
    }
    Ok(())
}
