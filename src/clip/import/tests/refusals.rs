//! Files that are refused, and with which words.

use super::*;

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
        ("refused-bert", "not a CLIP text tower", "LayerNorm"),
        (
            "refused-no-projection",
            "the projection to the joint space",
            "Gather",
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
fn a_file_for_one_kind_of_processor_is_refused_with_the_cure() {
    let (mut options, _) = fixture("openclip-quick-ts17");
    options.image = folder("optimised-session-all").join("visual.onnx");
    let refusal = refusal(&options);
    assert!(
        refusal.contains("ReorderOutput of com.microsoft.nchwc")
            && refusal.contains("without onnxruntime's graph optimisations"),
        "{refusal}"
    );
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
fn features_of_different_lengths_do_not_make_a_model() {
    let (mut options, _) = fixture("hf-dynamo18");
    options.image = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default/visual.onnx");
    options.preprocess.size = Model::embedded().unwrap().preprocess.size;
    assert!(refusal(&options).contains("differ in length"));
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
