//! The cameras: a thread each, which opens its camera, watches it with the library's [`Watch`](crate::watch::Watch), and keeps
//! what it shows for whoever asks. A camera that fails, hangs or panics hurts itself alone: it says so in its state and is
//! opened again after a pause. What all of them share is [`Common`].

mod naming;
mod picture;
pub(super) mod state;
#[cfg(test)]
mod tests;
mod thread;

pub use naming::{NoLabels, labels_of};
pub use picture::{Jpeg, Picture};
pub use state::{CameraState, Named, Phase, RegionState, Scored};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::changes::now;
use super::config::{CameraConfig, Config};
use super::events::{Event, Events};
use super::metrics::Histogram;
use super::models::Models;
use super::recent::Recent;
use crate::frames::{Frames, FramesError, LazyFrame};
use crate::store::Home;

/// How long cameras are waited for when they are to end. One that hangs in a driver is left behind.
const GRACE: Duration = Duration::from_secs(3);

/// What all cameras share.
pub struct Common {
    /// Where prompts and shots are kept.
    pub home: Home,
    /// The models in memory.
    pub models: Models,
    /// Where events go.
    pub events: Events,
    /// Pictures that are worth labelling.
    pub recent: Recent,
    /// The model of regions whose prompt was not trained yet; none for the one inside the program.
    pub model: Mutex<Option<String>>,
    /// Opens a camera.
    pub open: Box<Open>,
}

/// How a camera is opened.
pub type Open = dyn Fn(&CameraConfig) -> Result<Frames, FramesError> + Send + Sync;

impl Common {
    /// The name of the usual model.
    pub fn usual_model(&self) -> Option<String> {
        self.model
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What is known of a camera, by its thread and by all who ask.
pub struct CameraView {
    /// What it is, as configured.
    pub config: CameraConfig,
    state: Mutex<CameraState>,
    newest: tokio::sync::watch::Sender<Option<Arc<Picture>>>,
    pictures: AtomicU64,
    /// How long naming took.
    pub latency: Histogram,
    stop: AtomicBool,
    /// Set where prompts or labels changed: what names the regions is made anew.
    renew: AtomicBool,
    /// Set where a drawn scene was labelled: the next is wanted.
    skip: AtomicBool,
    /// The picture that was last kept as a shot, by what for.
    taken: Mutex<BTreeMap<String, u64>>,
}

impl CameraView {
    fn new(config: CameraConfig) -> CameraView {
        CameraView {
            state: Mutex::new(CameraState::starting(&config)),
            newest: tokio::sync::watch::Sender::new(None),
            pictures: AtomicU64::new(0),
            latency: Histogram::default(),
            stop: AtomicBool::new(false),
            renew: AtomicBool::new(false),
            skip: AtomicBool::new(false),
            taken: Mutex::default(),
            config,
        }
    }

    /// What is known of it now.
    pub fn state(&self) -> CameraState {
        self.locked().clone()
    }

    /// Its newest picture; none before the first.
    pub fn picture(&self) -> Option<Arc<Picture>> {
        self.newest.borrow().clone()
    }

    /// Its pictures from now on: the newest at any time.
    pub fn pictures(&self) -> tokio::sync::watch::Receiver<Option<Arc<Picture>>> {
        self.newest.subscribe()
    }

    /// Asks a camera that draws for another scene.
    pub fn skip(&self) {
        if self.config.is_drawn() {
            self.skip.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that the picture `number` is kept for `place`; false where it was kept already.
    pub fn take(&self, place: &str, number: u64) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(place.to_owned(), number) != Some(number)
    }

    /// Notes that what was to be kept for `place` was not.
    pub fn give_back(&self, place: &str) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(place);
    }

    /// Whether something stands in the way of naming one of its regions.
    pub fn lacks_something(&self) -> bool {
        let state = self.locked();
        state.regions.iter().any(|region| region.error.is_some())
    }

    fn locked(&self) -> MutexGuard<'_, CameraState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a frame as it came.
    fn show(&self, frame: LazyFrame) {
        let number = self.pictures.fetch_add(1, Ordering::Relaxed) + 1;
        {
            let mut state = self.locked();
            // One that was not decoded is as large as the one before: whatever changes is looked at.
            if let Some(frame) = frame.opened() {
                state.resize(frame.image.dimensions(), &self.config);
            }
            state.looked_at = number;
        }
        let picture = Picture::new(frame, number, now());
        self.newest.send_replace(Some(Arc::new(picture)));
    }
}

/// How cameras share the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// A picture is named on all cores: the answer is there soonest.
    AllCores,
    /// A picture is named on the camera's own thread: most pictures are named.
    OwnThread,
}

impl Sharing {
    /// For so many cameras.
    fn of(cameras: usize) -> Sharing {
        match cameras < rayon::current_num_threads() {
            true => Sharing::AllCores,
            false => Sharing::OwnThread,
        }
    }
}

/// A camera and its thread.
struct Running {
    view: Arc<CameraView>,
    thread: Option<JoinHandle<()>>,
}

/// Those that run.
#[derive(Default)]
struct Known {
    by_name: BTreeMap<String, Running>,
    /// The names in the order of the configuration.
    order: Vec<String>,
}

/// All cameras.
pub struct Cameras {
    common: Arc<Common>,
    known: Mutex<Known>,
}

impl Cameras {
    /// None yet.
    pub fn new(common: Arc<Common>) -> Cameras {
        Cameras {
            common,
            known: Mutex::default(),
        }
    }

