//! The lock by which writers to a home folder take turns. Readers never ask for it, and the system drops it with the
//! process that holds it, however that ends.

use super::Home;
use super::names::check_prompt_name;
use crate::store::StoreError;
use crate::store::file_system::Lock;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long it waits before it says so.
const QUIET_WAIT: Duration = Duration::from_millis(300);

impl Home {
    /// Waits for the writers' lock; the name is checked before anything is made.
    pub(super) fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        check_prompt_name(name)?;
        self.lock_all()
    }

    pub(super) fn lock_all(&self) -> Result<Lock, StoreError> {
        self.create_root()
            .map_err(StoreError::writing(&self.root))?;
        let file = self.root.join("lock");
        let (started, mut reported) = (Instant::now(), false);
        loop {
            if let Some(lock) = self
                .files
                .try_lock(&file, &self.holder)
                .map_err(StoreError::writing(&self.root))?
            {
                return Ok(lock);
            }
            let waited = started.elapsed();
            let mut sentence = None;
            if !reported && waited >= QUIET_WAIT {
                reported = true;
                sentence = Some(format!(
                    "waiting for another edge-rlp{} that writes to {}",
                    self.lock_holder(&file),
                    self.root.display()
                ));
            }
            if waited >= self.lock_wait || (self.waiting)(sentence.as_deref()).is_break() {
                return Err(StoreError::Locked {
                    root: self.root.clone(),
                    holder: self.lock_holder(&file),
                });
            }
            std::thread::sleep(self.lock_pause);
        }
    }

    /// Who holds the lock, for a sentence; nothing where that is not known.
    fn lock_holder(&self, file: &Path) -> String {
        let holder = self.files.read(file, 60).unwrap_or_default();
        let holder = String::from_utf8_lossy(&holder).into_owned();
        let (id, command) = holder.split_once(' ').unwrap_or((&holder, ""));
        let plain = command.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
        match id.parse::<u32>() {
            Ok(id) if plain && !command.is_empty() => format!(" (process {id}, {command})"),
            Ok(id) => format!(" (process {id})"),
            Err(_) => String::new(),
        }
    }
}
