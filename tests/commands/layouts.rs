//! Every layout of an export that is accepted, through `model import` from a folder, and through `model pull` from a hub
//! that lists its files and from a plain server that does not: the same model each time.
#![cfg(feature = "pull")]

use crate::support::Directory;
use crate::support::models::kept;
use crate::support::server::{Reply, Server};
use edge_rlp::clip::Tokenizer;
use edge_rlp::clip::import::layout;
use edge_rlp::clip::tokenizer::CLIP_MERGES;
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

type Files = HashMap<String, Vec<u8>>;

const CONFIG: &str = r#"{"logit_scale": 20.0, "text_config": {"max_position_embeddings": 12}}"#;
const PREPROCESSOR: &str = r#"{"size": 24, "crop_size": 24, "resample": 2, "do_resize": true,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}"#;

/// A file of tests/fixtures/import.
fn fixture(path: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    fs::read(folder.join(path)).unwrap()
}

fn tokenizer() -> Vec<u8> {
    let clip = Tokenizer::clip(CLIP_MERGES, 530).unwrap();
    clip.to_json_bytes().unwrap()
}

/// A layout: towers of a case under these names, and the usual settings.
fn layout_of(case: &str, image: &str, text: &str) -> Files {
    let mut files = Files::from([
        ("config.json".into(), CONFIG.into()),
        ("preprocessor_config.json".into(), PREPROCESSOR.into()),
        ("tokenizer.json".into(), tokenizer()),
    ]);
    let towers = match image == text {
        true => vec![(image, "model.onnx")],
        false => vec![(image, "visual.onnx"), (text, "textual.onnx")],
    };
    for (name, file) in towers {
        // A case without an image tower has the joint width of another one's.
        let case = match file == "visual.onnx" && ["hf-external", "hf-loose"].contains(&case) {
            true => "hf-dynamo18",
            false => case,
        };
        files.insert(name.into(), fixture(&format!("{case}/{file}")));
    }
    files
}

/// Where the repository lies on a hub, and the same files on a plain server.
const REPOSITORY: &str = "/someone/clip/resolve/main";

fn server(files: &Files, lists: bool) -> Server {
    let listing = json!({"siblings": files.keys().map(|name| json!({"rfilename": name})).collect::<Vec<_>>()});
    let files: Files = files
        .iter()
        .map(|(name, bytes)| (format!("{REPOSITORY}/{name}"), bytes.clone()))
        .collect();
    Server::new(move |request| {
        if lists && request.path == "/api/models/someone/clip/revision/main" {
            return Reply::ok(listing.to_string().as_bytes());
        }
        match files.get(&request.path) {
            Some(body) => Reply::file(request, "1", body),
            None => Reply::status(404),
        }
    })
}

fn write(files: &Files, folder: &Path) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Imports and pulls the same files; returns what the import reported. A server that lists nothing is asked for one name
/// after the other, which a few layouts show as well as all.
fn both_ways(files: &Files, what: &str) -> serde_json::Value {
    let asked_one_by_one = [
        "usual",
        "visual.onnx",
        "onnx/model.onnx",
        "_quantized",
        "loose files",
    ];
    let dir = Directory::new();
    write(files, &dir.path().join("clip"));
    let imported = dir.ok("model import clip --json --name folder").json();
    for (name, lists) in [("hub", true), ("plain", false)] {
        if !lists && !asked_one_by_one.contains(&what) {
            continue;
        }
        let server = server(files, lists);
        let line = match lists {
            true => format!("someone/clip --endpoint {}", server.url("")),
            false => server.url(REPOSITORY),
        };
        let pulled = dir
            .ok(&format!("model pull {line} --json --name {name}"))
            .json();
        assert_eq!(
            pulled["fingerprint"], imported["fingerprint"],
            "{what}, {name}"
        );
        let not_there = server.requests().len() - files.len();
        assert!(
            !lists || not_there <= 4,
            "{what}: {not_there} requests for nothing"
        );
    }
    assert!(kept(&dir, "downloads").is_empty());
    imported
}

#[test]
fn towers_by_every_name_make_the_same_model_from_a_folder_and_from_a_server() {
    let mut fingerprints = HashMap::new();
    for towers in layout::towers().filter(|towers| towers.precision == "float32") {
        if towers.image.contains("_fp32") {
            continue;
        }
        let case = match towers.image == towers.text {
            true => "hf-combined",
            false => "hf-sdpa-ts17",
        };
        let files = layout_of(case, &towers.image, &towers.text);
        let imported = both_ways(&files, &towers.image);
        let first = fingerprints
            .entry(case)
            .or_insert_with(|| imported["fingerprint"].clone());
        assert_eq!(imported["fingerprint"], *first, "{}", towers.image);
    }
}

