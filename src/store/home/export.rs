//! Prompts that leave the home folder and come from elsewhere: one file each, as they are or as JSON.

use super::{Home, LoadedPrompt};
use crate::prompt::Prompt;
use crate::store::atomic::Replace;
use crate::store::file_system::{Access, Kind};
use crate::store::{DiskError, ExistsError, StoreError, atomic, format, json};
use std::io;
use std::path::Path;

/// How the names of prompts as JSON end, after the dot.
const JSON: &str = "json";

impl Home {
    /// Writes `record` to a file outside the home folder, whole or not at all: as JSON where its name ends with
    /// `.json`, else as a prompt file. The number of bytes.
    pub fn export(
        &self,
        record: &Prompt,
        path: &Path,
        replace: Replace,
    ) -> Result<usize, StoreError> {
        let bytes = if path.extension().is_some_and(|end| end == JSON) {
            json::encode(record)?.into_bytes()
        } else {
            format::encode(record)?
        };
        atomic::write_over(&*self.files, path, &bytes, replace, Access::Usual)
            .map_err(|error| self.not_exported(path, error))?;
        Ok(bytes.len())
    }

    /// Whether [`Home::export`] could write to `path`: to be asked before work that would be lost otherwise.
    ///
    /// # Errors
    /// If it could not.
    pub fn check_export(&self, path: &Path, replace: Replace) -> Result<(), StoreError> {
        atomic::check_over(&*self.files, path, replace)
            .map_err(|error| self.not_exported(path, error))
    }

    fn not_exported(&self, path: &Path, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::AlreadyExists => ExistsError::File {
                path: path.into(),
                regular: self.files.kind(path) == Some(Kind::File),
            }
            .into(),
            _ => DiskError::WriteFile {
                path: path.into(),
                source,
            }
            .into(),
        }
    }

    /// Reads a prompt file, or a prompt as JSON where the name ends with `.json`; nothing is kept.
    pub fn read_export(&self, path: &Path) -> Result<LoadedPrompt, StoreError> {
        if path.extension().is_none_or(|end| end != JSON) {
            return self.read(path);
        }
        let bytes = self.files.read(path, json::MAX_JSON_BYTES);
        let bytes = bytes.map_err(StoreError::reading(path))?;
        Ok(LoadedPrompt {
            record: json::decode(&bytes, &path.display().to_string())?,
            path: path.into(),
            bytes: bytes.len(),
            warning: None,
        })
    }
}
