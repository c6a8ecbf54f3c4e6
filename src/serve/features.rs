//! The features of shots, each encoded once: training, looking for wrong labels and asking why need the same ones, and on a
//! small box encoding takes the time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use image::RgbImage;
use ndarray::Array1;

use super::models::{Models, ModelsError};
use crate::adapt::features::{
    Extraction, FeatureSet, Monitor, Pictures, encode_views, extract_with,
};
use crate::adapt::pictures::Choice;
use crate::adapt::{AdaptError, LabelledPictures, PicturesError};
use crate::clip::{Model, ModelError};
use crate::store::Home;

/// Entries that are kept at most: a view is about 1 KiB.
const MOST: usize = 20_000;

/// Why there are no features.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeaturesError {
    /// There is nothing to encode.
    #[error(transparent)]
    Pictures(#[from] PicturesError),
    /// Nothing can encode it.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// The model refuses a picture.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The pictures do not fit the task.
    #[error(transparent)]
    Adapt(#[from] AdaptError),
}

/// Views that were encoded, by model, file, and what their crops follow from.
#[derive(Default)]
pub struct Features {
    known: Mutex<HashMap<Key, Entry>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    model: [u8; 32],
    file: PathBuf,
    /// The place of the picture, how many views there are and the seed; none for the picture as it is alone.
    crops: Option<(usize, usize, u64)>,
}

struct Entry {
    written: Option<SystemTime>,
    views: Arc<[Array1<f32>]>,
}

/// The shots of a prompt and their features.
pub struct Lesson {
    /// What encoded them.
    pub model: Arc<Model>,
    /// The shots, readable or not.
    pub pictures: LabelledPictures,
    /// Those that could be read.
    pub set: FeatureSet,
    /// The place among the shots of each row.
    pub places: Vec<usize>,
}

impl Lesson {
    /// The file of a row.
    pub fn file(&self, row: usize) -> Option<&Path> {
        self.pictures.file(self.places[row])
    }
}

/// The model that `prompt` is or was trained for: its own, else the usual one.
///
/// # Errors
/// If it is not here.
pub fn model_of(
    home: &Home,
    models: &Models,
    prompt: &str,
    usual: Option<&str>,
) -> Result<Arc<Model>, ModelsError> {
    match home.load(prompt) {
        Ok(loaded) => models.of_prompt(&loaded.record),
        Err(_) => models.named(usual),
    }
}

impl Features {
    /// The features of all shots of `prompt`: of each picture as it is, and of so many views together.
    ///
    /// # Errors
    /// If there are none, or the model refuses one; [`AdaptError::Stopped`] where `monitor` stops it.
    pub fn lesson(
        &self,
        home: &Home,
        model: Arc<Model>,
        prompt: &str,
        extraction: Extraction,
        monitor: Monitor,
    ) -> Result<Lesson, FeaturesError> {
        let folder = home.shots_folder(prompt).map_err(PicturesError::from)?;
        let pictures = LabelledPictures::from_shots(home, &folder, Choice::default())?;
        let key = |index: usize| {
            Some(Key {
                model: model.fingerprint.0,
                file: pictures.file(index)?.to_owned(),
                crops: (extraction.views > 1)
                    .then(|| (pictures.number(index), extraction.views, extraction.seed)),
            })
        };
        let known = |index: usize| {
            let key = key(index)?;
            let written = modified(&key.file);
            let known = self.locked();
            let entry = known.get(&key).filter(|entry| entry.written == written)?;
            Some(Arc::clone(&entry.views))
        };
        let encode = |index: usize, picture: &RgbImage| {
            if let Some(views) = known(index) {
                return Ok(views.to_vec());
            }
            let views = encode_views(&model, picture, pictures.number(index), extraction)?;
            if let Some(key) = key(index) {
                let written = modified(&key.file);
                let mut known = self.locked();
                if known.len() >= MOST {
                    known.clear();
                }
                let views = views.clone().into();
                known.insert(key, Entry { written, views });
            }
            Ok(views)
        };
        // The place of each picture stands for its label until it is known which could be read. What is known already need
        // not be decoded.
        let load = |index: usize| match known(index) {
            Some(_) => Some((RgbImage::new(1, 1), index)),
            None => pictures.load(index).map(|(picture, _)| (picture, index)),
        };
        let source = Pictures {
            count: pictures.len(),
            load: &load,
        };
        let mut set = extract_with(&encode, source, extraction, monitor)?;
        if monitor.stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(AdaptError::Stopped.into());
        }
        let places = std::mem::take(&mut set.labels);
        set.labels = places.iter().map(|&place| pictures.class(place)).collect();
        Ok(Lesson {
            model,
            pictures,
            set,
            places,
        })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    file.metadata().ok()?.modified().ok()
}
