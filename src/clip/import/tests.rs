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
        logit_scale: Some(100.0),
        context_length: 12,
        precision: Precision::F32,
        force: false,
        notes: Vec::new(),
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

macro_rules! exporters {
    ($($test:ident: $case:literal,)*) => {$(
        #[test]
        fn $test() {
            let (image, text) = cosines($case, Precision::F32);
            assert!(image >= 0.99999 && text >= 0.99999, "f32: image {image}, text {text}");
            let (image, text) = cosines($case, Precision::Int8);
            assert!(image >= 0.995 && text >= 0.995, "int8: image {image}, text {text}");
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
