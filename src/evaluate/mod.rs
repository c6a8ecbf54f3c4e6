//! Evaluation: the protocols of the papers, on features that were extracted once and are shared by all methods, and
//! the numbers that say how good each method is.

pub mod data_set;
pub mod methods;
pub mod metrics;
pub mod protocols;

pub use data_set::{DataSet, DataSetError};
pub use methods::{FitOptions, Fitted, Kept, Lesson, Method, Predictor, Probe};
pub use metrics::{Assessment, CalibrationError, Recognition, harmonic_mean, wilson};
pub use protocols::{
    Part, PartClasses, Tested, Trial, TrialResult, base_and_new, choose_shots, run, test,
};

use crate::adapt::AdaptError;
use crate::classifier::ClassifierError;
use crate::clip::TextTowerError;

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// There is no such method.
    #[error(
        "there is no method {name:?}: choose from {}, or all",
        Method::ALL.map(Method::name).join(", ")
    )]
    UnknownMethod {
        /// The name as it was given.
        name: String,
    },
    /// A prompt cannot be trained.
    #[error(transparent)]
    Adapt(#[from] AdaptError),
    /// Template, labels and model do not fit each other.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// The text tower cannot be run.
    #[error(transparent)]
    Text(#[from] TextTowerError),
}

/// A file that `tests/fixtures/evaluate/make.py` wrote.
#[cfg(test)]
fn fixture(name: &str) -> serde_json::Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/evaluate")
        .join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
