//! The tokeniser of an export: which file it is, what its configuration adds to it, and which token fills texts up.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Configs, Report, SettingsError, bytes};
use crate::clip::import::{Origin, Overrides, layout};
use crate::clip::tokenizer::{CLIP_MERGES, CLIP_VOCABULARY, Tokenizer, TokenizerError};

/// A tokeniser as a bundle keeps it.
pub struct Found {
    /// A `tokenizer.json`.
    pub json: Vec<u8>,
    /// The token that fills texts up, where that is known.
    pub padding: Option<u32>,
}

const WHAT: &str = "tokenizer";
const PADDING: &str = "padding token";
/// The punctuation that open_clip's and SigLIP's cleaning takes out: Python's `string.punctuation`.
const PUNCTUATION: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"##;

/// What is done to a text before it is cut into tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cleaning {
    /// What the tokenizer.json says itself.
    AsItIs,
    Lowercase,
    /// Lower-cased, without punctuation, one space between words.
    Canonical,
}

/// Reads the tokeniser of a folder, or the one that is given.
pub fn read(
    configs: &Configs,
    given: &Overrides,
    report: &mut Report,
) -> Result<Found, SettingsError> {
    let beside = layout::TOKENIZERS.map(|name| configs.folder.join(name));
    let found = given
        .tokenizer
        .clone()
        .or_else(|| beside.into_iter().find(|path| path.is_file()));
    let Some(path) = found else {
        return clips_own(configs, given, report);
    };
    let json = from_file(&path)?;
    let own = super::json(&path.with_file_name("tokenizer_config.json"))?;
    let found = finished(configs, &path, json, &own)?;
    let value = match found.cleaning {
        Cleaning::AsItIs => "as the file has it".to_owned(),
        Cleaning::Lowercase => "texts are lower-cased".to_owned(),
        Cleaning::Canonical => "texts are lower-cased, and lose their punctuation".to_owned(),
    };
    if found.cleaning != Cleaning::AsItIs {
        report.notes.push(format!(
            "{value}, as this kind of model was trained; its tokenizer.json does not say so"
        ));
    }
    report.origins.push(Origin::read(WHAT, value, path.clone()));
    let files = TokenizerFiles {
        json: &found.json,
        path: &path,
        config: &own,
    };
    let padding = padding(configs, given, files, report)?;
    Ok(Found {
        json: found.json,
        padding,
    })
}

/// CLIP's tokeniser, for an export without one, unless its configuration names another.
fn clips_own(
    configs: &Configs,
    given: &Overrides,
    report: &mut Report,
) -> Result<Found, SettingsError> {
    let places = [
        "/text_cfg/hf_tokenizer_name",
        "/model_cfg/text_cfg/hf_tokenizer_name",
    ];
    if let Some((path, name)) = configs.find(&places) {
        let name = name.to_string();
        return Err(SettingsError::NoTokenizer { path, name });
    }
    if configs.is_siglip() {
        let path = configs.folder.join(layout::CONFIGS[0]);
        let name = "of SigLIP".into();
        return Err(SettingsError::NoTokenizer { path, name });
    }
    let value = format!("CLIP's own tokenizer with {CLIP_VOCABULARY} tokens");
    report
        .notes
        .push(format!("no tokenizer.json: {value} is taken"));
    report.origins.push(Origin::guessed(WHAT, value));
    let clip = Tokenizer::clip(CLIP_MERGES, CLIP_VOCABULARY);
    Ok(Found {
        json: json_bytes(clip, Path::new("CLIP's own tokenizer"))?,
        padding: Some(given.padding.unwrap_or(0)),
    })
}

