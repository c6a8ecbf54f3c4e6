//! Which pictures an answer rests on: those most like the picture in question, and those without which the answer would change
//! most.

use super::STRENGTH;
use crate::adapt::AdaptError;
use crate::adapt::features::FeatureSet;
use crate::adapt::prototypes::Discriminant;
use crate::classifier::softmax_rows;
use ndarray::{ArrayView1, ArrayView2, Axis};

/// A picture, and how much it is like the one in question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Its row in the [`FeatureSet`].
    pub picture: usize,
    /// The cosine of the two features.
    pub cosine: f32,
}

/// All pictures of `set`, those most like `feature [joint]` first.
pub fn nearest(set: &FeatureSet, feature: ArrayView1<f32>) -> Vec<Neighbour> {
    let (features, _) = set.plain();
    let cosines = features.dot(&feature);
    let mut found: Vec<Neighbour> = cosines
        .iter()
        .enumerate()
        .map(|(picture, &cosine)| Neighbour { picture, cosine })
        .collect();
    found.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
    found
}

/// A picture, and what its absence would do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Influence {
    /// Its row in the [`FeatureSet`].
    pub picture: usize,
    /// By how much the probability of the class in question would change without it: below 0 the picture speaks for the class.
    pub change: f32,
}

/// How the probability of `class` for a picture with `feature [joint]` would change without each picture of `set`, the largest
/// change first. It is answered by texts, `texts [classes, joint]` times the model's logit scale, and by Gaussians of `set`: the
/// mean of a picture's class changes without it, the covariance and the texts stay.
///
/// # Errors
/// If the features are not numbers.
pub fn influence(
    texts: ArrayView2<f32>,
    set: &FeatureSet,
    feature: ArrayView1<f32>,
    class: usize,
) -> Result<Vec<Influence>, AdaptError> {
    let (features, labels) = set.plain();
    let classes = texts.nrows();
    let (fitted, precision) = Discriminant::with_precision(features.view(), &labels, classes)?;
    let feature = feature.insert_axis(Axis(0));
    let words = feature.dot(&texts.t());
    let probability = |gaussians: &Discriminant| {
        let scores = &words + &(gaussians.scores(feature) * STRENGTH);
        softmax_rows(scores, 1.0)[[0, class]]
    };
    let mut counts = vec![0; classes];
    for &label in &labels {
        counts[label] += 1;
    }
    let before = probability(&fitted);
    let mut found: Vec<Influence> = labels
        .iter()
        .zip(features.outer_iter())
        .enumerate()
        .map(|(picture, (&label, shot))| {
            let without = fitted.without((label, counts[label]), shot, &precision);
            Influence {
                picture,
                change: probability(&without) - before,
            }
        })
        .collect();
    found.sort_by(|a, b| b.change.abs().total_cmp(&a.change.abs()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drawn, with_task};
    use super::*;

    /// A picture of class 0 that was labelled 1 by mistake, and one nearly the same in question.
    fn mislabelled(joint: usize) -> (FeatureSet, ndarray::Array1<f32>) {
        let mut set = drawn(joint, 0.8);
        let feature = set
            .features
            .index_axis(Axis(0), 6)
            .index_axis(Axis(0), 0)
            .to_owned();
        set.labels[6] = 1;
        (set, feature)
    }

    #[test]
    fn the_nearest_pictures_come_first() {
        with_task(|_, joint| {
            let (set, feature) = mislabelled(joint);
            let found = nearest(&set, feature.view());
            assert_eq!((found.len(), found[0].picture), (36, 6));
            assert!((found[0].cosine - 1.0).abs() < 1e-4);
            assert!(
                found
                    .windows(2)
                    .all(|pair| pair[0].cosine >= pair[1].cosine)
            );
        });
    }

    #[test]
    fn the_shot_with_the_wrong_label_is_the_one_that_changes_the_answer_most() {
        with_task(|task, joint| {
            let (set, feature) = mislabelled(joint);
            let texts = task.text_features(None).unwrap() * task.model.logit_scale;
            let found = influence(texts.view(), &set, feature.view(), 1).unwrap();
            assert_eq!(found.len(), 36);
            assert_eq!(found[0].picture, 6, "{:?}", &found[..4]);
            assert!(found[0].change < 0.0, "without it, class 1 is less likely");
        });
    }

    #[test]
    fn influences_are_about_what_fitting_again_without_the_picture_gives() {
        with_task(|task, joint| {
            let (set, feature) = mislabelled(joint);
            let texts = task.text_features(None).unwrap() * task.model.logit_scale;
            let probability = |rows: &[usize]| {
                let (features, labels) = set.select(rows).plain();
                let fitted = Discriminant::of(features.view(), &labels, 3).unwrap();
                let feature = feature.view().insert_axis(Axis(0));
                let scores = feature.dot(&texts.t()) + fitted.scores(feature) * STRENGTH;
                softmax_rows(scores, 1.0)[[0, 1]]
            };
            let all: Vec<usize> = (0..36).collect();
            let whole = probability(&all);
            let found = influence(texts.view(), &set, feature.view(), 1).unwrap();
            let again: Vec<f32> = found
                .iter()
                .map(|of| {
                    let rest: Vec<usize> = (0..36).filter(|&row| row != of.picture).collect();
                    probability(&rest) - whole
                })
                .collect();
            let pairs = || found.iter().map(|of| of.change).zip(again.iter().copied());
            let dot: f32 = pairs().map(|(a, b)| a * b).sum();
            let (one, other): (f32, f32) =
                pairs().fold((0.0, 0.0), |sum, (a, b)| (sum.0 + a * a, sum.1 + b * b));
            let cosine = dot / (one * other).sqrt();
            println!("cosine of influences and of fits without each picture: {cosine:.3}");
            assert!(cosine > 0.7, "{cosine}");
        });
    }

    #[test]
    fn the_only_shot_of_a_label_leaves_that_label_to_its_text() {
        with_task(|task, joint| {
            let set = drawn(joint, 0.5);
            let kept: Vec<usize> = (0..36).filter(|&row| row % 3 != 1 || row == 1).collect();
            let set = set.select(&kept);
            let texts = task.text_features(None).unwrap() * task.model.logit_scale;
            let only = set.labels.iter().position(|&label| label == 1).unwrap();
            let feature = set
                .features
                .index_axis(Axis(0), only)
                .index_axis(Axis(0), 0)
                .to_owned();
            let found = influence(texts.view(), &set, feature.view(), 1).unwrap();
            assert_eq!(found[0].picture, only);
            assert!(found[0].change < 0.0 && found.iter().all(|of| of.change.is_finite()));
        });
    }
}