#[test]
fn repositories_with_one_precision_only_are_taken() {
    for (case, suffix, said) in [
        ("hf-sdpa-ts17", "_fp32", "float32"),
        ("hf-float16", "_fp16", "float16"),
        ("dynamic-int8", "_int8", "int8"),
        ("dynamic-uint8", "_uint8", "uint8"),
        ("dynamic-int8-channel", "_quantized", "already quantised"),
        ("static-qdq", "_static", "already quantised"),
        ("q4-zero-points", "_q4", "4 bits"),
        ("q4f16", "_q4f16", "4 bits, float16"),
        ("bnb4-nf4", "_bnb4", "bitsandbytes"),
        ("optimised-clip-sdpa", "_optimized", "rearranged"),
    ] {
        let [image, text] =
            ["vision", "text"].map(|tower| format!("onnx/{tower}_model{suffix}.onnx"));
        let imported = both_ways(&layout_of(case, &image, &text), suffix);
        let notes = imported["notes"].to_string();
        assert!(
            suffix == "_fp32" || notes.contains(said),
            "{suffix}: {notes}"
        );
    }
}

#[test]
fn weights_in_files_of_their_own_are_read_from_the_onnx_itself() {
    let (image, text) = ("onnx/vision_model.onnx", "onnx/text_model.onnx");
    let mut files = layout_of("hf-external", image, text);
    // Under whatever name the file says.
    files.insert(
        "onnx/textual.onnx.data".into(),
        fixture("hf-external/textual.onnx.data"),
    );
    both_ways(&files, "one file");
    // Each tensor in a file of its own, as older exporters of large models write.
    let mut files = layout_of("hf-loose", image, text);
    let loose = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import/hf-loose");
    let mut count = 0;
    for entry in fs::read_dir(loose).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".onnx") && !name.ends_with(".json") {
            files.insert(format!("onnx/{name}"), fixture(&format!("hf-loose/{name}")));
            count += 1;
        }
    }
    assert!(count > 10, "{count} loose files");
    both_ways(&files, "loose files");
}

