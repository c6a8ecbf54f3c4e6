//! Whether a trained prompt may stay: the pictures that are held out for the question, and what they answer.

use super::AdaptError;
use super::cross_fit::{Scores, named};
use super::loss::{confusion, share_right};
use super::prototypes::Strengths;
use super::verdict::{Pair, Verdict};
use crate::prompt::Calibration;
use crate::rng::Rng;
use ndarray::Array2;
use std::collections::BTreeSet;

/// Which pictures train and which judge, as rows of a [`FeatureSet`](super::features::FeatureSet) in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Those that train.
    pub train: Vec<usize>,
    /// Those that training never sees.
    pub holdout: Vec<usize>,
}

impl Split {
    /// Holds out `share` of the pictures of each class, at random from `seed`: at least one of a class that has two,
    /// and never its last one. `labels` holds the class of each picture, below `classes`.
    ///
    /// # Errors
    /// [`AdaptError::Holdout`] if `share` is not in `0..1`.
    pub fn new(
        labels: &[usize],
        classes: usize,
        share: f32,
        seed: u64,
    ) -> Result<Split, AdaptError> {
        if !(0.0..1.0).contains(&share) {
            return Err(AdaptError::Holdout { share });
        }
        let mut rng = Rng::with_stream(seed, SPLIT_STREAM);
        let mut split = Split {
            train: Vec::new(),
            holdout: Vec::new(),
        };
        for class in 0..classes {
            let mut members: Vec<usize> = (0..labels.len())
                .filter(|&index| labels[index] == class)
                .collect();
            rng.shuffle(&mut members);
            let wanted = if share > 0.0 {
                ((members.len() as f32 * share).round() as usize).max(1)
            } else {
                0
            };
            let held = wanted.min(members.len().saturating_sub(1));
            split.holdout.extend(&members[..held]);
            split.train.extend(&members[held..]);
        }
        split.train.sort_unstable();
        split.holdout.sort_unstable();
        Ok(split)
    }

    /// As many splits as `parts`, in which every picture is held out once; of a class with fewer pictures only so many hold
    /// one out, and the only picture of a class always trains. Splits that would hold nothing out are left out.
    pub fn parts(labels: &[usize], classes: usize, parts: usize, seed: u64) -> Vec<Split> {
        let before = vec![None; labels.len()];
        let part_of = divided(labels, classes, (parts, seed), &before);
        let splits = Split::of_parts(&part_of).into_iter();
        splits.map(|(_, split)| split).collect()
    }

    /// The splits that hold out each part in turn, with the part's number, where `part_of` has the part of each picture; a
    /// picture of none always trains.
    pub(super) fn of_parts(part_of: &[Option<usize>]) -> Vec<(usize, Split)> {
        let numbers: BTreeSet<usize> = part_of.iter().flatten().copied().collect();
        let split = |number: usize| {
            let rows = 0..part_of.len();
            let (holdout, train) = rows.partition(|&row| part_of[row] == Some(number));
            (number, Split { train, holdout })
        };
        numbers.into_iter().map(split).collect()
    }

    /// The pictures that judge: those held out, or the training pictures for want of others.
    pub fn judged(&self) -> &[usize] {
        if self.holdout.is_empty() {
            &self.train
        } else {
            &self.holdout
        }
    }
}

/// The part, of so many, in which each picture judges; none for one that always trains, as the only picture of a class does. Those
/// that were divided `before` stay where they were, and the others are divided by the seed.
pub(super) fn divided(
    labels: &[usize],
    classes: usize,
    (parts, seed): (usize, u64),
    before: &[Option<Option<usize>>],
) -> Vec<Option<usize>> {
    let parts = parts.max(2);
    let mut rng = Rng::with_stream(seed, SPLIT_STREAM);
    let mut part_of = vec![None; labels.len()];
    for class in 0..classes {
        let mut members: Vec<usize> = (0..labels.len())
            .filter(|&index| labels[index] == class)
            .collect();
        rng.shuffle(&mut members);
        if members.len() < 2 {
            continue;
        }
        let mut counts = vec![0; parts];
        for &member in &members {
            part_of[member] = before[member].flatten().filter(|&part| part < parts);
            if let Some(part) = part_of[member] {
                counts[part] += 1;
            }
        }
        for &member in members.iter().filter(|&&member| before[member].is_none()) {
            // Another first part for each class keeps the parts alike in size.
            let places = (0..parts).map(|place| (place + class) % parts);
            let part = places.min_by_key(|&part| counts[part]).unwrap_or(0);
            part_of[member] = Some(part);
            counts[part] += 1;
        }
        // No part may hold out all there are of a class.
        if counts.contains(&members.len()) {
            part_of[members[0]] = None;
        }
    }
    part_of
}

/// Keeps the split apart from other uses of the same seed.
const SPLIT_STREAM: u64 = 0x5917;

/// What speaks for a trained prompt or against it: a [`Comparison`] where labels are known, a
/// [`Consistency`](super::unlabelled::Consistency) where they are not.
pub trait Evidence {
    /// Whether the prompt may stay.
    fn accepts(&self) -> bool;

    /// What labelled pictures say; none where nobody labelled any.
    fn comparison(&self) -> Option<&Comparison>;

    /// How scores are to be read; none where no picture can say.
    fn calibration(&self) -> Option<&Calibration>;
}

