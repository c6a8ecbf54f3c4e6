//! Scores of pictures under prompts that were not trained on them: the pictures are divided into parts, and each part is
//! answered by what was learnt from all others. They judge a prompt, choose how much prototypes count, and calibrate.

use super::features::FeatureSet;
use super::prototypes::{Discriminant, RIDGES, Strengths};
use super::{AdaptError, Task, calibration};
use crate::classifier::{Scorer, best, softmax_rows};
use crate::prompt::{Calibration, Delta, Prototypes};
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};

/// What prototypes may count beside the prompt: the spread of their logits.
const STRENGTHS: [f32; 8] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8];
/// What they count where there are too few pictures to say.
const USUAL_STRENGTH: f32 = 0.4;
/// What they are expected to count before a picture has said anything. Cross-validation alone is too timid with few shots, for it
/// judges what was learnt from fewer still.
const EXPECTED_STRENGTH: f32 = 1.6;
/// What twice or half of that costs, in nats; its square where it is further away.
const UNEXPECTED: f32 = 0.3;
/// What it costs that prototypes count nothing.
const NOTHING: f32 = 3.0;
/// Fewer pictures than this for each class choose nothing.
const CHOOSING: usize = 2;
/// Temperatures at which answers are compared: what is surer is not better.
const TEMPERATURES: [f32; 8] = [0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0];

/// What prototypes of a prompt that is kept already count, in [`Scores::answered_by`].
pub const AS_KEPT: Strengths = [1.0, 0.0];

/// What answers pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answers {
    /// The prompt alone.
    Prompt,
    /// The prompt with prototypes beside it.
    WithPrototypes,
    /// Whichever of both answers better.
    Best,
}

impl Answers {
    /// How much prototypes count where no picture can say: 0 for not at all.
    pub fn usual_strengths(self) -> Strengths {
        let mut strengths = Strengths::default();
        if self != Answers::Prompt {
            strengths[0] = USUAL_STRENGTH;
        }
        strengths
    }
}

/// Pictures with what each way of answering makes of their views.
#[derive(Debug, Clone)]
pub struct Scores {
    /// Rows of the pictures in their [`FeatureSet`].
    pub pictures: Vec<usize>,
    /// What each picture shows.
    pub labels: Vec<usize>,
    /// Views a picture, which follow each other in the tables.
    pub views: usize,
    /// Cosines with the template's text features, `[pictures * views, classes]`.
    pub template: Array2<f32>,
    /// With the prompt's.
    pub prompt: Array2<f32>,
    /// With the classes' mean features.
    pub means: Array2<f32>,
    /// Log posteriors of Gaussians with each ridge, up to a constant and in units of their spread.
    pub gaussians: Vec<Array2<f32>>,
}

impl Scores {
    /// Of no picture yet.
    pub fn none(classes: usize, views: usize) -> Scores {
        let empty = || Array2::zeros((0, classes));
        Scores {
            pictures: Vec::new(),
            labels: Vec::new(),
            views,
            template: empty(),
            prompt: empty(),
            means: empty(),
            gaussians: RIDGES.map(|_| empty()).to_vec(),
        }
    }

    /// Adds the pictures at `rows` of `set`, as they are answered by a prompt with the change `delta` and by the Gaussians.
    ///
    /// # Errors
    /// If the change does not fit the task.
    pub fn add(
        &mut self,
        task: &Task,
        (set, rows): (&FeatureSet, &[usize]),
        delta: &Delta,
        gaussians: &[Discriminant],
    ) -> Result<(), AdaptError> {
        let (features, _) = set.select(rows).every_view();
        let with = |texts: Array2<f32>| features.dot(&texts.t());
        append(&mut self.template, with(task.text_features(None)?));
        append(&mut self.prompt, with(task.text_features(Some(delta))?));
        append(&mut self.means, with(unit_rows(&gaussians[0].means)));
        for (table, gaussians) in self.gaussians.iter_mut().zip(gaussians) {
            append(table, gaussians.scores(features.view()));
        }
        self.pictures.extend(rows);
        self.labels.extend(rows.iter().map(|&row| set.labels[row]));
        Ok(())
    }

    /// The same pictures, which are of `set`, as a prompt from elsewhere answers them, by its `change` and its prototypes: those
    /// count what they are meant to at [`AS_KEPT`].
    ///
    /// # Errors
    /// If it does not fit the task.
    pub fn answered_by(
        &self,
        task: &Task,
        set: &FeatureSet,
        (change, prototypes): (&Delta, Option<&Prototypes>),
    ) -> Result<Scores, AdaptError> {
        let kept = Kept::of(task, &set.select(&self.pictures), (change, prototypes))?;
        Ok(Scores {
            gaussians: vec![(kept.scores - &kept.texts) * task.model.logit_scale],
            means: kept
                .means
                .unwrap_or_else(|| Array2::zeros(kept.texts.dim())),
            prompt: kept.texts,
            ..self.clone()
        })
    }

