//! Reports to an MQTT broker, as Home Assistant, Node-RED and Grafana read them: what each region of each camera shows, since
//! when, and whether the camera and the box are there. docs/home-assistant.md has the topics.
//!
//! A [`Broker`] is a thread of its own, and whoever watches a camera never waits for it: what is to be said is put into an
//! outbox of fixed size. While the broker is away, the newest state replaces the one before, and of what happened a fixed
//! number is kept and told later as a gap.

mod claim;
mod command;
mod discovery;
mod error;
#[cfg(feature = "fleet")]
pub(crate) mod exchange;
mod index;
mod link;
mod outbox;
mod owner;
mod report;
mod session;
mod settings;
mod shared;
mod site;
mod thread;
mod tls;
mod topics;

pub use command::{Command, Request};
pub use discovery::DISCOVERY;
pub use error::MqttError;
pub use report::{CameraReporter, PromptInUse, Seen, picture};
pub use settings::{BrokerAddress, BrokerSettings, Identity, Version, password_in};
pub use site::{Controls, Scope, Site, SiteCamera, SiteRegion};
pub use topics::WHOLE;
#[cfg(feature = "fleet")]
pub(crate) use topics::level;

use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use index::Index;
use outbox::Outbox;
use owner::Owner;
use shared::{Shared, State};
use site::Plan;

/// How many happenings wait for whoever listens; more are not told.
const MOST_HAPPENINGS: usize = 256;

/// The program that reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// The same at every start on this machine, and on no other: the broker knows the client again by it.
    pub id: String,
    /// The machine, for people.
    pub host: String,
}

/// What a broker, or others over it, have to say.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// Reports arrive from here on.
    Connected {
        /// How long the broker was away; none at the start.
        away: Option<Duration>,
        /// Changes of that time that are told now.
        late: usize,
        /// Changes of that time that there was no room for.
        lost: u64,
    },
    /// The broker is away, or does not want this client; it is tried again and again.
    Away {
        /// Why.
        reason: String,
    },
    /// Another program reports under this name, so this one does not; it asks again from time to time.
    Taken {
        /// Where it runs.
        host: String,
    },
    /// Another program reported under this name before, and does not any more.
    TookOver {
        /// Where it ran.
        host: String,
    },
    /// Something was left out.
    Ignored {
        /// What, and why.
        reason: String,
    },
    /// Something is asked for.
    Command(Command),
}

impl Happening {
    /// Whether something is wrong that a person can cure.
    pub fn is_warning(&self) -> bool {
        matches!(
            self,
            Happening::Away { .. } | Happening::Taken { .. } | Happening::Ignored { .. }
        )
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Happening::Connected { away: None, .. } => out.write_str("reports arrive"),
            Happening::Connected {
                away: Some(away),
                late,
                lost,
            } => {
                let away = Duration::from_secs(away.as_secs());
                let away = humantime::format_duration(away);
                write!(out, "reports arrive again after {away}")?;
                match (late, lost) {
                    (0, 0) => Ok(()),
                    (late, 0) => write!(out, "; {late} changes of that time are told late"),
                    (late, lost) => write!(
                        out,
                        "; {late} changes of that time are told late, and {lost} older ones are lost"
                    ),
                }
            }
            Happening::Away { reason } => {
                write!(out, "{reason}; the newest state is sent once it is back")
            }
            Happening::Taken { host } => write!(
                out,
                "another program, on {host}, reports there under the same name: give this one another"
            ),
            Happening::TookOver { host } => write!(
                out,
                "reports in place of a program on {host}, which does not answer any more"
            ),
            Happening::Ignored { reason } => out.write_str(reason),
            Happening::Command(command) => command.fmt(out),
        }
    }
}

