//! The program of this process, and the processes of this machine that carry a mark in their environment, and all that descend
//! from them: what a command has started, also where it went into a session of its own. Linux tells that in /proc; elsewhere
//! nothing is found.

use std::collections::HashMap;
use std::path::PathBuf;
use std::{fs, io};

/// The program of this process, to be started once more: also where its file was replaced meanwhile, as an update does.
///
/// # Errors
/// If the system does not say.
pub fn this_program() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    match running.metadata() {
        Ok(_) => Ok(running),
        Err(_) => std::env::current_exe(),
    }
}

/// A process that carries a mark, or descends from one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its number.
    pub id: u32,
    /// What stands in its environment, or in that of its nearest ancestor that carries the mark.
    pub mark: String,
}

/// The processes whose environment, as they were started with it, has a variable `name`, and their descendants. Those of
/// other accounts keep their environment to themselves.
pub fn marked(name: &str) -> Vec<Marked> {
    let start = format!("{name}=").into_bytes();
    let mut own = HashMap::new();
    let mut parents = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|id| id.parse().ok()) else {
            continue;
        };
        // Any of them may end while it is looked at.
        let folder = entry.path();
        let Some(parent) = fs::read(folder.join("stat"))
            .ok()
            .and_then(|stat| running_parent(&stat))
        else {
            continue;
        };
        parents.insert(id, parent);
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        let mut variables = environment.split(|&byte| byte == 0);
        if let Some(mark) = variables.find_map(|variable| variable.strip_prefix(&start[..])) {
            own.insert(id, String::from_utf8_lossy(mark).into_owned());
        }
    }
    let mark_of = |id: u32| {
        let mut at = id;
        // What is read at different moments may lead in a circle.
        for _ in 0..parents.len() {
            if let Some(mark) = own.get(&at) {
                return Some(mark.clone());
            }
            at = *parents.get(&at)?;
        }
        None
    };
    let found = parents
        .keys()
        .filter_map(|&id| mark_of(id).map(|mark| Marked { id, mark }));
    found.collect()
}

/// The parent that a line of /proc/N/stat names; none of a process that has ended and only waits to be asked for.
fn running_parent(stat: &[u8]) -> Option<u32> {
    // The name stands in parentheses, and may hold others.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = stat.get(after_name..)?.split(|&byte| byte == b' ').skip(1);
    let state = fields.next()?;
    let parent = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    (!matches!(state, b"Z" | b"X")).then_some(parent)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(running_parent(b"7 (a) S 9) Z 3 4) S 12 7 7 0"), Some(12));
        assert_eq!(running_parent(b"7 (sh) Z 12 7 7 0"), None);
        assert_eq!(running_parent(b"7 (sh"), None);
        assert_eq!(running_parent(b""), None);
    }

    #[test]
    fn a_mark_is_found_in_another_session_and_on_children_that_cleared_their_environment() {
        let script = "setsid sh -c 'env -i sleep 60; :'; :";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .env("RLP_TEST_MARK", "a mark")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut found = Vec::new();
        // The outer shell, the one with a session of its own, and the one that sleeps.
        while found.len() < 3 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            found = marked("RLP_TEST_MARK");
        }
        for process in &found {
            let id = i32::try_from(process.id).unwrap();
            let id = rustix::process::Pid::from_raw(id).unwrap();
            // One whose child was ended just now may have ended by itself.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
        child.wait().unwrap();
        assert!(found.len() >= 3, "{found:?}");
        assert!(found.iter().all(|process| process.mark == "a mark"));
        assert!(marked("RLP_TEST_MARK_OF_NOBODY").is_empty());
    }

    use std::os::unix::process::CommandExt;
}
