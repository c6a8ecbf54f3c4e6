//! `edge-rlp eval`: how good a prompt or a method is, by the protocols of the papers. Flags become data sets, trials
//! and a list of methods; features are extracted once and shared by all of them.

pub(super) mod evaluation;
mod features;
pub(super) mod summary;

use super::output::check_replaced;
use super::regions::RegionArguments;
use super::report::Thumbnails;
use super::report::texts::Language;
use super::{Context, Exit, model, report, usage};
use crate::adapt::{MIN_LABELS, check_labels};
use crate::evaluate::data_set::{DataSet, Reading};
use crate::evaluate::{FitOptions, Method};
use crate::prompt::{Region, Template, labels};
use crate::store::LoadedPrompt;
use crate::store::atomic::{self, Replace};
use crate::store::file_system::{Access, Disk};
use anyhow::Context as _;
use clap::ValueEnum;
use evaluation::Evaluation;
use std::path::{Path, PathBuf};
use summary::Summary;

#[derive(clap::Args)]
pub struct Arguments {
    /// One sub-folder of pictures a label, in DIR or in DIR/train and DIR/test; or a data set with a split_zhou_*.json
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// One label a line [default: the folder's labels.txt or sub-folders; with --prompt, those it was trained on]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    regions: RegionArguments,
    /// A prompt to judge, by name or file, beside zero-shot
    #[arg(long, value_name = "NAME|FILE")]
    prompt: Option<String>,
    /// holdout: train and test; base-to-new: train on half of the labels, test on each half; few-shot: more and more
    /// shots; cross: train here, test on each --target
    #[arg(long, value_enum, default_value = "holdout")]
    protocol: Protocol,
    /// Methods to train and compare, comma-separated: zero-shot, rlp, rlp+gda, auto, coop, kgcoop, tip, ncm, gda, or
    /// all [default: all; with --prompt, zero-shot]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    methods: Vec<String>,
    /// Pictures of each label to train on, comma-separated in few-shot [default: 16; 1,2,4,8,16 in few-shot; all in
    /// holdout]
    #[arg(long, value_name = "K", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    shots: Vec<u32>,
    /// How often to draw shots and train: seeds 1 to N
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Another data set to test on, for cross; may be repeated
    #[arg(long, value_name = "DIR")]
    target: Vec<PathBuf>,
    /// A split file of CoOp's [default: the one in DIR]
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
    /// Share of each label's pictures to test on where there is no DIR/test; a prompt alone is judged on all
    #[arg(long, value_name = "F", default_value_t = 0.5)]
    holdout: f32,
    /// A model of the home folder, or a bundle file [default: the one inside the program]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The sentence labels stand in [default: "a photo of a {}.", or the prompt's]
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt")]
    template: Option<String>,
    /// Rank of rlp's factors [default: as adapt]
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Training steps of the prompts [default: as adapt]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Views of each picture to train on: itself and random crops
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    views: u32,
    /// Write a self-contained page with plots
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Put small copies of the pictures that were named wrong into the page
    #[arg(long, requires = "report")]
    thumbnails: bool,
    /// What the page is written in
    #[arg(long, value_enum, default_value = "en", requires = "report")]
    language: Language,
}

impl Arguments {
    /// The folder that the report is written into.
    pub fn report_folder(&self) -> Option<&Path> {
        let folder = self.report.as_deref()?.parent()?;
        Some(if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Holdout,
    BaseToNew,
    FewShot,
    Cross,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Holdout => "holdout",
            Protocol::BaseToNew => "base-to-new",
            Protocol::FewShot => "few-shot",
            Protocol::Cross => "cross",
        }
    }
}

/// What the flags mean, all checked before the first picture is read.
pub struct Configuration {
    pub protocol: Protocol,
    pub methods: Vec<Method>,
    /// Shots a class of each trial; none is all.
    pub shots: Vec<Option<usize>>,
    pub seeds: Vec<u64>,
    pub options: FitOptions,
    /// Views of each picture to train on.
    pub views: usize,
    pub template: Template,
    /// What is cut out of each picture; each region of one is a picture of its label.
    pub regions: Vec<Region>,
    pub prompt: Option<(String, LoadedPrompt)>,
}

impl Configuration {
    fn new(arguments: &Arguments, context: &Context) -> anyhow::Result<Configuration> {
        if !(arguments.holdout > 0.0 && arguments.holdout < 1.0) {
            return Err(usage(format!(
                "--holdout {}: give a share between 0 and 1",
                arguments.holdout
            )));
        }
        let protocol = arguments.protocol;
        if (protocol == Protocol::Cross) == arguments.target.is_empty() {
            return Err(usage(match protocol {
                Protocol::Cross => {
                    "--protocol cross tests on other data sets: name them with --target DIR"
                }
                _ => "--target belongs to --protocol cross",
            }));
        }
        if protocol != Protocol::FewShot && arguments.shots.len() > 1 {
            return Err(usage("several --shots belong to --protocol few-shot"));
        }
        let prompt = arguments.prompt.as_deref();
        let prompt = prompt.map(|name| load(name, context)).transpose()?;
        let template = match (&arguments.template, &prompt) {
            (Some(text), _) => Template::parse(text).map_err(usage)?,
            (None, Some((_, loaded))) => loaded.record.template.clone(),
            (None, None) => Template::default(),
        };
        let default: &[Method] = match prompt {
            Some(_) => &[Method::ZeroShot],
            None => &Method::ALL,
        };
        let methods = methods(&arguments.methods, default)?;
        let judged = prompt.as_ref().map(|(_, loaded)| loaded);
        let regions = arguments.regions.of_files(judged, context)?;
        // Nothing that is drawn by a seed is used.
        let fixed = methods == [Method::ZeroShot];
        Ok(Configuration {
            protocol,
            shots: if fixed {
                vec![None]
            } else {
                shots(protocol, &arguments.shots)
            },
            seeds: if fixed {
                vec![1]
            } else {
                (1..=arguments.seeds).collect()
            },
            methods,
            options: FitOptions {
                rank: arguments.rank,
                steps: arguments.steps.map(|steps| steps as usize),
                seed: 0,
            },
            views: arguments.views as usize,
            template,
            regions,
            prompt,
        })
    }

