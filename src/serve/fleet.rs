//! `[fleet]`: prompts that an owner publishes are taken, judged on this box's own shots, and brought into use. A thread that
//! steps back behind the cameras; a camera takes a new prompt as it takes one that another program has written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::config::{BrokerConfig, Config, FleetConfig};
use super::training::step_back;
use super::{Message, Server};
use crate::clip::Model;
use crate::download::ClientOptions;
use crate::fleet::fetch::fetch;
use crate::fleet::judge::{JudgeError, OwnPictures};
use crate::fleet::models::{self, NoModel};
use crate::fleet::{Bundle, Follower, Member, News, Subscription, Tools};
use crate::host::machine;
use crate::mqtt::MqttError;
use crate::prompt::Prompt;

/// How long it waits for what comes before it looks at the configuration.
const PACE: Duration = Duration::from_millis(200);
/// How long the last report may take.
const LAST: Duration = Duration::from_secs(2);
/// How long a judgement that is under way at the end is waited for; nothing of it is kept otherwise.
const PATIENCE: Duration = Duration::from_secs(4);

/// The thread that follows.
pub struct Following {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    news: Receiver<Message>,
}

impl Following {
    /// Follows what the configuration of `server` says, also where that changes.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(server: &Arc<Server>) -> std::io::Result<Following> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, news) = mpsc::channel();
        let (of_thread, server) = (Arc::clone(&stop), Arc::downgrade(server));
        let thread = thread::Builder::new()
            .name("fleet".into())
            .spawn(move || run(&server, &of_thread, &sender))?;
        Ok(Following { stop, thread, news })
    }

    /// What is to be said since the last time.
    pub fn news(&self) -> impl Iterator<Item = Message> {
        self.news.try_iter()
    }

    /// Says goodbye.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let end = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        if self.thread.is_finished() {
            // A panic there has ended what is followed alone.
            let _ = self.thread.join();
        }
    }
}

/// What is followed, and over which broker.
#[derive(Clone, PartialEq)]
struct Wanted {
    broker: BrokerConfig,
    subscription: Subscription,
}

impl Wanted {
    /// What the configuration says, if it says something; a sentence where it does not say enough.
    fn of(config: &Config) -> Option<Result<Wanted, &'static str>> {
        let fleet: &FleetConfig = config.fleet.as_ref()?;
        let Some(broker) = fleet.broker.clone().or_else(|| config.mqtt.clone()) else {
            return Some(Err(
                "[fleet] needs a broker: name it in [fleet.broker] or in [mqtt]",
            ));
        };
        let own = || {
            config
                .prompts()
                .into_iter()
                .map(|name| (name.to_owned(), name.to_owned()))
        };
        let regions: Vec<(String, String)> = if fleet.regions.is_empty() {
            own().collect()
        } else {
            fleet.regions.clone().into_iter().collect()
        };
        if regions.is_empty() {
            return Some(Err(
                "[fleet] follows nothing: there is no camera, and [fleet.regions] names no prompt",
            ));
        }
        let of_broker = || config.mqtt.as_ref().and_then(|mqtt| mqtt.name.clone());
        let name = fleet
            .name
            .clone()
            .or_else(of_broker)
            .unwrap_or_else(machine::name);
        Some(Ok(Wanted {
            broker,
            subscription: Subscription {
                group: fleet.follow.clone(),
                name,
                trusted: fleet.trusted.clone(),
                regions,
            },
        }))
    }
}

fn run(server: &Weak<Server>, stop: &AtomicBool, news: &Sender<Message>) {
    step_back(10);
    let mut member: Option<(Wanted, Member)> = None;
    let mut reloads = 0;
    // What was told not to be enough, or could not be used: it is told once.
    let mut told: Option<String> = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(server) = server.upgrade() else {
            break;
        };
        let wanted = Wanted::of(&server.config());
        let (wanted, fault) = match wanted {
            None => (None, None),
            Some(Ok(wanted)) => (Some(wanted), None),
            Some(Err(fault)) => (None, Some(fault.to_owned())),
        };
        // Files that it names may hold something else since.
        let asked = std::mem::replace(&mut reloads, server.reloads()) != server.reloads();
        if asked || member.as_ref().map(|(known, _)| known) != wanted.as_ref() {
            if let Some((_, member)) = member.take() {
                member.leave(LAST);
            }
            let joined = wanted.map(|wanted| join(&wanted, &server).map(|member| (wanted, member)));
            match joined.transpose() {
                Ok(joined) => member = joined,
                Err(error) => tell(&mut told, Some(format!("[fleet]: {error}")), news),
            }
        } else {
            tell(&mut told, fault, news);
        }
        match &mut member {
            Some((wanted, member)) => attend(wanted, member, &server, (stop, news)),
            None => thread::sleep(PACE),
        }
    }
    if let Some((_, member)) = member {
        member.leave(LAST);
    }
}

fn tell(told: &mut Option<String>, fault: Option<String>, news: &Sender<Message>) {
    if let Some(fault) = fault.filter(|fault| told.as_ref() != Some(fault)) {
        let _ = news.send(Message::Failed(fault.clone()));
        *told = Some(fault);
    }
}

fn join(wanted: &Wanted, server: &Server) -> Result<Member, MqttError> {
    let home = server.common.home.clone();
    let id = machine::id(home.root());
    let follower = Follower::new(home, wanted.subscription.clone());
    Member::join(wanted.broker.settings()?, follower, &id)
}

fn attend(
    wanted: &Wanted,
    member: &mut Member,
    server: &Server,
    (stop, news): (&AtomicBool, &Sender<Message>),
) {
    let common = &server.common;
    let model = |prompt: &Prompt, bundle: Option<&Bundle>| match common.models.of_prompt(prompt) {
        Ok(model) => Ok(model),
        Err(_) => match bundle {
            Some(bundle) => fetched(prompt, bundle, server, stop),
            None => Err(NoModel::Others(models::in_words(&common.home))),
        },
    };
    let pictures = |name: &str, model: &Model| -> Result<Option<OwnPictures>, JudgeError> {
        OwnPictures::of_shots(&common.home, name, model)
    };
    let tools = Tools {
        model: &model,
        pictures: &pictures,
    };
    member.attend(PACE, &tools, &mut |of: News| {
        let group = &wanted.subscription.group;
        let words = match &of.region {
            Some(region) => format!("fleet {group}, {region}: {}", of.said),
            None => format!(
                "fleet {group}, broker {}: {}",
                wanted.broker.address, of.said
            ),
        };
        let message = if of.is_warning {
            Message::Failed(words)
        } else {
            Message::Noted(words)
        };
        let _ = news.send(message);
    });
}

fn fetched(
    prompt: &Prompt,
    bundle: &Bundle,
    server: &Server,
    stop: &AtomicBool,
) -> Result<Arc<Model>, NoModel> {
    let common = &server.common;
    let go_on = || !stop.load(Ordering::Relaxed);
    let options = ClientOptions::default();
    fetch(&common.home, prompt, bundle, options, &go_on)
        .map_err(|error| NoModel::fetching(&common.home, &error))?;
    let opened = common.models.of_prompt(prompt);
    opened.map_err(|error| NoModel::Others(error.to_string()))
}
