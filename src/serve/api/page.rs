//! The page: files inside the program, which may load nothing from elsewhere and run nothing that is not one of them.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::routing::get;

use crate::serve::Server;
use crate::serve::page::FILES;

/// What the page may do. Pictures are of this host, or of the user's own device before they are sent.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
                      frame-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The routes of the page.
pub fn routes() -> Router<Arc<Server>> {
    let mut routes = Router::new();
    for &(path, kind, content) in FILES {
        let answer = move || async move {
            (
                [
                    (CONTENT_TYPE, kind),
                    (CONTENT_SECURITY_POLICY, POLICY),
                    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                    (X_FRAME_OPTIONS, "DENY"),
                    (REFERRER_POLICY, "no-referrer"),
                    // The next version of the program has another page.
                    (CACHE_CONTROL, "no-cache"),
                ],
                content,
            )
        };
        routes = routes.route(path, get(answer));
    }
    routes
}
