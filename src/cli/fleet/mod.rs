//! `edge-rlp fleet`: what an owner signs and publishes, and what became of it.

mod broker;
mod follow;
mod keygen;
mod merge;
mod publish;
mod status;

use super::{Context, Exit, usage};
use crate::fleet::{Password, key_file};
use crate::mqtt::password_in;
use std::path::PathBuf;

/// Where the password of the secret key may stand.
const KEY_PASSWORD: &str = "EDGE_RLP_FLEET_PASSWORD";
/// The folder in the home folder that the key lies in.
const FOLDER: &str = "fleet";
/// What the key's file is called there.
const KEY: &str = "fleet.key";

#[derive(clap::Subcommand)]
pub enum Command {
    /// Make the key that prompts are signed with, and print the one that boxes are to trust
    Keygen(keygen::Arguments),
    /// Send a prompt to the boxes of a group; each takes it if it is at least as good on its own pictures
    Publish(Box<publish::PublishArguments>),
    /// Have the boxes of a group use an earlier prompt again
    Rollback(Box<publish::RollbackArguments>),
    /// Have the boxes of a group go back to what they had before the fleet
    Withdraw(Box<publish::WithdrawArguments>),
    /// Say what became of it on each box of a group
    Status(status::Arguments),
    /// Make one prompt of those that many boxes have trained for the same labels
    Merge(merge::Arguments),
    /// Take what is published for a group, on a box that does not run `serve`
    Follow(follow::Arguments),
}

pub fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Keygen(arguments) => keygen::run(&arguments, context),
        Command::Publish(arguments) => publish::run(*arguments, context),
        Command::Rollback(arguments) => publish::rollback(*arguments, context),
        Command::Withdraw(arguments) => publish::withdraw(*arguments, context),
        Command::Status(arguments) => status::run(&arguments, context),
        Command::Merge(arguments) => merge::run(&arguments, context),
        Command::Follow(arguments) => follow::run(&arguments, context),
    }
}

/// Which secret key, and what opens it.
#[derive(clap::Args)]
pub struct KeyArguments {
    /// The file of the secret key, as `fleet keygen` or `minisign -G` makes it [default: fleet/fleet.key in the home folder]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A file with the key's password that only its owner and group can read; else it is taken from EDGE_RLP_FLEET_PASSWORD
    #[arg(long, value_name = "FILE")]
    key_password_file: Option<PathBuf>,
}

impl KeyArguments {
    fn path(&self, context: &Context) -> PathBuf {
        let usual = || context.home.root().join(FOLDER).join(KEY);
        self.key.clone().unwrap_or_else(usual)
    }

    fn password(&self) -> anyhow::Result<Option<String>> {
        match &self.key_password_file {
            Some(file) => password_in(file).map(Some).map_err(usage),
            None => Ok(std::env::var(KEY_PASSWORD)
                .ok()
                .filter(|password| !password.is_empty())),
        }
    }
}
