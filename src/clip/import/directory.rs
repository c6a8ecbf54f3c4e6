//! Recognises a folder with the files of a CLIP by their names, and reads from them what an import needs. Nothing is
//! guessed: what no file says must be given. It must not know what is in the ONNX files.

use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use super::ImportOptions;
use crate::clip::layout::Precision;
use crate::clip::preprocess::{Preprocess, PreprocessError};

/// Names that exporters give the two towers, image first.
const PAIRS: [[&str; 2]; 3] = [
    ["visual.onnx", "textual.onnx"],
    ["onnx/vision_model.onnx", "onnx/text_model.onnx"],
    ["vision_model.onnx", "text_model.onnx"],
];

/// Why a folder cannot be imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{path} has no pair of towers; expected visual.onnx and textual.onnx, or vision_model.onnx and text_model.onnx (also under onnx/)"
    )]
    NoTowers { path: PathBuf },
    #[error("{path}: {source}")]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{path}: {source}")]
    Preprocess {
        path: PathBuf,
        source: PreprocessError,
    },
    #[error("{path} does not say {what}; add it to the file or give it on the command line")]
    Missing { path: PathBuf, what: &'static str },
}

/// What a person says beside the files, and before them.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub name: Option<String>,
    pub logit_scale: Option<f32>,
    pub tokenizer: Option<PathBuf>,
    pub preprocess: Option<PathBuf>,
}

/// The options of an import of the folder `path`: `config.json` (context length, logit scale, name),
/// `preprocessor_config.json`, `tokenizer.json`, and the two towers.
pub fn from_directory(path: &Path, given: &Overrides) -> Result<ImportOptions, DirectoryError> {
    let pair = PAIRS.iter().map(|pair| pair.map(|name| path.join(name)));
    let pair = pair
        .into_iter()
        .find(|pair| pair.iter().all(|file| file.is_file()));
    let [image, text] = pair.ok_or_else(|| DirectoryError::NoTowers {
        path: path.to_owned(),
    })?;

    let config_path = path.join("config.json");
    let config: Value =
        serde_json::from_slice(&read(&config_path)?).map_err(|source| DirectoryError::Json {
            path: config_path.clone(),
            source,
        })?;
    let missing = |what| DirectoryError::Missing {
        path: config_path.clone(),
        what,
    };
    let context = config
        .pointer("/text_config/max_position_embeddings")
        .or(config.get("context_length"));
    let context_length = context
        .and_then(Value::as_u64)
        .ok_or_else(|| missing("the context length"))?;
    let logit_scale = given.logit_scale.or(config
        .get("logit_scale")
        .and_then(Value::as_f64)
        .map(|scale| scale as f32));

    let preprocess_path = given
        .preprocess
        .clone()
        .unwrap_or_else(|| path.join("preprocessor_config.json"));
    let preprocess = Preprocess::from_hf_json(&read(&preprocess_path)?).map_err(|source| {
        DirectoryError::Preprocess {
            path: preprocess_path,
            source,
        }
    })?;
    let named = config
        .get("name")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let folder = || {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    Ok(ImportOptions {
        name: given
            .name
            .clone()
            .or(named)
            .or_else(folder)
            .ok_or_else(|| missing("the model's name"))?,
        image,
        text,
        tokenizer_json: read(
            &given
                .tokenizer
                .clone()
                .unwrap_or_else(|| path.join("tokenizer.json")),
        )?,
        preprocess,
        logit_scale: logit_scale
            .ok_or_else(|| missing("the logit scale (`logit_scale`, exponentiated)"))?,
        context_length: context_length as usize,
        precision: Precision::Int8,
        force: false,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, DirectoryError> {
    std::fs::read(path).map_err(|source| DirectoryError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREPROCESSOR: &str = r#"{"size": 64, "crop_size": 64, "resample": 3, "do_resize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}"#;

    fn folder(config: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("visual.onnx", ""),
            ("textual.onnx", ""),
            ("tokenizer.json", "{}"),
            ("config.json", config),
            ("preprocessor_config.json", PREPROCESSOR),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn the_files_say_all_that_is_needed() {
        let folder = folder(
            r#"{"name": "tiny", "logit_scale": 14.5, "text_config": {"max_position_embeddings": 32}}"#,
        );
        let options = from_directory(folder.path(), &Overrides::default()).unwrap();
        assert_eq!(
            (
                options.name.as_str(),
                options.logit_scale,
                options.context_length
            ),
            ("tiny", 14.5, 32)
        );
        assert_eq!(options.preprocess.size, 64);
        assert!(options.image.ends_with("visual.onnx") && options.text.ends_with("textual.onnx"));
        let given = Overrides {
            name: Some("mine".into()),
            logit_scale: Some(100.0),
            ..Overrides::default()
        };
        let options = from_directory(folder.path(), &given).unwrap();
        assert_eq!(
            (options.name.as_str(), options.logit_scale),
            ("mine", 100.0)
        );
    }

    #[test]
    fn what_no_file_says_is_asked_for() {
        let incomplete = folder(r#"{"text_config": {"max_position_embeddings": 32}}"#);
        let error = from_directory(incomplete.path(), &Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("logit scale"), "{error}");
        std::fs::remove_file(incomplete.path().join("tokenizer.json")).unwrap();
        let given = Overrides {
            logit_scale: Some(100.0),
            ..Overrides::default()
        };
        let error = from_directory(incomplete.path(), &given).unwrap_err();
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(
            from_directory(empty.path(), &given),
            Err(DirectoryError::NoTowers { .. })
        ));
    }
}
