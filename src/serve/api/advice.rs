//! Whether there are shots enough, and why a picture is taken for what it is taken for: what the library says of features
//! that are there already.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Problem, State, in_turn};
use crate::adapt::features::{Extraction, Monitor};
use crate::adapt::inspection::{Wanted, enough as found_enough, influence, nearest};
use crate::adapt::{AdaptError, Task};
use crate::classifier::Classifier;
use crate::frames::{MAX_PIXELS, decode_picture, read_picture};
use crate::prompt::Template;
use crate::serve::Server;
use crate::serve::features::{FeaturesError, Lesson, model_of};

/// Shots that are named: the most alike, and those with the most influence.
const NAMED: usize = 8;

/// The shots of a prompt and their features.
pub fn lesson(server: &Server, prompt: &str) -> Result<Lesson, FeaturesError> {
    let common = &server.common;
    let usual = common.usual_model();
    let model = model_of(&common.home, &common.models, prompt, usual.as_deref())?;
    let extraction = Extraction::new(1, 0);
    server
        .features
        .lesson(&common.home, model, prompt, extraction, Monitor::none())
}

/// How right answers are by how many shots they are learnt from, and which labels more would help.
pub async fn enough(server: State, Path(prompt): Path<String>) -> Result<Json<Value>, Problem> {
    let server = Arc::clone(&server);
    let turns = Arc::clone(&server.turns.advice);
    in_turn(&turns, move || {
        let lesson = match lesson(&server, &prompt) {
            Err(FeaturesError::Pictures(_)) => {
                return Ok(Json(json!({ "curve": [], "advice": [] })));
            }
            lesson => lesson?,
        };
        // Shots of labels that are no longer listed.
        if lesson.set.labels.is_empty() {
            return Ok(Json(json!({ "curve": [], "advice": [] })));
        }
        let labels = &lesson.pictures.labels;
        let layout = lesson
            .model
            .layout(&Template::default(), labels)
            .map_err(unfit)?;
        let task = Task::new(&lesson.model, labels, &layout).map_err(unfit)?;
        let found = found_enough(&task, &lesson.set).map_err(unfit)?;
        let curve = found
            .curve
            .iter()
            .map(|at| json!({ "shots": at.shots, "accuracy": at.accuracy }));
        let advice = found.advice.iter().map(|advice| {
            let (other, pictures, gain) = match advice.wanted {
                Wanted::More { pictures, gain } => (None, Some(pictures), gain),
                Wanted::Alike { other } => (Some(&labels[other].name), None, None),
                Wanted::Plenty => (None, None, None),
            };
            json!({
                "kind": advice.wanted.name(),
                "label": labels[advice.label].name,
                "accuracy": advice.accuracy,
                "other": other,
                "pictures": pictures,
                "points": gain.map(|gain| 100.0 * gain),
            })
        });
        let (curve, advice): (Vec<Value>, Vec<Value>) = (curve.collect(), advice.collect());
        Ok(Json(json!({ "curve": curve, "advice": advice })))
    })
    .await
}

/// The picture in question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    shot: Option<String>,
    recent: Option<String>,
}

/// Why a picture is taken for what it is taken for: the score of each label before and after the prompt was trained, the shots
/// that are most like it, and those whose absence would change the answer most.
pub async fn why(
    server: State,
    Path(prompt): Path<String>,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(question) = question?;
    let server = Arc::clone(&server);
    let turns = Arc::clone(&server.turns.advice);
    in_turn(&turns, move || explained(&server, &prompt, &question)).await
}

fn explained(server: &Server, prompt: &str, question: &Question) -> Result<Json<Value>, Problem> {
    let (picture, label) = match (&question.shot, &question.recent) {
        (Some(id), None) => {
            let shot = server.shots.find(prompt, id)?;
            (read_picture(&shot.path, MAX_PIXELS)?, Some(shot.label))
        }
        (None, Some(id)) => {
            let found = server.common.recent.get(id)?;
            let (_, jpeg) = found.ok_or_else(|| Problem::missing("picture", id))?;
            (decode_picture(&jpeg, MAX_PIXELS)?, None)
        }
        _ => return Err(Problem::refused("say which picture: shot=ID or recent=ID")),
    };
    let lesson = lesson(server, prompt)?;
    let labels = &lesson.pictures.labels;
    let model = &lesson.model;
    let feature = model.encode_image(&picture).map_err(unfit)?;
    let plain = Classifier::zero_shot(model, &Template::default(), labels).map_err(unfit)?;
    let before = plain.answer(feature.view());
    let trained = match server.common.home.load(prompt) {
        Ok(loaded) => {
            Some(Classifier::with_prompt_for(model, &loaded.record, labels).map_err(unfit)?)
        }
        Err(error) if error.is_missing_prompt() => None,
        Err(error) => return Err(error.into()),
    };
    let after = trained
        .as_ref()
        .map(|trained| trained.answer(feature.view()));
    let class = after.as_ref().unwrap_or(&before).best().class;
    let scores: Vec<Value> = labels
        .iter()
        .enumerate()
        .map(|(class, label)| {
            json!({
                "label": label.name,
                "before": before.probabilities[class],
                "after": after.as_ref().map(|after| after.probabilities[class]),
            })
        })
        .collect();
    let all = server.shots.all(prompt)?.into_iter();
    let ids: HashMap<PathBuf, String> = all.map(|(id, shot)| (shot.path, id)).collect();
    let shot = |row: usize| {
        let id = ids.get(lesson.file(row)?)?;
        // A picture says nothing new of itself.
        let other = question.shot.as_ref() != Some(id);
        other.then(|| (id.clone(), labels[lesson.set.labels[row]].name.clone()))
    };
    let alike = nearest(&lesson.set, feature.view())
        .into_iter()
        .filter_map(|one| {
            let (id, label) = shot(one.picture)?;
            Some(json!({ "id": id, "label": label, "similarity": one.cosine }))
        });
    let texts = trained.as_ref().unwrap_or(&plain).texts();
    let texts = &texts * model.logit_scale;
    // A shot would speak for itself louder than all others.
    let others: Vec<usize> = (0..lesson.set.labels.len())
        .filter(|&row| shot(row).is_some())
        .collect();
    let set = lesson.set.select(&others);
    let moving = influence(texts.view(), &set, feature.view(), class).map_err(unfit)?;
    let moving = moving.into_iter().filter_map(|one| {
        let (id, label) = shot(others[one.picture])?;
        Some(json!({ "id": id, "label": label, "change": one.change }))
    });
    Ok(Json(json!({
        "label": label,
        "answer": labels[class].name,
        "scores": scores,
        "nearest": alike.take(NAMED).collect::<Vec<_>>(),
        "influential": moving.take(NAMED).collect::<Vec<_>>(),
    })))
}

fn unfit(error: impl std::fmt::Display) -> Problem {
    Problem::conflict(error.to_string())
}

impl From<FeaturesError> for Problem {
    fn from(error: FeaturesError) -> Problem {
        match error {
            FeaturesError::Pictures(_) | FeaturesError::Adapt(AdaptError::Singular) => unfit(error),
            FeaturesError::Models(error) => error.into(),
            error => Problem::failed(error.to_string()),
        }
    }
}
