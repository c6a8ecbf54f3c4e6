//! A picture to the numbers an image tower takes: resize with antialiasing, crop, scale, normalise, as PIL and
//! Hugging Face's image processors do.

mod config;

use std::fmt;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8x3};
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use ndarray::Array3;
use serde::{Deserialize, Serialize};

/// How a rectangular picture becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resize {
    /// The shorter side becomes `size`, then the centre is cut out (CLIP).
    ShortestSide,
    /// Both sides become `size`, whatever the shape was (SigLIP).
    Squash,
}

/// The resampling filter, widened when the picture shrinks (antialiasing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// Cubic convolution with a = -0.5, PIL's `BICUBIC`.
    Bicubic,
    /// PIL's `BILINEAR`.
    Bilinear,
}

/// What happens to a picture before the image tower sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Side of the square the tower takes, in pixels.
    pub size: u32,
    /// How a picture that is not square becomes one.
    pub resize: Resize,
    /// What a pixel is interpolated with.
    pub filter: Filter,
    /// Subtracted from each channel (red, green, blue; 0 to 1).
    pub mean: [f32; 3],
    /// Divides each channel after that.
    pub std: [f32; 3],
}

/// Why a preprocessing cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// The configuration is not JSON.
    #[error(
        "the preprocessor configuration is not JSON ({0}): take the preprocessor_config.json that came with the model"
    )]
    Json(#[from] serde_json::Error),
    /// It is one of something else: of a processor of texts, say.
    #[error(
        "it says nothing of how pictures are prepared: take the preprocessor_config.json that came with the model"
    )]
    Silent,
    /// The configuration lacks this option.
    #[error("the preprocessor configuration lacks {0}: add it")]
    Missing(&'static str),
    /// An option has a value that cannot be done here.
    #[error(
        "the preprocessor configuration has {option} = {value}, which is not supported: {supported}"
    )]
    Unsupported {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What could be done, as a sentence.
        supported: &'static str,
    },
    /// Its width or its height is 0.
    #[error("the picture has no pixels")]
    Empty,
    /// The picture cannot be resized.
    #[error("the picture cannot be resized to {size} pixels: {reason}")]
    Resize {
        /// The side that was wanted, in pixels.
        size: u32,
        /// What the resizer says.
        reason: String,
    },
}

/// Largest side of a tower's input; a file that asks for more is damaged.
const MAX_SIZE: u32 = 4096;
const CLIP_MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f32; 3] = [0.26862954, 0.261_302_6, 0.275_777_1];

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resize = match self.resize {
            Resize::ShortestSide => "shorter side and centre crop",
            Resize::Squash => "squashed to a square",
        };
        let filter = match self.filter {
            Filter::Bicubic => "bicubic",
            Filter::Bilinear => "bilinear",
        };
        let whose = match (self.mean, self.std) {
            (CLIP_MEAN, CLIP_STD) => "CLIP's mean and deviation".to_owned(),
            ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]) => "values from 0 to 1".to_owned(),
            ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]) => "values from -1 to 1".to_owned(),
            (mean, std) => format!("mean {mean:?}, deviation {std:?}"),
        };
        write!(f, "{} pixels, {resize}, {filter}, {whose}", self.size)
    }
}

impl Preprocess {
    /// SigLIP's: squashed to a square of `size`, bicubic, values from -1 to 1.
    pub fn siglip(size: u32) -> Preprocess {
        Preprocess {
            size,
            resize: Resize::Squash,
            filter: Filter::Bicubic,
            mean: [0.5; 3],
            std: [0.5; 3],
        }
    }

    /// OpenAI's: shorter side to `size`, bicubic, centre crop, CLIP's mean and standard deviation.
    pub fn clip(size: u32) -> Preprocess {
        Preprocess {
            size,
            resize: Resize::ShortestSide,
            filter: Filter::Bicubic,
            mean: CLIP_MEAN,
            std: CLIP_STD,
        }
    }

    /// Whether the numbers make sense, for a preprocessing that was read from a file.
    ///
    /// # Errors
    /// A size of 0 or absurdly large, a standard deviation of 0, numbers that are not finite.
    pub fn check(&self) -> Result<(), PreprocessError> {
        if self.size == 0 || self.size > MAX_SIZE {
            return Err(unsupported("size", self.size, "1 to 4096 pixels"));
        }
        if self.mean.iter().any(|mean| !mean.is_finite()) {
            let mean = format!("{:?}", self.mean);
            return Err(unsupported("image_mean", mean, "three finite numbers"));
        }
        if self.std.iter().any(|std| !(std.is_finite() && *std > 0.0)) {
            let std = format!("{:?}", self.std);
            return Err(unsupported("image_std", std, "three positive numbers"));
        }
        Ok(())
    }

