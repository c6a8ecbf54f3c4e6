//! What was changed by whom: `serve/audit.log`, a line of JSON each, only ever added to. When it is long it becomes
//! `audit.log.1`, in place of an earlier one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::store::atomic;
use crate::store::file_system::{Access, Disk};

/// Bytes of a file before the next begins.
const LONG: u64 = 8 << 20;

/// One line.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// When, in seconds since 1970.
    pub at: f64,
    /// `local`, `page`, the name of a token, or `nobody`.
    pub who: &'a str,
    /// The address that asked.
    pub from: String,
    /// What was asked for: method, path and query.
    pub did: &'a str,
    /// The code of the answer.
    pub status: u16,
}

/// The log.
pub struct Audit {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl Audit {
    /// The one in `folder`, which is made with the first line.
    pub fn new(folder: &Path) -> Audit {
        Audit {
            path: folder.join("audit.log"),
            file: Mutex::default(),
        }
    }

    /// Adds a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file
            .as_ref()
            .is_none_or(|file| file.metadata().is_ok_and(|of| of.len() > LONG))
        {
            *file = Some(self.open()?);
        }
        let written = match file.as_mut() {
            Some(file) => file.write_all(&line).and_then(|()| file.sync_data()),
            None => Ok(()),
        };
        if written.is_err() {
            *file = None;
        }
        written
    }

    fn open(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            atomic::create_folder(&Disk, folder, Access::Owner)?;
        }
        if self.path.metadata().is_ok_and(|of| of.len() > LONG) {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.path)
    }
}
