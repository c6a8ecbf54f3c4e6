//! Pictures that are worth labelling.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pictures::jpeg_answer;
use super::{Problem, State, blocking};
use crate::serve::Server;
use crate::serve::changes::RecentChange;
use crate::serve::events::Event;
use crate::serve::recent::RecentPicture;

/// Which pictures.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    camera: Option<String>,
    prompt: Option<String>,
    limit: Option<usize>,
}

/// A picture with the prompt that its region is named by; none where there is no such region any more.
#[derive(Serialize)]
pub struct Item {
    #[serde(flatten)]
    picture: RecentPicture,
    prompt: Option<String>,
}

fn prompt_of(server: &Server, picture: &RecentPicture) -> Option<String> {
    let config = server.config();
    let region = config
        .camera(&picture.camera)?
        .region(&picture.about.region)?;
    Some(region.prompt.clone())
}

/// Pictures that are worth labelling, the newest first.
pub async fn list(
    server: State,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Vec<Item>>, Problem> {
    let Query(wanted) = wanted?;
    let server = Arc::clone(&server);
    blocking(move || {
        let found = server
            .common
            .recent
            .list(wanted.camera.as_deref())?
            .into_iter();
        let items = found.map(|picture| Item {
            prompt: prompt_of(&server, &picture),
            picture,
        });
        let items = items.filter(|item| {
            let wanted = wanted.prompt.as_ref();
            wanted.is_none_or(|wanted| item.prompt.as_ref() == Some(wanted))
        });
        Ok(Json(
            items.take(wanted.limit.unwrap_or(usize::MAX)).collect(),
        ))
    })
    .await
}

/// The picture: `ID.jpg`.
pub async fn picture(server: State, Path(file): Path<String>) -> Result<Response, Problem> {
    let server = Arc::clone(&server);
    blocking(move || {
        let id = file.strip_suffix(".jpg").unwrap_or(&file);
        let found = server.common.recent.get(id)?;
        let (picture, jpeg) = found.ok_or_else(|| Problem::missing("picture", id))?;
        Ok(jpeg_answer(jpeg.into(), picture.about.at))
    })
    .await
}

/// Pictures, their label, and the prompt that they become shots of where that is not the one of their region.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    ids: Vec<String>,
    label: String,
    prompt: Option<String>,
}

/// Makes shots of pictures. Each is gone from here only once it is a shot.
pub async fn label(
    server: State,
    body: Result<Json<Label>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(Label { ids, label, prompt }) = body?;
    let server = Arc::clone(&server);
    blocking(move || {
        let (mut shots, mut missing) = (Vec::new(), Vec::new());
        for id in ids {
            let Some((picture, jpeg)) = server.common.recent.get(&id)? else {
                missing.push(id);
                continue;
            };
            let prompt = prompt.clone().or_else(|| prompt_of(&server, &picture));
            let prompt = prompt.ok_or_else(|| {
                Problem::conflict(format!(
                    "the region of the picture {id} is gone: say with \"prompt\" what it is to teach"
                ))
            })?;
            shots.push(server.shots.add(&prompt, &label, &jpeg)?);
            discard(&server, &id, &picture.camera)?;
        }
        Ok(Json(json!({ "shots": shots, "missing": missing })))
    })
    .await
}

fn discard(server: &Server, id: &str, camera: &str) -> Result<bool, Problem> {
    let there = server.common.recent.remove(id)?;
    server.common.events.send(Event::Recent(RecentChange {
        camera: camera.to_owned(),
        id: id.to_owned(),
        gone: true,
    }));
    Ok(there)
}

/// Removes a picture for good.
pub async fn remove(server: State, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let server = Arc::clone(&server);
    blocking(move || {
        let camera = id.split('~').next().unwrap_or_default().to_owned();
        match discard(&server, &id, &camera)? {
            true => Ok(StatusCode::NO_CONTENT),
            false => Err(Problem::missing("picture", &id)),
        }
    })
    .await
}

/// The camera that is meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfCamera {
    camera: String,
}

/// Removes all pictures of a camera for good.
pub async fn remove_all(
    server: State,
    of: Result<Query<OfCamera>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(OfCamera { camera }) = of?;
    let server = Arc::clone(&server);
    blocking(move || {
        crate::store::home::check_name(&camera, "camera", ".toml")?;
        let removed = server.common.recent.remove_all(&camera)?;
        Ok(Json(json!({ "removed": removed })))
    })
    .await
}
