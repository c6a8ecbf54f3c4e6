//! From the frames of a camera to typed events: each frame is named, smoothed over time and compared with the one before,
//! and the prompt is replaced where its file was. Whoever consumes the events prints them, runs commands or sends them
//! on: nothing of that is here, so that any number of consumers see the same.

mod confirmation;
mod frozen;
mod hints;
mod meter;
pub mod motion;
mod parts;
mod renewal;
mod sharpness;
mod smoothing;
mod uncertain;

pub use frozen::Liveness;
pub(crate) use frozen::{FROZEN_AFTER, FrozenCamera};
pub(crate) use hints::{Hints, SharpnessHistory};
pub(crate) use meter::Meter;
pub use renewal::{PromptChange, Renewal};
pub(crate) use sharpness::sharpness;
pub(crate) use smoothing::Smoothing;
pub use uncertain::{KeepError, Uncertain};

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use ndarray::Array1;

use crate::classifier::{Answer, Classifier};
use crate::clip::ModelError;
use crate::frames::{CameraEvent, CameraProblem, CaptureCounts, Frame, Frames, FramesError};
use crate::prompt::{Region, RegionError};
use parts::Part;

/// Why watching cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The camera was given up.
    #[error("{0}")]
    Frames(#[from] FramesError),
    /// The model refuses a frame.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// A region does not lie in the camera's pictures.
    #[error(transparent)]
    Region(#[from] RegionError),
}

/// When frames are named at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MotionGate {
    /// How little a change need be.
    pub sensitivity: motion::Sensitivity,
    /// The longest time without naming one.
    pub at_least: Duration,
}

/// What was saved by naming no frame in which nothing changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Savings {
    /// Parts of frames that were named.
    pub named: u64,
    /// Those that were not.
    pub still: u64,
    /// The time it took to name.
    pub naming: Duration,
    /// The time it took to look for changes.
    pub looking: Duration,
}

impl Savings {
    /// The share of the time that naming every frame would have taken, in `0..=1`.
    pub fn share(&self) -> f64 {
        let each = self.naming.as_secs_f64() / self.named.max(1) as f64;
        let all = each * (self.named + self.still) as f64;
        let spent = (self.naming + self.looking).as_secs_f64();
        (1.0 - spent / all.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }
}

/// How to watch.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WatchOptions {
    /// The time in which an answer loses all but 1/e of its weight in the average; zero takes each frame by itself.
    pub smooth: Duration,
    /// Answers alike that make a change of what is shown; 0 and 1 take each answer as it comes.
    pub confirm: usize,
    /// The time from the end of one frame's event to the next frame.
    pub pace: Duration,
    /// How many frames to look at at most.
    pub frames: Option<u64>,
    /// The parts of each frame to name, each by itself; none for all of it.
    pub regions: Vec<Region>,
    /// Names a part only where something in it changes; none names every frame.
    pub motion: Option<MotionGate>,
    /// A live camera that sends the same picture for so long has frozen; none looks out for that.
    pub frozen_after: Option<Duration>,
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A frame was named.
    Named(Box<Named>),
    /// A frame in which nothing changed, which was not named.
    Still,
    /// The prompt's file was replaced.
    Prompt(PromptChange),
    /// A live camera has frozen, or moves again.
    Liveness(Liveness),
    /// Something went wrong with the camera, and watching goes on.
    Problem(CameraProblem),
    /// There are no more frames: the stream has ended, enough were named, or the caller asked to stop.
    Ended,
}

/// A frame and what it shows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Named {
    /// The picture as it came, or the region of it that was named.
    pub frame: Frame,
    /// The region's name; empty for whole pictures, and where it has none.
    pub region: String,
    /// `[joint]`, L2-normalised, of this frame alone.
    pub feature: Array1<f32>,
    /// Smoothed, where that was asked for.
    pub answer: Answer,
    /// How long naming it took.
    pub latency: Duration,
    /// Where the answer differs from the one before.
    pub change: Option<Change>,
    /// Whether the camera has frozen.
    pub frozen: bool,
}

