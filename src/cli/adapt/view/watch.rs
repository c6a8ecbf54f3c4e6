//! The camera's side of the labelling view, on a thread of its own: each frame with what the model makes of it, and the
//! features of shots that were kept before.

use super::super::super::Context;
use super::super::adaptation::Adaptation;
use crate::classifier::Classifier;
use crate::frames::{CameraOptions, CameraProblem, CameraSource, Frame, MAX_PIXELS, read_picture};
use crate::prompt::Region;
use crate::store::Shot;
use crate::watch::{Event, Named, Watch, WatchOptions, sharpness};
use ndarray::Array1;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

/// The shortest time from one frame to the next: more is not seen and costs the board.
const PACE: Duration = Duration::from_millis(100);
/// How long the demo camera shows a scene that nobody labels.
const SCENE: Duration = Duration::from_secs(4);
/// How often a waiting thread looks up.
const POLL: Duration = Duration::from_millis(20);
/// The demo scenes of the view: neither those that `adapt --camera demo` draws nor those that `classify` does.
const VIEW_SEED: u64 = 2_000_000;

/// A frame, and what the model makes of it.
pub struct Snapshot {
    pub frame: Arc<Frame>,
    /// `[joint]`, L2-normalised.
    pub feature: Array1<f32>,
    /// The best label and its probability.
    pub guess: (usize, f32),
    /// As [`sharpness`] measures it.
    pub sharpness: f32,
}

impl From<Named> for Snapshot {
    fn from(named: Named) -> Snapshot {
        let best = named.answer.best();
        Snapshot {
            guess: (best.class, best.probability),
            sharpness: sharpness(&named.frame.image),
            frame: named.frame,
            feature: named.feature,
        }
    }
}

/// What comes from the camera's thread.
pub enum ViewEvent {
    Snapshot(Box<Snapshot>),
    /// The feature of a shot that was kept earlier.
    Kept(Shot, Array1<f32>),
    /// Something went wrong, and watching goes on.
    Problem(CameraProblem),
    /// There will be no more frames: the stream ended, or why it failed.
    Ended(Option<anyhow::Error>),
}

/// What the view asks of the camera's thread.
#[derive(Default)]
pub struct Controls {
    pub stop: AtomicBool,
    pub paused: AtomicBool,
    /// The scene that is shown is labelled: draw the next.
    pub next_scene: AtomicBool,
}

/// What names the pictures meanwhile.
pub struct InUse<'a> {
    classifier: Classifier<'a>,
    /// What it comes from, for people.
    pub title: String,
}

impl<'a> InUse<'a> {
    /// The prompt in use where there is one of this model, else the plain template.
    ///
    /// # Errors
    /// If the prompt's template cannot hold the labels.
    pub fn load(adaptation: &'a Adaptation, context: &Context) -> anyhow::Result<InUse<'a>> {
        let Adaptation {
            plan,
            labels,
            model,
            ..
        } = adaptation;
        let in_use = context.home.load(&plan.prompt).ok();
        let in_use = in_use.filter(|loaded| loaded.record.model_fingerprint == model.fingerprint.0);
        let Some(loaded) = in_use else {
            return Ok(InUse {
                classifier: Classifier::zero_shot(model, &plan.template, labels)?,
                title: "zero-shot".into(),
            });
        };
        let sequence = loaded.record.provenance.sequence;
        Ok(InUse {
            classifier: Classifier::with_prompt_for(model, &loaded.record, labels)?,
            title: format!("prompt {}, generation {sequence}", plan.prompt),
        })
    }
}

/// The camera's thread.
pub struct Watcher<'a> {
    pub in_use: &'a InUse<'a>,
    /// The part of the camera's pictures that is shown, labelled and kept; none for all of it.
    pub regions: Vec<Region>,
    /// Shots that are there already, to be encoded when there is time.
    pub earlier: std::vec::IntoIter<Shot>,
    pub controls: &'a Controls,
    pub events: SyncSender<ViewEvent>,
}

impl Watcher<'_> {
    /// Watches `source` until the view wants no more, and says why it ended otherwise.
    pub fn watch(mut self, source: &CameraSource, options: &CameraOptions) {
        let ended = self.run(source, options);
        // Nobody listens to the end of a watch that was asked to end.
        let _ = self.events.send(ViewEvent::Ended(ended.err()));
    }

    fn run(&mut self, source: &CameraSource, options: &CameraOptions) -> anyhow::Result<()> {
        let mut frames = source.open(VIEW_SEED, options)?;
        // A drawn frame is a scene of its own.
        let pace = match source {
            CameraSource::Demo(_) => SCENE,
            _ => PACE,
        };
        let classifier = self.in_use.classifier.clone();
        let options = WatchOptions {
            regions: self.regions.clone(),
            ..WatchOptions::default()
        };
        let mut watch = Watch::new(&mut frames, classifier, None, options);
        loop {
            let event = watch.next(&|| self.stopped())?;
            let begun = Instant::now();
            let event = match event {
                // A scene of something that is no label: nobody could label it.
                Event::Named(named) if named.frame.label.is_some() && named.truth().is_none() => {
                    continue;
                }
                Event::Named(named) => ViewEvent::Snapshot(Box::new(Snapshot::from(*named))),
                Event::Prompt(_) | Event::Still(_) | Event::Liveness(_) => continue,
                Event::Problem(problem) => ViewEvent::Problem(problem),
                Event::Ended => return Ok(()),
            };
            self.controls.next_scene.store(false, Ordering::Relaxed);
            if self.events.send(event).is_err() {
                return Ok(());
            }
            self.rest(begun, pace)?;
        }
    }

    fn stopped(&self) -> bool {
        self.controls.stop.load(Ordering::Relaxed)
    }

    /// Waits for the time of the next frame; shots of earlier days are encoded meanwhile.
    fn rest(&mut self, begun: Instant, pace: Duration) -> anyhow::Result<()> {
        loop {
            if self.stopped() {
                return Ok(());
            }
            let due = begun.elapsed() >= pace || self.controls.next_scene.load(Ordering::Relaxed);
            let encoded = self.encode_one()?;
            if due && !self.controls.paused.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !encoded {
                thread::sleep(POLL);
            }
        }
    }

    /// Encodes one shot of an earlier day, if one is left. One that cannot be read is reported when it is trained on.
    fn encode_one(&mut self) -> anyhow::Result<bool> {
        let Some(shot) = self.earlier.next() else {
            return Ok(false);
        };
        if let Ok(picture) = read_picture(&shot.path, MAX_PIXELS) {
            let feature = self.in_use.classifier.model().encode_image(&picture)?;
            let _ = self.events.send(ViewEvent::Kept(shot, feature));
        }
        Ok(true)
    }
}
