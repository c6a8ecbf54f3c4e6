//! The routes of the API and the page, and what they answer: JSON as the commands print it, errors as problem details, events
//! as a stream. What a handler computes or waits for runs on threads of its own, never on that of the connections.

mod advice;
mod cameras;
mod events;
mod guard;
mod metrics;
mod page;
mod pictures;
mod problem;
pub(in crate::serve) mod prompts;
mod recent;
mod rejection;
mod report;
mod session;
mod shots;
#[cfg(test)]
mod tests;

pub use problem::Problem;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, delete, get, post, put};

use super::Server;
use problem::{blocking, in_turn};

/// The longest body of a request, in bytes, but for pictures.
const MAX_BODY: usize = 1 << 20;
/// Of a picture that is sent.
const MAX_PICTURE: usize = 32 << 20;

/// What every handler is given.
type State = axum::extract::State<Arc<Server>>;

/// The paths of the API below `/api/v1`, and what answers there.
fn paths() -> Vec<(&'static str, MethodRouter<Arc<Server>>)> {
    vec![
        ("/cameras", get(cameras::list)),
        (
            "/cameras/{camera}",
            get(cameras::show).put(cameras::put).delete(cameras::remove),
        ),
        (
            "/cameras/{camera}/regions/{region}",
            put(cameras::put_region).delete(cameras::remove_region),
        ),
        ("/cameras/{camera}/snapshot.jpg", get(pictures::snapshot)),
        ("/cameras/{camera}/stream.mjpeg", get(pictures::stream)),
        ("/events", get(events::stream)),
        ("/prompts", get(prompts::list)),
        ("/prompts/{prompt}/labels", put(prompts::put_labels)),
        ("/prompts/{prompt}/labels/rename", post(prompts::rename)),
        (
            "/prompts/{prompt}/training",
            get(prompts::training)
                .post(prompts::train)
                .delete(prompts::cancel),
        ),
        ("/prompts/{prompt}/training/accept", post(prompts::accept)),
        ("/prompts/{prompt}/training/reject", post(prompts::reject)),
        ("/prompts/{prompt}/enough", get(advice::enough)),
        ("/prompts/{prompt}/why", get(advice::why)),
        ("/prompts/{prompt}/report", get(report::show)),
        ("/prompts/{prompt}/history", get(prompts::history)),
        ("/prompts/{prompt}/rollback", post(prompts::rollback)),
        ("/prompts/{prompt}/diff", get(prompts::diff)),
        (
            "/prompts/{prompt}/shots",
            get(shots::list)
                .post(shots::upload)
                .patch(shots::relabel_all)
                .delete(shots::remove_label)
                .layer(DefaultBodyLimit::max(MAX_PICTURE)),
        ),
        ("/prompts/{prompt}/shots/capture", post(shots::capture)),
        ("/prompts/{prompt}/shots/undo", post(shots::undo)),
        (
            "/prompts/{prompt}/shots/{id}",
            get(shots::picture)
                .patch(shots::relabel)
                .delete(shots::remove),
        ),
        ("/recent", get(recent::list).delete(recent::remove_all)),
        (
            "/session",
            get(session::show)
                .post(session::sign_in)
                .delete(session::sign_out),
        ),
        ("/tokens", get(session::tokens).post(session::add_token)),
        ("/tokens/{token}", delete(session::remove_token)),
        ("/openapi.json", get(openapi)),
        ("/recent/label", post(recent::label)),
        ("/recent/{id}", get(recent::picture).delete(recent::remove)),
    ]
}

/// Everything that is served.
pub fn routes(server: Arc<Server>) -> Router {
    let mut api = Router::new();
    for (path, methods) in paths() {
        api = api.route(path, methods);
    }
    Router::new()
        .nest("/api/v1", api)
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(metrics::alive))
        .route("/readyz", get(metrics::ready))
        .merge(page::routes())
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::clone(&server), guard::guard))
        .with_state(server)
}

/// What the routes take and answer, for programs: kept by hand, and held to what they do by a test.
const OPENAPI: &str = include_str!("openapi.json");

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn nothing(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}", uri.path()),
    )
}

async fn other_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this cannot be done here with that method",
    )
}