    /// A table's rows of the pictures as they are, without their crops.
    pub fn plain<'a>(&self, table: &'a Array2<f32>) -> ArrayView2<'a, f32> {
        table.slice(s![..;self.views.max(1) as isize, ..])
    }

    /// The scores of prompt and prototypes together, for a model whose cosines are multiplied by `scale`: in cosines.
    pub fn together(&self, strengths: Strengths, scale: f32) -> Array2<f32> {
        let mut scores = self.prompt.clone();
        for (gaussians, strength) in self.gaussians.iter().zip(strengths) {
            scores.scaled_add(strength / scale, gaussians);
        }
        scores
    }

    /// How the scores of prompt and prototypes together are to be read, by the labels; none without pictures.
    pub fn calibration(&self, strengths: Strengths, scale: f32) -> Option<Calibration> {
        let together = self.together(strengths, scale);
        let known = calibration::Unseen {
            scores: together.view(),
            texts: self.prompt.view(),
            means: (strengths != Strengths::default()).then_some(self.means.view()),
            labels: &self.labels,
            views: self.views,
        };
        calibration::fit(&known, scale)
    }

    /// How much prototypes are to count, 0 for not at all: the mean of what `answers` allows, each by how likely it makes the right
    /// labels and by how far it is from what is expected. A mean, because few pictures hardly tell one from the next.
    pub fn strengths(&self, answers: Answers, scale: f32) -> Strengths {
        let (classes, pictures) = (self.prompt.ncols(), self.labels.len());
        if answers == Answers::Prompt || pictures < CHOOSING * classes {
            return answers.usual_strengths();
        }
        let loss = |strengths: Strengths| {
            let scores = self.together(strengths, scale);
            pictures as f32 * self.log_loss(self.plain(&scores), scale)
        };
        let mut candidates = Vec::new();
        for (ridge, strength) in (0..RIDGES.len()).flat_map(|ridge| STRENGTHS.map(|x| (ridge, x))) {
            let mut strengths = Strengths::default();
            strengths[ridge] = strength;
            let octaves = (strength / EXPECTED_STRENGTH).log2();
            candidates.push((strengths, loss(strengths) + UNEXPECTED * octaves * octaves));
        }
        let nothing = Strengths::default();
        if answers == Answers::Best {
            candidates.push((nothing, loss(nothing) + NOTHING));
        }
        let costs = candidates.iter().map(|(_, cost)| *cost);
        let least = costs.fold(f32::INFINITY, f32::min);
        let (mut mean, mut total, mut of_nothing) = (nothing, 0.0, 0.0);
        for (strengths, cost) in candidates {
            let weight = (least - cost).exp();
            total += weight;
            if strengths == nothing {
                of_nothing = weight;
            }
            for (sum, strength) in mean.iter_mut().zip(strengths) {
                *sum += weight * strength;
            }
        }
        // Where most speaks for the prompt alone, it answers alone.
        if 2.0 * of_nothing > total {
            return nothing;
        }
        mean.map(|sum| sum / total)
    }

    /// The mean negative logarithm of the right label's probability, at the best of a few temperatures.
    fn log_loss(&self, scores: ArrayView2<f32>, scale: f32) -> f32 {
        let at = |temperature: f32| {
            let probabilities = softmax_rows(scores.to_owned(), scale / temperature);
            let rows = probabilities.outer_iter().zip(&self.labels);
            let losses = rows.map(|(row, &label)| -row[label].max(f32::MIN_POSITIVE).ln());
            losses.sum::<f32>() / self.labels.len().max(1) as f32
        };
        TEMPERATURES
            .map(at)
            .into_iter()
            .fold(f32::INFINITY, f32::min)
    }
}

/// How pictures are answered by a prompt that is kept, as [`Classifier`](crate::classifier::Classifier) answers them: tables
/// `[pictures * views, classes]`.
struct Kept {
    /// Of prompt and prototypes together, in cosines.
    scores: Array2<f32>,
    /// Cosines with the texts.
    texts: Array2<f32>,
    /// With the class means, and -1 for a class that has none; where there are any.
    means: Option<Array2<f32>>,
}

