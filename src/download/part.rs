//! A file on its way: `TARGET.part` grows, `TARGET.download` says of what and how much of it is surely on the disk. It
//! must not know the network.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DownloadError, Sha256};
use crate::store::atomic;
use crate::store::file_system::{Disk, FileSystem as _};

/// After so many bytes more they are made safe, so that a power cut costs no more than these.
const CHECKPOINT: u64 = 16 << 20;
/// The largest note that is read.
const MAX_NOTE: u64 = 64 << 10;

/// What is known of the bytes that are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    url: String,
    /// The server's ETag or date: bytes that go with another one are of another file.
    validator: Option<String>,
    sha256: Option<String>,
    /// So many of them outlive a power cut.
    safe: u64,
}

/// The file on its way. It is locked as long as it is open.
pub struct Part {
    target: PathBuf,
    file: File,
    length: u64,
    note: Note,
}

impl Part {
    /// Opens what is there of the file for `target` from `url`; of another URL's nothing is kept.
    pub fn open(target: &Path, url: &str) -> Result<Part, DownloadError> {
        let path = beside(target, ".part");
        let failed = |source| DownloadError::Write {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(DownloadError::Busy { path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Ok(()) => {}
        }
        let note = Disk.read(&beside(target, ".download"), MAX_NOTE);
        let note = note
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let note = note.filter(|note: &Note| note.url == url).unwrap_or(Note {
            url: url.into(),
            ..Note::default()
        });
        let there = file.metadata().map_err(failed)?.len();
        let mut part = Part {
            target: target.into(),
            file,
            length: there.min(note.safe),
            note,
        };
        if part.note.validator.is_none() {
            part.length = 0;
        }
        part.cut()?;
        Ok(part)
    }

    /// How many bytes are there.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// From where to go on, and on which condition; nothing where it must begin anew.
    pub fn resumable(&self) -> Option<(u64, &str)> {
        let validator = self.note.validator.as_deref()?;
        (self.length > 0).then_some((self.length, validator))
    }

    /// The size of the target, if it is there and still the file that the server has.
    pub fn whole(&self, sha256: Option<Sha256>, validator: Option<&str>) -> Option<u64> {
        if self.length > 0 {
            return None;
        }
        let same = match (sha256, &self.note.sha256) {
            (Some(sha256), Some(known)) => sha256.to_string() == *known,
            (Some(_), None) => false,
            (None, _) => validator.is_some() && validator == self.note.validator.as_deref(),
        };
        let size = self
            .target
            .metadata()
            .ok()
            .filter(fs::Metadata::is_file)?
            .len();
        let whole = same && size == self.note.safe && size > 0;
        if whole {
            let _ = fs::remove_file(beside(&self.target, ".part"));
        }
        whole.then_some(size)
    }

    /// Throws away what is there; what comes is known by `validator`.
    pub fn restart(
        &mut self,
        validator: Option<String>,
        sha256: Option<Sha256>,
    ) -> Result<(), DownloadError> {
        self.length = 0;
        self.note.safe = 0;
        self.note.validator = validator;
        self.expect(sha256);
        self.cut()?;
        self.write_note()
    }

    /// Notes what it must hash to, where that is known.
    pub fn expect(&mut self, sha256: Option<Sha256>) {
        self.note.sha256 = sha256.map(|sha256| sha256.to_string());
    }

    /// What it must hash to.
    pub fn expected(&self) -> Option<Sha256> {
        Sha256::from_hex(self.note.sha256.as_deref()?)
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        self.file
            .write_all(bytes)
            .map_err(|source| self.failed(source))?;
        self.length += bytes.len() as u64;
        match self.length - self.note.safe >= CHECKPOINT {
            true => self.checkpoint(),
            false => Ok(()),
        }
    }

    /// Makes what is there outlive a power cut.
    pub fn checkpoint(&mut self) -> Result<(), DownloadError> {
        if self.length == self.note.safe {
            return Ok(());
        }
        self.file
            .sync_data()
            .map_err(|source| self.failed(source))?;
        self.note.safe = self.length;
        self.write_note()
    }

    /// The hash of what is there.
    pub fn sha256(&mut self) -> Result<Sha256, DownloadError> {
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| Sha256::of(&self.file))
            .map_err(|source| self.failed(source))
    }

    /// Puts it at its target, safely.
    pub fn finish(&mut self) -> Result<(), DownloadError> {
        self.file.sync_all().map_err(|source| self.failed(source))?;
        self.note.safe = self.length;
        self.write_note()?;
        fs::rename(beside(&self.target, ".part"), &self.target)
            .and_then(|()| Disk.sync_dir(self.target.parent().unwrap_or(Path::new("."))))
            .map_err(|source| self.failed(source))
    }

    /// Cuts the file to what counts, and goes to its end.
    fn cut(&mut self) -> Result<(), DownloadError> {
        self.file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::End(0)))
            .map(|_| ())
            .map_err(|source| self.failed(source))
    }

    fn write_note(&self) -> Result<(), DownloadError> {
        let path = beside(&self.target, ".download");
        serde_json::to_vec(&self.note)
            .map_err(std::io::Error::from)
            .and_then(|bytes| atomic::write(&Disk, &path, &bytes))
            .map_err(|source| DownloadError::Write { path, source })
    }

    fn failed(&self, source: std::io::Error) -> DownloadError {
        DownloadError::Write {
            path: beside(&self.target, ".part"),
            source,
        }
    }
}

fn beside(target: &Path, end: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(end);
    target.with_file_name(name)
}
