//! What a person names to be downloaded: a short name, a repository of the hub, or a URL. It must not download anything.

use crate::cli::usage;
use crate::download::Sha256;
use crate::masked::ShownUrl;
use serde::Deserialize;
use std::collections::BTreeSet;

/// The exports that go by a short name.
const PUBLIC: &str = include_str!("../../../../models/public_models.json");
/// Hugging Face's own.
pub const HUB: &str = "https://huggingface.co";
/// How the URL of a bundle ends.
pub const BUNDLE: &str = ".rlpm";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicModel {
    pub name: String,
    pub repository: String,
    /// The folder of the repository that the export is in, where it has several.
    #[serde(default)]
    pub folder: String,
    pub about: String,
    /// Millions, of both towers.
    pub parameters: u32,
    /// Of both towers in float32, as the repository lists them; nothing where that is not known here.
    pub download_mb: Option<u32>,
    pub licence: String,
    /// Nothing where the files, or only the graph, can say.
    logit_scale: Option<f32>,
    /// What is added to scaled cosines before the sigmoid, where a model was trained with one.
    #[serde(default)]
    logit_bias: Option<f32>,
}

impl PublicModel {
    /// Of the bundle in eight bits: a byte for a parameter.
    pub fn bundle_mb(&self) -> u32 {
        self.parameters
    }
}

/// The exports that go by a short name.
pub fn public_models() -> anyhow::Result<Vec<PublicModel>> {
    Ok(serde_json::from_str(PUBLIC)?)
}

/// What is to be downloaded.
#[derive(Debug, PartialEq)]
pub enum Source {
    /// A bundle, and what it must hash to.
    Bundle { url: String, sha256: Option<Sha256> },
    /// A folder of files.
    Folder(Export),
}

/// An export on a server.
#[derive(Debug, Default, PartialEq)]
pub struct Export {
    /// The URL of the folder.
    pub base: String,
    /// What the model is called unless a name is given.
    pub name: String,
    pub logit_scale: Option<f32>,
    pub logit_bias: Option<f32>,
    /// Where its files are listed; a plain folder is asked for one name after the other.
    pub listing: Option<Listing>,
}

/// Where a hub lists the files of a repository.
#[derive(Debug, PartialEq)]
pub struct Listing {
    pub url: String,
    /// The folder of the repository that counts, with its slash; empty for all of it.
    pub folder: String,
}

impl Listing {
    /// The names of the files in the folder, from what the hub answered; nothing where it is something else.
    pub fn names(&self, answer: &[u8]) -> Option<BTreeSet<String>> {
        #[derive(Deserialize)]
        struct Answer {
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let answer: Answer = serde_json::from_slice(answer).ok()?;
        let names = answer.siblings.into_iter();
        let names =
            names.filter_map(|file| Some(file.rfilename.strip_prefix(&self.folder)?.to_owned()));
        Some(names.collect())
    }
}

pub fn checksum(text: &str) -> Result<Sha256, String> {
    Sha256::from_hex(text).ok_or_else(|| "it must be 64 hexadecimal digits".into())
}

/// What `named` means: a URL, a short name, or a repository of the hub.
pub fn source(named: &str, sha256: Option<Sha256>, endpoint: &str) -> anyhow::Result<Source> {
    if named.contains("://") {
        return from_url(named, sha256);
    }
    if sha256.is_some() {
        return Err(usage(
            "--sha256 is for a single file: a bundle's URL; files of the hub are checked against what the hub says",
        ));
    }
    let (repository, revision) = named.split_once('@').unwrap_or((named, "main"));
    let known = public_models()?
        .into_iter()
        .find(|model| model.name == repository || model.repository == repository);
    let asked = repository;
    let repository = known.as_ref().map_or(asked, |model| &model.repository);
    let part = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !text.is_empty() && text.chars().all(plain) && !text.starts_with('.')
    };
    let fine = repository
        .split_once('/')
        .is_some_and(|(owner, name)| part(owner) && part(name));
    if !(fine && part(revision)) {
        return Err(usage(format!(
            "{:?} is neither a name that `edge-rlp model pull --list` has, nor OWNER/NAME on the hub, nor a URL",
            ShownUrl::from(named)
        )));
    }
    let endpoint = match endpoint.trim_end_matches('/') {
        "" => HUB,
        endpoint => endpoint,
    };
    let folder = match &known {
        Some(model) if !model.folder.is_empty() => format!("{}/", model.folder),
        _ => String::new(),
    };
    let base = format!("{endpoint}/{repository}/resolve/{revision}/{folder}");
    Ok(Source::Folder(Export {
        base: base.trim_end_matches('/').to_owned(),
        name: known.as_ref().map_or(asked, |model| &model.name).to_owned(),
        logit_scale: known.as_ref().and_then(|model| model.logit_scale),
        logit_bias: known.as_ref().and_then(|model| model.logit_bias),
        listing: Some(Listing {
            url: format!("{endpoint}/api/models/{repository}/revision/{revision}"),
            folder,
        }),
    }))
}

