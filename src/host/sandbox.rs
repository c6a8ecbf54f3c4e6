//! What a process that decodes pictures and reads models of others gives up before it does: writing anywhere but where it
//! has to, and, where it needs none, running programs. Linux holds it, and all that it starts, to that (Landlock, from 5.13 on); elsewhere nothing
//! happens. It is no second process, so it protects what is outside, not what this process has in memory.

use std::path::Path;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Folders to write below, as far as they are there; `/dev` comes to them.
    pub writable: Vec<&'a Path>,
    /// Whether other programs may be run.
    pub programs: bool,
}

/// Gives up all that is not `kept`, for good; for the calling thread and those that it starts from then on. Whether the
/// system holds it to that.
pub fn enter(kept: &Kept) -> bool {
    #[cfg(target_os = "linux")]
    {
        restricted(kept).unwrap_or(false)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = kept;
        false
    }
}

#[cfg(target_os = "linux")]
fn restricted(kept: &Kept) -> Result<bool, landlock::RulesetError> {
    use landlock::{
        ABI, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, path_beneath_rules,
    };
    // Later versions of the interface add ways of writing that are not used here.
    let write = AccessFs::from_write(ABI::V3);
    let mut given_up = write;
    let mut run = Vec::new();
    if !kept.programs {
        given_up |= AccessFs::Execute;
        // A process that hides a password becomes itself once more, and the kernel takes the system's loader for a program.
        run.extend(std::env::current_exe().ok());
        run.extend(["/lib", "/lib64", "/usr/lib"].map(Into::into));
    }
    let status = Ruleset::default()
        .handle_access(given_up)?
        .create()?
        .add_rules(path_beneath_rules(&kept.writable, write))?
        // Cameras, terminals, the null device.
        .add_rules(path_beneath_rules(["/dev"], AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(run, AccessFs::Execute))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    #[test]
    fn nothing_is_written_or_run_but_what_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("mine")).unwrap();
        fs::write(at("theirs"), "theirs").unwrap();
        // Of this thread alone: other tests go on.
        let held = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let mine = at("mine");
                let kept = Kept {
                    writable: vec![&mine],
                    programs: false,
                };
                if !enter(&kept) {
                    return false;
                }
                fs::write(at("mine/file"), "mine").unwrap();
                fs::rename(at("mine/file"), at("mine/other")).unwrap();
                assert_eq!(fs::read_to_string(at("theirs")).unwrap(), "theirs");
                for refused in [
                    fs::write(at("theirs"), "mine"),
                    fs::write(at("new"), "mine"),
                    fs::remove_file(at("theirs")),
                    fs::rename(at("mine/other"), at("other")),
                    Command::new("/bin/sh")
                        .args(["-c", "true"])
                        .status()
                        .map(drop),
                ] {
                    assert!(refused.is_err());
                }
                fs::write("/dev/null", "x").unwrap();
                true
            });
            inside.join().unwrap()
        });
        println!("held to it: {held}");
        assert_eq!(fs::read_to_string(at("theirs")).unwrap(), "theirs");
        assert!(!at("new").exists());
    }
}
