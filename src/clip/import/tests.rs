mod refusals;

use super::parity::cosine;
use super::*;
use crate::clip::image_tower::Fused;
use crate::clip::text_tower::{Padding, Pooling, Reading};
use crate::clip::tokenizer::CLIP_MERGES;
use ndarray::{Array1, Array2, Array3};
use std::path::Path;

const VOCABULARY: usize = 530;
const SIZE: usize = 24;

#[derive(serde::Deserialize)]
struct Expected {
    sequences: Vec<Vec<u32>>,
    text: Vec<Vec<f32>>,
    image: Vec<f32>,
    /// Pixels a side.
    #[serde(default = "usual_size")]
    size: usize,
    /// The case whose towers stand in where this one lacks them.
    text_from: Option<String>,
    image_from: Option<String>,
    gradient: Option<Gradient>,
    /// The token that fills texts up, where the tower sees it.
    padding: Option<u32>,
    /// Whether texts have a start token.
    #[serde(default = "yes")]
    start: bool,
    /// Of a file with both towers, for each text.
    logits: Option<Vec<f32>>,
}

fn yes() -> bool {
    true
}

/// What PyTorch derives of a text tower.
#[derive(serde::Deserialize)]
struct Gradient {
    context: Vec<Vec<f32>>,
    suffixes: Vec<Vec<u32>>,
    features: Vec<Vec<f32>>,
    d_features: Vec<Vec<f32>>,
    d_context: Vec<Vec<f32>>,
}

fn usual_size() -> usize {
    SIZE
}

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/import")
        .join(case)
}

fn fixture(case: &str) -> (ImportOptions, Expected) {
    let expected = std::fs::read(folder(case).join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&expected).unwrap();
    let file = |name: &str, from: &Option<String>| {
        let folder = folder(from.as_deref().unwrap_or(case));
        Some(folder.join(name))
            .filter(|file| file.exists())
            .unwrap_or(folder.join("model.onnx"))
    };
    let options = ImportOptions {
        name: case.to_owned(),
        image: file("visual.onnx", &expected.image_from),
        text: file("textual.onnx", &expected.text_from),
        tokenizer_json: if expected.start {
            let clip = Tokenizer::clip(CLIP_MERGES, VOCABULARY).unwrap();
            clip.to_json_bytes().unwrap()
        } else {
            std::fs::read(folder("siglip").join("tokenizer.json")).unwrap()
        },
        preprocess: Preprocess::clip(expected.size as u32),
        logit_scale: Some(100.0),
        logit_bias: None,
        padding: expected.padding,
        context_length: 12,
        precision: Precision::F32,
        force: false,
        notes: Vec::new(),
        origins: Vec::new(),
    };
    (options, expected)
}

/// The picture of tests/fixtures/import/make.py.
fn picture(size: usize) -> Array3<f32> {
    Array3::from_shape_fn((3, size, size), |(c, y, x)| {
        (0.37 * x as f64 + 0.71 * y as f64 * (c + 1) as f64 + c as f64).sin() as f32 * 1.5
    })
}

fn imported(options: &ImportOptions) -> (Model, ImportReport) {
    let (bundle, report) =
        import(options).unwrap_or_else(|error| panic!("{}: {error}", options.name));
    (Model::from_bytes(bundle).unwrap(), report)
}

/// The cosines between onnxruntime's features and those of a bundle made of the same files: image, then texts.
fn cosines(case: &str, precision: Precision) -> (f32, Vec<f32>) {
    let (mut options, expected) = fixture(case);
    options.precision = precision;
    let (model, report) = imported(&options);
    assert_eq!(report.fingerprint, model.fingerprint.to_string());
    let image = cosine(
        &Array1::from(expected.image),
        &model.image.encode(&picture(expected.size)).unwrap(),
    );
    let found = model.text.encode(&expected.sequences).unwrap();
    let expected = expected.text.into_iter().map(Array1::from);
    let text = expected
        .zip(found.outer_iter())
        .map(|(a, b)| cosine(&a, &b.to_owned()))
        .collect();
    (image, text)
}

