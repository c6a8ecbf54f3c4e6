//! What is wrong with the settings of a broker, and with a broker itself.

use std::io;
use std::path::PathBuf;

use crate::masked::ShownUrl;

/// Settings with which no broker can be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MqttError {
    /// The address is none.
    #[error("{address} is no address of a broker: {reason}")]
    Address {
        /// As it was given, without its secrets.
        address: ShownUrl,
        /// What is wrong with it.
        reason: String,
    },
    /// A name leaves nothing to call a topic.
    #[error("{what} cannot be {name:?}: {reason}")]
    Name {
        /// What would be called so.
        what: &'static str,
        /// As it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file of certificates or of a key cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no password.
    #[error("{path} holds no password: {reason}")]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file with a password that others can get at.
    #[error(
        "{path} holds a password, and has mode {mode:03o}, which lets others at it: `chmod 640` it"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file holds no certificate, or no key.
    #[error("{path} holds no {what} in the PEM form (-----BEGIN ...-----)")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate or a key cannot be used.
    #[error("{path} cannot be used: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system knows no authority.
    #[error(
        "this system has no list of certificate authorities: install its package ca-certificates, or give the authority that \
         vouches for the broker"
    )]
    NoAuthorities,
    /// Certificates are given for an address that is not encrypted.
    #[error("certificates are only of use with an address that begins with mqtts://")]
    NotEncrypted,
    /// A certificate without its key, or a key without its certificate.
    #[error("a client's certificate and its key belong together: only one of them is given")]
    HalfIdentity,
    /// The system gives no thread, or no event loop.
    #[error("reporting to a broker needs a thread of its own, and the system gives none")]
    Thread(#[source] io::Error),
}
