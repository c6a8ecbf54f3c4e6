//! The password, kept as an argon2id hash in `serve/password`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};

use super::AccessError;
use crate::store::atomic;
use crate::store::file_system::{Access, Disk, FileSystem};

/// The fewest characters of a password.
pub const LEAST: usize = 10;
/// The longest that is looked at: hashing a long one takes time.
const MOST: usize = 1024;
const MAX_BYTES: u64 = 1024;

/// The file of the password, and what it held when it was last read.
pub struct PasswordFile {
    path: PathBuf,
    hash: Mutex<Option<String>>,
}

impl PasswordFile {
    /// The one in `folder`.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn open(folder: &Path) -> Result<PasswordFile, AccessError> {
        let file = PasswordFile {
            path: folder.join("password"),
            hash: Mutex::default(),
        };
        file.reload()?;
        Ok(file)
    }

    /// Reads it again; whether it is another one than before.
    ///
    /// # Errors
    /// If it cannot be read, or holds no password.
    pub fn reload(&self) -> Result<bool, AccessError> {
        let read = match Disk.read(&self.path, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(|source| self.failed(source))?),
        };
        let found = read.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        if let Some(hash) = &found
            && PasswordHash::new(hash).is_err()
        {
            return Err(AccessError::Damaged {
                path: self.path.clone(),
                fault: "it holds no password: set one with `edge-rlp serve --set-password`".into(),
            });
        }
        let mut hash = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        let other = *hash != found;
        *hash = found;
        Ok(other)
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.hash
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Keeps another one.
    ///
    /// # Errors
    /// If it is too short, or cannot be written.
    pub fn set(&self, password: &str) -> Result<(), AccessError> {
        if password.chars().count() < LEAST {
            return Err(AccessError::Short);
        }
        let hash: PasswordHash = Argon2::default()
            .hash_password(password.as_bytes())
            .map_err(|error| AccessError::Hash(error.to_string()))?;
        let text = hash.to_string();
        let folder = self.path.parent().unwrap_or(&self.path);
        atomic::create_folder(&Disk, folder, Access::Owner)
            .and_then(|()| atomic::write(&Disk, &self.path, text.as_bytes(), Access::Owner))
            .map_err(|source| self.failed(source))?;
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        Ok(())
    }

    /// Whether this is it.
    pub fn is(&self, password: &str) -> bool {
        let hash = self
            .hash
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(hash) = hash.filter(|_| password.len() <= MOST) else {
            return false;
        };
        let parsed = PasswordHash::new(&hash);
        parsed.is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        })
    }

    fn failed(&self, source: io::Error) -> AccessError {
        AccessError::File {
            path: self.path.clone(),
            source,
        }
    }
}

/// A password of 80 random bits, in groups that can be read out, of letters and digits that are not taken for others.
///
/// # Errors
/// If the system gives no random numbers.
pub fn random() -> Result<String, AccessError> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(AccessError::Random)?;
    let letters: Vec<char> = bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte & 31)]))
        .collect();
    let groups: Vec<String> = letters
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    Ok(groups.join("-"))
}
