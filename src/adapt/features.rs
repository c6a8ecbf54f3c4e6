//! The feature cache: the image tower is frozen, so each picture, and each augmented view of it, is encoded
//! once and never again. It must not know where pictures come from: a function hands them over one at a time,
//! so that a folder of any size fits in memory.

use crate::clip::{Model, ModelError};
use crate::rng::Rng;
use image::{RgbImage, imageops};
use ndarray::{Array1, Array2, Array3, Axis, s};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The cached features of labelled pictures.
#[derive(Debug, Clone)]
pub struct FeatureSet {
    /// `[pictures, views, joint]`, L2-normalised; view 0 is the picture as it is.
    pub features: Array3<f32>,
    /// A class index for each picture.
    pub labels: Vec<usize>,
}

impl FeatureSet {
    /// All views of the pictures at `rows`, `[rows * views, joint]`, and the label of each.
    pub fn all_views(&self, rows: &[usize]) -> (Array2<f32>, Vec<usize>) {
        let (_, views, joint) = self.features.dim();
        let chosen = self.features.select(Axis(0), rows);
        let flat = chosen
            .to_shape((rows.len() * views, joint))
            .map(|flat| flat.to_owned());
        let flat = flat.unwrap_or_else(|_| unreachable!("a selection is contiguous"));
        let labels = rows
            .iter()
            .flat_map(|&row| std::iter::repeat_n(self.labels[row], views))
            .collect();
        (flat, labels)
    }

    /// The pictures at `rows` as they are, `[rows, joint]`, and the label of each.
    pub fn plain_views(&self, rows: &[usize]) -> (Array2<f32>, Vec<usize>) {
        let plain = self.features.slice(s![.., 0, ..]).select(Axis(0), rows);
        (plain, rows.iter().map(|&row| self.labels[row]).collect())
    }

    /// Every picture as it is.
    pub fn plain(&self) -> (Array2<f32>, Vec<usize>) {
        self.plain_views(&(0..self.labels.len()).collect::<Vec<_>>())
    }

    /// The pictures whose class satisfies `keep`, with classes renumbered by `keep`.
    pub fn filter_classes(&self, keep: impl Fn(usize) -> Option<usize>) -> FeatureSet {
        let rows: Vec<usize> = (0..self.labels.len())
            .filter(|&row| keep(self.labels[row]).is_some())
            .collect();
        FeatureSet {
            features: self.features.select(Axis(0), &rows),
            labels: rows
                .iter()
                .filter_map(|&row| keep(self.labels[row]))
                .collect(),
        }
    }
}

/// How pictures become features.
#[derive(Debug, Clone, Copy)]
pub struct Extraction {
    /// Views a picture, counting the picture itself: at least 1.
    pub views: usize,
    /// Seed of the augmented views.
    pub seed: u64,
    /// Pictures encoded at the same time.
    pub threads: usize,
}

/// What a picture became.
pub enum Loaded {
    /// The picture and its class.
    Picture(RgbImage, usize),
    /// It could not be read; the loader has noted why.
    Skipped,
}

/// From a picture and its index to its views, the picture itself first.
pub type Encode<'a> = dyn Fn(usize, &RgbImage) -> Result<Vec<Array1<f32>>, ModelError> + Sync + 'a;

/// The views of one picture.
struct Encoded {
    index: usize,
    label: usize,
    views: Vec<Array1<f32>>,
}

/// Encodes `count` pictures. `load(index)` hands one over; it runs on several threads, and so does `done`,
/// which is told after each picture how many are finished. Setting `stop` ends the work early with what was finished.
///
/// # Errors
/// If the image tower refuses a picture.
pub fn extract(
    model: &Model,
    count: usize,
    extraction: Extraction,
    load: &(dyn Fn(usize) -> Loaded + Sync),
    done: &(dyn Fn(usize) + Sync),
    stop: &AtomicBool,
) -> Result<FeatureSet, ModelError> {
    let encode = |index: usize, picture: &RgbImage| encode_views(model, picture, index, extraction);
    extract_with(count, extraction, load, &encode, done, stop)
}

