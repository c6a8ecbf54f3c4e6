//! `[mqtt]`: what the cameras show goes to a broker, and what is asked for over it is done. A thread beside all others, which
//! listens to the same events as the page does; a broker that is away or wrong is told once, and hinders nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::broadcast::error::TryRecvError;

use super::access::Entry;
use super::api::prompts::how;
use super::cameras::{CameraState, Phase};
use super::changes::now;
use super::config::{self, BrokerConfig, CameraConfig, Config};
use super::events::Event;
use super::held::Held;
use super::{Message, Server};
use crate::host::machine;
use crate::mqtt::{
    Broker, BrokerSettings, CameraReporter, Command, Controls, Happening, MqttError, PromptInUse,
    Reporter, Request, Scope, Seen, Site, SiteCamera, SiteRegion,
};

/// How often events are looked for.
const PACE: Duration = Duration::from_millis(50);
/// How often cameras, labels and prompts are looked at.
const SITE_PACE: Duration = Duration::from_secs(1);
/// How often prompts are listed that other programs may have made.
const PROMPTS_PACE: Duration = Duration::from_secs(30);
/// How long a label holds that was not confirmed.
const EXPIRES: Duration = Duration::from_secs(60);
/// How often it is tried to begin with a broker where a file for it cannot be used.
const RETRY: Duration = Duration::from_secs(60);
/// How long the last reports may take.
const LAST: Duration = Duration::from_secs(3);
/// How wide pictures are at most.
const WIDTH: u32 = 960;

/// The thread that reports.
pub struct Reports {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    news: Receiver<Message>,
}

impl Reports {
    /// Reports on the cameras of `server` as its configuration says, also where that changes.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(server: &Arc<Server>) -> std::io::Result<Reports> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, news) = mpsc::channel();
        let (of_thread, server) = (Arc::clone(&stop), Arc::downgrade(server));
        let thread = thread::Builder::new()
            .name("reports".into())
            .spawn(move || run(&server, &of_thread, &sender))?;
        Ok(Reports {
            stop,
            thread: Some(thread),
            news,
        })
    }

    /// What is to be said since the last time.
    pub fn news(&self) -> impl Iterator<Item = Message> {
        self.news.try_iter()
    }

    /// Says what is left to be said, and that the box is gone.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within seconds; a panic there has ended the reports alone.
            let _ = thread.join();
        }
    }
}

/// A broker that is reported to.
struct Reporting {
    config: BrokerConfig,
    settings: BrokerSettings,
    /// When the files with certificates were written.
    written: Vec<Option<SystemTime>>,
    reloads: u64,
    broker: Broker,
    happenings: Receiver<Happening>,
    cameras: HashMap<String, CameraReporter>,
    site: Site,
    shown: Instant,
    held: Held<Arc<Event>>,
}

/// A broker that could not be begun with: a file that is not there yet, say.
struct Refused {
    config: BrokerConfig,
    at: Instant,
    reloads: u64,
    said: String,
}

impl Refused {
    fn new(error: &MqttError, config: &BrokerConfig, server: &Server) -> Refused {
        let cause = std::error::Error::source(error);
        let cause = cause.map_or(String::new(), |cause| format!(" ({cause})"));
        Refused {
            config: config.clone(),
            at: Instant::now(),
            reloads: server.reloads(),
            said: format!("{error}{cause}"),
        }
    }

    /// Whether what is told of this tells of `other`, which was tried by itself.
    fn is_told(&self, other: &Refused) -> bool {
        self.said == other.said && self.config == other.config && self.reloads == other.reloads
    }

    /// Whether it is time to try again.
    fn may_try(&self, wanted: &BrokerConfig, server: &Server) -> bool {
        self.config != *wanted || self.reloads != server.reloads() || self.at.elapsed() > RETRY
    }
}

fn written(settings: &BrokerSettings) -> Vec<Option<SystemTime>> {
    let identity = settings.identity.iter();
    let identity = identity.flat_map(|of| [&of.certificate, &of.key]);
    let files = settings.authorities.iter().chain(identity);
    files
        .map(|file| file.metadata().ok()?.modified().ok())
        .collect()
}

/// The names of prompts, and when they were listed.
#[derive(Default)]
struct Prompts {
    names: Vec<String>,
    listed: Option<Instant>,
}

