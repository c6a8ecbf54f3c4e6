//! `edge-rlp model` and `embed` as a person types them.

mod support;

use edge_rlp::clip::Model;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use support::models::{done, export, kept, objects, refused};
use support::{Directory, code, stderr, stdout};

/// The default model's bundle, as a file.
fn default_bundle() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/default/default.rlpm");
    fs::read(path).unwrap()
}

/// A directory whose home folder holds `bytes` as the model `name`.
fn with_model(name: &str, bytes: &[u8]) -> Directory {
    let dir = Directory::new();
    add_model(&dir, name, bytes);
    dir
}

fn add_model(dir: &Directory, name: &str, bytes: &[u8]) {
    let folder = dir.home().join("models");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.rlpm")), bytes).unwrap();
}

#[test]
fn models_are_listed_and_damaged_ones_shown_as_such() {
    let whole = default_bundle();
    let dir = with_model("whole", &whole);
    add_model(&dir, "short", &whole[..100_000]);
    add_model(&dir, "junk", b"this is no model");
    let output = dir.run(&["model", "list", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let listed = objects(&stdout(&output));
    let names: Vec<_> = listed.iter().map(|model| &model["model"]).collect();
    assert_eq!(names, ["default", "junk", "short", "whole"]);
    assert!(listed[0]["path"].is_null() && listed[0]["error"].is_null());
    assert!(listed[1]["error"].as_str().unwrap().contains("RLPMODEL"));
    assert!(listed[2]["error"].as_str().unwrap().contains("cut short"));
    assert_eq!(listed[3]["fingerprint"], listed[0]["fingerprint"]);
    let output = dir.run(&["model", "list"]);
    assert_eq!(code(&output), 0);
    assert_eq!(stdout(&output).matches("damaged").count(), 2);
    assert!(
        stderr(&output).contains("short.rlpm"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn verifying_notices_a_single_flipped_bit_of_the_weights() {
    let mut bytes = default_bundle();
    let dir = with_model("whole", &bytes);
    let output = dir.run(&["model", "verify"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output).matches("sound").count(), 2);
    bytes[2_000_000] ^= 4;
    add_model(&dir, "flipped", &bytes);
    refused(&dir, &["model", "verify"], 1, &["1 of 3"]);
    let output = dir.run(&["model", "verify", "flipped", "whole", "--json"]);
    assert_eq!(code(&output), 1);
    let checked = objects(&stdout(&output));
    assert_eq!(
        (&checked[0]["sound"], &checked[1]["sound"]),
        (&false.into(), &true.into())
    );
    assert!(
        checked[0]["error"]
            .as_str()
            .unwrap()
            .contains("fingerprint")
    );
    refused(
        &dir,
        &["model", "show", "flipped"],
        1,
        &["flipped.rlpm", "fingerprint"],
    );
    refused(
        &dir,
        &["embed", "--text", "mug", "--model", "flipped"],
        1,
        &["flipped.rlpm"],
    );
}

#[test]
fn a_model_is_shown_by_name_and_by_file() {
    let dir = with_model("shelf", &default_bundle());
    fs::write(dir.path().join("copied.rlpm"), default_bundle()).unwrap();
    for name in ["shelf", "copied.rlpm", "default"] {
        let output = dir.run(&["model", "show", name, "--json"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let shown: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(shown["model"], name);
        assert_eq!(shown["text"]["activation"], "QuickGELU");
        assert_eq!(shown["preprocess"]["size"], 64);
        assert_eq!(shown["precision"], "int8");
        assert!(shown["parity"]["text"].as_f64().unwrap() > 0.99);
    }
    let page = stdout(&dir.run(&["model", "show", "shelf"]));
    for part in [
        "shelf.rlpm",
        "calls itself",
        "QuickGELU",
        "64 x 64",
        "cosine",
        "int8",
        "bicubic",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    refused(
        &dir,
        &["model", "show", "nowhere"],
        1,
        &["nowhere", "model list"],
    );
    refused(
        &dir,
        &["model", "show", "./nowhere.rlpm"],
        1,
        &["nowhere.rlpm"],
    );
    refused(&dir, &["model", "show", "a b"], 2, &["a b"]);
}

#[test]
fn a_model_that_prompts_were_made_with_is_removed_only_by_force() {
    let dir = with_model("shelf", &default_bundle());
    let adapt = [
        "adapt",
        "--camera",
        "demo:infrared",
        "--model",
        "shelf",
        "--shots",
        "4",
        "--views",
        "1",
        "--steps",
        "5",
        "--force",
        "--prompt",
        "door",
        "-q",
    ];
    let output = dir.run(&adapt);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    refused(
        &dir,
        &["model", "remove", "shelf"],
        1,
        &["shelf", "door", "--force"],
    );
    refused(
        &dir,
        &["model", "remove", "default"],
        2,
        &["inside the program"],
    );
    refused(&dir, &["model", "remove", "nowhere"], 1, &["nowhere"]);
    let output = dir.run(&["model", "remove", "shelf", "--force", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("door"));
    assert_eq!(objects(&stdout(&output))[0]["prompts"][0], "door");
    assert!(!dir.home().join("models/shelf.rlpm").exists());
}

#[test]
fn features_are_those_of_the_library_one_line_an_input() {
    let dir = Directory::with_pictures(2);
    let model = Model::embedded().unwrap();
    let output = dir.run(&["embed", "--text", "a mug", "two words", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let lines = objects(&stdout(&output));
    assert_eq!(lines.len(), 2);
    for (line, text) in lines.iter().zip(["a mug", "two words"]) {
        assert_eq!(line["source"], text);
        let mut sequence = vec![model.tokenizer.start_token()];
        sequence.extend(model.tokenizer.encode(text).unwrap());
        sequence.push(model.tokenizer.end_token());
        let expected = model.text.encode(&[sequence]).unwrap();
        assert_eq!(numbers(&line["features"]), expected.row(0).to_vec());
    }

    let output = dir.run(&["embed", "--image", "pictures/mug/0000.png", "pictures/fish"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let table = stdout(&output);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(rows.len(), 3);
    for row in &rows {
        let picture = image::open(dir.path().join(row[0])).unwrap().to_rgb8();
        let expected = model.encode_image(&picture).unwrap();
        let found: Vec<f32> = row[1..]
            .iter()
            .map(|number| number.parse().unwrap())
            .collect();
        assert_eq!(found, expected.to_vec());
        let length: f32 = found.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
}

fn numbers(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn a_picture_that_cannot_be_read_is_skipped_and_told_by_the_exit_code() {
    let dir = Directory::with_pictures(1);
    dir.write("pictures/mug/broken.png", "this is no picture");
    let output = dir.run(&["embed", "--image", "pictures", "--json"]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 2);
    assert!(stderr(&output).contains("broken.png"));
    refused(
        &dir,
        &["embed", "--image", "nowhere.png"],
        1,
        &["nowhere.png"],
    );
    refused(
        &dir,
        &["embed", "--text", "x", "--image", "y"],
        2,
        &["--image"],
    );
    let long = "mug ".repeat(100);
    let output = dir.run(&["embed", "--text", &long]);
    assert_eq!(code(&output), 0);
    assert!(
        stderr(&output).contains("200 tokens"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn texts_are_read_from_standard_input_line_by_line() {
    let dir = Directory::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_edge-rlp"))
        .args(["embed", "--text", "first", "-", "--json", "--home", "home"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"second\nthird\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = objects(&stdout(&output));
    let sources: Vec<_> = lines.iter().map(|line| &line["source"]).collect();
    assert_eq!(sources, ["first", "second", "third"]);
    assert!(
        !Path::new(&dir.home()).exists(),
        "nothing was to be written"
    );
}

#[test]
fn an_export_is_imported_told_of_and_used_by_name() {
    let dir = Directory::with_pictures(2);
    export(&dir, "exports/tiny-clip", "hf-sdpa-ts17");
    let report = &objects(&done(
        &dir,
        &["model", "import", "exports/tiny-clip", "--json"],
    ))[0];
    assert_eq!(report["model"], "tiny-clip");
    assert_eq!(report["precision"], "int8");
    assert!(report["text"].as_str().unwrap().ends_with("textual.onnx"));
    assert!(report["parity"]["image"].as_f64().unwrap() > 0.99);
    assert_eq!(kept(&dir, "models"), ["tiny-clip.rlpm"]);
    let bytes = fs::metadata(dir.home().join("models/tiny-clip.rlpm"))
        .unwrap()
        .len();
    assert_eq!(report["bytes"], bytes);

    let shown = &objects(&done(&dir, &["model", "show", "tiny-clip", "--json"]))[0];
    assert_eq!(shown["fingerprint"], report["fingerprint"]);
    assert_eq!(shown["parity"], report["parity"]);
    assert_eq!(shown["logit_scale"], 20.0);

    let again = ["model", "import", "exports/tiny-clip"];
    refused(&dir, &again, 1, &["tiny-clip", "--force"]);
    let page = done(
        &dir,
        &[&again[..], &["--precision", "f32", "--force"]].concat(),
    );
    assert!(page.contains("cosine") && page.contains("f32"), "{page}");
    assert_ne!(
        objects(&done(&dir, &["model", "show", "tiny-clip", "--json"]))[0]["fingerprint"],
        report["fingerprint"]
    );
    let picture = ["embed", "--image", "pictures/mug", "--model", "tiny-clip"];
    assert_eq!(done(&dir, &picture).lines().count(), 2);
    done(&dir, &["embed", "--text", "mug", "--model", "tiny-clip"]);
}

#[test]
fn two_files_or_one_are_imported_with_what_lies_beside_them_or_is_given() {
    let dir = Directory::new();
    export(&dir, "pair", "openclip-quick-ts17");
    let pair = [
        "model",
        "import",
        "--image",
        "pair/visual.onnx",
        "--text",
        "pair/textual.onnx",
        "--name",
    ];
    done(&dir, &[&pair[..], &["beside"]].concat());
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    for file in ["tokenizer.json", "preprocessor_config.json"] {
        fs::rename(
            dir.path().join("pair").join(file),
            dir.path().join("elsewhere").join(file),
        )
        .unwrap();
    }
    let given = [
        "given",
        "--tokenizer",
        "elsewhere/tokenizer.json",
        "--preprocess",
        "elsewhere/preprocessor_config.json",
        "--logit-scale",
        "50",
    ];
    done(&dir, &[&pair[..], &given].concat());
    let scale =
        |name| objects(&done(&dir, &["model", "show", name, "--json"]))[0]["logit_scale"].clone();
    assert_eq!(
        (scale("beside"), scale("given")),
        (20.0.into(), 50.0.into())
    );

    export(&dir, "full", "hf-combined");
    done(
        &dir,
        &[
            "model",
            "import",
            "--full",
            "full/model.onnx",
            "--name",
            "both",
        ],
    );
    assert_eq!(
        kept(&dir, "models"),
        ["beside.rlpm", "both.rlpm", "given.rlpm"]
    );
}

#[test]
fn what_cannot_be_imported_is_refused_in_a_sentence_and_leaves_nothing() {
    let dir = Directory::new();
    export(&dir, "pair", "hf-dynamo18");
    refused(&dir, &["model", "import"], 2, &["required", "DIR"]);
    refused(
        &dir,
        &["model", "import", "--image", "pair/visual.onnx"],
        2,
        &["--text"],
    );
    refused(
        &dir,
        &["model", "import", "pair", "--full", "pair/visual.onnx"],
        2,
        &["--full"],
    );
    refused(
        &dir,
        &["model", "import", "pair", "--precision", "int4"],
        2,
        &["int4"],
    );
    refused(
        &dir,
        &["model", "import", "pair", "--name", "../up"],
        2,
        &["../up"],
    );
    refused(
        &dir,
        &["model", "import", "pair", "--name", "default"],
        2,
        &["default"],
    );
    refused(
        &dir,
        &["model", "import", "pair", "--logit-scale", "0"],
        2,
        &["positive"],
    );
    refused(&dir, &["model", "import", "nowhere"], 1, &["nowhere"]);
    refused(&dir, &["model", "import", "."], 1, &["visual.onnx"]);
    let swapped = [
        "model",
        "import",
        "--image",
        "pair/textual.onnx",
        "--text",
        "pair/visual.onnx",
    ];
    refused(&dir, &swapped, 1, &["swapped"]);
    let whole = fs::read(dir.path().join("pair/visual.onnx")).unwrap();
    fs::write(
        dir.path().join("pair/visual.onnx"),
        &whole[..whole.len() / 2],
    )
    .unwrap();
    refused(&dir, &["model", "import", "pair"], 1, &["visual.onnx"]);
    assert!(kept(&dir, "models").is_empty());
    dir.write("occupied", "a file, not a folder");
    refused(
        &dir,
        &["model", "import", "pair", "--home", "occupied"],
        1,
        &["occupied"],
    );
}

#[test]
fn a_bundle_that_does_not_compute_what_the_original_does_needs_force() {
    let dir = Directory::new();
    export(&dir, "odd", "openclip-quick-ts17");
    // With start and end token swapped, the original pools elsewhere than the bundle.
    let path = dir.path().join("odd/tokenizer.json");
    let json = fs::read_to_string(&path).unwrap();
    let swapped = json
        .replace("<|startoftext|>", "<|x|>")
        .replace("<|endoftext|>", "<|startoftext|>")
        .replace("<|x|>", "<|endoftext|>");
    fs::write(&path, swapped).unwrap();
    refused(&dir, &["model", "import", "odd"], 1, &["cosine", "--force"]);
    assert!(kept(&dir, "models").is_empty());
    done(&dir, &["model", "import", "odd", "--force"]);
    assert_eq!(kept(&dir, "models"), ["odd.rlpm"]);
}

#[test]
fn a_prompt_finds_the_model_it_was_made_with_and_is_refused_with_any_other() {
    let dir = Directory::with_pictures(4);
    export(&dir, "tiny", "hf-sdpa-ts17");
    done(&dir, &["model", "import", "tiny"]);
    let adapt = [
        "adapt",
        "--images",
        "pictures",
        "--views",
        "1",
        "--steps",
        "3",
        "--force",
        "-q",
        "--prompt",
        "door",
        "--template",
        "a {}.",
    ];
    done(&dir, &[&adapt[..], &["--model", "tiny"]].concat());
    let classify = ["classify", "pictures", "--prompt", "door"];
    done(&dir, &classify);
    let other = [&classify[..], &["--model", "default"]].concat();
    refused(&dir, &other, 1, &["door", "tiny", "default"]);

    // Under another name it is still the same model, and as a file it is, too.
    let models = dir.home().join("models");
    fs::rename(models.join("tiny.rlpm"), models.join("renamed.rlpm")).unwrap();
    done(&dir, &classify);
    fs::rename(models.join("renamed.rlpm"), dir.path().join("away.rlpm")).unwrap();
    refused(
        &dir,
        &classify,
        1,
        &["door", "tiny", "default", "model import"],
    );
    done(&dir, &[&classify[..], &["--model", "away.rlpm"]].concat());
}
