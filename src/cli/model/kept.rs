//! `edge-rlp model list|show|verify|remove`: the models that are there.

use super::{DEFAULT, Place, all, hints};
use crate::cli::output::aligned;
use crate::cli::{Context, usage};
use crate::clip::preprocess::{Filter, Resize};
use crate::clip::text_tower::{Padding, Pooling, Reading};
use crate::clip::{BundleHeader, Model, ModelError};
use crate::ops::Activation;
use serde_json::{Value, json};

pub fn list(context: &Context) -> anyhow::Result<()> {
    context.home.check_folder()?;
    let mut rows =
        vec![["model", "bytes", "precision", "parity", "fingerprint"].map(str::to_owned)];
    for (name, place) in all(context)? {
        match place.header() {
            Ok(header) => {
                context.output.object(&json!({
                    "model": name,
                    "path": path(&place),
                    "name": header.name,
                    "bytes": header.bytes,
                    "precision": header.precision.name(),
                    "parity": header.parity,
                    "fingerprint": header.fingerprint.to_string(),
                }))?;
                rows.push(row(name, &header));
            }
            Err(error) => {
                context.output.object(
                    &json!({ "model": name, "path": path(&place), "error": error.to_string() }),
                )?;
                context.output.warn(damage(&place, &error));
                let size = place.path().and_then(|path| path.metadata().ok());
                let size = size.map_or(String::new(), |size| size.len().to_string());
                rows.push([name, size, "damaged".into(), "-".into(), "-".into()]);
            }
        }
    }
    for line in aligned(&rows) {
        context.output.line(line);
    }
    Ok(())
}

fn row(name: String, header: &BundleHeader) -> [String; 5] {
    let fingerprint: String = header.fingerprint.to_string().chars().take(16).collect();
    [
        name,
        header.bytes.to_string(),
        header.precision.name().into(),
        format!("{:.5}", header.parity.image.min(header.parity.text)),
        fingerprint,
    ]
}

pub fn show(name: &str, context: &Context) -> anyhow::Result<()> {
    let place = Place::of(name, context)?;
    let model = place.open()?;
    context.output.object(&description(name, &place, &model))?;
    for (key, value) in page(name, &place, &model) {
        context.output.line(format!("{key:<15}{value}"));
    }
    Ok(())
}

/// Everything about a model, for machines.
fn description(name: &str, place: &Place, model: &Model) -> Value {
    let summary = model.summary();
    let preprocess = &model.preprocess;
    json!({
        "model": name,
        "path": path(place),
        "name": summary.name,
        "fingerprint": summary.fingerprint,
        "bytes": summary.bytes,
        "parameters": summary.parameters,
        "precision": summary.precision.name(),
        "parity": summary.parity,
        "image_size": summary.image_size,
        "preprocess": {
            "size": preprocess.size,
            "resize": resize(preprocess.resize),
            "filter": filter(preprocess.filter),
            "mean": preprocess.mean,
            "std": preprocess.std,
        },
        "text": {
            "blocks": summary.text_blocks,
            "width": summary.text_width,
            "heads": summary.text_heads,
            "activation": activation(summary.activation),
            "context_length": summary.context_length,
            "vocabulary": summary.vocabulary,
        },
        "joint_width": summary.joint_width,
        "logit_scale": summary.logit_scale,
        "logit_bias": summary.logit_bias,
    })
}

/// How a text tower reads texts, where it is not CLIP's way.
fn reading(reading: Reading) -> String {
    let Reading::Whole { padding, pooling } = reading else {
        return String::new();
    };
    let padding = match padding {
        Padding::Hidden => "no padding".to_owned(),
        Padding::Token(token) => format!("padding with token {token}"),
    };
    let pooling = match pooling {
        Pooling::End => "at the end token",
        Pooling::Last => "at the last token",
        Pooling::Mean => "as the mean of all",
        Pooling::Attention => "by a head of attention over all",
    };
    format!("every token sees every other and {padding}; the feature is read {pooling}")
}

