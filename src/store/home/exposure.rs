//! Who else can look into a home folder: its owner, where that is another account, and all that its modes let.

use super::{Home, shots::SHOTS};
use std::path::{Path, PathBuf};

/// What of a home folder others can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// It belongs to another account, which can change what it likes.
    Owner {
        /// The home folder.
        path: PathBuf,
        /// The number of that account.
        account: u32,
    },
    /// Others can enter it: mode bits.
    Home {
        /// The home folder.
        path: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
    /// So many shots, or folders of shots, that others can look at, the first among them.
    Shots {
        /// The first of them.
        first: PathBuf,
        /// How many there are.
        count: usize,
    },
}

impl Home {
    /// What of this folder others can reach, as far as its file system knows accounts.
    pub fn exposures(&self) -> Vec<Exposure> {
        #[cfg(unix)]
        {
            let mut found = of_root(&self.root);
            let mut open = Vec::new();
            open_below(&self.root.join(SHOTS), &mut open);
            if let Some(first) = open.first() {
                found.push(Exposure::Shots {
                    first: first.clone(),
                    count: open.len(),
                });
            }
            found
        }
        #[cfg(not(unix))]
        Vec::new()
    }
}

#[cfg(unix)]
fn of_root(root: &Path) -> Vec<Exposure> {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = std::fs::metadata(root) else {
        return Vec::new();
    };
    let path = || root.to_owned();
    let mut found = Vec::new();
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        found.push(Exposure::Owner {
            path: path(),
            account: metadata.uid(),
        });
    }
    if metadata.mode() & 0o077 != 0 {
        found.push(Exposure::Home {
            path: path(),
            mode: metadata.mode() & 0o7777,
        });
    }
    found
}

/// What lies in a folder of shots, four levels down, that others can look at, and the folder itself.
#[cfg(unix)]
fn open_below(folder: &Path, open: &mut Vec<PathBuf>) {
    use std::os::unix::fs::MetadataExt;
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let is_open = |path: &Path| {
            let found = std::fs::symlink_metadata(path);
            found.is_ok_and(|found| !found.is_symlink() && found.mode() & 0o077 != 0)
        };
        if is_open(&folder) {
            open.push(folder.clone());
        }
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < 3 => folders.push((entry.path(), depth + 1)),
                Ok(kind) if kind.is_file() && is_open(&entry.path()) => open.push(entry.path()),
                _ => {}
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_others_can_reach_is_found_and_what_is_made_here_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().join("home"));
        assert_eq!(home.exposures(), []);
        let shot = home.add_shot("shelf", "mug", b"x").unwrap();
        assert_eq!(home.exposures(), []);
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(home.root(), 0o755);
        set(&shot.path, 0o644);
        let [Exposure::Home { mode: 0o755, .. }, shots] = &home.exposures()[..] else {
            panic!("{:?}", home.exposures());
        };
        let first = shot.path.clone();
        assert_eq!(*shots, Exposure::Shots { first, count: 1 });
        set(shot.path.parent().unwrap(), 0o750);
        assert!(matches!(
            home.exposures()[1],
            Exposure::Shots { count: 2, .. }
        ));
    }
}
