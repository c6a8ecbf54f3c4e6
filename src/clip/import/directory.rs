//! Recognises the files of a CLIP by their names: which are the two towers, and which say the rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::outside::outside_weights;
use super::settings::{self, Report, SettingsError};
use super::{ImportOptions, Origin, layout, onnx};

/// Why a folder or its files cannot be imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No file is called as a tower is.
    #[error(
        "{path} has no towers that are known by their names: expected visual.onnx and textual.onnx, vision_model.onnx \
         and text_model.onnx, or model.onnx with both (also under onnx/){found}"
    )]
    NoTowers {
        /// The folder or file.
        path: PathBuf,
        /// The ONNX files that there are, as the end of a sentence.
        found: String,
    },
    /// It is something else than an export.
    #[error("{path} {what}")]
    NotAnExport {
        /// The folder or file.
        path: PathBuf,
        /// What it is instead, as the end of a sentence.
        what: String,
    },
    /// A file stands where a folder is expected.
    #[error("{path} is {what}")]
    NotAFolder {
        /// The file.
        path: PathBuf,
        /// What it is, as the end of a sentence.
        what: String,
    },
    /// A JSON file beside the towers cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// What goes before whatever the files say.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Overrides {
    /// What to call the model.
    pub name: Option<String>,
    /// s, already exponentiated.
    pub logit_scale: Option<f32>,
    /// A tokenizer.json, or a vocab.json with its merges.txt beside it.
    pub tokenizer: Option<PathBuf>,
    /// A preprocessor_config.json, or what open_clip writes.
    pub preprocess: Option<PathBuf>,
    /// What is added to scaled cosines, in a model that was trained with a sigmoid.
    pub logit_bias: Option<f32>,
    /// The token that fills texts up, in a model that sees it.
    pub padding: Option<u32>,
}

/// The two files of a model, which may be one.
struct Towers {
    image: PathBuf,
    text: PathBuf,
    precision: &'static str,
}

/// The options of an import of the folder `path`, recognised by its files: what transformers, transformers.js,
/// open_clip and plain exports write.
///
/// # Errors
/// A folder without towers, files that cannot be read, and settings that no file says and that cannot be guessed.
pub fn from_directory(path: &Path, given: &Overrides) -> Result<ImportOptions, DirectoryError> {
    if path.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(DirectoryError::NotAFolder {
            path: path.to_owned(),
            what: layout::lone_file(&name),
        });
    }
    std::fs::read_dir(path).map_err(|source| DirectoryError::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut all = towers(path);
    if all.is_empty() {
        let names = file_names(path);
        if let Some(what) = layout::instead(&names) {
            let path = path.to_owned();
            return Err(DirectoryError::NotAnExport { path, what });
        }
        let onnx = names.iter().filter(|name| name.ends_with(".onnx"));
        let files: Vec<&str> = onnx.take(12).map(String::as_str).collect();
        let found = if files.is_empty() {
            String::new()
        } else {
            format!("; it has {}", files.join(", "))
        };
        return Err(DirectoryError::NoTowers {
            path: path.to_owned(),
            found,
        });
    }
    let taken = all.remove(0);
    let mut report = Report::default();
    if !all.is_empty() || taken.precision != "float32" {
        let name = |file: &Path| {
            let inside = file.strip_prefix(path).unwrap_or(file);
            inside.display().to_string()
        };
        let files = if taken.image == taken.text {
            name(&taken.image)
        } else {
            format!("{} and {}", name(&taken.image), name(&taken.text))
        };
        let others: Vec<_> = all.iter().map(|towers| name(&towers.image)).collect();
        let others = if others.is_empty() {
            String::new()
        } else {
            format!("; passed over: {}", others.join(", "))
        };
        report
            .notes
            .push(format!("took {files} ({}){others}", taken.precision));
    }
    options(taken.image, taken.text, path, given, report)
}

/// The options of an import of two towers by their paths, or of one file with both (the same path twice). What the
/// options leave open is looked for beside the image tower, and a folder up from `onnx/`, `visual/` and `image/`.
///
/// # Errors
/// As [`from_directory`], except for the towers.
pub fn from_files(
    image: &Path,
    text: &Path,
    given: &Overrides,
) -> Result<ImportOptions, DirectoryError> {
    for path in [image, text] {
        std::fs::metadata(path).map_err(|source| DirectoryError::Io {
            path: path.to_owned(),
            source,
        })?;
    }
    let beside = onnx::folder_of(image);
    let nested = ["onnx", "visual", "image"]
        .iter()
        .any(|name| beside.file_name().is_some_and(|folder| folder == *name));
    let folder = if nested {
        onnx::folder_of(beside)
    } else {
        beside
    };
    options(
        image.to_owned(),
        text.to_owned(),
        folder,
        given,
        Report::default(),
    )
}