/// The same for people.
fn page(name: &str, place: &Place, model: &Model) -> Vec<(&'static str, String)> {
    let summary = model.summary();
    let preprocess = &model.preprocess;
    let numbers = |numbers: [f32; 3]| numbers.map(|n| format!("{n:.4}")).join(" ");
    let [height, width] = summary.image_size;
    let own_name = if summary.name == name {
        String::new()
    } else {
        summary.name.clone()
    };
    let file = place.path().map_or("inside the program".into(), |path| {
        path.display().to_string()
    });
    let rows = vec![
        ("model", name.to_owned()),
        ("calls itself", own_name),
        ("file", file),
        ("bytes", summary.bytes.to_string()),
        ("fingerprint", summary.fingerprint.clone()),
        ("parameters", summary.parameters.to_string()),
        ("precision", summary.precision.name().to_owned()),
        (
            "parity",
            format!(
                "lowest cosine with the original at import: image {:.5}, text {:.5}",
                summary.parity.image, summary.parity.text
            ),
        ),
        ("pictures", format!("{width} x {height} pixels")),
        (
            "preprocessing",
            format!(
                "{}, {}",
                resize(preprocess.resize),
                filter(preprocess.filter)
            ),
        ),
        (
            "",
            format!(
                "mean {}, deviation {}",
                numbers(preprocess.mean),
                numbers(preprocess.std)
            ),
        ),
        (
            "text tower",
            format!(
                "{} blocks of width {}, {} heads, {}",
                summary.text_blocks,
                summary.text_width,
                summary.text_heads,
                activation(summary.activation)
            ),
        ),
        (
            "tokens",
            format!(
                "{} in the vocabulary, {} in a text",
                summary.vocabulary, summary.context_length
            ),
        ),
        ("features", format!("{} numbers", summary.joint_width)),
        ("logit scale", summary.logit_scale.to_string()),
        (
            "logit bias",
            summary.logit_bias.map_or(String::new(), |bias| {
                format!("{bias}, before a sigmoid; percentages are a softmax over labels, which no bias changes")
            }),
        ),
        ("texts", reading(summary.reading)),
    ];
    rows.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

pub fn verify(names: &[String], context: &Context) -> anyhow::Result<()> {
    let models = match names {
        [] => all(context)?,
        names => names
            .iter()
            .map(|name| Ok((name.clone(), Place::of(name, context)?)))
            .collect::<anyhow::Result<_>>()?,
    };
    let mut damaged = 0;
    for (name, place) in &models {
        let checked = place.open();
        let mut object = json!({ "model": name, "path": path(place), "sound": checked.is_ok() });
        match checked {
            Ok(model) => {
                object["fingerprint"] = model.fingerprint.to_string().into();
                let fingerprint = model.fingerprint;
                context.output.line(format!("{name}  sound  {fingerprint}"));
            }
            Err(error) => {
                damaged += 1;
                let error = crate::cli::sentence(&error);
                context.output.warn(&error);
                object["error"] = error.into();
                context.output.line(format!("{name}  damaged"));
            }
        }
        context.output.object(&object)?;
    }
    let models = models.len();
    anyhow::ensure!(
        damaged == 0,
        "{damaged} of {models} model{} cannot be used",
        if models == 1 { "" } else { "s" }
    );
    Ok(())
}

pub fn remove(name: &str, force: bool, context: &Context) -> anyhow::Result<()> {
    if name == DEFAULT {
        return Err(usage(
            "the model default is inside the program and cannot be removed",
        ));
    }
    let path = match Place::of(name, context)? {
        Place::File(path) if path == context.home.model_path(name).map_err(usage)? => path,
        _ => {
            return Err(usage(format!(
                "{name:?} is not the name of a model in the home folder"
            )));
        }
    };
    let header = BundleHeader::read(&path).ok();
    let mut prompts = Vec::new();
    for listed in context.home.list()? {
        let Ok(loaded) = listed.prompt else { continue };
        // A model too damaged to say its fingerprint is still known by its name.
        let made_with = match &header {
            Some(header) => loaded.record.model_fingerprint == header.fingerprint.0,
            None => loaded.record.model_name == name,
        };
        if made_with {
            prompts.push(listed.name);
        }
    }
    let message = format!(
        "{} made with it: {}",
        match prompts.len() {
            1 => "1 prompt was".into(),
            count => format!("{count} prompts were"),
        },
        prompts.join(", ")
    );
    anyhow::ensure!(
        force || prompts.is_empty(),
        "the model {name} is in use, {message}; remove those first, or use --force"
    );
    if !prompts.is_empty() {
        context.output.warn(&message);
    }
    context.home.remove_model(name)?;
    context
        .output
        .object(&json!({ "model": name, "removed": true, "prompts": prompts }))?;
    context.output.line(format!("the model {name} is removed"));
    Ok(())
}

fn path(place: &Place) -> Option<String> {
    place.path().map(|path| path.display().to_string())
}

fn damage(place: &Place, error: &ModelError) -> String {
    let hint = hints::model_hint(error).map_or(String::new(), |hint| format!("; {hint}"));
    match place.path() {
        Some(path) => format!("{}: {error}{hint}", path.display()),
        None => format!("{}: {error}", super::DAMAGED_PROGRAM),
    }
}

pub fn resize(resize: Resize) -> &'static str {
    match resize {
        Resize::ShortestSide => "shorter side, centre cut out",
        Resize::Squash => "squashed to a square",
    }
}

pub fn filter(filter: Filter) -> &'static str {
    match filter {
        Filter::Bicubic => "bicubic",
        Filter::Bilinear => "bilinear",
    }
}

fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::QuickGelu => "QuickGELU",
        Activation::Gelu => "GELU",
        Activation::GeluTanh => "GELU (tanh)",
    }
}
