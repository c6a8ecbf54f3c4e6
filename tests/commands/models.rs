//! `edge-rlp model` and `embed` as a person types them.

use crate::support::Directory;
use crate::support::models::{export, kept};
use edge_rlp::clip::Model;
use edge_rlp::ops::Kernels;
use serde_json::Value;
use std::fs;
use std::io::Read;

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

fn shown(dir: &Directory, name: &str) -> Value {
    dir.ok(&format!("model show {name} --json")).json()
}

#[test]
fn models_are_listed_and_damaged_ones_shown_as_such() {
    let whole = default_bundle();
    let dir = with_model("whole", &whole);
    add_model(&dir, "short", &whole[..100_000]);
    add_model(&dir, "junk", b"this is no model");
    let listed = dir.ok("model list --json").lines();
    let names: Vec<_> = listed.iter().map(|model| &model["model"]).collect();
    assert_eq!(names, ["default", "junk", "short", "whole"]);
    assert!(listed[0]["path"].is_null() && listed[0]["error"].is_null());
    assert!(listed[1]["error"].as_str().unwrap().contains("RLPMODEL"));
    assert!(listed[2]["error"].as_str().unwrap().contains("cut short"));
    assert_eq!(listed[3]["fingerprint"], listed[0]["fingerprint"]);
    let table = dir.ok("model list");
    assert_eq!(table.stdout.matches("damaged").count(), 2);
    table.says("short.rlpm");
}

/// A model is mapped while it is in use: whoever replaces or removes it puts another file in its place.
#[test]
fn no_command_writes_into_a_bundle_that_is_in_use() {
    let dir = Directory::new();
    export(&dir, "clip", "hf-sdpa-ts17");
    dir.ok("model import clip --name shelf");
    let path = dir.home().join("models/shelf.rlpm");
    for command in [
        "model import clip --name shelf --precision f32 --force",
        "model import clip --name shelf --force",
        "model remove shelf --force",
    ] {
        let mut in_use = fs::File::open(&path).unwrap();
        let before = fs::read(&path).unwrap();
        dir.ok(command);
        let mut after = Vec::new();
        in_use.read_to_end(&mut after).unwrap();
        assert!(after == before, "{command} wrote into the file");
    }
    assert!(!path.exists());
}

#[test]
fn verifying_notices_a_single_flipped_bit_of_the_weights() {
    let mut bytes = default_bundle();
    let dir = with_model("whole", &bytes);
    let verified = dir.ok("model verify");
    assert_eq!(verified.stdout.matches("sound").count(), 2);
    bytes[2_000_000] ^= 4;
    add_model(&dir, "flipped", &bytes);
    dir.fails("model verify", 1, "1 of 3");
    let verify = dir.command("model verify flipped whole --json");
    let checked = verify.ends(1).lines();
    assert_eq!(
        (&checked[0]["sound"], &checked[1]["sound"]),
        (&false.into(), &true.into())
    );
    let error = checked[0]["error"].as_str().unwrap();
    assert!(error.contains("fingerprint"));
    dir.fails("model show flipped", 1, "flipped.rlpm ... fingerprint");
    dir.fails("embed --text mug --model flipped", 1, "flipped.rlpm");
}

#[test]
fn a_model_is_shown_by_name_and_by_file() {
    let dir = with_model("shelf", &default_bundle());
    fs::write(dir.path().join("copied.rlpm"), default_bundle()).unwrap();
    for name in ["shelf", "copied.rlpm", "default"] {
        let shown = shown(&dir, name);
        assert_eq!(shown["model"], name);
        assert_eq!(shown["text"]["activation"], "QuickGELU");
        assert_eq!(shown["preprocess"]["size"], 112);
        assert_eq!(shown["precision"], "int8");
        assert!(shown["parity"]["text"].as_f64().unwrap() > 0.99);
    }
    let page = dir.ok("model show shelf");
    for part in [
        "shelf.rlpm",
        "calls itself",
        "QuickGELU",
        "112 x 112",
        "cosine",
        "int8",
        "bicubic",
    ] {
        page.prints(part);
    }
    dir.fails("model show nowhere", 1, "nowhere ... model list");
    dir.fails("model show ./nowhere.rlpm", 1, "nowhere.rlpm");
    dir.command("model show").arg("a b").fails(2, "a b");
}

