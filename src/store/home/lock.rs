//! The lock by which writers to a home folder take turns. Readers never ask for it, and the system drops it with the
//! process that holds it, however that ends. It must not know what is written.

use super::{Home, check_prompt_name};
use crate::store::file_system::Lock;
use crate::store::{StoreError, atomic};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a second writer waits for the first.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long it waits without a word.
const UNTOLD_WAIT: Duration = Duration::from_millis(300);

/// Told once, by a writer that has to wait, who it waits for; asked again and again whether to go on waiting.
pub(super) type Waiting = dyn Fn(Option<&str>) -> ControlFlow<()> + Send + Sync;

impl Home {
    /// Waits for the writers' lock; the name is checked before anything is made.
    pub(super) fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        check_prompt_name(name)?;
        self.lock_all()
    }

    pub(super) fn lock_all(&self) -> Result<Lock, StoreError> {
        let failed = |source| StoreError::Write {
            path: self.root.clone(),
            source,
        };
        atomic::create_folder(&*self.files, &self.root).map_err(failed)?;
        let file = self.root.join("lock");
        let (started, mut told) = (Instant::now(), false);
        loop {
            if let Some(lock) = self.files.try_lock(&file, &self.holder).map_err(failed)? {
                return Ok(lock);
            }
            let waited = started.elapsed();
            let mut sentence = None;
            if !told && waited >= UNTOLD_WAIT {
                told = true;
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
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Who holds the lock, for a sentence; nothing where that cannot be told.
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