#[test]
fn settings_by_every_name_are_read_both_ways() {
    let (image, text) = ("onnx/vision_model.onnx", "onnx/text_model.onnx");
    let usual = layout_of("hf-sdpa-ts17", image, text);
    let known = both_ways(&usual, "usual");
    let moved = |from: &str, to: &[(&str, Vec<u8>)]| {
        let mut files = usual.clone();
        files.remove(from);
        files.extend(
            to.iter()
                .map(|(name, bytes)| (name.to_string(), bytes.clone())),
        );
        files
    };
    let nested =
        format!(r#"{{"processor_class": "CLIPProcessor", "image_processor": {PREPROCESSOR}}}"#);
    let open_clip = r#"{"size": 24, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear",
        "resize_mode": "shortest"}"#;
    let whole = format!(r#"{{"model_cfg": {{}}, "preprocess_cfg": {open_clip}}}"#);
    let json: serde_json::Value = serde_json::from_slice(&tokenizer()).unwrap();
    let vocabulary = json["model"]["vocab"].to_string();
    let merges: Vec<&str> = CLIP_MERGES.lines().take(530 - 514).collect();
    let layouts = [
        (
            "preprocessor_config.json",
            vec![("processor_config.json", nested.into_bytes())],
        ),
        (
            "preprocessor_config.json",
            vec![("visual/preprocess_cfg.json", open_clip.into())],
        ),
        (
            "preprocessor_config.json",
            vec![("preprocess_cfg.json", open_clip.into())],
        ),
        (
            "preprocessor_config.json",
            vec![("open_clip_config.json", whole.into_bytes())],
        ),
        (
            "preprocessor_config.json",
            vec![("onnx/preprocessor_config.json", PREPROCESSOR.into())],
        ),
        (
            "tokenizer.json",
            vec![("textual/tokenizer.json", tokenizer())],
        ),
        ("tokenizer.json", vec![("text/tokenizer.json", tokenizer())]),
        (
            "tokenizer.json",
            vec![
                ("vocab.json", vocabulary.into()),
                ("merges.txt", merges.join("\n").into()),
            ],
        ),
    ];
    for (from, to) in layouts {
        let imported = both_ways(&moved(from, &to), to[0].0);
        assert_eq!(imported["fingerprint"], known["fingerprint"], "{}", to[0].0);
        assert_eq!(imported["notes"], known["notes"], "{}", to[0].0);
    }
}

#[test]
fn what_is_asked_for_in_vain_says_what_is_there() {
    let dir = Directory::new();
    let only = |name: &str| Files::from([(name.to_owned(), b"x".to_vec())]);
    for (files, lists, sentence) in [
        (
            only("model.safetensors"),
            true,
            "someone/clip ... no ONNX file at all",
        ),
        (
            only("encoder.onnx"),
            true,
            "no two towers ... only encoder.onnx ... --image",
        ),
        (
            only("encoder.onnx"),
            false,
            "none of onnx/vision_model.onnx",
        ),
        (
            only("onnx/vision_model.onnx"),
            true,
            "has onnx/vision_model.onnx but no onnx/text_model.onnx",
        ),
    ] {
        let server = server(&files, lists);
        let ran = dir
            .command("model pull someone/clip --endpoint")
            .arg(server.url(""));
        ran.fails(1, sentence);
    }
    // Weights that the file names and the repository lacks.
    let files = layout_of("hf-external", "visual.onnx", "textual.onnx");
    let server = server(&files, true);
    let ran = dir
        .command("model pull someone/clip --endpoint")
        .arg(server.url(""));
    ran.fails(
        1,
        "textual.onnx keeps weights in textual.onnx.data, which is not there",
    );
}

/// Files that are no export, or not all of one, and what is said of them: where a folder has them, and where a hub has.
#[test]
fn ten_wrong_folders_are_a_sentence_each_from_a_folder_and_from_a_hub() {
    let only = |names: &[&str]| {
        let files = names.iter().map(|name| (name.to_string(), b"x".to_vec()));
        files.collect::<Files>()
    };
    let (image, text) = ("onnx/vision_model.onnx", "onnx/text_model.onnx");
    let changed = |name: &str, content: Option<&[u8]>| {
        let mut files = layout_of("hf-sdpa-ts17", image, text);
        match content {
            Some(content) => files.insert(name.into(), content.to_vec()),
            None => files.remove(name),
        };
        files
    };
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 351057167\n";
    let other = Tokenizer::clip(CLIP_MERGES, 600).unwrap();
    let other = other.to_json_bytes().unwrap();
    let wrong = [
        (
            changed(image, None),
            "has onnx/text_model.onnx but no onnx/vision_model.onnx",
        ),
        (
            only(&["config.json.txt", "model.safetensors"]),
            "no ONNX file at all ... safetensors",
        ),
        (only(&["clip-q4_0.gguf"]), "GGUF (clip-q4_0.gguf)"),
        (only(&["pytorch_model.bin", "README.md"]), "PyTorch"),
        (only(&["clip.tflite"]), "TensorFlow Lite"),
        (
            only(&["openvino_model.xml", "openvino_model.bin"]),
            "OpenVINO",
        ),
        (only(&["clip.mlpackage/Manifest.json"]), "Core ML"),
        (only(&["README.md"]), "only README.md: export the model"),
        (only(&["clip.zip"]), "unpack it"),
        (
            only(&["model_index.json", "text_encoder/model.onnx"]),
            "pipeline of diffusers",
        ),
        (
            changed(text, Some(pointer)),
            "text_model.onnx is a pointer of Git LFS ... git lfs pull",
        ),
        // Before the text tower, which may take minutes, is worked on.
        (
            changed(image, Some(pointer)),
            "vision_model.onnx is a pointer of Git LFS ... git lfs pull",
        ),
        (
            changed("tokenizer.json", Some(pointer)),
            "pointer of Git LFS",
        ),
        (
            changed("tokenizer.json", Some(&other)),
            "it knows 600 tokens, and the text tower has 530; give the model's own with --tokenizer",
        ),
        (
            layout_of("hf-external", image, text),
            "keeps ... textual.onnx.data ... which",
        ),
        (
            changed(text, Some(b"<html>404</html>")),
            "is not an ONNX file",
        ),
    ];
    for (files, sentence) in wrong {
        let dir = Directory::new();
        write(&files, &dir.path().join("clip"));
        let imported = dir.fails("model import clip --name wrong", 1, sentence);
        let server = server(&files, true);
        let pulled = dir.command("model pull someone/clip --name wrong --endpoint");
        let pulled = pulled.arg(server.url("")).fails(1, sentence);
        for said in [imported, pulled] {
            let errors = said.stderr.lines().filter(|line| line.starts_with("error"));
            assert_eq!(errors.count(), 1, "{said}");
        }
        assert!(kept(&dir, "models").is_empty());
    }
}

#[test]
fn a_file_in_place_of_a_folder_is_told_what_it_is() {
    let dir = Directory::new();
    for (name, sentence) in [
        ("clip.zip", "is an archive: unpack it"),
        ("model.safetensors", "is weights in safetensors"),
        ("home.rlpm", "imported already"),
        ("model.onnx", "is a file, not the folder ... --full"),
    ] {
        fs::write(dir.path().join(name), "x").unwrap();
        dir.fails(&format!("model import {name}"), 1, sentence);
    }
}

#[test]
fn a_check_says_where_everything_comes_from_and_keeps_nothing() {
    let dir = Directory::new();
    let mut files = layout_of("hf-sdpa-ts17", "visual.onnx", "textual.onnx");
    files.remove("config.json");
    files.remove("preprocessor_config.json");
    write(&files, &dir.path().join("clip"));
    let checked = dir.ok("model import clip --check");
    checked.prints("visual.onnx").prints("tokenizer.json");
    for guessed in ["preprocessing", "logit scale"] {
        let line = checked
            .stdout
            .lines()
            .find(|line| line.starts_with(guessed));
        assert!(line.unwrap().contains("guessed"), "{checked}");
    }
    checked.prints("Nothing was kept");
    assert!(kept(&dir, "models").is_empty());
    let json = dir.ok("model import clip --check --json").json();
    assert_eq!(json["kept"], false);
    assert!(json["origins"].as_array().unwrap().len() >= 6);
    // Also where it does not work, it says what would have been read.
    fs::write(dir.path().join("clip/textual.onnx"), "nonsense").unwrap();
    let failed = dir.fails("model import clip --check", 1, "textual.onnx");
    failed.says("visual.onnx");
}
