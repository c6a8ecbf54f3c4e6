//! Signing in and out, and tokens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::{From, cookie, set_cookie};
use super::{Problem, State, blocking};
use crate::serve::access::{AccessError, Caller, Scope};

/// Who asks, and what they may do.
pub async fn show(server: State, Extension(caller): Extension<Caller>) -> Json<Value> {
    Json(json!({
        "who": caller.who,
        "scopes": caller.scopes,
        "language": server.config().language,
        "password": server.access.takes_password(),
    }))
}

/// The password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    password: String,
}

/// Begins a session.
pub async fn sign_in(
    server: State,
    Extension(From(from)): Extension<From>,
    body: Result<Json<SignIn>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(SignIn { password }) = body?;
    let access = Arc::clone(&server.access);
    if !access.takes_password() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let outcome = blocking(move || Ok(access.sign_in(&password, from))).await?;
    match outcome {
        Ok(session) => {
            let set = set_cookie(&session.cookie, session.lasts, server.has_https());
            let mut answer = Json(json!({ "scopes": Scope::all() })).into_response();
            answer.headers_mut().insert(SET_COOKIE, set);
            Ok(answer)
        }
        Err(None) => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "that is not the password",
        )),
        Err(Some(wait)) => {
            let seconds = wait.0.as_secs().max(1);
            let said = format!("too many wrong passwords: try again in {seconds} s");
            let mut answer = Problem::new(StatusCode::TOO_MANY_REQUESTS, said).into_response();
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
            Ok(answer)
        }
    }
}

/// Ends the session.
pub async fn sign_out(server: State, headers: HeaderMap) -> Response {
    let https = server.has_https();
    if let Some(session) = cookie(&headers, https) {
        server.access.sign_out(session);
    }
    let mut answer = StatusCode::NO_CONTENT.into_response();
    answer
        .headers_mut()
        .insert(SET_COOKIE, set_cookie("", Duration::ZERO, https));
    answer
}

/// The tokens, without what they are carried as.
pub async fn tokens(server: State) -> Json<Vec<Value>> {
    let all = server.access.tokens().all();
    let shown = all
        .iter()
        .map(|token| json!({ "name": token.name, "scopes": token.scopes }));
    Json(shown.collect())
}

/// A token to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    name: String,
    scopes: BTreeSet<Scope>,
}

/// Makes a token, which is shown once.
pub async fn add_token(
    server: State,
    body: Result<Json<NewToken>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let Json(NewToken { name, scopes }) = body?;
    let access = Arc::clone(&server.access);
    blocking(move || {
        let token = access.tokens().add(&name, scopes.clone())?;
        let shown = json!({ "name": name, "scopes": scopes, "token": token });
        Ok((StatusCode::CREATED, Json(shown)))
    })
    .await
}

/// Ends a token.
pub async fn remove_token(server: State, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let access = Arc::clone(&server.access);
    blocking(move || match access.tokens().remove(&name)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::missing("token", &name)),
    })
    .await
}

impl std::convert::From<AccessError> for Problem {
    fn from(error: AccessError) -> Problem {
        match error {
            AccessError::Name(_) | AccessError::Short => Problem::refused(error.to_string()),
            AccessError::File { .. } => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
            }
            _ => Problem::failed(error.to_string()),
        }
    }
}
