//! How right a classifier is, and how sure: from the probabilities that it gave each picture and what the picture
//! shows.

use crate::adapt::loss::confusion;
use crate::classifier::best;
use ndarray::{Array2, ArrayView2};
use serde::Serialize;
use std::f64::consts::FRAC_2_PI;

/// Bins of confidence, as in Guo et al., arXiv 1706.04599.
pub const BINS: usize = 15;
/// The standard normal quantile of a two-sided interval of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// All that is measured of one classifier on one set of pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Assessment {
    /// How many there are.
    pub pictures: usize,
    /// Share of pictures whose best class is the right one, in `0..=1`; 0 without pictures.
    pub accuracy: f64,
    /// Wilson's interval of 95 % around the accuracy.
    pub interval: [f64; 2],
    /// Expected calibration error: the mean gap between confidence and accuracy, weighted by pictures.
    pub calibration_error: f64,
    /// What it would be on average if all probabilities were right: so few pictures leave so much to chance.
    pub calibration_error_by_chance: f64,
    /// [`BINS`] of equal width.
    pub reliability: Vec<Bin>,
    /// Each class against all others.
    pub classes: Vec<ClassAssessment>,
    /// Pictures by right class (rows) and named class (columns).
    pub confusion: Vec<Vec<usize>>,
}

/// Pictures whose highest probability lies in one interval, open below and closed above.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// How many there are.
    pub pictures: usize,
    /// Mean highest probability; 0 without pictures.
    pub confidence: f64,
    /// Share named right; 0 without pictures.
    pub accuracy: f64,
}

/// One class against all others. What would divide by zero is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassAssessment {
    /// Share of the pictures named so that show it.
    pub precision: f64,
    /// Share of the pictures that show it that are named so.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Pictures that show it.
    pub pictures: usize,
}

/// Expected calibration error: the mean gap between confidence and accuracy, weighted by pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CalibrationError {
    /// As it was measured.
    pub error: f64,
    /// What it would be on average if all probabilities were right: so few pictures leave so much to chance.
    pub by_chance: f64,
}

impl CalibrationError {
    /// Of all answers together that several classifiers gave on the same pictures: of each one a table of probabilities
    /// `[pictures, classes]`. A few pictures show each of them a large error by chance, whose sign differs from one to the next.
    ///
    /// By chance: a picture shows one thing, so answers that give it the same name are right together, and those that give it
    /// different ones are not. More classifiers alone therefore make little less of chance than one.
    pub fn together(tables: &[ArrayView2<f32>], truth: &[usize]) -> CalibrationError {
        let (mut gaps, mut variances) = ([0.0f64; BINS], [0.0f64; BINS]);
        for (row, &right) in truth.iter().enumerate() {
            let answer = |table: &ArrayView2<f32>| {
                let named = best(table.row(row));
                (named, f64::from(table[[row, named]]))
            };
            let answers: Vec<(usize, f64)> = tables.iter().map(answer).collect();
            for &(named, p) in &answers {
                let bin = bin_of(p);
                gaps[bin] += p - f64::from(u8::from(named == right));
                for &(other, q) in answers.iter().filter(|(_, q)| bin_of(*q) == bin) {
                    let both = if other == named { p.min(q) } else { 0.0 };
                    variances[bin] += both - p * q;
                }
            }
        }
        let answers = (tables.len() * truth.len()) as f64;
        // The mean distance from nothing of what is normally distributed.
        let away = |variance: &f64| (variance.max(0.0) * FRAC_2_PI).sqrt();
        CalibrationError {
            error: ratio(gaps.iter().map(|gap| gap.abs()).sum(), answers),
            by_chance: ratio(variances.iter().map(away).sum(), answers),
        }
    }
}

