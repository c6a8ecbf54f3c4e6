//! Where unlabelled pictures come from, and those of them that are unlike each other.

use super::super::Arguments;
use crate::adapt::drift::ALIKE;
use crate::adapt::features::{Extraction, encode_crops};
use crate::adapt::unlabelled::{Mounted, Mounting};
use crate::cli::{Context, usage};
use crate::clip::Model;
use crate::frames::{CameraEvent, Frames, MAX_PIXELS, read_picture};
use crate::rng::Rng;
use image::RgbImage;
use ndarray::{Array1, Array2, ArrayView3, ShapeError};
use std::path::PathBuf;

/// The demo camera's scenes: not those that `adapt --camera demo` learns from, nor those that `classify` shows.
const SEED: u64 = 2_000_000;

pub enum Source {
    Files(std::vec::IntoIter<PathBuf>),
    Camera(Box<Frames>),
}

impl Source {
    /// What the flags name.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(arguments: &Arguments, context: &Context) -> anyhow::Result<Source> {
        if let Some(folder) = &arguments.pictures.images {
            let mut paths = context.output.pictures_in(&[folder])?;
            // Not the first names of the alphabet alone, where there are more than are collected.
            Rng::new(arguments.training.seed).shuffle(&mut paths);
            return Ok(Source::Files(paths.into_iter()));
        }
        let camera = arguments.camera()?.ok_or_else(|| {
            usage(
                "say where pictures come from: --camera SRC, --camera-config FILE or --images DIR",
            )
        })?;
        let seed = SEED + arguments.training.seed;
        let every = arguments.self_training.every.unwrap_or_default();
        let options = camera.options.with_interval(every);
        let frames = camera.source.open(seed, &options)?;
        Ok(Source::Camera(Box::new(frames)))
    }

    /// Whether it draws its pictures itself, at any rate.
    pub fn is_drawn(&self) -> bool {
        matches!(self, Source::Camera(frames) if frames.are_drawn())
    }

    /// Whether there is always a next picture.
    pub fn is_live(&self) -> bool {
        matches!(self, Source::Camera(_))
    }

    /// The next picture; none at the end, or once `stop` says so.
    ///
    /// # Errors
    /// If a camera is given up.
    pub fn next(
        &mut self,
        stop: &dyn Fn() -> bool,
        context: &Context,
    ) -> anyhow::Result<Option<RgbImage>> {
        while !stop() {
            match self {
                Source::Files(paths) => {
                    match paths.next().map(|path| read_picture(&path, MAX_PIXELS)) {
                        Some(Ok(picture)) => return Ok(Some(picture)),
                        Some(Err(error)) => context.output.warn(format!("{error}; skipped")),
                        None => return Ok(None),
                    }
                }
                Source::Camera(frames) => match frames.next(stop)? {
                    CameraEvent::Frame(frame) => return Ok(Some(frame.image)),
                    CameraEvent::Problem(problem) => context.output.warn(problem),
                    CameraEvent::Passed(_) => {}
                    CameraEvent::End => return Ok(None),
                },
            }
        }
        Ok(None)
    }
}

/// Pictures that are unlike each other.
pub struct Pool<'a> {
    plain: Vec<Array1<f32>>,
    /// `[pictures, views, joint]`, row by row.
    flat: Vec<f32>,
    views: usize,
    mounted: Mounted<'a>,
    /// All that were looked at.
    pub seen: usize,
}

impl<'a> Pool<'a> {
    pub fn new(views: usize, mounted: Mounted<'a>) -> Pool<'a> {
        Pool {
            plain: Vec::new(),
            flat: Vec::new(),
            views,
            mounted,
            seen: 0,
        }
    }

    /// Pictures in it.
    pub fn len(&self) -> usize {
        self.plain.len()
    }

    /// Encodes a picture and its views, unless there is one like it; whether it was taken.
    ///
    /// # Errors
    /// If the model cannot be run.
    pub fn add(
        &mut self,
        model: &Model,
        picture: &RgbImage,
        extraction: Extraction,
    ) -> anyhow::Result<bool> {
        self.seen += 1;
        let feature = model.encode_image(picture)?;
        if self.plain.iter().any(|other| other.dot(&feature) > ALIKE) {
            return Ok(false);
        }
        self.flat.extend(&feature);
        for crop in encode_crops(model, picture, self.plain.len(), extraction)? {
            self.flat.extend(crop);
        }
        self.mounted.add(picture, feature.view())?;
        self.plain.push(feature);
        Ok(true)
    }

    /// How the pictures are put right, and what the model says of them then, `[pictures, classes]`.
    pub fn put_right(&self) -> Option<(Mounting, Array2<f32>)> {
        self.mounted.surest()
    }

    /// `[pictures, views, joint]`.
    ///
    /// # Errors
    /// None that can happen: every picture has as many views.
    pub fn features(&self) -> Result<ArrayView3<'_, f32>, ShapeError> {
        let joint = self.plain.first().map_or(0, Array1::len);
        ArrayView3::from_shape((self.plain.len(), self.views, joint), &self.flat)
    }
}
