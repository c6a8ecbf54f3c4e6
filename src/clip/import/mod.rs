//! Turns the ONNX files of a CLIP into a bundle: the text tower is recognised and becomes the project's own, the image
//! tower stays a tract model, and both are compared with the originals before anything is handed out.

mod check;
mod directory;
mod floats;
mod image;
pub mod layout;
mod onnx;
mod quantised;
mod settings;
mod text;

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Array3, Axis};
use serde::Serialize;
use thiserror::Error;
use tract_core::prelude::*;

use super::bundle::{BundleError, BundleWriter};
use super::contents::{
    About, Description, Parity, Precision, TOKENIZER, TextDescription, WeightWriter,
};
use super::graph::guard::{GraphError, guarded};
use super::model::{Model, ModelError};
use super::preprocess::Preprocess;
use super::text_tower::TextTowerWeights;
use super::tokenizer::{Tokenizer, TokenizerError};
use crate::rng::Rng;

pub use directory::{DirectoryError, Overrides, from_directory, from_files};
pub use onnx::OnnxError;
use onnx::{OnnxFile, Tower};
use settings::Report;
pub use settings::SettingsError;
pub use text::Unrecognised;

/// Below this cosine a bundle is not the model that it was made from.
pub const LOWEST_PARITY: f32 = 0.99;
/// s of OpenAI's and of most other models, for files that do not say it.
pub const USUAL_LOGIT_SCALE: f32 = 100.0;
const TEXT_PROBES: usize = 8;
const IMAGE_PROBES: usize = 4;
const LOGIT_PROBES: usize = 2;
/// A tokenizer.json of more bytes is kept without the line breaks that it has for people: a megabyte less.
const LARGE_TOKENIZER: usize = 1 << 20;

/// All that a bundle is made from. [`from_directory`] and [`from_files`] find it beside the towers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportOptions {
    /// What the model is called.
    pub name: String,
    /// The file with the image tower.
    pub image: PathBuf,
    /// The file with the text tower; the same one where both are in it.
    pub text: PathBuf,
    /// Hugging Face's tokenizer.json.
    pub tokenizer_json: Vec<u8>,
    /// How pictures become what the image tower takes.
    pub preprocess: Preprocess,
    /// s, already exponentiated; without it, it is read from a file with both towers, and else taken to be
    /// [`USUAL_LOGIT_SCALE`].
    pub logit_scale: Option<f32>,
    /// What is added to scaled cosines before the sigmoid, in a model that was trained with one; without it, it is read
    /// from a file with both towers, and else taken to be zero.
    pub logit_bias: Option<f32>,
    /// The token that fills texts up, for a text tower that sees it; without it, zero.
    pub padding: Option<u32>,
    /// Length of a token sequence, for files that leave it open.
    pub context_length: usize,
    /// How the weights are kept.
    pub precision: Precision,
    /// Make the bundle even if it does not compute what the original does.
    pub force: bool,
    /// What was chosen where the files left a choice, for the report.
    pub notes: Vec<String>,
    /// What comes from which file, for the report.
    pub origins: Vec<Origin>,
}

