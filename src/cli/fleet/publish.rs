//! `edge-rlp fleet publish`, `rollback` and `withdraw`: a notice is signed and handed to the broker.

use super::broker::BrokerArguments;
use super::{KeyArguments, key_file};
use crate::cli::{Context, Exit, usage};
use crate::fleet::{
    Bundle, Canary, Channel, Group, Kind, Notice, PublishError, Published, Publisher, SigningKey,
    TrustedKey, publish, publisher, topics,
};
use crate::store::LoadedPrompt;
use anyhow::Context as _;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most boxes that are named where a key is not trusted.
const NAMED: usize = 5;
/// How long is waited for what boxes have reported: it is only told.
const REPORTS: Duration = Duration::from_secs(5);

/// For whom, and signed by whom.
#[derive(clap::Args)]
pub struct TargetArguments {
    /// The boxes that it is for, as in shops/north
    #[arg(long, value_name = "GROUP")]
    group: Group,
    #[command(flatten)]
    key: KeyArguments,
    /// A further key whose notices count when the next number is chosen, where several people publish
    #[arg(long, value_name = "KEY")]
    trust: Vec<TrustedKey>,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(clap::Args)]
pub struct PublishArguments {
    /// A prompt by name, or a prompt file
    #[arg(value_name = "NAME|FILE")]
    prompt: PathBuf,
    /// What the boxes call it [default: the prompt's name]
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Let so many of the boxes try it first, always the same ones
    #[arg(long, value_name = "PERCENT", default_value = "100%")]
    canary: Canary,
    /// Where boxes fetch the prompt's model that have it not: http:// or https://
    #[arg(long, value_name = "URL", requires = "bundle")]
    bundle_url: Option<String>,
    /// The same bundle as a file here, for its size and its SHA-256
    #[arg(long, value_name = "FILE", requires = "bundle_url")]
    bundle: Option<PathBuf>,
    /// Its number, greater than all before [default: the next one]
    #[arg(long, value_name = "N")]
    generation: Option<u64>,
    #[command(flatten)]
    target: TargetArguments,
}

#[derive(clap::Args)]
pub struct RollbackArguments {
    /// What the boxes call it
    region: String,
    /// The generation whose prompt is to be used again [default: the newest before that in use with another prompt]
    #[arg(long, value_name = "GENERATION")]
    to: Option<u64>,
    #[command(flatten)]
    target: TargetArguments,
}

#[derive(clap::Args)]
pub struct WithdrawArguments {
    /// What the boxes call it
    region: String,
    #[command(flatten)]
    target: TargetArguments,
}

pub fn run(arguments: PublishArguments, context: &Context) -> anyhow::Result<Exit> {
    let loaded = context.home.load(&arguments.prompt)?;
    if let Some(warning) = &loaded.warning {
        context.output.warn(warning);
    }
    let region = match &arguments.region {
        Some(region) => region.clone(),
        None => called(&arguments.prompt)?,
    };
    let target = &arguments.target;
    let LoadedPrompt { record, .. } = loaded;
    let mut notice = Notice::new(
        Kind::Publish,
        target.group.clone(),
        &region,
        1,
        Some(record),
    )
    .map_err(usage)?;
    notice.canary = arguments.canary;
    if let (Some(url), Some(file)) = (&arguments.bundle_url, &arguments.bundle) {
        notice.bundle = Some(bundle(url, file)?);
    }
    target.send(notice, arguments.generation, context)
}

pub fn rollback(arguments: RollbackArguments, context: &Context) -> anyhow::Result<Exit> {
    let target = &arguments.target;
    let key = target.key.open(context)?;
    let published = Published::new(&context.home, &target.group, &arguments.region);
    let earlier = match arguments.to {
        Some(generation) => published.notice(generation, key.public())?,
        None => published.before(key.public())?,
    };
    let generation = earlier.generation;
    if earlier.prompt.is_none() {
        return Err(usage(format!(
            "generation {generation} brought no prompt: it withdrew one"
        )));
    }
    let kind = Kind::Rollback;
    let mut notice = Notice::new(
        kind,
        target.group.clone(),
        &arguments.region,
        1,
        earlier.prompt,
    )
    .map_err(usage)?;
    notice.bundle = earlier.bundle;
    // What a rollback brought back was once published under another number.
    notice.restores = Some(earlier.restores.unwrap_or(generation));
    target.send(notice, None, context)
}

pub fn withdraw(arguments: WithdrawArguments, context: &Context) -> anyhow::Result<Exit> {
    let target = &arguments.target;
    let notice = Notice::new(
        Kind::Withdraw,
        target.group.clone(),
        &arguments.region,
        1,
        None,
    )
    .map_err(usage)?;
    target.send(notice, None, context)
}

