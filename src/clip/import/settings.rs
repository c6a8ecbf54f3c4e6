//! What the small files beside the towers say: tokeniser, preprocessing, context length, logit scale. What none says
//! is either noted with the value that is taken, or an error.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use super::{Overrides, onnx};
use crate::clip::preprocess::{Preprocess, PreprocessError};
use crate::clip::tokenizer::{CLIP_MERGES, CLIP_VOCABULARY, Tokenizer, TokenizerError};
use crate::files;

/// Tokens of a sequence and pixels a side, where nothing says: those of OpenAI's models.
pub const CLIP_CONTEXT: u64 = 77;
const CLIP_SIZE: u32 = 224;

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
    pub preprocess: Preprocess,
    /// Nothing where only the graph could say.
    pub logit_scale: Option<f32>,
    pub context_length: usize,
}

/// Reads the files of `folder`; `given` goes before them.
pub fn read(
    folder: &Path,
    image: &Path,
    given: &Overrides,
    notes: &mut Vec<String>,
) -> Result<Settings, SettingsError> {
    let configs = Configs {
        general: json(&folder.join("config.json"))?,
        open_clip: json(&folder.join("open_clip_config.json"))?,
        folder,
    };
    let named = configs
        .find(&["/name"])
        .and_then(|(_, name)| name.as_str().map(str::to_owned));
    let folder_name = || {
        let whole = folder.canonicalize().ok()?;
        Some(whole.file_name()?.to_string_lossy().into_owned())
    };
    let name = given.name.clone().or(named).or_else(folder_name);
    Ok(Settings {
        name: name.unwrap_or_else(|| "model".into()),
        tokenizer_json: tokenizer(&configs, given, notes)?,
        preprocess: preprocess(&configs, image, given, notes)?,
        logit_scale: match given.logit_scale {
            Some(scale) => Some(scale),
            None => configs.number("/logit_scale")?.map(|scale| scale as f32),
        },
        context_length: context_length(&configs, notes)?,
    })
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
        let files = [
            ("config.json", &self.general),
            ("open_clip_config.json", &self.open_clip),
        ];
        let mut all = places
            .iter()
            .flat_map(|place| files.map(|(name, file)| (name, file.pointer(place))));
        all.find_map(|(name, value)| Some((self.folder.join(name), value?)))
    }

    fn number(&self, place: &str) -> Result<Option<f64>, SettingsError> {
        let Some((path, value)) = self.find(&[place]) else {
            return Ok(None);
        };
        match value.as_f64().filter(|number| *number > 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(SettingsError::Impossible {
                path,
                what: format!("{} = {value}", &place[1..]),
            }),
        }
    }
}

fn context_length(configs: &Configs, notes: &mut Vec<String>) -> Result<usize, SettingsError> {
    let places = [
        "/text_config/max_position_embeddings",
        "/context_length",
        "/text_cfg/context_length",
        "/model_cfg/text_cfg/context_length",
    ];
    let Some((path, value)) = configs.find(&places) else {
        notes.push(format!(
            "no file tells the context length: {CLIP_CONTEXT} tokens, unless the text tower is fixed to another"
        ));
        return Ok(CLIP_CONTEXT as usize);
    };
    match value.as_u64().filter(|length| (2..=4096).contains(length)) {
        Some(length) => Ok(length as usize),
        None => Err(SettingsError::Impossible {
            path,
            what: format!("a context length of {value}"),
        }),
    }
}

fn tokenizer(
    configs: &Configs,
    given: &Overrides,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, SettingsError> {
    let names = ["tokenizer.json", "textual/tokenizer.json", "vocab.json"];
    let beside = names.map(|name| configs.folder.join(name));
    let found = given
        .tokenizer
        .clone()
        .or_else(|| beside.into_iter().find(|path| path.is_file()));
    let Some(path) = found else {
        let places = [
            "/text_cfg/hf_tokenizer_name",
            "/model_cfg/text_cfg/hf_tokenizer_name",
        ];
        if let Some((path, name)) = configs.find(&places) {
            let name = name.to_string();
            return Err(SettingsError::NoTokenizer { path, name });
        }
        notes.push(format!(
            "no tokenizer.json: CLIP's own tokenizer with {CLIP_VOCABULARY} tokens is taken"
        ));
        let clip = Tokenizer::clip(CLIP_MERGES, CLIP_VOCABULARY);
        return json_bytes(clip, Path::new("CLIP's own tokenizer"));
    };
    let bytes = bytes(&path)?;
    let vocabulary: Value = match serde_json::from_slice(&bytes) {
        Ok(vocabulary) => vocabulary,
        Err(source) => return Err(SettingsError::Json { path, source }),
    };
    match vocabulary {
        Value::Object(ids) if !ids.is_empty() && ids.values().all(Value::is_u64) => {
            let merges = path.with_file_name("merges.txt");
            let text = String::from_utf8_lossy(&self::bytes(&merges)?).into_owned();
            json_bytes(Tokenizer::from_vocabulary(ids, &text), &merges)
        }
        _ => Ok(bytes),
    }
}

fn json_bytes(
    tokenizer: Result<Tokenizer, TokenizerError>,
    path: &Path,
) -> Result<Vec<u8>, SettingsError> {
    tokenizer
        .and_then(|tokenizer| tokenizer.to_json_bytes())
        .map_err(|source| SettingsError::Tokenizer {
            path: path.to_owned(),
            source,
        })
}

fn preprocess(
    configs: &Configs,
    image: &Path,
    given: &Overrides,
    notes: &mut Vec<String>,
) -> Result<Preprocess, SettingsError> {
    let names = [
        "preprocessor_config.json",
        "processor_config.json",
        "visual/preprocess_cfg.json",
        "preprocess_cfg.json",
    ];
    let beside = names.map(|name| configs.folder.join(name));
    let mut found = given
        .preprocess
        .clone()
        .or_else(|| beside.into_iter().find(|path| path.is_file()));
    if found.is_none() && !configs.open_clip["preprocess_cfg"].is_null() {
        found = Some(configs.folder.join("open_clip_config.json"));
    }
    if let Some(path) = found {
        let preprocess = Preprocess::from_json(&bytes(&path)?);
        return preprocess.map_err(|source| SettingsError::Preprocess { path, source });
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
    notes.push(format!(
        "no file tells the preprocessing: CLIP's own is taken ({size} pixels, bicubic, CLIP's mean and deviation)"
    ));
    Ok(Preprocess::clip(size))
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
