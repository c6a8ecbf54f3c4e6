//! Prompts: their labels, their generations, and their training.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Problem, State, blocking};
use crate::classifier::Distance;
use crate::prompt::{Label, Prompt, Region};
use crate::serve::Server;
use crate::serve::config::Config;
use crate::serve::events::{Event, PromptAct, PromptChange};
use crate::serve::shots::{LabelCount, label};
use crate::serve::training::{How, Stage, TrainingState};
use crate::store::{Generation, LoadedPrompt, MissingError};

/// A prompt, trained or not.
#[derive(Serialize)]
pub struct PromptInfo {
    name: String,
    labels: Vec<LabelCount>,
    /// Shots of what is no label.
    unlisted: Vec<LabelCount>,
    /// The generation in use; none before the first.
    generation: Option<u64>,
    /// The labels that it was trained on.
    trained_labels: Vec<String>,
    /// Its accuracy on pictures that it was not trained on.
    accuracy: Option<f32>,
    /// The regions that it names, as `camera/region`.
    regions: Vec<String>,
    training: Stage,
    /// Why it cannot be used.
    error: Option<String>,
}

/// All prompts that a region uses, that were trained, or that there are shots for.
pub async fn list(server: State) -> Result<Json<Vec<PromptInfo>>, Problem> {
    let server = Arc::clone(&server);
    blocking(move || {
        let home = &server.common.home;
        let config = server.config();
        let mut names: BTreeSet<String> = config.prompts().into_iter().map(str::to_owned).collect();
        names.extend(home.list()?.into_iter().map(|listed| listed.name));
        names.extend(home.shots_of()?);
        Ok(Json(
            names.into_iter().map(|name| info(&server, name)).collect(),
        ))
    })
    .await
}

fn info(server: &Server, name: String) -> PromptInfo {
    let (labels, unlisted, labels_error) = match server.shots.labels(&name) {
        Ok((labels, unlisted)) => (labels, unlisted, None),
        Err(error) => (Vec::new(), Vec::new(), Some(error.to_string())),
    };
    let (loaded, error) = match server.common.home.load(&name) {
        Ok(loaded) => (Some(loaded), None),
        Err(error) if error.is_missing_prompt() => (None, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let record = loaded.as_ref().map(|loaded| &loaded.record);
    let warning = loaded.as_ref().and_then(|loaded| loaded.warning.clone());
    let config = server.config();
    let regions = config.cameras.iter().flat_map(|camera| {
        let of = camera.regions.iter().filter(|region| region.prompt == name);
        of.map(|region| format!("{}/{}", camera.name, region.name))
    });
    PromptInfo {
        generation: record.map(|record| record.provenance.sequence),
        trained_labels: record.map_or(Vec::new(), |record| names(&record.labels)),
        accuracy: record
            .filter(|record| record.metrics.holdout_images > 0)
            .map(|record| record.metrics.adapted_accuracy),
        regions: regions.collect(),
        training: server.training.state(&name).state,
        error: error.or(warning).or(labels_error),
        name,
        labels,
        unlisted,
    }
}

fn names(labels: &[Label]) -> Vec<String> {
    labels.iter().map(|label| label.name.clone()).collect()
}

/// Labels, each a name or a name with the words that the model reads.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelsBody {
    labels: Vec<LabelBody>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a label is its name, or an object with label and words"
)]
enum LabelBody {
    Name(String),
    Words {
        label: String,
        words: Option<String>,
    },
}

/// Makes the labels of a prompt these.
pub async fn put_labels(
    server: State,
    Path(prompt): Path<String>,
    body: Result<Json<LabelsBody>, JsonRejection>,
) -> Result<Json<PromptInfo>, Problem> {
    let Json(body) = body?;
    let labels = body.labels.iter().map(|one| match one {
        LabelBody::Name(name)
        | LabelBody::Words {
            label: name,
            words: None,
        } => label(name),
        LabelBody::Words {
            label: name,
            words: Some(words),
        } => Label::new(name, Some(words)).map_err(|fault| crate::serve::shots::ShotsError::Name {
            label: name.clone(),
            fault,
        }),
    });
    let labels: Vec<Label> = labels.collect::<Result<_, _>>()?;
    change(server, prompt, move |server, prompt| {
        Ok(server.shots.set_labels(prompt, &labels)?)
    })
    .await
}

