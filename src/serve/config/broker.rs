//! What the configuration says of a broker that is reported to.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::Fault;
use crate::mqtt::{
    BrokerAddress, BrokerSettings, DISCOVERY, Identity, MqttError, Version, password_in,
};

/// `[mqtt]`: the broker, and what it is told.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerConfig {
    /// Where it listens.
    pub address: BrokerAddress,
    /// The user, where the address has none.
    pub user: Option<String>,
    /// The password, where the address has none.
    pub password: Option<String>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// The protocol.
    pub version: Version,
    /// A file with the authorities that are trusted in place of the system's.
    pub authorities: Option<PathBuf>,
    /// By which the broker knows this box.
    pub identity: Option<Identity>,
    /// What this box is called there; the machine's name where nothing is said.
    pub name: Option<String>,
    /// Where Home Assistant looks for devices, if it is to be told.
    pub discovery: Option<String>,
    /// Whether pictures are sent.
    pub snapshots: bool,
    /// Where the page of this box is, to be linked to.
    pub page: Option<String>,
}

impl std::fmt::Debug for BrokerConfig {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "BrokerConfig({})", self.address)
    }
}

impl BrokerConfig {
    /// The files that it names.
    pub fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let identity = self.identity.iter_mut();
        let identity = identity.flat_map(|of| [&mut of.certificate, &mut of.key]);
        let others = [&mut self.password_file, &mut self.authorities];
        others.into_iter().flatten().chain(identity)
    }

    /// Whether the file holds a password for it.
    pub fn has_password(&self) -> bool {
        let settings = BrokerSettings::new(self.address.clone());
        let own = settings
            .login
            .is_some_and(|login| !login.password.is_empty());
        own || self.password.is_some()
    }

    /// How to speak to it; reads the password's file.
    ///
    /// # Errors
    /// If that cannot be used.
    pub fn settings(&self) -> Result<BrokerSettings, MqttError> {
        let password = match &self.password_file {
            Some(path) => Some(password_in(path)?),
            None => self.password.clone(),
        };
        let settings = BrokerSettings::new(self.address.clone());
        let mut settings = settings.with_login(self.user.clone(), password);
        settings.version = self.version;
        settings.authorities.clone_from(&self.authorities);
        settings.identity.clone_from(&self.identity);
        Ok(settings)
    }
}

/// `[mqtt]` as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mqtt {
    url: Spanned<String>,
    user: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    version: Option<Spanned<u64>>,
    ca: Option<PathBuf>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    #[serde(rename = "box")]
    name: Option<Spanned<String>>,
    discovery: Option<Spanned<String>>,
    #[serde(default)]
    snapshots: bool,
    page: Option<Spanned<String>>,
}

#[cfg(feature = "fleet")]
impl Mqtt {
    /// What of it belongs to reports alone, and means nothing where only a broker is named.
    pub fn of_reports(&self) -> Option<(std::ops::Range<usize>, &'static str)> {
        let given = |of: &Option<Spanned<String>>| of.as_ref().map(Spanned::span);
        let known = [
            (given(&self.name), "box"),
            (given(&self.discovery), "discovery"),
            (given(&self.page), "page"),
            (self.snapshots.then(|| self.url.span()), "snapshots"),
        ];
        known.into_iter().find_map(|(span, key)| Some((span?, key)))
    }
}

/// What it says, checked.
///
/// # Errors
/// Where something is wrong, and what.
pub(super) fn checked(table: Mqtt) -> Result<BrokerConfig, Fault> {
    let url = &table.url;
    let address: Result<BrokerAddress, _> = url.get_ref().parse();
    let address = address.map_err(|error| (url.span(), error.to_string()))?;
    let version = match &table.version {
        None => Version::V3,
        Some(version) => match version.get_ref() {
            3 => Version::V3,
            5 => Version::V5,
            _ => return Err((version.span(), "version is 3 (MQTT 3.1.1) or 5".into())),
        },
    };
    let identity = match (table.certificate, table.key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(Identity {
            certificate: certificate.into_inner(),
            key: key.into_inner(),
        }),
        (Some(one), None) | (None, Some(one)) => {
            let fault = "certificate and key belong together: only one of them is given";
            return Err((one.span(), fault.into()));
        }
    };
    if let Some(name) = table
        .name
        .as_ref()
        .filter(|name| name.get_ref().trim().is_empty())
    {
        return Err((name.span(), "box is a name, or is left out".into()));
    }
    let discovery = match table.discovery {
        None => Some(DISCOVERY.to_owned()),
        Some(given) if given.get_ref().contains(['+', '#']) => {
            let fault = "discovery is the beginning of topics, without + and #, or \"off\"";
            return Err((given.span(), fault.into()));
        }
        Some(given) => Some(given.get_ref().trim_matches('/').to_owned())
            .filter(|prefix| !prefix.is_empty() && prefix != "off"),
    };
    let is_page = |page: &str| page.starts_with("http://") || page.starts_with("https://");
    if let Some(page) = table.page.as_ref().filter(|page| !is_page(page.get_ref())) {
        let fault = "page is where this box's page is, as in \"http://box.local:8080/\"";
        return Err((page.span(), fault.into()));
    }
    Ok(BrokerConfig {
        address,
        user: table.user,
        password: table.password,
        password_file: table.password_file,
        version,
        authorities: table.ca,
        identity,
        name: table.name.map(Spanned::into_inner),
        discovery,
        snapshots: table.snapshots,
        page: table.page.map(Spanned::into_inner),
    })
}