/// What sharing a prefix, and passes, change in features and gradients of the imported tower in floats.
fn errors_of_sharing(case: &str) -> (f32, f32) {
    let (bundle, _) = import(&fixture(case).0).unwrap();
    let model = Model::from_bytes(bundle).unwrap();
    let end = model.tokenizer.end_token();
    let suffixes = vec![vec![7, 300, end], vec![5, end], vec![1, 2, 3, 4, end]];
    let errors = model.text.errors_of_sharing(&[320, 9, 17, 320], &suffixes);
    println!("{case}: features {:e}, gradient {:e}", errors.0, errors.1);
    errors
}

fn lowest(cosines: &[f32]) -> f32 {
    cosines.iter().copied().fold(f32::INFINITY, f32::min)
}

/// One row of the table in docs/import.md.
fn row(export: &str, precisions: &[(f32, f32)]) {
    let cells = precisions
        .iter()
        .map(|(image, text)| format!(" {image:.5}, {text:.5} |"));
    println!("table | {export} |{}", cells.collect::<String>());
}

macro_rules! exporters {
    ($($test:ident: $case:literal, $export:literal;)*) => {$(
        #[test]
        fn $test() {
            let (image, text) = cosines($case, Precision::F32);
            let float = (image, lowest(&text));
            let (image, text) = cosines($case, Precision::Int8);
            let eight = (image, lowest(&text));
            row($export, &[float, eight]);
            assert!(float.0 >= 0.99999 && float.1 >= 0.99999, "f32: {float:?}");
            let mean = text.iter().sum::<f32>() / text.len() as f32;
            assert!(image >= 0.995 && mean >= 0.995, "int8: image {image}, text {text:?}");
            let (model, _) = imported(&fixture($case).0);
            if model.text.reading() != Reading::Causal {
                return;
            }
            let (features, gradient) = errors_of_sharing($case);
            assert!(
                features <= 1e-5 && gradient <= 1e-5,
                "features {features:e}, gradient {gradient:e}"
            );
        }
    )*};
}

