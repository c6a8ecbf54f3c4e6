//! What labelled pictures say about themselves: which labels look wrong, which pictures are there twice, which of them hurt,
//! whether more would help, and which of them an answer rests on. All of it is in closed form on features that are there
//! already: nothing is trained.

mod enough;
mod why;

pub use enough::{Advice, AtShots, Enough, Wanted, enough};
pub use why::{Influence, Neighbour, influence, nearest};

use super::acceptance::Split;
use super::drift::ALIKE;
use super::features::FeatureSet;
use super::prototypes::{Discriminant, Precision};
use super::{AdaptError, Task};
use crate::classifier::{best, softmax_rows};
use ndarray::{Array2, ArrayView2, Axis};

/// Parts that pictures are divided into: each is looked at by what the others say.
const PARTS: usize = 8;
/// How much the Gaussians count beside the template's texts: the spread of their logits.
const STRENGTH: f32 = 3.2;
/// Shares of the pictures of each label that the learning curve is drawn at.
const SHARES: [f32; 4] = [0.25, 0.5, 0.75, 1.0];

/// A picture whose label looks wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suspicion {
    /// Its row in the [`FeatureSet`].
    pub picture: usize,
    /// The class that it was given.
    pub label: usize,
    /// The class that it looks like, of all others.
    pub seems: usize,
    /// How much likelier that class is than its own, as a difference of logarithms; below 0 the label looks right.
    pub doubt: f32,
}

/// All pictures that can be judged, the most suspicious first: each is looked at without itself. The only picture of a label
/// cannot.
///
/// # Errors
/// If the features are not numbers.
pub fn suspicions(task: &Task, set: &FeatureSet) -> Result<Vec<Suspicion>, AdaptError> {
    let mut found = Vec::new();
    for part in Judge::new(task, set)?.parts()? {
        for (row, &picture) in part.scores.outer_iter().zip(&part.pictures) {
            let label = set.labels[picture];
            let mut others = row.to_owned();
            others[label] = f32::NEG_INFINITY;
            let seems = best(others.view());
            found.push(Suspicion {
                picture,
                label,
                seems,
                doubt: row[seems] - row[label],
            });
        }
    }
    found.sort_by(|a, b| b.doubt.total_cmp(&a.doubt));
    Ok(found)
}

/// Two pictures that are nearly the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Duplicate {
    /// Their rows, the earlier first.
    pub pictures: [usize; 2],
    /// The cosine of their features.
    pub cosine: f32,
}

/// Pictures that are nearly the same, those of different labels first: one of them is labelled wrong, and those of one label
/// make a prompt look better than it is, because one may train and the other judge.
pub fn duplicates(set: &FeatureSet) -> Vec<Duplicate> {
    let (features, labels) = set.plain();
    let cosines = features.dot(&features.t());
    let mut found = Vec::new();
    for later in 0..labels.len() {
        for earlier in 0..later {
            let cosine = cosines[[earlier, later]];
            if cosine > ALIKE {
                found.push(Duplicate {
                    pictures: [earlier, later],
                    cosine,
                });
            }
        }
    }
    let alike = |pair: &Duplicate| labels[pair.pictures[0]] == labels[pair.pictures[1]];
    found.sort_by(|a, b| {
        let order = alike(a).cmp(&alike(b));
        order.then(b.cosine.total_cmp(&a.cosine))
    });
    found
}

/// How much worse each picture makes the answers on others: the mean loss, in nats, of the pictures that it does not stand
/// among, with it less without it. Above 0 it hurts. The class means change without it; the covariance is kept.
///
/// # Errors
/// If the features are not numbers.
pub fn harm(task: &Task, set: &FeatureSet) -> Result<Vec<f32>, AdaptError> {
    let (features, _) = set.plain();
    let mut harm = vec![0.0; set.labels.len()];
    let mut judged = vec![0usize; set.labels.len()];
    for part in Judge::new(task, set)?.parts()? {
        let held = features.select(Axis(0), &part.pictures);
        let before = losses(&part.scores, set, &part.pictures);
        for &picture in &part.train {
            let label = set.labels[picture];
            let count = part.count(set, label);
            if count < 2 {
                continue;
            }
            let without =
                part.fitted
                    .without((label, count), features.row(picture), &part.precision);
            let scores = part.scores_of(&without, held.view());
            let after = losses(&scores, set, &part.pictures);
            harm[picture] += before - after;
            judged[picture] += part.pictures.len();
        }
    }
    let harm = harm.iter().zip(judged);
    Ok(harm.map(|(sum, count)| sum / count.max(1) as f32).collect())
}

