//! A file that names a camera and its login, so that neither stands on a command line or in a configuration that more people
//! read: lines `NAME=VALUE` as systemd's `EnvironmentFile=` has them, in a file that is closed to others.

use super::Login;
use crate::files;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

/// What the file calls the camera's user.
pub const USER: &str = "EDGE_RLP_CAMERA_USER";
/// What it calls the password.
pub const PASSWORD: &str = "EDGE_RLP_CAMERA_PASSWORD";
/// What it calls the address, and the options of the service that reads the same file.
const ADDRESS: &str = "CAMERA";
const OPTIONS: &str = "OPTIONS";
const MAX_BYTES: u64 = 64 << 10;

/// What a camera's file says.
#[derive(Default)]
#[non_exhaustive]
pub struct CameraFile {
    /// The camera, as `--camera` has it.
    pub address: Option<String>,
    /// The user's name.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
}

/// Why a camera's file cannot be used. What stands in it is never repeated: it may be a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CameraFileError {
    /// The system refuses it.
    #[error("{} cannot be read ({source})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others can read it, or change it.
    #[error(
        "{} may hold a password, and has mode {mode:03o}, which lets others at it: `chmod 640` it",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is too long.
    #[error("{} has more than {MAX_BYTES} bytes: it names one camera", path.display())]
    Long {
        /// The file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("{} is not text in UTF-8", path.display())]
    Text {
        /// The file.
        path: PathBuf,
    },
    /// A line of it has no meaning.
    #[error("{}: line {number} {fault}; the names are {ADDRESS}, {USER}, {PASSWORD} and {OPTIONS}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        number: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl CameraFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, others can read it, or a line has no meaning.
    pub fn read(path: &Path) -> Result<CameraFile, CameraFileError> {
        let failed = |source| CameraFileError::Read {
            path: path.to_owned(),
            source,
        };
        let metadata = files::open(path).and_then(|file| file.metadata());
        closed_to_others(path, &metadata.map_err(failed)?)?;
        let bytes = files::read(path, MAX_BYTES).map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(CameraFileError::Long { path: path.into() });
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| CameraFileError::Text { path: path.into() })?;
        CameraFile::parse(&text).map_err(|(number, fault)| CameraFileError::Line {
            path: path.into(),
            number,
            fault,
        })
    }

    /// The number of a line that has no meaning, and why, where there is one.
    fn parse(text: &str) -> Result<CameraFile, (usize, &'static str)> {
        let mut found = CameraFile::default();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or((number, "is no NAME=VALUE"))?;
            let value = Some(unquoted(value.trim()));
            match name.trim() {
                ADDRESS => found.address = value,
                USER => found.user = value,
                PASSWORD => found.password = value,
                // For the service alone.
                OPTIONS => {}
                _ => return Err((number, "has none of the names that are known")),
            }
        }
        Ok(found)
    }

    /// The login, if it has one.
    pub fn login(&self) -> Option<Login> {
        (self.user.is_some() || self.password.is_some()).then(|| Login {
            user: self.user.clone().unwrap_or_default(),
            password: self.password.clone().unwrap_or_default(),
        })
    }
}

/// A value without the quotes around it, and without the backslashes that double ones need.
fn unquoted(value: &str) -> String {
    let within = |quote| {
        let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
        (value.len() >= 2).then_some(inner)
    };
    if let Some(inner) = within('\'') {
        return inner.into();
    }
    let Some(inner) = within('"') else {
        return value.into();
    };
    let (mut plain, mut escaped) = (String::new(), false);
    for c in inner.chars() {
        match (escaped, c) {
            (false, '\\') => escaped = true,
            (true, '"' | '\\' | '$' | '`') | (false, _) => {
                plain.push(c);
                escaped = false;
            }
            (true, _) => {
                plain.extend(['\\', c]);
                escaped = false;
            }
        }
    }
    plain
}

#[cfg(unix)]
fn closed_to_others(path: &Path, metadata: &Metadata) -> Result<(), CameraFileError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o027 == 0 {
        return Ok(());
    }
    Err(CameraFileError::Open {
        path: path.into(),
        mode,
    })
}

#[cfg(not(unix))]
fn closed_to_others(_: &Path, _: &Metadata) -> Result<(), CameraFileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_systemd_reads_it() {
        let text = "# front door\n\nCAMERA = http://cam/v\r\nEDGE_RLP_CAMERA_USER=admin\nEDGE_RLP_CAMERA_PASSWORD=\"a\\\"b#c \\\\d\"\nOPTIONS=\"--every 1s\"\n";
        let found = CameraFile::parse(text).unwrap();
        assert_eq!(found.address.as_deref(), Some("http://cam/v"));
        let login = found.login().unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.as_str()),
            ("admin", "a\"b#c \\d")
        );
        let single = CameraFile::parse("EDGE_RLP_CAMERA_PASSWORD='x'").unwrap();
        assert_eq!(single.login().unwrap().password, "x");
        assert!(CameraFile::parse("").unwrap().login().is_none());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_not_repeated() {
        for text in ["CAMERA=1\ns3cret", "CAMERA=1\nPASSWORD=s3cret"] {
            let (number, fault) = CameraFile::parse(text).err().unwrap();
            assert!(number == 2 && !fault.contains("s3cret"), "{fault}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "CAMERA=0\n").unwrap();
        for (mode, fine) in [
            (0o600, true),
            (0o640, true),
            (0o400, true),
            (0o644, false),
            (0o660, false),
        ] {
            std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
            let read = CameraFile::read(file.path());
            assert_eq!(read.is_ok(), fine, "{mode:o}");
            if let Err(error) = read {
                assert!(error.to_string().contains("chmod 640"), "{error}");
            }
        }
    }
}
