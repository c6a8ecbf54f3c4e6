//! What unlabelled pictures probably show: the views of a picture vote, what pictures have in common corrects that, and the
//! most confident pictures of each class become shots.

use super::Unlabelled;
use super::mixture::{self, Shown};
use crate::adapt::AdaptError;
use crate::adapt::cross_fit::named;
use crate::adapt::features::FeatureSet;
use crate::classifier::{Scorer, softmax_rows};
use ndarray::{Array2, ArrayView2, ArrayView3, Axis};

/// The least coherence of classes that are all taken to be shown. It was 0.70 and more where they were, and 0.61 and less
/// where half of them never came or zero-shot guessed (docs/results/unlabelled.md).
const COHERENT: f32 = 0.67;
/// The least share of the pictures that must be named as the views vote. Many pictures of one class fall into parts that hang
/// together as well as classes do, and are then named by what they never show: prompts from such streams lost up to 44 points.
const AS_VOTED: f32 = 0.5;
/// The least coherence where only some classes are taken to be shown.
const COHERENT_PART: f32 = 0.72;
/// The least share of the pictures that must be named as the views vote, there.
const AS_VOTED_PART: f32 = 0.6;
/// How often classes are left out at most: of hundreds, several at once.
const MOST_TRIES: usize = 12;
/// The least share of the vote that the classes must have that are taken to be shown.
const LEAST_SHARE: f32 = 0.7;
/// The most that the vote may spread over the classes, as a share of the largest possible entropy, where some are taken never to be
/// shown. It was 0.60 to 0.85 where half of them never came, and 0.85 and more where all did.
const MOST_SPREAD: f32 = 0.85;

/// A class for each picture, and how confident that is.
#[derive(Debug, Clone)]
pub struct PseudoLabels {
    /// `[pictures, classes]`; rows sum to one.
    pub probabilities: Array2<f32>,
    /// How often the labels of `among` are taken to be shown.
    pub shown: Shown,
    /// The classes that may be shown, in ascending order.
    pub among: Vec<usize>,
    /// How well Gaussians of other pictures name each picture where all labels are taken to be shown alike, from 0 to 1.
    pub coherence: f32,
}

impl PseudoLabels {
    /// From pictures and what a prompt makes of them at the model's logit scale.
    ///
    /// Where the model is far surer of the pictures put right, that is the vote, and labels are shown as often as it says.
    /// Crops see past much of what a camera does to a scene, so the mean of all views is right far more often than one
    /// view is (docs/unlabelled.md). What is left is that a prompt on strange pictures names few classes for all. Where
    /// that is taken back, so that labels are shown alike, and each of them stands for pictures that have more in common
    /// with each other than with those of other labels, it is so. If that is not true of all labels, it may be of those
    /// without the rarest, which are never shown then; else labels are as the pictures come.
    ///
    /// # Errors
    /// [`AdaptError::Singular`] if the features are not numbers.
    pub fn of(
        pictures: Unlabelled,
        scorer: &Scorer,
        scale: f32,
    ) -> Result<PseudoLabels, AdaptError> {
        let plain = pictures.features.index_axis(Axis(1), 0);
        let every: Vec<usize> = (0..scorer.classes()).collect();
        if let Some(vote) = pictures.put_right {
            let probabilities = mixture::fitted(plain, vote, Shown::AsVoted)?;
            let labels = named(probabilities.view());
            return Ok(PseudoLabels {
                probabilities,
                shown: Shown::AsVoted,
                coherence: mixture::coherence(plain, &labels, every.len())?,
                among: every,
            });
        }
        let vote = vote(pictures.features, scorer, scale);
        let voted = named(vote.view());
        let all = alike(plain, vote.view(), every.clone(), Shown::Alike)?;
        let coherence = all.coherence;
        let as_voted = |of: &PseudoLabels| {
            let same = of.labels().into_iter().zip(&voted);
            let same = same.filter(|(a, b)| a == *b);
            same.count() as f32 / voted.len().max(1) as f32
        };
        if coherence >= COHERENT && as_voted(&all) >= AS_VOTED {
            return Ok(all);
        }
        let free = mixture::fitted(plain, vote.view(), Shown::AsTheyCome)?;
        let share = free.sum_axis(Axis(0));
        let mut among = every.clone();
        among.sort_by(|&a, &b| share[b].total_cmp(&share[a]));
        let most = MOST_SPREAD * (among.len() as f32).ln();
        let lacks_some = super::entropy(&voted, among.len()) < most;
        let at_once = among.len().div_ceil(MOST_TRIES);
        while lacks_some && among.len() > 1 + at_once {
            among.truncate(among.len() - at_once);
            let voted_for = among.iter().map(|&class| vote.column(class).sum());
            if voted_for.sum::<f32>() < LEAST_SHARE * voted.len() as f32 {
                break;
            }
            let mut among = among.clone();
            among.sort_unstable();
            let part = alike(plain, vote.view(), among, Shown::SomeAlike)?;
            if part.coherence >= COHERENT_PART && as_voted(&part) >= AS_VOTED_PART {
                return Ok(PseudoLabels { coherence, ..part });
            }
        }
        Ok(PseudoLabels {
            probabilities: free,
            shown: Shown::AsTheyCome,
            among: every,
            coherence,
        })
    }

