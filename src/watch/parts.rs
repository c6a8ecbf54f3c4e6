//! The parts of a camera's pictures that are named, each by itself: what it showed last, averaged over time, and whether
//! anything in it has changed. All of it are plain values of one camera, so that several can be watched at once.

use std::time::{Duration, Instant};

use super::confirmation::Confirmation;
use super::motion::Motion;
use super::{Smoothing, WatchOptions};
use crate::frames::{Frame, cut};
use crate::prompt::{Rectangle, Region, RegionError};

/// One part of a camera's pictures.
pub(super) struct Part {
    /// Where it lies; none for whole pictures.
    pub region: Option<Region>,
    pub smoothing: Smoothing,
    /// What it is taken to show.
    pub confirmation: Confirmation,
    motion: Option<Motion>,
    /// When it was named last.
    pub last: Instant,
    named: bool,
}

impl Part {
    /// Those that the options ask for: the whole picture where they name no region.
    pub fn all(options: &WatchOptions) -> Vec<Part> {
        let part = |region: Option<&Region>| Part {
            region: region.cloned(),
            smoothing: Smoothing::new(options.smooth),
            confirmation: Confirmation::new(options.confirm),
            motion: options.motion.map(|gate| Motion::new(gate.sensitivity)),
            last: Instant::now(),
            named: false,
        };
        match &options.regions[..] {
            [] => vec![part(None)],
            regions => regions.iter().map(|region| part(Some(region))).collect(),
        }
    }

    /// Whether there is reason to name it: something in it changes, or it was last named `at_least` before.
    pub fn is_due(&mut self, frame: &Frame, at_least: Duration) -> Result<bool, RegionError> {
        let place = self.place(frame)?;
        let Some(motion) = &mut self.motion else {
            return Ok(true);
        };
        let moved = motion.look(&frame.image, place);
        let due = moved || !self.named || self.last.elapsed() >= at_least;
        self.named |= due;
        Ok(due)
    }

    /// What of `frame` is named.
    pub fn of(&self, frame: &Frame) -> Result<Frame, RegionError> {
        let Some(region) = &self.region else {
            return Ok(frame.clone());
        };
        Ok(Frame {
            image: cut(&frame.image, region)?,
            source: frame.source.clone(),
            index: frame.index,
            label: frame.label.clone(),
            jpeg: None,
        })
    }

    /// What people call it; empty for whole pictures and a region without a name.
    pub fn name(&self) -> &str {
        self.region.as_ref().map_or("", |region| &region.name)
    }

    fn place(&self, frame: &Frame) -> Result<Rectangle, RegionError> {
        let (width, height) = frame.image.dimensions();
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
