//! The thread of one camera: it opens the camera, watches it, and begins again after a pause where that ends badly.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::naming::{Namer, Stamp, stamp};
use super::state::{Named, Phase, top};
use super::{CameraView, Common, Sharing};
use crate::frames::{CaptureCounts, Frames, LazyFrame, reuse};
use crate::serve::changes::{Change, now};
use crate::serve::config::WHOLE;
use crate::serve::events::{Event, PromptAct, PromptChange};
use crate::serve::recent::Keeper;
use crate::watch::{self, Liveness, NamedPart, Shown, Watch, WatchError, rest};

/// The pause before a camera that failed is opened again: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often rates are reckoned, and files of prompts looked at that other programs may change.
const LOOK: Duration = Duration::from_secs(2);
/// What is said of a region whose pictures find no room.
const NOT_KEPT: &str = "pictures worth labelling cannot be kept";

/// Starts the thread of a camera; none where the system gives no more threads, which its state then says.
pub fn start(
    view: Arc<CameraView>,
    common: Arc<Common>,
    sharing: Sharing,
) -> Option<JoinHandle<()>> {
    let name = format!("camera {}", view.config.name);
    let run = {
        let view = Arc::clone(&view);
        move || {
            if sharing == Sharing::OwnThread {
                // This thread becomes a pool of its own, in which nothing is parallel.
                let own = rayon::ThreadPoolBuilder::new()
                    .num_threads(1)
                    .use_current_thread();
                // It lasts as long as the thread; without it the cores are shared all the same, only less well.
                std::mem::forget(own.build());
            }
            live(&view, &common);
        }
    };
    match thread::Builder::new().name(name).spawn(run) {
        Ok(thread) => Some(thread),
        Err(error) => {
            let mut state = view.locked();
            state.state = Phase::Failed;
            state.error = Some(format!("no thread for it could be started ({error})"));
            None
        }
    }
}

/// How a camera that did not fail ended.
enum End {
    /// It was asked to.
    Stopped,
    /// Its stream is over.
    Stream,
}

fn live(view: &CameraView, common: &Common) {
    let mut pause = PAUSE.0;
    let stopped = || view.stop.load(Ordering::Relaxed);
    while !stopped() {
        let session = Session {
            view,
            common,
            frozen: Cell::new(false),
        };
        let begun = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| session.run()));
        let said = match ended {
            Ok(Ok(End::Stopped)) => return,
            Ok(Ok(End::Stream)) => {
                session.phase(Phase::Ended, None);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "this program has a fault here; the other cameras go on".into(),
        };
        // One that was well for a while begins anew.
        if begun.elapsed() > 2 * PAUSE.1 {
            pause = PAUSE.0;
        }
        let seconds = pause.as_secs();
        session.phase(
            Phase::Failed,
            Some(format!("{said}; trying again in {seconds} s")),
        );
        rest(pause, &stopped);
        pause = (2 * pause).min(PAUSE.1);
    }
}

struct Session<'a> {
    view: &'a CameraView,
    common: &'a Common,
    /// Whether it sends the same picture again and again.
    frozen: Cell<bool>,
}

