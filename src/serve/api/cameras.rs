//! Cameras and regions: how they are, and changes to the configuration.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;

use super::{Problem, State, blocking};
use crate::serve::Server;
use crate::serve::cameras::{CameraState, CameraView};
use crate::serve::config::{self, ConfigError, Fields};

/// The state of every camera.
pub async fn list(server: State) -> Json<Vec<CameraState>> {
    let all = server.cameras.all();
    Json(all.iter().map(|camera| camera.state()).collect())
}

/// The state of one.
pub async fn show(server: State, Path(camera): Path<String>) -> Result<Json<CameraState>, Problem> {
    Ok(Json(found(&server, &camera)?.state()))
}

/// The camera of this name.
pub fn found(server: &Server, camera: &str) -> Result<Arc<CameraView>, Problem> {
    let found = server.cameras.get(camera);
    found.ok_or_else(|| Problem::missing("camera", camera))
}

/// Adds a camera, or changes it.
pub async fn put(
    server: State,
    Path(camera): Path<String>,
    body: Result<Json<Fields>, JsonRejection>,
) -> Result<Json<CameraState>, Problem> {
    let Json(mut fields) = body?;
    if fields.contains_key("login_file") {
        return Err(Problem::refused(
            "login_file names a file of the box: whoever may write that names it in edge-rlp.toml",
        ));
    }
    edit(&server, move |server, document| {
        // Whoever changes something else sends the source back as it is shown, without its password.
        let config = server.config();
        if let Some(old) = config.camera(&camera) {
            let shown = old.source.to_string();
            let same = |source: &serde_json::Value| source.as_str() == Some(&shown);
            if fields.get("source").is_some_and(same) {
                fields.insert("source".into(), old.address.clone().into());
                if !fields.contains_key("user") {
                    if let Some(login) = &old.login {
                        fields.insert("user".into(), login.user.clone().into());
                        fields.insert("password".into(), login.password.clone().into());
                    }
                    // As it stands in the file.
                    let folder = server.file.folder();
                    let file = old.login_file.as_deref();
                    let file = file.map(|file| file.strip_prefix(folder).unwrap_or(file));
                    if let Some(file) = file.and_then(|file| file.to_str()) {
                        fields.insert("login_file".into(), file.into());
                    }
                }
            }
        }
        config::put_camera(document, &camera, &fields)?;
        Ok(camera)
    })
    .await
}

/// Removes a camera.
pub async fn remove(server: State, Path(camera): Path<String>) -> Result<StatusCode, Problem> {
    let server = Arc::clone(&server);
    blocking(move || {
        server.edit(|document| config::remove_camera(document, &camera))?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Where a region lies, as shares of the picture, and the prompt that names it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionBody {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    prompt: Option<String>,
}

/// Adds a region, or changes it.
pub async fn put_region(
    server: State,
    Path((camera, region)): Path<(String, String)>,
    body: Result<Json<RegionBody>, JsonRejection>,
) -> Result<Json<CameraState>, Problem> {
    let Json(body) = body?;
    let shares = [body.x, body.y, body.width, body.height];
    let area = config::share(shares).ok_or_else(|| {
        Problem::refused(
            "x, y, width and height are shares of the picture from 0 to 1, and width and height above 0",
        )
    })?;
    edit(&server, move |_, document| {
        config::put_region(document, &camera, &region, area, body.prompt.as_deref())?;
        Ok(camera)
    })
    .await
}

/// Removes a region.
pub async fn remove_region(
    server: State,
    Path((camera, region)): Path<(String, String)>,
) -> Result<Json<CameraState>, Problem> {
    edit(&server, move |_, document| {
        config::remove_region(document, &camera, &region)?;
        Ok(camera)
    })
    .await
}

/// Changes the configuration of a camera, and brings it into use; its state afterwards.
async fn edit(
    server: &Arc<Server>,
    change: impl FnOnce(&Server, &mut toml_edit::DocumentMut) -> Result<String, ConfigError>
    + Send
    + 'static,
) -> Result<Json<CameraState>, Problem> {
    let server = Arc::clone(server);
    blocking(move || {
        let mut name = String::new();
        server.edit(|document| {
            name = change(&server, document)?;
            Ok(())
        })?;
        Ok(Json(found(&server, &name)?.state()))
    })
    .await
}
