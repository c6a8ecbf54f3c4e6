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

/// All sessions.
pub struct Sessions {
    lasts: Duration,
    /// When each was used last.
    used: Mutex<HashMap<[u8; 32], Instant>>,
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
        used.retain(|_, last| last.elapsed() < lasts);
        while used.len() >= MOST {
            let oldest = used
                .iter()
                .min_by_key(|(_, last)| **last)
                .map(|(key, _)| *key)?;
            used.remove(&oldest);
        }
        used.insert(digest(&cookie), Instant::now());
        Some(Session { cookie, lasts })
    }

    /// Whether there is one that the browser carries this for; it is used.
    pub fn find(&self, cookie: &str) -> bool {
        let mut used = self.locked();
        match used.get_mut(&digest(cookie)) {
            Some(last) if last.elapsed() < self.lasts => {
                *last = Instant::now();
                true
            }
            _ => false,
        }
    }

    /// Ends one.
    pub fn end(&self, cookie: &str) {
        self.locked().remove(&digest(cookie));
    }

    /// Ends all.
    pub fn end_all(&self) {
        self.locked().clear();
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
