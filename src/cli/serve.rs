//! `edge-rlp serve`: flags become settings, and what happens is said.

use super::output::Output;
use super::{Context, Exit, usage};
use crate::host::signals;
use crate::host::supervisor::Supervisor;
use crate::serve::config::{ConfigFile, FILE_NAME};
use crate::serve::{self, Message, ServeError, Settings, Signals};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

#[derive(clap::Args)]
pub struct Arguments {
    /// The cameras and everything else, in TOML; docs/serve.md says what may stand in it [default: edge-rlp.toml in the home
    /// folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to serve the page and the API, in place of what the file says [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Only check the file
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let usual = || context.home.root().join(FILE_NAME);
    let config = arguments.config.unwrap_or_else(usual);
    if arguments.check {
        return check(&config, context);
    }
    let settings = Settings {
        config,
        listen: arguments.listen,
        home: context.home.clone(),
    };
    let reload = signals::reload_flag();
    let supervisor = Supervisor::starting();
    let signals = Signals {
        stop: &|| context.stopped(),
        reload: &|| reload.swap(false, Ordering::Relaxed),
        alive: &|| supervisor.alive(),
        say: &|message| {
            if matches!(message, Message::Ready(_)) {
                supervisor.ready();
            }
            say(&message, &context.output);
        },
    };
    match serve::run(&settings, &signals) {
        Err(error @ (ServeError::Config(_) | ServeError::Reachable(_))) => Err(usage(error)),
        served => Ok(served.map(|()| Exit::Done)?),
    }
}

fn check(path: &PathBuf, context: &Context) -> anyhow::Result<Exit> {
    if !path.exists() {
        return Err(usage(format!("{}: there is no such file", path.display())));
    }
    let config = ConfigFile::new(path).read().map_err(usage)?;
    context.output.object(&serde_json::json!({
        "config": path.display().to_string(),
        "cameras": config.cameras.iter().map(|camera| &camera.name).collect::<Vec<_>>(),
        "prompts": config.prompts(),
        "listen": config.listen.to_string(),
    }))?;
    let count = config.cameras.len();
    let cameras = if count == 1 { "camera" } else { "cameras" };
    context.output.line(format!(
        "{}: {count} {cameras}, nothing is wrong",
        path.display()
    ));
    Ok(Exit::Done)
}

fn say(message: &Message, output: &Output) {
    match message {
        Message::Ready(address) => output.note(format!("the page is at http://{address}/")),
        Message::Reloaded => output.note("the configuration was read again"),
        Message::Failed(said) => output.warn(said),
    }
}