    /// The picture as `[3, size, size]` (red, green, blue), normalised.
    ///
    /// # Errors
    /// A picture without pixels.
    pub fn apply(&self, picture: &RgbImage) -> Result<Array3<f32>, PreprocessError> {
        let square = self.square(picture)?;
        let side = self.size as usize;
        let mut pixels = Array3::zeros((3, side, side));
        let values = pixels.as_slice_mut().expect("a fresh array is contiguous");
        let (red, others) = values.split_at_mut(side * side);
        let (green, blue) = others.split_at_mut(side * side);
        // Two divisions for each of 256 levels, and not for each pixel.
        let levels: [[f32; 256]; 3] = std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            std::array::from_fn(|level| (level as f32 / 255.0 - mean) / std)
        });
        let colours = square.as_raw().chunks_exact(3);
        for (((red, green), blue), colour) in red.iter_mut().zip(green).zip(blue).zip(colours) {
            *red = levels[0][usize::from(colour[0])];
            *green = levels[1][usize::from(colour[1])];
            *blue = levels[2][usize::from(colour[2])];
        }
        Ok(pixels)
    }

    /// The picture resized and cut to `size` x `size`, still in bytes.
    ///
    /// Only the part that the crop keeps is computed, so a very long and thin picture costs no more than a square.
    /// The crop's offset is rounded down as Hugging Face does; torchvision's rounds half to even, one pixel of the
    /// resized picture apart in one case of four.
    ///
    /// # Errors
    /// A picture without pixels.
    pub fn square(&self, picture: &RgbImage) -> Result<RgbImage, PreprocessError> {
        let (width, height) = picture.dimensions();
        if width == 0 || height == 0 {
            return Err(PreprocessError::Empty);
        }
        let (left, columns) = self.window(width, height);
        let (top, rows) = self.window(height, width);
        let (filter, support) = match self.filter {
            Filter::Bicubic => (FilterType::CatmullRom, 2.0),
            Filter::Bilinear => (FilterType::Bilinear, 1.0),
        };
        let failed = |reason: String| PreprocessError::Resize {
            size: self.size,
            reason,
        };
        // Typed pictures: the untyped call compiles every pixel format there is into this crate, a minute's work.
        let resample = |source: &TypedImageRef<U8x3>, height: u32, window: [f64; 4]| {
            let [left, top, columns, rows] = window;
            let options = ResizeOptions::new()
                .resize_alg(ResizeAlg::Convolution(filter))
                .crop(left, top, columns, rows);
            let mut out = TypedImage::<U8x3>::new(self.size, height);
            match Resizer::new().resize_typed(source, &mut out, &options) {
                Ok(()) => Ok(out),
                Err(error) => Err(failed(error.to_string())),
            }
        };
        let source = TypedImageRef::from_buffer(width, height, picture.as_raw())
            .map_err(|error| failed(error.to_string()))?;
        let square = if self.resize == Resize::Squash && width < self.size && height > self.size {
            // Columns first where rows first would need more room than the picture itself.
            resample(&source, self.size, [left, top, columns, rows])?
        } else {
            // Rows first otherwise, as in PIL: the bytes between the passes are rounded and clipped, so the order
            // shows. Only the rows that the second pass reaches are computed.
            let reach = support * (rows / f64::from(self.size)).max(1.0);
            let first = (top - reach).floor().max(0.0);
            let end = (top + rows + reach).ceil().min(f64::from(height));
            let between = (end - first) as u32;
            let narrow = resample(&source, between, [left, first, columns, end - first])?;
            let source = TypedImageRef::new(self.size, between, narrow.pixels())
                .map_err(|error| failed(error.to_string()))?;
            let window = [0.0, top - first, f64::from(self.size), rows];
            resample(&source, self.size, window)?
        };
        let bytes = U8x3::components(square.pixels()).to_vec();
        RgbImage::from_raw(self.size, self.size, bytes)
            .ok_or_else(|| failed("its buffer has another size".into()))
    }

    /// Along one side: where the kept part begins in the source and how long it is, in source pixels.
    fn window(&self, side: u32, other: u32) -> (f64, f64) {
        let (side, size) = (u64::from(side), u64::from(self.size));
        let shortest = side.min(u64::from(other));
        if self.resize == Resize::Squash || side == shortest {
            return (0.0, side as f64);
        }
        let resized = size * side / shortest;
        let source_pixels = side as f64 / resized as f64;
        let span = size as f64 * source_pixels;
        let left = ((resized - size) / 2) as f64 * source_pixels;
        (left, span.min(side as f64 - left)) // rounding must not carry the window over the edge
    }
}