    /// Under another prompt, with the same classes shown as often. What the model says of pictures put right keeps half of the vote.
    ///
    /// # Errors
    /// As [`PseudoLabels::of`].
    pub fn again(
        &self,
        pictures: Unlabelled,
        scorer: &Scorer,
        scale: f32,
    ) -> Result<PseudoLabels, AdaptError> {
        let mut vote = vote(pictures.features, scorer, scale);
        if let Some(put_right) = pictures.put_right {
            vote = (vote + put_right) / 2.0;
        }
        let plain = pictures.features.index_axis(Axis(1), 0);
        let among = self.among.clone();
        let probabilities = fitted_among(plain, vote.view(), &among, self.shown)?;
        Ok(PseudoLabels {
            probabilities,
            among,
            ..*self
        })
    }

    /// What the views alone say, balanced: enough to see whether a class has been seen at all.
    pub fn voted(features: ArrayView3<f32>, scorer: &Scorer, scale: f32) -> Vec<usize> {
        let mut vote = vote(features, scorer, scale);
        mixture::balance(&mut vote);
        named(vote.view())
    }

    /// The class of each picture.
    pub fn labels(&self) -> Vec<usize> {
        named(self.probabilities.view())
    }

    /// Of the pictures at `rows`, the `shots` most confident of each class, or as many as there are.
    pub fn most_confident(&self, rows: &[usize], shots: usize) -> Vec<usize> {
        let labels = self.labels();
        let mut chosen = Vec::new();
        for class in 0..self.probabilities.ncols() {
            let mut of_class: Vec<usize> = rows
                .iter()
                .copied()
                .filter(|&row| labels[row] == class)
                .collect();
            let confidence = |row: usize| self.probabilities[[row, class]];
            of_class.sort_by(|&a, &b| confidence(b).total_cmp(&confidence(a)));
            chosen.extend(of_class.into_iter().take(shots));
        }
        chosen
    }

    /// The pictures at `rows` with the classes they probably show.
    pub fn shots(&self, features: ArrayView3<f32>, rows: &[usize]) -> FeatureSet {
        let labels = self.labels();
        FeatureSet {
            features: features.select(Axis(0), rows),
            labels: rows.iter().map(|&row| labels[row]).collect(),
        }
    }
}

