//! What the system's supervisor (systemd) is sent by a command that runs for days: ready, alive, ending. Where there is
//! none, nothing happens.

use sd_notify::NotifyState;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Notified no more often than that; units give a minute.
const PACE: Duration = Duration::from_secs(1);

/// The supervisor, if there is one.
pub struct Supervisor {
    notified: Cell<Instant>,
}

impl Supervisor {
    /// The command has all that it needs, and does what it was started for.
    pub fn ready() -> Supervisor {
        notify(&NotifyState::Ready);
        Supervisor {
            notified: Cell::new(Instant::now()),
        }
    }

    /// The command is not stuck, whatever else may be wrong. May be called as often as one likes.
    pub fn alive(&self) {
        if self.notified.get().elapsed() >= PACE {
            self.notified.set(Instant::now());
            notify(&NotifyState::Watchdog);
        }
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
