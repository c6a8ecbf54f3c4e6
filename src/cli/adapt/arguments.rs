//! The flags of `adapt`, by what they are about, and the plan that they come to.

use super::super::camera::{Camera, CameraArguments};
use super::super::{Context, usage};
use super::adaptation::Plan;
use crate::adapt::features::Extraction;
use crate::adapt::{Answers, Judging, Options, Recipe};
use crate::cli::regions::RegionArguments;
use crate::clip::text_tower::DEFAULT_MEMORY;
use crate::host::limits;
use crate::prompt::{Template, Tuning};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source"))]
pub struct Arguments {
    // First: the help shows what follows a heading below that heading.
    /// A model of the home folder, or a bundle file [default: the one inside the program]
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
    /// What to call the prompt
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub prompt: String,
    /// Write the prompt to this file and leave the home folder alone
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    out: Option<PathBuf>,
    /// Keep the prompt even where it is worse than zero-shot
    #[arg(long)]
    force: bool,
    /// Step back behind other programs by so much, from 0 to 19, as `nice` does
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(..=19))]
    pub nice: u8,
    #[command(flatten, next_help_heading = "Pictures")]
    pub pictures: PictureArguments,
    #[command(flatten, next_help_heading = "Labels")]
    pub labelling: LabelArguments,
    #[command(flatten, next_help_heading = "Training")]
    pub training: TrainingArguments,
    #[command(flatten, next_help_heading = "Learning without labels")]
    pub self_training: UnlabelledArguments,
    #[command(flatten, next_help_heading = "Camera")]
    pub camera: CameraArguments,
}

/// Where pictures come from.
#[derive(clap::Args)]
pub struct PictureArguments {
    /// Learn from a camera, as `classify --camera` names it: at a terminal a full-screen view opens in which each key
    /// keeps what is shown as a shot of a label. demo or demo:CONDITION draws pictures and labels them itself
    #[arg(long, value_name = "SRC", group = "source")]
    pub camera: Option<String>,
    /// Learn from a folder with one sub-folder of pictures a label
    #[arg(long, value_name = "DIR", group = "source")]
    pub images: Option<PathBuf>,
    /// Learn from the shots that were kept when the prompt was last taught at a terminal; of another prompt with its
    /// NAME, or from a folder of shots that was copied here
    #[arg(long, value_name = "NAME|DIR", group = "source", num_args = 0..=1, default_missing_value = "")]
    pub shots_from: Option<String>,
    #[command(flatten)]
    pub regions: RegionArguments,
    /// Pictures to use of each label [default: all of a folder or all shots, 16 of a camera]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(2..))]
    shots: Option<u32>,
}

impl PictureArguments {
    pub fn shots(&self) -> Option<usize> {
        self.shots.map(|shots| shots as usize)
    }
}

/// What the pictures show.
#[derive(clap::Args)]
pub struct LabelArguments {
    /// One label a line, optionally "label = words for the prompt" [default: the labels.txt or sub-folders
    /// of the folder, or all that the demo camera draws]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// The sentence labels stand in; the words before {} are what is tuned
    #[arg(long, value_name = "TEXT", default_value = "a photo of a {}.")]
    template: String,
    /// Label the demo camera's pictures at the terminal too
    #[arg(long)]
    pub view: bool,
    /// Show the camera's picture as coloured blocks even where the terminal could show its pixels, which a slow line
    /// does not carry
    #[arg(long)]
    pub blocks: bool,
}

/// How the prompt is trained and judged.
#[derive(clap::Args)]
pub struct TrainingArguments {
    /// rlp tunes two low-rank factors, coop the whole context; rlp+gda adds what class means say; auto takes rlp or rlp+gda,
    /// whichever answers held-out pictures better
    #[arg(
        long,
        value_name = "METHOD",
        default_value = "auto",
        conflicts_with = "unlabelled"
    )]
    method: String,
    /// Rank of the two factors [default: 4, or the number of the template's tokens]
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Views of each picture to train on: itself and random crops
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    views: u32,
    /// Keep this share of each label's pictures from training, to compare with zero-shot on [default: train on all, and
    /// judge each third of them by a prompt that is trained on the others]
    #[arg(long, value_name = "F", conflicts_with = "unlabelled")]
    holdout: Option<f32>,
    /// Same seed, same pictures: same prompt
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// A prompt of a camera elsewhere that was taught the same labels, by name or as a file, several times for several: training
    /// may begin at it, and it is kept itself if it names this camera's shots better than what was trained. The fleet's
    /// prompt is asked by itself where that is in use
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "unlabelled")]
    sister: Vec<PathBuf>,
    /// Training steps at most [default: 200; 600 with dropout]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Share of the prompt's change dropped at random in each step
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,
    /// Megabytes that a training step may keep for its backward pass; with less, many labels take longer [default: 256,
    /// or half of what a lower limit of the system leaves]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    memory: Option<u32>,
}

