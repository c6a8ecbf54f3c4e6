//! Reads how pictures are prepared from the files that exporters write: Hugging Face's `preprocessor_config.json` and
//! `processor_config.json`, and open_clip's `preprocess_cfg`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CLIP_MEAN, CLIP_STD, Filter, Preprocess, PreprocessError, Resize, unsupported};

/// What a configuration of Hugging Face's says of pictures, in one version or another.
const KEYS: [&str; 11] = [
    "size",
    "crop_size",
    "resample",
    "do_resize",
    "do_center_crop",
    "do_rescale",
    "do_normalize",
    "image_mean",
    "image_std",
    "image_processor_type",
    "feature_extractor_type",
];

impl Preprocess {
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
            if !KEYS.iter().any(|key| !own[key].is_null()) {
                return Err(PreprocessError::Silent);
            }
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
        Ok(Preprocess {
            size,
            resize,
            filter,
            mean: three(self.config, "mean", CLIP_MEAN)?,
            std: three(self.config, "std", CLIP_STD)?,
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
        let channels = |key, default| {
            if normalise {
                three(&self.0, key, default)
            } else {
                Ok(default)
            }
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
        let resize = if shortest {
            Resize::ShortestSide
        } else {
            Resize::Squash
        };
        Ok((side, resize))
    }
}

/// A number for each channel.
fn three(
    config: &Value,
    key: &'static str,
    default: [f32; 3],
) -> Result<[f32; 3], PreprocessError> {
    match &config[key] {
        Value::Null => Ok(default),
        value => {
            let numbers = <[f32; 3]>::deserialize(value);
            numbers.map_err(|_| unsupported(key, value, "three numbers are"))
        }
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

    /// They were taken for CLIP's own preprocessing, with the file as its source.
    #[test]
    fn a_configuration_of_something_else_is_none_of_pictures() {
        for text in [
            "{}",
            r#"{"processor_class": "SiglipProcessor"}"#,
            r#"{"model_type": "siglip", "vision_config": {"image_size": 384}}"#,
        ] {
            let error = Preprocess::from_json(text.as_bytes()).unwrap_err();
            assert!(matches!(error, PreprocessError::Silent), "{error}");
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
