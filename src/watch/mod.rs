//! From the frames of a camera to typed events: each frame is named, smoothed over time and compared with the one before,
//! and the prompt is replaced where its file was. Whoever consumes the events prints them, runs commands or sends them
//! on: nothing of that is here, so that any number of consumers see the same.

mod confirmation;
mod frozen;
mod hints;
mod meter;
mod renewal;
mod sharpness;
mod smoothing;

pub use frozen::Liveness;
pub(crate) use frozen::{FROZEN_AFTER, FrozenCamera};
pub(crate) use hints::{Hints, SharpnessHistory};
pub(crate) use meter::Meter;
pub use renewal::{PromptChange, Renewal};
pub(crate) use sharpness::sharpness;
pub(crate) use smoothing::Smoothing;

use confirmation::Confirmation;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use ndarray::Array1;

use crate::classifier::{Answer, Classifier};
use crate::clip::ModelError;
use crate::frames::{CameraEvent, CameraProblem, CaptureCounts, Frame, Frames, FramesError};

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
}

/// How to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WatchOptions {
    /// The time in which an answer loses all but 1/e of its weight in the average; zero takes each frame by itself.
    pub smooth: Duration,
    /// Answers alike that make a change of what is shown; 0 and 1 take each answer as it comes.
    pub confirm: usize,
    /// The time from the end of one frame's event to the next frame.
    pub pace: Duration,
    /// How many frames to name at most.
    pub frames: Option<u64>,
    /// A live camera that sends the same picture for so long has frozen; none looks out for that.
    pub frozen_after: Option<Duration>,
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A frame was named.
    Named(Box<Named>),
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
    /// The picture as it came.
    pub frame: Frame,
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
}

/// A camera that is being watched.
pub struct Watch<'a> {
    frames: &'a mut Frames,
    classifier: Classifier<'a>,
    renewal: Option<Renewal<'a>>,
    options: WatchOptions,
    smoothing: Smoothing,
    frozen: Option<FrozenCamera>,
    confirmation: Confirmation,
    /// A frame that waits for the event that came before it.
    pending: Option<Box<Frame>>,
    named: u64,
    /// When the last frame was named.
    last: Instant,
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
            smoothing: Smoothing::new(options.smooth),
            confirmation: Confirmation::new(options.confirm),
            options,
            pending: None,
            named: 0,
            last: Instant::now(),
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
        if let Some(change) = self.renew() {
            self.pending = Some(frame);
            return Ok(Event::Prompt(change));
        }
        self.resting = true;
        self.named += 1;
        Ok(Event::Named(Box::new(self.name(*frame)?)))
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

    fn name(&mut self, frame: Frame) -> Result<Named, ModelError> {
        let started = Instant::now();
        let feature = self.classifier.model().encode_image(&frame.image)?;
        let answer = self.classifier.answer(feature.view());
        let now = Instant::now();
        let answer = self
            .smoothing
            .add(answer, now - std::mem::replace(&mut self.last, now));
        let shown = Shown::of(&answer);
        let change = self.confirmation.add(&shown).map(|previous| Change {
            score: answer.best().probability,
            previous,
            shown,
            source: frame.source.clone(),
            frame: frame.index,
        });
        Ok(Named {
            frame,
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
