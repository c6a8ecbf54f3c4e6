//! Shots: listed, shown, sent, taken from a camera, moved, removed, taken back.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::advice::lesson;
use super::cameras::found;
use super::pictures::jpeg_answer;
use super::rejection::unread;
use super::{Problem, State, blocking, in_turn};
use crate::adapt::{Task, inspection};
use crate::files;
use crate::prompt::Template;
use crate::serve::Server;
use crate::serve::cameras::CameraView;
use crate::serve::features::FeaturesError;
use crate::serve::shots::ShotInfo;

/// Shots of a burst, and the time that they take.
const BURST: (usize, Duration) = (8, Duration::from_secs(3));
/// How long a burst waits for pictures at most.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest picture that is read.
const MAX_PICTURE: u64 = 64 << 20;

/// Which shots.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    label: Option<String>,
    #[serde(default)]
    order: Order,
}

/// In which order.
#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Newest,
    Suspicious,
}

/// The shots of a prompt.
pub async fn list(
    server: State,
    Path(prompt): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Vec<ShotInfo>>, Problem> {
    let Query(wanted) = wanted?;
    let server = Arc::clone(&server);
    let Wanted { label, order } = wanted;
    if order == Order::Newest {
        return blocking(move || Ok(Json(server.shots.list(&prompt, label.as_deref())?))).await;
    }
    let turns = Arc::clone(&server.turns.advice);
    in_turn(&turns, move || {
        let mut shots = server.shots.list(&prompt, label.as_deref())?;
        let suspicions = suspicions(&server, &prompt)?;
        for shot in &mut shots {
            if let Some((doubt, seems)) = suspicions.get(&shot.id) {
                shot.suspicion = Some(*doubt);
                shot.seems = Some(seems.clone());
            }
        }
        let doubt = |shot: &ShotInfo| shot.suspicion.unwrap_or(f32::NEG_INFINITY);
        shots.sort_by(|a, b| doubt(b).total_cmp(&doubt(a)));
        Ok(Json(shots))
    })
    .await
}

/// How much likelier another label is for each shot, and which; nothing where there is too little to compare.
fn suspicions(server: &Server, prompt: &str) -> Result<HashMap<String, (f32, String)>, Problem> {
    let lesson = lesson(server, prompt);
    let lesson = match lesson {
        Ok(lesson) => lesson,
        Err(FeaturesError::Pictures(_)) => return Ok(HashMap::new()),
        Err(error) => return Err(error.into()),
    };
    let labels = &lesson.pictures.labels;
    let failed = |error: String| Problem::conflict(error);
    let layout = lesson
        .model
        .layout(&Template::default(), labels)
        .map_err(|error| failed(error.to_string()))?;
    let Ok(task) = Task::new(&lesson.model, labels, &layout) else {
        return Ok(HashMap::new());
    };
    let found = inspection::suspicions(&task, &lesson.set);
    let found = found.map_err(|error| failed(error.to_string()))?;
    let ids: HashMap<_, _> = (server.shots.all(prompt)?.into_iter())
        .map(|(id, shot)| (shot.path, id))
        .collect();
    let known = found.into_iter().filter_map(|suspicion| {
        let id = ids.get(lesson.file(suspicion.picture)?)?;
        let seems = labels[suspicion.seems].name.clone();
        Some((id.clone(), (suspicion.doubt, seems)))
    });
    Ok(known.collect())
}

/// The picture of a shot: `ID.jpg`.
pub async fn picture(
    server: State,
    Path((prompt, file)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let server = Arc::clone(&server);
    blocking(move || {
        let id = file.strip_suffix(".jpg").unwrap_or(&file);
        let shot = server.shots.find(&prompt, id)?;
        let (taken, _) = server.common.home.shot_file(&shot)?;
        let jpeg = files::read(&shot.path, MAX_PICTURE)
            .map_err(|error| Problem::failed(format!("the shot cannot be read ({error})")))?;
        let at = taken.map_or(0.0, crate::serve::changes::seconds);
        Ok(jpeg_answer(jpeg.into(), at))
    })
    .await
}

/// The label that is meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfLabel {
    label: String,
}

/// Keeps a picture that is sent as a shot.
pub async fn upload(
    server: State,
    Path(prompt): Path<String>,
    of: Result<Query<OfLabel>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ShotInfo>), Problem> {
    let Query(of) = of?;
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| !kind.starts_with("image/") && kind != "application/octet-stream") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the bytes of one picture, with Content-Type: image/jpeg or another image type",
        ));
    }
    let body = body.map_err(|rejection| unread(&rejection, super::MAX_PICTURE))?;
    let server = Arc::clone(&server);
    blocking(move || {
        let shot = server.shots.upload(&prompt, &of.label, body.to_vec())?;
        Ok((StatusCode::CREATED, Json(shot)))
    })
    .await
}