/// What pictures show if the classes of `among`, and they alone, are shown alike: all of them or some, which `shown` says.
fn alike(
    features: ArrayView2<f32>,
    vote: ArrayView2<f32>,
    among: Vec<usize>,
    shown: Shown,
) -> Result<PseudoLabels, AdaptError> {
    let probabilities = fitted_among(features, vote, &among, shown)?;
    let labels = named(probabilities.select(Axis(1), &among).view());
    let coherence = mixture::coherence(features, &labels, among.len())?;
    Ok(PseudoLabels {
        probabilities,
        shown,
        among,
        coherence,
    })
}

/// [`mixture::fitted`] with the classes of `among` alone; all others have no probability.
fn fitted_among(
    features: ArrayView2<f32>,
    vote: ArrayView2<f32>,
    among: &[usize],
    shown: Shown,
) -> Result<Array2<f32>, AdaptError> {
    let mut own = vote.select(Axis(1), among);
    for mut row in own.rows_mut() {
        let sum = row.sum().max(f32::MIN_POSITIVE);
        row /= sum;
    }
    let fitted = mixture::fitted(features, own.view(), shown)?;
    let mut probabilities = Array2::zeros(vote.dim());
    for (&class, of) in among.iter().zip(fitted.columns()) {
        probabilities.column_mut(class).assign(&of);
    }
    Ok(probabilities)
}

