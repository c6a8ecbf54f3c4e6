//! Small files of a home folder that only save time: each can be lost, and is made again.

use super::Home;
use crate::store::atomic;
use crate::store::file_system::Access;
use std::io;
use std::path::PathBuf;

/// The longest file that is read back.
const MAX_CACHED_BYTES: u64 = 64 << 10;

impl Home {
    /// What was kept under `name`, if it is there and can be read.
    pub fn cached(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.cache_folder().join(name);
        let bytes = self.files.read(&file, MAX_CACHED_BYTES).ok()?;
        (bytes.len() as u64 <= MAX_CACHED_BYTES).then_some(bytes)
    }

    /// Keeps `bytes` under `name`, whole or not at all. A home folder that holds nothing yet is
    /// left alone: looking leaves no trace.
    ///
    /// # Errors
    /// If it cannot be written; nothing is lost but the time that it would save.
    pub fn cache(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.files.list(self.root())?.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let folder = self.cache_folder();
        atomic::create_folder(&*self.files, &folder, Access::Usual)?;
        atomic::write(&*self.files, &folder.join(name), bytes, Access::Usual)
    }

    fn cache_folder(&self) -> PathBuf {
        self.root.join("cache")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faults::{Fault, FaultyDisk, Survival};
    use std::sync::Arc;

    #[test]
    fn whatever_fails_or_wherever_the_power_is_cut_a_cached_file_is_whole_or_absent() {
        let prepared = || {
            let disk = FaultyDisk::default();
            let home = Home::with_files("/home", Arc::new(disk.clone()));
            atomic::create_folder(&disk, "/home/prompts".as_ref(), Access::Usual).unwrap();
            home.cache("kernels", b"the old choice").unwrap();
            disk.count_from_here();
            (disk, home)
        };
        let run = |home: &Home| home.cache("kernels", b"the new choice");
        let (disk, home) = prepared();
        run(&home).unwrap();
        let (operations, survivals) = (disk.operations(), Survival::all());
        let cuts = survivals.iter().map(|s| (Fault::PowerCut, *s));
        let failures = [Fault::FailOnce, Fault::FailFromThere].map(|f| (f, survivals[0]));
        let mut tried = 0;
        for (fault, survival) in cuts.chain(failures) {
            for k in 1..=operations + 1 {
                let (disk, home) = prepared();
                disk.fault_at(k, fault);
                let done = run(&home).is_ok();
                match fault {
                    Fault::PowerCut => disk.restart(survival),
                    _ => disk.heal(),
                }
                let found = home.cached("kernels").unwrap();
                assert!(
                    found == b"the new choice" || (found == b"the old choice" && !done),
                    "{fault:?} at {k}, {survival:?}"
                );
                tried += 1;
            }
        }
        println!("cache: {tried} failures and power cuts survived");
    }

    #[test]
    fn what_is_cached_is_read_back_but_makes_no_home() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        assert!(home.cache("kernels", b"some").is_err());
        assert!(!home.root().exists());
        std::fs::create_dir_all(home.root().join("prompts")).unwrap();
        assert_eq!(home.cached("kernels"), None);
        home.cache("kernels", b"some").unwrap();
        assert_eq!(home.cached("kernels").as_deref(), Some(&b"some"[..]));
        home.cache("kernels", b"other").unwrap();
        assert_eq!(home.cached("kernels").as_deref(), Some(&b"other"[..]));
        home.cache("kernels", &vec![0; MAX_CACHED_BYTES as usize + 1])
            .unwrap();
        assert!(home.cached("kernels").is_none(), "it is too long");
    }
}
