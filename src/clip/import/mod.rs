//! Turns the ONNX files of a CLIP into a bundle: the text tower is recognised and becomes the project's own, the image
//! tower stays a tract model, and both are compared with the originals before anything is handed out.

mod directory;
mod graph;
mod image;
mod onnx;
mod text;

use std::path::PathBuf;

use ndarray::{Array1, Array2, Array3, Axis};
use serde::Serialize;
use thiserror::Error;
use tract_core::prelude::*;

use super::bundle::{BundleError, BundleWriter};
use super::image_tower::{ImageTowerError, guarded};
use super::layout::{
    About, Description, Parity, Precision, TOKENIZER, TextDescription, WeightWriter,
};
use super::model::{Model, ModelError};
use super::preprocess::Preprocess;
use super::tokenizer::{Tokenizer, TokenizerError};
use crate::rng::Rng;

pub use directory::{DirectoryError, Overrides, from_directory};
pub use onnx::OnnxError;
pub use text::Unrecognised;

/// Below this cosine a bundle is not the model that it was made from.
pub const LOWEST_PARITY: f32 = 0.99;
const TEXT_PROBES: usize = 8;
const IMAGE_PROBES: usize = 4;

/// All that a bundle is made from.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    pub name: String,
    /// The file with the image tower.
    pub image: PathBuf,
    /// The file with the text tower; the same one where both are in it.
    pub text: PathBuf,
    /// Hugging Face's tokenizer.json.
    pub tokenizer_json: Vec<u8>,
    pub preprocess: Preprocess,
    /// s, already exponentiated.
    pub logit_scale: f32,
    /// Length of a token sequence, for files that leave it open.
    pub context_length: usize,
    pub precision: Precision,
    /// Hand the bundle out even if it does not compute what the original does.
    pub force: bool,
}

/// What an import found and made.
#[derive(Clone, Debug, Serialize)]
pub struct ImportReport {
    pub name: String,
    pub fingerprint: String,
    pub bytes: usize,
    pub parity: Parity,
}

/// Why no bundle was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error("{path}: {source}")]
    Unrecognised { path: PathBuf, source: Unrecognised },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Image(#[from] ImageTowerError),
    #[error("the image tower cannot be kept: {0}")]
    Tensor(String),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "the bundle would not compute what the original does (lowest cosine: image {image:.4}, text {text:.4}; \
         needed: {LOWEST_PARITY}); try `--precision f32`, or `--force` to take it all the same"
    )]
    Parity { image: f32, text: f32 },
}

/// Makes a bundle, and proves that it computes what the files do.
pub fn import(options: &ImportOptions) -> Result<(Vec<u8>, ImportReport), ImportError> {
    let tokenizer = Tokenizer::from_json(&options.tokenizer_json)?;
    let feed = onnx::Feed {
        size: options.preprocess.size as usize,
        length: options.context_length,
    };
    let text = onnx::text(&options.text, feed)?;
    let weights = text::recognise(
        &text.decluttered,
        tokenizer.start_token(),
        tokenizer.end_token(),
    )
    .map_err(|source| ImportError::Unrecognised {
        path: options.text.clone(),
        source,
    })?;
    let image = onnx::image(&options.image, feed)?;
    let (graph, tensors) = image::image_graph(image.decluttered)?;

    let description = Description {
        preprocess: options.preprocess.clone(),
        logit_scale: options.logit_scale,
        text: TextDescription::of(&weights),
    };
    let mut writer = BundleWriter::default();
    writer.bytes(TOKENIZER, &options.tokenizer_json);
    let mut tower_writer = WeightWriter {
        bundle: &mut writer,
        precision: options.precision,
    };
    tower_writer.text(&weights);
    tower_writer
        .image(&graph, &tensors)
        .map_err(ImportError::Tensor)?;
    drop((weights, tensors));

    let mut about = About {
        name: options.name.clone(),
        precision: options.precision,
        parity: Parity {
            image: f32::NAN,
            text: f32::NAN,
        },
    };
    let model = Model::from_bytes(writer.clone().finish(&description, &about)?)?;
    about.parity = Parity {
        image: image_parity(&image.original, &model)?,
        text: text_parity(&text.original, &model)?,
    };
    let Parity { image, text } = about.parity;
    let sound = image >= LOWEST_PARITY && text >= LOWEST_PARITY;
    if !(sound || options.force) {
        return Err(ImportError::Parity { image, text });
    }
    let bundle = writer.finish(&description, &about)?;
    let report = ImportReport {
        name: options.name.clone(),
        fingerprint: model.fingerprint.to_string(),
        bytes: bundle.len(),
        parity: about.parity,
    };
    Ok((bundle, report))
}

