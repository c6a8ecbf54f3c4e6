//! What was changed by whom: `serve/audit.log`, a line of JSON each, only ever added to. When it is long it becomes
//! `audit.log.1`, in place of an earlier one. What strangers tried in vain stands in `refused.log`, so that they can push nothing
//! else out.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::store::atomic;
use crate::store::file_system::{Access, Disk};

/// Bytes of a file before the next begins: of the log, and of what strangers tried.
const LONG: [u64; 2] = [8 << 20, 1 << 20];
/// Bytes of what was asked for that are kept.
const MOST: usize = 300;

/// One line.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// When, in seconds since 1970.
    pub at: f64,
    /// `local`, `page`, the name of a token, or `nobody`.
    pub who: &'a str,
    /// The address that asked.
    pub from: String,
    /// What was asked for: method, path and query. A long one is cut.
    pub did: &'a str,
    /// The code of the answer.
    pub status: u16,
}

impl Entry<'_> {
    /// Whether somebody who is not known tried this in vain.
    fn is_strange(&self) -> bool {
        self.who == NOBODY && self.status >= 400
    }
}

/// Who asks where that is not known.
pub const NOBODY: &str = "nobody";

/// The log.
pub struct Audit {
    changes: Log,
    refused: Log,
}

struct Log {
    path: PathBuf,
    long: u64,
    file: Mutex<Option<File>>,
}

impl Audit {
    /// The one in `folder`, which is made with the first line.
    pub fn new(folder: &Path) -> Audit {
        let log = |name: &str, long| Log {
            path: folder.join(name),
            long,
            file: Mutex::default(),
        };
        Audit {
            changes: log("audit.log", LONG[0]),
            refused: log("refused.log", LONG[1]),
        }
    }

    /// Adds a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&self, entry: &Entry) -> io::Result<()> {
        let end = entry.did.floor_char_boundary(MOST);
        let mut line = serde_json::to_vec(&Entry {
            did: &entry.did[..end],
            from: entry.from.clone(),
            ..*entry
        })?;
        line.push(b'\n');
        if entry.is_strange() {
            // Who may not come in has nothing written to the disk at once.
            self.refused.add(&line, false)
        } else {
            self.changes.add(&line, true)
        }
    }
}

impl Log {
    fn add(&self, line: &[u8], at_once: bool) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file
            .as_ref()
            .is_none_or(|file| file.metadata().is_ok_and(|of| of.len() > self.long))
        {
            *file = Some(self.open()?);
        }
        let written = match file.as_mut() {
            Some(file) if at_once => file.write_all(line).and_then(|()| file.sync_data()),
            Some(file) => file.write_all(line),
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
        if self.path.metadata().is_ok_and(|of| of.len() > self.long) {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.path)
    }
}
