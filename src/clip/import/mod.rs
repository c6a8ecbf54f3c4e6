//! Turns the ONNX files of a CLIP into a bundle: the text tower is recognised and becomes the project's own, the image
//! tower stays a tract model, and both are compared with the originals before anything is handed out.

mod blocks;
mod check;
mod directory;
mod floats;
mod image;
pub mod layout;
mod nodes;
mod onnx;
mod operators;
mod outside;
mod parity;
mod quantised;
mod settings;
mod text;

use std::path::{Path, PathBuf};

use ndarray::Axis;
use serde::Serialize;
use thiserror::Error;
use tract_core::prelude::*;

use super::bundle::{BundleError, BundleWriter, replace_about};
use super::contents::{
    About, Description, Parity, Precision, TOKENIZER, TextDescription, WeightWriter,
};
use super::graph::guard::GraphError;
use super::model::{Model, ModelError};
use super::preprocess::Preprocess;
use super::text_tower::{Padding, Pooling, Reading};
use super::tokenizer::{Tokenizer, TokenizerError};
use crate::rng::Rng;

pub use directory::{DirectoryError, Overrides, from_directory, from_files};
pub use onnx::OnnxError;
use onnx::{Feed, Logits, Masks, OnnxFile, Tower};
pub use outside::outside_weights;
use parity::{
    ImageReference, TextReference, Words, image_reference, padded, parity, probe_picture,
    text_reference,
};
use settings::Report;
pub use settings::SettingsError;
use text::Texts;
pub use text::Unrecognised;

/// Below this cosine a bundle is not the model that it was made from.
pub const LOWEST_PARITY: f32 = 0.99;
/// s of OpenAI's and of most other models, for files that do not say it.
pub const USUAL_LOGIT_SCALE: f32 = 100.0;
const LOGIT_PROBES: usize = 4;
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
    /// The text tower has no rows for some tokens.
    #[error(
        "the tokenizer is another model's: it knows {known} tokens, and the text tower has {rows}"
    )]
    OtherTokenizer {
        /// Tokens of the tokeniser.
        known: usize,
        /// Rows of the text tower.
        rows: usize,
    },
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

/// What is known of the text tower once its weights are written.
struct TextPart {
    description: TextDescription,
    reference: TextReference,
}

