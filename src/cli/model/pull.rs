//! `edge-rlp model pull`: an export from Hugging Face's hub or any other server, downloaded and imported, or a bundle
//! as it is.

mod source;

use super::import::{self, Choices};
use crate::cli::output::aligned;
use crate::cli::{Context, interruptible, usage};
use crate::clip::Model;
use crate::clip::import::{Overrides, from_directory};
use crate::download::{Client, ClientOptions, DownloadError, Proxies, Request, Sha256};
use crate::masked::ShownUrl;
use crate::store::{DiskError, StoreError};
use anyhow::Context as _;
use indicatif::HumanBytes;
use serde_json::json;
use source::{BUNDLE, HUB, Source, checksum, public_models, source};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The two towers as exporters call them, best first, and what is looked for where they are not there.
const TOWERS: [&[&str]; 6] = [
    &["onnx/vision_model.onnx", "onnx/text_model.onnx"],
    &["visual/model.onnx", "textual/model.onnx"],
    &["visual.onnx", "textual.onnx"],
    &["vision_model.onnx", "text_model.onnx"],
    &["onnx/model.onnx"],
    &["model.onnx"],
];
/// What the weights of a tower are called where they are outside its file.
const OUTSIDE: [&str; 2] = ["_data", ".data"];
/// Small files that say the rest; whichever are there are taken.
const SETTINGS: [&str; 9] = [
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "visual/preprocess_cfg.json",
    "tokenizer.json",
    "textual/tokenizer.json",
    "vocab.json",
    "merges.txt",
    "preprocess_cfg.json",
];
/// The most that a file of settings may have.
const MOST_SETTINGS: u64 = 64 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// One of --list, OWNER/NAME on Hugging Face's hub (@REVISION for another than main), the URL of a folder with an
    /// export, or that of a bundle (.rlpm); #sha256=... after a URL is checked
    #[arg(value_name = "NAME|URL", required_unless_present = "list")]
    source: Option<String>,
    /// Name the exports that have a short name
    #[arg(long, conflicts_with = "source")]
    list: bool,
    /// The SHA-256 that a bundle must have
    #[arg(long, value_name = "HEX", value_parser = checksum)]
    sha256: Option<Sha256>,
    #[command(flatten)]
    choices: Choices,
    /// The hub to ask, a mirror for instance
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", default_value = HUB, hide_env_values = true)]
    endpoint: String,
    /// The most bytes that one file may have, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1024))]
    max_size: u64,
    #[arg(long, hide = true, value_parser = humantime::parse_duration, default_value = "15s")]
    connect_timeout: Duration,
    #[arg(long, hide = true, value_parser = humantime::parse_duration, default_value = "60s")]
    stall_timeout: Duration,
    #[arg(long, hide = true, value_parser = humantime::parse_duration, default_value = "1s")]
    retry_pause: Duration,
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let Some(named) = &arguments.source else {
        return list(context);
    };
    let source = source(named, arguments.sha256, &arguments.endpoint)?;
    let client = Client::new(ClientOptions {
        connect: arguments.connect_timeout,
        stall: arguments.stall_timeout,
        pause: arguments.retry_pause,
        proxies: proxies(),
        ..ClientOptions::default()
    })?;
    let downloads = Downloads {
        client: Arc::new(client),
        most: arguments.max_size << 30,
        context,
    };
    match source {
        Source::Bundle { url, sha256 } => downloads.bundle(&url, sha256, &arguments.choices),
        Source::Folder {
            base,
            name,
            logit_scale,
        } => downloads.export(&base, &name, logit_scale, arguments.choices),
    }
}

fn list(context: &Context) -> anyhow::Result<()> {
    let mut rows = vec![["name", "on the hub", ""].map(str::to_owned)];
    for model in public_models()? {
        context.output.object(&json!({
            "name": model.name, "repository": model.repository, "about": model.about,
        }))?;
        rows.push([model.name, model.repository, model.about]);
    }
    for line in aligned(&rows) {
        context.output.line(line);
    }
    Ok(())
}

/// The proxies that the environment names, as curl reads it.
fn proxies() -> Proxies {
    let read = |name: &str| {
        let small = std::env::var(name.to_ascii_lowercase());
        small
            .or_else(|_| std::env::var(name))
            .ok()
            .filter(|text| !text.is_empty())
    };
    let all = read("ALL_PROXY");
    Proxies {
        http: read("HTTP_PROXY").or(all.clone()),
        https: read("HTTPS_PROXY").or(all),
        direct: read("NO_PROXY").map_or(Vec::new(), |hosts| {
            hosts.split(',').map(str::to_owned).collect()
        }),
    }
}

/// Where what comes from `url` waits until it is whole: the same folder for the same source.
fn waiting(url: &str, context: &Context) -> anyhow::Result<PathBuf> {
    let key = blake3::hash(url.as_bytes()).to_hex();
    let folder = context.home.root().join("downloads").join(&key[..16]);
    make(&folder)?;
    Ok(folder)
}

fn make(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).map_err(|source| {
        let path = folder.to_owned();
        StoreError::from(DiskError::WriteHome { path, source }).into()
    })
}

/// Removes what is not needed any more; what cannot be removed does no harm.
fn discard(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    if let Some(all) = folder.parent() {
        // Only where nothing else waits there.
        let _ = fs::remove_dir(all);
    }
}

/// Downloads with everything that they need.
struct Downloads<'a> {
    client: Arc<Client>,
    most: u64,
    context: &'a Context,
}