impl ImportOptions {
    /// The two towers (the same file twice where both are in it), the bytes of a `tokenizer.json`, and how pictures are
    /// prepared. The rest: 77 tokens, eight bits, a logit scale that the files say, and no bundle that computes something
    /// else than they do.
    pub fn new(
        image: PathBuf,
        text: PathBuf,
        tokenizer_json: Vec<u8>,
        preprocess: Preprocess,
    ) -> ImportOptions {
        ImportOptions {
            name: "model".into(),
            image,
            text,
            tokenizer_json,
            preprocess,
            logit_scale: None,
            logit_bias: None,
            padding: None,
            context_length: settings::CLIP_CONTEXT as usize,
            precision: Precision::Int8,
            force: false,
            notes: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// One thing that a model is made of, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// What it is, in a word or two: `image tower`, `tokenizer`, `logit scale`.
    pub what: &'static str,
    /// What was found, for a person to read.
    pub value: String,
    /// The file that says so; nothing where none does.
    pub file: Option<PathBuf>,
    /// Whether no file says so, and it was taken for granted.
    pub guessed: bool,
}

impl Origin {
    fn read(what: &'static str, value: impl Into<String>, file: PathBuf) -> Origin {
        Origin {
            what,
            value: value.into(),
            file: Some(file),
            guessed: false,
        }
    }

    fn given(what: &'static str, value: impl Into<String>) -> Origin {
        Origin {
            what,
            value: value.into(),
            file: None,
            guessed: false,
        }
    }

    fn guessed(what: &'static str, value: impl Into<String>) -> Origin {
        Origin {
            guessed: true,
            ..Origin::given(what, value)
        }
    }
}

/// What an import found and made.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// The model's name.
    pub name: String,
    /// In hexadecimal.
    pub fingerprint: String,
    /// Size of the bundle.
    pub bytes: usize,
    /// How close the bundle is to the files.
    pub parity: Parity,
    /// What no file said and was taken for granted, and which files were taken of several: a sentence each.
    pub notes: Vec<String>,
    /// What comes from which file.
    pub origins: Vec<Origin>,
}

/// Why no bundle was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file cannot be read, or is not a tower.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The text tower has an operator that cannot be trained through.
    #[error("{path}: {source}")]
    Unrecognised {
        /// The file with the text tower.
        path: PathBuf,
        /// Where in it, and what was expected there.
        source: Unrecognised,
    },
    /// The tokenizer.json cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// tract cannot run a tower.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A constant of the image tower is of a kind that bundles do not hold.
    #[error("the image tower cannot be kept: {0}")]
    Tensor(String),
    /// The bundle that was made cannot be read back.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle that was made cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The bundle computes something else than the files.
    #[error(
        "the bundle would not compute what the original does (lowest cosine: image {image:.4}, text {text:.4}; \
         needed: {LOWEST_PARITY})"
    )]
    Parity {
        /// The lowest cosine of image features.
        image: f32,
        /// The lowest cosine of text features.
        text: f32,
    },
}

/// What the files hold, before it is written to a bundle.
struct Parts {
    /// The image tower as its file has it.
    image: TypedModel,
    /// The text tower as its file has it.
    text: TypedModel,
    text_weights: TextTowerWeights,
    /// The image tower as text, and its tensors.
    image_graph: image::ImageGraph,
    tokenizer: Tokenizer,
    logit_scale: f32,
}

/// Makes a bundle, and proves that it computes what the files do.
///
/// # Errors
/// Files that are damaged or hold no CLIP that can be adapted, and a bundle whose features are not those of the files.
pub fn import(options: &ImportOptions) -> Result<(Vec<u8>, ImportReport), ImportError> {
    let mut report = Report {
        notes: options.notes.clone(),
        origins: options.origins.clone(),
    };
    let parts = read(options, &mut report)?;
    let description = Description {
        preprocess: options.preprocess.clone(),
        logit_scale: parts.logit_scale,
        text: TextDescription::of(&parts.text_weights),
    };
    let mut about = About {
        name: options.name.clone(),
        precision: options.precision,
        parity: Parity {
            image: f32::NAN,
            text: f32::NAN,
        },
    };
    let writer = write(options, &parts)?;
    let Parts {
        image,
        text,
        text_weights,
        image_graph,
        ..
    } = parts;
    drop((text_weights, image_graph));
    let model = Model::from_bytes(writer.clone().finish(&description, &about)?)?;
    about.parity = Parity {
        image: image_parity(&image, &model)?,
        text: text_parity(&text, &model)?,
    };
    let Parity { image, text } = about.parity;
    let sound = image >= LOWEST_PARITY && text >= LOWEST_PARITY;
    if !(sound || options.force) {
        return Err(ImportError::Parity { image, text });
    }
    let bundle = writer.finish(&description, &about)?;
    let report = ImportReport {
        name: options.name.clone(),
        fingerprint: model.fingerprint.to_string(),
        bytes: bundle.len(),
        parity: about.parity,
        notes: report.notes,
        origins: report.origins,
    };
    Ok((bundle, report))
}