impl Assessment {
    /// Judges `probabilities [pictures, classes]`, whose rows sum to one, by the right class of each picture.
    pub fn new(probabilities: ArrayView2<f32>, truth: &[usize]) -> Assessment {
        let classes = probabilities.ncols();
        let confusion = confusion(probabilities, truth);
        let mut bins = [(0usize, 0.0f64, 0usize); BINS];
        for (row, &right) in probabilities.outer_iter().zip(truth) {
            let named = best(row);
            let confidence = f64::from(row[named]);
            let (pictures, sum, hits) = &mut bins[bin_of(confidence)];
            *pictures += 1;
            *sum += confidence;
            *hits += usize::from(named == right);
        }
        let right = confusion.diag().sum();
        let reliability: Vec<Bin> = bins
            .iter()
            .map(|&(pictures, sum, hits)| Bin {
                pictures,
                confidence: ratio(sum, pictures as f64),
                accuracy: ratio(hits as f64, pictures as f64),
            })
            .collect();
        let calibration = CalibrationError::together(&[probabilities], truth);
        Assessment {
            pictures: truth.len(),
            accuracy: ratio(right as f64, truth.len() as f64),
            interval: wilson(right as f64, truth.len() as f64),
            calibration_error: calibration.error,
            calibration_error_by_chance: calibration.by_chance,
            reliability,
            classes: (0..classes)
                .map(|class| class_assessment(&confusion, class))
                .collect(),
            confusion: confusion.outer_iter().map(|row| row.to_vec()).collect(),
        }
    }
}

/// How well pictures of none of the labels are told from those of the labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Recognition {
    /// The area under the curve: the share of pairs of a known and an unknown picture of which the known one is nearer to what
    /// is known; ties count half.
    pub unknown_auroc: f64,
    /// Share of the known pictures that are answered with "unknown"; none where nothing ever is.
    pub known_refused: Option<f64>,
    /// Share of the unknown ones that are.
    pub unknown_refused: Option<f64>,
}

impl Recognition {
    /// Of similarities of `known` and `unknown` pictures; what is below `floor` is answered with "unknown". None without
    /// pictures of either kind.
    pub fn new(known: &[f32], unknown: &[f32], floor: Option<f32>) -> Option<Recognition> {
        if known.is_empty() || unknown.is_empty() {
            return None;
        }
        let mut sorted = unknown.to_vec();
        sorted.sort_by(f32::total_cmp);
        let wins = known.iter().map(|x| {
            let below = sorted.partition_point(|other| other < x);
            let up_to = sorted.partition_point(|other| other <= x);
            0.5 * (below + up_to) as f64
        });
        let refused = |of: &[f32]| {
            let below = of.iter().filter(|&&x| floor.is_some_and(|floor| x < floor));
            floor.map(|_| ratio(below.count() as f64, of.len() as f64))
        };
        Some(Recognition {
            unknown_auroc: ratio(wins.sum(), (known.len() * unknown.len()) as f64),
            known_refused: refused(known),
            unknown_refused: refused(unknown),
        })
    }
}

/// Wilson's score interval of 95 % for `right` of `count`; everything is possible without pictures.
pub fn wilson(right: f64, count: f64) -> [f64; 2] {
    if count == 0.0 {
        return [0.0, 1.0];
    }
    let share = right / count;
    let spread = 1.0 + Z * Z / count;
    let centre = (share + Z * Z / (2.0 * count)) / spread;
    let reach = Z / spread * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    [(centre - reach).max(0.0), (centre + reach).min(1.0)]
}

/// The harmonic mean of two shares; 0 where one is.
pub fn harmonic_mean(a: f64, b: f64) -> f64 {
    ratio(2.0 * a * b, a + b)
}

fn class_assessment(confusion: &Array2<usize>, class: usize) -> ClassAssessment {
    let right = confusion[[class, class]] as f64;
    let pictures = confusion.row(class).sum();
    let precision = ratio(right, confusion.column(class).sum() as f64);
    let recall = ratio(right, pictures as f64);
    ClassAssessment {
        precision,
        recall,
        f1: harmonic_mean(precision, recall),
        pictures,
    }
}

