//! The home folder: prompts by name, each with its history of generations, models by name, the shots of prompts, and files
//! that only save time. How the folder is chosen is decided above.

mod cache;
mod export;
mod exposure;
#[cfg(feature = "fleet")]
mod fleet;
mod lock;
mod models;
mod names;
mod prompts;
mod settings;
mod shots;
#[cfg(test)]
mod tests;

pub use exposure::Exposure;
pub use names::MAX_NAME_BYTES;
#[cfg(any(feature = "fleet", feature = "serve"))]
pub(crate) use names::check_name;
pub use prompts::{Generation, Listed, LoadedPrompt, Saved};
pub use settings::{Settings, ShotSettings};
pub(crate) use shots::label_of;
pub use shots::{LABELS_FILE, Shot};

use super::atomic;
use super::error::StoreError;
use super::file_system::{self, Access, Disk, FileSystem};

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How many generations of a prompt are kept.
const RETENTION: usize = 10;
/// How long a second writer waits for the first.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How long it waits between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What a writer that has to wait calls: once with a sentence on whom it waits for, then again and again with nothing, to
/// learn whether to go on waiting.
type Waiting = dyn Fn(Option<&str>) -> ControlFlow<()> + Send + Sync;

/// A home folder. Readers never wait; writers take turns by a lock.
#[derive(Clone)]
pub struct Home {
    root: PathBuf,
    files: Arc<dyn FileSystem>,
    retention: usize,
    lock_wait: Duration,
    /// Between two tries.
    pub(super) lock_pause: Duration,
    holder: Arc<str>,
    waiting: Arc<Waiting>,
}

impl Home {
    /// The home folder at `root`, which is made when something is first saved.
    pub fn new(root: impl Into<PathBuf>) -> Home {
        Home::with_files(root, Arc::new(Disk))
    }

    /// A home folder on any file system.
    pub fn with_files(root: impl Into<PathBuf>, files: Arc<dyn FileSystem>) -> Home {
        Home {
            root: root.into(),
            files,
            retention: RETENTION,
            lock_wait: LOCK_WAIT,
            lock_pause: LOCK_PAUSE,
            holder: std::process::id().to_string().into(),
            waiting: Arc::new(|_| ControlFlow::Continue(())),
        }
    }

    /// Names what this process does to those who wait for it, and says what is done while it waits for another: it is
    /// called with a sentence once, then with nothing until the wait is over or it breaks it off.
    pub fn introduced(
        mut self,
        command: &str,
        waiting: impl Fn(Option<&str>) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Home {
        self.holder = format!("{} {command}", std::process::id()).into();
        self.waiting = Arc::new(waiting);
        self
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether something could be saved here, tried out with a file that goes away again: to be asked before
    /// work that would be lost otherwise.
    ///
    /// # Errors
    /// If it could not.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        self.try_out(self.prompts())
    }

    fn try_out(&self, folder: PathBuf) -> Result<(), StoreError> {
        let trial = folder.join(format!(".trial.{}.tmp", std::process::id()));
        let written = self
            .create_root()
            .and_then(|()| atomic::create_folder(&*self.files, &folder, Access::Usual))
            .and_then(|()| self.files.write_synced(&trial, b"trial", Access::Owner));
        // Whether it was written or begun; another process that is saving may have cleaned it up already.
        let _ = self.files.remove_file(&trial);
        written.map_err(StoreError::writing(&folder))
    }

    fn write(&self, path: &Path, bytes: &[u8], access: Access) -> Result<(), StoreError> {
        atomic::write(&*self.files, path, bytes, access).map_err(StoreError::writing(path))
    }

    /// Makes a folder in the home folder, or that folder itself.
    fn create_folder(&self, folder: &Path, access: Access) -> Result<(), StoreError> {
        self.create_root()
            .and_then(|()| atomic::create_folder(&*self.files, folder, access))
            .map_err(StoreError::writing(folder))
    }

    /// Makes the home folder, for this account alone: others could read pictures in it, and hold its lock.
    fn create_root(&self) -> io::Result<()> {
        atomic::create_folder(&*self.files, &self.root, Access::Owner)
    }

    /// Whether the home folder is one, or not there yet: to be asked before it is said to be empty.
    ///
    /// # Errors
    /// If it is something else, as a file.
    pub fn check_folder(&self) -> Result<(), StoreError> {
        match self.files.list(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(StoreError::reading(&self.root)(error))
            }
            _ => Ok(()),
        }
    }

    /// The names in a folder; none where it does not exist.
    fn names_in(&self, folder: &Path) -> Result<Vec<String>, StoreError> {
        file_system::names_in(&*self.files, folder).map_err(StoreError::reading(folder))
    }

    fn prompts(&self) -> PathBuf {
        self.root.join("prompts")
    }
}
