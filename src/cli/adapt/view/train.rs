//! Training from the labelling view, on a thread of its own: the kept shots become a trained prompt and a verdict on it,
//! while the view shows how far it is.

use super::super::adaptation::{Adaptation, Trained};
use super::state::{Progress, Verdict};
use crate::adapt::LabelledPictures;
use crate::adapt::features::Monitor;
use crate::cli::output::percent;
use crate::clip::ModelError;
use crate::host::temperature::Pacing;
use image::RgbImage;
use ndarray::Array1;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Shots that were encoded for an earlier training, by file and by what their crops follow from: on a small board this is what
/// takes the time.
#[derive(Default)]
pub struct Encoded(Mutex<Views>);

type Views = HashMap<(PathBuf, usize), Vec<Array1<f32>>>;

impl Encoded {
    /// The views of picture `index`, encoded now or earlier.
    fn views(
        &self,
        adaptation: &Adaptation,
        pictures: &LabelledPictures,
        index: usize,
        picture: &RgbImage,
    ) -> Result<Vec<Array1<f32>>, ModelError> {
        let number = pictures.number(index);
        let Some(file) = pictures.file(index) else {
            return adaptation.views(number, picture);
        };
        let key = (file.to_owned(), number);
        if let Some(known) = self.known().get(&key) {
            return Ok(known.clone());
        }
        let views = adaptation.views(number, picture)?;
        self.known().insert(key, views.clone());
        Ok(views)
    }

    fn known(&self) -> MutexGuard<'_, Views> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A training that is under way.
#[derive(Default)]
pub struct Training {
    pub stop: AtomicBool,
    progress: Mutex<Progress>,
}

impl Training {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        let progress = self.progress.lock();
        progress.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Trains on `pictures` and judges; what is `encoded` already is taken from there.
    ///
    /// # Errors
    /// If it is stopped, a label has too few readable pictures, or the model refuses one.
    pub fn run(
        &self,
        adaptation: &Adaptation,
        pictures: &LabelledPictures,
        encoded: &Encoded,
    ) -> anyhow::Result<(Trained, Verdict)> {
        let started = Instant::now();
        let most = AtomicUsize::new(0);
        let done = |count: usize| {
            // Several threads report this, not in order.
            let done = most.fetch_max(count, Ordering::Relaxed).max(count);
            self.set(Progress {
                what: "encoding pictures",
                done,
                of: pictures.len(),
                detail: String::new(),
            });
        };
        let encode =
            |index: usize, picture: &RgbImage| encoded.views(adaptation, pictures, index, picture);
        let monitor = Monitor {
            done: &done,
            stop: &self.stop,
        };
        let set = adaptation.encode(pictures, &encode, monitor)?;
        let features_seconds = started.elapsed().as_secs_f64();
        let mut pacing = Pacing::begin();
        let mut trained = adaptation.train_with(&set, &mut |report| {
            // The view has no room for what it says.
            let _ = pacing.after_step();
            self.set(Progress {
                what: "training",
                done: report.step,
                of: report.steps,
                detail: format!("accuracy on its own shots {}", percent(report.accuracy)),
            });
            if self.stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        trained.skipped_images = pictures.len() - set.labels.len();
        trained.seconds.features = features_seconds;
        let verdict = verdict(&trained);
        Ok((trained, verdict))
    }
}

fn verdict(trained: &Trained) -> Verdict {
    let comparison = &trained.outcome.evidence;
    let confusion = comparison.confusion.outer_iter();
    Verdict {
        zero_shot_accuracy: comparison.zero_shot_accuracy,
        adapted_accuracy: comparison.adapted_accuracy,
        holdout_pictures: comparison.held_out(),
        accepted: trained.outcome.accepted(),
        confusion: confusion.map(|row| row.to_vec()).collect(),
    }
}
