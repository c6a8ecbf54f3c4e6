//! Who may come in. On a loopback address everybody on this machine may do everything. At any other address, and behind a
//! proxy, it takes a password, which makes a session, or a token, which machines carry. What is known of both lies in
//! `serve/` of the home folder, for this account alone, and none of it can be turned back into what is typed or carried.

mod attempts;
mod audit;
mod hosts;
mod password;
mod sessions;
#[cfg(test)]
mod tests;
mod tokens;

pub use attempts::Wait;
pub use audit::{Audit, Entry, NOBODY};
pub use hosts::Hosts;
pub use password::{LEAST, PasswordFile};
pub use sessions::Session;
pub use tokens::{Token, TokenFile};

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::config::AccessConfig;
use attempts::Attempts;
use sessions::Sessions;

/// The folder in the home folder.
pub const FOLDER: &str = "serve";
/// How long a session lasts without use where nothing is said.
const SESSION: Duration = Duration::from_secs(12 * 60 * 60);

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at pictures, labels and states.
    Read,
    /// Label and train.
    Label,
    /// Change cameras and tokens.
    Admin,
}

impl Scope {
    /// Everything.
    pub fn all() -> BTreeSet<Scope> {
        [Scope::Read, Scope::Label, Scope::Admin].into()
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Label => "label",
            Scope::Admin => "admin",
        }
    }
}

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `local`, `page`, or the name of a token.
    pub who: String,
    /// What they may do.
    pub scopes: BTreeSet<Scope>,
    /// By what they came in.
    by: By,
}

/// By what somebody came in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    /// Everybody may.
    Nothing,
    Token(Token),
    Session(sessions::Id),
}

/// Why nobody can be told apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A file cannot be read or written.
    #[error("{} cannot be used ({source})", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{}: {fault}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// A password that is guessed too soon.
    #[error("the password has fewer than {LEAST} characters: take more, as in four words")]
    Short,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers ({0})")]
    Random(getrandom::Error),
    /// The password cannot be made unreadable.
    #[error("the password cannot be kept ({0})")]
    Hash(String),
    /// A token's name is taken, or cannot be one.
    #[error("{0}")]
    Name(String),
}

/// Who may come in.
pub struct Access {
    /// Whether everybody who can connect may do everything.
    open: bool,
    behind_proxy: bool,
    hosts: Hosts,
    password: PasswordFile,
    tokens: TokenFile,
    sessions: Sessions,
    attempts: Mutex<Attempts>,
    /// What was changed by whom.
    pub audit: Audit,
}

impl Access {
    /// For whoever connects to `listen`; what is known lies below `home`.
    ///
    /// # Errors
    /// If a file of it is there and cannot be read.
    pub fn new(
        home: &Path,
        listen: SocketAddr,
        config: &AccessConfig,
    ) -> Result<Access, AccessError> {
        let folder = home.join(FOLDER);
        let loopback = listen.ip().to_canonical().is_loopback();
        Ok(Access {
            open: loopback && !config.behind_proxy,
            behind_proxy: config.behind_proxy,
            hosts: Hosts::new(loopback, &config.hosts),
            password: PasswordFile::open(&folder)?,
            tokens: TokenFile::open(&folder)?,
            sessions: Sessions::new(config.session.unwrap_or(SESSION)),
            attempts: Mutex::default(),
            audit: Audit::new(&folder),
        })
    }

    /// Whether it takes a password.
    pub fn takes_password(&self) -> bool {
        !self.open
    }

    /// Makes a password where one is taken and there is none; it is said once, and kept unreadable.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn first_password(&self) -> Result<Option<String>, AccessError> {
        if self.open || self.password.is_set() {
            return Ok(None);
        }
        let words = password::random()?;
        self.password.set(&words)?;
        Ok(Some(words))
    }

    /// Reads what other processes may have changed: a new password ends all sessions.
    ///
    /// # Errors
    /// If a file cannot be read; what was known stays.
    pub fn reload(&self) -> Result<(), AccessError> {
        if self.password.reload()? {
            self.sessions.end_all();
        }
        self.tokens.reload()
    }

    /// Whether a request was meant for this machine, by the host that it names.
    pub fn knows_host(&self, host: &str) -> bool {
        self.hosts.knows(host)
    }

    /// From where somebody asks: the peer, or whom a proxy on this machine asks for.
    pub fn origin(&self, peer: IpAddr, forwarded: Option<&str>) -> IpAddr {
        let trusted = self.behind_proxy && peer.to_canonical().is_loopback();
        let last = forwarded.and_then(|list| list.rsplit(',').next());
        let named = last.and_then(|address| address.trim().parse().ok());
        named.filter(|_| trusted).unwrap_or(peer).to_canonical()
    }

    /// Who carries this session or this token; none may come in where it is nobody.
    pub fn caller(&self, session: Option<&str>, token: Option<&str>) -> Option<Caller> {
        if self.open {
            return Some(Caller {
                who: "local".into(),
                scopes: Scope::all(),
                by: By::Nothing,
            });
        }
        if let Some(token) = token {
            let found = self.tokens.find(token)?;
            return Some(Caller {
                who: found.name.clone(),
                scopes: found.scopes.clone(),
                by: By::Token(found),
            });
        }
        let id = self.sessions.find(session?)?;
        Some(Caller {
            who: "page".into(),
            scopes: Scope::all(),
            by: By::Session(id),
        })
    }

    /// Whether somebody who came in may still be here: what is open for long asks now and then. It counts as use of a session.
    pub fn still_admits(&self, caller: &Caller) -> bool {
        match &caller.by {
            By::Nothing => true,
            By::Token(token) => self.tokens.has(token),
            By::Session(id) => self.sessions.is_there(id),
        }
    }

    /// How long the browser of `caller` is to keep its session from now on; none where it has none, or was told not long ago.
    pub fn renewed(&self, caller: &Caller) -> Option<Duration> {
        match &caller.by {
            By::Session(id) => self.sessions.renewed(id),
            By::Nothing | By::Token(_) => None,
        }
    }

    /// Begins a session with the password. This takes a while, for it is to be slow to guess.
    ///
    /// # Errors
    /// How long to wait where too many guesses were wrong; none inside where this one is.
    pub fn sign_in(&self, password: &str, from: IpAddr) -> Result<Session, Option<Wait>> {
        // One guess at a time: each takes memory.
        let mut attempts = self
            .attempts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        attempts.may(from, now).map_err(Some)?;
        // Another process may have set it.
        let changed = self.password.reload().unwrap_or(false);
        if changed {
            self.sessions.end_all();
        }
        if !self.password.is(password) {
            attempts.failed(from, now);
            return Err(None);
        }
        attempts.succeeded(from);
        drop(attempts);
        self.sessions.begin().ok_or(None)
    }

    /// Ends a session.
    pub fn sign_out(&self, session: &str) {
        self.sessions.end(session);
    }

    /// The tokens.
    pub fn tokens(&self) -> &TokenFile {
        &self.tokens
    }
}

/// Random bytes as text that stands in any header.
fn random_text() -> Result<String, AccessError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(AccessError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What is kept of a text of enough random bytes: it cannot be turned back.
fn digest(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}
