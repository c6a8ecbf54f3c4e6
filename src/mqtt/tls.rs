//! The encrypted connection: whose certificates are trusted, and by which one the broker knows this client.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{BrokerSettings, MqttError};
use crate::files;

/// The most bytes of a file of certificates: a system's whole list has a quarter of a million.
const MAX_FILE: u64 = 4 << 20;

/// What a connection to the broker of `settings` is encrypted with; none where it is not.
///
/// # Errors
/// If a file of certificates or of a key cannot be used.
pub(super) fn config(settings: &BrokerSettings) -> Result<Option<Arc<ClientConfig>>, MqttError> {
    if !settings.address.is_encrypted() {
        return match (&settings.authorities, &settings.identity) {
            (None, None) => Ok(None),
            _ => Err(MqttError::NotEncrypted),
        };
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match &settings.authorities {
        Some(path) => given(path)?,
        None => of_system()?,
    };
    let unusable = |path: &Path, error: rustls::Error| MqttError::Unusable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(Path::new(""), error))?
        .with_root_certificates(roots);
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = read(&identity.key)?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| MqttError::Pem {
                path: identity.key.clone(),
                what: "private key",
            })?;
            builder
                .with_client_auth_cert(certificates(&identity.certificate)?, key)
                .map_err(|error| unusable(&identity.certificate, error))?
        }
    };
    Ok(Some(Arc::new(config)))
}

fn given(path: &Path) -> Result<RootCertStore, MqttError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| MqttError::Unusable {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
    }
    Ok(roots)
}

/// Single certificates that cannot be read, which some systems have, are left out.
fn of_system() -> Result<RootCertStore, MqttError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(MqttError::NoAuthorities);
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, MqttError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(MqttError::Pem {
            path: path.to_owned(),
            what: "certificate",
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, MqttError> {
    files::read(path, MAX_FILE).map_err(|source| MqttError::Read {
        path: path.to_owned(),
        source,
    })
}