impl TargetArguments {
    /// The boxes that have said whom they trust, and do not trust `key`. A user who may not hear it is told nothing.
    fn strangers(&self, key: &SigningKey) -> anyhow::Result<Vec<String>> {
        let id = key.public().id();
        let settings = self.broker.settings()?;
        let heard = publisher::reports(settings, &self.group, REPORTS).unwrap_or_default();
        let strangers = heard.into_iter().filter(|report| report.distrusts(&id));
        Ok(strangers.map(|report| report.name).collect())
    }

    fn send(
        &self,
        notice: Notice,
        generation: Option<u64>,
        context: &Context,
    ) -> anyhow::Result<Exit> {
        let Context { home, output, .. } = context;
        let key = self.key.open(context)?;
        let trusted: Vec<TrustedKey> = [key.public().clone()]
            .into_iter()
            .chain(self.trust.clone())
            .collect();
        let channels = [Channel::All, Channel::Canary];
        let topics =
            channels.map(|channel| topics::of_region(&notice.group, &notice.region, channel));
        let publisher = Publisher::connect(
            self.broker.settings()?,
            topics.into(),
            self.broker.timeout(),
        )?;
        let notice =
            publish(home, publisher, notice, (&key, &trusted), generation).map_err(|error| {
                match error {
                    PublishError::NotNewer { .. } | PublishError::Notice(_) => usage(error),
                    error => error.into(),
                }
            })?;
        let strangers = self.strangers(&key)?;
        tell(&notice, &key, &strangers, context)?;
        if notice.canary != Canary::ALL {
            output.note(format!(
                "{} of the boxes try it; `edge-rlp fleet status` says how they find it, and the same without --canary brings it to all",
                notice.canary
            ));
        }
        Ok(Exit::Done)
    }
}

fn tell(
    notice: &Notice,
    key: &SigningKey,
    strangers: &[String],
    context: &Context,
) -> anyhow::Result<()> {
    let kind = match notice.kind {
        Kind::Publish => "published",
        Kind::Rollback => "rolled back",
        Kind::Withdraw => "withdrawn",
    };
    context.output.object(&json!({
        "kind": notice.kind,
        "group": notice.group,
        "region": notice.region,
        "generation": notice.generation,
        "restores": notice.restores,
        "canary": f64::from(notice.canary.basis_points()) / 10_000.0,
        "prompt_digest": notice.prompt_digest(),
        "key": key.public().id(),
        "not_trusted_by": strangers,
    }))?;
    let restores = notice
        .restores
        .map_or(String::new(), |of| format!(", what generation {of} was"));
    context.output.line(format!(
        "{kind}: {} for {}, generation {}{restores}, signed by {}",
        notice.region,
        notice.group,
        notice.generation,
        key.public().id()
    ));
    if !strangers.is_empty() {
        let few = strangers.iter().take(NAMED).cloned().collect::<Vec<_>>();
        let more = match strangers.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        context.output.warn(format!(
            "{}{more} will refuse it: they do not trust the key {}. Put what `edge-rlp fleet keygen` printed into `trusted` there",
            few.join(", "),
            key.public().id()
        ));
    }
    Ok(())
}

impl KeyArguments {
    /// # Errors
    /// If there is none that can be opened.
    pub fn open(&self, context: &Context) -> anyhow::Result<SigningKey> {
        let path = self.path(context);
        if !path.exists() {
            return Err(usage(format!(
                "there is no key {}: `edge-rlp fleet keygen` makes one",
                path.display()
            )));
        }
        let password = self
            .password()?
            .map_or(super::Password::None, super::Password::Given);
        Ok(key_file::open(&path, &password)?)
    }
}

/// What a prompt is called that was given by name.
fn called(prompt: &Path) -> anyhow::Result<String> {
    let name = prompt
        .to_str()
        .filter(|name| !name.contains(['/', '\\']) && !name.ends_with(".rlp"));
    name.map(str::to_owned).ok_or_else(|| {
        usage(format!(
            "{} is a file: say with --region what the boxes call it",
            prompt.display()
        ))
    })
}

fn bundle(url: &str, file: &Path) -> anyhow::Result<Bundle> {
    let reading = || format!("{} cannot be read", file.display());
    let opened = crate::files::open(file).with_context(reading)?;
    let bytes = opened.metadata().with_context(reading)?.len();
    let sha256 = crate::download::Sha256::of(opened)
        .with_context(reading)?
        .to_string();
    Ok(Bundle {
        url: url.into(),
        sha256,
        bytes,
    })
}