/// A broker that is reported to.
pub struct Broker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Begins to report on `site`; `discovery` is the prefix under which Home Assistant looks for devices, if it is to be told.
    /// Whether the broker is there shows later, in what happens.
    ///
    /// # Errors
    /// If the settings cannot be used, or a name cannot be one of a topic's.
    pub fn start(
        settings: BrokerSettings,
        site: Site,
        reporter: Reporter,
        discovery: Option<String>,
    ) -> Result<(Broker, mpsc::Receiver<Happening>), MqttError> {
        let plan = Plan::new(site)?;
        let tls = tls::config(&settings)?;
        let mut outbox = Outbox::default();
        session::hold_plan(&mut outbox, &plan, discovery.as_deref());
        let (sender, receiver) = mpsc::sync_channel(MOST_HAPPENINGS);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let made_up = format!("{}{}{}", reporter.id, std::process::id(), now.as_nanos());
        let client = blake3::hash(format!("{}/{}", reporter.id, plan.root.0).as_bytes()).to_hex();
        let shared = Arc::new(Shared {
            tls,
            owner: Owner {
                instance: blake3::hash(made_up.as_bytes()).to_hex()[..16].to_owned(),
                host: reporter.host,
                since: now.as_millis() as u64,
            },
            // 23 letters and digits are what every broker takes.
            client_id: format!("rlp-{}", &client[..16]),
            settings,
            discovery,
            state: Mutex::new(State {
                plan,
                changes: 0,
                outbox,
                closing: None,
            }),
            wake: Notify::new(),
            happenings: sender,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(MqttError::Thread)?;
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("mqtt".into())
            .spawn(move || session::run(&of_thread, &runtime))
            .map_err(MqttError::Thread)?;
        let broker = Broker {
            shared,
            thread: Some(thread),
        };
        Ok((broker, receiver))
    }

    /// What reports on the camera of this name.
    pub fn camera(&self, name: &str) -> CameraReporter {
        CameraReporter::new(Arc::clone(&self.shared), name)
    }

    /// The site is another one from here on: what is new appears, and what is gone disappears. The box keeps its name.
    ///
    /// # Errors
    /// If a name cannot be one of a topic's; all stays as it was then.
    pub fn change(&self, site: Site) -> Result<(), MqttError> {
        let prefix = self.shared.discovery.as_deref();
        let mut state = self.shared.lock();
        let site = Site {
            name: state.plan.site.name.clone(),
            scope: state.plan.site.scope,
            ..site
        };
        let plan = Plan::new(site)?;
        let old = Index::of(&state.plan, prefix);
        for message in old.to(&plan, prefix) {
            if message.payload.is_empty() {
                state.outbox.let_go(&message.topic);
            }
            state.outbox.first(message);
        }
        session::hold_plan(&mut state.outbox, &plan, prefix);
        state.plan = plan;
        state.changes += 1;
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// What the controls of a region show: the prompt in use, and the threshold, in `0..=1`, where one is set.
    pub fn show_controls(&self, camera: &str, region: &str, prompt: &str, threshold: Option<f32>) {
        let mut state = self.shared.lock();
        let Some(topics) = state.plan.region(camera, region).cloned() else {
            return;
        };
        state.outbox.hold(&topics.prompt(), prompt);
        let percent = threshold.map(|share| (f64::from(share) * 1000.0).round() / 10.0);
        // Home Assistant's word for a number that is not known.
        let percent = percent.map_or("None".to_owned(), |percent| percent.to_string());
        state.outbox.hold(&topics.threshold(), percent);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Says what is left to be said, within so long, and that the box is gone.
    pub fn finish(mut self, within: Duration) {
        self.end(within);
    }

    fn end(&mut self, within: Duration) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let mut state = self.shared.lock();
        let status = state.plan.root.status();
        state.outbox.hold(&status, "offline");
        state.closing = Some(Instant::now() + within);
        drop(state);
        self.shared.wake.notify_one();
        thread::join(thread, within);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end(Duration::from_secs(1));
    }
}

/// A time as RFC 3339 has it.
fn date(time: SystemTime) -> String {
    // Clocks of boxes without a battery may show anything.
    const END: Duration = Duration::from_secs(253_402_300_799);
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(END);
    humantime::format_rfc3339_millis(UNIX_EPOCH + time).to_string()
}