exporters! {
    transformers_eager_opset_14_with_mask_and_dynamic_axes: "hf-eager-ts14",
        "transformers, TorchScript exporter, opset 14, eager attention, attention mask, dynamic axes, QuickGELU";
    transformers_sdpa_opset_17_gelu: "hf-sdpa-ts17",
        "transformers, TorchScript exporter, opset 17, SDPA, dynamic batch, GELU (erf)";
    transformers_static_tanh_gelu: "hf-tanh-static",
        "transformers, TorchScript exporter, opset 17, static, GELU (tanh)";
    transformers_end_token_of_old_configurations: "hf-legacy-end",
        "transformers, `eos_token_id` 2 (pooled at the largest id), int32 ids, attention mask, dynamic axes";
    transformers_dynamo_opset_18: "hf-dynamo18",
        "transformers, dynamo exporter, opset 18, SDPA, QuickGELU";
    transformers_dynamo_opset_18_eager: "hf-eager-dynamo18",
        "transformers, dynamo exporter, opset 18, eager attention, static, GELU (erf)";
    transformers_dynamo_opset_20_dynamic: "hf-dynamo20",
        "transformers, dynamo exporter, opset 20, SDPA, attention mask, dynamic axes, GELU (erf)";
    transformers_external_data: "hf-external",
        "transformers, dynamo exporter, weights in a file of their own";
    transformers_float16: "hf-float16",
        "transformers, float16 weights (computed in f32 here)";
    transformers_both_towers_in_one_file: "hf-combined",
        "transformers, both towers in one file, normalised embeddings";
    transformers_vit_b_16: "hf-vit-b16",
        "transformers, as ViT-B/16: image tower wider and deeper than the text tower, other head count, small patches";
    transformers_dynamo_opset_23: "hf-attention23",
        "transformers, dynamo exporter, opset 23: attention as one operator";
    transformers_dynamo_opset_24: "hf-attention24",
        "transformers, dynamo exporter, opset 24, GELU (erf): attention as one operator";
    optimised_as_clip: "optimised-clip",
        "transformers, eager, then onnxruntime's `optimizer --model_type clip` (Attention, SkipLayerNormalization, QuickGelu)";
    optimised_as_clip_sdpa: "optimised-clip-sdpa",
        "transformers, SDPA, then onnxruntime's `optimizer --model_type clip` (SkipLayerNormalization, BiasGelu)";
    optimised_as_bert: "optimised-bert",
        "open_clip, then onnxruntime's `optimizer --model_type bert` (SkipLayerNormalization, BiasGelu)";
    optimised_by_a_session: "optimised-session",
        "transformers, as a session of onnxruntime writes it, extended optimisations (FusedMatMul, BiasGelu)";
    siglip_optimised_by_a_session: "optimised-session-siglip",
        "transformers, SigLIP's image tower, as a session writes it (FusedMatMul of transposed factors); text tower of another model";
    mobileclip_optimised_by_a_session: "optimised-session-mobileclip",
        "open_clip, image tower as MobileCLIP-S1, as a session writes it (FusedConv, FusedMatMul); text tower of another model";
    open_clip_fused_projection_quick_gelu: "openclip-quick-ts17",
        "open_clip, TorchScript exporter, opset 17, fused in_proj, QuickGELU";
    open_clip_dynamo_gelu: "openclip-gelu-dynamo18",
        "open_clip, dynamo exporter, opset 18, fused in_proj, GELU";
    open_clip_vit_l_14: "openclip-vit-l14",
        "open_clip, as ViT-L/14";
    open_clip_resnet_50: "openclip-rn50",
        "open_clip, as RN50: ResNet image tower with attention pooling";
    the_clip_package: "openai-ts14",
        "the `clip` package's model, opset 14, int32 ids pooled at the largest, sequence first";
    the_clip_package_in_half_precision: "openai-half",
        "the `clip` package's model, weights in float16, layer norms in float32";
    mobileclip_b: "mobileclip-b",
        "open_clip, as MobileCLIP-B: convolutional stem, `timm` ViT, causal text tower";
    mobileclip_s0_image: "mobileclip-s0-image",
        "open_clip, image tower as MobileCLIP-S0 (`timm` FastViT), TorchScript exporter; text tower of another model";
    mobileclip_s1_image: "mobileclip-s1-image",
        "open_clip, image tower as MobileCLIP-S1 (`timm` FastViT), dynamo exporter; text tower of another model";
    siglip_image: "siglip-image",
        "transformers, SigLIP's image tower (attention pooling); text tower of another model";
    mobileclip_s1: "mobileclip-s1",
        "open_clip, as MobileCLIP-S1 and MobileCLIP2: text tower not causal, dynamo exporter, opset 18, padding seen";
    siglip: "siglip",
        "transformers, as SigLIP and SigLIP 2: text tower not causal, pooled at the last token, SDPA, opset 17";
    siglip_dynamo: "siglip-dynamo",
        "transformers, as SigLIP, dynamo exporter, opset 18";
    siglip_in_one_file: "siglip-combined",
        "transformers, as SigLIP, both towers in one file, with logit scale and bias";
    siglip_of_open_clip: "openclip-siglip",
        "open_clip, as SigLIP: text tower not causal, pooled at the last token, projection with bias";
    whole_texts_by_their_mean: "whole-mean",
        "a text tower that is not causal, pooled by the mean of all tokens";
    whole_texts_by_attention: "whole-head",
        "a text tower that is not causal, pooled by SigLIP's head of attention, opset 17";
    whole_texts_by_attention_dynamo: "whole-head-dynamo",
        "the same, dynamo exporter, opset 18";
    whole_texts_with_a_mask: "whole-mask",
        "a text tower that is not causal, padding hidden by an attention mask, pooled at the end token";
    whole_texts_with_a_mask_of_their_own: "whole-own-mask",
        "the same, the mask made of the ids in the graph";
}

#[test]
fn how_texts_are_read_is_recognised() {
    let whole = |padding, pooling| Reading::Whole { padding, pooling };
    for (case, reading) in [
        ("hf-dynamo18", Reading::Causal),
        ("mobileclip-b", Reading::Causal),
        ("mobileclip-s1", whole(Padding::Token(0), Pooling::End)),
        ("siglip", whole(Padding::Token(1), Pooling::Last)),
        ("siglip-combined", whole(Padding::Token(1), Pooling::Last)),
        ("openclip-siglip", whole(Padding::Token(1), Pooling::Last)),
        ("whole-mean", whole(Padding::Token(1), Pooling::Mean)),
        ("whole-head", whole(Padding::Token(1), Pooling::Attention)),
        ("whole-mask", whole(Padding::Hidden, Pooling::End)),
        ("whole-own-mask", whole(Padding::Hidden, Pooling::End)),
    ] {
        assert_eq!(
            imported(&fixture(case).0).0.text.reading(),
            reading,
            "{case}"
        );
    }
}

