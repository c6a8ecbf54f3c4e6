//! The file of a secret key, and that of its public key beside it, as `minisign` lays them out.

use std::io;
use std::path::{Path, PathBuf};

use super::{KeyError, Password, SigningKey};
use crate::files;
use crate::store::atomic::{self, Replace};
use crate::store::file_system::{Access, Disk};

/// The most bytes of a file that are read.
const MAX_FILE: u64 = 4096;

/// Why a key's file cannot be made, or not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is one, and it is not replaced.
    #[error("{} exists: every box that trusts that key would have to be told of a new one", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could sign.
    #[error("{} is a secret key, and has mode {mode:03o}, which lets others at it: `chmod 600` it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds no key, or is locked.
    #[error("{}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
}

/// Where the public key of the secret key at `path` lies: `.pub` in place of `.key`.
pub fn public_path(path: &Path) -> PathBuf {
    path.with_extension("pub")
}

/// Makes a key and writes it to `path`, for this account alone, and its public key beside it.
///
/// # Errors
/// If there is one that is not to be replaced, or it cannot be written: then nothing has changed.
pub fn create(
    path: &Path,
    password: &Password,
    replace: Replace,
) -> Result<SigningKey, KeyFileError> {
    let failed = |path: &Path, source: io::Error| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path },
            _ => KeyFileError::Write { path, source },
        }
    };
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    if let Some(folder) = folder {
        atomic::create_folder(&Disk, folder, Access::Owner)
            .map_err(|error| failed(folder, error))?;
    }
    let public = public_path(path);
    for file in [path, &public] {
        atomic::check_over(&Disk, file, replace).map_err(|error| failed(file, error))?;
    }
    let made = SigningKey::generate(password);
    let (key, text) = made.map_err(|source| KeyFileError::Key {
        path: path.to_owned(),
        source,
    })?;
    let of_public = key.public().to_file();
    atomic::write_over(&Disk, path, text.as_bytes(), replace, Access::Owner)
        .map_err(|error| failed(path, error))?;
    atomic::write_over(&Disk, &public, of_public.as_bytes(), replace, Access::Usual)
        .map_err(|error| failed(&public, error))?;
    Ok(key)
}

/// The key in the file at `path`.
///
/// # Errors
/// If it cannot be read, holds no key, lets others at it, or the password is missing or another one.
pub fn open(path: &Path, password: &Password) -> Result<SigningKey, KeyFileError> {
    let failed = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let file = files::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(KeyFileError::Open { path, mode });
        }
    }
    let bytes = files::read(path, MAX_FILE).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    SigningKey::open(&text, password).map_err(|source| KeyFileError::Key {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_replaced_silently_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/fleet.key");
        let key = create(&path, &Password::None, Replace::Nothing).unwrap();
        let again = create(&path, &Password::None, Replace::Nothing);
        assert!(matches!(again, Err(KeyFileError::Exists { .. })));
        assert_eq!(open(&path, &Password::None).unwrap().public(), key.public());
        let public = std::fs::read_to_string(public_path(&path)).unwrap();
        assert_eq!(
            &public.parse::<super::super::TrustedKey>().unwrap(),
            key.public()
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o600);
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
            let error = open(&path, &Password::None).err().unwrap().to_string();
            assert!(error.contains("mode 640"), "{error}");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        let replaced = create(&path, &Password::None, Replace::File).unwrap();
        assert_ne!(replaced.public(), key.public());
        // A public key that is left over is in the way, too: nothing was written.
        std::fs::remove_file(&path).unwrap();
        assert!(create(&path, &Password::None, Replace::Nothing).is_err());
        assert!(!path.exists());
    }
}
