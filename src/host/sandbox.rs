//! What a process that decodes pictures and reads models of others gives up before it does: writing anywhere but where it
//! has to, and running programs but those that it needs. Linux holds it, and all that it starts, to that (Landlock, from 5.13
//! on); elsewhere nothing happens. It is no second process, so it protects what is outside, not what this process has in
//! memory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Folders to write below, as far as they are there; `/dev` comes to them.
    pub writable: Vec<&'a Path>,
    /// Programs to run, as far as they are there: no other can be.
    pub programs: Vec<PathBuf>,
}

/// The program that is run where `name` is asked for: the first file of this name in the folders of PATH that may be run.
pub fn program(name: &str) -> Option<PathBuf> {
    program_in(name, &std::env::var_os("PATH")?)
}

fn program_in(name: &str, folders: &OsStr) -> Option<PathBuf> {
    let mut files = std::env::split_paths(folders).map(|folder| folder.join(name));
    files.find(|file| may_be_run(file))
}

#[cfg(unix)]
fn may_be_run(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let found = file.metadata();
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn may_be_run(file: &Path) -> bool {
    file.is_file()
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
    let mut run = kept.programs.clone();
    // A process that hides a password becomes itself once more, and the kernel takes the system's loader for a program.
    run.extend(std::env::current_exe().ok());
    run.extend(["/lib", "/lib64", "/usr/lib"].map(Into::into));
    let status = Ruleset::default()
        .handle_access(write | AccessFs::Execute)?
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

    /// `serve` could have no ffmpeg for cameras that send H.265.
    #[test]
    fn a_program_that_was_kept_can_be_run_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let tools = folder.path().join("tools");
        fs::create_dir(&tools).unwrap();
        let path = std::env::join_paths([&folder.path().join("none"), &tools]).unwrap();
        assert_eq!(program_in("ffmpeg", &path), None);
        let ffmpeg = tools.join("ffmpeg");
        fs::write(&ffmpeg, "only a text").unwrap();
        assert_eq!(program_in("ffmpeg", &path), None);
        for name in ["ffmpeg", "other"] {
            fs::copy("/bin/true", tools.join(name)).unwrap();
        }
        assert_eq!(program_in("ffmpeg", &path), Some(ffmpeg.clone()));
        let run = |name: &str| Command::new(tools.join(name)).status();
        assert!(run("other").unwrap().success());
        let held = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kept = Kept {
                    writable: vec![folder.path()],
                    programs: vec![ffmpeg, "/not/there".into()],
                };
                let held = enter(&kept);
                assert!(run("ffmpeg").unwrap().success());
                if held {
                    // What is put there afterwards is another program.
                    fs::rename(tools.join("other"), tools.join("ffmpeg2")).unwrap();
                    assert!(run("ffmpeg2").is_err() && Command::new("/bin/true").status().is_err());
                }
                held
            });
            inside.join().unwrap()
        });
        println!("held to it: {held}");
    }

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
                    programs: Vec::new(),
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
