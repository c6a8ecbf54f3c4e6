//! Whether pictures still look as they did when a prompt was trained: the mean of the newest features against that of
//! the features it was trained on.

use crate::prompt::FeatureStatistics;
use ndarray::{Array1, ArrayView1, ArrayView2, Axis};
use std::collections::VecDeque;

/// Pictures that are compared at a time.
pub const WINDOW: usize = 48;
/// The squared distance of the two means, beside what chance alone gives on average, above which pictures have drifted
/// (docs/results/unlabelled.md has what it is with and without a drift).
pub const DRIFTED: f32 = 4.0;
/// Pictures with a cosine above are the same scene: one of them is enough.
pub const ALIKE: f32 = 0.995;

/// What `features [pictures, joint]`, L2-normalised, look like together; none without any.
pub fn statistics(features: ArrayView2<f32>) -> Option<FeatureStatistics> {
    let mean = features.mean_axis(Axis(0))?;
    let distances = features
        .outer_iter()
        .map(|row| squared_distance(row, mean.view()));
    Some(FeatureStatistics {
        spread: distances.sum::<f32>() / features.nrows() as f32,
        pictures: features.nrows() as u32,
        mean: mean.to_vec(),
    })
}

/// The newest pictures, beside those that a prompt was trained on.
#[derive(Debug, Clone)]
pub struct Drift {
    trained_on: FeatureStatistics,
    newest: VecDeque<Array1<f32>>,
}

impl Drift {
    /// Compares with the pictures that a prompt was trained on.
    pub fn from(trained_on: FeatureStatistics) -> Drift {
        Drift {
            trained_on,
            newest: VecDeque::with_capacity(WINDOW),
        }
    }

    /// Takes the L2-normalised feature of the next picture, and drops the oldest of a full window. A picture like one of
    /// the window is left out: a scene that stands still for an hour has not drifted.
    pub fn add(&mut self, feature: Array1<f32>) {
        if self.newest.iter().any(|other| other.dot(&feature) > ALIKE) {
            return;
        }
        if self.newest.len() == WINDOW {
            self.newest.pop_front();
        }
        self.newest.push_back(feature);
    }

    /// How far the newest pictures are away, 1 being what chance gives; none before there are enough.
    pub fn distance(&self) -> Option<f32> {
        if self.newest.len() < WINDOW {
            return None;
        }
        let trained_on = &self.trained_on;
        let mut mean = Array1::zeros(trained_on.mean.len());
        self.newest.iter().for_each(|feature| mean += feature);
        mean /= WINDOW as f32;
        let chance = trained_on.spread * (1.0 / WINDOW as f32 + 1.0 / trained_on.pictures as f32);
        let before = ArrayView1::from(&trained_on.mean);
        Some(squared_distance(mean.view(), before) / chance.max(f32::MIN_POSITIVE))
    }
}

fn squared_distance(a: ArrayView1<f32>, b: ArrayView1<f32>) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use ndarray::Array2;

    /// Unit vectors around `(shift, shift, ...)`.
    fn features(rng: &mut Rng, shift: f32) -> Array2<f32> {
        let mut rows = Array2::from_shape_simple_fn((200, 16), || shift + rng.normal());
        for mut row in rows.outer_iter_mut() {
            let norm = row.dot(&row).sqrt();
            row /= norm;
        }
        rows
    }

    #[test]
    fn pictures_as_before_have_not_drifted_and_other_ones_have() {
        let mut rng = Rng::new(4);
        let trained_on = statistics(features(&mut rng, 0.0).view()).unwrap();
        let mut drift = Drift::from(trained_on);
        assert_eq!(drift.distance(), None);
        for row in features(&mut rng, 0.0).outer_iter() {
            drift.add(row.to_owned());
            assert!(drift.distance().is_none_or(|far| far < 2.0));
        }
        for row in features(&mut rng, 0.7).outer_iter() {
            drift.add(row.to_owned());
        }
        assert!(drift.distance().unwrap() > 2.0 * DRIFTED);
    }

    #[test]
    fn a_scene_that_stands_still_has_not_drifted() {
        let mut rng = Rng::new(5);
        let mut drift = Drift::from(statistics(features(&mut rng, 0.0).view()).unwrap());
        let still = features(&mut rng, 0.7).row(0).to_owned();
        (0..10 * WINDOW).for_each(|_| drift.add(still.clone()));
        assert_eq!(drift.distance(), None);
    }

    #[test]
    fn there_are_no_statistics_of_nothing_and_none_far_away_for_pictures_all_alike() {
        assert_eq!(statistics(Array2::zeros((0, 3)).view()), None);
        let one = statistics(Array2::eye(1).view()).unwrap();
        assert_eq!((one.spread, one.pictures), (0.0, 1));
    }
}