/// How to learn with nobody there to label.
#[derive(clap::Args)]
pub struct UnlabelledArguments {
    /// Learn with nobody there to label: from the pictures that the prompt in use, or zero-shot, is surest of
    #[arg(long, conflicts_with_all = ["shots_from", "view", "out"])]
    pub unlabelled: bool,
    /// Pictures to collect at most, near-duplicates left out [default: 40 a label]
    #[arg(long, value_name = "N", requires = "unlabelled", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub pool: Option<u32>,
    /// How long to collect from a camera at most
    #[arg(long, value_name = "DURATION", requires = "unlabelled", value_parser = crate::cli::duration, default_value = "10m")]
    pub collect_for: Duration,
    /// Times to label the pictures anew with the prompt just trained
    #[arg(long, value_name = "N", requires = "unlabelled", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub rounds: u32,
    /// Stay, and adapt again whenever the camera's pictures no longer look like those that the prompt in use was trained on
    #[arg(long, requires = "unlabelled", conflicts_with = "images")]
    pub watch: bool,
    /// The shortest time between two adaptations of --watch
    #[arg(long, value_name = "DURATION", requires = "watch", value_parser = crate::cli::duration, default_value = "10m")]
    pub pause: Duration,
    /// The time between two looks of --watch at a camera [default: 1s; demo scenes as fast as they are drawn]
    #[arg(long, value_name = "DURATION", requires = "watch", value_parser = crate::cli::duration)]
    pub every: Option<Duration>,
}

impl Arguments {
    /// The camera to learn from, if one is named.
    ///
    /// # Errors
    /// If what is named is none.
    pub fn camera(&self) -> anyhow::Result<Option<Camera>> {
        let other = self.pictures.images.is_some() || self.pictures.shots_from.is_some();
        if other && self.pictures.camera.is_none() {
            return Ok(None);
        }
        self.camera.camera(self.pictures.camera.as_deref())
    }

    /// The flags as one plan.
    ///
    /// # Errors
    /// Wrong usage, whatever is wrong with the flags: nothing was touched yet.
    pub fn plan(&self, context: &Context) -> anyhow::Result<Plan> {
        context.home.prompt_path(&self.prompt).map_err(usage)?;
        Ok(Plan {
            template: Template::parse(&self.labelling.template).map_err(usage)?,
            options: self.training.options(context)?,
            extraction: Extraction {
                views: self.training.views as usize,
                seed: self.training.seed,
                threads: context.threads,
            },
            model: self.model.clone(),
            prompt: self.prompt.clone(),
            regions: self.pictures.regions.regions()?,
            out: self.out.clone(),
            sisters: self.training.sister.clone(),
            force: self.force,
            started: Instant::now(),
        })
    }
}

impl TrainingArguments {
    fn options(&self, context: &Context) -> anyhow::Result<Options> {
        let (tuning, answers) = match self.method.as_str() {
            "auto" => (Tuning::Rlp, Answers::Best),
            "rlp" => (Tuning::Rlp, Answers::Prompt),
            "rlp+gda" => (Tuning::Rlp, Answers::WithPrototypes),
            "coop" => (Tuning::Coop, Answers::Prompt),
            name => {
                return Err(usage(format!(
                    "there is no method {name:?}: choose auto, rlp, rlp+gda or coop"
                )));
            }
        };
        if tuning == Tuning::Coop && self.rank.is_some() {
            return Err(usage(
                "--rank is of rlp's two factors: coop tunes the whole context and has none",
            ));
        }
        let recipe = Recipe::of(tuning);
        let dropout = self.dropout.unwrap_or(recipe.dropout);
        let holdout = self.holdout.unwrap_or(0.0);
        for (flag, share) in [("--holdout", holdout), ("--dropout", dropout)] {
            if !(0.0..1.0).contains(&share) {
                return Err(usage(format!(
                    "{flag} {share}: give a share from 0 up to, but not including, 1"
                )));
            }
        }
        let recipe = recipe.with_dropout(dropout);
        let usual = Options::of(tuning).with_answers(answers);
        Ok(Options {
            rank: self.rank,
            judging: match self.holdout {
                Some(share) => Judging::HeldOut { share },
                None => usual.judging,
            },
            seed: self.seed,
            memory: match self.memory {
                Some(megabytes) => (megabytes as usize).saturating_mul(1 << 20),
                None => limits::memory_to_keep(DEFAULT_MEMORY, context.threads),
            },
            recipe: Recipe {
                steps: self.steps.map_or(recipe.steps, |steps| steps as usize),
                ..recipe
            },
            ..usual
        })
    }
}