/// How right answers are after so many pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learnt {
    /// Pictures that were learnt from, on average.
    pub pictures: usize,
    /// Accuracy on pictures that were not, in `0..=1`.
    pub accuracy: f32,
}

/// Accuracy by how many of the pictures are learnt from: where it still rises at the end, more pictures help.
///
/// # Errors
/// If the features are not numbers.
pub fn learning_curve(task: &Task, set: &FeatureSet) -> Result<Vec<Learnt>, AdaptError> {
    let judge = Judge::new(task, set)?;
    let mut curve = Vec::new();
    for share in SHARES {
        let wanted = |total: usize| (share * total as f32).ceil() as usize;
        if let Some((pictures, accuracy)) = judge.learnt_from(&|rows| rows.to_vec(), &wanted)? {
            curve.push(Learnt { pictures, accuracy });
        }
    }
    Ok(curve)
}

/// Pictures that judge each other.
struct Judge<'a> {
    set: &'a FeatureSet,
    /// Logits of the template's texts, `[pictures, classes]`.
    texts: Array2<f32>,
    /// Every picture is held out once.
    splits: Vec<Split>,
}

impl<'a> Judge<'a> {
    fn new(task: &Task, set: &'a FeatureSet) -> Result<Judge<'a>, AdaptError> {
        let (plain, _) = set.plain();
        let texts = task.text_features(None)? * task.model.logit_scale;
        Ok(Judge {
            set,
            texts: plain.dot(&texts.t()),
            splits: Split::parts(&set.labels, task.labels.len(), PARTS, 0),
        })
    }

    fn parts(&self) -> Result<Vec<Part>, AdaptError> {
        let splits = self.splits.iter();
        splits
            .map(|split| self.part(split.train.clone(), split.holdout.clone()))
            .collect()
    }

    /// `pictures`, as those of `train` see them.
    fn part(&self, train: Vec<usize>, pictures: Vec<usize>) -> Result<Part, AdaptError> {
        let (shots, labels) = self.set.select(&train).plain();
        let classes = self.texts.ncols();
        let (fitted, precision) = Discriminant::with_precision(shots.view(), &labels, classes)?;
        let (held, _) = self.set.select(&pictures).plain();
        let texts = self.texts.select(Axis(0), &pictures);
        let mut part = Part {
            train,
            pictures,
            fitted,
            precision,
            scores: Array2::zeros((0, 0)),
            texts,
        };
        part.scores = part.scores_of(&part.fitted, held.view());
        Ok(part)
    }

    /// Where of the pictures of each class that can be learnt from, `total`, in `order`, only the first `wanted(total)` are:
    /// how many those are, on average over the parts, and how many of the others are then named right. None without any.
    fn learnt_from(
        &self,
        order: &dyn Fn(&[usize]) -> Vec<usize>,
        wanted: &dyn Fn(usize) -> usize,
    ) -> Result<Option<(usize, f32)>, AdaptError> {
        let (mut learnt, mut right, mut judged) = (0, 0, 0);
        for split in &self.splits {
            let rows = first_of_each(&order(&split.train), &self.set.labels, wanted);
            let part = self.part(rows, split.holdout.clone())?;
            let named = part.scores.outer_iter().map(best);
            right += named
                .zip(&part.pictures)
                .filter(|(named, picture)| *named == self.set.labels[**picture])
                .count();
            learnt += part.train.len();
            judged += part.pictures.len();
        }
        let parts = self.splits.len().max(1);
        Ok((judged > 0).then(|| (learnt / parts, right as f32 / judged as f32)))
    }
}

/// Some pictures, as the others see them.
struct Part {
    train: Vec<usize>,
    pictures: Vec<usize>,
    /// The Gaussians of those that train.
    fitted: Discriminant,
    precision: Precision,
    /// Logits of the template's texts, `[pictures, classes]`.
    texts: Array2<f32>,
    /// With what the Gaussians add.
    scores: Array2<f32>,
}

impl Part {
    /// With what other Gaussians would add; `held [pictures, joint]` are the features of the pictures.
    fn scores_of(&self, gaussians: &Discriminant, held: ArrayView2<f32>) -> Array2<f32> {
        &self.texts + &(gaussians.scores(held) * STRENGTH)
    }