#[test]
fn logits_of_a_siglip_are_scaled_and_shifted_as_its_graph_has_them() {
    let (mut options, expected) = fixture("siglip-combined");
    options.logit_scale = None;
    let (model, report) = imported(&options);
    assert!(
        (model.logit_scale / 4.7f32.exp() - 1.0).abs() < 1e-3,
        "{}",
        model.logit_scale
    );
    assert!(
        (model.logit_bias.unwrap() + 16.5).abs() < 0.05,
        "{:?}",
        model.logit_bias
    );
    assert!(
        report.notes.iter().any(|note| note.contains("is added")),
        "{:?}",
        report.notes
    );
    let image = model.image.encode(&picture(SIZE)).unwrap();
    let texts = model.text.encode(&expected.sequences).unwrap();
    let image = &image / image.dot(&image).sqrt();
    for (text, logit) in texts.outer_iter().zip(expected.logits.unwrap()) {
        let found = model.logit(text.dot(&image));
        assert!((found - logit).abs() < 0.05, "{found} {logit}");
    }
}

/// onnxruntime quantises the activations of these files, too; the bundle does not. So even floats differ a little.
macro_rules! quantised {
    ($($test:ident: $case:literal, $export:literal;)*) => {$(
        #[test]
        fn $test() {
            let found = [Precision::F32, Precision::Int8].map(|precision| {
                let (image, text) = cosines($case, precision);
                (image, text.iter().sum::<f32>() / text.len() as f32)
            });
            row($export, &found);
            for (image, text) in found {
                assert!(image >= 0.995 && text >= 0.995, "{found:?}");
            }
        }
    )*};
}

quantised! {
    quantised_dynamically_qint8: "dynamic-int8",
        "onnxruntime `quantize_dynamic`, QInt8, per tensor (transformers)";
    quantised_dynamically_qint8_per_channel: "dynamic-int8-channel",
        "onnxruntime `quantize_dynamic`, QInt8, per channel (open_clip)";
    quantised_dynamically_quint8: "dynamic-uint8",
        "onnxruntime `quantize_dynamic`, QUInt8, per tensor (open_clip)";
    quantised_dynamically_quint8_per_channel: "dynamic-uint8-channel",
        "onnxruntime `quantize_dynamic`, QUInt8, per channel (transformers)";
    tinyclip_in_uint8: "tinyclip-uint8",
        "as the public files of TinyCLIP: uint8 with zero points, tables of tokens and positions too, a scalar scale for patches";
    four_bits: "q4",
        "onnxruntime `MatMulNBits`, 4 bits, blocks of 32, symmetric, accuracy level 4 (transformers): `_q4`";
    four_bits_with_zero_points: "q4-zero-points",
        "the same, blocks of 16 with zero points, tables too (`GatherBlockQuantized`)";
    four_bits_and_half_precision: "q4f16",
        "the same, blocks of 32, the rest in float16: `_q4f16`";
    four_bits_in_the_qdq_format: "q4-qdq",
        "the same in the QDQ format: blocks of 16 in int4 behind `DequantizeLinear`";
    eight_bits_in_blocks: "q8-blocks",
        "onnxruntime `MatMulNBits`, 8 bits, blocks of 32 with zero points";
    bitsandbytes_fp4: "bnb4-fp4",
        "onnxruntime `MatMulBnb4`, FP4, blocks of 64";
    bitsandbytes_nf4: "bnb4-nf4",
        "onnxruntime `MatMulBnb4`, NF4, blocks of 64: `_bnb4`";
    quantised_statically_qdq: "static-qdq",
        "onnxruntime `quantize_static`, QDQ, QInt8, per tensor (transformers)";
    quantised_statically_qdq_per_channel: "static-qdq-channel",
        "onnxruntime `quantize_static`, QDQ, QInt8, per channel (open_clip)";
}

