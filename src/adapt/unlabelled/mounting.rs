//! How a camera is mounted: upside down, on its side, too far away, or with a stream of the wrong shape. A model that guesses
//! on such pictures is sure of them once they are put right, and then knows what they show without labels (canonicalisation
//! at test time, as in FOCAL, arXiv 2507.10375). Only the vote sees pictures put right; the prompt is trained on them as they are.

use super::{InUse, Task, consistency, entropy_of};
use crate::adapt::AdaptError;
use crate::classifier::{Scorer, softmax_rows};
use crate::clip::ModelError;
use image::{RgbImage, imageops};
use ndarray::{Array2, ArrayView1, Axis};
use std::fmt;

/// Pictures after which mountings that are not promising are given up, again and again: each takes a picture's time.
const SAMPLE: usize = 24;
/// How many times the lead a mounting must have to be looked at further, once pictures are many,
const PROMISING: f32 = 1.1;
/// and how much less by the number of pictures: the first ones may all show one label, which looks alike in any way.
const DOUBT: f32 = 10.0;
/// How many times the information of the pictures as they are a mounting must have to vote. It was 1.5 to 12 where drawn pictures were
/// turned, squeezed or distant and where photographs of scenes were turned or distant, and 1.4 at most for seven sets of
/// photographs as they are (docs/results/unlabelled.md),
const FAR_MORE: f32 = 1.3;
/// and how much more: it was 0.17 nats and more there, and for 48 photographs at random, as they are, up to 0.09.
const LEAST_GAIN: f32 = 0.15;
/// Fewer pictures than these do not say how a camera is mounted.
const ENOUGH: usize = 48;

/// What puts the pictures of a camera right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mounting {
    /// Quarter turns, clockwise.
    turns: u8,
    /// The middle share of the width and of the height that is looked at, stretched to the picture's shape.
    middle: (f32, f32),
}

/// All that are tried beside the pictures as they are.
const MOUNTINGS: [Mounting; 7] = [
    turned(1),
    turned(2),
    turned(3),
    closer(0.65, 0.65),
    closer(0.45, 0.45),
    closer(1.0, 0.7),
    closer(0.7, 1.0),
];

const fn turned(turns: u8) -> Mounting {
    Mounting {
        turns,
        middle: (1.0, 1.0),
    }
}

const fn closer(width: f32, height: f32) -> Mounting {
    Mounting {
        turns: 0,
        middle: (width, height),
    }
}

impl fmt::Display for Mounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.middle;
        match self.turns {
            1 => write!(f, "turned by 90 degrees clockwise"),
            2 => write!(f, "turned by 180 degrees"),
            3 => write!(f, "turned by 90 degrees anticlockwise"),
            _ if width == height => write!(f, "seen closer, the middle {:.0} %", 100.0 * width),
            _ if width < height => write!(
                f,
                "with the middle {:.0} % of their width stretched",
                100.0 * width
            ),
            _ => write!(
                f,
                "with the middle {:.0} % of their height stretched",
                100.0 * height
            ),
        }
    }
}

impl Mounting {
    /// `picture` put right.
    fn right(self, picture: &RgbImage) -> RgbImage {
        match self.turns {
            1 => return imageops::rotate90(picture),
            2 => return imageops::rotate180(picture),
            3 => return imageops::rotate270(picture),
            _ => {}
        }
        let (width, height) = picture.dimensions();
        let part = |whole: u32, share: f32| ((whole as f32 * share).round() as u32).clamp(1, whole);
        let (across, down) = (part(width, self.middle.0), part(height, self.middle.1));
        let (left, top) = ((width - across) / 2, (height - down) / 2);
        let middle = imageops::crop_imm(picture, left, top, across, down).to_image();
        if self.middle.0 == self.middle.1 {
            return middle;
        }
        imageops::resize(&middle, width, height, imageops::FilterType::Triangle)
    }
}

/// What a prompt says of pictures.
#[derive(Default)]
struct Said {
    /// `[pictures, classes]`, row by row.
    probabilities: Vec<f32>,
    /// The sum of the leads.
    lead: f32,
}

impl Said {
    /// Adds a picture of this `feature [joint]`.
    fn add(&mut self, scorer: &Scorer, feature: ArrayView1<f32>, scale: f32) {
        let scores = scorer.scores(feature.insert_axis(Axis(0)));
        let probabilities = softmax_rows(scores, scale);
        self.lead += consistency::lead(probabilities.view());
        self.probabilities.extend(probabilities);
    }

    /// How much is known of a picture's class, on average, that was not known before it was seen, in nats: where a prompt
    /// guesses it is little, and also where it takes all pictures for the same.
    fn information(&self, classes: usize) -> f32 {
        let entropy = |of: &[f32]| entropy_of(of.iter().copied());
        let pictures = (self.probabilities.len() / classes).max(1) as f32;
        let mut mean = vec![0.0; classes];
        let mut unsure = 0.0;
        for row in self.probabilities.chunks_exact(classes) {
            unsure += entropy(row) / pictures;
            for (mean, share) in mean.iter_mut().zip(row) {
                *mean += share / pictures;
            }
        }
        entropy(&mean) - unsure
    }
}

