//! What there is to say about a picture before it is kept as a shot: whether it is blurred, and whether there is one like
//! it already.

use std::collections::VecDeque;

use ndarray::{Array1, ArrayView1};

/// Two pictures whose features have a cosine above this show the same thing in the same way. With the default model the two
/// most alike of 3 x 192 demo scenes have 0.989, and most pictures have more with themselves under fresh noise.
const DUPLICATE: f32 = 0.99;
/// A picture with less than this share of the usual sharpness is blurred.
const BLURRED: f32 = 0.35;
/// Over how many frames the usual sharpness is taken.
const REMEMBERED: usize = 60;

/// What there is to say about a picture.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Hints {
    /// The root of its share of the sharpest frame's sharpness, in `0..=1`.
    pub sharpness: f32,
    /// Whether it is much less sharp than usual.
    pub blurred: bool,
    /// The cosine of the kept shot that is most like it, and that shot's class.
    pub closest: Option<(f32, usize)>,
    /// Whether that shot shows the same thing in the same way.
    pub duplicate: bool,
}

/// The sharpness of the newest frames.
#[derive(Debug, Clone, Default)]
pub struct SharpnessHistory(VecDeque<f32>);

impl SharpnessHistory {
    /// Takes the sharpness of the next frame, as [`super::sharpness`] measures it.
    pub fn add(&mut self, sharpness: f32) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(sharpness);
    }

    /// The middle and the highest of the newest; none without a frame.
    fn usual(&self) -> Option<(f32, f32)> {
        let mut sorted: Vec<f32> = self.0.iter().copied().collect();
        sorted.sort_by(f32::total_cmp);
        Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
    }
}

impl Hints {
    /// Of a picture with this `feature [joint]` and `sharpness`; `shots` are the features of those that are kept, with their
    /// classes.
    pub fn of<'a>(
        feature: ArrayView1<f32>,
        sharpness: f32,
        history: &SharpnessHistory,
        shots: impl Iterator<Item = (&'a Array1<f32>, usize)>,
    ) -> Hints {
        let (middle, sharpest) = history.usual().unwrap_or_default();
        let likeness = shots.map(|(shot, class)| (shot.dot(&feature), class));
        let closest = likeness.max_by(|a, b| a.0.total_cmp(&b.0));
        Hints {
            sharpness: (sharpness / sharpest.max(f32::MIN_POSITIVE)).sqrt(),
            blurred: sharpness < BLURRED * middle,
            closest,
            duplicate: closest.is_some_and(|(cosine, _)| cosine > DUPLICATE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    #[test]
    fn a_blurred_picture_and_one_like_a_kept_shot_are_pointed_out() {
        let mut history = SharpnessHistory::default();
        (0..100).for_each(|_| history.add(80.0));
        assert_eq!(history.0.len(), REMEMBERED);
        let (shot, other) = (arr1(&[1.0, 0.0]), arr1(&[0.0, 1.0]));
        let shots = [(&shot, 3), (&other, 5)];
        let near = arr1(&[0.9999, 0.0141]);
        let hints = Hints::of(near.view(), 20.0, &history, shots.into_iter());
        assert_eq!((hints.sharpness, hints.blurred), (0.5, true));
        assert_eq!((hints.closest.unwrap().1, hints.duplicate), (3, true));
        let far = arr1(&[0.6, 0.8]);
        let hints = Hints::of(far.view(), 80.0, &history, shots.into_iter());
        assert!(!hints.blurred && !hints.duplicate);
        assert_eq!(hints.closest.unwrap().1, 5);
        let nothing = Hints::of(
            far.view(),
            1.0,
            &SharpnessHistory::default(),
            std::iter::empty(),
        );
        assert!(!nothing.blurred && nothing.closest.is_none());
    }
}