impl Named {
    /// What the frame's source says that it shows, where that is one of the labels; demo scenes say it.
    pub fn truth(&self) -> Option<&str> {
        let known = |name: &&str| {
            self.answer
                .labels()
                .iter()
                .any(|label| label.name == **name)
        };
        self.frame.label.as_deref().filter(known)
    }
}

/// What a camera is taken to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The label of this name.
    Label(String),
    /// None of the labels.
    Unknown,
}

impl Shown {
    /// What an answer says.
    pub fn of(answer: &Answer) -> Shown {
        match answer.label() {
            Some(name) => Shown::Label(name.to_owned()),
            None => Shown::Unknown,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Shown::Label(name) => name,
            Shown::Unknown => "unknown",
        })
    }
}

/// A change of what a camera shows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// From here on.
    pub shown: Shown,
    /// The probability of the nearest label, in `0..=1`.
    pub score: f32,
    /// None for the first frame.
    pub previous: Option<Shown>,
    /// Where the frame came from: the camera as given, or the file.
    pub source: String,
    /// The frame's number in its stream.
    pub frame: u64,
    /// The region's name; empty for whole pictures, and where it has none.
    pub region: String,
}

/// A camera that is being watched.
pub struct Watch<'a> {
    frames: &'a mut Frames,
    classifier: Classifier<'a>,
    renewal: Option<Renewal<'a>>,
    options: WatchOptions,
    parts: Vec<Part>,
    /// How many parts of the frame that waits are done with.
    done: usize,
    savings: Savings,
    frozen: Option<FrozenCamera>,
    /// A frame that waits for the event that came before it, or of which parts are left.
    pending: Option<Box<Frame>>,
    named: u64,
    /// Whether the last event was a frame's.
    resting: bool,
}

impl<'a> Watch<'a> {
    /// Watches `frames` with `classifier`; `renewal` replaces it where the prompt's file changes.
    pub fn new(
        frames: &'a mut Frames,
        classifier: Classifier<'a>,
        renewal: Option<Renewal<'a>>,
        options: WatchOptions,
    ) -> Watch<'a> {
        // Drawn scenes and files of a folder are no live camera.
        let live = frames.counts().is_some();
        Watch {
            frozen: options.frozen_after.filter(|_| live).map(FrozenCamera::new),
            frames,
            classifier,
            renewal,
            parts: Part::all(&options),
            done: 0,
            savings: Savings::default(),
            options,
            pending: None,
            named: 0,
            resting: false,
        }
    }

    /// Waits for the next event. `stop` is asked often, and ends the watch where it says so.
    ///
    /// # Errors
    /// If the camera is given up, or the model refuses a frame.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Event, WatchError> {
        if self.options.frames.is_some_and(|most| self.named >= most) {
            return Ok(match self.frames.repeated() {
                Some(problem) => Event::Problem(problem),
                None => Event::Ended,
            });
        }
        if std::mem::take(&mut self.resting) {
            rest(self.options.pace, stop);
        }
        let frame = match self.pending.take() {
            Some(frame) => frame,
            None => match self.frames.next(stop)? {
                CameraEvent::Frame(frame) => {
                    let liveness = self
                        .frozen
                        .as_mut()
                        .and_then(|camera| camera.look(&frame.image));
                    if let Some(liveness) = liveness {
                        self.pending = Some(frame);
                        return Ok(Event::Liveness(liveness));
                    }
                    frame
                }
                CameraEvent::Problem(problem) => return Ok(Event::Problem(problem)),
                CameraEvent::End => return Ok(Event::Ended),
            },
        };
        if self.done > 0 {
            return self.parts_of(frame);
        }
        if let Some(change) = self.renew() {
            self.pending = Some(frame);
            return Ok(Event::Prompt(change));
        }
        self.parts_of(frame)
    }

    /// Names the next part of `frame` in which something changed.
    fn parts_of(&mut self, frame: Box<Frame>) -> Result<Event, WatchError> {
        let at_least = self.options.motion.map(|gate| gate.at_least);
        while self.done < self.parts.len() {
            let started = Instant::now();
            let part = &mut self.parts[self.done];
            self.done += 1;
            if !part.is_due(&frame, at_least.unwrap_or_default())? {
                self.savings.still += 1;
                self.savings.looking += started.elapsed();
                continue;
            }
            if part.region.is_none() {
                // The only part there is: nothing need be copied.
                let named = self.name(*frame)?;
                self.finish_frame();
                return Ok(Event::Named(Box::new(named)));
            }
            let cut = part.of(&frame)?;
            let named = self.name(cut)?;
            if self.done == self.parts.len() {
                self.finish_frame();
            } else {
                self.pending = Some(frame);
            }
            return Ok(Event::Named(Box::new(named)));
        }
        self.finish_frame();
        Ok(Event::Still)
    }

    fn finish_frame(&mut self) {
        (self.done, self.resting) = (0, true);
        self.named += 1;
    }

    /// What was saved by naming only where something changed.
    pub fn savings(&self) -> Savings {
        self.savings
    }

    /// How many frames a live camera sent so far; none where every frame waits to be named.
    pub fn counts(&self) -> Option<CaptureCounts> {
        self.frames.counts()
    }

    fn renew(&mut self) -> Option<PromptChange> {
        let (change, classifier) = self.renewal.as_mut()?.look(self.classifier.model())?;
        if let Some(classifier) = classifier {
            self.classifier = classifier;
        }
        Some(change)
    }

    /// Names `frame`, which is that of the part before [`Watch::done`].
    fn name(&mut self, frame: Frame) -> Result<Named, ModelError> {
        let started = Instant::now();
        let feature = self.classifier.model().encode_image(&frame.image)?;
        let answer = self.classifier.answer(feature.view());
        let now = Instant::now();
        let part = &mut self.parts[self.done - 1];
        let region = part.name().to_owned();
        let answer = part
            .smoothing
            .add(answer, now - std::mem::replace(&mut part.last, now));
        let shown = Shown::of(&answer);
        let change = part.confirmation.add(&shown).map(|previous| Change {
            score: answer.best().probability,
            previous,
            shown,
            source: frame.source.clone(),
            frame: frame.index,
            region: region.clone(),
        });
        self.savings.named += 1;
        self.savings.naming += now - started;
        Ok(Named {
            frame,
            region,
            feature,
            answer,
            latency: now - started,
            change,
            frozen: self.frozen.as_ref().is_some_and(FrozenCamera::is_frozen),
        })
    }
}