fn options(
    image: PathBuf,
    text: PathBuf,
    folder: &Path,
    given: &Overrides,
    mut report: Report,
) -> Result<ImportOptions, DirectoryError> {
    for (what, path) in [("image tower", &image), ("text tower", &text)] {
        report.origins.push(tower_origin(what, path));
    }
    let settings = settings::read(folder, &image, given, &mut report)?;
    Ok(ImportOptions {
        name: settings.name,
        logit_scale: settings.logit_scale,
        logit_bias: settings.logit_bias,
        padding: settings.padding,
        context_length: settings.context_length,
        notes: report.notes,
        origins: report.origins,
        ..ImportOptions::new(image, text, settings.tokenizer_json, settings.preprocess)
    })
}

/// Where a tower comes from, with the files that hold its weights.
fn tower_origin(what: &'static str, path: &Path) -> Origin {
    let outside = outside_weights(path).unwrap_or_default();
    let value = match &outside[..] {
        [] => "weights inside".to_owned(),
        [file] => format!("weights in {file}"),
        [first, .., last] => format!("weights in {} files, {first} to {last}", outside.len()),
    };
    Origin::read(what, value, path.to_owned())
}

/// All towers that are in a folder, best first.
fn towers(path: &Path) -> Vec<Towers> {
    let found = layout::towers().filter_map(|names| {
        let [image, text] = [names.image, names.text].map(|name| path.join(name));
        (image.is_file() && text.is_file()).then_some(Towers {
            image,
            text,
            precision: names.precision,
        })
    });
    found.collect()
}

/// The most files of a folder that are looked at to say what it is.
const MOST_FILES: usize = 2000;