/// As [`extract`], with another way from picture `index` to its views: one that remembers, perhaps.
///
/// # Errors
/// If `encode` refuses a picture.
pub fn extract_with(
    count: usize,
    extraction: Extraction,
    load: &(dyn Fn(usize) -> Loaded + Sync),
    encode: &Encode,
    done: &(dyn Fn(usize) + Sync),
    stop: &AtomicBool,
) -> Result<FeatureSet, ModelError> {
    let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let encoded: Mutex<Vec<Encoded>> = Mutex::new(Vec::new());
    let failure: Mutex<Option<ModelError>> = Mutex::new(None);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count || lock(&failure).is_some() {
                return;
            }
            if let Loaded::Picture(picture, label) = load(index) {
                match encode(index, &picture) {
                    Ok(views) => lock(&encoded).push(Encoded {
                        index,
                        label,
                        views,
                    }),
                    Err(error) => *lock(&failure) = Some(error),
                }
            }
            done(finished.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..extraction.threads.clamp(1, count.max(1)) {
            scope.spawn(work);
        }
        work();
    });
    if let Some(error) = lock(&failure).take() {
        return Err(error);
    }
    let mut encoded = std::mem::take(&mut *lock(&encoded));
    encoded.sort_unstable_by_key(|picture| picture.index);
    let joint = encoded.first().map_or(0, |picture| picture.views[0].len());
    let mut features = Array3::zeros((encoded.len(), extraction.views.max(1), joint));
    for (mut place, picture) in features.outer_iter_mut().zip(&encoded) {
        for (mut row, view) in place.outer_iter_mut().zip(&picture.views) {
            row.assign(view);
        }
    }
    Ok(FeatureSet {
        features,
        labels: encoded.iter().map(|picture| picture.label).collect(),
    })
}

/// A panic of another worker is that worker's to report: what it left behind is whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Encodes one picture: itself and `views - 1` crops of it, which follow from the seed and `index`.
///
/// # Errors
/// If the image tower refuses it.
pub fn encode_views(
    model: &Model,
    picture: &RgbImage,
    index: usize,
    extraction: Extraction,
) -> Result<Vec<Array1<f32>>, ModelError> {
    let mut views = vec![model.encode_image(picture)?];
    views.extend(encode_crops(model, picture, index, extraction)?);
    Ok(views)
}

/// The same without the picture itself.
///
/// # Errors
/// If the image tower refuses a crop.
pub fn encode_crops(
    model: &Model,
    picture: &RgbImage,
    index: usize,
    extraction: Extraction,
) -> Result<Vec<Array1<f32>>, ModelError> {
    (1..extraction.views)
        .map(|view| model.encode_image(&augment(picture, extraction.seed, index, view)))
        .collect()
}

/// A square crop of 64 to 100 % of the shorter side's square, mirrored half of the time: CoOp's augmentation,
/// milder, because a camera on a wall sees its objects whole.
fn augment(picture: &RgbImage, seed: u64, index: usize, view: usize) -> RgbImage {
    let mut rng = Rng::with_stream(seed, ((index as u64) << 16) | view as u64);
    let shorter = picture.width().min(picture.height());
    let side =
        ((shorter as f32 * rng.range(0.64, 1.0).sqrt()).round() as u32).clamp(1, shorter.max(1));
    let left = rng.below((picture.width() - side + 1) as usize) as u32;
    let top = rng.below((picture.height() - side + 1) as usize) as u32;
    let mut view = imageops::crop_imm(picture, left, top, side, side).to_image();
    if rng.chance(0.5) {
        imageops::flip_horizontal_in_place(&mut view);
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_selected_by_picture_and_keep_their_labels() {
        let features =
            Array3::from_shape_fn((3, 2, 1), |(picture, view, _)| (10 * picture + view) as f32);
        let set = FeatureSet {
            features,
            labels: vec![5, 6, 7],
        };
        let (all, labels) = set.all_views(&[2, 0]);
        assert_eq!(
            all.iter().copied().collect::<Vec<_>>(),
            [20.0, 21.0, 0.0, 1.0]
        );
        assert_eq!(labels, [7, 7, 5, 5]);
        let (plain, labels) = set.plain_views(&[1]);
        assert_eq!((plain[[0, 0]], labels), (10.0, vec![6]));
        let base = set.filter_classes(|class| (class > 5).then(|| class - 6));
        assert_eq!(base.labels, [0, 1]);
        assert_eq!(base.features[[0, 0, 0]], 10.0);
    }

    #[test]
    fn augmented_views_repeat_for_a_seed_and_stay_square() {
        let picture = RgbImage::from_fn(50, 30, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let view = augment(&picture, 1, 2, 3);
        assert_eq!(view, augment(&picture, 1, 2, 3));
        assert_ne!(view, augment(&picture, 1, 2, 4));
        assert_eq!(view.width(), view.height());
        assert!(view.width() >= 24);
        assert_eq!(augment(&RgbImage::new(1, 1), 0, 0, 1).dimensions(), (1, 1));
    }
}
