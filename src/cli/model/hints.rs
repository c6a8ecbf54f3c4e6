//! What to type after a model could not be opened, imported or downloaded: the library's errors say what is wrong, this
//! says which flag or command helps. It must not do anything about it.

use crate::clip::ModelError;
use crate::clip::bundle::BundleError;
use crate::clip::import::{DirectoryError, ImportError, OnnxError, SettingsError};
#[cfg(feature = "pull")]
use crate::download::DownloadError;
use std::error::Error;

/// What to type against `error`, where that is known.
pub fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<ModelError>() {
        return model_hint(error);
    }
    if let Some(error) = error.downcast_ref::<ImportError>() {
        return import_hint(error);
    }
    #[cfg(feature = "pull")]
    if let Some(error) = error.downcast_ref::<DownloadError>() {
        return download_hint(error);
    }
    match error.downcast_ref::<DirectoryError>()? {
        DirectoryError::NoTowers { .. } => {
            Some("name them with --image and --text, or with --full")
        }
        DirectoryError::NotAFolder { path, .. } if path.extension()? == "onnx" => {
            Some("name a file with both towers with --full, or each with --image and --text")
        }
        DirectoryError::Settings(SettingsError::NoTokenizer { .. }) => {
            Some("give its file with --tokenizer")
        }
        _ => None,
    }
}

fn import_hint(error: &ImportError) -> Option<&'static str> {
    match error {
        ImportError::Parity { .. } => {
            Some("try `--precision f32`, or `--force` to take it all the same")
        }
        ImportError::OtherTokenizer { .. } => Some("give the model's own with --tokenizer"),
        ImportError::Onnx(OnnxError::PictureShape { .. }) => {
            Some("give the model's own preprocessing with --preprocess")
        }
        _ => None,
    }
}

#[cfg(feature = "pull")]
fn download_hint(error: &DownloadError) -> Option<&'static str> {
    match error {
        DownloadError::Proxy { .. } => {
            Some("correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or unset it")
        }
        DownloadError::DiskFull { .. } => Some("make room, or choose another folder with --home"),
        DownloadError::Stopped { .. } | DownloadError::GaveUp { kept: 1.., .. } => {
            Some("run the same command again to go on")
        }
        DownloadError::Busy { .. } => Some("wait for it to end"),
        _ => None,
    }
}

/// What to type after a bundle could not be opened.
pub fn model_hint(error: &ModelError) -> Option<&'static str> {
    match error {
        ModelError::Bundle(BundleError::NotABundle) => {
            Some("make one with `edge-rlp model import`")
        }
        ModelError::Bundle(BundleError::Newer { .. }) => Some("use a newer edge-rlp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: impl Into<anyhow::Error>) -> String {
        crate::cli::errors::sentence(&error.into())
    }

    #[test]
    fn errors_of_the_library_name_no_flag_and_get_theirs_here() {
        let path = || std::path::PathBuf::from("here");
        let (image, text) = (0.5, 0.9);
        let parity = said(ImportError::Parity { image, text });
        assert!(parity.contains("0.5000") && parity.ends_with("all the same"));
        let tokenizer = DirectoryError::Settings(SettingsError::NoTokenizer {
            path: path(),
            name: "x/y".into(),
        });
        assert!(!tokenizer.to_string().contains("--"));
        assert!(
            said(tokenizer).ends_with("x/y, which is not there; give its file with --tokenizer")
        );
        let towers = DirectoryError::NoTowers {
            path: path(),
            found: String::new(),
        };
        assert!(!towers.to_string().contains("--"));
        assert!(said(towers).contains("--full"));
        let bundle = ModelError::from(BundleError::NotABundle);
        assert!(said(anyhow::Error::from(bundle).context("a.rlpm")).contains("model import"));
        assert_eq!(
            said(ImportError::Tensor("w".into())),
            "the image tower cannot be kept: w"
        );
    }
}