fn unsupported(
    option: &'static str,
    value: impl ToString,
    supported: &'static str,
) -> PreprocessError {
    PreprocessError::Unsupported {
        option,
        value: value.to_string(),
        supported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::path::{Path, PathBuf};

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/preprocess")
    }

    fn picture(name: &str) -> RgbImage {
        image::open(fixtures().join(name)).unwrap().to_rgb8()
    }

    /// Mean and largest absolute difference, in steps of 1/255.
    fn difference(a: &RgbImage, b: &RgbImage) -> (f64, u8) {
        assert_eq!(a.dimensions(), b.dimensions());
        let pairs = a.as_raw().iter().zip(b.as_raw());
        let steps: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
        let sum: f64 = steps.iter().map(|&step| f64::from(step)).sum();
        let largest = steps.iter().max().copied().unwrap_or(0);
        (sum / steps.len() as f64, largest)
    }

    #[test]
    fn squares_are_those_of_pil_and_hugging_face() {
        let mut compared = 0;
        for entry in std::fs::read_dir(fixtures()).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let parts: Vec<&str> = file.split('.').collect();
            let &[name, size, mode, "png"] = parts.as_slice() else {
                continue;
            };
            let mut preprocess = Preprocess::clip(size.parse().unwrap());
            match mode {
                "clip" => {}
                "bilinear" => preprocess.filter = Filter::Bilinear,
                "squash" => preprocess.resize = Resize::Squash,
                other => panic!("unknown mode {other}"),
            }
            let ours = preprocess.square(&picture(&format!("{name}.png"))).unwrap();
            let (mean, largest) = difference(&ours, &picture(&file));
            println!("{file}: mean {mean:.4}, largest {largest}");
            // PIL 13 begins with the columns of some tall pictures; up to 12 it never did.
            let tolerance = if file.starts_with("tall") { 0.3 } else { 0.02 };
            assert!(mean <= tolerance, "{file}: mean {mean}, largest {largest}");
            compared += 1;
        }
        assert!(compared >= 20, "{compared} fixtures found");
    }

    #[test]
    fn numbers_are_those_of_hugging_face() {
        let text = std::fs::read(fixtures().join("normalised.json")).unwrap();
        let expected: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
        let siglip = br#"{"image_processor_type": "SiglipImageProcessor", "size": {"height": 64, "width": 64}}"#;
        let modes = [
            ("clip", Preprocess::clip(64)),
            ("squash", Preprocess::from_hf_json(siglip).unwrap()),
        ];
        for (mode, preprocess) in modes {
            let pixels = preprocess.apply(&picture("small.png")).unwrap();
            assert_eq!(pixels.dim(), (3, 64, 64));
            let rows = Vec::<(usize, usize, usize, f32)>::deserialize(&expected[mode]).unwrap();
            for (channel, y, x, value) in rows {
                let ours = pixels[[channel, y, x]];
                let step = 1.01 / 255.0 / preprocess.std[channel];
                assert!((ours - value).abs() < step, "{mode}: {ours}, not {value}");
            }
        }
    }

    #[test]
    fn a_thin_picture_is_no_memory_bomb() {
        for (width, height) in [(2_000_000, 1), (1, 2_000_000)] {
            let picture = RgbImage::from_pixel(width, height, image::Rgb([9, 90, 200]));
            for resize in [Resize::ShortestSide, Resize::Squash] {
                let preprocess = Preprocess {
                    resize,
                    ..Preprocess::clip(336)
                };
                let square = preprocess.square(&picture).unwrap();
                assert!(square.pixels().all(|pixel| pixel.0 == [9, 90, 200]));
            }
        }
        let error = Preprocess::clip(64)
            .apply(&RgbImage::new(0, 5))
            .unwrap_err();
        assert!(matches!(error, PreprocessError::Empty));
    }

    #[test]
    fn every_shape_has_a_window_inside_it() {
        for size in [1, 64, 224] {
            for width in 1..150 {
                let picture = RgbImage::new(width, 97);
                Preprocess::clip(size).square(&picture).unwrap();
            }
        }
    }
}
