//! `edge-rlp model pull`: an export from Hugging Face's hub or any other server, downloaded and imported, or a bundle
//! as it is.

mod source;

use super::import::{self, Choices};
use crate::cli::output::{aligned, print_error};
use crate::cli::{Context, interruptible, usage};
use crate::clip::Model;
use crate::clip::import::{Overrides, from_directory, layout, outside_weights};
use crate::download::{Client, ClientOptions, DownloadError, Proxies, Request, Sha256, Step};
use crate::masked::ShownUrl;
use crate::store::{DiskError, StoreError};
use anyhow::Context as _;
use indicatif::HumanBytes;
use serde_json::json;
use source::{BUNDLE, Export, HUB, Listing, Source, checksum, public_models, source};
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
    #[arg(long, hide = true, value_parser = crate::cli::duration, default_value = "15s")]
    connect_timeout: Duration,
    #[arg(long, hide = true, value_parser = crate::cli::duration, default_value = "60s")]
    stall_timeout: Duration,
    #[arg(long, hide = true, value_parser = crate::cli::duration, default_value = "1s")]
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
        Source::Folder(export) => downloads.export(&export, arguments.choices),
    }
}

fn list(context: &Context) -> anyhow::Result<()> {
    let mut rows =
        vec![["name", "on the hub", "download", "kept as", "licence", ""].map(str::to_owned)];
    for model in public_models()? {
        context.output.object(&json!({
            "name": model.name,
            "repository": model.repository,
            "folder": model.folder,
            "about": model.about,
            "parameters": model.parameters,
            "download_mb": model.download_mb,
            "bundle_mb": model.bundle_mb(),
            "licence": model.licence,
        }))?;
        let download = match model.download_mb {
            Some(mb) => megabytes(mb),
            // In float32, a parameter has four bytes.
            None => format!("~{}", megabytes(4 * model.parameters)),
        };
        rows.push([
            model.name.clone(),
            model.repository.clone(),
            download,
            megabytes(model.bundle_mb()),
            model.licence.clone(),
            model.about.clone(),
        ]);
    }
    for line in aligned(&rows) {
        context.output.line(line);
    }
    context.output.line("");
    context.output.line(LEGEND);
    Ok(())
}

/// What the columns of the list mean.
const LEGEND: &str = "download: both towers in float32 (~: reckoned from the parameters); kept as: the bundle in eight bits, which is \
    also about what it takes of memory. Any other export of the hub is pulled by OWNER/NAME.";

fn megabytes(mb: u32) -> String {
    match mb {
        1000.. => format!("{:.1} GB", f64::from(mb) / 1000.0),
        _ => format!("{mb} MB"),
    }
}

/// The proxies that the environment names, as curl reads it.
pub(in crate::cli) fn proxies() -> Proxies {
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
        let numbers = choices.logit_scale.or(choices.logit_bias);
        if choices.precision.is_some() || numbers.is_some() || choices.padding.is_some() {
            return Err(usage(
                "a bundle comes as it is: --precision, --logit-scale, --logit-bias and --padding are for exports",
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
    fn export(&self, export: &Export, mut choices: Choices) -> anyhow::Result<()> {
        let name = import::chosen_name(choices.name.as_deref(), &export.name)?;
        self.context.home.check_model(&name, choices.force)?;
        let folder = waiting(&export.base, self.context)?;
        self.folder(&export.base, export.listing.as_ref(), &folder)?;
        let given = Overrides {
            name: Some(name.clone()),
            logit_scale: choices.logit_scale.or(export.logit_scale),
            logit_bias: choices.logit_bias.or(export.logit_bias),
            padding: choices.padding,
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

    /// All files of the export at `base` that an import would read.
    fn folder(&self, base: &str, listing: Option<&Listing>, folder: &Path) -> anyhow::Result<()> {
        let names = match listing {
            Some(listing) => self.names(listing, folder)?,
            None => None,
        };
        let may_be = |name: &str| names.as_ref().is_none_or(|names| names.contains(name));
        for name in layout::settings().filter(|name| may_be(name)) {
            self.file_of(base, name, folder, MOST_SETTINGS)?;
        }
        let mut half = None;
        for towers in layout::towers() {
            if !(may_be(&towers.image) && may_be(&towers.text)) {
                continue;
            }
            if !self.tower(base, &towers.image, folder)? {
                continue;
            }
            if towers.text == towers.image || self.tower(base, &towers.text, folder)? {
                return Ok(());
            }
            half.get_or_insert(towers);
        }
        let shown = ShownUrl::from(base);
        if let Some(towers) = half {
            let (image, text) = (towers.image, towers.text);
            anyhow::bail!("{shown} has {image} but no {text}, so it is half an export");
        }
        let Some(names) = names else {
            anyhow::bail!(
                "{shown} has no ONNX files that are known by their names: none of onnx/vision_model.onnx with \
                 onnx/text_model.onnx, visual.onnx with textual.onnx, onnx/model.onnx and their like"
            );
        };
        if let Some(what) = layout::instead(&names) {
            anyhow::bail!("{shown} {what}");
        }
        let onnx = names.iter().filter(|name| name.ends_with(".onnx"));
        let onnx: Vec<_> = onnx.take(12).map(String::as_str).collect();
        anyhow::bail!(
            "{shown} has no two towers that are known by their names, only {}: download them, and name them with \
             `edge-rlp model import --image FILE --text FILE`",
            onnx.join(", ")
        )
    }

    /// The names of the files of a repository; nothing where the hub, or what stands for it, does not say.
    fn names(&self, listing: &Listing, folder: &Path) -> anyhow::Result<Option<BTreeSet<String>>> {
        let file = folder.join(".listing");
        let asked = self.file(&listing.url, &file, None, MOST_SETTINGS);
        let text = match asked {
            Ok(()) => fs::read(&file).unwrap_or_default(),
            Err(error) => match error.downcast_ref() {
                Some(DownloadError::NotFound { .. }) => return Ok(None),
                _ => return Err(error),
            },
        };
        // It is of this moment: the next run asks again.
        let _ = fs::remove_file(&file);
        Ok(listing.names(&text))
    }

    /// A tower with whatever files it keeps its weights in; false where there is none.
    fn tower(&self, base: &str, name: &str, folder: &Path) -> anyhow::Result<bool> {
        if !self.file_of(base, name, folder, self.most)? {
            return Ok(false);
        }
        let beside = match name.rsplit_once('/') {
            Some((inside, _)) => format!("{inside}/"),
            None => String::new(),
        };
        for weights in outside_weights(&folder.join(name))? {
            let weights = format!("{beside}{weights}");
            anyhow::ensure!(
                self.file_of(base, &weights, folder, self.most)?,
                "{}/{name} keeps weights in {weights}, which is not there: it is half an export",
                ShownUrl::from(base)
            );
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
            let (url, target, quiet) = (url.to_owned(), target.to_owned(), output.is_quiet());
            move || {
                let request = Request {
                    url: &url,
                    target: &target,
                    sha256,
                    most,
                };
                client.fetch(request, &mut |step| {
                    match step {
                        Step::Bytes { there, total } => {
                            bar.set_position(there);
                            if let Some(total) = total {
                                bar.set_length(total);
                            }
                        }
                        Step::Again { reason, pause } => {
                            let seconds = pause.as_secs().max(1);
                            let url = ShownUrl::from(url.as_str());
                            let message = format!("{url}: {reason}, trying again in {seconds} s");
                            if !quiet {
                                bar.suspend(|| print_error(&message));
                            }
                        }
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
