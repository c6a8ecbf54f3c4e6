//! The parts of a camera's pictures that are named, each by itself: what it showed last, averaged over time, and whether
//! anything in it has changed. All of it are plain values of one camera, so that several can be watched at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::confirmation::Confirmation;
use super::motion::Motion;
use super::{NamedPart, Smoothing, WatchOptions};
use crate::classifier::{Answer, Classifier};
use crate::frames::glance::Glance;
use crate::frames::{Frame, cut};
use crate::prompt::{Rectangle, Region, RegionError};

/// The times of smoothing in which an average follows a change: 2 % of what was there before is left.
const SETTLED: u32 = 4;

/// One part of a camera's pictures.
pub(super) struct Part<'a> {
    /// What names it.
    pub classifier: Classifier<'a>,
    /// Where it lies; none for whole pictures.
    pub region: Option<Region>,
    /// What it is taken to show.
    pub confirmation: Confirmation,
    smoothing: Smoothing,
    motion: Option<Motion>,
    /// For so long after a change its average is not what it will be.
    unsettled: Duration,
    moved: Option<Instant>,
    named: Option<Instant>,
    /// When the average last took something on, or would have taken on the same again.
    averaged: Instant,
}

impl<'a> Part<'a> {
    /// One that was never named.
    pub fn new(part: NamedPart<'a>, options: &WatchOptions) -> Part<'a> {
        Part {
            classifier: part.classifier,
            region: part.region,
            confirmation: Confirmation::new(options.confirm),
            smoothing: Smoothing::new(options.smooth),
            motion: options.motion.map(|gate| Motion::new(gate.sensitivity)),
            unsettled: options.smooth.saturating_mul(SETTLED),
            moved: None,
            named: None,
            averaged: Instant::now(),
        }
    }

    /// Whether there is reason to name it: something in it changes, a change is not yet told for certain, or it was last
    /// named `at_least` before. `greys` is where it lies in what is seen of a frame.
    pub fn is_due(&mut self, glance: &Glance, greys: Rectangle, at_least: Duration) -> bool {
        let Some(motion) = &mut self.motion else {
            return true;
        };
        let now = Instant::now();
        if motion.look(glance, greys) {
            self.moved = Some(now);
            return true;
        }
        let Some(named) = self.named else {
            return true;
        };
        let unsettled = self.moved.is_some_and(|at| now - at < self.unsettled);
        if unsettled || self.confirmation.is_undecided() {
            return true;
        }
        if now - named >= at_least {
            // Nothing has changed since, so what it shows now counts for all that time.
            self.averaged = named;
            return true;
        }
        self.averaged = now;
        false
    }

    /// What of `frame` is named.
    pub fn of(&self, frame: &Arc<Frame>) -> Result<Arc<Frame>, RegionError> {
        let Some(region) = &self.region else {
            return Ok(Arc::clone(frame));
        };
        Ok(Arc::new(Frame {
            image: cut(&frame.image, region)?,
            source: frame.source.clone(),
            index: frame.index,
            label: frame.label.clone(),
            jpeg: None,
            planes: None,
        }))
    }

    /// `answer`, that of `now`, averaged with those before.
    pub fn smoothed(&mut self, answer: Answer, now: Instant) -> Answer {
        self.named = Some(now);
        let before = std::mem::replace(&mut self.averaged, now);
        self.smoothing.add(answer, now - before)
    }

    /// Notes that it was named.
    #[cfg(test)]
    pub fn called(&mut self) {
        self.named = Some(Instant::now());
    }

    /// Gives reason to name it, whether something changes or not.
    pub fn name_anew(&mut self) {
        self.named = None;
    }

    /// What people call it; empty for whole pictures and a region without a name.
    pub fn name(&self) -> &str {
        self.region.as_ref().map_or("", |region| &region.name)
    }

    /// Where it lies in a picture of `width` and `height` pixels.
    ///
    /// # Errors
    /// If it reaches beyond that.
    pub fn place(&self, (width, height): (u32, u32)) -> Result<Rectangle, RegionError> {
        match &self.region {
            Some(region) => region.within(width, height),
            None => Ok(Rectangle {
                x: 0,
                y: 0,
                width,
                height,
            }),
        }
    }
}