/// The files of a folder and of the folders in it, as they are called from there.
fn file_names(path: &Path) -> BTreeSet<String> {
    let entries = |folder: &Path| {
        let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
        found.take(MOST_FILES).collect::<Vec<_>>()
    };
    let mut names = BTreeSet::new();
    for entry in entries(path) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.path().is_dir() {
            names.insert(name);
            continue;
        }
        for inner in entries(&entry.path()) {
            names.insert(format!("{name}/{}", inner.file_name().to_string_lossy()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::preprocess::{Filter, Preprocess, Resize};
    use crate::clip::tokenizer::{CLIP_MERGES, Tokenizer};

    const PREPROCESSOR: &str = r#"{"size": 64, "crop_size": 64, "resample": 3, "do_resize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    fn read(files: &[(&str, &str)], given: &Overrides) -> Result<ImportOptions, DirectoryError> {
        from_directory(folder(files).path(), given)
    }

    fn plain(config: &str) -> Vec<(&'static str, &str)> {
        vec![
            ("visual.onnx", ""),
            ("textual.onnx", ""),
            ("tokenizer.json", "{}"),
            ("config.json", config),
            ("preprocessor_config.json", PREPROCESSOR),
        ]
    }

    #[test]
    fn the_files_say_all_that_is_needed() {
        let files = plain(
            r#"{"name": "tiny", "logit_scale": 14.5, "text_config": {"max_position_embeddings": 32}}"#,
        );
        let options = read(&files, &Overrides::default()).unwrap();
        assert_eq!(
            (
                options.name.as_str(),
                options.logit_scale,
                options.context_length
            ),
            ("tiny", Some(14.5), 32)
        );
        assert_eq!(options.preprocess.size, 64);
        assert!(options.image.ends_with("visual.onnx") && options.text.ends_with("textual.onnx"));
        assert!(options.notes.is_empty(), "{:?}", options.notes);
        let given = Overrides {
            name: Some("mine".into()),
            logit_scale: Some(100.0),
            ..Overrides::default()
        };
        let options = read(&files, &given).unwrap();
        assert_eq!(
            (options.name.as_str(), options.logit_scale),
            ("mine", Some(100.0))
        );
    }

    #[test]
    fn of_several_precisions_the_most_exact_is_taken_and_that_is_said() {
        let mut files = vec![
            ("config.json", r#"{"model_type": "clip"}"#),
            ("tokenizer.json", "{}"),
            ("preprocessor_config.json", PREPROCESSOR),
            ("onnx/vision_model_quantized.onnx", ""),
            ("onnx/text_model_quantized.onnx", ""),
            ("onnx/model_fp16.onnx", ""),
            ("onnx/text_model.onnx", ""),
        ];
        let options = read(&files, &Overrides::default()).unwrap();
        assert!(options.image.ends_with("onnx/model_fp16.onnx"));
        assert_eq!(options.image, options.text);
        let said = options.notes.join("\n");
        assert!(
            said.contains("float16") && said.contains("vision_model_quantized"),
            "{said}"
        );
        files.push(("onnx/vision_model.onnx", ""));
        let options = read(&files, &Overrides::default()).unwrap();
        assert!(options.image.ends_with("onnx/vision_model.onnx"));
        assert!(options.text.ends_with("onnx/text_model.onnx"));
    }

    #[test]
    fn open_clip_says_preprocessing_and_context_in_one_file() {
        let config = r#"{"model_cfg": {"embed_dim": 512, "vision_cfg": {"image_size": 256},
            "text_cfg": {"context_length": 64}}, "preprocess_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1],
            "interpolation": "bilinear", "resize_mode": "squash"}}"#;
        let mut files = vec![
            ("visual.onnx", ""),
            ("textual.onnx", ""),
            ("open_clip_config.json", config),
        ];
        let options = read(&files, &Overrides::default()).unwrap();
        let expected = Preprocess {
            size: 256,
            resize: Resize::Squash,
            filter: Filter::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        assert_eq!((options.preprocess, options.context_length), (expected, 64));
        assert!(options.notes.iter().any(|note| note.contains("tokenizer")));
        // The tokeniser of another model is not CLIP's.
        let other = config.replace(r#""context_length": 64"#, r#""hf_tokenizer_name": "x/y""#);
        files[2].1 = &other;
        let error = read(&files, &Overrides::default()).unwrap_err().to_string();
        assert!(
            error.contains("x/y") && error.contains("open_clip_config.json"),
            "{error}"
        );
    }

    #[test]
    fn vocabulary_and_merges_make_the_tokenizer() {
        let clip = Tokenizer::clip(CLIP_MERGES, 600).unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&clip.to_json_bytes().unwrap()).unwrap();
        let vocabulary = json["model"]["vocab"].to_string();
        let merges: Vec<&str> = CLIP_MERGES.lines().take(600 - 514).collect();
        let merges = format!("#version: 0.2\n{}\n", merges.join("\n"));
        let mut files = plain("{}");
        files.retain(|file| file.0 != "tokenizer.json");
        files.extend([("vocab.json", &*vocabulary), ("merges.txt", &merges)]);
        let made = read(&files, &Overrides::default()).unwrap().tokenizer_json;
        assert_eq!(made, clip.to_json_bytes().unwrap());
        let files = folder(&files);
        let given = Overrides {
            tokenizer: Some(files.path().join("vocab.json")),
            ..Overrides::default()
        };
        let again = from_directory(files.path(), &given).unwrap();
        assert_eq!(again.tokenizer_json, made);
    }

    #[test]
    fn what_no_file_says_is_said_in_a_note() {
        let files = [("visual.onnx", ""), ("textual.onnx", "")];
        let said = read(&files, &Overrides::default())
            .unwrap()
            .notes
            .join("\n");
        for what in ["tokenizer", "preprocessing", "context length"] {
            assert!(said.contains(what), "{what}: {said}");
        }
    }

    #[test]
    fn folders_that_are_no_model_say_what_is_in_them() {
        let error = read(
            &[("a/b.onnx", ""), ("encoder.onnx", "")],
            &Overrides::default(),
        );
        let error = error.unwrap_err();
        assert!(matches!(error, DirectoryError::NoTowers { .. }));
        let found = "it has a/b.onnx, encoder.onnx";
        assert!(error.to_string().contains(found), "{error}");
        let error = from_directory(Path::new("no-such-folder"), &Overrides::default());
        assert!(error.unwrap_err().to_string().contains("no-such-folder"));
        for (file, content) in [
            ("config.json", "{"),
            ("preprocessor_config.json", "[]"),
            ("open_clip_config.json", "nonsense"),
        ] {
            let files = [("visual.onnx", ""), ("textual.onnx", ""), (file, content)];
            let error = read(&files, &Overrides::default()).unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        }
    }

    #[test]
    fn files_by_path_find_their_settings_beside_them_and_above() {
        let mut files = plain(r#"{"logit_scale": 14.5, "context_length": 32}"#);
        files.extend([("onnx/a.onnx", ""), ("onnx/b.onnx", "")]);
        let folder = folder(&files);
        for (image, text) in [
            ("visual.onnx", "textual.onnx"),
            ("onnx/a.onnx", "onnx/b.onnx"),
        ] {
            let (image, text) = (folder.path().join(image), folder.path().join(text));
            let options = from_files(&image, &text, &Overrides::default()).unwrap();
            assert_eq!(
                (options.logit_scale, options.context_length),
                (Some(14.5), 32)
            );
            assert_eq!((options.image, options.text), (image, text));
        }
        let missing = from_files(
            Path::new("none.onnx"),
            Path::new("x"),
            &Overrides::default(),
        );
        assert!(missing.unwrap_err().to_string().contains("none.onnx"));
    }
}
