//! Tokens of machines, kept as digests in `serve/tokens.json`: each has a name, and what it may do.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{AccessError, Scope, digest, random_text};
use crate::store::atomic;
use crate::store::file_system::{Access, Disk, FileSystem, Lock};
use crate::store::home::check_name;

const MAX_BYTES: u64 = 1 << 20;
/// The most tokens.
const MOST: usize = 100;
/// How long another process that changes them is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How a token begins, so that one that turns up in the wrong place is known for what it is.
const PREFIX: &str = "edge-rlp-";

/// A token, without what it is carried as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// The BLAKE3 digest of it, in hexadecimal.
    digest: String,
}

/// The file of the tokens, and what it held when it was last read.
pub struct TokenFile {
    path: PathBuf,
    tokens: Mutex<Vec<Token>>,
}

impl TokenFile {
    /// The one in `folder`.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn open(folder: &Path) -> Result<TokenFile, AccessError> {
        let file = TokenFile {
            path: folder.join("tokens.json"),
            tokens: Mutex::default(),
        };
        file.reload()?;
        Ok(file)
    }

    /// Reads it again.
    ///
    /// # Errors
    /// If it cannot be read, or holds something else.
    pub fn reload(&self) -> Result<(), AccessError> {
        let mut tokens = self.locked();
        *tokens = self.read()?;
        Ok(())
    }

    fn read(&self) -> Result<Vec<Token>, AccessError> {
        match Disk.read(&self.path, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => {
                let bytes = read.map_err(|source| self.failed(source))?;
                serde_json::from_slice(&bytes).map_err(|error| AccessError::Damaged {
                    path: self.path.clone(),
                    fault: error.to_string(),
                })
            }
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<Token> {
        self.locked().clone()
    }

    /// Makes a token; it comes back once, and is not known afterwards.
    ///
    /// # Errors
    /// If the name is taken or cannot be one, or it cannot be written.
    pub fn add(&self, name: &str, scopes: BTreeSet<Scope>) -> Result<String, AccessError> {
        check_name(name, "token", ".json").map_err(|error| AccessError::Name(error.to_string()))?;
        if scopes.is_empty() {
            return Err(AccessError::Name(
                "a token without a scope may do nothing".into(),
            ));
        }
        let text = format!("{PREFIX}{}", random_text()?);
        // Requests ask for the tokens: they must not wait for another process.
        let _lock = self.lock()?;
        let mut tokens = self.locked();
        // That may have made one.
        *tokens = self.read()?;
        if tokens.iter().any(|token| token.name == name) {
            return Err(AccessError::Name(format!(
                "there is a token {name:?} already"
            )));
        }
        if tokens.len() >= MOST {
            return Err(AccessError::Name(format!(
                "there are {MOST} tokens already"
            )));
        }
        let mut all = tokens.clone();
        all.push(Token {
            name: name.into(),
            scopes,
            digest: hexadecimal(&text),
        });
        self.write(&all)?;
        *tokens = all;
        Ok(text)
    }

    /// Ends a token; whether there was one.
    ///
    /// # Errors
    /// If it cannot be written; then it is still there.
    pub fn remove(&self, name: &str) -> Result<bool, AccessError> {
        let _lock = self.lock()?;
        let mut tokens = self.locked();
        *tokens = self.read()?;
        let mut all = tokens.clone();
        all.retain(|token| token.name != name);
        if all.len() == tokens.len() {
            return Ok(false);
        }
        self.write(&all)?;
        *tokens = all;
        Ok(true)
    }

    /// Whether this very token is still there.
    pub fn has(&self, token: &Token) -> bool {
        self.locked().contains(token)
    }

    /// The token that is carried as `text`.
    pub fn find(&self, text: &str) -> Option<Token> {
        // Digests of random bytes: how far two are alike tells nothing of the bytes.
        let wanted = hexadecimal(text);
        self.locked()
            .iter()
            .find(|token| token.digest == wanted)
            .cloned()
    }

    /// Processes that change the file take turns.
    fn lock(&self) -> Result<Lock, AccessError> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let failed = |source| self.failed(source);
        atomic::create_folder(&Disk, folder, Access::Owner).map_err(failed)?;
        let begun = Instant::now();
        loop {
            let lock = Disk.try_lock(&folder.join("tokens.lock"), "tokens");
            match lock.map_err(failed)? {
                Some(lock) => return Ok(lock),
                None if begun.elapsed() > PATIENCE => {
                    return Err(failed(io::ErrorKind::ResourceBusy.into()));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn write(&self, tokens: &[Token]) -> Result<(), AccessError> {
        let bytes = serde_json::to_vec_pretty(tokens).unwrap_or_default();
        atomic::write(&Disk, &self.path, &bytes, Access::Owner)
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> AccessError {
        AccessError::File {
            path: self.path.clone(),
            source,
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hexadecimal(text: &str) -> String {
    digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
