//! What scores mean: a temperature that makes probabilities honest, and a floor of similarity below which a picture
//! shows none of the labels. Both come from labelled pictures that training has not seen.

use super::task::MIN_LABELS;
use crate::classifier::{best, evidence, joined};
use crate::prompt::Calibration;
use ndarray::ArrayView2;

/// What a temperature of `e` costs, in nats, and its square where it is further from 1: a few held-out pictures must not invent
/// one (docs/calibration.md).
const PULL: f32 = 3.0;
/// Temperatures looked at: 1 / this to this.
const WIDEST: f32 = 8.0;
/// The share of the known views that the floor lets pass at least.
const PASSING: f32 = 0.95;
/// Halvings of the range of temperatures: far finer than the pictures can tell.
const HALVINGS: usize = 24;

/// Labelled pictures that training has not seen, as they are scored.
#[derive(Debug, Clone, Copy)]
pub struct Unseen<'a> {
    /// What answers are taken from, in cosines: `[pictures * views, classes]`.
    pub scores: ArrayView2<'a, f32>,
    /// Cosines with the text features, of the same shape.
    pub texts: ArrayView2<'a, f32>,
    /// Cosines with the classes' mean features, where those join the similarity, and the scores with them.
    pub means: Option<ArrayView2<'a, f32>>,
    /// What each picture shows.
    pub labels: &'a [usize],
    /// Rows of the same picture, one after the other: each counts as a part of one.
    pub views: usize,
}

impl Unseen<'_> {
    /// What a row shows.
    fn label(&self, row: usize) -> usize {
        self.labels[row / self.views.max(1)]
    }

    /// How near a row is to what is known, perhaps `without` one class, for a model whose cosines are multiplied by `scale`.
    fn similarity(&self, row: usize, without: Option<usize>, scale: f32) -> f32 {
        let others = |table: &ArrayView2<f32>| {
            let row = table.row(row).to_vec().into_iter().enumerate();
            let others = row.filter(move |(class, _)| Some(*class) != without);
            others.map(|(_, x)| x)
        };
        let nearest = |table: &ArrayView2<f32>| others(table).fold(f32::NEG_INFINITY, f32::max);
        match &self.means {
            None => nearest(&self.texts),
            Some(means) => {
                let near = 0.5 * (nearest(&self.texts) + nearest(means));
                joined(near, evidence(others(&self.scores), scale))
            }
        }
    }
}

/// Fits temperature and floor to `unseen`, of at least two classes, given the model's logit scale. None without pictures.
///
/// The temperature minimises cross-entropy (Guo et al., arXiv 1706.04599) with a pull towards 1. The floor needs
/// pictures of none of the labels, which nobody has taken: a held-out picture plays one when its own label is left
/// out. Of the floors that nearly all pictures reach with their label in place, it is the one that best tells both.
pub fn fit(unseen: &Unseen, scale: f32) -> Option<Calibration> {
    if unseen.labels.is_empty() || unseen.texts.ncols() < MIN_LABELS {
        return None;
    }
    Some(Calibration::new(
        temperature(unseen, scale),
        least_similarity(unseen, scale),
    ))
}

fn temperature(unseen: &Unseen, scale: f32) -> f32 {
    // By the logarithm of the temperature.
    let weight = 1.0 / unseen.views.max(1) as f32;
    let slope = |log: f32| weight * cross_entropy_gradient(unseen, scale, log) + 2.0 * PULL * log;
    let (mut low, mut high) = (-WIDEST.ln(), WIDEST.ln());
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if slope(middle) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    (0.5 * (low + high)).exp()
}

/// The derivative of the summed cross-entropy with respect to the logarithm of the temperature, at `log`: for each
/// picture, the score of its label less the mean score.
fn cross_entropy_gradient(unseen: &Unseen, scale: f32, log: f32) -> f32 {
    let scale = scale / log.exp();
    let rows = unseen.scores.outer_iter().enumerate();
    let gradients = rows.map(|(place, row)| {
        let label = unseen.label(place);
        let highest = row[best(row)];
        let (mut total, mut sum) = (0.0, 0.0);
        for &similarity in row {
            let part = (scale * (similarity - highest)).exp();
            total += part;
            sum += part * similarity;
        }
        f64::from(scale * (row[label] - sum / total))
    });
    gradients.sum::<f64>() as f32
}

