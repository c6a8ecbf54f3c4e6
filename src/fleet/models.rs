//! The models that a box has, by what their weights are.

use super::fetch::FetchError;
use crate::clip::{BundleHeader, Model};
use crate::store::Home;

/// Why a box has no model for a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoModel {
    /// It has others, in words, and this one cannot be had.
    Others(String),
    /// It could not be fetched, in words, and the next try may succeed.
    NotYet(String),
}

impl NoModel {
    /// Of a failed attempt to fetch it, by a box with this home folder.
    pub fn fetching(home: &Home, error: &FetchError) -> NoModel {
        match error.may_pass() {
            true => NoModel::NotYet(error.to_string()),
            false => NoModel::Others(format!("{}, and {error}", in_words(home))),
        }
    }
}

/// The model with this fingerprint: the one inside the program, or one of `home`.
///
/// # Errors
/// In words, what there is in its place.
pub fn open(home: &Home, fingerprint: &[u8; 32]) -> Result<Model, String> {
    let is = |header: &BundleHeader| header.fingerprint.0 == *fingerprint;
    if BundleHeader::embedded().is_ok_and(|header| is(&header)) {
        return Model::embedded().map_err(|error| error.to_string());
    }
    for (_, path) in home.models().map_err(|error| error.to_string())? {
        // One that is damaged is not the one.
        if BundleHeader::read(&path).is_ok_and(|header| is(&header)) {
            return Model::open(&path).map_err(|error| error.to_string());
        }
    }
    Err(in_words(home))
}

/// Which models a box has.
pub fn in_words(home: &Home) -> String {
    let kept = home.models().unwrap_or_default();
    let kept = kept
        .into_iter()
        .filter_map(|(name, path)| Some((name, BundleHeader::read(&path).ok()?)));
    let own = BundleHeader::embedded()
        .ok()
        .map(|header| ("default".to_owned(), header));
    let all = own.into_iter().chain(kept).map(|(name, header)| {
        let hex = blake3::Hash::from(header.fingerprint.0).to_hex();
        format!("{name} ({})", &hex[..8])
    });
    all.collect::<Vec<_>>().join(", ")
}