/// A label and what it is to be called.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    from: String,
    to: String,
}

/// Calls a label something else; where there is such a label, the two become one.
pub async fn rename(
    server: State,
    Path(prompt): Path<String>,
    body: Result<Json<Rename>, JsonRejection>,
) -> Result<Json<PromptInfo>, Problem> {
    let Json(Rename { from, to }) = body?;
    change(server, prompt, move |server, prompt| {
        Ok(server.shots.rename(prompt, &from, &to)?)
    })
    .await
}

/// Changes labels, and has cameras choose from the new ones; the prompt afterwards.
async fn change(
    server: State,
    prompt: String,
    act: impl FnOnce(&Server, &str) -> Result<(), Problem> + Send + 'static,
) -> Result<Json<PromptInfo>, Problem> {
    let server = Arc::clone(&server);
    blocking(move || {
        act(&server, &prompt)?;
        server.cameras.renew_those_of(&prompt);
        Ok(Json(info(&server, prompt)))
    })
    .await
}

/// How far the training of a prompt is.
pub async fn training(
    server: State,
    Path(prompt): Path<String>,
) -> Result<Json<TrainingState>, Problem> {
    server.common.home.prompt_path(&prompt)?;
    Ok(Json(server.training.state(&prompt)))
}

/// Starts to train a prompt on its shots.
pub async fn train(
    server: State,
    Path(prompt): Path<String>,
) -> Result<(StatusCode, Json<TrainingState>), Problem> {
    server.common.home.prompt_path(&prompt)?;
    let how = how(&server, &prompt);
    let server = Arc::clone(&server);
    blocking(move || {
        let common = &server.common;
        let begun = server
            .training
            .start(&prompt, how, common, &server.features)?;
        Ok((StatusCode::ACCEPTED, Json(begun)))
    })
    .await
}

/// How `prompt` is trained.
pub fn how(server: &Server, prompt: &str) -> How {
    let config = server.config();
    How {
        regions: regions_of(&config, prompt),
        prompts: config.prompts().into_iter().map(str::to_owned).collect(),
        config: config.training,
    }
}

/// What the shots of `prompt` were cut out of; none where that is not the same for all, or the whole picture.
fn regions_of(config: &Config, prompt: &str) -> Vec<Region> {
    let regions = config.cameras.iter().flat_map(|camera| &camera.regions);
    let of = regions.filter(|region| region.prompt == prompt);
    let found: Option<Vec<Region>> = of.map(crate::serve::config::RegionConfig::region).collect();
    let found = found.unwrap_or_default();
    match crate::prompt::region::check_regions(&found) {
        Ok(()) => found,
        Err(_) => Vec::new(),
    }
}

/// Ends a training.
pub async fn cancel(server: State, Path(prompt): Path<String>) -> Result<StatusCode, Problem> {
    server.training.cancel(&prompt)?;
    Ok(StatusCode::ACCEPTED)
}

/// Keeps what came of a training.
pub async fn accept(server: State, Path(prompt): Path<String>) -> Result<Json<Value>, Problem> {
    let server = Arc::clone(&server);
    blocking(move || {
        let saved = server.training.accept(&prompt, &server.common)?;
        server.cameras.renew_those_of(&prompt);
        Ok(Json(json!({
            "prompt": prompt,
            "generation": saved.sequence,
            "path": saved.path.display().to_string(),
            "bytes": saved.bytes,
        })))
    })
    .await
}