    /// How many pictures of `class` train.
    fn count(&self, set: &FeatureSet, class: usize) -> usize {
        let of = |&&row: &&usize| set.labels[row] == class;
        self.train.iter().filter(of).count()
    }
}

/// The summed loss of `pictures` under `scores [pictures, classes]`.
fn losses(scores: &Array2<f32>, set: &FeatureSet, pictures: &[usize]) -> f32 {
    let shares = softmax_rows(scores.clone(), 1.0);
    let rows = shares.outer_iter().zip(pictures);
    rows.map(|(row, &picture)| -row[set.labels[picture]].max(f32::MIN_POSITIVE).ln())
        .sum()
}

/// Of `rows`, in order, the first `wanted(total)` of those of each class, at least one.
fn first_of_each(rows: &[usize], labels: &[usize], wanted: &dyn Fn(usize) -> usize) -> Vec<usize> {
    let classes = labels.iter().max().map_or(0, |most| most + 1);
    let mut totals = vec![0; classes];
    for &row in rows {
        totals[labels[row]] += 1;
    }
    let mut taken = vec![0; classes];
    let keep = |&&row: &&usize| {
        let class = labels[row];
        taken[class] += 1;
        taken[class] <= wanted(totals[class]).max(1)
    };
    rows.iter().filter(keep).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Model;
    use crate::prompt::{Label, Template};
    use crate::rng::Rng;
    use ndarray::{Array3, s};

    /// Twelve pictures each of three labels around three directions, `noise` apart.
    pub(super) fn drawn(joint: usize, noise: f32) -> FeatureSet {
        drawn_of(joint, noise, 36)
    }

    /// The same with `count` pictures of all labels.
    pub(super) fn drawn_of(joint: usize, noise: f32, count: usize) -> FeatureSet {
        let mut rng = Rng::new(12);
        let centres = Array2::from_shape_simple_fn((3, joint), || rng.normal());
        let labels: Vec<usize> = (0..count).map(|row| row % 3).collect();
        let mut features = Array3::zeros((count, 1, joint));
        for (row, &label) in labels.iter().enumerate() {
            let mut feature = features.slice_mut(s![row, 0, ..]);
            feature.assign(&centres.row(label));
            feature.mapv_inplace(|x| x + noise * rng.normal());
            let length = feature.iter().map(|x| x * x).sum::<f32>().sqrt();
            feature /= length;
        }
        FeatureSet { features, labels }
    }

    pub(super) fn with_task(check: impl Fn(&Task, usize)) {
        let model = Model::embedded().unwrap();
        let labels = ["mug", "key", "fish"].map(|name| Label::new(name, None).unwrap());
        let layout = model.layout(&Template::default(), &labels).unwrap();
        let task = Task::new(&model, &labels, &layout).unwrap();
        check(&task, model.text.joint_width());
    }

    #[test]
    fn pictures_with_wrong_labels_are_the_most_suspicious_and_hurt() {
        with_task(|task, joint| {
            let mut set = drawn(joint, 1.0);
            let wrong = [4, 17, 30];
            for row in wrong {
                set.labels[row] = (set.labels[row] + 1) % 3;
            }
            let found = suspicions(task, &set).unwrap();
            assert_eq!(found.len(), 36);
            let mut first: Vec<usize> = found[..3].iter().map(|of| of.picture).collect();
            first.sort_unstable();
            assert_eq!(first, wrong);
            assert!(found[0].doubt > 0.0 && found[35].doubt < 0.0);
            for suspicion in &found[..3] {
                assert_eq!(suspicion.seems, suspicion.picture % 3);
            }
            let harm = harm(task, &set).unwrap();
            let mean = harm.iter().sum::<f32>() / 36.0;
            assert!(wrong.iter().all(|&row| harm[row] > mean), "{harm:?}");
        });
    }

    #[test]
    fn the_learning_curve_has_a_point_a_share_and_rises_where_pictures_help() {
        with_task(|task, joint| {
            let curve = learning_curve(task, &drawn(joint, 1.5)).unwrap();
            assert_eq!(curve.len(), SHARES.len());
            assert!(
                curve
                    .windows(2)
                    .all(|pair| pair[0].pictures < pair[1].pictures)
            );
            assert!(curve[3].accuracy >= curve[0].accuracy, "{curve:?}");
        });
    }

    #[test]
    fn pictures_that_are_there_twice_are_found_those_of_different_labels_first() {
        let mut set = drawn(16, 0.5);
        for (from, to) in [(0, 3), (1, 5)] {
            let copy = set.features.slice(s![from, .., ..]).to_owned();
            set.features.slice_mut(s![to, .., ..]).assign(&copy);
        }
        let found = duplicates(&set);
        let pairs: Vec<[usize; 2]> = found.iter().map(|pair| pair.pictures).collect();
        assert_eq!(pairs[0], [1, 5]);
        assert!(pairs.contains(&[0, 3]), "{pairs:?}");
    }
}
