//! A picture to the numbers an image tower takes: resize with antialiasing, crop, scale, normalise, as PIL and
//! Hugging Face's image processors do. It must not know where pictures come from, nor which tower takes them.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use ndarray::Array3;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
    pub resize: Resize,
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
    #[error(
        "the preprocessor configuration is not JSON ({0}): take the preprocessor_config.json that came with the model"
    )]
    Json(#[from] serde_json::Error),
    #[error("the preprocessor configuration lacks {0}: add it")]
    Missing(&'static str),
    #[error(
        "the preprocessor configuration has {option} = {value}, which is not supported: {supported}"
    )]
    Unsupported {
        option: &'static str,
        value: String,
        supported: &'static str,
    },
    #[error("the picture has no pixels")]
    Empty,
    #[error("the picture cannot be resized to {size} pixels: {reason}")]
    Resize { size: u32, reason: String },
}

/// Largest side of a tower's input that is believed: beyond it a file is damaged, not ambitious.
const MAX_SIZE: u32 = 4096;
const CLIP_MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f32; 3] = [0.26862954, 0.261_302_6, 0.275_777_1];

impl Preprocess {
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

    /// Reads what says how pictures are prepared, whoever wrote it: a `preprocessor_config.json` or
    /// `processor_config.json` of Hugging Face, an `open_clip_config.json`, or its `preprocess_cfg` alone.
    ///
    /// # Errors
    /// As [`Preprocess::from_hf_json`].
    pub fn from_json(bytes: &[u8]) -> Result<Preprocess, PreprocessError> {
        let config: Value = serde_json::from_slice::<Map<_, _>>(bytes)?.into();
        let whole = &config["preprocess_cfg"];
        let preprocess = if whole.is_object() {
            let model = &config["model_cfg"]["vision_cfg"]["image_size"];
            OpenClipConfig {
                config: whole,
                model,
            }
            .read()?
        } else if ["mean", "std", "interpolation", "resize_mode"]
            .iter()
            .any(|key| !config[key].is_null())
        {
            let model = &Value::Null;
            OpenClipConfig {
                config: &config,
                model,
            }
            .read()?
        } else {
            let nested = &config["image_processor"];
            let own = if nested.is_object() { nested } else { &config };
            HfConfig(own.clone()).read()?
        };
        preprocess.check()?;
        Ok(preprocess)
    }

    /// Reads a Hugging Face `preprocessor_config.json`. What the file leaves out is what CLIP's processor takes for
    /// granted, or what SigLIP's and ViT's do when the file names another processor than CLIP's.
    ///
    /// # Errors
    /// Bytes that are not JSON, and every option that would change the result and is not supported here, by name.
    pub fn from_hf_json(bytes: &[u8]) -> Result<Preprocess, PreprocessError> {
        let config = HfConfig(serde_json::from_slice::<Map<_, _>>(bytes)?.into());
        let preprocess = config.read()?;
        preprocess.check()?;
        Ok(preprocess)
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
        for (x, y, colour) in square.enumerate_pixels() {
            for (channel, &value) in colour.0.iter().enumerate() {
                pixels[[channel, y as usize, x as usize]] =
                    (f32::from(value) / 255.0 - self.mean[channel]) / self.std[channel];
            }
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
        let bytes = square.pixels().iter().flat_map(|pixel| pixel.0).collect();
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

/// open_clip's `preprocess_cfg`: what it leaves out is what open_clip takes for granted.
struct OpenClipConfig<'a> {
    config: &'a Value,
    /// The size that the model's part of the file says.
    model: &'a Value,
}

impl OpenClipConfig<'_> {
    fn read(&self) -> Result<Preprocess, PreprocessError> {
        let size = &self.config["size"];
        let size = if size.is_null() { self.model } else { size };
        let sides = <[u32; 2]>::deserialize(size).ok();
        let side = sides.filter(|[a, b]| a == b).map(|[side, _]| side);
        let size = match side.or(whole(size)) {
            Some(side) => side,
            None if size.is_null() => return Err(PreprocessError::Missing("size")),
            None => {
                return Err(unsupported(
                    "size",
                    size,
                    "one number is, or two equal ones",
                ));
            }
        };
        let word = |key: &str, default: &'static str| match &self.config[key] {
            Value::Null => default.to_owned(),
            Value::String(word) => word.clone(),
            other => other.to_string(),
        };
        let resize = match word("resize_mode", "shortest").as_str() {
            "shortest" => Resize::ShortestSide,
            "squash" => Resize::Squash,
            other => return Err(unsupported("resize_mode", other, "shortest and squash are")),
        };
        let filter = match word("interpolation", "bicubic").as_str() {
            "bicubic" => Filter::Bicubic,
            "bilinear" => Filter::Bilinear,
            other => {
                return Err(unsupported(
                    "interpolation",
                    other,
                    "bicubic and bilinear are",
                ));
            }
        };
        let three = |key: &'static str, default: [f32; 3]| match &self.config[key] {
            Value::Null => Ok(default),
            value => <[f32; 3]>::deserialize(value)
                .map_err(|_| unsupported(key, value, "three numbers are")),
        };
        Ok(Preprocess {
            size,
            resize,
            filter,
            mean: three("mean", CLIP_MEAN)?,
            std: three("std", CLIP_STD)?,
        })
    }
}

