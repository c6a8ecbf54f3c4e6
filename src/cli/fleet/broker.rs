//! Which broker carries what a fleet says, and how to speak to it.

use crate::cli::classify::broker::password;
use crate::cli::usage;
use crate::mqtt::{BrokerAddress, BrokerSettings, Identity, Version};
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args)]
#[command(next_help_heading = "The broker")]
pub struct BrokerArguments {
    /// The broker: mqtts://[USER@]HOST (encrypted) or mqtt://[USER@]HOST. The password stands in EDGE_RLP_MQTT_PASSWORD or
    /// --broker-password-file
    #[arg(long, value_name = "URL", env = "EDGE_RLP_FLEET_BROKER")]
    broker: String,
    /// A file with its password that only its owner and group can read
    #[arg(long, value_name = "FILE")]
    broker_password_file: Option<PathBuf>,
    /// Trust the authorities in this PEM file in place of the system's
    #[arg(long, value_name = "FILE")]
    broker_ca: Option<PathBuf>,
    /// The PEM file of this client's certificate, where the broker wants one
    #[arg(long, value_name = "FILE", requires = "broker_key")]
    broker_cert: Option<PathBuf>,
    /// The PEM file of its private key
    #[arg(long, value_name = "FILE", requires = "broker_cert")]
    broker_key: Option<PathBuf>,
    /// The protocol's version: 3 (3.1.1) or 5
    #[arg(long, value_name = "N", default_value = "3", value_parser = ["3", "5"])]
    mqtt_version: String,
    /// How long the broker may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::cli::duration)]
    timeout: Duration,
}

impl BrokerArguments {
    /// # Errors
    /// If they cannot be used: wrong usage.
    pub fn settings(&self) -> anyhow::Result<BrokerSettings> {
        let address: BrokerAddress = self.broker.parse().map_err(usage)?;
        let password = password(self.broker_password_file.as_deref())?;
        let mut settings = BrokerSettings::new(address).with_login(None, password);
        settings.version = match &*self.mqtt_version {
            "5" => Version::V5,
            _ => Version::V3,
        };
        settings.authorities = self.broker_ca.clone();
        settings.identity = match (&self.broker_cert, &self.broker_key) {
            (Some(certificate), Some(key)) => Some(Identity {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => None,
        };
        // A person waits.
        settings.pauses.1 = Duration::from_secs(3);
        Ok(settings)
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}
