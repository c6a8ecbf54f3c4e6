//! From the frames of a camera to typed events: each frame is named, smoothed over time and compared with the one before,
//! and the prompt is replaced where its file was. Whoever consumes the events prints them, runs commands or sends them
//! on: nothing of that is here, so that any number of consumers see the same.

mod confirmation;
mod frozen;
mod hints;
mod lookout;
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
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ndarray::Array1;

use crate::classifier::{Answer, Classifier};
use crate::clip::ModelError;
use crate::frames::{
    CameraEvent, CameraProblem, CaptureCounts, Frame, Frames, FramesError, LazyFrame, reuse,
};
use crate::prompt::{Region, RegionError};
use lookout::Lookout;

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
    /// The time that naming the rest would have taken, less that of looking for changes.
    pub fn saved(&self) -> Duration {
        let each = self.naming.as_secs_f64() / self.named.max(1) as f64;
        Duration::from_secs_f64(each * self.still as f64).saturating_sub(self.looking)
    }

    /// [`Savings::saved`] as a share of what naming every frame would have taken, in `0..=1`.
    pub fn share(&self) -> f64 {
        let saved = self.saved().as_secs_f64();
        let all = saved + (self.naming + self.looking).as_secs_f64();
        saved / all.max(f64::MIN_POSITIVE)
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
    /// A frame in which nothing changed, at least in what is left of its regions: that was not named. Its number in the stream.
    Still(u64),
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
    /// What was named: the picture as it came, or a region of it.
    pub frame: Arc<Frame>,
    /// The picture as it came.
    pub whole: Arc<Frame>,
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

/// A part of a camera's pictures, and what names it.
#[derive(Clone)]
pub struct NamedPart<'a> {
    /// Where it lies; none for whole pictures.
    pub region: Option<Region>,
    /// What names it.
    pub classifier: Classifier<'a>,
}

/// Who sees each frame as it came.
type Observer<'a> = dyn Fn(LazyFrame) + 'a;

/// A frame that waits for the event that came before it, or of which parts are left.
enum Pending {
    Frame(Arc<Frame>),
    /// One that was not decoded, by its number.
    Passed(u64),
}