/// A `preprocessor_config.json`, whose keys and value shapes have changed over the years.
struct HfConfig(Value);

impl HfConfig {
    fn read(&self) -> Result<Preprocess, PreprocessError> {
        let processor = ["image_processor_type", "feature_extractor_type"]
            .iter()
            .find_map(|key| self.0[key].as_str());
        let clip = processor.is_none_or(|name| name.to_lowercase().contains("clip"));
        let siglip = processor.is_some_and(|name| name.to_lowercase().contains("siglip"));
        for (option, needed) in [
            ("do_resize", true),
            ("do_rescale", true),
            ("do_pad", false),
            ("do_flip_channel_order", false),
        ] {
            if self.flag(option, needed)? != needed {
                let supported = "only the usual setting is";
                return Err(unsupported(option, !needed, supported));
            }
        }
        let factor = self.0["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0);
        if (factor * 255.0 - 1.0).abs() > 1e-4 {
            return Err(unsupported("rescale_factor", factor, "1/255 is"));
        }
        let normalise = self.flag("do_normalize", true)?;
        let (mean, std) = match (normalise, clip) {
            (false, _) => ([0.0; 3], [1.0; 3]),
            (true, true) => (CLIP_MEAN, CLIP_STD),
            (true, false) => ([0.5; 3], [0.5; 3]),
        };
        let channels = |key, default| match normalise {
            true => self.channels(key, default),
            false => Ok(default),
        };
        let (size, resize) = self.geometry(clip)?;
        Ok(Preprocess {
            size,
            resize,
            filter: self.filter(clip || siglip)?,
            mean: channels("image_mean", mean)?,
            std: channels("image_std", std)?,
        })
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, PreprocessError> {
        match &self.0[key] {
            Value::Null => Ok(default),
            Value::Bool(flag) => Ok(*flag),
            other => Err(unsupported(key, other, "true and false are")),
        }
    }

    fn filter(&self, bicubic: bool) -> Result<Filter, PreprocessError> {
        match &self.0["resample"] {
            Value::Null if bicubic => Ok(Filter::Bicubic),
            Value::Null => Err(PreprocessError::Missing("resample")),
            value if value.as_u64() == Some(3) => Ok(Filter::Bicubic),
            value if value.as_u64() == Some(2) => Ok(Filter::Bilinear),
            value => Err(unsupported(
                "resample",
                value,
                "2 (bilinear) and 3 (bicubic) are",
            )),
        }
    }

    fn channels(&self, key: &'static str, default: [f32; 3]) -> Result<[f32; 3], PreprocessError> {
        match &self.0[key] {
            Value::Null => Ok(default),
            value => <[f32; 3]>::deserialize(value)
                .map_err(|_| unsupported(key, value, "three numbers are")),
        }
    }

    /// The side of the square, and how the picture is brought to it.
    fn geometry(&self, clip: bool) -> Result<(u32, Resize), PreprocessError> {
        let crops = self.flag("do_center_crop", clip)?;
        let (side, shortest) = match &self.0["size"] {
            Value::Null => (224, clip),
            size => match (whole(size), whole(&size["shortest_edge"]), square(size)) {
                (Some(side), _, _) => (side, clip),
                (_, Some(side), _) => (side, true),
                (_, _, Some(side)) => (side, false),
                _ => {
                    let supported = "a number, {shortest_edge}, and equal {height, width} are";
                    return Err(unsupported("size", size, supported));
                }
            },
        };
        if shortest && !crops {
            let supported = "without it the pictures would not be square";
            return Err(unsupported("do_center_crop", false, supported));
        }
        let crop = &self.0["crop_size"];
        if crops && !crop.is_null() && whole(crop).or(square(crop)) != Some(side) {
            return Err(unsupported(
                "crop_size",
                crop,
                "only the same number as in size is",
            ));
        }
        let resize = match shortest {
            true => Resize::ShortestSide,
            false => Resize::Squash,
        };
        Ok((side, resize))
    }
}

fn whole(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| number.try_into().ok())
}

fn square(value: &Value) -> Option<u32> {
    whole(&value["height"]).filter(|&height| whole(&value["width"]) == Some(height))
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn configurations_of_all_ages_are_read() {
        let clip = Preprocess::clip(224);
        let mobile = Preprocess {
            filter: Filter::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
            ..Preprocess::clip(256)
        };
        let squash = Preprocess {
            resize: Resize::Squash,
            mean: [0.5; 3],
            std: [0.5; 3],
            ..Preprocess::clip(384)
        };
        let cases = [
            (r#"{}"#, &clip),
            (
                r#"{"size": 224, "crop_size": 224, "feature_extractor_type": "CLIPFeatureExtractor", "do_center_crop": true}"#,
                &clip,
            ),
            (
                r#"{"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "do_resize": true,
                "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true, "do_rescale": true,
                "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
                "image_processor_type": "CLIPImageProcessor", "resample": 3, "rescale_factor": 0.00392156862745098}"#,
                &clip,
            ),
            (
                r#"{"size": {"shortest_edge": 256}, "crop_size": 256, "do_normalize": false, "resample": 2}"#,
                &mobile,
            ),
            (
                r#"{"size": {"height": 384, "width": 384}, "image_processor_type": "SiglipImageProcessor"}"#,
                &squash,
            ),
            (
                r#"{"size": 384, "image_processor_type": "ViTImageProcessor", "resample": 3}"#,
                &squash,
            ),
        ];
        for (text, expected) in cases {
            let read = Preprocess::from_hf_json(text.as_bytes()).unwrap();
            assert_eq!(&read, expected, "{text}");
        }
    }

    #[test]
    fn unsupported_options_are_errors_that_name_them() {
        let cases = [
            (r#"{"resample": 1}"#, "resample"),
            (
                r#"{"image_processor_type": "ViTImageProcessor"}"#,
                "resample",
            ),
            (r#"{"do_resize": false}"#, "do_resize"),
            (r#"{"do_rescale": false}"#, "do_rescale"),
            (r#"{"do_pad": true}"#, "do_pad"),
            (r#"{"do_normalize": "yes"}"#, "do_normalize"),
            (
                r#"{"do_center_crop": false, "size": 224}"#,
                "do_center_crop",
            ),
            (r#"{"rescale_factor": 1.0}"#, "rescale_factor"),
            (r#"{"size": {"longest_edge": 224}}"#, "size"),
            (r#"{"size": {"height": 224, "width": 112}}"#, "size"),
            (r#"{"size": 0, "crop_size": 0}"#, "size"),
            (r#"{"size": 5000}"#, "size"),
            (r#"{"size": 224, "crop_size": 256}"#, "crop_size"),
            (r#"{"image_mean": [0.5, 0.5]}"#, "image_mean"),
            (r#"{"image_std": [0.5, 0.0, 0.5]}"#, "image_std"),
            (r#"{"#, "JSON"),
            (r#"[]"#, "JSON"),
        ];
        for (text, name) in cases {
            let error = Preprocess::from_hf_json(text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