/// What to keep of a camera.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    camera: String,
    region: Option<String>,
    label: String,
    #[serde(default)]
    burst: bool,
}

/// Keeps what a camera shows as a shot, or several in a row.
pub async fn capture(
    server: State,
    Path(prompt): Path<String>,
    body: Result<Json<Capture>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let Json(wanted) = body?;
    let camera = found(&server, &wanted.camera)?;
    let server = Arc::clone(&server);
    blocking(move || {
        let shots = match wanted.burst && !camera.config.is_drawn() {
            true => burst(&server, &prompt, &camera, &wanted)?,
            false => vec![one(&server, &prompt, &camera, &wanted)?],
        };
        // A drawn scene shows one thing: the next shows another.
        camera.skip();
        Ok((StatusCode::CREATED, Json(json!({ "shots": shots }))))
    })
    .await
}

/// Keeps the newest picture, unless it was kept already.
fn one(
    server: &Server,
    prompt: &str,
    camera: &CameraView,
    wanted: &Capture,
) -> Result<ShotInfo, Problem> {
    let region = match &wanted.region {
        Some(name) => {
            let region = camera.config.region(name);
            region
                .ok_or_else(|| Problem::missing("region", name))?
                .region()
        }
        None => None,
    };
    let Some(picture) = camera.picture() else {
        let said = format!("camera {} has sent no picture yet", camera.config.name);
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, said));
    };
    let place = format!("{prompt}\n{}", wanted.region.as_deref().unwrap_or_default());
    if !camera.take(&place, picture.number) {
        return Err(Problem::conflict(
            "this very picture is a shot already: wait for the next, or take it back",
        ));
    }
    let kept = picture.shot(region.as_ref()).map_err(Problem::from);
    let kept = kept.and_then(|jpeg| Ok(server.shots.add(prompt, &wanted.label, &jpeg)?));
    kept.inspect_err(|_| camera.give_back(&place))
}

fn burst(
    server: &Server,
    prompt: &str,
    camera: &CameraView,
    wanted: &Capture,
) -> Result<Vec<ShotInfo>, Problem> {
    let (count, time) = BURST;
    let begun = Instant::now();
    let mut shots = vec![one(server, prompt, camera, wanted)?];
    while shots.len() < count && begun.elapsed() < LONGEST {
        thread::sleep(time / count as u32);
        // The camera may be slower than the burst.
        match one(server, prompt, camera, wanted) {
            Ok(shot) => shots.push(shot),
            Err(problem) if problem.status() == StatusCode::CONFLICT => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(shots)
}

/// Takes the last shot that was kept here back.
pub async fn undo(server: State, Path(prompt): Path<String>) -> Result<Json<ShotInfo>, Problem> {
    let server = Arc::clone(&server);
    blocking(move || Ok(Json(server.shots.undo(&prompt)?))).await
}

/// Gives a shot another label.
pub async fn relabel(
    server: State,
    Path((prompt, id)): Path<(String, String)>,
    body: Result<Json<OfLabel>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(OfLabel { label }) = body?;
    let server = Arc::clone(&server);
    blocking(move || {
        server.shots.find(&prompt, &id)?;
        server
            .shots
            .relabel(&prompt, std::slice::from_ref(&id), &label)?;
        Ok(Json(json!({ "id": id, "label": label })))
    })
    .await
}

/// Shots, and the label that they are to have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relabel {
    ids: Vec<String>,
    label: String,
}

/// Gives shots another label.
pub async fn relabel_all(
    server: State,
    Path(prompt): Path<String>,
    body: Result<Json<Relabel>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(Relabel { ids, label }) = body?;
    let server = Arc::clone(&server);
    blocking(move || {
        let moved = server.shots.relabel(&prompt, &ids, &label)?;
        Ok(Json(json!({ "moved": moved, "label": label })))
    })
    .await
}

/// Removes a shot for good.
pub async fn remove(
    server: State,
    Path((prompt, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let server = Arc::clone(&server);
    blocking(move || {
        server.shots.find(&prompt, &id)?;
        server.shots.remove(&prompt, &[id])?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Removes all shots of a label for good.
pub async fn remove_label(
    server: State,
    Path(prompt): Path<String>,
    of: Result<Query<OfLabel>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(OfLabel { label }) = of?;
    let server = Arc::clone(&server);
    blocking(move || {
        let removed = server.shots.remove_label(&prompt, &label)?;
        Ok(Json(json!({ "removed": removed })))
    })
    .await
}
