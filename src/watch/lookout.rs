//! What is to be done with a frame before it is decoded, so that none is decoded of which nothing is named: whether the camera
//! has frozen, whether the prompt was replaced, and in which parts something has changed.

use std::time::{Duration, Instant};

use super::parts::Part;
use super::{FrozenCamera, Liveness, MotionGate, NamedPart, PromptChange, Renewal, WatchOptions};
use crate::classifier::Classifier;
use crate::frames::glance::{Glance, Unopened};
use crate::prompt::{Region, RegionError};

/// Looks at the frames of one camera as they come.
pub(super) struct Lookout<'a> {
    pub parts: Vec<Part<'a>>,
    /// What names all parts; none where each has its own.
    pub classifier: Option<Classifier<'a>>,
    pub renewal: Option<Renewal<'a>>,
    motion: Option<MotionGate>,
    frozen: Option<FrozenCamera>,
    /// What was coded of the frame before, and what was seen of it.
    before: Option<(Vec<u8>, Glance<'static>)>,
    /// Which parts of the newest frame are to be named; none where only the decoded frame tells.
    due: Option<Vec<bool>>,
    /// What was found with the newest frame, and not told yet.
    liveness: Option<Liveness>,
    prompt: Option<PromptChange>,
    /// The time that was spent on it.
    pub spent: Duration,
}

impl<'a> Lookout<'a> {
    /// For `parts` of the frames of a camera; `live` says whether it can freeze.
    pub fn new(parts: Vec<NamedPart<'a>>, options: &WatchOptions, live: bool) -> Lookout<'a> {
        let parts = parts.into_iter();
        Lookout {
            parts: parts.map(|part| Part::new(part, options)).collect(),
            classifier: None,
            renewal: None,
            motion: options.motion,
            frozen: options.frozen_after.filter(|_| live).map(FrozenCamera::new),
            before: None,
            due: None,
            liveness: None,
            prompt: None,
            spent: Duration::ZERO,
        }
    }

    /// Looks at the next frame; whether it must be decoded.
    ///
    /// # Errors
    /// If a region does not lie in it.
    pub fn look(&mut self, frame: Unopened) -> Result<bool, RegionError> {
        if let Some(camera) = &mut self.frozen {
            self.liveness = camera.look(frame.content());
        }
        self.prompt = self.renew();
        self.due = None;
        if self.motion.is_some() {
            let started = Instant::now();
            let seen = self.glance(frame);
            if let Some(glance) = seen {
                self.due = self.judge(&glance)?;
            }
            self.spent += started.elapsed();
        } else {
            self.due = Some(vec![true; self.parts.len()]);
        }
        Ok(self.due.as_ref().is_none_or(|due| due.contains(&true)))
    }

    /// What is to be told before anything of the newest frame is.
    pub fn news(&mut self) -> Option<super::Event> {
        let liveness = self.liveness.take().map(super::Event::Liveness);
        liveness.or_else(|| self.prompt.take().map(super::Event::Prompt))
    }

    /// Which parts of the newest frame, which was decoded to `picture`, are to be named.
    ///
    /// # Errors
    /// If a region does not lie in it.
    pub fn due(&mut self, picture: &image::RgbImage) -> Result<&[bool], RegionError> {
        if self
            .due
            .as_ref()
            .is_none_or(|due| due.len() != self.parts.len())
        {
            let started = Instant::now();
            let due = match self.motion {
                Some(_) => self.judge(&Glance::Picture(picture))?,
                None => None,
            };
            self.due = Some(due.unwrap_or_else(|| vec![true; self.parts.len()]));
            self.spent += started.elapsed();
        }
        Ok(self.due.as_deref().unwrap_or_default())
    }

    /// The newest frame could not be decoded: what was to be named in it is named in the next.
    pub fn lose_frame(&mut self) {
        let due = self.due.take().unwrap_or_default();
        let parts = self.parts.iter_mut().zip(due);
        parts
            .filter(|(_, due)| *due)
            .for_each(|(part, _)| part.name_anew());
    }

    /// Whether the camera has frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen.as_ref().is_some_and(FrozenCamera::is_frozen)
    }