/// A trained prompt beside the plain template, on labelled pictures.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Comparison {
    /// The pictures that judged, as rows of their [`FeatureSet`](super::features::FeatureSet).
    pub judged: Vec<usize>,
    /// Whether what was compared had been trained without them.
    pub unseen: bool,
    /// Accuracy of the plain template on the pictures that judged, in `0..=1`.
    pub zero_shot_accuracy: f32,
    /// Accuracy on the same pictures of what is to answer: the prompt, with its prototypes if it has any.
    pub adapted_accuracy: f32,
    /// Of the prompt alone.
    pub prompt_accuracy: f32,
    /// The same pictures by the class that they show (rows) and the class that they are given (columns).
    pub confusion: Array2<usize>,
    /// The difference, and whether so many pictures can tell it.
    pub verdict: Verdict,
    /// How scores are to be read; none where nothing was held out.
    pub calibration: Option<Calibration>,
}

impl Comparison {
    /// Compares by the `scores` of pictures, where prototypes count `strengths`. `scale` is the model's logit scale.
    pub(super) fn new(
        scores: &Scores,
        unseen: bool,
        strengths: Strengths,
        scale: f32,
    ) -> Comparison {
        let together = scores.together(strengths, scale);
        let classes = together.ncols();
        let share = |table: &Array2<f32>| share_right(scores.plain(table), &scores.labels);
        let (before, after) = (
            named(scores.plain(&scores.template)),
            named(scores.plain(&together)),
        );
        let seen = scores.labels.iter().zip(before.iter().zip(&after));
        let pairs: Vec<Pair> = seen
            .map(|(&truth, (&before, &after))| Pair {
                truth,
                before,
                after,
            })
            .collect();
        Comparison {
            judged: scores.pictures.clone(),
            zero_shot_accuracy: share(&scores.template),
            adapted_accuracy: share(&together),
            prompt_accuracy: share(&scores.prompt),
            confusion: confusion(scores.plain(&together), &scores.labels),
            verdict: Verdict::of(&pairs, classes),
            calibration: unseen
                .then(|| scores.calibration(strengths, scale))
                .flatten(),
            unseen,
        }
    }

    /// Pictures held out and judged; 0 means that the training pictures were judged for want of others.
    pub fn held_out(&self) -> usize {
        if self.unseen { self.judged.len() } else { 0 }
    }
}

impl Evidence for Comparison {
    /// The rule that adapting does no harm: what is to answer is at least as good as the template.
    fn accepts(&self) -> bool {
        self.adapted_accuracy >= self.zero_shot_accuracy
    }

    fn comparison(&self) -> Option<&Comparison> {
        Some(self)
    }

    fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_holds_out_a_share_of_every_class() {
        let labels: Vec<usize> = (0..48).map(|index| index % 3).collect();
        let split = Split::new(&labels, 3, 0.25, 1).unwrap();
        for class in 0..3 {
            let held = split
                .holdout
                .iter()
                .filter(|&&index| labels[index] == class)
                .count();
            assert_eq!(held, 4);
        }
        let mut all = [split.train.clone(), split.holdout.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..48).collect::<Vec<_>>());
        assert_eq!(split, Split::new(&labels, 3, 0.25, 1).unwrap());
        assert_ne!(split, Split::new(&labels, 3, 0.25, 2).unwrap());
    }

    #[test]
    fn the_split_never_takes_the_last_picture_of_a_class() {
        let split = Split::new(&[0, 1, 1], 2, 0.9, 0).unwrap();
        assert_eq!(split.holdout.len(), 1);
        assert!(split.train.contains(&0));
        assert!(Split::new(&[0, 1], 2, 1.0, 0).is_err());
        assert!(Split::new(&[0, 1], 2, f32::NAN, 0).is_err());
        assert!(
            Split::new(&[0, 1, 0, 1], 2, 0.0, 0)
                .unwrap()
                .holdout
                .is_empty()
        );
    }

    #[test]
    fn every_picture_is_held_out_once_but_the_only_one_of_a_class() {
        let labels = [0, 1, 0, 1, 0, 1, 0, 2, 1, 0];
        let splits = Split::parts(&labels, 3, 3, 4);
        let mut held: Vec<usize> = splits
            .iter()
            .flat_map(|split| &split.holdout)
            .copied()
            .collect();
        held.sort_unstable();
        assert_eq!(held, [0, 1, 2, 3, 4, 5, 6, 8, 9]);
        for split in &splits {
            assert!(split.train.contains(&7));
            assert!(
                [0, 1]
                    .iter()
                    .all(|class| split.train.iter().any(|&row| labels[row] == *class))
            );
            assert_eq!(split.train.len() + split.holdout.len(), labels.len());
        }
        assert_eq!(splits, Split::parts(&labels, 3, 3, 4));
        assert!(Split::parts(&[0, 1, 2], 3, 3, 0).is_empty());
    }

    #[test]
    fn a_comparison_counts_what_is_taken_for_what_on_the_pictures_that_judged() {
        let scores = |template: Array2<f32>, prompt: Array2<f32>| Scores {
            pictures: vec![1, 3],
            labels: vec![0, 1],
            views: 1,
            gaussians: Vec::new(),
            means: prompt.clone(),
            template,
            prompt,
        };
        let (good, bad) = (Array2::eye(2), ndarray::arr2(&[[0.0, 1.0], [1.0, 0.0]]));
        let found = Comparison::new(&scores(bad.clone(), good.clone()), true, [0.0; 2], 10.0);
        assert_eq!(
            (found.zero_shot_accuracy, found.adapted_accuracy),
            (0.0, 1.0)
        );
        assert_eq!(found.confusion, ndarray::arr2(&[[1, 0], [0, 1]]));
        assert!(found.accepts() && found.calibration.is_some());
        assert_eq!((found.held_out(), found.verdict.gain), (2, 1.0));

        let found = Comparison::new(&scores(good, bad), false, [0.0; 2], 10.0);
        assert_eq!(found.confusion, ndarray::arr2(&[[0, 1], [1, 0]]));
        assert!(!found.accepts());
        assert_eq!((found.held_out(), found.calibration), (0, None));
    }
}
