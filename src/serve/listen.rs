//! Takes connections and serves each with the routes: how many there may be at once, how long one may take to say what it
//! wants, and, with a certificate, unreadable to all between.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Connections at once: viewers, listeners and others.
const MAX_CONNECTIONS: usize = 256;
/// Of one address, but for this machine: a proxy asks for many.
const MAX_OF_ONE: usize = 64;
/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(15);
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// How long a client may take until both sides agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The pause after a connection could not be taken: files may have run out.
const PAUSE: Duration = Duration::from_millis(200);

/// Why there is no https.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of its kind.
    #[error("{}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// The two do not fit each other, or are of a kind that is not spoken.
    #[error("certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
}

/// A certificate and its key, which may be replaced while connections are served.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Of two PEM files.
    ///
    /// # Errors
    /// If one cannot be read, or they do not fit each other.
    pub fn open(certificate: &Path, key: &Path) -> Result<Tls, TlsError> {
        Ok(Tls {
            config: RwLock::new(Arc::new(read(certificate, key)?)),
            certificate: certificate.into(),
            key: key.into(),
        })
    }

    /// Reads both files again: certificates end.
    ///
    /// # Errors
    /// As [`Tls::open`]; what was in use stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(read(&self.certificate, &self.key)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let failed = |path: &Path, fault: String| TlsError::File {
        path: path.into(),
        fault,
    };
    let chain: Vec<CertificateDer> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| failed(certificate, unread(error, "certificate")))?;
    if chain.is_empty() {
        return Err(failed(certificate, "it holds no certificate in PEM".into()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| failed(key, unread(error, "private key")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Why a PEM file gives no `what`.
fn unread(error: pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("it holds no {what} in PEM"),
        pem::Error::Io(error) => format!("it cannot be read ({error})"),
        error => format!("it is not a {what} in PEM ({error})"),
    }
}

/// Serves `routes` to all who connect, until it is dropped.
pub async fn serve(listener: TcpListener, routes: Router, tls: Option<Arc<Tls>>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let seats = Seats::default();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (Ok(permit), Some(seat)) = (
            Arc::clone(&permits).try_acquire_owned(),
            Seat::take(&seats, from.ip()),
        ) else {
            // Closed: whoever is in keeps what it has.
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (routes, tls) = (routes.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(stream, from, routes).await,
                Some(tls) => {
                    let accepted = timeout(HANDSHAKE, tls.acceptor().accept(stream)).await;
                    if let Ok(Ok(stream)) = accepted {
                        connection(stream, from, routes).await;
                    }
                }
            }
            drop((permit, seat));
        });
    }
}

/// How many connections each address has.
type Seats = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One connection of an address.
struct Seat {
    seats: Seats,
    of: IpAddr,
}

impl Seat {
    /// None where the address has as many as it may.
    fn take(seats: &Seats, of: IpAddr) -> Option<Seat> {
        let of = of.to_canonical();
        let mut taken = seats.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(of).or_default();
        if *count >= MAX_OF_ONE && !of.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Seat {
            seats: Arc::clone(seats),
            of,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: SocketAddr,
    routes: Router,
) {
    let routes = routes.layer(axum::Extension(ConnectInfo(from)));
    let service = TowerToHyperService::new(routes);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away in the middle is none of our business.
    let _ = served.await;
}

/// What `routes` answer to a client of loopback that sends `bytes` and then no more, as far as it comes within `patience`: for
/// fuzzing.
///
/// # Errors
/// If the system gives no connection.
#[cfg(unix)]
#[doc(hidden)]
pub fn answer_to(routes: Router, bytes: &[u8], patience: Duration) -> std::io::Result<Vec<u8>> {
    use std::io::{Read as _, Write as _};
    let (mut client, stream) = std::os::unix::net::UnixStream::pair()?;
    stream.set_nonblocking(true)?;
    client.set_read_timeout(Some(patience))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let service = routes.layer(axum::Extension(ConnectInfo(SocketAddr::from((
        [127, 0, 0, 1],
        9,
    )))));
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            // It may be refused before everything is sent.
            let _ = client.write_all(bytes);
            let _ = client.shutdown(std::net::Shutdown::Write);
            let _ = client.read_to_end(&mut answer);
            drop(client);
        });
        runtime.block_on(async {
            let Ok(stream) = tokio::net::UnixStream::from_std(stream) else {
                return;
            };
            let served = http1::Builder::new()
                .half_close(true)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            let _ = timeout(4 * patience, served).await;
        });
        let _ = client.join();
    });
    runtime.shutdown_background();
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_connections_and_gets_back_what_it_gave_up() {
        let seats = Seats::default();
        let other = IpAddr::from([10, 0, 0, 1]);
        let mut taken: Vec<Seat> = (0..100).filter_map(|_| Seat::take(&seats, other)).collect();
        assert_eq!(taken.len(), MAX_OF_ONE);
        assert!(Seat::take(&seats, IpAddr::from([10, 0, 0, 2])).is_some());
        taken.pop();
        assert!(Seat::take(&seats, other).is_some());
        let local: Vec<Seat> = (0..100)
            .filter_map(|_| Seat::take(&seats, IpAddr::from([127, 0, 0, 1])))
            .collect();
        assert_eq!(local.len(), 100);
        drop((taken, local));
        assert!(seats.lock().unwrap().is_empty());
    }
}
