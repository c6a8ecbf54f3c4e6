//! `edge-rlp.toml`: which cameras there are, what is looked at in their pictures, and how long pictures are kept. The file is
//! read and checked as a whole before anything of it is used; what is wrong with it is said with line and column. Changes
//! made elsewhere than in an editor go through [`ConfigFile::edit`], which keeps comments and writes atomically.

#[cfg(feature = "mqtt")]
mod broker;
mod camera;
mod edit;
#[cfg(feature = "fleet")]
mod fleet;
mod read;
#[cfg(test)]
mod tests;

#[cfg(feature = "mqtt")]
pub use broker::BrokerConfig;
pub use camera::{CameraConfig, RegionConfig, WHOLE};
pub use edit::{
    Fields, put_camera, put_region, remove_camera, remove_region, set_in_region, share,
};
#[cfg(feature = "fleet")]
pub use fleet::FleetConfig;
pub use read::parse;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use toml_edit::DocumentMut;

use super::listen::Tls;
use crate::store::atomic;
use crate::store::file_system::{Access, Disk, FileSystem};

/// What the file is called where nothing else is said.
pub const FILE_NAME: &str = "edge-rlp.toml";
/// The longest file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// The port that is listened at.
const PORT: u16 = 8080;

/// What is wrong, and the bytes where it stands.
type Fault = (Range<usize>, String);

/// What the file says, checked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where the page and the API are served.
    pub listen: SocketAddr,
    /// What the page speaks, unless the browser asks for something else.
    pub language: String,
    /// The model of regions whose prompt was not trained yet; none for the one inside the program.
    pub model: Option<String>,
    /// Who may come in.
    pub access: AccessConfig,
    /// How long shots are kept.
    pub shots: ShotsConfig,
    /// What is kept of pictures that are worth labelling.
    pub recent: RecentConfig,
    /// How prompts are trained.
    pub training: TrainingConfig,
    /// A broker that is reported to.
    #[cfg(feature = "mqtt")]
    pub mqtt: Option<BrokerConfig>,
    /// A group whose prompts are taken.
    #[cfg(feature = "fleet")]
    pub fleet: Option<FleetConfig>,
    /// The cameras, in the order of the file.
    pub cameras: Vec<CameraConfig>,
}

/// `[access]`: who may come in.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AccessConfig {
    /// Names that the page is called by, beside addresses of this machine.
    pub hosts: Vec<String>,
    /// A certificate chain and its key, both as PEM files, for https.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How long a session lasts without use.
    pub session: Option<Duration>,
    /// Whether a proxy on this machine says for whom it asks, with `X-Forwarded-For`.
    pub behind_proxy: bool,
}

/// `[shots]`: labelled pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShotsConfig {
    /// How old a shot may become; none for ever.
    pub keep_for: Option<Duration>,
    /// How many a prompt may have: no more are taken then.
    pub pictures: usize,
    /// How many bytes they may have together.
    pub bytes: u64,
}

/// `[recent]`: pictures that are worth labelling.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentConfig {
    /// How old one may become.
    pub keep_for: Duration,
    /// How many of a camera.
    pub pictures: usize,
    /// How many bytes of a camera.
    pub bytes: u64,
}

/// `[training]`: how prompts are trained, beside watching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrainingConfig {
    /// How much it steps back behind the cameras, as `nice` does.
    pub nice: u8,
    /// Views of each picture to train on: itself and random crops.
    pub views: usize,
    /// Training steps at most; none for as many as `adapt` takes.
    pub steps: Option<usize>,
}

impl Default for TrainingConfig {
    fn default() -> TrainingConfig {
        TrainingConfig {
            nice: 10,
            views: 4,
            steps: None,
        }
    }
}

impl Default for ShotsConfig {
    fn default() -> ShotsConfig {
        ShotsConfig {
            keep_for: None,
            pictures: 10_000,
            bytes: 2 << 30,
        }
    }
}

impl Default for RecentConfig {
    fn default() -> RecentConfig {
        RecentConfig {
            keep_for: Duration::from_secs(7 * 24 * 60 * 60),
            pictures: 200,
            bytes: 50 << 20,
        }
    }
}