/// Makes a bundle, and proves that it computes what the files do. One tower is in memory at a time, and of that either
/// the original or what becomes of it.
///
/// # Errors
/// Files that are damaged or hold no CLIP that can be adapted, and a bundle whose features are not those of the files.
pub fn import(options: &ImportOptions) -> Result<(Vec<u8>, ImportReport), ImportError> {
    let mut report = Report {
        notes: options.notes.clone(),
        origins: options.origins.clone(),
    };
    // Both at once: the other one may take minutes.
    outside::check_files(&options.text)?;
    outside::check_files(&options.image)?;
    let tokenizer = Tokenizer::from_json(&options.tokenizer_json)?;
    let mut writer = BundleWriter::default();
    if options.tokenizer_json.len() > LARGE_TOKENIZER {
        writer.bytes(TOKENIZER, &tokenizer.to_json_bytes()?);
    } else {
        writer.bytes(TOKENIZER, &options.tokenizer_json);
    }
    let file = open(&options.text, options, &mut report)?;
    let text = text_part(options, &file, &tokenizer, &mut writer, &mut report)?;
    let file = if options.image == options.text {
        file
    } else {
        drop(file);
        open(&options.image, options, &mut report)?
    };
    let logits = logits(options, &file, &tokenizer, &mut report)?;
    let pictures = image_part(options, file, &mut writer)?;
    let description = Description {
        preprocess: options.preprocess.clone(),
        logit_scale: logits.scale,
        logit_bias: logits.bias,
        text: text.description,
    };
    let mut about = About {
        name: options.name.clone(),
        precision: options.precision,
        parity: Parity {
            image: f32::NAN,
            text: f32::NAN,
        },
    };
    let mut bundle = description.finish(writer, &about)?;
    let model = Model::from_bytes(&bundle[..])?;
    about.parity = parity(&model, &pictures, &text.reference)?;
    let Parity { image, text } = about.parity;
    let sound = image >= LOWEST_PARITY && text >= LOWEST_PARITY;
    if !(sound || options.force) {
        return Err(ImportError::Parity { image, text });
    }
    replace_about(&mut bundle, &about)?;
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

fn feed(options: &ImportOptions) -> Feed {
    Feed {
        size: options.preprocess.size as usize,
        length: options.context_length,
    }
}

fn open(
    path: &Path,
    options: &ImportOptions,
    report: &mut Report,
) -> Result<OnnxFile, ImportError> {
    let file = OnnxFile::open(path, feed(options), Masks::Ones)?;
    if file.quantised > 0 {
        report.notes.push(format!(
            "{} is already quantised ({} constants): weights keep their integers where eight symmetric bits hold them, \
             and activations stay floats",
            path.display(),
            file.quantised
        ));
    }
    Ok(file)
}

/// Recognises the text tower, writes its weights, and runs the original.
fn text_part(
    options: &ImportOptions,
    file: &OnnxFile,
    tokenizer: &Tokenizer,
    writer: &mut BundleWriter,
    report: &mut Report,
) -> Result<TextPart, ImportError> {
    let Tower {
        mut original,
        decluttered,
    } = file.text()?;
    let texts = Texts {
        start_token: tokenizer.start_token(),
        end_token: tokenizer.end_token(),
        padding: options.padding.unwrap_or(0),
        takes_mask: file.takes_mask,
    };
    let weights = text::recognise(&decluttered, texts).map_err(|source| {
        let path = options.text.clone();
        ImportError::Unrecognised { path, source }
    })?;
    drop(decluttered);
    let description = TextDescription::of(&weights);
    let (rows, known) = (weights.token_embedding.dim().0, tokenizer.vocabulary_size());
    let length = weights.positions.nrows();
    fits(tokenizer, rows)?;
    WeightWriter {
        bundle: writer,
        precision: options.precision,
    }
    .text(&weights);
    drop(weights);
    if rows > known {
        report.notes.push(format!(
            "the text tower has {rows} tokens, the tokenizer knows {known} of them"
        ));
    }
    note_reading(&description, options, report);
    let hides = matches!(
        description.reading,
        Reading::Whole {
            padding: Padding::Hidden,
            ..
        }
    );
    if hides && file.takes_mask {
        original = OnnxFile::open(&options.text, feed(options), Masks::Given)?
            .text()?
            .original;
    }
    let words = Words {
        tokenizer,
        vocabulary: rows,
        padding: texts.padding,
    };
    let filled_with = match description.reading {
        Reading::Causal => tokenizer.end_token(),
        Reading::Whole { .. } => texts.padding,
    };
    let reference = text_reference(original, &words, length, filled_with)?;
    Ok(TextPart {
        description,
        reference,
    })
}

/// That a text tower with `rows` tokens has one for each that the tokeniser knows.
fn fits(tokenizer: &Tokenizer, rows: usize) -> Result<(), ImportError> {
    let around = tokenizer.sequence([]).into_iter();
    let most = around.max().map_or(0, |token| token as usize + 1);
    match tokenizer.vocabulary_size().max(most) {
        known if known > rows => Err(ImportError::OtherTokenizer { known, rows }),
        _ => Ok(()),
    }
}

/// How texts are read goes to the report, and so does a padding token that no file says but that is seen.
fn note_reading(text: &TextDescription, options: &ImportOptions, report: &mut Report) {
    const WHAT: &str = "text tower reads";
    let Reading::Whole { padding, pooling } = text.reading else {
        let value = "each token those before it; the feature at the end token";
        report.origins.push(Origin::given(WHAT, value));
        return;
    };
    let at = match pooling {
        Pooling::End => "at the end token",
        Pooling::Last => "at the last token",
        Pooling::Mean => "as the mean of all tokens",
        Pooling::Attention => "by a head of attention over all tokens",
    };
    let seen = match padding {
        Padding::Hidden => "padding is hidden".to_owned(),
        Padding::Token(token) => format!("padding (token {token}) is seen"),
    };
    let value = format!("each token all others; {seen}; the feature {at}");
    report.origins.push(Origin::given(WHAT, value));
    if let (Padding::Token(token), None) = (padding, options.padding) {
        report.notes.push(format!(
            "no file tells the padding token, which this text tower sees: {token} is taken"
        ));
        let origin = Origin::guessed("padding token", token.to_string());
        report.origins.push(origin);
    }
}

/// Runs the original image tower, and writes what becomes of it.
fn image_part(
    options: &ImportOptions,
    file: OnnxFile,
    writer: &mut BundleWriter,
) -> Result<ImageReference, ImportError> {
    let reference = image_reference(file.image()?, options.preprocess.size as usize)?;
    let (graph, tensors) = image::image_graph(file.into_simplified_image()?)?;
    let mut towers = WeightWriter {
        bundle: writer,
        precision: options.precision,
    };
    towers.image(&graph, tensors).map_err(ImportError::Tensor)?;
    Ok(reference)
}

/// s and the bias as they are asked for, as a file with both towers has them, or the usual ones.
fn logits(
    options: &ImportOptions,
    file: &OnnxFile,
    tokenizer: &Tokenizer,
    report: &mut Report,
) -> Result<Logits, ImportError> {
    if let Some(scale) = options.logit_scale {
        let bias = options.logit_bias;
        return Ok(Logits { scale, bias });
    }
    let feed = feed(options);
    let mut rng = Rng::new(1);
    let words = Words {
        tokenizer,
        vocabulary: tokenizer.vocabulary_size(),
        padding: options.padding.unwrap_or(0),
    };
    let probes = (0..LOGIT_PROBES).map(|probe| {
        let pixels = probe_picture(&mut rng, [3, feed.size, feed.size], probe);
        let sequence = words.sequence(&mut rng, feed.length, probe);
        (
            pixels.insert_axis(Axis(0)).into_tensor(),
            padded(&sequence, feed.length, tokenizer.end_token()),
        )
    });
    const WHAT: &str = "logit scale";
    let Some(mut found) = file.logits(probes.collect())? else {
        report.notes.push(format!(
            "no file tells the logit scale: {USUAL_LOGIT_SCALE} is taken, as OpenAI's and most other models have it"
        ));
        let origin = Origin::guessed(WHAT, USUAL_LOGIT_SCALE.to_string());
        report.origins.push(origin);
        return Ok(Logits {
            scale: USUAL_LOGIT_SCALE,
            bias: options.logit_bias,
        });
    };
    let bias = found
        .bias
        .map_or(String::new(), |bias| format!(", and {bias} is added"));
    report.notes.push(format!(
        "the logit scale is {}, as the graph multiplies cosines with it{bias}",
        found.scale
    ));
    let value = format!("{}{bias}, found by running it", found.scale);
    let file = file.path().to_owned();
    report.origins.push(Origin::read(WHAT, value, file));
    found.bias = options.logit_bias.or(found.bias);
    Ok(found)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
