//! In place of `broker.rs` where the program is built without MQTT.

use crate::watch::Event;

/// Nothing to choose.
#[derive(clap::Args)]
pub struct BrokerArguments {}

/// There is none.
pub enum Reporting {}

impl Reporting {
    pub fn report(&mut self, _: &Event) {
        match *self {}
    }

    pub fn given_up(&mut self, _: &str) {
        match *self {}
    }

    pub fn news(&self) -> impl Iterator<Item = (bool, String)> {
        std::iter::empty()
    }

    pub fn finish(self) -> Vec<(bool, String)> {
        match self {}
    }
}