/// The lowest cosine between what the original image tower and the bundle's make of random pictures.
fn image_parity(original: &TypedModel, model: &Model) -> Result<f32, ImportError> {
    let plan = guarded("prepare the original image tower", || {
        original.clone().into_runnable()
    })?;
    let mut rng = Rng::new(0);
    let mut lowest = f32::INFINITY;
    for probe in 0..IMAGE_PROBES {
        let pixels = probe_picture(&mut rng, model.image.shape(), probe);
        let input = pixels.clone().insert_axis(Axis(0)).into_tensor();
        let expected = guarded("run the original image tower", || {
            features(plan.run(tvec!(input.into()))?)
        })?;
        lowest = lowest.min(cosine(
            &expected,
            &model.image.encode(&pixels).map_err(ModelError::from)?,
        ));
    }
    Ok(lowest)
}

/// Pixels as preprocessing yields them: from noise to smooth shades.
fn probe_picture(
    rng: &mut Rng,
    [channels, height, width]: [usize; 3],
    probe: usize,
) -> Array3<f32> {
    let (slant, period) = (rng.range(-1.0, 1.0), rng.range(4.0, 40.0));
    let noise = 1.0 / (1 + probe) as f32;
    Array3::from_shape_fn((channels, height, width), |(c, y, x)| {
        let wave = ((x as f32 + slant * y as f32) / period + c as f32).sin();
        wave * (1.0 - noise) * 1.5 + noise * rng.normal()
    })
}

/// The lowest cosine between what the original text tower and the bundle's make of random sentences.
fn text_parity(original: &TypedModel, model: &Model) -> Result<f32, ImportError> {
    let plan = guarded("prepare the original text tower", || {
        original.clone().into_runnable()
    })?;
    let length = model.text.context_length();
    let (start, end) = (model.tokenizer.start_token(), model.tokenizer.end_token());
    let mut rng = Rng::new(0);
    let sequences: Vec<Vec<u32>> = (0..TEXT_PROBES)
        .map(|probe| {
            let words = length.saturating_sub(2).min(1 + probe * probe);
            let word = |_| rng.below(start.min(end).max(1) as usize) as u32;
            [start]
                .into_iter()
                .chain((0..words).map(word))
                .chain([end])
                .collect()
        })
        .collect();
    let found: Array2<f32> = model.text.encode(&sequences).map_err(ModelError::from)?;
    let kind = guarded("type the original text tower", || {
        Ok(original.input_fact(0)?.datum_type)
    })?;
    let mut lowest = f32::INFINITY;
    for (sequence, found) in sequences.iter().zip(found.outer_iter()) {
        let ids = (0..length).map(|at| i64::from(sequence.get(at).copied().unwrap_or(end)));
        let ids = Array1::from_iter(ids).insert_axis(Axis(0)).into_tensor();
        let expected = guarded("run the original text tower", || {
            features(plan.run(tvec!(ids.cast_to_dt(kind)?.into_owned().into()))?)
        })?;
        lowest = lowest.min(cosine(&expected, &found.to_owned()));
    }
    Ok(lowest)
}

fn features(outputs: TVec<TValue>) -> TractResult<Array1<f32>> {
    Ok(outputs[0]
        .cast_to::<f32>()?
        .to_plain_array_view::<f32>()?
        .iter()
        .copied()
        .collect())
}

