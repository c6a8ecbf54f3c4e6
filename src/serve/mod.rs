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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use toml_edit::DocumentMut;

use access::{Access, AccessError};
use cameras::{CameraView, Cameras, Common};
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

/// How long a configuration that is being read is waited for at the end.
const LAST: Duration = Duration::from_secs(5);

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

/// How much may be done at once of what takes minutes.
pub struct Turns {
    /// Reports on a prompt.
    pub reports: Arc<Semaphore>,
    /// What is said of all shots of a prompt.
    pub advice: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            reports: Arc::new(Semaphore::new(1)),
            advice: Arc::new(Semaphore::new(2)),
        }
    }
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
    /// Whose turn it is with what takes long.
    pub turns: Turns,
    /// Where it is served.
    pub address: SocketAddr,
    tls: Option<Arc<Tls>>,
    /// The configuration that it was started with.
    first: Arc<Config>,
    /// The configuration's file.
    pub file: ConfigFile,
    config: RwLock<Arc<Config>>,
    /// Held while a configuration is changed and brought into use, so that the newest is in use.
    turn: Mutex<()>,
    /// How often it was asked to read again what it knows.
    reloads: AtomicU64,
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
        let config = Arc::new(file.read()?);
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
            turns: Turns::default(),
            address,
            tls,
            first: Arc::clone(&config),
            common,
            file,
            config: RwLock::new(config),
            turn: Mutex::default(),
            reloads: AtomicU64::new(0),
            started: Instant::now(),
        })
    }

    /// The configuration in use.
    pub fn config(&self) -> Arc<Config> {
        let config = self.config.read();
        Arc::clone(&config.unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings the configuration that it was started with into use.
    pub fn begin(&self) {
        let _turn = self.turn();
        self.apply(Config::clone(&self.first));
    }

    /// Changes the configuration's file, and brings it into use. May take a moment.
    ///
    /// # Errors
    /// As [`ConfigFile::edit`]; all is as it was then.
    pub fn edit(
        &self,
        change: impl FnOnce(&mut DocumentMut) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let _turn = self.turn();
        self.apply(self.file.edit(change)?);
        Ok(())
    }

    /// How often it was asked to read again what it knows.
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings a configuration into use: cameras that it does not change go on undisturbed.
    fn apply(&self, config: Config) {
        let before = self.config();
        self.common.recent.bound(config.recent.clone());
        self.shots.bound(config.shots.clone());
        let model = &self.common.model;
        model
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&config.model);
        self.cameras.apply(&config);
        // Cameras take both when they begin to name.
        if before.recent != config.recent || before.model != config.model {
            self.cameras.renew(|_| true);
        }
        let config = Arc::new(config);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Whether it serves https.
    pub fn has_https(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads the configuration's file again and brings it into use; what is in use stays where it cannot be. Returns the keys
    /// whose new values take a new start.
    ///
    /// # Errors
    /// If it, the certificate or what is kept of the password cannot be used.
    pub fn reload(&self) -> Result<Vec<&'static str>, ServeError> {
        let _turn = self.turn();
        let config = self.file.read()?;
        self.access.reload()?;
        if let Some(tls) = &self.tls {
            tls.reload()?;
        }
        let waiting = self.waiting(&config);
        self.apply(config);
        // What a region lacked may be there now: a model that was brought, say.
        self.cameras.renew(CameraView::lacks_something);
        self.reloads.fetch_add(1, Ordering::Relaxed);
        Ok(waiting)
    }

    /// The keys of `config` whose values are not those that it was started with, and that are read only then.
    fn waiting(&self, config: &Config) -> Vec<&'static str> {
        // Another address that was asked for with the command stays, whatever the file says.
        let of_file = self.address == self.first.listen;
        let (then, now) = (&self.first.access, &config.access);
        let changed = [
            ("listen", of_file && self.first.listen != config.listen),
            ("hosts", then.hosts != now.hosts),
            ("certificate, key", then.tls != now.tls),
            ("session", then.session != now.session),
            ("behind_proxy", then.behind_proxy != now.behind_proxy),
        ];
        let changed = changed.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(key, _)| key).collect()
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
    Reloaded {
        /// The keys whose new values take a new start.
        waiting: Vec<&'static str>,
    },
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
    let https = server.has_https();
    if server.access.takes_password() && !https && !server.config().access.behind_proxy {
        (signals.say)(Message::Readable);
    }
    server.begin();
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

/// Does `work` on a thread of its own, which waits for none of those that requests share; none where the system gives no thread.
fn beside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<JoinHandle<T>> {
    let thread = thread::Builder::new().name(name.into());
    thread.spawn(work).ok()
}

/// What the work came to, once it has ended.
fn ended<T>(work: &mut Option<JoinHandle<T>>) -> Option<thread::Result<T>> {
    let done = work.take_if(|work| work.is_finished())?;
    Some(done.join())
}

/// Looks for signals until one says to end.
async fn attend(server: &Arc<Server>, signals: &Signals<'_>, news: &dyn Fn()) {
    let (mut reloading, mut purging) = (None, None);
    let mut purged = None;
    while !(signals.stop)() {
        (signals.alive)();
        news();
        if reloading.is_none() && (signals.reload)() {
            let server = Arc::clone(server);
            reloading = beside("reload", move || server.reload());
            if reloading.is_none() {
                let said =
                    "the configuration was not read again: the system gives no thread for it";
                (signals.say)(Message::Failed(said.into()));
            }
        }
        if let Some(reloaded) = ended(&mut reloading) {
            (signals.say)(match reloaded {
                Ok(Ok(waiting)) => Message::Reloaded { waiting },
                Ok(Err(error)) => Message::Failed(format!("{error}; what was in use stays in use")),
                Err(_) => Message::Failed("the configuration could not be read again".into()),
            });
        }
        if purging.is_none() && purged.is_none_or(|at: Instant| at.elapsed() > recent::PURGE) {
            purged = Some(Instant::now());
            let server = Arc::clone(server);
            purging = beside("purge", move || purge(&server));
        }
        if let Some(Ok(Err(error))) = ended(&mut purging) {
            (signals.say)(Message::Failed(error));
        }
        tokio::time::sleep(POLL).await;
    }
    // It may be starting cameras, which are to be stopped.
    let begun = Instant::now();
    while reloading.as_ref().is_some_and(|it| !it.is_finished()) && begun.elapsed() < LAST {
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
