//! Cameras of this machine: which there are, and whether this account may open them.

use super::Finding;
use super::machine::Machine;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::PathBuf;

const OTHER_SOURCES: &str =
    "plug one in, or use --camera - (a pipe: CSI cameras come so), http://HOST/PATH or dir:PATH";

/// What can be said of the cameras.
pub fn check(machine: &Machine) -> Vec<Finding> {
    if cfg!(not(feature = "camera")) {
        let says = "this program was built without cameras of its own";
        return vec![Finding::warning("camera", says, OTHER_SOURCES)];
    }
    let devices = devices(machine);
    if devices.is_empty() {
        let says = "no camera is connected";
        return vec![Finding::warning("camera", says, OTHER_SOURCES)];
    }
    let closed: Vec<Finding> = devices.iter().filter_map(closed).collect();
    if !closed.is_empty() {
        return closed;
    }
    asked()
}

/// `/dev/video0` and so on.
fn devices(machine: &Machine) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(machine.path("dev")) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("video"));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Why a device cannot be opened, if it cannot.
fn closed(device: &PathBuf) -> Option<Finding> {
    let error = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .err()?;
    let device = device.display();
    Some(match error.kind() {
        ErrorKind::PermissionDenied => Finding::problem(
            "camera",
            format!("this account may not open {device}"),
            "sudo usermod -aG video \"$USER\", then log in again",
        ),
        _ => Finding::problem(
            "camera",
            format!("{device} cannot be opened ({error})"),
            "unplug it and plug it in again, and see `dmesg`",
        ),
    })
}

/// What the cameras themselves answer.
#[cfg(feature = "camera")]
fn asked() -> Vec<Finding> {
    use std::sync::mpsc;
    use std::time::Duration;

    // Some drivers never answer: such a thread is left behind.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(crate::frames::v4l2::list()));
    let cameras = match receiver.recv_timeout(Duration::from_secs(5)) {
        Ok(Ok(cameras)) => cameras,
        Ok(Err(error)) => {
            return vec![Finding::problem("camera", error.to_string(), "see `dmesg`")];
        }
        Err(_) => {
            return vec![Finding::problem(
                "camera",
                "a camera does not answer",
                "unplug it and plug it in again",
            )];
        }
    };
    let findings = cameras.iter().map(|camera| {
        let name = format!("--camera {} is {}", camera.index, camera.name);
        match &camera.problem {
            Some(problem) => Finding::problem(
                "camera",
                format!("{name}: {problem}"),
                "end the program that uses it, or plug it in again",
            ),
            None => Finding::fine(
                "camera",
                format!("{name}, {} formats", camera.formats.len()),
            ),
        }
    });
    findings.collect()
}

#[cfg(not(feature = "camera"))]
fn asked() -> Vec<Finding> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn only_video_devices_are_cameras() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dev")).unwrap();
        for name in ["video10", "video2", "video-dec", "media0", "videos"] {
            fs::write(dir.path().join("dev").join(name), "").unwrap();
        }
        let found = devices(&Machine::at(dir.path()));
        assert!(found[0].ends_with("video10") && found[1].ends_with("video2"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_device_that_cannot_be_opened_is_a_problem_with_a_cure() {
        let gone = closed(&PathBuf::from("nowhere/video0")).unwrap();
        assert_eq!(gone.state, State::Problem);
        assert!(gone.says.contains("nowhere/video0") && gone.cure.is_some());
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(closed(&file.path().to_owned()), None);
    }
}
