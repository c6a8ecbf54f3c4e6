//! What the system's supervisor (systemd) is sent by a command that runs for days: ready, alive, ending. Where there is
//! none, nothing happens.

use sd_notify::NotifyState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Notified no more often than that; units give a minute.
const PACE: Duration = Duration::from_secs(1);

/// What a start may take on top when it goes on; the command knows itself when to give up.
const START: Duration = Duration::from_secs(60);

/// The supervisor, if there is one.
pub struct Supervisor {
    notified: Mutex<Instant>,
    ready: AtomicBool,
}

impl Supervisor {
    /// The command has begun, and does not yet do what it was started for.
    pub fn starting() -> Supervisor {
        Supervisor {
            notified: Mutex::new(Instant::now()),
            ready: AtomicBool::new(false),
        }
    }

    /// The command does what it was started for. Told once, however often it is called.
    pub fn ready(&self) {
        if !self.ready.swap(true, Ordering::Relaxed) {
            notify(&NotifyState::Ready);
        }
    }

    /// The command is not stuck, whatever else may be wrong. May be called as often as one likes.
    pub fn alive(&self) {
        let mut notified = self.notified.lock().unwrap_or_else(PoisonError::into_inner);
        if notified.elapsed() < PACE {
            return;
        }
        *notified = Instant::now();
        notify(&if self.ready.load(Ordering::Relaxed) {
            NotifyState::Watchdog
        } else {
            NotifyState::ExtendTimeoutUsec(START.as_micros() as u32)
        });
    }

    /// What `systemctl status` shows of the command, and `systemctl show -p StatusText` tells scripts.
    pub fn status(&self, words: &str) {
        notify(&NotifyState::Status(words));
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        notify(&NotifyState::Stopping);
    }
}

/// A supervisor that does not listen is not worth ending for: it will act by itself.
fn notify(state: &NotifyState) {
    let _ = sd_notify::notify(std::slice::from_ref(state));
}
