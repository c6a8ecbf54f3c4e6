//! What the tests of models share: exports to import, and what the home folder keeps.

use super::Directory;
use edge_rlp::clip::Tokenizer;
use edge_rlp::clip::tokenizer::CLIP_MERGES;
use std::fs;
use std::path::Path;

/// Writes the folder `name` as transformers would: the towers of tests/fixtures/import/`case` with a tokeniser, a
/// preprocessing and a configuration that fit them.
pub fn export(dir: &Directory, name: &str, case: &str) {
    let folder = dir.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/import")
        .join(case);
    for file in ["visual.onnx", "textual.onnx", "model.onnx"] {
        if fixture.join(file).is_file() {
            fs::copy(fixture.join(file), folder.join(file)).unwrap();
        }
    }
    let tokenizer = Tokenizer::clip(CLIP_MERGES, 530).unwrap();
    fs::write(
        folder.join("tokenizer.json"),
        tokenizer.to_json_bytes().unwrap(),
    )
    .unwrap();
    let config = r#"{"logit_scale": 20.0, "text_config": {"max_position_embeddings": 12}}"#;
    fs::write(folder.join("config.json"), config).unwrap();
    let preprocessor = r#"{"size": 24, "crop_size": 24, "resample": 3, "do_resize": true}"#;
    fs::write(folder.join("preprocessor_config.json"), preprocessor).unwrap();
}

/// The names of what lies in a folder of the home folder.
pub fn kept(dir: &Directory, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(dir.home().join(folder)).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