/// The bytes of a `tokenizer.json`, made of a `vocab.json` where `path` is one.
fn from_file(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let bytes = bytes(path)?;
    let vocabulary: Value = match serde_json::from_slice(&bytes) {
        Ok(vocabulary) => vocabulary,
        Err(source) => {
            let path = path.to_owned();
            return Err(SettingsError::Json { path, source });
        }
    };
    match vocabulary {
        Value::Object(ids) if !ids.is_empty() && ids.values().all(Value::is_u64) => {
            let merges = path.with_file_name(layout::MERGES);
            let text = String::from_utf8_lossy(&super::bytes(&merges)?).into_owned();
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
        .map_err(|source| unusable(path, source))
}

fn unusable(path: &Path, source: TokenizerError) -> SettingsError {
    SettingsError::Tokenizer {
        path: path.to_owned(),
        source,
    }
}

/// A tokenizer.json with what its configuration adds.
struct Finished {
    json: Vec<u8>,
    /// What was added; [`Cleaning::AsItIs`] where the file does all that is wanted already.
    cleaning: Cleaning,
}

/// Adds what `own`, the tokenizer_config.json, and the model's kind say and the file at `path` leaves out: cleaning, and
/// the token at the end.
fn finished(
    configs: &Configs,
    path: &Path,
    bytes: Vec<u8>,
    own: &Value,
) -> Result<Finished, SettingsError> {
    let wanted = cleaning(configs, &bytes, own);
    let ends = own["eos_token"]
        .as_str()
        .or(own["eos_token"]["content"].as_str());
    let ends = ends.filter(|_| own["add_eos_token"] == true);
    let as_it_is = |json| {
        let cleaning = Cleaning::AsItIs;
        Ok(Finished { json, cleaning })
    };
    if wanted == Cleaning::AsItIs && ends.is_none() {
        return as_it_is(bytes);
    }
    let read = |bytes: &[u8]| Tokenizer::from_json(bytes);
    let mut json: Map<String, Value> = match serde_json::from_slice(&bytes) {
        Ok(json) => json,
        // Whoever opens it says what is wrong with it.
        Err(_) => return as_it_is(bytes),
    };
    if let (Some(ends), Err(TokenizerError::SpecialToken(_))) = (ends, read(&bytes)) {
        json.insert("post_processor".into(), ending(&json, ends));
    }
    let text = |json: &Map<String, Value>| Value::from(json.clone()).to_string().into_bytes();
    let tokenizer = read(&text(&json)).map_err(|source| unusable(path, source))?;
    let encode = |text: &str| tokenizer.encode(text);
    let same = |a: &str, b: &str| -> Result<bool, TokenizerError> { Ok(encode(a)? == encode(b)?) };
    let unusable = |source| unusable(path, source);
    let done = match wanted {
        Cleaning::AsItIs => true,
        Cleaning::Lowercase => same("A Dog", "a dog").map_err(unusable)?,
        Cleaning::Canonical => same("A  (dog).", "a dog").map_err(unusable)?,
    };
    if done {
        return as_it_is(text(&json));
    }
    let before = json.get("normalizer").cloned().unwrap_or(Value::Null);
    json.insert("normalizer".into(), cleaned(wanted, before));
    Ok(Finished {
        json: text(&json),
        cleaning: wanted,
    })
}

/// How the texts of this kind of model were cleaned.
fn cleaning(configs: &Configs, tokenizer: &[u8], own: &Value) -> Cleaning {
    let places = [
        "/text_cfg/tokenizer_kwargs/clean",
        "/model_cfg/text_cfg/tokenizer_kwargs/clean",
    ];
    if let Some((_, clean)) = configs.find(&places) {
        return match clean.as_str() {
            Some("canonicalize") => Cleaning::Canonical,
            Some("lower") => Cleaning::Lowercase,
            _ => Cleaning::AsItIs,
        };
    }
    match own["tokenizer_class"].as_str() {
        Some("SiglipTokenizer") => return Cleaning::Canonical,
        Some("Siglip2Tokenizer") => return Cleaning::Lowercase,
        _ => {}
    }
    if configs.is_siglip() {
        // The first generation has a unigram model of SentencePiece, the second Gemma's pairs.
        let json: Value = serde_json::from_slice(tokenizer).unwrap_or_default();
        return if json["model"]["type"] == "Unigram" {
            Cleaning::Canonical
        } else {
            Cleaning::Lowercase
        };
    }
    if own["do_lower_case"] == true {
        Cleaning::Lowercase
    } else {
        Cleaning::AsItIs
    }
}

/// `before` behind the cleaning.
fn cleaned(cleaning: Cleaning, before: Value) -> Value {
    let replace = |pattern: &str, content: &str| json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content});
    let mut all = vec![json!({"type": "Lowercase"})];
    if cleaning == Cleaning::Canonical {
        all.push(replace(PUNCTUATION, ""));
        all.push(replace(r"\s+", " "));
        all.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
    }
    all.extend(Some(before).filter(|before| !before.is_null()));
    json!({"type": "Sequence", "normalizers": all})
}

/// A post-processor that puts the token `end` after every text.
fn ending(json: &Map<String, Value>, end: &str) -> Value {
    let added = json.get("added_tokens").and_then(Value::as_array);
    let id = added.and_then(|added| added.iter().find(|token| token["content"] == end));
    let id = id.map_or(Value::Null, |token| token["id"].clone());
    json!({
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {end: {"id": end, "ids": [id], "tokens": [end]}},
    })
}

/// A tokeniser as it was found.
struct TokenizerFiles<'a> {
    /// The content of tokenizer.json.
    json: &'a [u8],
    /// That file.
    path: &'a Path,
    /// The content of tokenizer_config.json beside it.
    config: &'a Value,
}

/// The token that fills texts up: as asked for, as open_clip has it, as the tokeniser's configuration or the tokeniser
/// itself says.
fn padding(
    configs: &Configs,
    given: &Overrides,
    TokenizerFiles { json, path, config }: TokenizerFiles,
    report: &mut Report,
) -> Result<Option<u32>, SettingsError> {
    let mut found = |id: u64, file: Option<PathBuf>| {
        let origin = match file {
            Some(file) => Origin::read(PADDING, id.to_string(), file),
            None => Origin::given(PADDING, format!("{id}, as asked for")),
        };
        report.origins.push(origin);
        Ok(u32::try_from(id).ok())
    };
    if let Some(padding) = given.padding {
        return found(padding.into(), None);
    }
    let named = [
        "/text_cfg/hf_tokenizer_name",
        "/model_cfg/text_cfg/hf_tokenizer_name",
    ];
    let of_open_clip = configs.find(&["/text_cfg", "/model_cfg/text_cfg"]);
    if let Some((file, _)) = of_open_clip.filter(|_| configs.find(&named).is_none()) {
        // open_clip's own tokeniser fills up with zeros, whatever the files of Hugging Face beside it say.
        return found(0, Some(file));
    }
    let token = config["pad_token"]
        .as_str()
        .or(config["pad_token"]["content"].as_str());
    if let Some(token) = token {
        let tokenizer = Tokenizer::from_json(json);
        let tokenizer = tokenizer.map_err(|source| unusable(path, source))?;
        if let Some(id) = tokenizer.id(token) {
            let file = path.with_file_name("tokenizer_config.json");
            return found(id.into(), Some(file));
        }
    }
    let json: Value = serde_json::from_slice(json).unwrap_or_default();
    if let Some(id) = json["padding"]["pad_id"].as_u64() {
        return found(id, Some(path.to_owned()));
    }
    match configs.find(&["/text_config/pad_token_id"]) {
        Some((file, id)) if id.is_u64() => found(id.as_u64().unwrap_or(0), Some(file)),
        _ => Ok(None),
    }
}
