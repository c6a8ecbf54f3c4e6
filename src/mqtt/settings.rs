//! Which broker, and how to speak to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::MqttError;
use crate::files;
use crate::frames::Login;
use crate::masked::masked;

/// The most bytes of a password.
const MAX_PASSWORD: u64 = 4096;

/// Where a broker listens. Shown, it is without a login.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    host: String,
    port: u16,
    encrypted: bool,
    login: Option<Login>,
}

impl BrokerAddress {
    /// The host's name or number; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// 1883, and 8883 where it is encrypted, unless the address says otherwise.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it begins with `mqtts://`.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }
}

impl FromStr for BrokerAddress {
    type Err = MqttError;

    fn from_str(text: &str) -> Result<BrokerAddress, MqttError> {
        let refused = |reason: &str| MqttError::Address {
            address: text.into(),
            reason: reason.into(),
        };
        const FORM: &str = "write mqtt://HOST, mqtts://HOST (encrypted) or mqtts://HOST:PORT";
        const ENCODE: &str =
            "in a name or a password write # as %23, / as %2F, ? as %3F, @ as %40 and : as %3A";
        let url = Url::parse(text).map_err(|error| {
            let rest = text.split_once("://").map_or("", |(_, rest)| rest);
            let hint = if rest.contains('@') { ENCODE } else { FORM };
            refused(&format!("{error}; {hint}"))
        })?;
        let encrypted = match url.scheme() {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" => true,
            "ws" | "wss" => {
                return Err(refused(
                    "MQTT over WebSockets is not spoken here; brokers listen on port 1883 or 8883 too",
                ));
            }
            _ => return Err(refused(FORM)),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refused("it names no host"))?;
        if url.fragment().is_some() || url.query().is_some() || !matches!(url.path(), "" | "/") {
            return Err(refused(&format!(
                "nothing follows the host and the port; {ENCODE}"
            )));
        }
        if encrypted && host.starts_with('[') {
            return Err(refused(
                "certificates are issued for names: give the host's name in place of its number",
            ));
        }
        let decoded = |part: &str| {
            let part = percent_encoding::percent_decode_str(part);
            part.decode_utf8_lossy().into_owned()
        };
        let (user, password) = (url.username(), url.password());
        let login = (!user.is_empty() || password.is_some()).then(|| Login {
            user: decoded(user),
            password: decoded(password.unwrap_or_default()),
        });
        Ok(BrokerAddress {
            host: decoded(host),
            port: url.port().unwrap_or(if encrypted { 8883 } else { 1883 }),
            encrypted,
            login,
        })
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "mqtts" } else { "mqtt" };
        out.write_str(&masked(&format!("{scheme}://{}:{}", self.host, self.port)))
    }
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "BrokerAddress({self})")
    }
}

/// The version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1, which every broker speaks.
    #[default]
    V3,
    /// 5.
    V5,
}

/// A certificate by which the broker knows this client, and its key; files in the PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A broker, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerSettings {
    /// Where it listens.
    pub address: BrokerAddress,
    /// What replaces the address's own login.
    pub login: Option<Login>,
    /// The protocol.
    pub version: Version,
    /// A file with the authorities that are trusted in place of the system's.
    pub authorities: Option<PathBuf>,
    /// By which the broker knows this client.
    pub identity: Option<Identity>,
    /// The pause before a broker that is away is tried again; it doubles up to the second one.
    pub pauses: (Duration, Duration),
    /// How long another box of the same name is given to say so.
    pub patience: Duration,
}

impl BrokerSettings {
    /// With an address; without a login but its own, with the system's authorities.
    pub fn new(address: BrokerAddress) -> BrokerSettings {
        BrokerSettings {
            login: address.login.clone(),
            address,
            version: Version::default(),
            authorities: None,
            identity: None,
            pauses: (Duration::from_secs(1), Duration::from_secs(60)),
            patience: Duration::from_secs(2),
        }
    }

    /// With a user, or a password, where the address has none.
    pub fn with_login(mut self, user: Option<String>, password: Option<String>) -> BrokerSettings {
        if user.is_some() || password.is_some() {
            let own = self.login.take().unwrap_or(Login {
                user: String::new(),
                password: String::new(),
            });
            let filled = |own: String, given: Option<String>| match given {
                Some(given) if own.is_empty() => given,
                _ => own,
            };
            self.login = Some(Login {
                user: filled(own.user, user),
                password: filled(own.password, password),
            });
        }
        self
    }
}

/// The password that a file holds; its line's end is none of it.
///
/// # Errors
/// If it cannot be read, holds none, or others than its owner and group can get at it.
pub fn password_in(path: &Path) -> Result<String, MqttError> {
    let failed = |source| MqttError::Read {
        path: path.to_owned(),
        source,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let file = files::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o027 != 0 {
            let path = path.to_owned();
            return Err(MqttError::Open { path, mode });
        }
    }
    let bytes = files::read(path, MAX_PASSWORD).map_err(failed)?;
    let none = |reason| MqttError::Password {
        path: path.to_owned(),
        reason,
    };
    if bytes.len() as u64 > MAX_PASSWORD {
        return Err(none("it is too long"));
    }
    let text = String::from_utf8(bytes).map_err(|_| none("it is no text in UTF-8"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(none("it is empty")),
        password => Ok(password.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_usual_ports_and_a_login_that_is_never_shown() {
        for (text, shown) in [
            ("mqtt://hub", "mqtt://hub:1883"),
            ("mqtts://hub.example/", "mqtts://hub.example:8883"),
            ("tcp://10.0.0.7:1884", "mqtt://10.0.0.7:1884"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
            ("mqtt://me:s3cret@hub", "mqtt://hub:1883"),
        ] {
            let address: BrokerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(
                !format!("{address:?} {:?}", BrokerSettings::new(address.clone()))
                    .contains("s3cret")
            );
        }
        let address: BrokerAddress = "mqtt://me:a%23b@hub".parse().unwrap();
        let login = BrokerSettings::new(address).login.unwrap();
        assert_eq!((&*login.user, &*login.password), ("me", "a#b"));
    }

    #[test]
    fn what_is_no_address_is_told_what_one_looks_like_and_keeps_its_password() {
        for (text, part) in [
            ("hub", "write mqtt://HOST"),
            ("http://hub", "write mqtt://HOST"),
            ("ws://hub", "WebSockets"),
            ("mqtt://", "host"),
            ("mqtt://hub/topic", "nothing follows"),
            ("mqtt://me:s3#cret@hub", "write # as %23"),
            ("mqtt://me:s3/cret@hub", "write # as %23"),
            ("mqtts://[::1]", "name"),
        ] {
            let error = text.parse::<BrokerAddress>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_added_to_the_addresss_user_and_replaces_none() {
        let settings = |text: &str| BrokerSettings::new(text.parse().unwrap());
        let login = |settings: BrokerSettings| settings.login.map(|l| (l.user, l.password));
        let given = |user: Option<&str>, password: &str| {
            (user.map(str::to_owned), Some(password.to_owned()))
        };
        let (user, password) = given(None, "p");
        let filled = settings("mqtt://me@hub").with_login(user, password);
        assert_eq!(login(filled), Some(("me".into(), "p".into())));
        let (user, password) = given(Some("you"), "p");
        let filled = settings("mqtt://me:own@hub").with_login(user, password);
        assert_eq!(login(filled), Some(("me".into(), "own".into())));
        assert_eq!(login(settings("mqtt://hub").with_login(None, None)), None);
    }
}
