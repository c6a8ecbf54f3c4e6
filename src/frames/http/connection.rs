//! A connection to a camera: to the first of its addresses that answers, encrypted where its address says https.

use super::HttpError;
use crate::frames::Trust;
use crate::reach;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
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
    /// Connects to where `url` lies, and says at which address that is; to where a camera at the address `from` redirects,
    /// where there was one. Nothing is waited for longer than `quiet`, now and later.
    ///
    /// # Errors
    /// If nobody answers there, or is not whom `trust` is put in, or no redirect may lead there.
    pub fn open(
        url: &Url,
        trust: Trust,
        quiet: Duration,
        from: Option<IpAddr>,
    ) -> Result<(Connection, IpAddr), HttpError> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let unreachable = |source| HttpError::Unreachable {
            host: host.to_owned(),
            port,
            source,
        };
        let mut addresses: Vec<_> = (bare(host), port)
            .to_socket_addrs()
            .map_err(unreachable)?
            .collect();
        if let Some(from) = from {
            addresses.retain(|to| reach::may_redirect(from, to.ip()));
            if addresses.is_empty() {
                return Err(HttpError::RedirectPlace(host.to_owned()));
            }
        }
        let stream = connect(&addresses, quiet).map_err(unreachable)?;
        let address = stream.peer_addr()?.ip();
        stream.set_read_timeout(Some(quiet))?;
        stream.set_write_timeout(Some(quiet))?;
        if url.scheme() != "https" {
            return Ok((Connection::Plain(stream), address));
        }
        #[cfg(feature = "https")]
        return tls::Stream::open(stream, bare(host), trust)
            .map(|stream| (Connection::Tls(Box::new(stream)), address));
        #[cfg(not(feature = "https"))]
        {
            let _ = trust;
            Err(HttpError::NotBuilt)
        }
    }

    /// The same socket once more, for its patience; none where the system gives none.
    pub fn socket(&self) -> Option<TcpStream> {
        match self {
            Connection::Plain(stream) => stream.try_clone().ok(),
            #[cfg(feature = "https")]
            Connection::Tls(stream) => stream.socket(),
        }
    }
}

/// A host without the brackets around an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Tries all addresses of a name in turn, all of them within `quiet`; what went wrong with the first one, where none answers.
fn connect(addresses: &[SocketAddr], quiet: Duration) -> io::Result<TcpStream> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_redirect_from_elsewhere_connects_to_nothing_on_this_machine() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let port = server.local_addr().unwrap().port();
        let open = |host: &str, from: Option<&str>| {
            let url = Url::parse(&format!("http://{host}:{port}/")).unwrap();
            let from = from.map(|from| from.parse().unwrap());
            Connection::open(&url, Trust::default(), Duration::from_secs(5), from).map(|(_, at)| at)
        };
        for host in [
            "127.0.0.1",
            "localhost",
            "[::ffff:127.0.0.1]",
            "2130706433",
            "0.0.0.0",
            "169.254.169.254",
        ] {
            let refused = open(host, Some("192.168.1.20"));
            assert!(
                matches!(refused, Err(HttpError::RedirectPlace(_))),
                "{host}: {refused:?}"
            );
        }
        assert!(server.accept().is_err(), "nobody was asked");
        assert!(open("127.0.0.1", None).unwrap().is_loopback());
        assert!(open("127.0.0.1", Some("127.0.0.1")).is_ok());
    }
}
