//! The model of a prompt, where the box has it not: fetched over HTTP(S) from where the notice says, resumed where a connection
//! broke, and checked against the SHA-256 that is signed.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::Bundle;
use crate::clip::{BundleHeader, ModelError};
use crate::download::{Client, ClientOptions, DownloadError, Request, Sha256, Step};
use crate::prompt::Prompt;
use crate::store::home::check_name;
use crate::store::{Home, StoreError};

/// Why a model was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// It cannot be downloaded.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no room, or no right, for it.
    #[error("{} cannot be made ({source})", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no model.
    #[error("what was fetched is no model: {0}")]
    Model(#[from] ModelError),
    /// It is another model.
    #[error("what was fetched is another model than the prompt's")]
    Other,
}

impl FetchError {
    /// Whether the same may succeed later: not where the file that lies there is another one.
    pub fn may_pass(&self) -> bool {
        match self {
            FetchError::Download(error) => !matches!(
                error,
                DownloadError::Url { .. }
                    | DownloadError::Proxy { .. }
                    | DownloadError::TooLarge { .. }
                    | DownloadError::Checksum { .. }
            ),
            FetchError::Store(_) | FetchError::Folder { .. } => true,
            FetchError::Model(_) | FetchError::Other => false,
        }
    }
}

/// Fetches the model of `prompt` into `home`; `go_on` is asked often whether to.
///
/// # Errors
/// If it cannot be fetched whole, or is another model: then there is none of that name.
pub fn fetch(
    home: &Home,
    prompt: &Prompt,
    bundle: &Bundle,
    options: ClientOptions,
    go_on: &dyn Fn() -> bool,
) -> Result<PathBuf, FetchError> {
    let fingerprint = blake3::Hash::from(prompt.model_fingerprint).to_hex();
    // By fingerprint: a model of the same name that is in use is never replaced.
    let named = format!("{}-{}", prompt.model_name, &fingerprint[..8]);
    let name = match check_name(&named, "model", ".rlpm") {
        Ok(()) => named,
        Err(_) => format!("fleet-{}", &fingerprint[..8]),
    };
    let target = home.model_path(&name)?;
    let folder = home.models_folder();
    std::fs::create_dir_all(&folder).map_err(|source| FetchError::Folder {
        path: folder,
        source,
    })?;
    let request = Request {
        url: &bundle.url,
        target: &target,
        sha256: Some(Sha256::from_hex(&bundle.sha256).ok_or(FetchError::Other)?),
        most: bundle.bytes,
    };
    let progress = &mut |_: Step| {
        if go_on() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    Client::new(options)?.fetch(request, progress)?;
    let header = BundleHeader::read(&target);
    let other = match header {
        Ok(header) if header.fingerprint.0 == prompt.model_fingerprint => return Ok(target),
        Ok(_) => FetchError::Other,
        Err(error) => error.into(),
    };
    // It would only take room: whoever published it has made a mistake.
    let _ = std::fs::remove_file(&target);
    Err(other)
}
