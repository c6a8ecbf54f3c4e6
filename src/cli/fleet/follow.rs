//! `edge-rlp fleet follow`: a box without `serve` takes what is published, once or until it is ended.

use super::broker::BrokerArguments;
use crate::cli::model::pull::proxies;
use crate::cli::{Context, Exit, usage};
use crate::clip::Model;
use crate::download::ClientOptions;
use crate::fleet::fetch::fetch;
use crate::fleet::judge::{JudgeError, OwnPictures};
use crate::fleet::{
    Bundle, Follower, Group, Member, News, Subscription, Tools, TrustedKey, check_region,
    models::{self, NoModel},
};
use crate::host::machine;
use crate::prompt::Prompt;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the last report may take.
const LAST: Duration = Duration::from_secs(3);
/// How long it waits for what comes before it looks for signals.
const PACE: Duration = Duration::from_millis(200);
/// With `--once`: how long nothing new must come before all has come that the broker keeps.
const SILENCE: Duration = Duration::from_millis(700);

#[derive(clap::Args)]
pub struct Arguments {
    /// What the group calls a prompt, and, where that is called otherwise here, the prompt: NAME or NAME=PROMPT
    #[arg(required = true, value_name = "REGION[=PROMPT]")]
    regions: Vec<String>,
    /// The group to follow, as in shops/north
    #[arg(long, value_name = "GROUP")]
    group: Group,
    /// A key whose signatures are taken, as `fleet keygen` prints it
    #[arg(long, value_name = "KEY", required = true)]
    trusted: Vec<TrustedKey>,
    /// What this box is called there [default: this machine's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Take what the broker keeps now, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let subscription = Subscription {
        group: arguments.group.clone(),
        name: arguments.name.clone().unwrap_or_else(machine::name),
        trusted: arguments.trusted.clone(),
        regions: regions(&arguments.regions, context)?,
    };
    let follower = Follower::new(context.home.clone(), subscription);
    let id = machine::id(context.home.root());
    let mut member = Member::join(arguments.broker.settings()?, follower, &id).map_err(usage)?;
    let model = |prompt: &Prompt, bundle: Option<&Bundle>| model_for(prompt, bundle, context);
    let pictures = |name: &str, model: &Model| -> Result<Option<OwnPictures>, JudgeError> {
        OwnPictures::of_shots(&context.home, name, model)
    };
    let tools = Tools {
        model: &model,
        pictures: &pictures,
    };
    let (begun, last) = (Instant::now(), Cell::new(Instant::now()));
    let accepted = Cell::new(true);
    let away = RefCell::new(None);
    while !context.stopped() {
        member.attend(PACE, &tools, &mut |news| {
            last.set(Instant::now());
            match news.code {
                "away" => drop(away.replace(Some(news.said.clone()))),
                "connected" => drop(away.replace(None)),
                "waits" => {}
                _ => accepted.set(accepted.get() && !news.is_warning),
            }
            say(&news, context);
        });
        if !arguments.once {
            continue;
        }
        if member.is_listening() && last.get().elapsed() > SILENCE {
            break;
        }
        if !member.is_listening() && begun.elapsed() > arguments.broker.timeout() {
            let reason = away.take().unwrap_or_else(|| "it does not answer".into());
            anyhow::bail!("the broker was not reached: {reason}");
        }
    }
    member.leave(LAST);
    Ok(if accepted.get() {
        Exit::Done
    } else {
        Exit::NothingAccepted
    })
}

fn say(news: &News, context: &Context) {
    let said = match &news.region {
        Some(region) => format!("{region}: {}", news.said),
        None => format!("broker: {}", news.said),
    };
    // Standard output that is gone has set the flag that ends the loop.
    let _ = context.output.object(&json!({
        "region": news.region,
        "code": news.code,
        "said": news.said,
    }));
    match (&news.region, news.is_warning) {
        (Some(_), false) => context.output.line(said),
        (None, false) => context.output.note(said),
        (_, true) => context.output.warn(said),
    }
}

fn regions(given: &[String], context: &Context) -> anyhow::Result<Vec<(String, String)>> {
    let mut regions: Vec<(String, String)> = Vec::new();
    for text in given {
        let (region, prompt) = text.split_once('=').unwrap_or((text, text));
        check_region(region).map_err(usage)?;
        context.home.prompt_path(prompt).map_err(usage)?;
        if regions.iter().any(|(of, to)| of == region || to == prompt) {
            return Err(usage(format!(
                "{text}: a region is one prompt, and a prompt one region"
            )));
        }
        regions.push((region.into(), prompt.into()));
    }
    Ok(regions)
}

/// The model that a prompt was trained for; fetched where it is not here and the notice says from where.
fn model_for(
    prompt: &Prompt,
    bundle: Option<&Bundle>,
    context: &Context,
) -> Result<Arc<Model>, NoModel> {
    match (
        models::open(&context.home, &prompt.model_fingerprint),
        bundle,
    ) {
        (Ok(model), _) => Ok(Arc::new(model)),
        (Err(has), None) => Err(NoModel::Others(has)),
        (Err(_), Some(bundle)) => fetched(prompt, bundle, context).map(Arc::new),
    }
}

fn fetched(prompt: &Prompt, bundle: &Bundle, context: &Context) -> Result<Model, NoModel> {
    let Context { home, output, .. } = context;
    output.note(format!("the model {} is fetched", prompt.model_name));
    let options = ClientOptions {
        proxies: proxies(),
        ..ClientOptions::default()
    };
    let file = fetch(home, prompt, bundle, options, &|| !context.stopped())
        .map_err(|error| NoModel::fetching(home, &error))?;
    Model::open(&file).map_err(|error| NoModel::Others(error.to_string()))
}