impl Kept {
    fn of(
        task: &Task,
        set: &FeatureSet,
        (change, prototypes): (&Delta, Option<&Prototypes>),
    ) -> Result<Kept, AdaptError> {
        let (features, _) = set.every_view();
        let texts = task.texts_in_use(change, prototypes)?;
        let with_means =
            prototypes.filter(|of| (0..task.labels.len()).any(|label| of.has_shots(label)));
        let means = with_means.map(|of| {
            let mut means = features.dot(&unit_rows(&of.means.table()).t());
            for class in of.without_shots() {
                means.column_mut(class).fill(-1.0);
            }
            means
        });
        Ok(Kept {
            scores: Scorer::new(texts.view(), prototypes)?.scores(features.view()),
            texts: features.dot(&texts.t()),
            means,
        })
    }
}

/// How the scores of a prompt with this change and these prototypes are to be read, by the labels of `set`, which it has not seen;
/// none without pictures.
///
/// # Errors
/// If the prompt does not fit the task.
pub fn calibration_of(
    task: &Task,
    set: &FeatureSet,
    kept: (&Delta, &Prototypes),
) -> Result<Option<Calibration>, AdaptError> {
    let answers = Kept::of(task, set, (kept.0, Some(kept.1)))?;
    let seen = calibration::Unseen {
        scores: answers.scores.view(),
        texts: answers.texts.view(),
        means: answers.means.as_ref().map(|means| means.view()),
        labels: &set.labels,
        views: set.features.dim().1,
    };
    Ok(calibration::fit(&seen, task.model.logit_scale))
}

/// The class that each row of `scores` is highest at.
pub fn named(scores: ArrayView2<f32>) -> Vec<usize> {
    scores.outer_iter().map(best).collect()
}

fn append(table: &mut Array2<f32>, rows: Array2<f32>) {
    let both = concatenate(Axis(0), &[table.view(), rows.view()]);
    *table = both.expect("all tables have a column a class");
}

fn unit_rows(table: &Array2<f32>) -> Array2<f32> {
    let mut table = table.clone();
    for mut row in table.outer_iter_mut() {
        let length = row.dot(&row).sqrt().max(f32::MIN_POSITIVE);
        row /= length;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Of `pictures` of three classes: a prompt that knows nothing, and Gaussians of each ridge that raise the right class by
    /// `right` beside noise.
    fn scores(pictures: usize, right: [f32; 2]) -> Scores {
        let mut rng = Rng::new(3);
        let labels: Vec<usize> = (0..pictures).map(|row| row % 3).collect();
        let gaussians = right.map(|right| {
            Array2::from_shape_fn((pictures, 3), |(row, class)| {
                let hit = if class == labels[row] { right } else { 0.0 };
                hit + rng.normal()
            })
        });
        let prompt = Array2::from_shape_simple_fn((pictures, 3), || 0.02 * rng.normal());
        Scores {
            pictures: (0..pictures).collect(),
            labels,
            views: 1,
            template: prompt.clone(),
            means: prompt.clone(),
            prompt,
            gaussians: gaussians.to_vec(),
        }
    }

    #[test]
    fn few_pictures_leave_class_means_about_what_is_expected_and_many_decide() {
        let expected = |strengths: Strengths| strengths.iter().sum::<f32>() / EXPECTED_STRENGTH;
        let few = scores(6, [0.3, 0.3]).strengths(Answers::Best, 20.0);
        assert!((0.4..2.5).contains(&expected(few)), "{few:?}");
        let useless = scores(600, [0.0, 0.0]).strengths(Answers::WithPrototypes, 20.0);
        assert!(expected(useless) < 0.2, "{useless:?}");
        let [little, much] = scores(600, [0.5, 3.0]).strengths(Answers::Best, 20.0);
        assert!(much > 1.0 && little < 0.1 * much, "{little} {much}");
    }

    #[test]
    fn class_means_that_mislead_leave_the_prompt_alone_unless_they_are_asked_for() {
        let misleading = scores(300, [-3.0, -3.0]);
        let nothing = Strengths::default();
        assert_eq!(misleading.strengths(Answers::Best, 20.0), nothing);
        let asked = misleading.strengths(Answers::WithPrototypes, 20.0);
        assert!(asked != nothing, "{asked:?}");
    }

    #[test]
    fn with_fewer_than_two_pictures_a_class_nothing_is_chosen() {
        let few = scores(5, [3.0, 3.0]);
        for answers in [Answers::Prompt, Answers::WithPrototypes, Answers::Best] {
            assert_eq!(few.strengths(answers, 20.0), answers.usual_strengths());
        }
    }
}