/// Reads both towers, one file at a time, because a large one takes much memory.
fn read(options: &ImportOptions, report: &mut Report) -> Result<Parts, ImportError> {
    let tokenizer = Tokenizer::from_json(&options.tokenizer_json)?;
    let feed = onnx::Feed {
        size: options.preprocess.size as usize,
        length: options.context_length,
    };
    let file = OnnxFile::open(&options.text, feed)?;
    note_quantised(&options.text, &file, &mut report.notes);
    let Tower {
        original: text,
        decluttered,
    } = file.text()?;
    let (start, end) = (tokenizer.start_token(), tokenizer.end_token());
    let text_weights = text::recognise(&decluttered, start, end).map_err(|source| {
        let path = options.text.clone();
        ImportError::Unrecognised { path, source }
    })?;
    let file = if options.image == options.text {
        file
    } else {
        drop(file);
        let file = OnnxFile::open(&options.image, feed)?;
        note_quantised(&options.image, &file, &mut report.notes);
        file
    };
    let Tower {
        original: image,
        decluttered,
    } = file.image()?;
    let logit_scale = match options.logit_scale {
        Some(scale) => scale,
        None => logit_scale(&file, feed, &tokenizer, report)?,
    };
    drop(file);
    let image_graph = image::image_graph(decluttered)?;
    let (rows, known) = (
        text_weights.token_embedding.dim().0,
        tokenizer.vocabulary_size(),
    );
    if rows > known {
        report.notes.push(format!(
            "the text tower has {rows} tokens, the tokenizer knows {known} of them"
        ));
    }
    Ok(Parts {
        image,
        text,
        text_weights,
        image_graph,
        tokenizer,
        logit_scale,
    })
}

/// The bundle of all parts, still without description and name.
fn write(options: &ImportOptions, parts: &Parts) -> Result<BundleWriter, ImportError> {
    let mut writer = BundleWriter::default();
    if options.tokenizer_json.len() > LARGE_TOKENIZER {
        writer.bytes(TOKENIZER, &parts.tokenizer.to_json_bytes()?);
    } else {
        writer.bytes(TOKENIZER, &options.tokenizer_json);
    }
    let mut towers = WeightWriter {
        bundle: &mut writer,
        precision: options.precision,
    };
    towers.text(&parts.text_weights);
    let (graph, tensors) = &parts.image_graph;
    towers.image(graph, tensors).map_err(ImportError::Tensor)?;
    Ok(writer)
}

fn note_quantised(path: &Path, file: &OnnxFile, notes: &mut Vec<String>) {
    if file.quantised > 0 {
        notes.push(format!(
            "{} is already quantised ({} constants): weights keep their integers where eight symmetric bits hold them, \
             and activations stay floats",
            path.display(),
            file.quantised
        ));
    }
}

/// s as a file with both towers has it, or the usual one.
fn logit_scale(
    file: &OnnxFile,
    feed: onnx::Feed,
    tokenizer: &Tokenizer,
    report: &mut Report,
) -> Result<f32, ImportError> {
    let mut rng = Rng::new(1);
    let probes = (0..LOGIT_PROBES).map(|probe| {
        let pixels = probe_picture(&mut rng, [3, feed.size, feed.size], probe);
        let sequence = probe_tokens(&mut rng, tokenizer, feed.length, probe);
        (
            pixels.insert_axis(Axis(0)).into_tensor(),
            padded(&sequence, feed.length, tokenizer.end_token()),
        )
    });
    let found = file.logit_scale(probes.collect())?;
    const WHAT: &str = "logit scale";
    match found {
        Some(scale) => {
            report.notes.push(format!(
                "the logit scale is {scale}, as the graph multiplies cosines with it"
            ));
            let file = file.path().to_owned();
            let value = format!("{scale}, found by running it");
            report.origins.push(Origin::read(WHAT, value, file));
        }
        None => {
            report.notes.push(format!(
                "no file tells the logit scale: {USUAL_LOGIT_SCALE} is taken, as OpenAI's and most other models have it"
            ));
            let origin = Origin::guessed(WHAT, USUAL_LOGIT_SCALE.to_string());
            report.origins.push(origin);
        }
    }
    Ok(found.unwrap_or(USUAL_LOGIT_SCALE))
}

