//! Sessions of people who gave the password. They are known while the process runs, by their digests alone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{digest, random_text};

/// The most sessions at once: the one that was not used for longest makes room.
const MOST: usize = 256;

/// A session that has just begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What the browser carries.
    pub cookie: String,
    /// How long it lasts without use.
    pub lasts: Duration,
}

/// A session, by the digest of what the browser carries for it.
pub type Id = [u8; 32];

/// All sessions.
pub struct Sessions {
    lasts: Duration,
    /// When each was used last, and when the browser was told last how long it keeps what it carries.
    used: Mutex<HashMap<Id, [Instant; 2]>>,
}

impl Sessions {
    /// None yet; each lasts so long without use.
    pub fn new(lasts: Duration) -> Sessions {
        Sessions {
            lasts,
            used: Mutex::default(),
        }
    }

    /// Begins one; none where the system gives no random numbers.
    pub fn begin(&self) -> Option<Session> {
        let cookie = random_text().ok()?;
        let mut used = self.locked();
        let lasts = self.lasts;
        used.retain(|_, [last, _]| last.elapsed() < lasts);
        while used.len() >= MOST {
            let oldest = used
                .iter()
                .min_by_key(|(_, [last, _])| *last)
                .map(|(key, _)| *key)?;
            used.remove(&oldest);
        }
        used.insert(digest(&cookie), [Instant::now(); 2]);
        Some(Session { cookie, lasts })
    }

    /// The one that the browser carries this for; it is used.
    pub fn find(&self, cookie: &str) -> Option<Id> {
        let id = digest(cookie);
        self.is_there(&id).then_some(id)
    }

    /// Whether there is this one still; it is used.
    pub fn is_there(&self, id: &Id) -> bool {
        match self.locked().get_mut(id) {
            Some([last, _]) if last.elapsed() < self.lasts => {
                *last = Instant::now();
                true
            }
            _ => false,
        }
    }

    /// How long the browser is to keep what it carries for a session; none where it was told not long ago.
    pub fn renewed(&self, id: &Id) -> Option<Duration> {
        let mut used = self.locked();
        let [_, told] = used.get_mut(id)?;
        if told.elapsed() < self.lasts / 20 {
            return None;
        }
        *told = Instant::now();
        Some(self.lasts)
    }

    /// Ends one.
    pub fn end(&self, cookie: &str) {
        self.locked().remove(&digest(cookie));
    }

    /// Ends all.
    pub fn end_all(&self) {
        self.locked().clear();
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Id, [Instant; 2]>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