/// Per-tensor and per-channel weights with zero point 0 are kept as they are: eight bits lose nothing.
#[test]
fn integers_of_symmetric_files_are_kept() {
    for case in [
        "dynamic-int8",
        "dynamic-int8-channel",
        "static-qdq",
        "static-qdq-channel",
    ] {
        let (mut options, expected) = fixture(case);
        let features = [Precision::F32, Precision::Int8].map(|precision| {
            options.precision = precision;
            imported(&options)
                .0
                .text
                .encode(&expected.sequences)
                .unwrap()
        });
        for (a, b) in features[0].outer_iter().zip(features[1].outer_iter()) {
            let cosine = cosine(&a.to_owned(), &b.to_owned());
            assert!(cosine >= 0.999999, "{case}: {cosine}");
        }
        let (_, report) = imported(&options);
        assert!(
            report.notes[0].contains("already quantised"),
            "{:?}",
            report.notes
        );
    }
}

#[test]
fn gradients_of_imported_text_towers_are_those_of_pytorch() {
    let matrix = |rows: &[Vec<f32>]| {
        Array2::from_shape_fn((rows.len(), rows[0].len()), |(row, at)| rows[row][at])
    };
    for case in [
        "hf-dynamo18",
        "openclip-quick-ts17",
        "openai-ts14",
        "mobileclip-s1",
        "siglip",
        "openclip-siglip",
        "whole-mean",
        "whole-head",
        "whole-head-dynamo",
        "whole-mask",
        "whole-own-mask",
    ] {
        let (options, expected) = fixture(case);
        let model = imported(&options).0;
        let known = expected.gradient.unwrap();
        let context = matrix(&known.context);
        let (features, tape) = model
            .text
            .forward(context.view(), &known.suffixes, usize::MAX)
            .unwrap();
        let found = model.text.backward(&tape, matrix(&known.d_features).view());
        let norm = |m: &Array2<f32>| m.iter().map(|v| v * v).sum::<f32>().sqrt();
        let error = |found: &Array2<f32>, expected: &[Vec<f32>]| {
            let expected = matrix(expected);
            norm(&(found - &expected)) / norm(&expected)
        };
        let (value, gradient) = (
            error(&features, &known.features),
            error(&found, &known.d_context),
        );
        println!("{case}: relative error of features {value:.1e}, of the gradient {gradient:.1e}");
        assert!(
            value <= 1e-4 && gradient <= 1e-4,
            "{case}: {value}, {gradient}"
        );
    }
}

#[test]
fn the_logit_scale_of_a_combined_file_is_the_one_in_its_graph() {
    let (mut options, _) = fixture("hf-combined");
    options.logit_scale = None;
    let (model, report) = imported(&options);
    // transformers starts at 2.6592 before the exponential.
    assert!(
        (model.logit_scale - 2.6592f32.exp()).abs() < 1e-2,
        "{}",
        model.logit_scale
    );
    assert!(
        report.notes[0].contains("logit scale is 14.28"),
        "{:?}",
        report.notes
    );
    let (mut options, _) = fixture("hf-dynamo18");
    options.logit_scale = None;
    let (model, report) = imported(&options);
    assert_eq!(model.logit_scale, USUAL_LOGIT_SCALE);
    assert!(report.notes[0].contains("no file tells the logit scale"));
}

#[test]
fn a_bundle_is_the_same_whenever_it_is_made() {
    let (options, _) = fixture("hf-sdpa-ts17");
    assert_eq!(import(&options).unwrap().0, import(&options).unwrap().0);
}

#[test]
fn image_towers_of_every_exporter_run_on_the_projects_own_operators() {
    for case in [
        "hf-eager-ts14",
        "hf-sdpa-ts17",
        "hf-tanh-static",
        "hf-dynamo18",
        "hf-float16",
        "hf-combined",
        "openclip-quick-ts17",
        "openclip-gelu-dynamo18",
    ] {
        for precision in [Precision::F32, Precision::Int8] {
            let (mut options, _) = fixture(case);
            options.precision = precision;
            let (model, _) = imported(&options);
            // Separate projections to query, key and value, or one.
            let (linears, pooled) = if case.starts_with("openclip") {
                (9, 4)
            } else {
                (13, 5)
            };
            let expected = Fused {
                norms: 6,
                linears,
                activations: 2,
                residuals: 4,
                // Of the last block, and the projection.
                pooled,
                attentions: 2,
                patches: 1,
                convolutions: 0,
            };
            assert_eq!(model.image.fused(), expected, "{case}");
        }
    }
}
