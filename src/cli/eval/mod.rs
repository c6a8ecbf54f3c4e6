//! `edge-rlp eval`: how good a prompt or a method is, by the protocols of the papers. Flags become data sets, trials
//! and a list of methods; features are extracted once and shared by all of them.

mod data_set;
pub(super) mod evaluation;
pub(super) mod summary;

use super::{Context, Exit, model, report, usage};
use crate::adapt::AdaptError;
use crate::evaluate::{FitOptions, Technique};
use crate::prompt::{Template, labels};
use crate::store::{LoadedPrompt, atomic, file_system::Disk};
use anyhow::Context as _;
use clap::ValueEnum;
use data_set::{DataSet, Reading};
use evaluation::Evaluation;
use std::path::PathBuf;
use summary::Summary;

#[derive(clap::Args)]
pub struct Arguments {
    /// One sub-folder of pictures a label, in DIR or in DIR/train and DIR/test; or a data set with a split_zhou_*.json
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// One label a line [default: the folder's labels.txt or sub-folders; with --prompt, those it was trained on]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// A prompt to judge, by name or file, beside zero-shot
    #[arg(long, value_name = "NAME|FILE")]
    prompt: Option<String>,
    /// holdout: train and test; base-to-new: train on half of the labels, test on each half; few-shot: more and more
    /// shots; cross: train here, test on each --target
    #[arg(long, value_enum, default_value = "holdout")]
    protocol: Protocol,
    /// Methods to train and compare, comma-separated: zero-shot, rlp, coop, kgcoop, tip, ncm, gda, or all [default:
    /// all; with --prompt, zero-shot]
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
pub struct Plan {
    pub protocol: Protocol,
    pub techniques: Vec<Technique>,
    /// Shots a class of each trial; none is all.
    pub shots: Vec<Option<usize>>,
    pub seeds: Vec<u64>,
    pub options: FitOptions,
    pub template: Template,
    pub prompt: Option<(String, LoadedPrompt)>,
}

impl Plan {
    fn new(arguments: &Arguments, context: &Context) -> anyhow::Result<Plan> {
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
        let shots: Vec<Option<usize>> = match (protocol, arguments.shots.as_slice()) {
            (Protocol::Holdout, []) => vec![None],
            (Protocol::FewShot, []) => [1, 2, 4, 8, 16].map(Some).to_vec(),
            (_, []) => vec![Some(16)],
            (_, given) => given.iter().map(|&shots| Some(shots as usize)).collect(),
        };
        let prompt = match &arguments.prompt {
            Some(name) => {
                let loaded = context.home.load(name)?;
                if let Some(warning) = &loaded.warning {
                    context.output.warn(warning);
                }
                Some((name.clone(), loaded))
            }
            None => None,
        };
        let template = match (&arguments.template, &prompt) {
            (Some(text), _) => Template::parse(text).map_err(usage)?,
            (None, Some((_, loaded))) => loaded.record.template.clone(),
            (None, None) => Template::default(),
        };
        let techniques = techniques(&arguments.methods, prompt.is_some())?;
        // Nothing that is drawn by a seed is used.
        let fixed = techniques == [Technique::ZeroShot];
        Ok(Plan {
            protocol,
            shots: if fixed { vec![None] } else { shots },
            seeds: if fixed {
                vec![1]
            } else {
                (1..=arguments.seeds).collect()
            },
            techniques,
            options: FitOptions {
                rank: arguments.rank,
                steps: arguments.steps.map(|steps| steps as usize),
                seed: 0,
            },
            template,
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
        self.techniques != [Technique::ZeroShot]
    }
}

fn techniques(names: &[String], prompt: bool) -> anyhow::Result<Vec<Technique>> {
    let mut techniques: Vec<Technique> = match names {
        [] if prompt => vec![Technique::ZeroShot],
        [] => Technique::ALL.to_vec(),
        [all] if all == "all" => Technique::ALL.to_vec(),
        names => names
            .iter()
            .map(|name| name.trim().parse().map_err(usage))
            .collect::<anyhow::Result<_>>()?,
    };
    // Everything is read beside the plain template.
    if !techniques.contains(&Technique::ZeroShot) {
        techniques.insert(0, Technique::ZeroShot);
    }
    Ok(techniques)
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let plan = Plan::new(&arguments, context)?;
    let source = source(&arguments, &plan, context)?;
    let targets = targets(&arguments, context)?;
    let prompt = plan.prompt.as_ref().map(|(_, loaded)| loaded);
    let model = model::open_for(arguments.model.as_deref(), prompt, context)?;
    let evaluation = Evaluation::prepare(&arguments, plan, source, targets, &model, context)?;
    let results = evaluation.run(context)?;
    let summary = Summary::new(&evaluation, &results);
    if let Some(path) = &arguments.report {
        let page = report::page(&summary)?;
        atomic::write(&Disk, path, page.as_bytes())
            .with_context(|| format!("{}: cannot be written", path.display()))?;
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

fn source(arguments: &Arguments, plan: &Plan, context: &Context) -> anyhow::Result<DataSet> {
    let given = arguments.labels.as_deref().map(labels::read).transpose()?;
    let of_prompt = match (&plan.prompt, plan.protocol) {
        (Some((_, loaded)), Protocol::Holdout) => Some(loaded.record.labels.clone()),
        _ => None,
    };
    let reading = Reading {
        labels: given.or(of_prompt),
        split: arguments.split.as_deref(),
        holdout: if plan.trains() {
            arguments.holdout
        } else {
            1.0
        },
    };
    let source = DataSet::open(&arguments.images, reading, context)?;
    if source.labels.len() < 2 {
        return Err(AdaptError::OneClass.into());
    }
    if plan.protocol == Protocol::BaseToNew && source.labels.len() < 4 {
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
        DataSet::open(dir, everything, context)
    };
    arguments.target.iter().map(open).collect()
}
