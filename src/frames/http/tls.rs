//! TLS to a camera. Most cameras sign their own certificates: one that no authority vouches for is trusted by its
//! fingerprint, or where whoever watches has said that anybody is trusted.

use super::HttpError;
use crate::frames::{Fingerprint, Trust};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

/// An encrypted connection.
pub struct Stream(rustls::StreamOwned<ClientConnection, TcpStream>);

impl Stream {
    /// Makes `stream` an encrypted one.
    ///
    /// # Errors
    /// If `host` speaks no TLS that is safe, or is not whom `trust` is put in.
    pub fn open(mut stream: TcpStream, host: &str, trust: Trust) -> Result<Stream, HttpError> {
        let tls = |error: Error| HttpError::Tls(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier::new(trust, &provider)?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| HttpError::Tls(format!("{host} is no name of a host")))?;
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(tls)?;
        while connection.is_handshaking() {
            if let Err(error) = connection.complete_io(&mut stream) {
                return Err(verifier.refused().unwrap_or_else(|| failed(error)));
            }
        }
        Ok(Stream(rustls::StreamOwned::new(connection, stream)))
    }

    /// The socket once more, for its patience.
    pub fn socket(&self) -> Option<TcpStream> {
        self.0.sock.try_clone().ok()
    }
}

fn failed(error: io::Error) -> HttpError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            HttpError::Tls(error.to_string())
        }
        _ => error.into(),
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            // Cameras end without the goodbye that TLS has; a picture that was cut shows it itself.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Looks at a camera's certificate.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    authorities: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    /// The certificate that was refused, and why.
    refused: Mutex<Option<(Fingerprint, String)>>,
}

impl Verifier {
    fn new(trust: Trust, provider: &Arc<CryptoProvider>) -> Result<Verifier, HttpError> {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        let roots = rustls::RootCertStore {
            roots: roots.collect(),
        };
        let authorities =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| HttpError::Tls(error.to_string()))?;
        Ok(Verifier {
            trust,
            authorities,
            provider: Arc::clone(provider),
            refused: Mutex::default(),
        })
    }

    /// Why the certificate was refused, if it was.
    fn refused(&self) -> Option<HttpError> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (fingerprint, reason) = refused.take()?;
        Some(match self.trust {
            Trust::Fingerprint(pinned) => HttpError::OtherCertificate {
                pinned,
                fingerprint,
            },
            _ => HttpError::Certificate {
                reason,
                fingerprint,
            },
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fingerprint = Fingerprint(Sha256::digest(certificate).into());
        let verified = match self.trust {
            Trust::Anyone => Ok(ServerCertVerified::assertion()),
            Trust::Fingerprint(pinned) if pinned == fingerprint => {
                Ok(ServerCertVerified::assertion())
            }
            Trust::Fingerprint(_) => Err(Error::General("another certificate".into())),
            Trust::Authorities => {
                (self.authorities).verify_server_cert(certificate, intermediates, name, ocsp, now)
            }
        };
        verified.inspect_err(|error| {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = Some((fingerprint, error.to_string()));
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.trust == Trust::Anyone {
            // Old cameras have certificates and keys that cannot even be checked.
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.trust == Trust::Anyone {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
