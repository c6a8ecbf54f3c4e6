//! Why downloads fail.

use super::Sha256;
use crate::masked::ShownUrl;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a file could not be downloaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The address cannot be downloaded from.
    #[error("{url:?} is not a URL that can be downloaded from: {what}")]
    Url {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// Why, as the end of a sentence.
        what: &'static str,
    },
    /// The address of a proxy cannot be used.
    #[error("the proxy for {scheme} is not the address of a proxy")]
    Proxy {
        /// The scheme that the proxy is for: `http` or `https`.
        scheme: &'static str,
    },
    /// The server has no such file.
    #[error("{url} does not exist (status {status})")]
    NotFound {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// The HTTP status of the answer.
        status: u16,
    },
    /// The server asks for a login, or forbids it.
    #[error("the server refuses {url} (status {status}): it is private, or does not exist")]
    Refused {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// The HTTP status of the answer.
        status: u16,
    },
    /// The server answers with another error.
    #[error("the server answers {url} with status {status}")]
    Status {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// The HTTP status of the answer.
        status: u16,
    },
    /// A redirect is not followed.
    #[error("{url} is not followed: {what}")]
    Redirect {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// Why, as the end of a sentence.
        what: &'static str,
    },
    /// The server cannot be reached, and further attempts would not help.
    #[error("{url} cannot be reached: {reason}")]
    Connection {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// What went wrong.
        reason: String,
    },
    /// The file is larger than was allowed.
    #[error("{url} has {} bytes, more than the {most} that are allowed", .bytes.map_or("too many".into(), |n| n.to_string()))]
    TooLarge {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// Its size, where the server says it.
        bytes: Option<u64>,
        /// The most bytes that were allowed.
        most: u64,
    },
    /// There is not enough room for the file.
    #[error("{} has room for {free} bytes and {url} needs {needed}", folder.display())]
    DiskFull {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// Where it was to be written.
        folder: PathBuf,
        /// Bytes that are still to come.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// What arrived is not what was asked for.
    #[error(
        "{url} arrived with another checksum than it should have (SHA-256 {found}, not {expected}); it is thrown away"
    )]
    Checksum {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// The checksum that was asked for.
        expected: Sha256,
        /// The checksum of what arrived.
        found: Sha256,
    },
    /// The attempts are used up.
    #[error(
        "{url} did not arrive in {attempts} attempts, the last one because {reason}{}",
        if *kept > 0 { format!("; {kept} bytes are kept") } else { String::new() }
    )]
    GaveUp {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// How many brought nothing.
        attempts: u32,
        /// Why the last one failed.
        reason: String,
        /// Bytes that are kept, for the next call to go on from.
        kept: u64,
    },
    /// The caller stopped it.
    #[error("stopped; {kept} bytes of {url} are kept")]
    Stopped {
        /// The address; a password in it is not shown.
        url: ShownUrl,
        /// Bytes that are kept, for the next call to go on from.
        kept: u64,
    },
    /// Another process is downloading to the same place.
    #[error("{} is being downloaded by another process", path.display())]
    Busy {
        /// The file that it holds.
        path: PathBuf,
    },
    /// What arrives cannot be written.
    #[error("cannot write {}: {source}; what has arrived is kept", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
