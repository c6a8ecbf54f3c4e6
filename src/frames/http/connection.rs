//! A connection to a camera: to the first of its addresses that answers, encrypted where its address says https.

use super::HttpError;
use crate::frames::Trust;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};
use url::Url;

#[cfg(feature = "https")]
use super::tls;

/// What a camera's answer is read from.
pub enum Connection {
    Plain(TcpStream),
    #[cfg(feature = "https")]
    Tls(Box<tls::Stream>),
}

impl Connection {
    /// Connects to where `url` lies. Nothing is waited for longer than `quiet`, now and later.
    ///
    /// # Errors
    /// If nobody answers there, or is not whom `trust` is put in.
    pub fn open(url: &Url, trust: Trust, quiet: Duration) -> Result<Connection, HttpError> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let stream = connect(host, port, quiet).map_err(|source| HttpError::Unreachable {
            host: host.to_owned(),
            port,
            source,
        })?;
        stream.set_read_timeout(Some(quiet))?;
        stream.set_write_timeout(Some(quiet))?;
        if url.scheme() != "https" {
            return Ok(Connection::Plain(stream));
        }
        #[cfg(feature = "https")]
        return tls::Stream::open(stream, bare(host), trust)
            .map(|stream| Connection::Tls(Box::new(stream)));
        #[cfg(not(feature = "https"))]
        {
            let _ = trust;
            Err(HttpError::NotBuilt)
        }
    }
}

/// A host without the brackets around an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Tries all addresses of a name in turn, all of them within `quiet`; what went wrong with the first one, where none answers.
fn connect(host: &str, port: u16, quiet: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = (bare(host), port).to_socket_addrs()?.collect();
    let started = Instant::now();
    let mut failed = None;
    for (index, address) in addresses.iter().enumerate() {
        let left = quiet.saturating_sub(started.elapsed());
        let share = left / (addresses.len() - index) as u32;
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(stream) => stream.read(buffer),
            #[cfg(feature = "https")]
            Connection::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(stream) => stream.write(buffer),
            #[cfg(feature = "https")]
            Connection::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Connection::Plain(stream) => stream.flush(),
            #[cfg(feature = "https")]
            Connection::Tls(stream) => stream.flush(),
        }
    }
}