    /// Looks out in `regions` alone from here on, where all have one classifier. What is known of a part that stays is kept.
    pub fn set_regions(&mut self, regions: &[Region], options: &WatchOptions) {
        let Some(classifier) = &self.classifier else {
            return;
        };
        let mut before = std::mem::take(&mut self.parts);
        let kept =
            |part: NamedPart<'a>| match before.iter().position(|old| old.region == part.region) {
                Some(place) => before.swap_remove(place),
                None => Part::new(part, options),
            };
        let parts = super::parts_of(regions, classifier);
        self.parts = parts.into_iter().map(kept).collect();
        self.due = None;
    }

    /// The greys of `frame`, those of the one before where it is the same; none where they are not to be had.
    fn glance<'f>(&mut self, frame: Unopened<'f>) -> Option<Glance<'f>> {
        let Unopened::Raw(crate::frames::RawFrame::Jpeg(bytes)) = frame else {
            return frame.glance();
        };
        if let Some((content, glance)) = &self.before
            && content == bytes
        {
            return Some(glance.clone());
        }
        let Some(Glance::Blocks(blocks)) = frame.glance() else {
            self.before = None;
            return None;
        };
        let (content, seen) = self
            .before
            .get_or_insert_with(|| (Vec::new(), Glance::Blocks(blocks.clone())));
        content.clear();
        content.extend_from_slice(bytes);
        *seen = Glance::Blocks(blocks.clone());
        Some(Glance::Blocks(blocks))
    }

    /// Which parts are to be named for what is seen of a frame; none where a part is too small for it.
    fn judge(&mut self, glance: &Glance) -> Result<Option<Vec<bool>>, RegionError> {
        let size = glance.size();
        let places = self
            .parts
            .iter()
            .map(|part| Ok(glance.greys_of(part.place(size)?)));
        let Some(places) = places.collect::<Result<Option<Vec<_>>, _>>()? else {
            return Ok(None);
        };
        let at_least = self.motion.map_or(Duration::ZERO, |gate| gate.at_least);
        let parts = self.parts.iter_mut().zip(places);
        let due = parts.map(|(part, place)| part.is_due(glance, place, at_least));
        Ok(Some(due.collect()))
    }

    /// Replaces what names all parts, where the prompt's file was replaced.
    fn renew(&mut self) -> Option<PromptChange> {
        let model = self.classifier.as_ref()?.model();
        let (change, classifier) = self.renewal.as_mut()?.look(model)?;
        if let Some(classifier) = classifier {
            for part in &mut self.parts {
                part.classifier = classifier.clone();
                // It may call something else what has not changed.
                part.name_anew();
            }
            self.classifier = Some(classifier);
        }
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;
    use crate::frames::RawFrame;
    use crate::prompt::{Label, Template};
    use crate::watch::motion::Sensitivity;
    use image::codecs::jpeg::JpegEncoder;
    use image::{Rgb, RgbImage};

    fn jpeg(shade: u8) -> RawFrame {
        let picture = RgbImage::from_fn(160, 120, |x, y| Rgb([shade ^ (x / 20 + y / 15) as u8; 3]));
        let mut bytes = Vec::new();
        JpegEncoder::new(&mut bytes).encode_image(&picture).unwrap();
        RawFrame::Jpeg(bytes)
    }

    #[test]
    fn a_change_in_a_picture_that_could_not_be_decoded_is_seen_in_the_next() {
        let model = Model::embedded().unwrap();
        let labels = ["mug", "fish"].map(|name| Label::new(name, None).unwrap());
        let classifier = Classifier::zero_shot(&model, &Template::default(), &labels).unwrap();
        let options = WatchOptions {
            motion: Some(MotionGate {
                sensitivity: Sensitivity::default(),
                at_least: Duration::from_secs(600),
            }),
            ..WatchOptions::default()
        };
        let part = |region: &str| NamedPart {
            region: Some(region.parse().unwrap()),
            classifier: classifier.clone(),
        };
        let parts = vec![part("left=0,0,50,100"), part("right=50,0,50,100")];
        let mut lookout = Lookout::new(parts, &options, true);
        let mut look = |shade: u8, lost: bool| {
            let wanted = lookout.look(Unopened::Raw(&jpeg(shade))).unwrap();
            // What the watch does with each part that is due.
            for (part, due) in lookout.parts.iter_mut().zip(lookout.due.clone().unwrap()) {
                if due && !lost {
                    part.called();
                }
            }
            if lost {
                lookout.lose_frame();
            }
            wanted
        };
        assert!(look(60, false) && !look(60, false));
        assert!(look(200, true), "changed, and lost");
        assert!(look(200, false), "so it is named now");
        assert!(!look(200, false));
        // A region that is too small for blocks is looked at in the decoded picture.
        let small = vec![part("corner=0,0,10,10")];
        let mut lookout = Lookout::new(small, &options, true);
        assert!(lookout.look(Unopened::Raw(&jpeg(60))).unwrap());
        let picture = jpeg(60).decode().unwrap();
        assert_eq!(lookout.due(&picture).unwrap(), [true]);
        let outside = vec![part("corner=150,100,20,30")];
        let mut lookout = Lookout::new(outside, &options, true);
        assert!(lookout.look(Unopened::Raw(&jpeg(60))).is_err());
    }
}
