//! `edge-rlp model import`: from the files that an export left to a model of the home folder.

use super::DEFAULT;
use crate::cli::output::aligned;
use crate::cli::{Context, interruptible, usage};
use crate::clip::Precision;
use crate::clip::import::{
    self, ImportError, ImportOptions, ImportReport, Origin, Overrides, from_directory, from_files,
};
use crate::host::memory;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct Arguments {
    /// A folder with the two towers and what belongs to them, as transformers, transformers.js or open_clip write it
    #[arg(value_name = "DIR", group = "source")]
    folder: Option<PathBuf>,
    /// The ONNX file of the image tower; what belongs to it is looked for beside it
    #[arg(long, value_name = "FILE", group = "source", requires = "text")]
    image: Option<PathBuf>,
    /// The ONNX file of the text tower
    #[arg(long, value_name = "FILE", requires = "image")]
    text: Option<PathBuf>,
    /// One ONNX file with both towers
    #[arg(long, value_name = "FILE", group = "source")]
    full: Option<PathBuf>,
    /// A tokenizer.json, or a vocab.json with its merges.txt beside it
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// A preprocessor_config.json, or the configuration that open_clip writes
    #[arg(long, value_name = "FILE")]
    preprocess: Option<PathBuf>,
    /// Say what would be read from which file, what was guessed and how exact the model would be, and keep nothing
    #[arg(long, conflicts_with = "force")]
    check: bool,
    #[command(flatten)]
    choices: Choices,
}

/// What a person may choose about any model that is imported.
#[derive(clap::Args)]
pub struct Choices {
    /// The factor of the inner products before the softmax, as it is multiplied with: 100 for OpenAI's models
    #[arg(long, value_name = "S", value_parser = positive)]
    pub logit_scale: Option<f32>,
    /// What is added to the scaled inner products in a model that was trained with a sigmoid (SigLIP)
    #[arg(long, value_name = "B", allow_negative_numbers = true, value_parser = finite)]
    pub logit_bias: Option<f32>,
    /// The id of the token that fills texts up, for a text tower that sees it (MobileCLIP: 0, SigLIP: 1, SigLIP 2: 0)
    #[arg(long, value_name = "ID")]
    pub padding: Option<u32>,
    /// What to call the model [default: what its files or their folder are called]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How the weights are kept [default: int8]
    #[arg(long, value_parser = precision())]
    pub precision: Option<Precision>,
    /// Replace a model of the same name, and take one that does not compute what its original does
    #[arg(long)]
    pub force: bool,
}

fn precision() -> impl clap::builder::TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(["int8", "f32"]).map(|name| match name.as_str() {
        "f32" => Precision::F32,
        _ => Precision::Int8,
    })
}

fn positive(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok();
    number
        .filter(|number| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "it must be a positive number".into())
}

fn finite(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok();
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| "it must be a number".into())
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let Arguments {
        folder,
        image,
        text,
        full,
        tokenizer,
        preprocess,
        check,
        choices,
    } = arguments;
    if let Some(name) = choices.name.as_ref().filter(|_| !check) {
        context.home.check_model(name, choices.force)?;
    }
    let given = Overrides {
        name: choices.name.clone(),
        logit_scale: choices.logit_scale,
        logit_bias: choices.logit_bias,
        padding: choices.padding,
        tokenizer,
        preprocess,
    };
    let options = match (folder, image.zip(text), full) {
        (Some(folder), ..) => from_directory(&folder, &given),
        (_, Some((image, text)), _) => from_files(&image, &text, &given),
        (_, _, Some(full)) => from_files(&full, &full, &given),
        _ => {
            return Err(usage(
                "say what to import: DIR, --image with --text, or --full",
            ));
        }
    };
    if check {
        return self::check(options?, &choices, context);
    }
    keep(options?, &choices, context)
}

/// Imports what `options` describe, keeps nothing, and says where everything would come from.
fn check(mut options: ImportOptions, choices: &Choices, context: &Context) -> anyhow::Result<()> {
    options.precision = choices.precision.unwrap_or(Precision::Int8);
    let output = &context.output;
    let table = |origins: &[Origin]| {
        let mut rows = vec![["what", "value", "from"].map(str::to_owned)];
        rows.extend(origins.iter().map(|origin| {
            let from = match &origin.file {
                Some(file) => file.display().to_string(),
                None if origin.guessed => "guessed: no file says it".into(),
                None => String::new(),
            };
            [origin.what.to_owned(), origin.value.clone(), from]
        }));
        aligned(&rows)
    };
    let (origins, precision) = (options.origins.clone(), options.precision);
    let bar = output.spinner("importing, to keep nothing");
    let imported = made(options, context);
    bar.finish_and_clear();
    let (_, report) = match imported? {
        Ok(done) => done,
        Err(error) => {
            // What would be read is as useful when it does not work.
            table(&origins)
                .into_iter()
                .for_each(|line| output.note(line));
            return Err(error.into());
        }
    };
    output.object(&json!({
        "model": report.name,
        "origins": report.origins,
        "notes": report.notes,
        "fingerprint": report.fingerprint,
        "bytes": report.bytes,
        "precision": precision.name(),
        "parity": report.parity,
        "kept": false,
    }))?;
    table(&report.origins)
        .into_iter()
        .for_each(|line| output.line(line));
    for note in &report.notes {
        output.line(format!("note: {note}"));
    }
    output.line(format!(
        "would be kept as {}: {}, {} bytes; cosine with the original: image {:.5}, text {:.5}. Nothing was kept.",
        report.name,
        precision.name(),
        report.bytes,
        report.parity.image,
        report.parity.text
    ));
    Ok(())
}

