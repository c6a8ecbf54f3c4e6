//! Which model a command works with, and `edge-rlp model`: what models there are, where they come from, and whether
//! they are whole. A model is the one inside the program, one of the home folder, or a file.

mod hints;
mod import;
mod kept;
#[cfg(feature = "pull")]
pub(super) mod pull;

use super::{Context, Exit, name_is_usage, usage};
use crate::clip::{BundleHeader, Model, ModelError};
use crate::store::{LoadedPrompt, MissingError, StoreError};
use anyhow::Context as _;
pub use hints::hint;
use std::path::{Path, PathBuf};

/// The name of the model that is compiled in.
const DEFAULT: &str = "default";
/// The end of a model bundle's file name.
const EXTENSION: &str = "rlpm";

#[derive(clap::Subcommand)]
pub enum Command {
    /// Make a model of the ONNX files of a CLIP
    Import(import::Arguments),
    /// Download an export or a bundle and keep it as a model
    #[cfg(feature = "pull")]
    Pull(pull::Arguments),
    /// Download an export or a bundle (left out of this build)
    #[cfg(not(feature = "pull"))]
    Pull {
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        anything: Vec<String>,
    },
    /// Name the models there are
    List,
    /// Say what a model is made of
    Show {
        /// A model by name, or a bundle file
        #[arg(value_name = "NAME|FILE", default_value = DEFAULT)]
        model: String,
    },
    /// Read models whole and compare them with their fingerprints
    Verify {
        /// Models by name, or bundle files [default: all there are]
        #[arg(value_name = "NAME|FILE")]
        models: Vec<String>,
    },
    /// Remove a model from the home folder
    Remove {
        name: String,
        /// Remove it even though prompts were made with it
        #[arg(long)]
        force: bool,
    },
}

pub fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    let done = match command {
        Command::Import(arguments) => import::run(arguments, context),
        #[cfg(feature = "pull")]
        Command::Pull(arguments) => pull::run(arguments, context),
        #[cfg(not(feature = "pull"))]
        Command::Pull { .. } => Err(usage(
            "this edge-rlp was built without the feature `pull`: download the files elsewhere and bring them with \
             `edge-rlp model import`",
        )),
        Command::List => kept::list(context),
        Command::Show { model } => kept::show(&model, context),
        Command::Verify { models } => kept::verify(&models, context),
        Command::Remove { name, force } => kept::remove(&name, force, context),
    };
    done.map(|()| Exit::Done).map_err(name_is_usage)
}

/// Where a model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Inside the program.
    Embedded,
    File(PathBuf),
}

impl Place {
    /// Of `name`: the default, the name of a model of the home folder, or a bundle file where it holds a separator or
    /// ends with `.rlpm`.
    fn of(name: &str, context: &Context) -> anyhow::Result<Place> {
        if name == DEFAULT {
            return Ok(Place::Embedded);
        }
        let is_file = name.contains(['/', '\\'])
            || Path::new(name)
                .extension()
                .is_some_and(|end| end == EXTENSION);
        if is_file {
            return Ok(Place::File(name.into()));
        }
        let path = context.home.model_path(name).map_err(usage)?;
        if !path.exists() {
            let missing = MissingError::Model {
                name: name.into(),
                folder: context.home.models_folder(),
            };
            return Err(StoreError::from(missing).into());
        }
        Ok(Place::File(path))
    }

    pub fn open(&self) -> anyhow::Result<Model> {
        match self {
            Place::Embedded => Model::embedded().context(DAMAGED_PROGRAM),
            Place::File(path) => Model::open(path).with_context(|| path.display().to_string()),
        }
    }

    fn header(&self) -> Result<BundleHeader, ModelError> {
        match self {
            Place::Embedded => BundleHeader::embedded(),
            Place::File(path) => BundleHeader::read(path),
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Place::Embedded => None,
            Place::File(path) => Some(path),
        }
    }
}

const DAMAGED_PROGRAM: &str = "the model inside this program cannot be opened: it is damaged (install it again), or memory is short";

/// All models by name, the one inside the program first.
pub fn all(context: &Context) -> anyhow::Result<Vec<(String, Place)>> {
    let kept = context.home.models()?.into_iter();
    let kept = kept.map(|(name, path)| (name, Place::File(path)));
    Ok(std::iter::once((DEFAULT.to_owned(), Place::Embedded))
        .chain(kept)
        .collect())
}

/// Opens the model that `--model` names: nothing for the default that is compiled in, else a bundle file, or
/// the name of one in the home folder's `models`.
pub fn open(name: Option<&str>, context: &Context) -> anyhow::Result<Model> {
    Place::of(name.unwrap_or(DEFAULT), context)?.open()
}

/// Opens the model for a command that uses `prompt`: the one that `--model` names, else the one that the prompt was
/// made with, which is the default or found by its fingerprint in the home folder. A prompt of another model is
/// refused with both names.
pub fn open_for(
    name: Option<&str>,
    prompt: Option<&LoadedPrompt>,
    context: &Context,
) -> anyhow::Result<Model> {
    let Some(prompt) = prompt else {
        return open(name, context);
    };
    let place = match name {
        Some(name) => Place::of(name, context)?,
        None => made_with(prompt, context)?.1,
    };
    let model = place.open()?;
    prompt.record.check_model(
        &prompt.path.display().to_string(),
        &model.name,
        &model.fingerprint.0,
    )?;
    if name.is_none() && place != Place::Embedded {
        context
            .output
            .detail(format!("model {}, as the prompt asks", model.name));
    }
    Ok(model)
}

/// The name of the model that a prompt was made with, where it is still there; nothing of it is read but its head.
pub fn found_for(prompt: &LoadedPrompt, context: &Context) -> anyhow::Result<String> {
    made_with(prompt, context).map(|(name, _)| name)
}

fn made_with(prompt: &LoadedPrompt, context: &Context) -> anyhow::Result<(String, Place)> {
    let fingerprint = &prompt.record.model_fingerprint;
    let found = all(context)?.into_iter().find(|(_, place)| {
        let header = place.header();
        header.is_ok_and(|header| header.fingerprint.0 == *fingerprint)
    });
    found.with_context(|| {
        let short = |of: &[u8]| -> String { of[..4].iter().map(|b| format!("{b:02x}")).collect() };
        let own = BundleHeader::embedded().map_or(String::new(), |own| short(&own.fingerprint.0));
        let name = prompt.path.file_stem().unwrap_or_default().display();
        format!(
            "{} was trained for the model {} ({}), which is neither {DEFAULT} ({own}), the one inside the program, nor in \
             {}: bring it there with `edge-rlp model import`, name its file with --model, or adapt anew from the shots that \
             were kept, with `edge-rlp adapt --shots-from {name} --prompt {name} --force`",
            prompt.path.display(),
            prompt.record.model_name,
            short(fingerprint),
            context.home.models_folder().display(),
        )
    })
}