fn least_similarity(unseen: &Unseen, scale: f32) -> f32 {
    let rows = unseen.texts.nrows();
    let sorted = |without: &dyn Fn(usize) -> Option<usize>| {
        let mut found: Vec<f32> = (0..rows)
            .map(|row| unseen.similarity(row, without(row), scale))
            .collect();
        found.sort_by(f32::total_cmp);
        found
    };
    let known = sorted(&|_| None);
    let unknown = sorted(&|row| Some(unseen.label(row)));
    let mut both = [&known[..], &unknown].concat();
    both.sort_by(f32::total_cmp);

    let count = rows as f32;
    let below = |sorted: &[f32], floor: f32| sorted.partition_point(|&x| x < floor) as f32 / count;
    let halfway = both.windows(2).map(|pair| 0.5 * (pair[0] + pair[1]));
    let (mut chosen, mut gain) = (both[0], 0.0);
    for floor in halfway {
        let (lost, refused) = (below(&known, floor), below(&unknown, floor));
        if lost <= 1.0 - PASSING && refused - lost > gain {
            (chosen, gain) = (floor, refused - lost);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::{Scorer, probabilities};
    use crate::prompt::{Label, Prototypes};
    use crate::rng::Rng;
    use ndarray::{Array2, Axis, arr2};

    /// Pictures around three axes, and labels drawn from the probabilities at `temperature`.
    fn drawn(count: usize, temperature: f32) -> (Array2<f32>, Vec<usize>) {
        let mut rng = Rng::new(9);
        let mut features = Array2::from_shape_simple_fn((count, 3), || rng.normal());
        for mut row in features.outer_iter_mut() {
            let norm = row.dot(&row).sqrt();
            row /= norm;
        }
        let shares = probabilities(features.view(), axes().view(), 10.0 / temperature);
        let labels = shares.outer_iter().map(|row| {
            let mut left = rng.uniform();
            let place = row.iter().position(|share| {
                left -= share;
                left < 0.0
            });
            place.unwrap_or(2)
        });
        let labels = labels.collect();
        (features, labels)
    }

    fn axes() -> Array2<f32> {
        Array2::eye(3)
    }

    fn fitted(features: &Array2<f32>, labels: &[usize]) -> Calibration {
        fit(&of(&features.dot(&axes()), labels, 1), 10.0).unwrap()
    }

    fn of<'a>(cosines: &'a Array2<f32>, labels: &'a [usize], views: usize) -> Unseen<'a> {
        Unseen {
            scores: cosines.view(),
            texts: cosines.view(),
            means: None,
            labels,
            views,
        }
    }

    #[test]
    fn the_temperature_that_labels_were_drawn_at_is_found_again() {
        for temperature in [0.5, 1.0, 2.0, 4.0] {
            let (features, labels) = drawn(4000, temperature);
            let found = fitted(&features, &labels).temperature;
            assert!(
                (found / temperature - 1.0).abs() < 0.1,
                "{temperature}: {found}"
            );
        }
    }

    #[test]
    fn few_pictures_move_the_temperature_less_than_half_way_and_none_fit_nothing() {
        let (features, labels) = drawn(6, 4.0);
        let few = fitted(&features, &labels).temperature;
        assert!((0.5..2.0).contains(&few), "{few}");
        let none = Array2::zeros((0, 3));
        assert_eq!(fit(&of(&none, &[], 1), 10.0), None);
    }

    #[test]
    fn all_right_or_all_wrong_keeps_the_temperature_in_range() {
        let features = arr2(&[[1.0, 0.0, 0.0]; 400]);
        let sure = fitted(&features, &[0; 400]).temperature;
        let mistaken = fitted(&features, &[1; 400]).temperature;
        assert!((1.0 / WIDEST..=1.0).contains(&sure), "{sure}");
        assert!(
            (1.0..=WIDEST * 1.001).contains(&mistaken) && mistaken > 6.0,
            "{mistaken}"
        );
    }

    #[test]
    fn views_count_as_parts_of_a_picture() {
        let (features, labels) = drawn(30, 6.0);
        let views = Array2::from_shape_fn((90, 3), |(row, column)| features[[row / 3, column]]);
        let found = fit(&of(&views.dot(&axes()), &labels, 3), 10.0).unwrap();
        let expected = fitted(&features, &labels);
        assert!((found.temperature - expected.temperature).abs() < 1e-3);
        assert_eq!(found.least_similarity(), expected.least_similarity());
    }

    #[test]
    fn the_floor_lies_between_known_and_unknown_where_there_is_a_gap() {
        let features = arr2(&[[0.96, 0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.6, 0.8]]);
        let floor = fitted(&features, &[0, 1, 2]).least_similarity();
        // Known: .96, .96, .8; without their labels: .28, .28, .6.
        assert!((floor - 0.7).abs() < 1e-6, "{floor}");
    }

    #[test]
    fn class_means_and_scores_join_the_similarity_as_they_do_for_a_prompt() {
        let mut rng = Rng::new(12);
        let mut table = |size: f32| Array2::from_shape_simple_fn((3, 5), || size * rng.normal());
        let (texts, means, weight) = (table(1.0), table(1.0), table(0.3));
        let bias = ndarray::arr1(&[0.1, -0.2, 0.0]);
        let kept = Prototypes::new(means.view(), weight.view(), &bias).with_sharpness(20.0);
        let features = table(0.4);
        let scorer = |classes: &[usize]| {
            let of = |table: &Array2<f32>| table.select(Axis(0), classes);
            let places: Vec<Label> = names(classes);
            let kept = kept.for_labels(&names(&[0, 1, 2]), &places);
            (
                of(&texts),
                Scorer::new(of(&texts).view(), Some(&kept)).unwrap(),
            )
        };
        let (_, all) = scorer(&[0, 1, 2]);
        let mut unit = kept.means.table();
        for mut row in unit.outer_iter_mut() {
            let length = row.dot(&row).sqrt();
            row /= length;
        }
        let (scores, cosines) = (all.scores(features.view()), features.dot(&texts.t()));
        let of_means = features.dot(&unit.t());
        let unseen = Unseen {
            scores: scores.view(),
            means: Some(of_means.view()),
            ..of(&cosines, &[0, 1, 2], 1)
        };
        for (without, classes) in [(None, &[0, 1, 2][..]), (Some(1), &[0, 2])] {
            let (texts, scorer) = scorer(classes);
            let scores = scorer.scores(features.view());
            for (row, feature) in features.outer_iter().enumerate() {
                let found = unseen.similarity(row, without, 20.0);
                let expected = scorer.similarity(texts.view(), feature, scores.row(row));
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }

    #[test]
    fn scores_above_one_move_the_floor_no_further_than_it_can_be_kept() {
        let (features, labels) = drawn(300, 0.3);
        let cosines = features.dot(&axes());
        let scores = &cosines * 6.0;
        let unseen = Unseen {
            scores: scores.view(),
            means: Some(cosines.view()),
            ..of(&cosines, &labels, 1)
        };
        let floor = fit(&unseen, 10.0).unwrap().least_similarity();
        let below = |without: &dyn Fn(usize) -> Option<usize>| {
            let rows = (0..300).filter(|&row| unseen.similarity(row, without(row), 10.0) < floor);
            rows.count()
        };
        let (lost, refused) = (below(&|_| None), below(&|row| Some(labels[row])));
        assert!(lost <= 15 && refused > 60, "{lost} {refused} {floor}");
    }

    fn names(classes: &[usize]) -> Vec<Label> {
        let name = |class: &usize| Label::new(&class.to_string(), None).unwrap();
        classes.iter().map(name).collect()
    }

    #[test]
    fn the_floor_lets_nearly_all_known_pictures_pass_however_alike_unknown_ones_are() {
        let (features, labels) = drawn(1000, 3.0);
        let floor = fitted(&features, &labels).least_similarity();
        let similarities = features.dot(&axes());
        let passing = similarities
            .outer_iter()
            .filter(|row| row[best(row.view())] >= floor)
            .count();
        assert!(passing >= 950, "{passing}");
    }
}