#[test]
fn a_model_that_prompts_were_made_with_is_removed_only_by_force() {
    let dir = with_model("shelf", &default_bundle());
    let adapt = "adapt --camera demo:infrared --model shelf --shots 4 --views 1 --steps 5 --force --prompt door -q";
    dir.ok(adapt);
    dir.fails("model remove shelf", 1, "shelf ... door ... --force");
    dir.fails("model remove default", 2, "inside the program");
    dir.fails("model remove nowhere", 1, "nowhere");
    let removed = dir.ok("model remove shelf --force --json");
    removed.says("door");
    assert_eq!(removed.json()["prompts"][0], "door");
    assert!(!dir.home().join("models/shelf.rlpm").exists());
}

#[test]
fn features_are_those_of_the_library_one_line_an_input() {
    let dir = Directory::with_pictures(2);
    let model = Model::embedded().unwrap();
    share_kernels(&dir);
    let embed = dir.command("embed --json --text");
    let lines = embed.args(["a mug", "two words"]).ok().lines();
    assert_eq!(lines.len(), 2);
    for (line, text) in lines.iter().zip(["a mug", "two words"]) {
        assert_eq!(line["source"], text);
        let ids = model.tokenizer.encode(text).unwrap();
        let sequence = model.tokenizer.sequence(ids);
        let expected = model.text.encode(&[sequence]).unwrap();
        assert_eq!(numbers(&line["features"]), expected.row(0).to_vec());
    }

    let table = dir.ok("embed --image pictures/mug/0000.png pictures/fish");
    let rows = table.stdout.lines().map(|line| line.split('\t').collect());
    let rows: Vec<Vec<&str>> = rows.collect();
    assert_eq!(rows.len(), 3);
    for row in &rows {
        let picture = image::open(dir.path().join(row[0])).unwrap().to_rgb8();
        let expected = model.encode_image(&picture).unwrap();
        let found = row[1..].iter().map(|number| number.parse().unwrap());
        let found: Vec<f32> = found.collect();
        assert_eq!(found, expected.to_vec());
        let length: f32 = found.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
}

/// Has the program in `dir` multiply as this process does: each measures its kernels, and on a busy machine two measurements
/// may differ, which is another rounding.
fn share_kernels(dir: &Directory) {
    let kernels = serde_json::to_vec(Kernels::chosen()).unwrap();
    let folder = dir.home().join("cache");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("kernels.json"), kernels).unwrap();
}

