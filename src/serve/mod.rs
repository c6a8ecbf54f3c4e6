//! `edge-rlp serve`: many cameras in one process, a web page and an API to teach them with. It computes nothing itself: it
//! configures, runs and shows what the library does ([`watch`](crate::watch), [`Classifier`](crate::Classifier),
//! [`adapt`](crate::adapt)). The library below is synchronous; only [`api`] and `listen` are not.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | `edge-rlp.toml`: read, checked, changed |
//! | [`cameras`] | a thread a camera |
//! | [`recent`], [`shots`] | pictures that are worth labelling, and those that were |
//! | [`features`] | what the model makes of shots, computed once |
//! | [`training`] | one training in the background |
//! | [`events`] | what happens, for all who listen |
//! | [`models`] | each model once in memory |
//! | [`api`] | routes, and what they answer |
//! | `page` | the page: HTML, CSS, JavaScript, texts |
//! | [`access`] | who may come in |
//! | `broker` | reports to an MQTT broker, with the feature `mqtt` |
//! | `fleet` | prompts that come over a broker, with the feature `fleet` |
//! | `listen` | connections |

pub mod access;
pub mod api;
#[cfg(feature = "mqtt")]
mod broker;
pub mod cameras;
pub mod changes;
pub mod config;
pub mod events;
pub mod features;
#[cfg(feature = "fleet")]
mod fleet;
#[cfg(feature = "mqtt")]
mod held;
mod listen;
pub mod metrics;
pub mod models;
mod page;
pub mod recent;
pub mod shots;
pub mod training;
pub mod viewers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use access::{Access, AccessError};
use cameras::{Cameras, Common};
use config::{Config, ConfigError, ConfigFile};
use events::Events;
use features::Features;
#[cfg(unix)]
#[doc(hidden)]
pub use listen::answer_to;
use listen::{Tls, TlsError};
use models::Models;
use recent::Recent;
use shots::Shots;
use training::Training;
use viewers::Viewers;

use crate::store::Home;

/// How often signals are looked for.
const POLL: Duration = Duration::from_millis(100);

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address is taken, or not one of this machine.
    #[error("{address} cannot be listened at ({source})")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nobody can be told apart.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is no https.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no threads.
    #[error("the web server cannot be started ({0})")]
    Start(io::Error),
}

/// What to serve.
pub struct Settings {
    /// The configuration's file.
    pub config: PathBuf,
    /// The address in place of that in the file.
    pub listen: Option<SocketAddr>,
    /// Where prompts and shots are kept.
    pub home: Home,
}

/// The whole of it: what every handler of a request may use.
pub struct Server {
    /// What cameras and trainings share.
    pub common: Arc<Common>,
    /// The cameras.
    pub cameras: Cameras,
    /// Labelled pictures.
    pub shots: Shots,
    /// Their features.
    pub features: Arc<Features>,
    /// Trainings.
    pub training: Arc<Training>,
    /// Who may come in.
    pub access: Arc<Access>,
    /// Moving pictures and streams of events that are open.
    pub viewers: Viewers,
    /// Held while a report is made.
    pub reporting: Mutex<()>,
    /// Where it is served.
    pub address: SocketAddr,
    tls: Option<Arc<Tls>>,
    /// The configuration's file.
    pub file: ConfigFile,
    config: RwLock<Arc<Config>>,
    /// Held while a configuration is brought into use.
    turn: Mutex<()>,
    /// When it was started.
    pub started: Instant,
}