fn cosine(a: &Array1<f32>, b: &Array1<f32>) -> f32 {
    a.dot(b) / (a.dot(a) * b.dot(b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tokenizer::CLIP_MERGES;
    use std::path::Path;

    const VOCABULARY: usize = 530;
    const SIZE: usize = 24;

    #[derive(serde::Deserialize)]
    struct Expected {
        sequences: Vec<Vec<u32>>,
        text: Vec<Vec<f32>>,
        image: Vec<f32>,
    }

    fn fixture(case: &str) -> (ImportOptions, Expected) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/import")
            .join(case);
        let expected = std::fs::read(folder.join("expected.json")).unwrap();
        let file = |name: &str| {
            Some(folder.join(name))
                .filter(|file| file.exists())
                .unwrap_or(folder.join("model.onnx"))
        };
        let options = ImportOptions {
            name: case.to_owned(),
            image: file("visual.onnx"),
            text: file("textual.onnx"),
            tokenizer_json: Tokenizer::clip(CLIP_MERGES, VOCABULARY)
                .unwrap()
                .to_json_bytes()
                .unwrap(),
            preprocess: Preprocess::clip(SIZE as u32),
            logit_scale: 100.0,
            context_length: 12,
            precision: Precision::F32,
            force: false,
        };
        (options, serde_json::from_slice(&expected).unwrap())
    }

    /// The picture of tests/fixtures/import/make.py.
    fn picture() -> Array3<f32> {
        Array3::from_shape_fn((3, SIZE, SIZE), |(c, y, x)| {
            (0.37 * x as f64 + 0.71 * y as f64 * (c + 1) as f64 + c as f64).sin() as f32 * 1.5
        })
    }

    /// The lowest cosines between onnxruntime's features and those of a bundle made of the same files.
    fn cosines(case: &str, precision: Precision) -> (f32, f32) {
        let (mut options, expected) = fixture(case);
        options.precision = precision;
        let (bundle, report) = import(&options).unwrap_or_else(|error| panic!("{case}: {error}"));
        let model = Model::from_bytes(bundle).unwrap();
        assert_eq!(report.fingerprint, model.fingerprint.to_string());
        let image = cosine(
            &Array1::from(expected.image),
            &model.image.encode(&picture()).unwrap(),
        );
        let found = model.text.encode(&expected.sequences).unwrap();
        let pairs = expected
            .text
            .into_iter()
            .map(Array1::from)
            .zip(found.outer_iter());
        let text = pairs
            .map(|(a, b)| cosine(&a, &b.to_owned()))
            .fold(f32::INFINITY, f32::min);
        println!(
            "{case} {precision:?}: image {image} text {text}, at import {:?}",
            report.parity
        );
        (image, text)
    }

    macro_rules! exporters {
        ($($test:ident: $case:literal,)*) => {$(
            #[test]
            fn $test() {
                let (image, text) = cosines($case, Precision::F32);
                assert!(image >= 0.99999 && text >= 0.99999, "f32: image {image}, text {text}");
                let (image, text) = cosines($case, Precision::Int8);
                assert!(image >= 0.995 && text >= 0.995, "int8: image {image}, text {text}");
            }
        )*};
    }

    exporters! {
        transformers_eager_opset_14_with_mask_and_dynamic_axes: "hf-eager-ts14",
        transformers_sdpa_opset_17_gelu: "hf-sdpa-ts17",
        transformers_static_tanh_gelu: "hf-tanh-static",
        transformers_dynamo_opset_18: "hf-dynamo18",
        transformers_float16: "hf-float16",
        transformers_both_towers_in_one_file: "hf-combined",
        open_clip_fused_projection_quick_gelu: "openclip-quick-ts17",
        open_clip_dynamo_gelu: "openclip-gelu-dynamo18",
    }

    fn refusal(options: &ImportOptions) -> String {
        match import(options) {
            Ok((_, report)) => panic!("imported with {:?}", report.parity),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_text_tower_that_is_not_clips_is_refused_by_part_and_node() {
        for (case, part, node) in [
            (
                "refused-relu",
                "QuickGELU or GELU",
                "/text_model/encoder/layers.1/mlp",
            ),
            (
                "refused-siglip",
                "causal mask",
                "/encoder/layers.0/self_attn",
            ),
        ] {
            let (mut options, _) = fixture("hf-tanh-static");
            options.text = options
                .text
                .with_file_name("..")
                .join(case)
                .join("textual.onnx");
            let refusal = refusal(&options);
            assert!(
                refusal.contains(part) && refusal.contains(node),
                "{refusal}"
            );
        }
    }

    #[test]
    fn swapped_towers_are_named() {
        let (mut options, _) = fixture("hf-dynamo18");
        std::mem::swap(&mut options.image, &mut options.text);
        assert!(refusal(&options).contains("swapped"));
        options.image.clone_from(&options.text);
        assert!(refusal(&options).contains("swapped"));
    }

    #[test]
    fn cut_and_broken_files_are_refused_without_a_panic() {
        let (mut options, _) = fixture("openclip-gelu-dynamo18");
        let (folder, whole) = (
            tempfile::tempdir().unwrap(),
            std::fs::read(&options.text).unwrap(),
        );
        options.text = folder.path().join("text.onnx");
        for cut in [0, 1, 100, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&options.text, &whole[..cut]).unwrap();
            assert!(refusal(&options).contains("text.onnx"), "cut at {cut}");
        }
        // Every alignment of four such bytes is not a number.
        let mut broken = whole.clone();
        broken[whole.len() / 2..][..64].fill(0xff);
        std::fs::write(&options.text, &broken).unwrap();
        assert!(refusal(&options).contains("not finite"));
    }

    #[test]
    fn towers_of_different_models_do_not_make_a_bundle() {
        let (mut options, _) = fixture("hf-dynamo18");
        options.preprocess.size = 32;
        assert!(!refusal(&options).is_empty());
        let (mut options, _) = fixture("hf-dynamo18");
        options.tokenizer_json = Tokenizer::clip(CLIP_MERGES, 600)
            .unwrap()
            .to_json_bytes()
            .unwrap();
        assert!(refusal(&options).contains("tokenizer"));
    }

    #[test]
    fn a_bundle_is_the_same_whenever_it_is_made() {
        let (options, _) = fixture("hf-sdpa-ts17");
        assert_eq!(import(&options).unwrap().0, import(&options).unwrap().0);
    }

    #[test]
    fn a_cosine_that_is_not_enough_needs_force() {
        let (mut options, _) = fixture("openclip-quick-ts17");
        // With start and end token swapped, the original pools elsewhere than the bundle.
        let json = String::from_utf8(options.tokenizer_json).unwrap();
        let swapped = json
            .replace("<|startoftext|>", "<|x|>")
            .replace("<|endoftext|>", "<|startoftext|>");
        options.tokenizer_json = swapped.replace("<|x|>", "<|endoftext|>").into_bytes();
        assert!(refusal(&options).contains("cosine"));
        options.force = true;
        assert!(import(&options).unwrap().1.parity.text < LOWEST_PARITY);
    }
}