impl Session<'_> {
    /// Opens the camera and watches it until it is to end.
    fn run(&self) -> Result<End, WatchError> {
        let config = &self.view.config;
        self.phase(Phase::Starting, None);
        let mut frames = (self.common.open)(config)?;
        let mut before: Option<Vec<[Stamp; 2]>> = None;
        loop {
            let asked = self.view.renew.swap(false, Ordering::Relaxed);
            let stamp = stamp(config, &self.common.home);
            if let Some(before) = &before {
                // Whoever asked has told of labels.
                let acts = [PromptAct::Replaced, PromptAct::Labels];
                self.replaced(before, &stamp, &acts[..if asked { 1 } else { 2 }]);
            }
            let namers = self.namers();
            if let Some(end) = self.watch(&mut frames, &namers, &stamp)? {
                return Ok(end);
            }
            before = Some(stamp);
        }
    }

    /// What names the regions now; what stands in the way is told in their states.
    fn namers(&self) -> Vec<Namer> {
        let mut namers = Vec::new();
        for region in &self.view.config.regions {
            let (error, namer) = match Namer::of(region, self.common) {
                Ok(namer) => (None, namer),
                Err(error) => (Some(error), None),
            };
            let mut state = self.view.locked();
            if let Some(state) = state.region_mut(&region.name) {
                state.error = error;
                state.generation = namer.as_ref().and_then(Namer::generation);
                state.labels = Vec::new();
            }
            namers.extend(namer);
        }
        namers
    }

    fn parts<'n>(&self, namers: &'n [Namer]) -> Vec<NamedPart<'n>> {
        let mut parts = Vec::new();
        for namer in namers {
            let mut state = self.view.locked();
            let Some(state) = state.region_mut(&namer.region.name) else {
                continue;
            };
            match namer.classifier() {
                Ok(classifier) => {
                    let labels = classifier.labels().iter();
                    state.labels = labels.map(|label| label.name.clone()).collect();
                    parts.push(NamedPart {
                        region: namer.region.region(),
                        classifier,
                    });
                }
                Err(error) => state.error = Some(error.to_string()),
            }
        }
        parts
    }

    /// Watches until the end, or until what names the regions is to be made anew.
    fn watch(
        &self,
        frames: &mut Frames,
        namers: &[Namer],
        stamp_before: &[[Stamp; 2]],
    ) -> Result<Option<End>, WatchError> {
        let view = self.view;
        let skipped = Cell::new(false);
        let stop = || {
            let skip = view.skip.swap(false, Ordering::Relaxed);
            skipped.set(skipped.get() || skip);
            skip || view.stop.load(Ordering::Relaxed) || view.renew.load(Ordering::Relaxed)
        };
        let parts = self.parts(namers);
        self.tell();
        let observer = |frame: LazyFrame| {
            view.show(frame);
            self.arrived();
        };
        let watch = Watch::of_parts(frames, parts, view.config.watch_options());
        let mut watch = watch.on_frame(&observer);
        let mut rate = Rate::new(view);
        let mut keepers = HashMap::new();
        loop {
            match watch.next(&stop)? {
                watch::Event::Named(named) => {
                    self.named(&named, &mut keepers);
                    let watch::Named { frame, whole, .. } = *named;
                    drop(frame);
                    reuse::put_frame(whole);
                }
                watch::Event::Liveness(Liveness::Frozen(_)) => {
                    self.frozen.set(true);
                    let said = "it sends the very same picture again and again";
                    self.phase(Phase::Stalled, Some(said.into()));
                }
                watch::Event::Liveness(Liveness::Moving(_)) => {
                    self.frozen.set(false);
                    self.phase(Phase::Live, None);
                }
                watch::Event::Problem(problem) => self.problem(&problem.to_string()),
                watch::Event::Ended if view.stop.load(Ordering::Relaxed) => {
                    return Ok(Some(End::Stopped));
                }
                watch::Event::Ended if view.renew.load(Ordering::Relaxed) => return Ok(None),
                watch::Event::Ended if skipped.take() => {}
                watch::Event::Ended => return Ok(Some(End::Stream)),
                watch::Event::Still(_) | watch::Event::Prompt(_) => {}
            }
            if rate.reckon(view, watch.counts()) {
                self.tell();
                let stamp = stamp(&view.config, &self.common.home);
                if stamp != stamp_before {
                    return Ok(None);
                }
            }
        }
    }

    /// Tells which prompts (and labels) were changed, but for generations that whoever changed them has told.
    fn replaced(&self, before: &[[Stamp; 2]], now: &[[Stamp; 2]], acts: &[PromptAct]) {
        let mut changed = BTreeSet::new();
        for (region, (before, now)) in self.view.config.regions.iter().zip(before.iter().zip(now)) {
            let files = before.iter().zip(now).zip(acts);
            let other = files.filter(|((before, now), _)| before != now);
            changed.extend(other.map(|(_, what)| (&region.prompt, *what)));
        }
        let events = &self.common.events;
        for (prompt, what) in changed {
            let loaded = self.common.home.load(prompt);
            let generation = loaded.ok().map(|loaded| loaded.record.provenance.sequence);
            let told = generation.is_some_and(|generation| events.have_told(prompt, generation));
            if what == PromptAct::Replaced && told {
                continue;
            }
            events.send(Event::Prompt(PromptChange {
                prompt: prompt.clone(),
                what,
                generation,
            }));
        }
    }

    /// A picture came: the camera is live, whatever was wrong before, unless it is the same one for long.
    fn arrived(&self) {
        let state = self.view.locked().state;
        if state != Phase::Live && !self.frozen.get() {
            self.phase(Phase::Live, None);
        }
    }

    fn problem(&self, said: &str) {
        self.phase(Phase::Stalled, Some(said.to_owned()));
    }

    fn phase(&self, phase: Phase, error: Option<String>) {
        {
            let mut state = self.view.locked();
            if state.state == phase && state.error == error {
                return;
            }
            state.state = phase;
            state.error = error;
        }
        self.tell();
    }

    fn tell(&self) {
        let state = self.view.state();
        self.common.events.send(Event::Camera(state));
    }

    fn named(&self, found: &watch::Named, keepers: &mut HashMap<String, Keeper>) {
        let camera = &self.view.config.name;
        let region = match found.region.as_str() {
            "" => WHOLE,
            region => region,
        };
        let named = Named {
            camera: camera.clone(),
            region: region.to_owned(),
            at: now(),
            label: Some(Shown::of(&found.answer)),
            probability: found.answer.best().probability,
            top: top(&found.answer),
            latency_ms: found.latency.as_secs_f64() * 1e3,
        };
        self.view.latency.add(found.latency);
        let change = found.change.as_ref().map(|change| Change {
            camera: camera.clone(),
            region: region.to_owned(),
            at: named.at,
            from: change.previous.clone(),
            to: change.shown.clone(),
            probability: change.score,
        });
        if let Some(state) = self.view.locked().region_mut(region) {
            state.named(&named, change.clone());
        }
        let keeper = keepers
            .entry(region.to_owned())
            .or_insert_with(|| self.common.recent.keeper(camera, region));
        match keeper.offer(found) {
            Ok(Some(kept)) => {
                if let Some(state) = self.view.locked().region_mut(region) {
                    // There is room again.
                    state.error.take_if(|error| error.starts_with(NOT_KEPT));
                }
                self.common.events.send(Event::Recent(kept));
            }
            Ok(None) => {}
            Err(error) => {
                let said = format!("{NOT_KEPT}: {error}");
                if let Some(state) = self.view.locked().region_mut(region) {
                    state.error = Some(said);
                }
            }
        }
        self.common.events.send(Event::Named(named));
        if let Some(change) = change {
            self.common.events.send(Event::Change(change));
        }
    }
}

/// How many pictures are looked at in a second.
struct Rate {
    since: Instant,
    pictures: u64,
}

impl Rate {
    fn new(view: &CameraView) -> Rate {
        Rate {
            since: Instant::now(),
            pictures: view.pictures.load(Ordering::Relaxed),
        }
    }

    /// Reckons it anew if it is time to; whether it was.
    fn reckon(&mut self, view: &CameraView, counts: Option<CaptureCounts>) -> bool {
        let elapsed = self.since.elapsed();
        if elapsed < LOOK {
            return false;
        }
        let pictures = view.pictures.load(Ordering::Relaxed);
        let mut state = view.locked();
        state.fps = (pictures - self.pictures) as f32 / elapsed.as_secs_f32();
        if let Some(counts) = counts {
            (state.captured, state.dropped) = (counts.captured, counts.dropped);
        } else {
            state.captured = pictures;
        }
        (self.since, self.pictures) = (Instant::now(), pictures);
        true
    }
}