impl Default for Config {
    /// No camera; the page is served on loopback.
    fn default() -> Config {
        Config {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
            language: "en".into(),
            model: None,
            access: AccessConfig::default(),
            shots: ShotsConfig::default(),
            recent: RecentConfig::default(),
            training: TrainingConfig::default(),
            #[cfg(feature = "mqtt")]
            mqtt: None,
            #[cfg(feature = "fleet")]
            fleet: None,
            cameras: Vec::new(),
        }
    }
}

impl Config {
    /// The camera of this name.
    pub fn camera(&self, name: &str) -> Option<&CameraConfig> {
        self.cameras.iter().find(|camera| camera.name == name)
    }

    /// The names of all prompts that regions use, each once.
    pub fn prompts(&self) -> Vec<&str> {
        let regions = self.cameras.iter().flat_map(|camera| &camera.regions);
        let mut prompts: Vec<&str> = regions.map(|region| region.prompt.as_str()).collect();
        prompts.sort_unstable();
        prompts.dedup();
        prompts
    }
}

/// Where something stands in the file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Place {
    /// Of the byte at `offset` of `text`.
    fn of(text: &str, offset: usize) -> Place {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            line: 1 + before.matches('\n').count(),
            column: 1 + before[begin..].chars().count(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}, column {}", self.line, self.column)
    }
}

/// Why the configuration cannot be used, or not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{} cannot be read ({source})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was there, and is not any more.
    #[error("{} is gone: put it back, or start anew without it", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written; what was there before still is.
    #[error("{} cannot be written ({source}); nothing was changed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}, {place}: {fault}", path.display())]
    Fault {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        place: Place,
        /// What is wrong.
        fault: String,
    },
    /// It is no text of a length that is read.
    #[error("{}: {fault}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// It holds a password that others can read.
    #[error(
        "{} holds a password, and has mode {mode:03o}, which lets others at it: `chmod 600` it",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A change names what is not there.
    #[error("there is no {what} {name:?}")]
    Missing {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A change is none that can be made.
    #[error("{0}")]
    Change(String),
}

/// The file, and who may change it: one at a time.
pub struct ConfigFile {
    path: PathBuf,
    files: Arc<dyn FileSystem>,
    turn: Mutex<()>,
    /// Whether it was there: one that disappears then was not meant to say that there are no cameras.
    seen: AtomicBool,
}

impl ConfigFile {
    /// The file at `path`, which may be missing.
    pub fn new(path: impl Into<PathBuf>) -> ConfigFile {
        ConfigFile::with_files(path, Arc::new(Disk))
    }

    /// The file at `path` of any file system.
    pub fn with_files(path: impl Into<PathBuf>, files: Arc<dyn FileSystem>) -> ConfigFile {
        ConfigFile {
            path: path.into(),
            files,
            turn: Mutex::default(),
            seen: AtomicBool::default(),
        }
    }

    /// Where it lies, or would lie.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; the default where there is none.
    ///
    /// # Errors
    /// If it cannot be read, is gone, is wrong anywhere, or lets others at a password.
    pub fn read(&self) -> Result<Config, ConfigError> {
        let config = parse(&self.text()?).map_err(|fault| self.fault(fault))?;
        let config = self.beside(config);
        let secret = config.cameras.iter().any(CameraConfig::has_password);
        #[cfg(feature = "mqtt")]
        let secret = secret || config.mqtt.as_ref().is_some_and(BrokerConfig::has_password);
        #[cfg(feature = "fleet")]
        let secret = secret || config.fleet.as_ref().is_some_and(FleetConfig::has_password);
        if secret {
            self.check_mode()?;
        }
        Ok(config)
    }

