//! What goes wrong with a request, as problem details (RFC 9457).

use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::Semaphore;

use super::rejection::reason;
use crate::frames::PictureError;
use crate::serve::cameras::NoLabels;
use crate::serve::config::ConfigError;
use crate::serve::models::ModelsError;
use crate::serve::shots::ShotsError;
use crate::serve::training::TrainingError;
use crate::store::StoreError;

/// What is wrong with a request, or with this machine.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    /// With a sentence for people.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            detail: detail.into(),
        }
    }

    /// What is asked for is not there.
    pub fn missing(what: &str, name: &str) -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no {what} {name:?}"),
        )
    }

    /// What is asked for cannot be done as it is said.
    pub fn refused(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// What is asked for does not fit what is there now.
    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    /// What is wrong, in a sentence.
    #[cfg(test)]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The code of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// This machine failed.
    pub fn failed(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Problem"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Problem {
        let status = match &error {
            ConfigError::Missing { .. } => StatusCode::NOT_FOUND,
            ConfigError::Change(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ConfigError::Write { .. } => StatusCode::INSUFFICIENT_STORAGE,
            // Somebody is changing the file by hand.
            ConfigError::Fault { .. } | ConfigError::Text { .. } | ConfigError::Gone { .. } => {
                StatusCode::CONFLICT
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, reason(&error.to_string()))
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let status = match &error {
            StoreError::Name(_) => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::Missing(_) => StatusCode::NOT_FOUND,
            StoreError::Locked { .. } => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Disk(_) => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<PictureError> for Problem {
    fn from(error: PictureError) -> Problem {
        Problem::refused(error.to_string())
    }
}

impl From<NoLabels> for Problem {
    fn from(error: NoLabels) -> Problem {
        match error {
            NoLabels::Store(error) => error.into(),
            NoLabels::Labels(error) => Problem::failed(error.to_string()),
        }
    }
}

impl From<ModelsError> for Problem {
    fn from(error: ModelsError) -> Problem {
        Problem::failed(error.to_string())
    }
}

impl From<ShotsError> for Problem {
    fn from(error: ShotsError) -> Problem {
        match error {
            ShotsError::Store(error) => error.into(),
            ShotsError::NoLabels(error) => error.into(),
            ShotsError::NoShot { .. } => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
            ShotsError::NothingToUndo => Problem::conflict(error.to_string()),
            ShotsError::Full { .. } => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
            }
            _ => Problem::refused(error.to_string()),
        }
    }
}

impl From<TrainingError> for Problem {
    fn from(error: TrainingError) -> Problem {
        match error {
            TrainingError::Store(error) => error.into(),
            TrainingError::Start(_) => Problem::failed(error.to_string()),
            _ => Problem::conflict(error.to_string()),
        }
    }
}

/// Runs work that computes or waits for the disk where it holds up nothing else.
///
/// # Errors
/// Those of `work`.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Problem::failed(
            "this program has a fault here; what was kept before is whole",
        )),
    }
}

/// As [`blocking`], for work that may take minutes: it waits for its turn without a thread, so that many who ask, or ask again, leave
/// threads to all others.
///
/// # Errors
/// Those of `work`.
pub async fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let turn = Arc::clone(turns).acquire_owned().await;
    blocking(move || {
        let done = work();
        drop(turn);
        done
    })
    .await
}