fn from_url(named: &str, sha256: Option<Sha256>) -> anyhow::Result<Source> {
    let (url, fragment) = named.split_once('#').unwrap_or((named, ""));
    let sha256 = match fragment.strip_prefix("sha256=") {
        Some(text) => {
            Some(checksum(text).map_err(|what| usage(format!("#sha256={text}: {what}")))?)
        }
        None => sha256,
    };
    let path = url.split('?').next().unwrap_or_default();
    if path.ends_with(BUNDLE) {
        return Ok(Source::Bundle {
            url: url.into(),
            sha256,
        });
    }
    if sha256.is_some() {
        return Err(usage(
            "a checksum is for a single file: the URL of a bundle (.rlpm)",
        ));
    }
    if url.contains('?') {
        let url = ShownUrl::from(url);
        return Err(usage(format!(
            "{url:?}: a folder's URL has no ?, because the names of its files come after it"
        )));
    }
    let base = url.trim_end_matches('/').to_owned();
    let name = base.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Source::Folder(Export {
        base,
        name,
        ..Export::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::super::Arguments;
    use super::*;
    use crate::cli::model::import;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn read(words: &[&str]) -> anyhow::Result<Source> {
        let endpoint = ["pull", "--endpoint", "https://hub.example/"];
        let Arguments {
            sha256, endpoint, ..
        } = Line::parse_from(endpoint.iter().chain(words)).arguments;
        source(words[0], sha256, &endpoint)
    }

    /// The export at `base`, which is `path` of the hub, listed there where it has a folder.
    fn folder(
        base: &str,
        listed: Option<[&str; 2]>,
        name: &str,
        logit_scale: Option<f32>,
    ) -> Source {
        Source::Folder(Export {
            base: base.into(),
            name: name.into(),
            logit_scale,
            logit_bias: None,
            listing: listed.map(|[path, folder]| Listing {
                url: format!("https://hub.example/api/models/{path}"),
                folder: folder.into(),
            }),
        })
    }

    #[test]
    fn names_repositories_and_urls_are_told_apart() {
        let hub = "https://hub.example/Xenova/clip-vit-base-patch32/resolve/main";
        for named in ["clip-vit-base-patch32", "Xenova/clip-vit-base-patch32"] {
            assert_eq!(
                read(&[named]).unwrap(),
                folder(
                    hub,
                    Some(["Xenova/clip-vit-base-patch32/revision/main", ""]),
                    "clip-vit-base-patch32",
                    Some(100.0)
                )
            );
        }
        assert_eq!(
            read(&["someone/their.clip@v1.0"]).unwrap(),
            folder(
                "https://hub.example/someone/their.clip/resolve/v1.0",
                Some(["someone/their.clip/revision/v1.0", ""]),
                "someone/their.clip",
                None
            )
        );
        assert_eq!(
            read(&["http://box.local/exports/tiny/"]).unwrap(),
            folder("http://box.local/exports/tiny", None, "tiny", None)
        );
        let digest = "0f".repeat(32);
        let bundle = |url: &str| Source::Bundle {
            url: url.into(),
            sha256: Sha256::from_hex(&digest),
        };
        let url = "https://h.example/b32.rlpm?token=x";
        assert_eq!(
            read(&[&format!("{url}#sha256={digest}")]).unwrap(),
            bundle(url)
        );
        assert_eq!(read(&[url, "--sha256", &digest]).unwrap(), bundle(url));
    }

    #[test]
    fn a_folder_of_a_repository_has_its_own_files() {
        let Source::Folder(export) = read(&["mobileclip2-s0"]).unwrap() else {
            panic!("it is a folder");
        };
        assert!(
            export
                .base
                .ends_with("mobileclip2-onnx/resolve/main/onnx/s0")
        );
        let listing = export.listing.unwrap();
        let answer = br#"{"id": "x", "siblings": [{"rfilename": "README.md"}, {"rfilename": "onnx/s0/text_model.onnx"}]}"#;
        let names = listing.names(answer).unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["text_model.onnx"]);
        assert_eq!(listing.names(b"<html>"), None);
    }

    #[test]
    fn what_is_none_of_them_is_wrong_usage() {
        for named in [
            "no-such-name",
            "a/b/c",
            "../up",
            "a/..",
            "owner/name@../x",
            "owner/na me",
            "https://h.example/b32.rlpm#sha256=12",
            "https://h.example/folder?x=1",
        ] {
            assert!(
                read(&[named])
                    .unwrap_err()
                    .is::<crate::cli::errors::UsageError>(),
                "{named}"
            );
        }
        let digest = "0f".repeat(32);
        assert!(read(&["Xenova/clip-vit-base-patch32", "--sha256", &digest]).is_err());
        assert!(read(&["https://h.example/folder", "--sha256", &digest]).is_err());
    }

    #[test]
    fn the_short_names_are_all_different_and_can_name_a_model() {
        let all = public_models().unwrap();
        for (index, model) in all.iter().enumerate() {
            assert_eq!(import::chosen_name(None, &model.name).unwrap(), model.name);
            assert!(model.repository.split_once('/').is_some() && model.parameters > 0);
            assert!(all[..index].iter().all(|other| other.name != model.name));
        }
    }
}
