//! `edge-rlp prompt import`: a prompt that comes from elsewhere is kept, once all of it was checked.

use super::describe::description;
use crate::classifier::{Classifier, ClassifierError};
use crate::cli::errors::{sentence, usage};
use crate::cli::{Context, model};
use crate::clip::Model;
use crate::store::LoadedPrompt;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// A prompt file, or a prompt as JSON where its name ends with .json
    file: PathBuf,
    /// What to call the prompt; one of that name stays in its history [default: what the file is called]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Keep it even though the model that it was trained for is not here to check it with
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let Context { home, output, .. } = context;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => called(&arguments.file)?,
    };
    home.prompt_path(&name)?;
    let loaded = home.read_export(&arguments.file)?;
    match model::open_for(None, Some(&loaded), context) {
        Ok(model) => fits(&loaded, &model)
            .with_context(|| format!("{} cannot be used", arguments.file.display()))?,
        Err(error) if arguments.force => output.warn(sentence(&error)),
        Err(error) => {
            return Err(error.context("the prompt is not kept (--force keeps it all the same)"));
        }
    }
    let saved = home.save(&name, &loaded.record)?;
    let kept = home.load(&name)?;
    output.object(&description(&name, &kept)?)?;
    output.line(format!(
        "kept as prompt {name:?}, generation {}: {} labels, {} bytes, {}",
        saved.sequence,
        kept.record.labels.len(),
        saved.bytes,
        saved.path.display()
    ));
    Ok(())
}

/// The file's name without its ending.
fn called(file: &Path) -> anyhow::Result<String> {
    let name = file.file_stem().and_then(|stem| stem.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        usage(format!(
            "{} cannot be the name of a prompt: give it one with --name",
            file.display()
        ))
    })
}

/// Whether `model` can name pictures with the prompt: it can be put before the labels as the model reads them, the words of the
/// template being as many tokens as the change has rows, of the text tower's width, and all that comes of it are numbers.
fn fits(loaded: &LoadedPrompt, model: &Model) -> anyhow::Result<()> {
    let record = &loaded.record;
    match Classifier::with_prompt(model, record) {
        Err(error @ ClassifierError::ChangeShape { .. }) => {
            anyhow::bail!("{error} {}", model.name)
        }
        fits => fits.map(drop)?,
    }
    // Prototypes of another width were refused.
    let (statistics, prototypes) = (record.statistics.as_ref(), record.prototypes.as_ref());
    if let (Some(statistics), Some(prototypes)) = (statistics, prototypes)
        && statistics.mean.len() != prototypes.means.values.ncols()
    {
        anyhow::bail!(
            "the statistics of its pictures are of {} numbers, and the model's features have {}",
            statistics.mean.len(),
            prototypes.means.values.ncols()
        );
    }
    Ok(())
}
