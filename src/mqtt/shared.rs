//! What the thread that speaks to the broker and those who report share.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::Notify;

use super::outbox::Outbox;
use super::owner::Owner;
use super::site::Plan;
use super::{BrokerSettings, Happening, thread};

/// What the thread and those who report share.
pub(super) struct Shared {
    pub settings: BrokerSettings,
    pub tls: Option<Arc<ClientConfig>>,
    /// Of this start of this program.
    pub owner: Owner,
    /// The same at every start, so that the broker knows the client again.
    pub client_id: String,
    /// Home Assistant's prefix, where it is to be told.
    pub discovery: Option<String>,
    pub state: Mutex<State>,
    pub wake: Notify,
    pub happenings: mpsc::SyncSender<Happening>,
}

/// What changes.
pub(super) struct State {
    pub plan: Plan,
    /// How often the plan was changed.
    pub changes: u64,
    pub outbox: Outbox,
    /// Until when the last messages may take, once it is to end.
    pub closing: Option<Instant>,
}

impl Shared {
    /// What a panic left behind is whole: no change to the state can be interrupted half-way.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever listens.
    pub fn say(&self, happening: Happening) {
        // Nobody may listen any more, or be behind by more than anybody will read.
        let _ = self.happenings.try_send(happening);
    }

    /// Until when the last messages may take; none unless it is to end.
    pub fn closing(&self) -> Option<Instant> {
        self.lock().closing
    }

    /// Waits for `pause`, less where it is to end.
    pub async fn rest(&self, pause: Duration) {
        thread::rest(&self.wake, pause, || self.closing().is_some()).await;
    }
}
