//! What changes in front of a camera and among the pictures that are worth labelling, as states keep it and events tell it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::watch::Shown;

/// A region shows something else than before.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The camera's name.
    pub camera: String,
    /// The region's name.
    pub region: String,
    /// When, in seconds since 1970.
    pub at: f64,
    /// What it showed before; none at the start.
    #[serde(serialize_with = "optional_shown")]
    pub from: Option<Shown>,
    /// What it shows.
    #[serde(serialize_with = "shown")]
    pub to: Shown,
    /// How probable the nearest label is, in `0..=1`.
    pub probability: f32,
}

/// What became of a picture that is worth labelling.
#[derive(Clone, Debug, Serialize)]
pub struct RecentChange {
    /// The camera that it is of.
    pub camera: String,
    /// Which.
    pub id: String,
    /// Whether it is gone.
    pub gone: bool,
}

/// As JSON has what a region shows: a label's name, or `unknown`.
pub fn shown<S: serde::Serializer>(shown: &Shown, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(shown)
}

/// As [`shown`]; nothing is null.
pub fn optional_shown<S: serde::Serializer>(
    shown: &Option<Shown>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match shown {
        Some(shown) => to.collect_str(shown),
        None => to.serialize_none(),
    }
}

/// Now, in seconds since 1970, to the millisecond.
pub fn now() -> f64 {
    seconds(SystemTime::now())
}

/// A time in seconds since 1970, to the millisecond.
pub fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1e3
}