/// Imports what `options` describe, under the name that is chosen or a fitting form of the one they have, and reports
/// the result.
pub fn keep(
    mut options: ImportOptions,
    choices: &Choices,
    context: &Context,
) -> anyhow::Result<()> {
    let started = Instant::now();
    options.name = chosen_name(choices.name.as_deref(), &options.name)?;
    options.precision = choices.precision.unwrap_or(Precision::Int8);
    options.force = choices.force;
    context.home.check_model(&options.name, choices.force)?;

    let output = &context.output;
    let (image, text) = (
        options.image.display().to_string(),
        options.text.display().to_string(),
    );
    output.note(format!("image tower    {image}"));
    output.note(format!("text tower     {text}"));
    output.note(format!("preprocessing  {}", options.preprocess));
    for note in &options.notes {
        output.note(format!("note: {note}"));
    }

    let bar = output.spinner("importing");
    let (noted, precision) = (options.notes.len(), options.precision);
    let imported = made(options, context);
    bar.finish_and_clear();
    let (bundle, report) = imported??;
    let path = context
        .home
        .save_model(&report.name, &bundle, choices.force)?;
    for note in report.notes.iter().skip(noted) {
        output.note(format!("note: {note}"));
    }
    let seconds = started.elapsed().as_secs_f64();
    output.object(&json!({
        "model": report.name,
        "path": path.display().to_string(),
        "fingerprint": report.fingerprint,
        "bytes": report.bytes,
        "precision": precision.name(),
        "parity": report.parity,
        "image": image,
        "text": text,
        "notes": report.notes,
        "seconds": seconds,
    }))?;
    output.line(format!(
        "cosine with the original: image {:.5}, text {:.5}",
        report.parity.image, report.parity.text
    ));
    output.line(format!(
        "kept as model {}: {}, {} bytes, {} ({seconds:.1} s)",
        report.name,
        precision.name(),
        report.bytes,
        path.display()
    ));
    Ok(())
}

/// The bundle that `options` describe, in as little memory as that takes.
fn made(options: ImportOptions, context: &Context) -> anyhow::Result<Made> {
    memory::return_freed();
    interruptible(context, "the import", move || import::import(&options))
}

type Made = Result<(Vec<u8>, ImportReport), ImportError>;

/// The name that is given, or a fitting form of what the files are called.
pub fn chosen_name(given: Option<&str>, called: &str) -> anyhow::Result<String> {
    let name = match given {
        Some(name) => Some(name.to_owned()),
        None => fitting(called),
    };
    name.ok_or_else(|| {
        usage(format!(
            "the files call the model {called:?}, which cannot be its name here: give it another with --name"
        ))
    })
}

/// The last part of `text` with a dash for what cannot be in a name; nothing where none is left, or where it would be
/// taken for the model inside the program.
fn fitting(text: &str) -> Option<String> {
    let last = text
        .trim_end_matches(['/', '\\'])
        .rsplit(['/', '\\'])
        .next()?;
    let plain = |c: char| {
        if c.is_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = last.chars().map(plain).collect();
    let name = name.trim_matches(['.', '-']);
    let end = name.floor_char_boundary(crate::store::home::MAX_NAME_BYTES);
    Some(name[..end].to_owned()).filter(|name| !name.is_empty() && name != DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_whatever_the_files_say() {
        for (said, name) in [
            (
                "Xenova/clip-vit-base-patch32",
                Some("clip-vit-base-patch32"),
            ),
            ("ViT-B-32 (laion2b)", Some("ViT-B-32--laion2b")),
            ("./exports/模型/", Some("模型")),
            ("default", None),
            ("..", None),
            ("", None),
        ] {
            assert_eq!(fitting(said).as_deref(), name, "{said}");
        }
        assert_eq!(fitting(&"é".repeat(60)).unwrap().len(), 64);
    }

    #[test]
    fn a_logit_scale_is_positive() {
        assert_eq!(positive("14.5"), Ok(14.5));
        for text in ["0", "-1", "nan", "inf", "x", ""] {
            assert!(positive(text).is_err(), "{text}");
        }
    }
}
