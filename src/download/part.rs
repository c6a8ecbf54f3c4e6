//! A file that is being downloaded: `TARGET.part` grows, `TARGET.download` says which file it is and how much of it is
//! surely on the disk.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DownloadError, Sha256};
use crate::store::atomic;
use crate::store::file_system::{Access, FileSystem, Growing};

/// After so many bytes more they are made safe, so that a power cut costs no more than these.
const CHECKPOINT: u64 = 16 << 20;
/// The largest note that is read.
const MAX_NOTE: u64 = 64 << 10;

/// What is known of the bytes that are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    /// A hash of it: names, passwords and tokens are not written down.
    url: String,
    /// The server's ETag or date: bytes that go with another one are of another file.
    validator: Option<String>,
    sha256: Option<String>,
    /// So many of them outlive a power cut.
    safe: u64,
}

/// The file that is being downloaded. It is locked as long as it is open.
pub struct Part<'a> {
    files: &'a dyn FileSystem,
    target: PathBuf,
    file: Box<dyn Growing>,
    length: u64,
    note: Note,
}

impl Part<'_> {
    /// Opens what is there of the file for `target` from `url`; of another URL's nothing is kept.
    pub fn open<'a>(
        files: &'a dyn FileSystem,
        target: &Path,
        url: &str,
    ) -> Result<Part<'a>, DownloadError> {
        let path = beside(target, ".part");
        let failed = |source| DownloadError::Write {
            path: path.clone(),
            source,
        };
        let Some(file) = files.open_growing(&path).map_err(failed)? else {
            return Err(DownloadError::Busy { path });
        };
        let note = files.read(&beside(target, ".download"), MAX_NOTE);
        let note = note
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // Earlier versions wrote the address itself.
        let hash = format!("blake3:{}", blake3::hash(url.as_bytes()).to_hex());
        let same = |note: &Note| note.url == hash || note.url == url;
        let note = Note {
            url: hash.clone(),
            ..note.filter(same).unwrap_or_default()
        };
        let there = files.size(&path).map_err(failed)?;
        let mut part = Part {
            files,
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

    /// From which byte to resume, and the condition for it; nothing where it must start again.
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
        let size = self.files.size(&self.target).ok()?;
        let whole = same && size == self.note.safe && size > 0;
        if whole {
            let _ = self.files.remove_file(&beside(&self.target, ".part"));
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
        let added = self.file.append(bytes);
        added.map_err(|source| self.failed(source))?;
        self.length += bytes.len() as u64;
        if self.length - self.note.safe >= CHECKPOINT {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Makes what is there outlive a power cut.
    pub fn checkpoint(&mut self) -> Result<(), DownloadError> {
        if self.length == self.note.safe {
            return Ok(());
        }
        self.sync()?;
        self.note.safe = self.length;
        self.write_note()
    }

    /// The hash of what is there.
    pub fn sha256(&mut self) -> Result<Sha256, DownloadError> {
        let found = self.file.content().and_then(Sha256::of);
        found.map_err(|source| self.failed(source))
    }

    /// Puts it at its target, safely.
    pub fn finish(&mut self) -> Result<(), DownloadError> {
        self.sync()?;
        self.note.safe = self.length;
        self.write_note()?;
        let folder = self.target.parent().unwrap_or(Path::new("."));
        self.files
            .rename(&beside(&self.target, ".part"), &self.target)
            .and_then(|()| self.files.sync_dir(folder))
            .map_err(|source| self.failed(source))
    }

    /// Cuts the file to what counts, and goes to its end.
    fn cut(&mut self) -> Result<(), DownloadError> {
        let cut = self.file.cut(self.length);
        cut.map_err(|source| self.failed(source))
    }

    fn write_note(&self) -> Result<(), DownloadError> {
        let path = beside(&self.target, ".download");
        serde_json::to_vec(&self.note)
            .map_err(std::io::Error::from)
            .and_then(|bytes| atomic::write(self.files, &path, &bytes, Access::Usual))
            .map_err(|source| DownloadError::Write { path, source })
    }

    fn sync(&mut self) -> Result<(), DownloadError> {
        let synced = self.file.sync();
        synced.map_err(|source| self.failed(source))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faults::{Fault, FaultyDisk, Survival};

    const URL: &str = "https://h.example/file";
    const TARGET: &str = "/downloads/file";
    const WHOLE: &[u8] = b"all that the server has to give, in pieces of some bytes each";

    /// One run of the program: goes on from what is there, in pieces, each made safe; the bytes that were there before.
    fn download(disk: &FaultyDisk) -> Result<u64, DownloadError> {
        let mut part = Part::open(disk, TARGET.as_ref(), URL)?;
        let sha256 = Sha256::of(WHOLE).ok();
        if part.whole(sha256, Some("v1")).is_some() {
            return Ok(WHOLE.len() as u64);
        }
        let kept = part.length();
        if part.resumable().is_none() {
            part.restart(Some("v1".into()), sha256)?;
        }
        for piece in WHOLE[kept as usize..].chunks(13) {
            part.append(piece)?;
            part.checkpoint()?;
        }
        assert_eq!(part.sha256()?, sha256.unwrap(), "{kept} bytes were kept");
        part.finish()?;
        Ok(kept)
    }

    fn prepared() -> FaultyDisk {
        let disk = FaultyDisk::default();
        atomic::create_folder(&disk, "/downloads".as_ref(), Access::Usual).unwrap();
        disk.count_from_here();
        disk
    }

    #[test]
    fn a_download_goes_on_from_what_is_safe_wherever_it_fails_or_the_power_is_cut() {
        let whole = prepared();
        assert_eq!(download(&whole).unwrap(), 0);
        let (operations, survivals) = (whole.operations(), Survival::all());
        let cuts = survivals.iter().map(|s| (Fault::PowerCut, *s));
        let failures = [Fault::FailOnce, Fault::FailFromThere].map(|f| (f, survivals[0]));
        let (mut tried, mut went_on) = (0, 0);
        for (fault, survival) in cuts.chain(failures) {
            for k in 1..=operations + 1 {
                let disk = prepared();
                disk.fault_at(k, fault);
                let done = download(&disk).is_ok();
                match fault {
                    Fault::PowerCut => disk.restart(survival),
                    _ => disk.heal(),
                }
                let there = disk.read(TARGET.as_ref(), 1000).ok();
                assert!(
                    there.as_deref() == Some(WHOLE) || (there.is_none() && !done),
                    "{fault:?} at {k}, {survival:?}"
                );
                went_on += usize::from(download(&disk).unwrap() > 0);
                assert_eq!(disk.read(TARGET.as_ref(), 1000).unwrap(), WHOLE);
                tried += 1;
            }
        }
        println!("download: {tried} failures and power cuts survived");
        assert!(went_on > tried / 2, "{went_on} of {tried} went on");
    }
}
