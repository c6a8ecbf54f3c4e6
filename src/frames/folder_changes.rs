//! The files of a folder and of those in it that the system says have changed, as far as it can say: file systems shared over
//! a network tell only of what this machine does.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::folder::{is_looked_into, is_picture_below};

/// Names that are kept until somebody asks for them; with more, all files may have changed.
const MOST_NAMES: usize = 10_000;

/// What changes in a folder.
pub(super) struct Changes {
    noticed: Arc<Noticed>,
    /// Tells as long as it is kept.
    watcher: RecommendedWatcher,
    root: PathBuf,
    /// The folders that it tells of, whatever has their names now.
    followed: HashMap<PathBuf, Identity>,
}

/// Files that may have changed.
pub(super) enum Names {
    /// Their paths below the folder.
    These(Vec<PathBuf>),
    /// So many that they were not counted, or there are new folders, or the system has lost track.
    All,
}

#[derive(Default)]
struct Noticed {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    names: HashSet<PathBuf>,
    all: bool,
    /// What is no picture and has lost its name: folders among it are no longer followed.
    gone: HashSet<PathBuf>,
}

impl Changes {
    /// Of the folder at `root`, and of those in it that are [followed](Changes::follow), from now on; none where the system
    /// cannot tell of all changes.
    pub fn of(root: &Path) -> Option<Changes> {
        if is_shared(root) {
            return None;
        }
        // The system tells of changes by paths from the top.
        let root = std::path::absolute(root).ok()?;
        let noticed = Arc::new(Noticed::default());
        let of_watcher = Arc::clone(&noticed);
        let below = root.clone();
        let note = move |event| of_watcher.note(&below, event);
        let mut changes = Changes {
            noticed,
            watcher: notify::recommended_watcher(note).ok()?,
            root,
            followed: HashMap::new(),
        };
        changes.follow(Path::new("")).then_some(changes)
    }

    /// Tells of the folder at `relative` below the root, too. False where the system cannot tell of another.
    pub fn follow(&mut self, relative: &Path) -> bool {
        let path = self.root.join(relative);
        let Some(found) = identity(&path) else {
            // It has gone again.
            self.followed.remove(relative);
            return true;
        };
        match self.followed.get(relative) {
            Some(known) if *known == found => return true,
            // What had the name before tells nothing any more.
            Some(_) => drop(self.watcher.unwatch(&path)),
            None => {}
        }
        let following = self.watcher.watch(&path, RecursiveMode::NonRecursive);
        if following.is_ok() {
            self.followed.insert(relative.to_owned(), found);
        }
        following.is_ok() || fs::read_dir(&path).is_err()
    }

    /// What may have changed since this was last asked.
    pub fn take(&mut self) -> Names {
        let mut state = self.noticed.lock();
        for path in std::mem::take(&mut state.gone) {
            // Another folder may get the name, and even the number.
            if self.followed.remove(&path).is_some() {
                let _ = self.watcher.unwatch(&self.root.join(path));
                state.all = true;
            }
        }
        let names = std::mem::take(&mut state.names);
        if std::mem::take(&mut state.all) {
            Names::All
        } else {
            Names::These(names.into_iter().collect())
        }
    }

    /// Waits for a change, `longest` at most.
    pub fn wait(&self, longest: Duration) {
        let state = self.noticed.lock();
        if !state.all && state.names.is_empty() {
            // Woken early for nothing: no harm.
            drop(self.noticed.changed.wait_timeout(state, longest));
        }
    }
}

impl Noticed {
    fn note(&self, root: &Path, event: notify::Result<notify::Event>) {
        let mut state = self.lock();
        match event {
            Ok(event) if event.need_rescan() => state.all = true,
            // Reading changes nothing.
            Ok(event)
                if matches!(event.kind, EventKind::Access(kind)
                    if kind != AccessKind::Close(AccessMode::Write)) =>
            {
                return;
            }
            Ok(event) => {
                let renamed = EventKind::is_remove(&event.kind)
                    || matches!(event.kind, EventKind::Modify(ModifyKind::Name(_)));
                for path in event.paths {
                    let Ok(below) = path.strip_prefix(root) else {
                        continue;
                    };
                    if is_picture_below(below) {
                        state.names.insert(below.to_owned());
                    } else if is_looked_into(below) && path.is_dir() {
                        state.all = true;
                    } else if renamed && state.gone.len() < MOST_NAMES {
                        state.gone.insert(below.to_owned());
                    }
                }
            }
            Err(_) => state.all = true,
        }
        if state.names.len() > MOST_NAMES {
            state.all = true;
        }
        if state.all {
            state.names = HashSet::new();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// What a panic left behind is whole: names are only added.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What distinguishes a folder from every other one that gets its name.
pub(super) type Identity = (u64, u64);

/// That of the folder at `path`; none where there is none.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let created = metadata.created().ok()?;
        let since = created.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some((since.as_secs(), since.subsec_nanos().into()))
    }
}

/// Whether the folder lies on a file system that other machines write to, or that a program of its own serves.
fn is_shared(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        /// NFS, CIFS and SMB, FUSE, 9P, Ceph, AFS, Coda, NCP, GFS2, OCFS2, Lustre, GPFS, VirtualBox (linux/magic.h, statfs(2)).
        const SHARED: [u64; 17] = [
            0x6969,
            0xff53_4d42,
            0xfe53_4d42,
            0x517b,
            0x6573_5546,
            0x0102_1997,
            0x00c3_6400,
            0x5346_414f,
            0x6b41_4653,
            0x7375_7245,
            0x564c,
            0x0116_1970,
            0x7461_636f,
            0x0bd0_0bd0,
            0x4750_4653,
            0x786f_4256,
            0x7363_6673,
        ];
        rustix::fs::statfs(path)
            .is_ok_and(|found| SHARED.contains(&(found.f_type as u64 & 0xffff_ffff)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_names_becomes_all_and_takes_no_more_memory() {
        let noticed = Noticed::default();
        let event = |name: usize| {
            let kind = EventKind::Create(notify::event::CreateKind::File);
            Ok(notify::Event::new(kind).add_path(format!("/x/{name}.jpg").into()))
        };
        (0..100).for_each(|name| noticed.note(Path::new("/x"), event(name)));
        assert_eq!(noticed.lock().names.len(), 100);
        (0..100).for_each(|name| noticed.note(Path::new("/x"), event(name)));
        assert_eq!(noticed.lock().names.len(), 100);
        (0..3 * MOST_NAMES).for_each(|name| noticed.note(Path::new("/x"), event(name)));
        assert!(noticed.lock().all && noticed.lock().names.is_empty());
    }
}
