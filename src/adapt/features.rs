//! The feature cache: the image tower is frozen, so each picture, and each augmented view of it, is encoded
//! once and never again.

use crate::clip::{Model, ModelError};
use crate::ops::pool::side_by_side;
use crate::rng::Rng;
use image::{RgbImage, imageops};
use ndarray::{Array1, Array2, Array3, Axis};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The cached features of labelled pictures.
#[derive(Debug, Clone)]
pub struct FeatureSet {
    /// `[pictures, views, joint]`, L2-normalised; view 0 is the picture as it is.
    pub features: Array3<f32>,
    /// A class index for each picture.
    pub labels: Vec<usize>,
}

impl FeatureSet {
    /// The pictures at `rows`, in that order.
    pub fn select(&self, rows: &[usize]) -> FeatureSet {
        FeatureSet {
            features: self.features.select(Axis(0), rows),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
        }
    }

    /// The pictures whose class satisfies `keep`, with classes renumbered by `keep`.
    pub fn filter_classes(&self, keep: impl Fn(usize) -> Option<usize>) -> FeatureSet {
        let kept = |&row: &usize| keep(self.labels[row]).is_some();
        let rows: Vec<usize> = (0..self.labels.len()).filter(kept).collect();
        let mut chosen = self.select(&rows);
        chosen.labels = chosen.labels.into_iter().filter_map(keep).collect();
        chosen
    }

    /// All views of all pictures, `[pictures * views, joint]`, and the label of each.
    pub fn every_view(&self) -> (Array2<f32>, Vec<usize>) {
        let (pictures, views, joint) = self.features.dim();
        let flat = self.features.to_shape((pictures * views, joint));
        let flat = flat.unwrap_or_else(|_| unreachable!("the shape has as many elements"));
        let labels = self.labels.iter();
        let labels = labels.flat_map(|&label| std::iter::repeat_n(label, views));
        (flat.into_owned(), labels.collect())
    }

    /// Every picture as it is, `[pictures, joint]`, and the label of each.
    pub fn plain(&self) -> (Array2<f32>, Vec<usize>) {
        let plain = self.features.index_axis(Axis(1), 0);
        (plain.to_owned(), self.labels.clone())
    }
}

/// How pictures become features.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Extraction {
    /// Views a picture, counting the picture itself: at least 1.
    pub views: usize,
    /// Seed of the augmented views.
    pub seed: u64,
    /// Pictures encoded at the same time.
    pub threads: usize,
}

impl Extraction {
    /// `views` views a picture that follow from `seed`, on as many threads as there are processors.
    pub fn new(views: usize, seed: u64) -> Extraction {
        Extraction {
            views,
            seed,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Labelled pictures that are handed over one at a time, so that any number of them fits in memory.
#[derive(Clone, Copy)]
pub struct Pictures<'a> {
    /// How many there are.
    pub count: usize,
    /// The picture of an index and its class; none where it could not be read, which the function has noted. It runs on
    /// several threads.
    pub load: &'a (dyn Fn(usize) -> Option<(RgbImage, usize)> + Sync),
}

/// What is to be said about an extraction while it is under way, and heard.
#[derive(Clone, Copy)]
pub struct Monitor<'a> {
    /// Called after each picture with how many are finished, on several threads and not always in order.
    pub done: &'a (dyn Fn(usize) + Sync),
    /// Once set, the work ends early with what was finished.
    pub stop: &'a AtomicBool,
}

impl Monitor<'_> {
    /// Says nothing and never stops.
    pub fn none() -> Monitor<'static> {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Monitor {
            done: &|_| {},
            stop: &NEVER,
        }
    }
}

/// From a picture and its index to its views, the picture itself first.
#[doc(hidden)]
pub type Encode<'a> = dyn Fn(usize, &RgbImage) -> Result<Vec<Array1<f32>>, ModelError> + Sync + 'a;

/// Encodes `pictures` and their crops.
///
/// # Errors
/// If the image tower refuses a picture.
pub fn extract(
    model: &Model,
    pictures: Pictures,
    extraction: Extraction,
    monitor: Monitor,
) -> Result<FeatureSet, ModelError> {
    let encode = |index: usize, picture: &RgbImage| encode_views(model, picture, index, extraction);
    extract_with(&encode, pictures, extraction, monitor)
}

/// As [`extract`], with another way from picture `index` to its views: one that remembers, perhaps.
///
/// # Errors
/// If `encode` refuses a picture.
#[doc(hidden)]
pub fn extract_with(
    encode: &Encode,
    pictures: Pictures,
    extraction: Extraction,
    monitor: Monitor,
) -> Result<FeatureSet, ModelError> {
    let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let encoded = Mutex::new(Encoded::new(pictures.count, extraction.views.max(1)));
    let failure: Mutex<Option<ModelError>> = Mutex::new(None);
    let work = || {
        while !monitor.stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= pictures.count || lock(&failure).is_some() {
                return;
            }
            if let Some((picture, label)) = (pictures.load)(index) {
                match encode(index, &picture) {
                    Ok(views) => lock(&encoded).add(index, label, &views),
                    Err(error) => *lock(&failure) = Some(error),
                }
            }
            (monitor.done)(finished.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let workers = extraction.threads.clamp(1, pictures.count.max(1));
    side_by_side(workers, work);
    if let Some(error) = lock(&failure).take() {
        return Err(error);
    }
    let encoded = encoded.into_inner();
    Ok(encoded.unwrap_or_else(PoisonError::into_inner).finish())
}

/// The views of all pictures in one table: small pieces, each kept where a large picture was taken apart a moment ago, would hold
/// that memory for as long.
struct Encoded {
    /// `[pictures, views, joint]`, once the first has come; a row stays zero where its picture has none.
    features: Array3<f32>,
    /// Of each picture that could be read.
    labels: Vec<Option<usize>>,
}

impl Encoded {
    fn new(pictures: usize, views: usize) -> Encoded {
        Encoded {
            features: Array3::zeros((0, views, 0)),
            labels: vec![None; pictures],
        }
    }

    fn add(&mut self, index: usize, label: usize, views: &[Array1<f32>]) {
        let (_, count, joint) = self.features.dim();
        assert_eq!(views.len(), count, "so many views were asked for");
        if joint == 0 {
            let joint = views[0].len();
            self.features = Array3::zeros((self.labels.len(), count, joint));
        }
        self.labels[index] = Some(label);
        for (mut row, view) in self
            .features
            .index_axis_mut(Axis(0), index)
            .outer_iter_mut()
            .zip(views)
        {
            row.assign(view);
        }
    }

    /// Those that were read, in order.
    fn finish(self) -> FeatureSet {
        let read = |index: &usize| self.labels[*index].is_some();
        let rows: Vec<usize> = (0..self.labels.len()).filter(read).collect();
        let features = match rows.len() == self.labels.len() {
            true => self.features,
            false if rows.is_empty() => Array3::zeros((0, self.features.dim().1, 0)),
            false => self.features.select(Axis(0), &rows),
        };
        FeatureSet {
            features,
            labels: self.labels.into_iter().flatten().collect(),
        }
    }
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
#[doc(hidden)]
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
        let (all, labels) = set.select(&[2, 0]).every_view();
        assert_eq!(
            all.iter().copied().collect::<Vec<_>>(),
            [20.0, 21.0, 0.0, 1.0]
        );
        assert_eq!(labels, [7, 7, 5, 5]);
        let (plain, labels) = set.select(&[1]).plain();
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
