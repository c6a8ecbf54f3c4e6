//! Pictures that are worth labelling: those that the prompt was unsure of, or at which the label changed. They are kept as
//! files, bounded in number and bytes, the oldest out first, and written no more often than needed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ndarray::Array1;

use super::Named;
use crate::frames::PictureError;
use crate::store::{KeptPictures, StoreError};

/// A lead of the best label over the second, in probability, below which the answer is unsure.
const UNSURE: f32 = 0.2;
/// The shortest time between two pictures that are kept: flash wears out.
const PAUSE: Duration = Duration::from_secs(10);
/// A picture whose feature has a cosine above this with that of the one kept before shows the same again.
const ALIKE: f32 = 0.98;

/// Why a picture could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// It cannot be encoded.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// It cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps the uncertain pictures of one camera.
#[derive(Debug)]
pub struct Uncertain {
    kept: KeptPictures,
    /// When the last was kept, and its feature.
    last: Option<(Instant, Array1<f32>)>,
    count: u64,
}

impl Uncertain {
    /// Keeps pictures in `kept`.
    pub fn new(kept: KeptPictures) -> Uncertain {
        Uncertain {
            kept,
            last: None,
            count: 0,
        }
    }

    /// Keeps what was named at `now` if it is worth labelling; its file, if so.
    ///
    /// # Errors
    /// If it cannot be written; watching can go on.
    pub fn offer(&mut self, named: &Named, now: Instant) -> Result<Option<PathBuf>, KeepError> {
        // The first frame is no change of label.
        let changed = named
            .change
            .as_ref()
            .is_some_and(|change| change.previous.is_some());
        if !(changed || is_unsure(named)) {
            return Ok(None);
        }
        let again = self.last.as_ref().is_some_and(|(at, feature)| {
            let soon = now.saturating_duration_since(*at) < PAUSE;
            soon || feature.dot(&named.feature) > ALIKE
        });
        if again {
            return Ok(None);
        }
        // Where it cannot be written now, it is not tried with each frame.
        self.last = Some((now, named.feature.clone()));
        let path = self.kept.add(&named.frame.to_jpeg()?)?;
        self.count += 1;
        Ok(Some(path))
    }

    /// How many were kept so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        self.kept.folder()
    }
}

fn is_unsure(named: &Named) -> bool {
    let ranking = named.answer.ranking();
    let lead = match ranking[..] {
        [ref first, ref second, ..] => first.probability - second.probability,
        _ => 1.0,
    };
    named.answer.is_unknown() || lead < UNSURE
}