fn run(server: &Weak<Server>, stop: &AtomicBool, news: &Sender<Message>) {
    // Nothing is listened to while there is nobody to tell.
    let mut events = None;
    let mut reporting: Option<Reporting> = None;
    let mut refused: Option<Refused> = None;
    let mut prompts = Prompts::default();
    while !stop.load(Ordering::Relaxed) {
        let Some(server) = server.upgrade() else {
            break;
        };
        let config = server.config();
        let wanted = config.mqtt.as_ref();
        if reporting.as_ref().map(|of| &of.config) != wanted
            || reporting.as_mut().is_some_and(|of| of.is_outdated(&server))
        {
            finish(reporting.take(), news);
            if let Some(wanted) =
                wanted.filter(|of| refused.as_ref().is_none_or(|no| no.may_try(of, &server)))
            {
                prompts.list(&server, &config);
                let site = site_of(&server, &config, wanted, &prompts.names);
                match begin(wanted, site, &server) {
                    Ok(begun) => (reporting, refused) = (Some(begun), None),
                    Err(error) => {
                        let now = Refused::new(&error, wanted, &server);
                        if refused.as_ref().is_none_or(|before| !before.is_told(&now)) {
                            let said = format!("[mqtt]: {}", now.said);
                            let _ = news.send(Message::Failed(said));
                        }
                        refused = Some(now);
                    }
                }
            }
        }
        if let Some(reporting) = &mut reporting {
            let events = events.get_or_insert_with(|| server.common.events.listen());
            loop {
                match events.try_recv() {
                    Ok(event) => {
                        if matches!(*event, Event::Prompt(_)) {
                            prompts.listed = None;
                        }
                        reporting.report(&event, &server);
                    }
                    // The newest state comes again with the next picture.
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            reporting.attend(&server, news);
            if reporting.shown.elapsed() >= SITE_PACE {
                prompts.list(&server, &config);
                for event in reporting.held.settle(&reporting.site) {
                    reporting.report(&event, &server);
                }
                reporting.show(&server, &config, &prompts.names);
            }
        } else {
            events = None;
        }
        drop(server);
        thread::sleep(PACE);
    }
    finish(reporting, news);
}

impl Prompts {
    /// Those of the home folder and those that regions use.
    fn list(&mut self, server: &Server, config: &Config) {
        if self.listed.is_some_and(|at| at.elapsed() < PROMPTS_PACE) {
            return;
        }
        let kept = server.common.home.list().unwrap_or_default();
        let mut names: Vec<String> = kept.into_iter().map(|listed| listed.name).collect();
        names.extend(config.prompts().into_iter().map(str::to_owned));
        names.sort();
        names.dedup();
        *self = Prompts {
            names,
            listed: Some(Instant::now()),
        };
    }
}

fn begin(config: &BrokerConfig, site: Site, server: &Server) -> Result<Reporting, MqttError> {
    let settings = config.settings()?;
    let reporter = Reporter {
        id: machine::id(server.common.home.root()),
        host: machine::name(),
    };
    let discovery = config.discovery.clone();
    let broker = Broker::start(settings.clone(), site.clone(), reporter, discovery)?;
    let (broker, happenings) = broker;
    let mut reporting = Reporting {
        config: config.clone(),
        written: written(&settings),
        settings,
        reloads: server.reloads(),
        broker,
        happenings,
        cameras: HashMap::new(),
        held: Held::new(site.clone()),
        site,
        shown: Instant::now(),
    };
    for view in server.cameras.all() {
        let state = view.state();
        reporting.camera(&state);
    }
    Ok(reporting)
}

fn finish(reporting: Option<Reporting>, news: &Sender<Message>) {
    let Some(Reporting {
        config,
        broker,
        happenings,
        ..
    }) = reporting
    else {
        return;
    };
    broker.finish(LAST);
    for happening in happenings.try_iter().filter(Happening::is_warning) {
        let _ = news.send(said(&config, &happening));
    }
}

fn said(config: &BrokerConfig, happening: &Happening) -> Message {
    let words = format!("broker {}: {happening}", config.address);
    if happening.is_warning() {
        Message::Failed(words)
    } else {
        Message::Noted(words)
    }
}

/// The box as it is now.
fn site_of(server: &Server, config: &Config, broker: &BrokerConfig, prompts: &[String]) -> Site {
    let camera = |camera: &CameraConfig| {
        let state = server.cameras.get(&camera.name).map(|view| view.state());
        let region = |region: &config::RegionConfig| {
            let mut known = state.iter().flat_map(|state| &state.regions);
            let known = known.find(|known| known.name == region.name);
            SiteRegion {
                name: region.name.clone(),
                labels: known.map_or_else(Vec::new, |known| known.labels.clone()),
                controls: Some(Controls {
                    prompts: prompts.to_vec(),
                }),
            }
        };
        let every = camera.watch_options().pace;
        SiteCamera {
            name: camera.name.clone(),
            expires: Some(EXPIRES.max(4 * every)),
            snapshots: broker.snapshots,
            regions: camera.regions.iter().map(region).collect(),
        }
    };
    Site {
        name: broker.name.clone().unwrap_or_else(machine::name),
        scope: Scope::Box,
        page: broker.page.clone(),
        cameras: config.cameras.iter().map(camera).collect(),
    }
}

impl Reporting {
    /// Whether what its files hold is no longer what it was begun with; asked once after each reload.
    fn is_outdated(&mut self, server: &Server) -> bool {
        let reloads = server.reloads();
        let asked = std::mem::replace(&mut self.reloads, reloads) != reloads;
        asked
            && (self.config.settings())
                .is_ok_and(|now| now != self.settings || written(&now) != self.written)
    }

    fn reporter(&mut self, camera: &str) -> Option<&mut CameraReporter> {
        if !self.site.cameras.iter().any(|known| known.name == camera) {
            return None;
        }
        let broker = &self.broker;
        let known = self.cameras.entry(camera.to_owned());
        Some(known.or_insert_with(|| broker.camera(camera)))
    }

    fn report(&mut self, event: &Arc<Event>, server: &Server) {
        match &**event {
            Event::Named(named) => {
                let Some(view) = server.cameras.get(&named.camera) else {
                    return;
                };
                let Some(label) = &named.label else { return };
                let place = (named.camera.as_str(), named.region.as_str());
                let waits = || Arc::clone(event);
                if !self.held.may_tell(&self.site, place, label, waits) {
                    return;
                }
                let state = view.state();
                let region = state.regions.iter().find(|of| of.name == named.region);
                let seen = Seen {
                    label: label.to_string(),
                    score: named.probability,
                    top: named
                        .top
                        .iter()
                        .map(|scored| (scored.label.clone(), scored.probability))
                        .collect(),
                    prompt: PromptInUse {
                        name: region.map(|region| region.prompt.clone()),
                        generation: region.and_then(|region| region.generation),
                    },
                };
                let area = view.config.region(&named.region);
                let area = area.and_then(config::RegionConfig::region);
                let picture = || {
                    let picture = view.picture()?;
                    let jpeg = picture.jpeg(area.as_ref(), Some(WIDTH)).ok()?;
                    Some(jpeg.to_vec())
                };
                if let Some(reporter) = self.reporter(&named.camera) {
                    reporter.seen(&named.region, seen, &picture);
                }
            }
            Event::Change(change) => {
                let from = change.from.as_ref().map(ToString::to_string);
                let to = change.to.to_string();
                if let Some(reporter) = self.reporter(&change.camera) {
                    reporter.changed(&change.region, from.as_deref(), &to, change.probability);
                }
            }
            Event::Camera(state) => self.camera(state),
            Event::CameraGone { camera, .. } => drop(self.cameras.remove(camera)),
            _ => {}
        }
    }

    fn camera(&mut self, state: &CameraState) {
        let Some(reporter) = self.reporter(&state.name) else {
            return;
        };
        let reason = state.error.as_deref();
        match state.state {
            Phase::Starting => {}
            Phase::Live => {
                reporter.working();
                reporter.still();
            }
            Phase::Stalled => reporter.problem(reason.unwrap_or("it sends no pictures")),
            Phase::Ended => reporter.problem(reason.unwrap_or("its pictures have ended")),
            Phase::Failed => reporter.problem(reason.unwrap_or("it failed")),
        }
    }

    /// Brings what the broker holds to what there is now.
    fn show(&mut self, server: &Server, config: &Config, prompts: &[String]) {
        self.shown = Instant::now();
        let site = site_of(server, config, &self.config, prompts);
        if site != self.site && self.broker.change(site.clone()).is_ok() {
            for camera in &site.cameras {
                if !self.site.cameras.contains(camera) {
                    self.cameras.remove(&camera.name);
                }
            }
            self.site = site;
        }
        for camera in &config.cameras {
            for region in &camera.regions {
                let (camera, name) = (&camera.name, &region.name);
                self.broker
                    .show_controls(camera, name, &region.prompt, region.threshold);
            }
        }
    }

    /// Hears what the broker has to say, and does what is asked for over it.
    fn attend(&mut self, server: &Arc<Server>, news: &Sender<Message>) {
        let happenings: Vec<Happening> = self.happenings.try_iter().collect();
        for happening in happenings {
            let _ = news.send(said(&self.config, &happening));
            let Happening::Command(command) = happening else {
                continue;
            };
            let done = follow(&command, server);
            // Where it cannot be written, the cameras go on all the same.
            let _ = server.access.audit.add(&Entry {
                at: now(),
                who: "mqtt",
                from: self.config.address.to_string(),
                did: &command.to_string(),
                status: if done.is_ok() { 200 } else { 409 },
            });
            if let Err(error) = done {
                let _ = news.send(Message::Failed(format!(
                    "broker {}: what was asked for was not done: {error}",
                    self.config.address
                )));
            }
        }
    }
}

/// Does what a command asks for.
fn follow(command: &Command, server: &Arc<Server>) -> Result<(), String> {
    let config = server.config();
    let camera = config.camera(&command.camera);
    let region = camera.and_then(|camera| camera.region(&command.region));
    let region = region.ok_or("that region is gone")?;
    match &command.what {
        Request::Train => {
            let how = how(server, &region.prompt);
            let common = &server.common;
            let features = &server.features;
            let started = server.training.start(&region.prompt, how, common, features);
            started.map(drop).map_err(|error| error.to_string())
        }
        Request::UsePrompt(prompt) => change(server, command, ("prompt", prompt.as_str().into())),
        Request::Threshold(threshold) => {
            let threshold = (f64::from(*threshold) * 1000.0).round() / 1000.0;
            change(server, command, ("threshold", threshold.into()))
        }
    }
}

/// Changes one key of a region in the configuration's file, and brings it into use.
fn change(
    server: &Server,
    command: &Command,
    (key, value): (&str, toml_edit::Value),
) -> Result<(), String> {
    let changed = server.edit(|document| {
        config::set_in_region(document, &command.camera, &command.region, (key, value))
    });
    changed.map_err(|error| error.to_string())
}