/// A camera that is being watched.
pub struct Watch<'a> {
    frames: &'a mut Frames,
    options: WatchOptions,
    lookout: Lookout<'a>,
    observer: Option<&'a Observer<'a>>,
    /// How many parts of the frame that waits are done with.
    done: usize,
    savings: Savings,
    pending: Option<Pending>,
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
        let parts = parts_of(&options.regions, &classifier);
        let mut watch = Watch::of_parts(frames, parts, options);
        watch.lookout.classifier = Some(classifier);
        watch.lookout.renewal = renewal;
        watch
    }

    /// Watches parts of `frames`, each with a classifier of its own, in place of [`WatchOptions::regions`]. Without parts
    /// nothing is named, and each frame is [`Event::Still`].
    pub fn of_parts(
        frames: &'a mut Frames,
        parts: Vec<NamedPart<'a>>,
        options: WatchOptions,
    ) -> Watch<'a> {
        // Drawn scenes and files of a folder are no live camera.
        let live = frames.counts().is_some();
        Watch {
            frames,
            lookout: Lookout::new(parts, &options, live),
            observer: None,
            done: 0,
            savings: Savings::default(),
            options,
            pending: None,
            named: 0,
            resting: false,
        }
    }

    /// The same, with each frame given to `observer` as it came, before any part of it is named; decoded if it is named.
    pub fn on_frame(self, observer: &'a dyn Fn(LazyFrame)) -> Watch<'a> {
        Watch {
            observer: Some(observer),
            ..self
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
        if self.pending.is_none() {
            match self.wait(stop)? {
                CameraEvent::Frame(mut frame) => {
                    let planes = frame.planes.take();
                    let frame: Arc<Frame> = frame.into();
                    if let Some(observer) = self.observer {
                        observer(LazyFrame::of(&frame, planes));
                    }
                    self.pending = Some(Pending::Frame(frame));
                }
                CameraEvent::Passed(frame) => {
                    self.pending = Some(Pending::Passed(frame.index));
                    if let Some(observer) = self.observer {
                        observer(frame);
                    }
                }
                CameraEvent::Problem(problem) => {
                    self.lookout.lose_frame();
                    return Ok(Event::Problem(problem));
                }
                CameraEvent::End => return Ok(Event::Ended),
            }
        }
        if let Some(news) = self.lookout.news() {
            return Ok(news);
        }
        match self.pending.take() {
            Some(Pending::Frame(frame)) => self.parts_of(frame),
            Some(Pending::Passed(index)) => {
                self.savings.still += self.lookout.parts.len() as u64;
                self.finish_frame();
                Ok(Event::Still(index))
            }
            None => Ok(Event::Ended),
        }
    }

    /// Waits for the next frame, and has it decoded where somebody needs it.
    fn wait(&mut self, stop: &dyn Fn() -> bool) -> Result<CameraEvent, WatchError> {
        let lookout = &mut self.lookout;
        // Where nothing is ever named, whether its frames are pictures at all is found out all the same.
        let seen = self.observer.is_some() && lookout.parts.is_empty();
        let mut outside = None;
        let event = self.frames.next_if(stop, &mut |frame| {
            let due = lookout.look(frame).unwrap_or_else(|error| {
                outside = Some(error);
                false
            });
            due || seen
        })?;
        match outside {
            Some(error) => Err(error.into()),
            None => Ok(event),
        }
    }

    /// Names the next part of `whole` in which something changed.
    fn parts_of(&mut self, whole: Arc<Frame>) -> Result<Event, WatchError> {
        while self.done < self.lookout.parts.len() {
            let due = self.lookout.due(&whole.image)?[self.done];
            self.done += 1;
            if !due {
                self.savings.still += 1;
                continue;
            }
            let frame = self.lookout.parts[self.done - 1].of(&whole)?;
            let named = self.name(frame, Arc::clone(&whole))?;
            if self.done == self.lookout.parts.len() {
                self.finish_frame();
            } else {
                self.pending = Some(Pending::Frame(whole));
            }
            return Ok(Event::Named(Box::new(named)));
        }
        self.finish_frame();
        let index = whole.index;
        reuse::put_frame(whole);
        Ok(Event::Still(index))
    }

    fn finish_frame(&mut self) {
        (self.done, self.resting) = (0, true);
        self.named += 1;
    }

    /// Names other parts of the frames from here on, where all have one classifier. What is known of a part that stays is kept.
    pub fn set_regions(&mut self, regions: Vec<Region>) {
        self.lookout.set_regions(&regions, &self.options);
        self.options.regions = regions;
        self.done = 0;
    }

    /// What was saved by naming only where something changed.
    pub fn savings(&self) -> Savings {
        Savings {
            looking: self.lookout.spent,
            ..self.savings
        }
    }

    /// How many frames a live camera sent so far; none where every frame waits to be named.
    pub fn counts(&self) -> Option<CaptureCounts> {
        self.frames.counts()
    }

    /// Names `frame`, which is that of the part before [`Watch::done`] in `whole`.
    fn name(&mut self, frame: Arc<Frame>, whole: Arc<Frame>) -> Result<Named, ModelError> {
        let started = Instant::now();
        let part = &mut self.lookout.parts[self.done - 1];
        let feature = part.classifier.model().encode_image(&frame.image)?;
        let answer = part.classifier.answer(feature.view());
        let now = Instant::now();
        let region = part.name().to_owned();
        let answer = part.smoothed(answer, now);
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
            whole,
            region,
            feature,
            answer,
            latency: now - started,
            change,
            frozen: self.lookout.is_frozen(),
        })
    }
}

/// `regions`, all named by one classifier; the whole picture where there are none.
fn parts_of<'a>(regions: &[Region], classifier: &Classifier<'a>) -> Vec<NamedPart<'a>> {
    let part = |region: Option<&Region>| NamedPart {
        region: region.cloned(),
        classifier: classifier.clone(),
    };
    match regions {
        [] => vec![part(None)],
        regions => regions.iter().map(|region| part(Some(region))).collect(),
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
mod tests;
