//! What the configuration says of a fleet whose prompts are taken.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::Fault;
use super::broker::{self, BrokerConfig, Mqtt};
use crate::fleet::{Group, TrustedKey, check_region};
use crate::store::home::check_name;

/// `[fleet]`: whose prompts are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetConfig {
    /// The group that is followed.
    pub follow: Group,
    /// Whose signatures are taken.
    pub trusted: Vec<TrustedKey>,
    /// What this box is called there; what it is called in `[mqtt]`, or the machine's name, where nothing is said.
    pub name: Option<String>,
    /// The broker, where it is not that of `[mqtt]`.
    pub broker: Option<BrokerConfig>,
    /// What the group calls a prompt, and which of this box's it is; all that cameras use, by their own names, where nothing is
    /// said.
    pub regions: BTreeMap<String, String>,
}

impl FleetConfig {
    /// Whether the file holds a password for its broker.
    pub fn has_password(&self) -> bool {
        self.broker.as_ref().is_some_and(BrokerConfig::has_password)
    }
}

/// `[fleet]` as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fleet {
    follow: Spanned<String>,
    trusted: Spanned<Vec<Spanned<String>>>,
    name: Option<Spanned<String>>,
    broker: Option<Mqtt>,
    #[serde(default)]
    regions: BTreeMap<String, Spanned<String>>,
}

/// What it says, checked.
///
/// # Errors
/// Where something is wrong, and what.
pub(super) fn checked(table: Fleet) -> Result<FleetConfig, Fault> {
    let follow: Group = (table.follow.get_ref().parse())
        .map_err(|error: crate::fleet::NoticeError| (table.follow.span(), error.to_string()))?;
    let span = table.trusted.span();
    let mut trusted = Vec::new();
    for key in table.trusted.into_inner() {
        let parsed: Result<TrustedKey, _> = key.get_ref().parse();
        trusted.push(parsed.map_err(|error| (key.span(), error.to_string()))?);
    }
    if trusted.is_empty() {
        let fault = "name a key that is trusted, as `edge-rlp fleet keygen` prints it: nothing is taken without";
        return Err((span, fault.into()));
    }
    if let Some(name) = table
        .name
        .as_ref()
        .filter(|name| name.get_ref().trim().is_empty())
    {
        return Err((
            name.span(),
            "name is what this box is called, or is left out".into(),
        ));
    }
    if let Some((span, key)) = table.broker.as_ref().and_then(Mqtt::of_reports) {
        return Err((
            span,
            format!("{key} belongs into [mqtt]: here is only which broker carries the prompts"),
        ));
    }
    let mut regions = BTreeMap::<String, String>::new();
    for (region, prompt) in table.regions {
        let fault = |error: crate::store::StoreError| (prompt.span(), error.to_string());
        check_region(&region).map_err(fault)?;
        check_name(prompt.get_ref(), "prompt", ".rlp").map_err(fault)?;
        if let Some((other, _)) = regions.iter().find(|(_, known)| *known == prompt.get_ref()) {
            let fault = format!("{other:?} is that prompt already");
            return Err((prompt.span(), fault));
        }
        regions.insert(region, prompt.into_inner());
    }
    Ok(FleetConfig {
        follow,
        trusted,
        name: table.name.map(Spanned::into_inner),
        broker: table.broker.map(broker::checked).transpose()?,
        regions,
    })
}