fn numbers(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn a_picture_that_cannot_be_read_is_skipped_and_told_by_the_exit_code() {
    let dir = Directory::with_pictures(1);
    dir.write("pictures/mug/broken.png", "this is no picture");
    let embedded = dir.command("embed --image pictures --json").ends(3);
    assert_eq!(embedded.stdout.lines().count(), 2);
    embedded.says("broken.png");
    dir.fails("embed --image nowhere.png", 1, "nowhere.png");
    dir.fails("embed --text x --image y", 2, "--image");
    let long = dir.command("embed --text").arg("mug ".repeat(100));
    long.ok().says("200 tokens");
}

#[test]
fn texts_are_read_from_standard_input_line_by_line() {
    let dir = Directory::new();
    let embed = dir.command("embed --text first - --json --home home");
    let lines = embed.input(b"second\nthird\n").ok().lines();
    let sources: Vec<_> = lines.iter().map(|line| &line["source"]).collect();
    assert_eq!(sources, ["first", "second", "third"]);
    assert!(!dir.home().exists(), "nothing was to be written");
}

#[test]
fn an_export_is_imported_told_of_and_used_by_name() {
    let dir = Directory::with_pictures(2);
    export(&dir, "exports/tiny-clip", "hf-sdpa-ts17");
    let report = dir.ok("model import exports/tiny-clip --json").json();
    assert_eq!(report["model"], "tiny-clip");
    assert_eq!(report["precision"], "int8");
    assert!(report["text"].as_str().unwrap().ends_with("textual.onnx"));
    assert!(report["parity"]["image"].as_f64().unwrap() > 0.99);
    assert_eq!(kept(&dir, "models"), ["tiny-clip.rlpm"]);
    let file = fs::metadata(dir.home().join("models/tiny-clip.rlpm")).unwrap();
    assert_eq!(report["bytes"], file.len());

    let first = shown(&dir, "tiny-clip");
    assert_eq!(first["fingerprint"], report["fingerprint"]);
    assert_eq!(first["parity"], report["parity"]);
    assert_eq!(first["logit_scale"], 20.0);

    let again = "model import exports/tiny-clip";
    dir.fails(again, 1, "tiny-clip ... --force");
    let page = dir.ok(&format!("{again} --precision f32 --force"));
    page.prints("cosine").prints("f32");
    let second = shown(&dir, "tiny-clip");
    assert_ne!(second["fingerprint"], report["fingerprint"]);
    let picture = dir.ok("embed --image pictures/mug --model tiny-clip");
    assert_eq!(picture.stdout.lines().count(), 2);
    dir.ok("embed --text mug --model tiny-clip");
}

#[test]
fn two_files_or_one_are_imported_with_what_lies_beside_them_or_is_given() {
    let dir = Directory::new();
    export(&dir, "pair", "openclip-quick-ts17");
    let pair = "model import --image pair/visual.onnx --text pair/textual.onnx --name";
    dir.ok(&format!("{pair} beside"));
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    for file in ["tokenizer.json", "preprocessor_config.json"] {
        let (from, to) = (dir.path().join("pair"), dir.path().join("elsewhere"));
        fs::rename(from.join(file), to.join(file)).unwrap();
    }
    let given = "given --tokenizer elsewhere/tokenizer.json --preprocess elsewhere/preprocessor_config.json --logit-scale 50";
    dir.ok(&format!("{pair} {given}"));
    let scale = |name| shown(&dir, name)["logit_scale"].clone();
    assert_eq!(
        (scale("beside"), scale("given")),
        (20.0.into(), 50.0.into())
    );

    export(&dir, "full", "hf-combined");
    dir.ok("model import --full full/model.onnx --name both");
    assert_eq!(
        kept(&dir, "models"),
        ["beside.rlpm", "both.rlpm", "given.rlpm"]
    );
}

#[test]
fn what_cannot_be_imported_is_refused_in_a_sentence_and_leaves_nothing() {
    let dir = Directory::new();
    export(&dir, "pair", "hf-dynamo18");
    for (flags, sentence) in [
        ("", "required ... DIR"),
        ("--image pair/visual.onnx", "--text"),
        ("pair --full pair/visual.onnx", "--full"),
        ("pair --precision int4", "int4"),
        ("pair --name ../up", "../up"),
        ("pair --name default", "default"),
        ("pair --logit-scale 0", "positive"),
    ] {
        dir.fails(&format!("model import {flags}"), 2, sentence);
    }
    dir.fails("model import nowhere", 1, "nowhere");
    dir.fails("model import .", 1, "visual.onnx");
    let swapped = "model import --image pair/textual.onnx --text pair/visual.onnx";
    dir.fails(swapped, 1, "swapped");
    let visual = dir.path().join("pair/visual.onnx");
    let whole = fs::read(&visual).unwrap();
    fs::write(&visual, &whole[..whole.len() / 2]).unwrap();
    dir.fails("model import pair", 1, "visual.onnx");
    assert!(kept(&dir, "models").is_empty());
    dir.write("occupied", "a file, not a folder");
    dir.fails("model import pair --home occupied", 1, "occupied");
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
    dir.fails("model import odd", 1, "cosine ... --force");
    assert!(kept(&dir, "models").is_empty());
    dir.ok("model import odd --force");
    assert_eq!(kept(&dir, "models"), ["odd.rlpm"]);
}

#[test]
fn a_prompt_finds_the_model_it_was_made_with_and_is_refused_with_any_other() {
    let dir = Directory::with_pictures(4);
    export(&dir, "tiny", "hf-sdpa-ts17");
    dir.ok("model import tiny");
    let adapt = "adapt --images pictures --views 1 --steps 3 --force -q --prompt door --model tiny --template";
    dir.command(adapt).arg("a {}.").ok();
    let classify = "classify pictures --prompt door";
    dir.ok(classify);
    let other = format!("{classify} --model default");
    dir.fails(&other, 1, "door ... tiny ... default");

    // Under another name it is still the same model, and as a file it is, too.
    let models = dir.home().join("models");
    fs::rename(models.join("tiny.rlpm"), models.join("renamed.rlpm")).unwrap();
    dir.ok(classify);
    fs::rename(models.join("renamed.rlpm"), dir.path().join("away.rlpm")).unwrap();
    dir.fails(classify, 1, "door ... tiny ... default ... model import");
    dir.ok(&format!("{classify} --model away.rlpm"));
}