fn bin_of(confidence: f64) -> usize {
    ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::softmax_rows;
    use crate::evaluate::fixture;
    use crate::rng::Rng;

    #[test]
    fn every_number_is_that_of_scikit_learn() {
        let cases = fixture("metrics.json");
        assert!(cases.as_array().unwrap().len() >= 3);
        for case in cases.as_array().unwrap() {
            let rows: Vec<Vec<f32>> =
                serde_json::from_value(case["probabilities"].clone()).unwrap();
            let truth: Vec<usize> = serde_json::from_value(case["truth"].clone()).unwrap();
            let table = Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j]);
            let found = Assessment::new(table.view(), &truth);
            let near = |found: f64, expected: &serde_json::Value| {
                let expected = expected.as_f64().unwrap();
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            };
            near(found.accuracy, &case["accuracy"]);
            near(found.interval[0], &case["interval"][0]);
            near(found.interval[1], &case["interval"][1]);
            near(found.calibration_error, &case["calibration_error"]);
            let confusion: Vec<Vec<usize>> =
                serde_json::from_value(case["confusion"].clone()).unwrap();
            assert_eq!(found.confusion, confusion);
            for (class, found) in found.classes.iter().enumerate() {
                near(found.precision, &case["precision"][class]);
                near(found.recall, &case["recall"][class]);
                near(found.f1, &case["f1"][class]);
                near(found.pictures as f64, &case["support"][class]);
            }
            for (bin, found) in found.reliability.iter().enumerate() {
                near(found.pictures as f64, &case["bins"][bin][0]);
                near(found.confidence, &case["bins"][bin][1]);
                near(found.accuracy, &case["bins"][bin][2]);
            }
        }
    }

    #[test]
    fn nothing_to_judge_is_no_number_out_of_range() {
        let found = Assessment::new(Array2::zeros((0, 3)).view(), &[]);
        assert_eq!((found.accuracy, found.calibration_error), (0.0, 0.0));
        assert_eq!(found.interval, [0.0, 1.0]);
        assert_eq!(harmonic_mean(0.0, 0.0), 0.0);
    }

    #[test]
    fn unknown_pictures_are_told_by_how_near_they_are() {
        let found = Recognition::new(&[0.9, 0.5, 0.3], &[0.1, 0.5], Some(0.4)).unwrap();
        // Of six pairs four and a half are the right way round.
        assert!((found.unknown_auroc - 4.5 / 6.0).abs() < 1e-9);
        assert_eq!(found.known_refused, Some(1.0 / 3.0));
        assert_eq!(found.unknown_refused, Some(0.5));
        let without_floor = Recognition::new(&[0.9], &[0.1], None).unwrap();
        assert_eq!(without_floor.unknown_refused, None);
        assert_eq!(Recognition::new(&[], &[0.1], None), None);
    }

    #[test]
    fn chance_alone_gives_about_the_error_that_is_told() {
        let mut rng = Rng::new(4);
        let (mut measured, mut told) = (0.0, 0.0);
        for _ in 0..60 {
            let sure: Vec<f32> = (0..150).map(|_| rng.range(0.5, 1.0)).collect();
            let truth: Vec<usize> = sure.iter().map(|&p| usize::from(!rng.chance(p))).collect();
            let table = Array2::from_shape_fn((150, 2), |(row, class)| {
                if class == 0 {
                    sure[row]
                } else {
                    1.0 - sure[row]
                }
            });
            let found = Assessment::new(table.view(), &truth);
            measured += found.calibration_error / 60.0;
            told += found.calibration_error_by_chance / 60.0;
        }
        assert!((measured / told - 1.0).abs() < 0.1, "{measured} {told}");
    }

    #[test]
    fn the_same_answers_again_are_no_more_evidence_than_once() {
        let mut rng = Rng::new(5);
        let table = Array2::from_shape_simple_fn((40, 3), || rng.uniform());
        let table = softmax_rows(table, 3.0);
        let truth: Vec<usize> = (0..40).map(|_| rng.below(3)).collect();
        let once = Assessment::new(table.view(), &truth);
        let twice = CalibrationError::together(&[table.view(), table.view()], &truth);
        assert!((twice.error - once.calibration_error).abs() < 1e-9);
        assert!((twice.by_chance - once.calibration_error_by_chance).abs() < 1e-9);
    }

    #[test]
    fn answers_that_exclude_each_other_leave_less_to_chance() {
        let mut rng = Rng::new(6);
        let truth: Vec<usize> = (0..300).map(|_| rng.below(3)).collect();
        let naming = |class| {
            Array2::from_shape_fn(
                (300, 3),
                |(_, column)| {
                    if column == class { 0.334 } else { 0.333 }
                },
            )
        };
        let tables = [naming(0), naming(1), naming(2)];
        let views = tables.each_ref().map(|table| table.view());
        // One of the three is right on every picture.
        let all = CalibrationError::together(&views, &truth);
        let one = CalibrationError::together(&views[..1], &truth);
        assert!(all.error < 0.002 && all.by_chance < 0.003, "{all:?}");
        assert!(one.by_chance > 0.02, "{one:?}");
    }

    #[test]
    fn a_bin_is_open_below_and_closed_above() {
        assert_eq!(bin_of(0.0), 0);
        assert_eq!(bin_of(0.2), 2);
        assert_eq!(bin_of(0.200001), 3);
        assert_eq!(bin_of(1.0), BINS - 1);
    }
}