/// Keeps the old prompt.
pub async fn reject(server: State, Path(prompt): Path<String>) -> Result<StatusCode, Problem> {
    server.training.reject(&prompt, &server.common)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The generations of a prompt that are kept, oldest first.
pub async fn history(
    server: State,
    Path(prompt): Path<String>,
) -> Result<Json<Vec<Value>>, Problem> {
    let server = Arc::clone(&server);
    blocking(move || {
        let history = server.common.home.history(&prompt)?;
        Ok(Json(history.iter().map(generation).collect()))
    })
    .await
}

fn generation(generation: &Generation) -> Value {
    let mut object = json!({
        "generation": generation.sequence,
        "current": generation.current,
    });
    match &generation.prompt {
        Ok(loaded) => {
            for (key, value) in summary(loaded) {
                object[key] = value;
            }
        }
        Err(error) => object["error"] = error.to_string().into(),
    }
    object
}

/// What there is to compare of generations.
fn summary(loaded: &LoadedPrompt) -> Vec<(&'static str, Value)> {
    let Prompt {
        metrics,
        provenance,
        ..
    } = &loaded.record;
    let measured = metrics.holdout_images > 0;
    vec![
        ("at", provenance.created_unix.into()),
        ("labels", names(&loaded.record.labels).into()),
        ("images", metrics.images.into()),
        ("holdout_images", metrics.holdout_images.into()),
        (
            "zero_shot_accuracy",
            measured.then_some(metrics.zero_shot_accuracy).into(),
        ),
        (
            "adapted_accuracy",
            measured.then_some(metrics.adapted_accuracy).into(),
        ),
        ("method", loaded.record.method().into()),
        ("steps", metrics.steps.into()),
        ("bytes", loaded.bytes.into()),
        ("restores", provenance.restores.into()),
    ]
}

/// An earlier generation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    generation: Option<u64>,
}

/// Brings an earlier generation back: the one that is named, or the one before that in use.
pub async fn rollback(
    server: State,
    Path(prompt): Path<String>,
    body: Result<Json<Rollback>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(Rollback { generation }) = body?;
    let server = Arc::clone(&server);
    blocking(move || {
        let saved = server.common.home.rollback(&prompt, generation)?;
        server.cameras.renew_those_of(&prompt);
        server.common.events.send(Event::Prompt(PromptChange {
            prompt: prompt.clone(),
            what: PromptAct::Restored,
            generation: Some(saved.sequence),
        }));
        Ok(Json(
            json!({ "prompt": prompt, "generation": saved.sequence }),
        ))
    })
    .await
}

/// Two generations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    from: u64,
    to: u64,
}

/// What two generations have in common and what not.
pub async fn diff(
    server: State,
    Path(prompt): Path<String>,
    pair: Result<Query<Pair>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(Pair { from, to }) = pair?;
    let server = Arc::clone(&server);
    blocking(move || {
        let history = server.common.home.history(&prompt)?;
        let find = |sequence: u64| {
            let found = history
                .iter()
                .find(|generation| generation.sequence == sequence);
            let name = prompt.clone();
            let missing =
                || crate::store::StoreError::from(MissingError::Generation { name, sequence });
            let loaded = found.ok_or_else(missing)?.prompt.as_ref();
            loaded.map_err(|error| Problem::conflict(error.to_string()))
        };
        let (a, b) = (find(from)?, find(to)?);
        let model = server.common.models.of_prompt(&a.record)?;
        let distance = Distance::between(&model, &a.record, &b.record)
            .map_err(|error| Problem::conflict(error.to_string()))?;
        let side = |loaded: &LoadedPrompt| {
            summary(loaded)
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
        };
        let only = |one: &Prompt, other: &Prompt| {
            let other = names(&other.labels);
            let mut own = names(&one.labels);
            own.retain(|name| !other.contains(name));
            own
        };
        Ok(Json(json!({
            "from": side(a),
            "to": side(b),
            "distance": distance.euclidean,
            "cosine": distance.cosine,
            "text_cosine": distance.text_cosine,
            "only_in_from": only(&a.record, &b.record),
            "only_in_to": only(&b.record, &a.record),
        })))
    })
    .await
}
