//! What the small files beside the towers say: tokeniser, preprocessing, context length, logit scale. What none says
//! is either noted with the value that is taken, or an error.

mod tokenizer;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use super::{Origin, Overrides, layout, onnx};
use crate::clip::preprocess::{Preprocess, PreprocessError};
use crate::clip::tokenizer::TokenizerError;
use crate::files;

/// Tokens of a sequence and pixels a side, where nothing says: those of OpenAI's models.
pub const CLIP_CONTEXT: u64 = 77;
const CLIP_SIZE: u32 = 224;
/// Tokens of a sequence of SigLIP, whose configurations leave it out.
const SIGLIP_CONTEXT: usize = 64;

/// Why the files beside the towers cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not JSON.
    #[error("{path} is not JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// It describes no preprocessing that is supported.
    #[error("{path}: {source}")]
    Preprocess {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        source: PreprocessError,
    },
    /// It is not a tokenizer that can be used.
    #[error("{path}: {source}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenizerError,
    },
    /// A value cannot be.
    #[error("{path} says {what}, which is impossible")]
    Impossible {
        /// The file.
        path: PathBuf,
        /// The option and its value.
        what: String,
    },
    /// It names a tokenizer that is not beside it.
    #[error("{path} names the tokenizer {name}, which is not there")]
    NoTokenizer {
        /// The file.
        path: PathBuf,
        /// The file it names.
        name: String,
    },
}

/// What an import needs beside the towers.
pub struct Settings {
    pub name: String,
    pub tokenizer_json: Vec<u8>,
    /// The token that fills texts up, where a file or a habit of exporters says.
    pub padding: Option<u32>,
    pub preprocess: Preprocess,
    /// Nothing where only the graph could say.
    pub logit_scale: Option<f32>,
    pub logit_bias: Option<f32>,
    pub context_length: usize,
}

/// What is said on the way: sentences for people, and where everything comes from.
#[derive(Default)]
pub struct Report {
    pub notes: Vec<String>,
    pub origins: Vec<Origin>,
}

/// Reads the files of `folder`; `given` goes before them.
pub fn read(
    folder: &Path,
    image: &Path,
    given: &Overrides,
    report: &mut Report,
) -> Result<Settings, SettingsError> {
    let [general, open_clip] = layout::CONFIGS.map(|name| json(&folder.join(name)));
    let configs = Configs {
        general: general?,
        open_clip: open_clip?,
        folder,
    };
    let tokenizer = tokenizer::read(&configs, given, report)?;
    let preprocess = preprocess(&configs, image, given, report)?;
    let context_length = context_length(&configs, report)?;
    let mut scalar = |what, given: Option<f32>, place| {
        if let Some(number) = given {
            let origin = Origin::given(what, format!("{number}, as asked for"));
            report.origins.push(origin);
            return Ok(Some(number));
        }
        let found = configs.number(place)?;
        Ok(found.map(|(file, number)| {
            report
                .origins
                .push(Origin::read(what, number.to_string(), file));
            number as f32
        }))
    };
    let logit_scale = scalar("logit scale", given.logit_scale, "/logit_scale")?;
    let logit_bias = scalar("logit bias", given.logit_bias, "/logit_bias")?;
    if let Some(scale) = logit_scale.filter(|scale| *scale <= 0.0) {
        let path = folder.join(layout::CONFIGS[0]);
        let what = format!("logit_scale = {scale}");
        return Err(SettingsError::Impossible { path, what });
    }
    Ok(Settings {
        name: name(&configs, given),
        tokenizer_json: tokenizer.json,
        padding: tokenizer.padding,
        preprocess,
        logit_scale,
        logit_bias,
        context_length,
    })
}

/// What the model is called: as asked for, as a configuration says, or as the folder.
fn name(configs: &Configs, given: &Overrides) -> String {
    let named = || Some(configs.find(&["/name"])?.1.as_str()?.to_owned());
    let folder_name = || {
        let whole = configs.folder.canonicalize().ok()?;
        Some(whole.file_name()?.to_string_lossy().into_owned())
    };
    let name = given.name.clone().or_else(named).or_else(folder_name);
    name.unwrap_or_else(|| "model".into())
}

/// The configuration files of a folder; null where there is none.
struct Configs<'a> {
    general: Value,
    open_clip: Value,
    folder: &'a Path,
}

