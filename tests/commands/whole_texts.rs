//! A SigLIP as a person meets it: imported with its tokeniser, shown, adapted, classified with. The model is of the true
//! architecture with random weights, so what counts is that the loss falls.

use crate::support::Directory;
use edge_rlp::adapt::features::{Extraction, Monitor, Pictures, extract};
use edge_rlp::adapt::{Options, Task, adapt};
use edge_rlp::clip::Model;
use edge_rlp::clip::import::{ImportOptions, import};
use edge_rlp::clip::preprocess::Preprocess;
use edge_rlp::prompt::{Label, Template, Tuning};
use image::RgbImage;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/import")
        .join(name)
}

fn picture(index: usize) -> RgbImage {
    RgbImage::from_fn(40, 30, |x, y| {
        let (x, y, kind) = (x as usize, y as usize, index % 3);
        let shade = (x * (1 + kind) * 5 + y * (3 - kind) * 7 + index) % 256;
        image::Rgb([shade as u8, (255 - shade) as u8, (kind * 90) as u8])
    })
}

#[test]
fn adaptation_of_texts_without_a_causal_mask_lowers_the_loss() {
    for (case, padding) in [
        ("siglip", Some(1)),
        ("whole-mean", Some(1)),
        ("whole-head", Some(1)),
        ("whole-mask", None),
    ] {
        let text = fixture(case).join("textual.onnx");
        // A case that is about its text tower has no other.
        let image = Some(fixture(case).join("visual.onnx"));
        let image = image.filter(|file| file.exists());
        let image = image.unwrap_or(fixture("siglip").join("visual.onnx"));
        let tokenizer = fs::read(fixture("siglip/tokenizer.json")).unwrap();
        let mut options = ImportOptions::new(image, text, tokenizer, Preprocess::siglip(24));
        (options.padding, options.context_length) = (padding, 12);
        options.logit_scale = Some(20.0);
        let model = Model::from_bytes(import(&options).unwrap().0).unwrap();
        let labels =
            ["red cup", "dog", "two green bolt"].map(|name| Label::new(name, None).unwrap());
        let template = Template::parse("a photo of a {}").unwrap();
        let layout = model.layout(&template, &labels).unwrap();
        let pictures = Pictures {
            count: 18,
            load: &|index| Some((picture(index), index % 3)),
        };
        let set = extract(&model, pictures, Extraction::new(1, 1), Monitor::none()).unwrap();
        let task = Task::new(&model, &labels, &layout).unwrap();
        let mut training = Options::of(Tuning::Rlp);
        training.recipe.steps = 30;
        let mut losses = Vec::new();
        let outcome = adapt(&task, &set, &training, &mut |step| {
            losses.push(step.loss);
            ControlFlow::Continue(())
        });
        outcome.unwrap();
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        println!(
            "{case}: loss {first:.3} to {last:.3} in {} steps",
            losses.len()
        );
        assert!(last < 0.9 * first, "{case}: {losses:?}");
    }
}

#[test]
fn a_siglip_is_imported_shown_and_classified_with_as_what_it_is() {
    let dir = Directory::with_pictures(2);
    let folder = dir.path().join("siglip");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(
        fixture("siglip-combined/model.onnx"),
        folder.join("model.onnx"),
    )
    .unwrap();
    fs::copy(
        fixture("siglip/tokenizer.json"),
        folder.join("tokenizer.json"),
    )
    .unwrap();
    let config = r#"{"model_type": "siglip", "text_config": {"max_position_embeddings": 12}}"#;
    fs::write(folder.join("config.json"), config).unwrap();
    let special = r#"{"tokenizer_class": "SiglipTokenizer", "pad_token": "a"}"#;
    fs::write(folder.join("tokenizer_config.json"), special).unwrap();
    let processor = r#"{"image_processor": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 24, "width": 24}}}"#;
    fs::write(folder.join("processor_config.json"), processor).unwrap();
    let checked = dir.ok("model import siglip --check --padding 1");
    checked
        .prints("the feature at the last token")
        .prints("lose their punctuation");
    let imported = dir.ok("model import siglip --padding 1");
    imported.says("is added");
    let shown = dir.ok("model show siglip");
    shown
        .prints("before a sigmoid")
        .prints("padding with token 1");
    fs::write(dir.path().join("labels.txt"), "red cup\ndog\n").unwrap();
    let named = dir.ok("classify pictures --labels labels.txt --model siglip");
    named.says("softmax over the labels");
}