/// Finds out how a camera is mounted, picture by picture.
pub struct Mounted<'a> {
    task: Task<'a>,
    template: Scorer,
    in_use: Scorer,
    /// Of the pictures as they are, by the template and by the prompt in use.
    as_they_are: [Said; 2],
    /// Of pictures put right, by the template.
    put_right: Vec<(Mounting, Said)>,
    pictures: usize,
}

impl<'a> Mounted<'a> {
    /// Nothing is known yet; `in_use` is the prompt in use, or nothing where it was learnt from other pictures than these: it may be
    /// sure of them all the same.
    ///
    /// # Errors
    /// If it is not one for the task's model and labels.
    pub fn new(task: Task<'a>, in_use: InUse) -> Result<Mounted<'a>, AdaptError> {
        let (template, in_use) = in_use.beside_template(&task)?;
        Ok(Mounted {
            task,
            template,
            in_use,
            as_they_are: Default::default(),
            put_right: MOUNTINGS.map(|of| (of, Said::default())).into(),
            pictures: 0,
        })
    }

    /// Looks at a picture in the ways that are still promising; `feature [joint]` is that of the picture as it is. Put right it is
    /// shown to the template, for a prompt is learnt from pictures as they were.
    ///
    /// # Errors
    /// If the model cannot be run.
    pub fn add(&mut self, picture: &RgbImage, feature: ArrayView1<f32>) -> Result<(), ModelError> {
        let model = self.task.model;
        let scorers = [&self.template, &self.in_use];
        for (said, scorer) in self.as_they_are.iter_mut().zip(scorers) {
            said.add(scorer, feature, model.logit_scale);
        }
        for (mounting, said) in &mut self.put_right {
            let feature = model.encode_image(&mounting.right(picture))?;
            said.add(&self.template, feature.view(), model.logit_scale);
        }
        self.pictures += 1;
        if self.pictures.is_multiple_of(SAMPLE) {
            let promising = PROMISING - DOUBT / self.pictures as f32;
            let least = promising * self.most(|said| said.lead);
            self.put_right.retain(|(_, said)| said.lead > least);
        }
        Ok(())
    }

    /// Of the pictures as they are, under the prompt with more of it.
    fn most(&self, of: impl Fn(&Said) -> f32) -> f32 {
        self.as_they_are.iter().map(of).fold(0.0, f32::max)
    }

    /// How pictures are put right, and what the model says of them then, `[pictures, classes]`; none where it knows about as much
    /// of them as they are.
    pub fn surest(&self) -> Option<(Mounting, Array2<f32>)> {
        let classes = self.template.classes();
        let candidates = self.put_right.iter();
        let informed = candidates.map(|(of, said)| (of, said, said.information(classes)));
        let (mounting, said, information) = informed.max_by(|a, b| a.2.total_cmp(&b.2))?;
        let before = self.most(|said| said.information(classes));
        if self.pictures < ENOUGH
            || information < FAR_MORE * before
            || information < before + LEAST_GAIN
        {
            return None;
        }
        let shape = (self.pictures, classes);
        let vote = Array2::from_shape_vec(shape, said.probabilities.clone()).ok()?;
        Some((*mounting, vote))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn pictures_are_turned_clockwise_and_their_middle_keeps_the_pictures_shape_or_fills_it() {
        let picture = RgbImage::from_fn(40, 20, |x, y| Rgb([x as u8, y as u8, 0]));
        let turned = turned(1).right(&picture);
        assert_eq!(turned.dimensions(), (20, 40));
        assert_eq!(turned.get_pixel(19, 0), picture.get_pixel(0, 0));
        let near = closer(0.45, 0.45).right(&picture);
        assert_eq!(near.dimensions(), (18, 9));
        assert_eq!(near.get_pixel(0, 0), picture.get_pixel(11, 5));
        let tall = closer(1.0, 0.7).right(&picture);
        assert_eq!(tall.dimensions(), (40, 20));
        assert_eq!(
            closer(0.45, 0.45).right(&RgbImage::new(1, 1)).dimensions(),
            (1, 1)
        );
    }

    #[test]
    fn guesses_inform_about_nothing_and_neither_does_one_name_for_all_pictures() {
        let said = |rows: &[[f32; 2]]| Said {
            probabilities: rows.concat(),
            lead: 0.0,
        };
        assert!(said(&[[0.5, 0.5], [0.5, 0.5]]).information(2).abs() < 1e-6);
        assert!(said(&[[0.9, 0.1], [0.9, 0.1]]).information(2).abs() < 1e-6);
        let both = said(&[[1.0, 0.0], [0.0, 1.0]]).information(2);
        assert!((both - 2f32.ln()).abs() < 1e-6, "{both}");
        assert_eq!(Said::default().information(2), 0.0);
    }
}