impl Configs<'_> {
    /// The first value that one of the files has at one of these places, and the file.
    fn find(&self, places: &[&str]) -> Option<(PathBuf, &Value)> {
        let files = layout::CONFIGS
            .into_iter()
            .zip([&self.general, &self.open_clip]);
        let mut all = places.iter().flat_map(|place| {
            let files = files.clone();
            files.map(|(name, file)| (name, file.pointer(place)))
        });
        all.find_map(|(name, value)| Some((self.folder.join(name), value?)))
    }

    fn number(&self, place: &str) -> Result<Option<(PathBuf, f64)>, SettingsError> {
        let Some((path, value)) = self.find(&[place]) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) => Ok(Some((path, number))),
            None => Err(SettingsError::Impossible {
                path,
                what: format!("{} = {value}", &place[1..]),
            }),
        }
    }

    /// Whether `config.json` says that this is a SigLIP, of either generation.
    fn is_siglip(&self) -> bool {
        let places = ["/model_type", "/text_config/model_type"];
        let mut kinds = places
            .iter()
            .filter_map(|place| self.general.pointer(place)?.as_str());
        kinds.any(|kind| kind.starts_with("siglip"))
    }
}

fn context_length(configs: &Configs, report: &mut Report) -> Result<usize, SettingsError> {
    let places = [
        "/text_config/max_position_embeddings",
        "/context_length",
        "/text_cfg/context_length",
        "/model_cfg/text_cfg/context_length",
    ];
    const WHAT: &str = "context length";
    let Some((path, value)) = configs.find(&places) else {
        if configs.is_siglip() {
            let path = configs.folder.join(layout::CONFIGS[0]);
            let value = format!("{SIGLIP_CONTEXT} tokens, as every SigLIP");
            report.origins.push(Origin::read(WHAT, value, path));
            return Ok(SIGLIP_CONTEXT);
        }
        report.notes.push(format!(
            "no file tells the context length: {CLIP_CONTEXT} tokens, unless the text tower is fixed to another"
        ));
        let value = format!("{CLIP_CONTEXT} tokens, unless the text tower is fixed to another");
        report.origins.push(Origin::guessed(WHAT, value));
        return Ok(CLIP_CONTEXT as usize);
    };
    match value.as_u64().filter(|length| (2..=4096).contains(length)) {
        Some(length) => {
            let origin = Origin::read(WHAT, format!("{length} tokens"), path);
            report.origins.push(origin);
            Ok(length as usize)
        }
        None => Err(SettingsError::Impossible {
            path,
            what: format!("a context length of {value}"),
        }),
    }
}

fn preprocess(
    configs: &Configs,
    image: &Path,
    given: &Overrides,
    report: &mut Report,
) -> Result<Preprocess, SettingsError> {
    const WHAT: &str = "preprocessing";
    let beside = layout::PREPROCESSING.map(|name| configs.folder.join(name));
    let mut found: Vec<PathBuf> = match &given.preprocess {
        Some(path) => vec![path.clone()],
        None => beside.into_iter().filter(|path| path.is_file()).collect(),
    };
    if given.preprocess.is_none() && !configs.open_clip["preprocess_cfg"].is_null() {
        found.push(configs.folder.join(layout::CONFIGS[1]));
    }
    for path in found {
        match Preprocess::from_json(&bytes(&path)?) {
            Ok(preprocess) => {
                let value = preprocess.to_string();
                report.origins.push(Origin::read(WHAT, value, path));
                return Ok(preprocess);
            }
            // One that lies there by the name alone.
            Err(PreprocessError::Silent) if given.preprocess.is_none() => {}
            Err(source) => return Err(SettingsError::Preprocess { path, source }),
        }
    }
    let places = [
        "/vision_config/image_size",
        "/vision_cfg/image_size",
        "/model_cfg/vision_cfg/image_size",
    ];
    let said = configs
        .find(&places)
        .and_then(|(_, size)| u32::try_from(size.as_u64()?).ok());
    let size = said
        .or_else(|| onnx::picture_size(image))
        .unwrap_or(CLIP_SIZE);
    let (preprocess, whose) = if configs.is_siglip() {
        (Preprocess::siglip(size), "SigLIP's")
    } else {
        (Preprocess::clip(size), "CLIP's")
    };
    report.notes.push(format!(
        "no file tells the preprocessing: {whose} own is taken ({preprocess})"
    ));
    let value = format!("{whose} own: {preprocess}");
    report.origins.push(Origin::guessed(WHAT, value));
    Ok(preprocess)
}

/// The largest file of settings that is read: tokenisers of several MB are usual.
const MOST_BYTES: u64 = 64 << 20;

fn bytes(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let read = files::read(path, MOST_BYTES).and_then(|bytes| {
        if bytes.len() as u64 > MOST_BYTES {
            return Err(io::Error::other(
                "it is above 64 MiB, too large for a file of settings",
            ));
        }
        if bytes.starts_with(files::LFS_VERSION) {
            return Err(io::Error::other(format!("it is {}", files::LFS_POINTER)));
        }
        Ok(bytes)
    });
    read.map_err(|source| SettingsError::Io {
        path: path.to_owned(),
        source,
    })
}

/// The JSON at `path`; null where there is no such file.
fn json(path: &Path) -> Result<Value, SettingsError> {
    if !path.is_file() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes(path)?).map_err(|source| SettingsError::Json {
        path: path.to_owned(),
        source,
    })
}
