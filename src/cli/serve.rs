//! `edge-rlp serve`: flags become settings, and what happens is said.

use super::output::Output;
use super::{Context, Exit, usage};
use crate::host::supervisor::Supervisor;
use crate::host::{memory, signals};
use crate::serve::access::{self, AccessError, PasswordFile, Scope, TokenFile};
use crate::serve::config::{ConfigFile, FILE_NAME};
use crate::serve::models::Models;
use crate::serve::{self, Message, ServeError, Settings, Signals};
use anyhow::{Context as _, bail};
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use ratatui::crossterm::terminal;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{self, IsTerminal, stdin};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

#[derive(clap::Args)]
pub struct Arguments {
    /// The cameras and everything else, in TOML; docs/serve.md says what may stand in it [default: edge-rlp.toml in the home
    /// folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to serve the page and the API, in place of what the file says [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Only check the file
    #[arg(long, group = "other")]
    check: bool,
    /// Set the password that other machines need, typed or from standard input
    #[arg(long, group = "other")]
    set_password: bool,
    /// Make a token for a machine, and print it: it is not kept anywhere else
    #[arg(long, value_name = "NAME", group = "other")]
    new_token: Option<String>,
    /// What the token may do: read, label, admin
    #[arg(
        long,
        value_name = "SCOPE",
        requires = "new_token",
        value_delimiter = ',',
        default_value = "read"
    )]
    scopes: Vec<String>,
}

fn address(given: &str) -> Result<SocketAddr, String> {
    let told = |_| {
        "write an address with its port, as in 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080".to_owned()
    };
    given.parse().map_err(told)
}

impl Arguments {
    /// Where the configuration is written to, where it is named.
    pub fn folder(&self) -> Option<&Path> {
        let folder = self.config.as_deref()?.parent()?;
        Some(if folder == Path::new("") {
            Path::new(".")
        } else {
            folder
        })
    }
}

/// Has threads of cameras, which come and go, take no addresses of their own; to be called before any thread is started.
pub fn prepare_heap() {
    memory::one_arena();
    memory::keep_little();
}

pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let usual = || context.home.root().join(FILE_NAME);
    if arguments.set_password {
        return set_password(context);
    }
    if let Some(name) = &arguments.new_token {
        return new_token(name, &arguments.scopes, context);
    }
    let named = arguments.config.is_some();
    let config = arguments.config.unwrap_or_else(usual);
    if arguments.check {
        return check(&config, context);
    }
    if named && matches!(config.try_exists(), Ok(false)) {
        not_yet(&config, context)?;
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
            if matches!(message, Message::Ready { .. }) {
                supervisor.ready();
            }
            say(&message, &context.output);
        },
    };
    match serve::run(&settings, &signals) {
        Err(error @ (ServeError::Config(_) | ServeError::Tls(_))) => Err(usage(error)),
        served => Ok(served.map(|()| Exit::Done)?),
    }
}

/// A file that was named and is not there: the first of a new box, or a typing error.
fn not_yet(path: &Path, context: &Context) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(usage(format!(
            "{}: there is no such file, and no folder {} for one: make that folder, or name the file that you mean",
            path.display(),
            folder.display()
        )));
    }
    context.output.warn(format!(
        "{}: there is no such file, so there is no camera yet; it will be written once a camera is added at the page",
        path.display()
    ));
    Ok(())
}

fn check(path: &Path, context: &Context) -> anyhow::Result<Exit> {
    if !path.exists() {
        return Err(usage(format!("{}: there is no such file", path.display())));
    }
    let config = ConfigFile::new(path).check().map_err(usage)?;
    let models = Models::new(context.home.clone());
    let model = models.check(config.model.as_deref());
    model.map_err(|error| usage(format!("{}: {error}", path.display())))?;
    context.output.object(&json!({
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

fn set_password(context: &Context) -> anyhow::Result<Exit> {
    let password = typed("password: ")?;
    if stdin().is_terminal() && typed("the same again: ")? != password {
        bail!("the two are not the same: nothing was changed");
    }
    let file = PasswordFile::open(&context.home.root().join(access::FOLDER));
    // One that is damaged is replaced.
    let file = match file {
        Err(AccessError::Damaged { path, .. }) => {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
            PasswordFile::open(&context.home.root().join(access::FOLDER))
        }
        file => file,
    };
    file?.set(&password).map_err(short_is_usage)?;
    context
        .output
        .note("the password is set; a process that serves takes it with the next sign-in");
    Ok(Exit::Done)
}

fn short_is_usage(error: AccessError) -> anyhow::Error {
    match error {
        AccessError::Short | AccessError::Name(_) => usage(error),
        error => error.into(),
    }
}

fn new_token(name: &str, scopes: &[String], context: &Context) -> anyhow::Result<Exit> {
    let scope = |name: &String| match name.as_str() {
        "read" => Ok(Scope::Read),
        "label" => Ok(Scope::Label),
        "admin" => Ok(Scope::Admin),
        other => Err(usage(format!(
            "there is no scope {other:?}: the scopes are read, label and admin"
        ))),
    };
    let scopes: BTreeSet<Scope> = scopes.iter().map(scope).collect::<Result<_, _>>()?;
    let tokens = TokenFile::open(&context.home.root().join(access::FOLDER))?;
    let token = tokens.add(name, scopes.clone()).map_err(short_is_usage)?;
    let object = json!({ "name": name, "scopes": scopes, "token": token });
    context.output.object(&object)?;
    context.output.line(token);
    context
        .output
        .note("a process that serves knows it after SIGHUP (systemctl reload edge-rlp)");
    Ok(Exit::Done)
}

/// A line from standard input, which a terminal does not show.
fn typed(prompt: &str) -> anyhow::Result<String> {
    if !stdin().is_terminal() {
        let mut line = String::new();
        stdin().read_line(&mut line)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    eprint!("{prompt}");
    terminal::enable_raw_mode()?;
    let line = typed_unseen();
    terminal::disable_raw_mode()?;
    eprintln!();
    Ok(line?)
}

fn typed_unseen() -> io::Result<String> {
    let mut line = String::new();
    loop {
        let Event::Key(key) = read()? else {
            continue;
        };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Ok(line),
            KeyCode::Char('c' | 'd') if control => return Err(io::ErrorKind::Interrupted.into()),
            KeyCode::Char(letter) => line.push(letter),
            KeyCode::Backspace => drop(line.pop()),
            _ => {}
        }
    }
}

fn say(message: &Message, output: &Output) {
    match message {
        Message::Ready { address, https } => {
            let scheme = if *https { "https" } else { "http" };
            output.note(format!("the page is at {scheme}://{address}/"));
        }
        Message::Password(password) => {
            // With --quiet it would be lost.
            super::output::print_error(format_args!(
                "the password for other machines is {password}: it is said this once; `edge-rlp serve --set-password` sets another"
            ));
        }
        Message::Readable => output.warn(
            "the password and the pictures cross the network readable for all in it: name a certificate and its key under [access], or put a proxy with https before it (docs/security.md)",
        ),
        Message::Noted(said) => output.note(said),
        Message::Reloaded { waiting } if waiting.is_empty() => {
            output.note("the configuration was read again");
        }
        Message::Reloaded { waiting } => output.warn(format!(
            "the configuration was read again; what it says now of {} takes a new start (systemctl restart edge-rlp)",
            waiting.join(", ")
        )),
        Message::Failed(said) => output.warn(said),
    }
}