    /// What it says, where the files that it names can be used, too.
    ///
    /// # Errors
    /// As [`ConfigFile::read`], and if one of those files cannot be used.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let config = self.read()?;
        for camera in &config.cameras {
            if let Err(error) = camera.source() {
                let place = read::place_of_login_file(&self.text()?, &camera.name);
                let place = place.unwrap_or(Place { line: 1, column: 1 });
                return Err(self.fault((place, error.to_string())));
            }
        }
        let unusable = |said: String| self.fault((Place { line: 1, column: 1 }, said));
        if let Some((certificate, key)) = &config.access.tls {
            Tls::open(certificate, key).map_err(|error| unusable(error.to_string()))?;
        }
        #[cfg(feature = "mqtt")]
        if let Some(mqtt) = &config.mqtt {
            mqtt.settings()
                .map_err(|error| unusable(format!("[mqtt]: {error}")))?;
        }
        #[cfg(feature = "fleet")]
        if let Some(broker) = config
            .fleet
            .as_ref()
            .and_then(|fleet| fleet.broker.as_ref())
        {
            let said = |error| unusable(format!("[fleet.broker]: {error}"));
            broker.settings().map_err(said)?;
        }
        Ok(config)
    }

    /// Changes it: `change` is made to the document, the result is checked as a whole, written, and comes back.
    ///
    /// # Errors
    /// If `change` refuses, the result would be wrong, or it cannot be written. Then the file is as it was.
    pub fn edit(
        &self,
        change: impl FnOnce(&mut DocumentMut) -> Result<(), ConfigError>,
    ) -> Result<Config, ConfigError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.text()?;
        // Somebody may be in the middle of changing it by hand.
        parse(&text).map_err(|fault| self.fault(fault))?;
        let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            self.fault((
                Place::of(&text, error.span().map_or(0, |span| span.start)),
                error.message().to_owned(),
            ))
        })?;
        change(&mut document)?;
        let changed = document.to_string();
        let config = parse(&changed).map_err(|(_, fault)| ConfigError::Change(fault))?;
        let failed = |source| ConfigError::Write {
            path: self.path.clone(),
            source,
        };
        if let Some(folder) = self.path.parent().filter(|folder| *folder != Path::new("")) {
            atomic::create_folder(&*self.files, folder, Access::Owner).map_err(failed)?;
            // Other programs may have files there.
            if let Some(name) = self.path.file_name() {
                atomic::clean_of(&*self.files, folder, &name.to_string_lossy());
            }
        }
        // It may hold passwords.
        atomic::write(&*self.files, &self.path, changed.as_bytes(), Access::Owner)
            .map_err(failed)?;
        self.seen.store(true, Ordering::Relaxed);
        Ok(self.beside(config))
    }

    /// The folder that the files lie in which it names without a folder of their own: a service is started from anywhere.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn beside(&self, mut config: Config) -> Config {
        let folder = self.folder();
        let put = |path: &mut PathBuf| *path = folder.join(&*path);
        if let Some((certificate, key)) = &mut config.access.tls {
            put(certificate);
            put(key);
        }
        for camera in &mut config.cameras {
            camera.login_file.iter_mut().for_each(put);
        }
        #[cfg(feature = "mqtt")]
        config
            .mqtt
            .iter_mut()
            .for_each(|of| of.files().for_each(put));
        #[cfg(feature = "fleet")]
        if let Some(fleet) = &mut config.fleet {
            let broker = fleet.broker.iter_mut();
            broker.for_each(|of| of.files().for_each(put));
        }
        config
    }

    fn text(&self) -> Result<String, ConfigError> {
        let path = || self.path.clone();
        let bytes = match self.files.read(&self.path, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.seen.load(Ordering::Relaxed) {
                    return Err(ConfigError::Gone { path: path() });
                }
                return Ok(String::new());
            }
            Err(source) => {
                return Err(ConfigError::Read {
                    path: path(),
                    source,
                });
            }
            Ok(bytes) => bytes,
        };
        self.seen.store(true, Ordering::Relaxed);
        let wrong = |fault: String| ConfigError::Text {
            path: path(),
            fault,
        };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("it has more than {} KiB", MAX_BYTES >> 10)));
        }
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
            wrong(format!("{}: it is not UTF-8", Place::of(&text, valid)))
        })
    }

    fn fault(&self, (place, fault): (Place, String)) -> ConfigError {
        ConfigError::Fault {
            path: self.path.clone(),
            place,
            fault,
        }
    }

    #[cfg(unix)]
    fn check_mode(&self) -> Result<(), ConfigError> {
        use std::os::unix::fs::PermissionsExt;
        let Ok(metadata) = self.path.metadata() else {
            return Ok(());
        };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o027 == 0 {
            return Ok(());
        }
        Err(ConfigError::Open {
            path: self.path.clone(),
            mode,
        })
    }

    #[cfg(not(unix))]
    fn check_mode(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}
