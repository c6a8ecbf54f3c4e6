//! Events as a stream (server-sent events).

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::pictures::too_many;
use super::{Problem, State};
use crate::serve::access::{Access, Caller};
use crate::serve::events::Event;
use crate::serve::viewers::Viewing;

/// How often something is sent, so that a listener that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often it is asked whether a listener to whom nothing is told may still listen.
const CHECK: Duration = Duration::from_secs(10);
/// What there is to listen for.
const KINDS: [&str; 7] = [
    "named", "change", "camera", "training", "prompt", "shot", "recent",
];

/// Which events.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Their kinds, with commas between them; all where nothing is said.
    kinds: Option<String>,
    /// Of this camera alone, and all that are of none.
    camera: Option<String>,
}

/// All events from now on. Where a listener was too slow, `lost` says how many it missed.
pub async fn stream(
    server: State,
    Extension(caller): Extension<Caller>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let Query(wanted) = wanted?;
    let kinds: BTreeSet<String> = match &wanted.kinds {
        Some(kinds) => kinds
            .split(',')
            .map(|kind| kind.trim().to_owned())
            .collect(),
        None => KINDS.map(str::to_owned).into(),
    };
    if let Some(other) = kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        let known = KINDS.join(", ");
        return Err(Problem::refused(format!(
            "there are no events {other:?}: the kinds are {known}"
        )));
    }
    let open = server.viewers.enter().ok_or_else(too_many)?;
    let listener = Listener {
        events: server.common.events.listen(),
        access: Arc::clone(&server.access),
        caller,
        kinds,
        camera: wanted.camera,
        _open: open,
    };
    let events = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Listener {
    events: Receiver<Arc<Event>>,
    access: Arc<Access>,
    caller: Caller,
    kinds: BTreeSet<String>,
    camera: Option<String>,
    _open: Viewing,
}

impl Listener {
    /// The next event; none where the listener may not listen any more.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            let event = timeout(CHECK, self.events.recv()).await;
            if !self.access.still_admits(&self.caller) {
                return None;
            }
            let event = match event {
                Err(_) => continue,
                Ok(Ok(event)) => event,
                Ok(Err(RecvError::Lagged(missed))) => {
                    let said = format!("{{\"missed\":{missed}}}");
                    return Some(sse::Event::default().event("lost").data(said));
                }
                Ok(Err(RecvError::Closed)) => return None,
            };
            let wanted = self.camera.as_deref();
            let of_other = |of: &str| wanted.is_some_and(|camera| camera != of);
            if !self.kinds.contains(event.kind()) || event.camera().is_some_and(of_other) {
                continue;
            }
            let data = serde_json::to_string(&*event).unwrap_or_default();
            return Some(sse::Event::default().event(event.kind()).data(data));
        }
    }
}