/// The mean of the views' probabilities, `[pictures, classes]`.
fn vote(features: ArrayView3<f32>, scorer: &Scorer, scale: f32) -> Array2<f32> {
    let views = features.axis_iter(Axis(1));
    let probabilities = views.map(|view| softmax_rows(scorer.scores(view), scale));
    let sum = probabilities.reduce(|sum, of| sum + of);
    let nothing = || Array2::zeros((features.dim().0, 0));
    sum.unwrap_or_else(nothing) / features.dim().1.max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::{best, probabilities};
    use crate::rng::Rng;
    use ndarray::{Array3, arr2, arr3, s};

    fn plain(classes: usize) -> Scorer {
        Scorer::new(Array2::eye(classes).view(), None).unwrap()
    }

    fn as_they_are(features: &Array3<f32>) -> Unlabelled<'_> {
        Unlabelled {
            features: features.view(),
            put_right: None,
        }
    }

    #[test]
    fn pictures_put_right_say_what_they_show_whatever_the_views_vote() {
        // All views are nearest to the first text; put right, a third of the pictures shows the second.
        let second = |row: usize| row.is_multiple_of(3);
        let features = Array3::from_shape_fn((30, 2, 3), |(row, _, axis)| {
            [1.0, 0.0, f32::from(u8::from(second(row)))][axis]
        });
        let texts = Scorer::new(Array2::eye(3).slice(s![..2, ..]), None).unwrap();
        let right = Array2::from_shape_fn((30, 2), |(row, class)| {
            if second(row) == (class == 1) {
                0.9
            } else {
                0.1
            }
        });
        let pictures = Unlabelled {
            put_right: Some(right.view()),
            ..as_they_are(&features)
        };
        let found = PseudoLabels::of(pictures, &texts, 10.0).unwrap();
        assert_eq!(found.shown, Shown::AsVoted);
        let shown: Vec<usize> = (0..30).map(|row| usize::from(second(row))).collect();
        assert_eq!(found.labels(), shown);
        // A prompt that has learnt something of it, and doubts.
        let learnt = Scorer::new(arr2(&[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).view(), None).unwrap();
        let again = found.again(pictures, &learnt, 10.0).unwrap();
        assert_eq!(again.labels(), shown);
    }

    #[test]
    fn views_vote() {
        // One view of three is mistaken.
        let features = arr3(&[
            [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]],
            [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]],
        ]);
        let labels = PseudoLabels::voted(features.view(), &plain(2), 10.0);
        assert_eq!(labels, [0, 1]);
    }

    #[test]
    fn a_class_that_a_prompt_prefers_does_not_swallow_the_others() {
        // All pictures are nearest to the first text; half of them a little less so.
        let features = Array3::from_shape_fn((40, 1, 2), |(row, _, axis)| {
            let angle: f32 = if row % 2 == 0 { 0.3 } else { 0.6 };
            [angle.cos(), angle.sin()][axis]
        });
        let texts = Array2::eye(2);
        let seen = probabilities(features.index_axis(Axis(1), 0), texts.view(), 10.0);
        assert!(seen.outer_iter().all(|row| best(row) == 0));
        let pseudo_labels = PseudoLabels::of(as_they_are(&features), &plain(2), 10.0).unwrap();
        assert_eq!(pseudo_labels.shown, Shown::Alike);
        let labels = pseudo_labels.labels();
        assert!((0..40).all(|row| labels[row] == row % 2), "{labels:?}");
    }

    /// Pictures of some of six labels, spread around corners, under a prompt that is right in most of them.
    fn stream(shown: &[usize], a_label: usize) -> (Array3<f32>, Vec<usize>) {
        let mut rng = Rng::new(7);
        let labels: Vec<usize> = (0..a_label * shown.len())
            .map(|row| shown[row % shown.len()])
            .collect();
        let features = Array3::from_shape_fn((labels.len(), 1, 24), |(row, _, axis)| {
            let text = f32::from(u8::from(labels[row] == axis));
            let look = f32::from(u8::from(labels[row] + 6 == axis));
            0.25 * text + look + 0.12 * rng.normal()
        });
        (features, labels)
    }

    fn texts() -> Scorer {
        let corner = |(row, axis)| f32::from(u8::from(row == axis));
        Scorer::new(Array2::from_shape_fn((6, 24), corner).view(), None).unwrap()
    }

    #[test]
    fn labels_that_are_never_shown_are_found_and_the_others_are_learnt() {
        for shown in [vec![0, 1, 2, 3, 4, 5], vec![1, 4]] {
            let (features, labels) = stream(&shown, 24);
            let found = PseudoLabels::of(as_they_are(&features), &texts(), 20.0).unwrap();
            assert_eq!(found.among, shown);
            let some = shown.len() < 6;
            assert_eq!(
                found.shown,
                if some { Shown::SomeAlike } else { Shown::Alike }
            );
            let right = found.labels().into_iter().zip(&labels);
            let right = right.filter(|(a, b)| a == *b).count();
            assert!(right as f32 > 0.95 * labels.len() as f32, "{right}");
            let again = found.again(as_they_are(&features), &texts(), 20.0).unwrap();
            assert_eq!(again.labels(), found.labels());
        }
    }

    /// A fixed camera may see one thing for an hour: its pictures fall into as many parts as there are labels.
    #[test]
    fn many_pictures_of_one_label_are_not_given_all_labels() {
        let (features, labels) = stream(&[4], 300);
        let found = PseudoLabels::of(as_they_are(&features), &texts(), 20.0).unwrap();
        let right = found.labels().into_iter().zip(&labels);
        let right = right.filter(|(a, b)| a == *b).count();
        assert_eq!(found.shown, Shown::AsTheyCome);
        assert!(right as f32 > 0.6 * labels.len() as f32, "{right}");
    }

    #[test]
    fn the_most_confident_of_each_class_are_taken_in_order_and_no_others() {
        let pseudo_labels = PseudoLabels {
            probabilities: arr2(&[[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]]),
            shown: Shown::Alike,
            among: vec![0, 1],
            coherence: 1.0,
        };
        assert_eq!(
            pseudo_labels.most_confident(&[0, 1, 2, 3, 4], 2),
            [0, 2, 4, 3]
        );
        assert_eq!(pseudo_labels.most_confident(&[1, 3], 2), [1, 3]);
        let features = Array3::from_shape_fn((5, 1, 1), |(row, _, _)| row as f32);
        let shots = pseudo_labels.shots(features.view(), &[4, 0]);
        assert_eq!(shots.labels, [1, 0]);
        assert_eq!(shots.features[[0, 0, 0]], 4.0);
    }
}