    /// Makes the cameras those of `config`. Those that are as they were go on undisturbed.
    pub fn apply(&self, config: &Config) {
        let mut ended = Vec::new();
        {
            let running = &mut self.locked().by_name;
            let gone: Vec<String> = running
                .iter()
                .filter(|(name, is)| config.camera(name) != Some(&is.view.config))
                .map(|(name, _)| name.clone())
                .collect();
            for name in gone {
                if let Some(old) = running.remove(&name) {
                    old.view.stop.store(true, Ordering::Relaxed);
                    ended.push((name, old));
                }
            }
        }
        // A device can be opened by one alone: the old thread lets it go before the new one begins.
        let names: Vec<String> = ended.iter().map(|(name, _)| name.clone()).collect();
        join(ended.into_iter().map(|(_, old)| old).collect());
        let mut known = self.locked();
        for camera in &config.cameras {
            if known.by_name.contains_key(&camera.name) {
                continue;
            }
            let view = Arc::new(CameraView::new(camera.clone()));
            self.common.events.send(Event::Camera(view.state()));
            let sharing = Sharing::of(config.cameras.len());
            let thread = thread::start(Arc::clone(&view), Arc::clone(&self.common), sharing);
            let started = Running { view, thread };
            known.by_name.insert(camera.name.clone(), started);
        }
        let order = config.cameras.iter().map(|camera| camera.name.clone());
        known.order = order.collect();
        drop(known);
        for camera in names {
            if config.camera(&camera).is_none() {
                let gone = true;
                self.common.events.send(Event::CameraGone { camera, gone });
            }
        }
    }

    /// The camera of this name.
    pub fn get(&self, name: &str) -> Option<Arc<CameraView>> {
        let known = self.locked();
        known.by_name.get(name).map(|is| Arc::clone(&is.view))
    }

    /// All, in the order of the configuration.
    pub fn all(&self) -> Vec<Arc<CameraView>> {
        let known = self.locked();
        let found = known.order.iter();
        let found = found.filter_map(|name| known.by_name.get(name));
        found.map(|is| Arc::clone(&is.view)).collect()
    }

    /// To be called where the prompt `name`, its labels or its model changed.
    pub fn renew_those_of(&self, prompt: &str) {
        self.renew(|view| view.config.regions.iter().any(|of| of.prompt == prompt));
    }

    /// Makes anew what names the regions of those that are `meant`.
    pub fn renew(&self, meant: impl Fn(&CameraView) -> bool) {
        for is in self.locked().by_name.values() {
            if meant(&is.view) {
                is.view.renew.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Ends all cameras.
    pub fn stop(&self) {
        let all = std::mem::take(&mut self.locked().by_name);
        for is in all.values() {
            is.view.stop.store(true, Ordering::Relaxed);
        }
        join(all.into_values().collect());
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for threads that were asked to end, for a while.
fn join(ended: Vec<Running>) {
    let until = Instant::now() + GRACE;
    for running in ended {
        let Some(thread) = running.thread else {
            continue;
        };
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        if thread.is_finished() {
            // Its panics were caught where they happened.
            let _ = thread.join();
        }
    }
}
