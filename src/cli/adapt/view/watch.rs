//! The camera's side of the labelling view, on a thread of its own: each frame with what the model makes of it, and the
//! features of shots that were kept before.

use super::super::super::Context;
use super::super::adaptation::Adaptation;
use crate::classifier::Classifier;
use crate::frames::{
    CameraOptions, CameraProblem, CameraSource, Frame, Frames, MAX_PIXELS, cut, read_picture,
};
use crate::prompt::Region;
use crate::store::Shot;
use crate::watch::{Event, Named, Watch, WatchOptions, sharpness};
use ndarray::Array1;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// What is labelled: the picture, or the region of it.
    pub frame: Arc<Frame>,
    /// The picture as it came.
    pub whole: Arc<Frame>,
    /// The region that was cut out of it.
    pub region: Option<Region>,
    /// `[joint]`, L2-normalised.
    pub feature: Array1<f32>,
    /// The best label and its probability.
    pub guess: (usize, f32),
    /// As [`sharpness`] measures it.
    pub sharpness: f32,
}

impl Snapshot {
    /// What was named, of the `region` of a picture.
    fn of(named: Named, region: Option<Region>) -> Snapshot {
        let best = named.answer.best();
        Snapshot {
            guess: (best.class, best.probability),
            sharpness: sharpness(&named.frame.image),
            frame: named.frame,
            whole: named.whole,
            region,
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
    /// The region to look at from here on; whole pictures where there is none in it.
    region: Mutex<Option<Option<Region>>>,
}

/// Where the pictures come from.
pub enum Source {
    Camera(CameraSource, CameraOptions),
    /// Files that wait to be labelled, each shown until it is.
    Kept(Vec<PathBuf>),
}

impl Source {
    fn open(&self) -> anyhow::Result<(Frames, Duration)> {
        Ok(match self {
            Source::Camera(camera, options) => {
                // A drawn frame is a scene of its own.
                let pace = match camera {
                    CameraSource::Demo(_) => SCENE,
                    _ => PACE,
                };
                (camera.open(VIEW_SEED, options)?, pace)
            }
            Source::Kept(files) => {
                let files = files.clone().into_iter().enumerate();
                let frames = files.filter_map(|(index, path)| kept_frame(index as u64, &path));
                (Frames::given(frames), Duration::MAX)
            }
        })
    }
}

/// A picture file as a frame; one that cannot be read is passed over, and stays where it is.
fn kept_frame(index: u64, path: &Path) -> Option<Frame> {
    let image = read_picture(path, MAX_PIXELS).ok()?;
    let jpeg = path.extension().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("jpg") || extension.eq_ignore_ascii_case("jpeg")
    });
    Some(Frame {
        image,
        source: path.to_string_lossy().into_owned(),
        index,
        label: None,
        jpeg: jpeg.then(|| std::fs::read(path).ok()).flatten(),
        planes: None,
    })
}

impl Controls {
    /// Asks to look at another region, or at whole pictures.
    pub fn look_at(&self, region: Option<Region>) {
        *self.asked_region() = Some(region);
    }

    fn take_region(&self) -> Option<Option<Region>> {
        self.asked_region().take()
    }

    fn asked_region(&self) -> MutexGuard<'_, Option<Option<Region>>> {
        self.region.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// The part of the camera's pictures that is labelled and kept; none for all of it.
    pub region: Option<Region>,
    /// Shots that are there already, to be encoded when there is time.
    pub earlier: std::vec::IntoIter<Shot>,
    pub controls: &'a Controls,
    pub events: SyncSender<ViewEvent>,
}

impl Watcher<'_> {
    /// Watches `source` until the view wants no more, and says why it ended otherwise.
    pub fn watch(mut self, source: &Source) {
        let ended = self.run(source);
        // Nobody listens to the end of a watch that was asked to end.
        let _ = self.events.send(ViewEvent::Ended(ended.err()));
    }

    fn run(&mut self, source: &Source) -> anyhow::Result<()> {
        let (mut frames, pace) = source.open()?;
        let classifier = self.in_use.classifier.clone();
        let options = WatchOptions {
            regions: self.region.clone().into_iter().collect(),
            ..WatchOptions::default()
        };
        let mut watch = Watch::new(&mut frames, classifier, None, options);
        loop {
            let event = watch.next(&|| self.stopped())?;
            let begun = Instant::now();
            let mut whole = None;
            let event = match event {
                // A scene of something that is no label: nobody could label it.
                Event::Named(named) if named.frame.label.is_some() && named.truth().is_none() => {
                    continue;
                }
                Event::Named(named) => {
                    whole = Some(Arc::clone(&named.whole));
                    ViewEvent::Snapshot(Box::new(Snapshot::of(*named, self.region.clone())))
                }
                Event::Prompt(_) | Event::Still(_) | Event::Liveness(_) => continue,
                Event::Problem(problem) => ViewEvent::Problem(problem),
                Event::Ended => return Ok(()),
            };
            self.controls.next_scene.store(false, Ordering::Relaxed);
            if self.events.send(event).is_err() {
                return Ok(());
            }
            while let Some(region) = self.rest(begun, pace)? {
                self.region = region;
                watch.set_regions(self.region.clone().into_iter().collect());
                let Some(whole) = &whole else {
                    continue;
                };
                // What is shown is labelled as it is seen now, not as the next picture will be.
                let snapshot = Box::new(self.look_again(whole)?);
                if self.events.send(ViewEvent::Snapshot(snapshot)).is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// What there is in the region of a picture that was shown already.
    fn look_again(&self, whole: &Arc<Frame>) -> anyhow::Result<Snapshot> {
        let frame = match &self.region {
            None => Arc::clone(whole),
            Some(region) => Arc::new(Frame {
                image: cut(&whole.image, region)?,
                source: whole.source.clone(),
                index: whole.index,
                label: whole.label.clone(),
                jpeg: None,
                planes: None,
            }),
        };
        let classifier = &self.in_use.classifier;
        let feature = classifier.model().encode_image(&frame.image)?;
        let answer = classifier.answer(feature.view());
        let best = answer.best();
        Ok(Snapshot {
            guess: (best.class, best.probability),
            sharpness: sharpness(&frame.image),
            frame,
            whole: Arc::clone(whole),
            region: self.region.clone(),
            feature,
        })
    }

    fn stopped(&self) -> bool {
        self.controls.stop.load(Ordering::Relaxed)
    }

    /// Waits for the time of the next frame, or for another region to look at, which is given back then; shots of earlier
    /// days are encoded meanwhile.
    fn rest(&mut self, begun: Instant, pace: Duration) -> anyhow::Result<Option<Option<Region>>> {
        loop {
            if self.stopped() {
                return Ok(None);
            }
            if let Some(region) = self.controls.take_region() {
                return Ok(Some(region));
            }
            let due = begun.elapsed() >= pace || self.controls.next_scene.load(Ordering::Relaxed);
            let encoded = self.encode_one()?;
            if due && !self.controls.paused.load(Ordering::Relaxed) {
                return Ok(None);
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
