//! `edge-rlp prompt export|import`: a prompt as one file, from one home folder to another. It must not know how prompts are
//! laid out in either form.

use super::prompt::description;
use super::{Context, model, usage};
use crate::classifier::{ClassifierError, context_rows};
use crate::clip::Model;
use crate::store::Loaded;
use anyhow::Context as _;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Export {
    /// A prompt by name, or a prompt file
    #[arg(value_name = "NAME|FILE")]
    prompt: PathBuf,
    /// The file to write: JSON where its name ends with .json, else a prompt file
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
pub struct Import {
    /// A prompt file, or a prompt as JSON where its name ends with .json
    file: PathBuf,
    /// What to call the prompt; one of that name stays in its history [default: what the file is called]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Keep it even though the model that it was trained for is not here to check it with
    #[arg(long)]
    force: bool,
}

pub fn export(arguments: &Export, context: &Context) -> anyhow::Result<()> {
    let Context { home, output, .. } = context;
    let loaded = home.load(&arguments.prompt)?;
    if let Some(warning) = &loaded.warning {
        output.warn(warning);
    }
    let bytes = home.export(&loaded.record, &arguments.to, arguments.force)?;
    let (name, to) = (arguments.prompt.display(), arguments.to.display());
    output.object(&json!({
        "prompt": name.to_string(),
        "path": to.to_string(),
        "bytes": bytes,
    }))?;
    output.line(format!("{name} is written to {to} ({bytes} bytes)"));
    Ok(())
}

pub fn import(arguments: &Import, context: &Context) -> anyhow::Result<()> {
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
        Err(error) if arguments.force => output.warn(super::sentence(&error)),
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

/// Whether the prompt can be put before the labels as `model` reads them: the words of the template are as many tokens as
/// the change has rows, of the text tower's width.
fn fits(loaded: &Loaded, model: &Model) -> anyhow::Result<()> {
    let record = &loaded.record;
    let layout = model.layout(&record.template, &record.labels)?;
    match context_rows(&model.text, &layout, Some(&record.delta)) {
        Err(error @ ClassifierError::ChangeShape { .. }) => {
            anyhow::bail!("{error} {}", model.name)
        }
        fits => Ok(fits.map(|_| ())?),
    }
}