/// Sleeps for `pace`, or until `stop` says so.
pub fn rest(pace: Duration, stop: &dyn Fn() -> bool) {
    let end = Instant::now() + pace;
    while !stop() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Model;
    use crate::frames::demo::CLASSES;
    use crate::frames::{CameraOptions, CameraSource};
    use crate::prompt::Prompt;
    use crate::prompt::{Delta, Label, Template};
    use crate::store::Home;
    use ndarray::Array2;

    /// A prompt of `model` for all that the demo draws, that was not trained.
    fn untrained(model: &Model) -> Prompt {
        let labels = CLASSES.iter().map(|name| Label::new(name, None));
        let labels = labels.collect::<Result<_, _>>().unwrap();
        let change = Delta::Full(Array2::zeros((4, model.text.width())));
        let (name, fingerprint) = (&model.name, model.fingerprint.0);
        Prompt::new(name, fingerprint, Template::default(), labels, change)
    }

    fn demo() -> Frames {
        let source: CameraSource = "demo".parse().unwrap();
        source.open(5, &CameraOptions::default()).unwrap()
    }

    fn named(event: Event) -> Named {
        match event {
            Event::Named(named) => *named,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_region_of_a_frame_is_named_by_itself() {
        let model = Model::embedded().unwrap();
        let classifier = Classifier::with_prompt(&model, &untrained(&model)).unwrap();
        let mut frames = demo();
        let options = WatchOptions {
            frames: Some(3),
            regions: ["left=0,0,50,100", "right=50,0,50,100"]
                .map(|region| region.parse().unwrap())
                .to_vec(),
            ..WatchOptions::default()
        };
        let mut watch = Watch::new(&mut frames, classifier, None, options);
        for index in 0..3 {
            for region in ["left", "right"] {
                let named = named(watch.next(&|| false).unwrap());
                assert_eq!((named.frame.index, named.region.as_str()), (index, region));
                let (width, height) = named.frame.image.dimensions();
                assert_eq!(2 * width, height, "half of a square");
                assert_eq!(
                    named.change.is_some_and(|c| c.previous.is_none()),
                    index == 0
                );
            }
        }
        assert!(matches!(watch.next(&|| false).unwrap(), Event::Ended));
    }

    #[test]
    fn only_frames_in_which_something_changes_are_named() {
        let model = Model::embedded().unwrap();
        let classifier = Classifier::with_prompt(&model, &untrained(&model)).unwrap();
        let mut frames = demo();
        let options = WatchOptions {
            frames: Some(6),
            regions: vec!["corner=0,0,4,4".parse().unwrap()],
            motion: Some(MotionGate {
                sensitivity: motion::Sensitivity::new(1).unwrap(),
                at_least: Duration::from_secs(600),
            }),
            ..WatchOptions::default()
        };
        let mut watch = Watch::new(&mut frames, classifier, None, options);
        assert!(matches!(watch.next(&|| false).unwrap(), Event::Named(_)));
        while !matches!(watch.next(&|| false).unwrap(), Event::Ended) {}
        let savings = watch.savings();
        assert_eq!(savings.named + savings.still, 6);
        assert!((0.0..=1.0).contains(&savings.share()));
    }

    #[test]
    fn every_frame_is_an_event_and_a_new_label_a_change() {
        let model = Model::embedded().unwrap();
        let classifier = Classifier::with_prompt(&model, &untrained(&model)).unwrap();
        let mut frames = demo();
        let options = WatchOptions {
            frames: Some(12),
            ..WatchOptions::default()
        };
        let mut watch = Watch::new(&mut frames, classifier, None, options);
        let mut before = None;
        for _ in 0..12 {
            let named = named(watch.next(&|| false).unwrap());
            assert!(named.truth().is_some());
            let shown = Shown::of(&named.answer);
            match &named.change {
                Some(change) => {
                    assert_eq!((&change.previous, &change.shown), (&before, &shown));
                    assert_eq!(change.frame, named.frame.index);
                }
                None => assert_eq!(before.as_ref(), Some(&shown)),
            }
            before = Some(shown);
        }
        assert!(matches!(watch.next(&|| false), Ok(Event::Ended)));
        let mut watch = Watch::new(
            &mut frames,
            watch_again(&model),
            None,
            WatchOptions::default(),
        );
        assert!(matches!(watch.next(&|| true), Ok(Event::Ended)));
    }

    fn watch_again(model: &Model) -> Classifier<'_> {
        Classifier::with_prompt(model, &untrained(model)).unwrap()
    }

    #[test]
    fn a_prompt_that_was_replaced_is_an_event_before_the_frame_that_it_names() {
        let model = Model::embedded().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let prompt = untrained(&model);
        home.save("shelf", &prompt).unwrap();
        let loaded = home.load("shelf").unwrap().record;
        let classifier = Classifier::with_prompt(&model, &loaded).unwrap();
        let renewal = Renewal::new(&home, "shelf", loaded).every(Duration::ZERO);
        let mut frames = demo();
        let options = WatchOptions::default();
        let mut watch = Watch::new(&mut frames, classifier, Some(renewal), options);
        let next = |watch: &mut Watch| watch.next(&|| false).unwrap();
        assert_eq!(named(next(&mut watch)).frame.index, 0);

        let mut other = prompt.clone();
        other.seed += 1;
        home.save("shelf", &other).unwrap();
        let event = next(&mut watch);
        assert!(
            matches!(event, Event::Prompt(PromptChange::InUse { sequence: 2 })),
            "{event:?}"
        );
        assert_eq!(named(next(&mut watch)).frame.index, 1);

        other.labels.pop();
        home.save("shelf", &other).unwrap();
        let event = next(&mut watch);
        assert!(
            matches!(event, Event::Prompt(PromptChange::OtherLabels)),
            "{event:?}"
        );
        assert_eq!(named(next(&mut watch)).answer.labels().len(), CLASSES.len());
    }
}
