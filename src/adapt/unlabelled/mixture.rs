//! Pseudo-labels in closed form: a Gaussian of each class, all with one covariance, and what the views of the pictures vote
//! for, fitted to each other in turns (a mixture that texts hold in place, as in StatA, arXiv 2501.03729).

use crate::adapt::AdaptError;
use crate::adapt::cross_fit::named;
use crate::adapt::prototypes::Discriminant;
use crate::classifier::softmax_rows;
use ndarray::{Array2, ArrayView2, Axis};

/// Turns at most; most mixtures stand still before.
const TURNS: usize = 10;
/// Parts into which pictures are divided, to name each by Gaussians of the others.
const PARTS: usize = 5;
/// What stands for a probability of zero where its logarithm is needed.
const TINY: f32 = 1e-12;
/// Passes over the classes until they are balanced; the last ones change little.
const BALANCING: usize = 20;

/// How often the labels are taken to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Each about as often as the others.
    Alike,
    /// Some about as often as each other, and the others never.
    SomeAlike,
    /// Some perhaps never.
    AsTheyCome,
    /// As often as pictures put right say, which the model is sure of.
    AsVoted,
}

impl Shown {
    /// Whether those that are shown at all come about as often as each other.
    pub fn evenly(self) -> bool {
        matches!(self, Shown::Alike | Shown::SomeAlike)
    }

    /// What Gaussians count beside the vote, and later beside the prompt: the spread of their logits over all labels, those without
    /// pictures among them, for which they say nothing. Where labels may be missing texts must hold more, or pictures of other labels
    /// gather under theirs.
    pub fn strength(self) -> f32 {
        match self {
            Shown::Alike | Shown::SomeAlike | Shown::AsVoted => 5.0,
            Shown::AsTheyCome => 2.5,
        }
    }
}

/// The probabilities `[pictures, classes]` of `features [pictures, joint]` that fit a `vote` of the same shape.
///
/// # Errors
/// [`AdaptError::Singular`] if the features are not numbers.
pub fn fitted(
    features: ArrayView2<f32>,
    vote: ArrayView2<f32>,
    shown: Shown,
) -> Result<Array2<f32>, AdaptError> {
    let settle = |mut probabilities: Array2<f32>| {
        if shown.evenly() {
            balance(&mut probabilities);
        }
        probabilities
    };
    let anchor = vote.mapv(|share| share.max(TINY).ln());
    let mut probabilities = settle(vote.to_owned());
    let mut labels = named(probabilities.view());
    for _ in 0..TURNS {
        let gaussians = Discriminant::of(features, &labels, vote.ncols())?;
        let logits = &anchor + &(gaussians.scores(features) * shown.strength());
        probabilities = settle(softmax_rows(logits, 1.0));
        let next = named(probabilities.view());
        if next == labels {
            break;
        }
        labels = next;
    }
    Ok(probabilities)
}

/// The share of the pictures that Gaussians of other pictures name as `labels` does, in the mean over that half of the classes
/// where it is least: classes that are none, but parts of others, have little of it.
///
/// # Errors
/// As [`fitted`].
pub fn coherence(
    features: ArrayView2<f32>,
    labels: &[usize],
    classes: usize,
) -> Result<f32, AdaptError> {
    let mut alike = vec![0; classes];
    for part in 0..PARTS {
        let (own, others): (Vec<usize>, Vec<usize>) =
            (0..labels.len()).partition(|row| row % PARTS == part);
        let of = |rows: &[usize]| rows.iter().map(|&row| labels[row]).collect::<Vec<usize>>();
        let learnt = features.select(Axis(0), &others);
        let gaussians = Discriminant::of(learnt.view(), &of(&others), classes)?;
        let scores = gaussians.scores(features.select(Axis(0), &own).view());
        for (label, named) in of(&own).into_iter().zip(named(scores.view())) {
            alike[label] += usize::from(label == named);
        }
    }
    let count = |class| labels.iter().filter(|&&label| label == class).count();
    let share = |(class, alike)| alike as f32 / count(class).max(1) as f32;
    let mut shares: Vec<f32> = alike.into_iter().enumerate().map(share).collect();
    shares.sort_by(f32::total_cmp);
    let least = &shares[..classes.div_ceil(2)];
    Ok(least.iter().sum::<f32>() / least.len().max(1) as f32)
}

/// Multiplies each class by a number such that all classes have the same sum, and rows still sum to one.
pub fn balance(probabilities: &mut Array2<f32>) {
    for _ in 0..BALANCING {
        for mut class in probabilities.columns_mut() {
            let sum = class.sum().max(TINY);
            class /= sum;
        }
        for mut row in probabilities.rows_mut() {
            let sum = row.sum().max(TINY);
            row /= sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Pictures of `shown` of three classes, 30 each, spread around corners of length one, and a vote that is right in
    /// most of them and likes the first class too much.
    fn stream(shown: usize) -> (Array2<f32>, Array2<f32>, Vec<usize>) {
        let mut rng = Rng::new(5);
        let labels: Vec<usize> = (0..30 * shown).map(|row| row % shown).collect();
        let features = Array2::from_shape_fn((labels.len(), 16), |(row, axis)| {
            f32::from(u8::from(labels[row] == axis)) + 0.1 * rng.normal()
        });
        let vote = Array2::from_shape_fn((labels.len(), 3), |(row, class)| {
            let mistaken = row % 5 == 0;
            let likes = if class == 0 { 1.5 } else { 0.0 };
            likes + 2.0 * f32::from(u8::from(labels[row] == class && !mistaken))
        });
        (features, softmax_rows(vote, 1.0), labels)
    }

    fn right(labels: &[usize], found: &[usize]) -> usize {
        labels.iter().zip(found).filter(|(a, b)| a == b).count()
    }

    #[test]
    fn pictures_that_are_alike_correct_a_vote() {
        let (features, vote, labels) = stream(3);
        let found = named(
            fitted(features.view(), vote.view(), Shown::Alike)
                .unwrap()
                .view(),
        );
        assert!(right(&labels, &named(vote.view())) < 80);
        assert_eq!(found, labels);
        assert!(coherence(features.view(), &found, 3).unwrap() > 0.95);
    }

    #[test]
    fn balanced_classes_have_the_same_sum_and_rows_sum_to_one() {
        let (_, mut vote, _) = stream(3);
        balance(&mut vote);
        for class in vote.columns() {
            assert!((class.sum() - 30.0).abs() < 1e-2, "{}", class.sum());
        }
        assert!(vote.outer_iter().all(|row| (row.sum() - 1.0).abs() < 1e-5));
    }

    #[test]
    fn labels_that_never_come_are_not_given_to_pictures_unless_all_are_said_to_come() {
        let (features, vote, labels) = stream(2);
        let of = |shown| {
            let found = named(fitted(features.view(), vote.view(), shown).unwrap().view());
            let coherence = coherence(features.view(), &found, 3).unwrap();
            (right(&labels, &found), coherence)
        };
        let (as_it_comes, _) = of(Shown::AsTheyCome);
        let (alike, coherence) = of(Shown::Alike);
        assert!(alike < as_it_comes, "{alike} {as_it_comes}");
        assert!(coherence < 0.75, "{coherence}");
    }
}
