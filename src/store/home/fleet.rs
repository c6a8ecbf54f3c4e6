//! What a home folder remembers of a fleet: small files in `fleet/` that must outlive a power cut, for this account alone.

use super::Home;
use crate::store::file_system::Access;
use crate::store::{DiskError, StoreError, atomic};
use std::io;
use std::path::PathBuf;

/// The folder in the home folder.
const FOLDER: &str = "fleet";
/// The longest file that is read.
const MAX_BYTES: u64 = 64 << 10;

impl Home {
    /// What was remembered under `name`, below `fleet/`; none where nothing was.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn fleet_file(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.fleet_path(name);
        match self.files.read(&path, MAX_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DiskError::Read { path, source }.into()),
        }
    }

    /// Remembers `bytes` under `name`, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written; then what was there before still is.
    pub(crate) fn keep_fleet_file(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.fleet_path(name);
        if let Some(folder) = path.parent() {
            self.create_folder(folder, Access::Owner)?;
            atomic::clean(&*self.files, folder);
        }
        self.write(&path, bytes, Access::Owner)
    }

    /// The names of what is remembered in a folder below `fleet/`.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn fleet_files(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.names_in(&self.fleet_path(folder))
    }

    /// Forgets what was remembered under `name`, if anything was.
    pub(crate) fn forget_fleet_file(&self, name: &str) {
        let _ = self.files.remove_file(&self.fleet_path(name));
    }

    /// Where it lies, or would lie.
    pub(crate) fn fleet_path(&self, name: &str) -> PathBuf {
        self.root.join(FOLDER).join(name)
    }
}
