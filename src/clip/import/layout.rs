//! Which files make an export, and what exporters call them: the one list of names that a folder and a repository are
//! searched by.

use std::collections::BTreeSet;

/// Names that exporters give the two towers, image first, before a suffix that tells the precision. A name alone holds
/// both towers.
const TOWERS: [&[&str]; 8] = [
    &["visual", "textual"],
    &["vision_model", "text_model"],
    &["image_encoder", "text_encoder"],
    &["vision_encoder", "text_encoder"],
    &["image_model", "text_model"],
    &["visual/model", "textual/model"],
    &["image/model", "text/model"],
    &["model"],
];
/// Where they lie, seen from the folder that is named.
const FOLDERS: [&str; 2] = ["", "onnx/"];
/// Suffixes of transformers.js and optimum, most exact first, and what they mean.
const SUFFIXES: [(&str, &str); 11] = [
    ("", "float32"),
    ("_fp32", "float32"),
    ("_fp16", "float16"),
    ("_quantized", "already quantised"),
    ("_int8", "already quantised, int8"),
    ("_uint8", "already quantised, uint8"),
    ("_static", "already quantised"),
    ("_q4", "already quantised, 4 bits"),
    ("_q4f16", "already quantised, 4 bits, float16"),
    ("_bnb4", "already quantised, 4 bits of bitsandbytes"),
    ("_optimized", "rearranged by onnxruntime"),
];

/// What a model is like beyond its weights.
pub const CONFIGS: [&str; 2] = ["config.json", "open_clip_config.json"];
/// The tokeniser, best first; a `vocab.json` needs [`MERGES`] beside it.
pub const TOKENIZERS: [&str; 5] = [
    "tokenizer.json",
    "textual/tokenizer.json",
    "text/tokenizer.json",
    "onnx/tokenizer.json",
    "vocab.json",
];
/// The merges of a `vocab.json`.
pub const MERGES: &str = "merges.txt";
/// What fills texts up, and whether they are lower-cased; beside the tokeniser.
pub const TOKENIZER_CONFIGS: [&str; 4] = [
    "tokenizer_config.json",
    "textual/tokenizer_config.json",
    "text/tokenizer_config.json",
    "onnx/tokenizer_config.json",
];
/// How pictures are prepared, best first.
pub const PREPROCESSING: [&str; 6] = [
    "preprocessor_config.json",
    "processor_config.json",
    "visual/preprocess_cfg.json",
    "image/preprocessor_config.json",
    "onnx/preprocessor_config.json",
    "preprocess_cfg.json",
];

/// The small files that an import reads where they are there.
pub fn settings() -> impl Iterator<Item = &'static str> {
    let all = [
        &CONFIGS[..],
        &TOKENIZERS,
        &[MERGES],
        &TOKENIZER_CONFIGS,
        &PREPROCESSING,
    ];
    all.into_iter().flatten().copied()
}

/// The names of the two towers, which may be one file, seen from the folder that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerNames {
    /// The image tower.
    pub image: String,
    /// The text tower.
    pub text: String,
    /// What their name says of how exact they are.
    pub precision: &'static str,
}

/// Every pair of names that is looked for, best first: float32 before float16 before quantised, and towers of their own
/// before both in one file.
pub fn towers() -> impl Iterator<Item = TowerNames> {
    SUFFIXES.into_iter().flat_map(|(suffix, precision)| {
        TOWERS.into_iter().flat_map(move |names| {
            FOLDERS.into_iter().map(move |folder| {
                let name = |name: &str| format!("{folder}{name}{suffix}.onnx");
                TowerNames {
                    image: name(names[0]),
                    text: name(names[names.len() - 1]),
                    precision,
                }
            })
        })
    })
}

