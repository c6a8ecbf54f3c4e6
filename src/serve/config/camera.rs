//! What the configuration says of one camera.

use std::path::PathBuf;
use std::time::Duration;

use crate::frames::camera_file::{CameraFile, CameraFileError};
use crate::frames::{
    CameraOptions, CameraSource, CaptureFormat, Frames, FramesError, Login, Trust,
};
use crate::prompt::{Area, Region};
use crate::watch::{MotionGate, WatchOptions};

/// The name of the only region of a camera that is looked at whole.
pub const WHOLE: &str = "whole";
/// How often a picture is named where nothing is said.
const PACE: Duration = Duration::from_millis(200);
/// Demo scenes of no other command.
const SEED: u64 = 3_000_000;
/// How long the demo camera shows a scene: so long as it takes to look at it and to tap a label.
const DEMO_PACE: Duration = Duration::from_secs(3);

/// A camera, and what is done with its pictures.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CameraConfig {
    /// What people call it.
    pub name: String,
    /// Where its pictures come from. Shown without a password; [`CameraConfig::address`] has it.
    pub source: CameraSource,
    /// The source as it stands in the file, with a password if it has one.
    pub address: String,
    /// Its login, where that stands beside the address.
    pub login: Option<Login>,
    /// A file with its login, as `classify --camera-config` has it; read whenever the camera is opened.
    pub login_file: Option<PathBuf>,
    /// What it is asked for, how long it is waited for, whom it is trusted to be.
    pub options: CameraOptions,
    /// The time between two pictures that are named.
    pub every: Option<Duration>,
    /// The time over which answers are averaged.
    pub smooth: Duration,
    /// Answers alike that make a change.
    pub confirm: usize,
    /// Names only where something changes.
    pub motion: Option<MotionGate>,
    /// One that sends the same picture for so long has frozen.
    pub frozen_after: Option<Duration>,
    /// What is looked at, each by itself; one region called [`WHOLE`] where the file names none.
    pub regions: Vec<RegionConfig>,
}

/// A part of a camera's pictures, and what names it.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionConfig {
    /// What people call it.
    pub name: String,
    /// Where it lies; none for the whole picture.
    pub area: Option<Area>,
    /// The prompt that names it.
    pub prompt: String,
    /// It shows "unknown" where the best label's probability is lower, in `0..=1`; none for what the prompt learnt.
    pub threshold: Option<f32>,
}

impl RegionConfig {
    /// As the library cuts it out; none for the whole picture.
    pub fn region(&self) -> Option<Region> {
        self.area.map(|area| Region {
            name: self.name.clone(),
            area,
        })
    }
}

impl CameraConfig {
    /// The region of this name.
    pub fn region(&self, name: &str) -> Option<&RegionConfig> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// The camera to open, with its login.
    ///
    /// # Errors
    /// If there is a file with the login, and it cannot be used.
    pub fn source(&self) -> Result<CameraSource, CameraFileError> {
        let login = match &self.login_file {
            Some(path) => CameraFile::read(path)?.login(),
            None => self.login.clone(),
        };
        Ok(match &login {
            Some(login) => self.source.clone().with_login(login),
            None => self.source.clone(),
        })
    }

    /// Opens it.
    ///
    /// # Errors
    /// If it cannot be, or the file with its login cannot be used.
    pub fn open(&self) -> Result<Frames, FramesError> {
        let hash = blake3::hash(self.name.as_bytes());
        let bytes = hash.as_bytes();
        // Each camera that draws draws scenes of its own.
        let seed = SEED + u64::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        self.source()?.open(seed, &self.capture_options())
    }

    /// How it is opened: no picture is decoded that comes sooner than it is looked at, where that can be told.
    pub fn capture_options(&self) -> CameraOptions {
        self.options.with_interval(self.watch_options().pace)
    }

    /// Whether its pictures are drawn, a scene after the other.
    pub fn is_drawn(&self) -> bool {
        matches!(self.source, CameraSource::Demo(_))
    }

    /// How it is watched; its regions are left to the caller.
    pub fn watch_options(&self) -> WatchOptions {
        let usual = if self.is_drawn() { DEMO_PACE } else { PACE };
        WatchOptions {
            smooth: self.smooth,
            confirm: self.confirm,
            pace: self.every.unwrap_or(usual),
            motion: self.motion,
            frozen_after: self.frozen_after,
            ..WatchOptions::default()
        }
    }

    /// Whether the file holds a password for it.
    pub fn has_password(&self) -> bool {
        let of_address = match &self.source {
            CameraSource::Http(url) | CameraSource::Rtsp(url) => {
                url.login().is_some_and(|login| !login.password.is_empty())
            }
            _ => false,
        };
        let login = self.login.as_ref();
        of_address || login.is_some_and(|login| !login.password.is_empty())
    }

    /// Whether any certificate is taken for the camera's.
    pub fn trusts_anyone(&self) -> bool {
        self.options.trust == Trust::Anyone
    }

    /// What it is asked for.
    pub fn format(&self) -> Option<CaptureFormat> {
        self.options.format
    }
}