/// The lowest cosine between what the original image tower and the bundle's make of random pictures.
fn image_parity(original: &TypedModel, model: &Model) -> Result<f32, ImportError> {
    let plan = guarded("prepare the original image tower", || {
        original.clone().into_runnable()
    })?;
    let mut rng = Rng::new(0);
    let mut lowest = f32::INFINITY;
    for probe in 0..IMAGE_PROBES {
        let pixels = probe_picture(&mut rng, model.image.shape(), probe);
        let input = pixels.clone().insert_axis(Axis(0)).into_tensor();
        let expected = guarded("run the original image tower", || {
            onnx::vector(&plan.run(tvec!(input.into()))?[0])
        })?;
        lowest = lowest.min(cosine(
            &expected,
            &model.image.encode(&pixels).map_err(ModelError::from)?,
        ));
    }
    Ok(lowest)
}

/// Pixels as preprocessing yields them: from noise to smooth shades.
fn probe_picture(
    rng: &mut Rng,
    [channels, height, width]: [usize; 3],
    probe: usize,
) -> Array3<f32> {
    let (slant, period) = (rng.range(-1.0, 1.0), rng.range(4.0, 40.0));
    let noise = 1.0 / (1 + probe) as f32;
    Array3::from_shape_fn((channels, height, width), |(c, y, x)| {
        let wave = ((x as f32 + slant * y as f32) / period + c as f32).sin();
        wave * (1.0 - noise) * 1.5 + noise * rng.normal()
    })
}

/// The lowest cosine between what the original text tower and the bundle's make of random sentences.
fn text_parity(original: &TypedModel, model: &Model) -> Result<f32, ImportError> {
    let plan = guarded("prepare the original text tower", || {
        original.clone().into_runnable()
    })?;
    let length = model.text.context_length();
    let end = model.tokenizer.end_token();
    let mut rng = Rng::new(0);
    let sequences: Vec<Vec<u32>> = (0..TEXT_PROBES)
        .map(|probe| probe_tokens(&mut rng, &model.tokenizer, length, probe * probe))
        .collect();
    let found: Array2<f32> = model.text.encode(&sequences).map_err(ModelError::from)?;
    let kind = guarded("type the original text tower", || {
        Ok(original.input_fact(0)?.datum_type)
    })?;
    let mut lowest = f32::INFINITY;
    for (sequence, found) in sequences.iter().zip(found.outer_iter()) {
        let ids = padded(sequence, length, end);
        let expected = guarded("run the original text tower", || {
            let ids = ids.cast_to_dt(kind)?.into_owned();
            onnx::vector(&plan.run(tvec!(ids.into()))?[0])
        })?;
        lowest = lowest.min(cosine(&expected, &found.to_owned()));
    }
    Ok(lowest)
}

/// A sentence of random words, at least `words + 1` of them where there is room.
fn probe_tokens(rng: &mut Rng, tokenizer: &Tokenizer, length: usize, words: usize) -> Vec<u32> {
    let (start, end) = (tokenizer.start_token(), tokenizer.end_token());
    let words = length.saturating_sub(2).min(1 + words);
    let word = |_| rng.below(start.min(end).max(1) as usize) as u32;
    let words = (0..words).map(word);
    [start].into_iter().chain(words).chain([end]).collect()
}

/// Token ids `[1, length]`, filled up with `padding`.
fn padded(sequence: &[u32], length: usize, padding: u32) -> Tensor {
    let ids = (0..length).map(|at| i64::from(sequence.get(at).copied().unwrap_or(padding)));
    Array1::from_iter(ids).insert_axis(Axis(0)).into_tensor()
}

fn cosine(a: &Array1<f32>, b: &Array1<f32>) -> f32 {
    a.dot(b) / (a.dot(a) * b.dot(b)).sqrt()
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