impl Server {
    /// Reads the configuration, and starts nothing yet.
    ///
    /// # Errors
    /// If the configuration, the certificate or what is kept of the password cannot be used.
    pub fn new(settings: &Settings) -> Result<Server, ServeError> {
        let file = ConfigFile::new(&settings.config);
        let config = file.read()?;
        let home = settings.home.clone();
        let address = settings.listen.unwrap_or(config.listen);
        let access = Access::new(home.root(), address, &config.access)?;
        let tls = match &config.access.tls {
            Some((certificate, key)) => Some(Arc::new(Tls::open(certificate, key)?)),
            None => None,
        };
        let common = Arc::new(Common {
            recent: Recent::new(home.root(), config.recent.clone()),
            models: Models::new(home.clone()),
            events: Events::default(),
            model: Mutex::new(config.model.clone()),
            open: Box::new(config::CameraConfig::open),
            home,
        });
        Ok(Server {
            cameras: Cameras::new(Arc::clone(&common)),
            shots: Shots::new(common.home.clone(), common.events.clone()),
            features: Arc::default(),
            training: Arc::default(),
            access: Arc::new(access),
            viewers: Viewers::default(),
            reporting: Mutex::default(),
            address,
            tls,
            common,
            file,
            config: RwLock::new(Arc::new(config)),
            turn: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// The configuration in use.
    pub fn config(&self) -> Arc<Config> {
        let config = self.config.read();
        Arc::clone(&config.unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings a configuration into use: cameras that it does not change go on undisturbed. May take a moment.
    pub fn apply(&self, config: Config) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.common.recent.bound(config.recent.clone());
        self.shots.bound(config.shots.clone());
        let model = &self.common.model;
        model
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&config.model);
        self.cameras.apply(&config);
        let config = Arc::new(config);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Reads the configuration's file again and brings it into use; what is in use stays where it cannot be.
    ///
    /// # Errors
    /// If it, the certificate or what is kept of the password cannot be used.
    pub fn reload(&self) -> Result<(), ServeError> {
        let config = self.file.read()?;
        self.access.reload()?;
        if let Some(tls) = &self.tls {
            tls.reload()?;
        }
        self.apply(config);
        Ok(())
    }
}

/// What the process is asked for from outside.
pub struct Signals<'a> {
    /// Whether to end.
    pub stop: &'a dyn Fn() -> bool,
    /// Whether to read the configuration again; asked once for each time.
    pub reload: &'a dyn Fn() -> bool,
    /// Called often while all is well.
    pub alive: &'a dyn Fn(),
    /// Told what happens: where the page is, that the configuration was read again, what failed.
    pub say: &'a dyn Fn(Message),
}

/// What is said to whoever started the process.
#[derive(Debug)]
#[non_exhaustive]
pub enum Message {
    /// It serves.
    Ready {
        /// Where.
        address: SocketAddr,
        /// Whether nobody between can read it.
        https: bool,
    },
    /// The password that was made, which is said this once.
    Password(String),
    /// A password is taken, and everybody between can read it.
    Readable,
    /// The configuration was read again.
    Reloaded,
    /// Something that is good to know.
    Noted(String),
    /// Something failed, and all else goes on.
    Failed(String),
}

/// Serves until it is asked to end.
///
/// # Errors
/// If the configuration cannot be used, or the address cannot be listened at.
pub fn run(settings: &Settings, signals: &Signals) -> Result<(), ServeError> {
    let server = Arc::new(Server::new(settings)?);
    let address = server.address;
    let failed = |source| ServeError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .map_err(ServeError::Start)?;
    if let Some(password) = server.access.first_password()? {
        (signals.say)(Message::Password(password));
    }
    let https = server.tls.is_some();
    if server.access.takes_password() && !https && !server.config().access.behind_proxy {
        (signals.say)(Message::Readable);
    }
    server.apply(Config::clone(&server.config()));
    // Cameras whose prompts are there go on without it.
    if let Err(error) = server.common.models.check(server.config().model.as_deref()) {
        (signals.say)(Message::Failed(error.to_string()));
    }
    #[cfg(feature = "mqtt")]
    let reports = broker::Reports::start(&server).map_err(ServeError::Start)?;
    #[cfg(feature = "fleet")]
    let fleet = fleet::Following::start(&server).map_err(ServeError::Start)?;
    let routes = api::routes(Arc::clone(&server));
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let serving = tokio::spawn(listen::serve(listener, routes, server.tls.clone()));
        let address = bound;
        (signals.say)(Message::Ready { address, https });
        attend(&server, signals, &|| {
            #[cfg(feature = "mqtt")]
            reports.news().for_each(|message| (signals.say)(message));
            #[cfg(feature = "fleet")]
            fleet.news().for_each(|message| (signals.say)(message));
        })
        .await;
        serving.abort();
        Ok::<_, ServeError>(())
    })?;
    #[cfg(feature = "mqtt")]
    reports.stop();
    #[cfg(feature = "fleet")]
    fleet.stop();
    server.training.stop();
    server.cameras.stop();
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(())
}

/// Looks for signals until one says to end.
async fn attend(server: &Arc<Server>, signals: &Signals<'_>, news: &dyn Fn()) {
    let mut purged = None;
    while !(signals.stop)() {
        (signals.alive)();
        news();
        if (signals.reload)() {
            let reloaded = {
                let server = Arc::clone(server);
                tokio::task::spawn_blocking(move || server.reload()).await
            };
            (signals.say)(match reloaded {
                Ok(Ok(())) => Message::Reloaded,
                Ok(Err(error)) => Message::Failed(format!("{error}; what was in use stays in use")),
                Err(_) => Message::Failed("the configuration could not be read again".into()),
            });
        }
        if purged.is_none_or(|at: Instant| at.elapsed() > recent::PURGE) {
            purged = Some(Instant::now());
            let server = Arc::clone(server);
            let done = tokio::task::spawn_blocking(move || purge(&server)).await;
            if let Ok(Err(error)) = done {
                (signals.say)(Message::Failed(error));
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Removes pictures that are older than they may become.
fn purge(server: &Server) -> Result<(), String> {
    let failed =
        |error: crate::store::StoreError| format!("old pictures may still be there: {error}");
    server.common.recent.purge().map_err(failed)?;
    let Some(keep) = server.config().shots.keep_for else {
        return Ok(());
    };
    let home = &server.common.home;
    for prompt in home.shots_of().map_err(failed)? {
        let old = home.shots_older_than(&prompt, keep, std::time::SystemTime::now());
        let old = old.map_err(failed)?;
        if !old.is_empty() {
            home.remove_shots(&old).map_err(failed)?;
        }
    }
    Ok(())
}