    /// The seed and the shots of every trial.
    fn draws(&self) -> Vec<(u64, Option<usize>)> {
        let of = |&shots: &Option<usize>| self.seeds.iter().map(move |&seed| (seed, shots));
        self.shots.iter().flat_map(of).collect()
    }

    /// Whether any method learns from pictures.
    fn trains(&self) -> bool {
        self.methods != [Method::ZeroShot]
    }
}

/// A prompt and what it is called.
fn load(name: &str, context: &Context) -> anyhow::Result<(String, LoadedPrompt)> {
    let loaded = context.home.load(name)?;
    if let Some(warning) = &loaded.warning {
        context.output.warn(warning);
    }
    Ok((name.to_owned(), loaded))
}

/// Each of `all` where it first occurs: what is tried twice with one seed is one trial.
fn once<T: PartialEq>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// Shots a class of each trial, none being all.
fn shots(protocol: Protocol, given: &[u32]) -> Vec<Option<usize>> {
    match (protocol, given) {
        (Protocol::Holdout, []) => vec![None],
        (Protocol::FewShot, []) => [1, 2, 4, 8, 16].map(Some).to_vec(),
        (_, []) => vec![Some(16)],
        (_, given) => once(given.iter().map(|&shots| Some(shots as usize))),
    }
}

/// The methods called `names`, with `default` where there are none.
fn methods(names: &[String], default: &[Method]) -> anyhow::Result<Vec<Method>> {
    let mut methods: Vec<Method> = match names {
        [] => default.to_vec(),
        names => {
            let mut parsed = Vec::new();
            for name in names.iter().map(|name| name.trim()) {
                match name {
                    "all" => parsed.extend(Method::ALL),
                    name => parsed.push(name.parse().map_err(usage)?),
                }
            }
            once(parsed)
        }
    };
    // Everything is read beside the plain template.
    if !methods.contains(&Method::ZeroShot) {
        methods.insert(0, Method::ZeroShot);
    }
    Ok(methods)
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let configuration = Configuration::new(&arguments, context)?;
    let unwritable = |path: &Path| format!("{}: cannot be written", path.display());
    if let Some(path) = &arguments.report {
        check_replaced(path, "a report", |begin| {
            begin.starts_with(b"<!doctype html>")
        })?;
        atomic::check_over(&Disk, path, Replace::File).with_context(|| unwritable(path))?;
    }
    let source = source(&arguments, &configuration, context)?;
    let targets = targets(&arguments, context)?;
    let prompt = configuration.prompt.as_ref().map(|(_, loaded)| loaded);
    let model = model::open_for(arguments.model.as_deref(), prompt, context)?;
    let evaluation = Evaluation::prepare(configuration, source, targets, &model, context)?;
    let results = evaluation.run(context)?;
    let summary = Summary::new(&evaluation, &results);
    if let Some(path) = &arguments.report {
        let thumbnails = if arguments.thumbnails {
            Thumbnails::Shown
        } else {
            Thumbnails::LeftOut
        };
        let page = report::page(&summary, thumbnails, arguments.language)?;
        // For this account alone: it names the pictures, and may show some.
        atomic::write_over(&Disk, path, page.as_bytes(), Replace::File, Access::Owner)
            .with_context(|| unwritable(path))?;
        context.output.note(format!("report: {}", path.display()));
    }
    context.output.object(&summary.json())?;
    for line in summary.table() {
        context.output.line(line);
    }
    let skipped = evaluation.skipped();
    if skipped > 0 {
        context
            .output
            .warn(format!("{skipped} pictures could not be read"));
        return Ok(Exit::NothingAccepted);
    }
    Ok(Exit::Done)
}

fn source(
    arguments: &Arguments,
    configuration: &Configuration,
    context: &Context,
) -> anyhow::Result<DataSet> {
    let given = arguments.labels.as_deref().map(labels::read).transpose()?;
    let of_prompt = match (&configuration.prompt, configuration.protocol) {
        (Some((_, loaded)), Protocol::Holdout) => Some(loaded.record.labels.clone()),
        _ => None,
    };
    let reading = Reading {
        labels: given.or(of_prompt),
        split: arguments.split.as_deref(),
        holdout: if configuration.trains() {
            arguments.holdout
        } else {
            1.0
        },
    };
    let source = DataSet::open(&arguments.images, reading)?;
    context.output.unused_folders(&source.unused);
    context.output.left_out(&source.left_out);
    check_labels(&source.labels)?;
    if configuration.protocol == Protocol::BaseToNew && source.labels.len() < 2 * MIN_LABELS {
        return Err(usage(format!(
            "--protocol base-to-new needs two labels in each half: {} has {}",
            source.name,
            source.labels.len()
        )));
    }
    Ok(source)
}

fn targets(arguments: &Arguments, context: &Context) -> anyhow::Result<Vec<DataSet>> {
    let open = |dir: &PathBuf| {
        let everything = Reading {
            labels: None,
            split: None,
            holdout: 1.0,
        };
        let target = DataSet::open(dir, everything)?;
        context.output.unused_folders(&target.unused);
        context.output.left_out(&target.left_out);
        Ok(target)
    };
    arguments.target.iter().map(open).collect()
}