impl Downloads<'_> {
    /// Brings a bundle home as it is.
    fn bundle(&self, url: &str, sha256: Option<Sha256>, choices: &Choices) -> anyhow::Result<()> {
        if choices.precision.is_some() || choices.logit_scale.is_some() {
            return Err(usage(
                "a bundle comes as it is: --precision and --logit-scale are for exports",
            ));
        }
        let Context { home, output, .. } = self.context;
        let path = url.split('?').next().unwrap_or_default();
        let name = import::chosen_name(choices.name.as_deref(), path.trim_end_matches(BUNDLE))?;
        home.check_model(&name, choices.force)?;
        let folder = waiting(url, self.context)?;
        let target = folder.join("bundle");
        self.file(url, &target, sha256, self.most)?;
        let model = Model::open(&target).inspect_err(|_| discard(&folder));
        let model = model.with_context(|| {
            format!(
                "{} is not a sound bundle, and is thrown away",
                ShownUrl::from(url)
            )
        })?;
        let bytes = fs::read(&target).with_context(|| target.display().to_string())?;
        let path = home.save_model(&name, &bytes, choices.force)?;
        discard(&folder);
        let summary = model.summary();
        output.object(&json!({
            "model": name,
            "path": path.display().to_string(),
            "fingerprint": summary.fingerprint,
            "bytes": summary.bytes,
            "precision": summary.precision.name(),
            "parity": summary.parity,
        }))?;
        output.line(format!(
            "kept as model {name}: {}, {} bytes, {}",
            summary.precision.name(),
            summary.bytes,
            path.display()
        ));
        Ok(())
    }

    /// Downloads an export and imports it.
    fn export(
        &self,
        base: &str,
        name: &str,
        logit_scale: Option<f32>,
        mut choices: Choices,
    ) -> anyhow::Result<()> {
        let name = import::chosen_name(choices.name.as_deref(), name)?;
        self.context.home.check_model(&name, choices.force)?;
        let folder = waiting(base, self.context)?;
        self.folder(base, &folder)?;
        let given = Overrides {
            name: Some(name.clone()),
            logit_scale: choices.logit_scale.or(logit_scale),
            ..Overrides::default()
        };
        choices.name = Some(name);
        let imported = from_directory(&folder, &given)
            .map_err(anyhow::Error::from)
            .and_then(|options| import::keep(options, &choices, self.context));
        match imported {
            Ok(()) => discard(&folder),
            Err(_) => self.context.output.note(format!(
                "the files are kept in {}: the same command with other flags goes on from there",
                folder.display()
            )),
        }
        imported
    }

    /// All files of the export at `base`.
    fn folder(&self, base: &str, folder: &Path) -> anyhow::Result<()> {
        for name in SETTINGS {
            self.file_of(base, name, folder, MOST_SETTINGS)?;
        }
        for towers in TOWERS {
            if !self.tower(base, towers[0], folder)? {
                continue;
            }
            for name in &towers[1..] {
                anyhow::ensure!(
                    self.tower(base, name, folder)?,
                    "{} has {} but no {name}, so it is half an export",
                    ShownUrl::from(base),
                    towers[0]
                );
            }
            return Ok(());
        }
        let known: Vec<_> = TOWERS.iter().map(|towers| towers.join(" with ")).collect();
        anyhow::bail!(
            "{} has no ONNX files that are known by their names: none of {}",
            ShownUrl::from(base),
            known.join(", ")
        )
    }

    /// A tower, with its weights where they are in another file; false where there is none.
    fn tower(&self, base: &str, name: &str, folder: &Path) -> anyhow::Result<bool> {
        if !self.file_of(base, name, folder, self.most)? {
            return Ok(false);
        }
        for end in OUTSIDE {
            self.file_of(base, &format!("{name}{end}"), folder, self.most)?;
        }
        Ok(true)
    }

    /// A file of an export; false where there is none.
    fn file_of(&self, base: &str, name: &str, folder: &Path, most: u64) -> anyhow::Result<bool> {
        let target = folder.join(name);
        if let Some(folder) = target.parent() {
            make(folder)?;
        }
        match self.file(&format!("{base}/{name}"), &target, None, most) {
            Ok(()) => Ok(true),
            Err(error) => match error.downcast_ref() {
                Some(DownloadError::NotFound { .. }) => {
                    // An earlier run may have found one.
                    let _ = fs::remove_file(&target);
                    Ok(false)
                }
                _ => Err(error),
            },
        }
    }

    fn file(
        &self,
        url: &str,
        target: &Path,
        sha256: Option<Sha256>,
        most: u64,
    ) -> anyhow::Result<()> {
        let Context { output, stop, .. } = self.context;
        let file = url.rsplit('/').next().unwrap_or_default();
        let bar = output.transfer(file.split('?').next().unwrap_or_default().to_owned());
        let fetched = interruptible(self.context, "the download", {
            let (client, stop, bar) = (Arc::clone(&self.client), Arc::clone(stop), bar.clone());
            let (url, target) = (url.to_owned(), target.to_owned());
            move || {
                let request = Request {
                    url: &url,
                    target: &target,
                    sha256,
                    most,
                };
                client.fetch(request, &mut |there, total| {
                    bar.set_position(there);
                    if let Some(total) = total {
                        bar.set_length(total);
                    }
                    if stop.load(Ordering::Relaxed) {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })
            }
        });
        bar.finish_and_clear();
        let fetched = fetched?.map_err(|error| match error {
            DownloadError::Url { .. } => usage(error),
            error => error.into(),
        })?;
        let mut message = format!("{}  {}", ShownUrl::from(url), HumanBytes(fetched.bytes));
        match fetched.kept {
            0 => {}
            kept if kept == fetched.bytes => message += ", was there",
            kept => message += &format!(", {} of them from before", HumanBytes(kept)),
        }
        if fetched.sha256.is_some() {
            message += ", checksum right";
        }
        output.note(message);
        Ok(())
    }
}