/// How files of other formats end, and what they are.
const OTHER_FORMATS: [(&str, &str); 15] = [
    (".safetensors", "weights in safetensors"),
    (".gguf", "weights in GGUF"),
    (".tflite", "a TensorFlow Lite model"),
    (".mlmodel", "a Core ML model"),
    (".mlpackage", "a Core ML model"),
    (".xml", "an OpenVINO model"),
    (".pt", "a PyTorch file"),
    (".pth", "a PyTorch file"),
    (".ckpt", "a PyTorch file"),
    (".bin", "a PyTorch file"),
    (".h5", "TensorFlow's weights"),
    (".msgpack", "Flax's weights"),
    (".engine", "a TensorRT engine"),
    (".plan", "a TensorRT engine"),
    (".ort", "onnxruntime's own format"),
];
const ARCHIVES: [&str; 7] = [".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".7z", ".rar"];
/// What a pipeline of diffusers says of itself.
const DIFFUSERS: &str = "model_index.json";

const EXPORT: &str = "export the model to ONNX, or look for an export of it";

/// What a file is that was named in place of a folder, as the end of a sentence: "is ...".
pub fn lone_file(name: &str) -> String {
    let name = name.to_lowercase();
    if name.ends_with(".rlpm") {
        return "a bundle, which is imported already: use it as it is".into();
    }
    if ARCHIVES.iter().any(|end| name.ends_with(end)) {
        return "an archive: unpack it, and import the folder that comes out".into();
    }
    let mut known = OTHER_FORMATS.iter();
    match known.find(|(end, _)| name.ends_with(end)) {
        Some((_, what)) => format!("{what}, which cannot be read: {EXPORT}"),
        None => "a file, not the folder of an export".into(),
    }
}

/// What files without two towers are, as the end of a sentence that begins with where they lie. Nothing where they are ONNX
/// files that nobody knows by their names.
pub fn instead(names: &BTreeSet<String>) -> Option<String> {
    let ends = |end: &str| {
        let is = |name: &&String| name.to_lowercase().ends_with(end);
        let inside = format!("{end}/");
        let mut all = names.iter();
        all.find(|name| is(name) || name.contains(&inside)).cloned()
    };
    if names.contains(DIFFUSERS) {
        let what = "is a pipeline of diffusers: it makes pictures, and has no image tower to name them with; take a CLIP";
        return Some(what.into());
    }
    let mut halves = towers().filter(|towers| towers.image != towers.text);
    let half = halves.find_map(|TowerNames { image, text, .. }| {
        match [names.contains(&image), names.contains(&text)] {
            [true, false] => Some((image, text)),
            [false, true] => Some((text, image)),
            _ => None,
        }
    });
    if let Some((there, missing)) = half {
        return Some(format!(
            "has {there} but no {missing}, so it is half an export; bring the other tower, too"
        ));
    }
    if ends(".onnx").is_some() {
        return None;
    }
    if let Some(name) = ends(".rlpm") {
        return Some(format!(
            "has a bundle, {name}, which is imported already: use it as it is"
        ));
    }
    if let Some(name) = ARCHIVES.iter().find_map(|end| ends(end)) {
        return Some(format!(
            "has an archive, {name}: unpack it, and import the folder that comes out"
        ));
    }
    let mut known = OTHER_FORMATS.iter();
    let known = known.find_map(|(end, what)| Some((ends(end)?, what)));
    if let Some((name, what)) = known {
        return Some(format!(
            "has no ONNX file at all, but {what} ({name}), which cannot be read: {EXPORT}"
        ));
    }
    let some: Vec<&str> = names.iter().take(6).map(String::as_str).collect();
    let only = match some[..] {
        [] => "it is empty".to_owned(),
        _ => format!("only {}", some.join(", ")),
    };
    Some(format!("has no ONNX file at all, {only}: {EXPORT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_all_different_and_the_most_exact_come_first() {
        let all: Vec<_> = towers().collect();
        for (index, names) in all.iter().enumerate() {
            assert!(!all[..index].contains(names), "{names:?}");
        }
        let place = |image: &str| all.iter().position(|names| names.image == image).unwrap();
        assert!(place("onnx/vision_model.onnx") < place("onnx/model.onnx"));
        assert!(place("model.onnx") < place("onnx/vision_model_fp16.onnx"));
        assert!(place("onnx/model_fp16.onnx") < place("vision_model_quantized.onnx"));
        assert!(place("model_uint8.onnx") < place("model_q4.onnx"));
        assert!(settings().any(|name| name == "processor_config.json"));
    }

    #[test]
    fn what_is_no_export_is_told_by_its_names() {
        let said = |names: &[&str]| instead(&names.iter().map(|&name| name.into()).collect());
        for (names, part) in [
            (&["onnx/text_model.onnx"][..], "no onnx/vision_model.onnx"),
            (&["config.json", "model.safetensors"], "safetensors"),
            (&["model.xml", "model.bin"], "OpenVINO"),
            (&["pytorch_model.bin"], "PyTorch"),
            (&["clip.mlpackage/Manifest.json"], "Core ML"),
            (&["Clip.ZIP"], "unpack"),
            (
                &["model_index.json", "text_encoder/model.onnx"],
                "diffusers",
            ),
            (&["README.md"], "only README.md"),
            (&["home.rlpm"], "imported already"),
            (&[], "it is empty"),
        ] {
            let sentence = said(names).unwrap();
            assert!(sentence.contains(part), "{names:?}: {sentence}");
        }
        assert_eq!(said(&["encoder.onnx", "model.safetensors"]), None);
    }
}
