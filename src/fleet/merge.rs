//! One prompt of many that were trained for the same labels on different boxes, without a picture leaving any of them.

use ndarray::{Array1, Array2, ArrayView2};

use crate::classifier::{Classifier, ClassifierError};
use crate::clip::Model;
use crate::prompt::{
    Calibration, Delta, Factors, Metrics, Prompt, Prototypes, Provenance, density,
};

/// Of what the mean is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mean {
    /// Of what was added to the template's context; the result is the nearest of the prompts' rank.
    #[default]
    Contexts,
    /// Of the factors, turned so that they lie as near to each other as they can.
    Factors,
}

/// Why prompts cannot be merged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// One is none of many.
    #[error("merging needs two prompts or more")]
    TooFew,
    /// They cannot stand for the same.
    #[error("{name} and {first} cannot be merged: {reason}")]
    Differ {
        /// The prompt that does not fit the first.
        name: String,
        /// The first.
        first: String,
        /// What is different.
        reason: &'static str,
    },
    /// One does not fit the model that is to score with it.
    #[error("{name} cannot be merged: {reason}")]
    Model {
        /// The prompt.
        name: String,
        /// Why.
        reason: String,
    },
}

/// The mean of `prompts`, each with what it is called. So is what class means add to the scores, where a prompt without any adds
/// nothing. Calibrations are merged where all are of one kind. What it is worth nobody has measured: it has no accuracy, until
/// a box judges it.
///
/// # Errors
/// If there are fewer than two, or they are for different models, templates, labels or sizes.
pub fn merge(prompts: &[(String, Prompt)], mean: Mean) -> Result<Prompt, MergeError> {
    let [(_, first), others @ ..] = prompts else {
        return Err(MergeError::TooFew);
    };
    if others.is_empty() {
        return Err(MergeError::TooFew);
    }
    let differ = |(other, _): &(String, Prompt), (first, _): &(String, Prompt), reason| {
        let (name, first) = (other.clone(), first.clone());
        Err(MergeError::Differ {
            name,
            first,
            reason,
        })
    };
    for other in others {
        if let Some(reason) = difference(first, &other.1) {
            return differ(other, &prompts[0], reason);
        }
    }
    // The first that has class means need not be the first.
    let sizes =
        |(_, prompt): &(String, Prompt)| Some(prompt.prototypes.as_ref()?.means.values.dim());
    let known = prompts.iter().find(|prompt| sizes(prompt).is_some());
    let other_size = |one: &_| {
        let fits = |other: &&(String, Prompt)| sizes(other).is_none_or(|of| Some(of) == sizes(one));
        prompts.iter().find(|other| !fits(other))
    };
    if let Some((one, other)) = known.and_then(|one| Some((one, other_size(one)?))) {
        return differ(other, one, "their class means are of different sizes");
    }
    let deltas: Vec<&Delta> = prompts.iter().map(|(_, prompt)| &prompt.delta).collect();
    let labels = first.labels.clone();
    let (name, fingerprint) = (&first.model_name, first.model_fingerprint);
    let change = mean_of(&deltas, mean);
    let mut merged = Prompt::new(name, fingerprint, first.template.clone(), labels, change);
    merged.recipe = match mean {
        Mean::Contexts => format!("the mean of the contexts of {} prompts", prompts.len()),
        Mean::Factors => format!("the mean of the factors of {} prompts", prompts.len()),
    };
    merged.metrics = Metrics {
        images: prompts.iter().fold(0, |sum: u32, (_, prompt)| {
            sum.saturating_add(prompt.metrics.images)
        }),
        ..Metrics::default()
    };
    let added: Vec<Added> = prompts
        .iter()
        .map(|(_, prompt)| Added::by(prompt))
        .collect();
    // How near a picture is to what is known is measured otherwise beside class means, and was by older programs.
    let kind = |(_, prompt): &(String, Prompt)| Some(prompt.prototypes.as_ref()?.sharpness);
    let of_one_kind = prompts.iter().all(|other| kind(other) == kind(&prompts[0]));
    let sharpness = kind(&prompts[0]).filter(|_| of_one_kind).unwrap_or(0.0);
    merged.prototypes = mean_prototypes(&added).map(|of| of.with_sharpness(sharpness));
    let calibrations: Option<Vec<&Calibration>> = prompts
        .iter()
        .map(|(_, prompt)| prompt.calibration.as_ref())
        .collect();
    let calibrations = calibrations.filter(|_| of_one_kind);
    merged.calibration = calibrations.map(|all| Calibration {
        temperature: average(all.iter().map(|of| of.temperature)),
        unknown_threshold: average(all.iter().map(|of| of.unknown_threshold)),
    });
    merged.provenance = Provenance::default();
    Ok(merged)
}

/// The same, so that it scores every picture as all of `prompts` do together, an ensemble in the room of one: scores are linear in
/// a picture's feature, and what the mean of the contexts misses of their mean is added beside it, in eight bits.
///
/// # Errors
/// As [`merge`], and if they do not fit `model`.
pub fn ensemble(model: &Model, prompts: &[(String, Prompt)]) -> Result<Prompt, MergeError> {
    let mut merged = merge(prompts, Mean::Contexts)?;
    let refused = |name: &String| {
        let name = name.clone();
        move |error: ClassifierError| MergeError::Model {
            name,
            reason: error.to_string(),
        }
    };
    let texts = |prompt: &Prompt| Ok(Classifier::with_prompt(model, prompt)?.texts().to_owned());
    let base = texts(&merged).map_err(refused(&"the mean of all".to_owned()))?;
    let mut added = Vec::new();
    for (name, prompt) in prompts {
        let of = Added::by(prompt);
        let more = texts(prompt).map_err(refused(name))? - &base;
        added.push(Added {
            weight: Some(of.weight.map_or(more.clone(), |weight| weight + &more)),
            bias: of.bias.or_else(|| Some(Array1::zeros(base.nrows()))),
            ..of
        });
    }
    merged.recipe = format!("the mean of the scores of {} prompts", prompts.len());
    let sharpness = merged.prototypes.map_or(0.0, |of| of.sharpness);
    merged.prototypes = mean_prototypes(&added).map(|of| of.with_sharpness(sharpness));
    Ok(merged)
}

fn difference(first: &Prompt, other: &Prompt) -> Option<&'static str> {
    if first.model_fingerprint != other.model_fingerprint {
        Some("they are for different models")
    } else if first.template.to_string() != other.template.to_string() {
        Some("their templates differ")
    } else if first.labels != other.labels {
        Some("their labels differ, or stand in another order")
    } else if first.delta.shape() != other.delta.shape() || first.tuning() != other.tuning() {
        Some("they were trained in different ways")
    } else {
        None
    }
}

fn mean_of(deltas: &[&Delta], mean: Mean) -> Delta {
    let rank = deltas.iter().map(|delta| delta.rank()).max().unwrap_or(1);
    let tables: Vec<Array2<f32>> = deltas.iter().map(|delta| delta.matrix()).collect();
    let low_rank = deltas
        .iter()
        .all(|delta| matches!(delta, Delta::LowRank(_)));
    let (tokens, width) = tables[0].dim();
    if !low_rank || tokens > width {
        return Delta::Full(average_tables(&tables));
    }
    Delta::LowRank(match mean {
        Mean::Contexts => Factors::nearest(average_tables(&tables).view(), rank),
        Mean::Factors => {
            // In one form: columns at right angles, of one length.
            let mut all: Vec<Factors> = tables
                .iter()
                .map(|table| Factors::nearest(table.view(), rank))
                .collect();
            let first = all[0].u.clone();
            for factors in &mut all[1..] {
                let turn = nearest_rotation(factors.u.t().dot(&first).view());
                *factors = Factors {
                    u: factors.u.dot(&turn),
                    v: turn.t().dot(&factors.v),
                };
            }
            let us: Vec<Array2<f32>> = all.iter().map(|factors| factors.u.clone()).collect();
            let vs: Vec<Array2<f32>> = all.iter().map(|factors| factors.v.clone()).collect();
            Factors {
                u: average_tables(&us),
                v: average_tables(&vs),
            }
        }
    })
}

/// The orthogonal matrix that is nearest to a square one: what turns one set of vectors onto another (Procrustes).
fn nearest_rotation(matrix: ArrayView2<f32>) -> Array2<f32> {
    let size = matrix.nrows();
    let triples = density::singular_triples(matrix);
    Array2::from_shape_fn((size, size), |(row, column)| {
        triples
            .iter()
            .map(|of| of.left[row] * of.right[column])
            .sum::<f64>() as f32
    })
}

fn average_tables(tables: &[Array2<f32>]) -> Array2<f32> {
    let mut sum = tables[0].clone();
    for table in &tables[1..] {
        sum += table;
    }
    sum / tables.len() as f32
}

fn average(numbers: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = numbers.len() as f32;
    numbers.sum::<f32>() / count
}

/// What a prompt adds to the text features and the scores, and its class means, `[labels, joint]` all; nothing without any.
struct Added {
    weight: Option<Array2<f32>>,
    bias: Option<Array1<f32>>,
    means: Option<Array2<f32>>,
}

impl Added {
    fn by(prompt: &Prompt) -> Added {
        let prototypes = prompt.prototypes.as_ref();
        Added {
            weight: prototypes.map(|of| of.weight.table()),
            bias: prototypes.map(|of| Array1::from(of.bias.clone())),
            means: prototypes.map(|of| of.means.table()),
        }
    }
}

/// What is added to scores is averaged, so that the result scores as all of them together do. The mean picture of a label is
/// that of the prompts that have one.
fn mean_prototypes(all: &[Added]) -> Option<Prototypes> {
    let sum = all.iter().filter_map(|of| of.weight.clone());
    let weight = sum.reduce(|sum, table| sum + table)? / all.len() as f32;
    let sum = all.iter().filter_map(|of| of.bias.clone());
    let bias = sum.reduce(|sum, row| sum + row)? / all.len() as f32;
    let mut means = Array2::zeros(weight.dim());
    for (class, mut mean) in means.outer_iter_mut().enumerate() {
        let rows = all
            .iter()
            .filter_map(|of| Some(of.means.as_ref()?.row(class)));
        let known: Vec<_> = rows.filter(|row| row.iter().any(|&x| x != 0.0)).collect();
        known.iter().for_each(|row| mean += row);
        mean /= known.len().max(1) as f32;
    }
    Some(Prototypes::new(means.view(), weight.view(), &bias))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Scorer;
    use crate::prompt::record::tests::record;
    use crate::prompt::{Label, Template};
    use crate::rng::Rng;
    use crate::store::{decode, encode};

    fn prompts(count: u64, rank: usize) -> Vec<(String, Prompt)> {
        let of = |number: u64| {
            let mut rng = Rng::new(number);
            let mut numbers = |shape| Array2::from_shape_simple_fn(shape, || rng.normal());
            let factors = Factors {
                u: numbers((4, rank)),
                v: numbers((rank, 32)),
            };
            let mut prompt = record();
            prompt.delta = Delta::LowRank(factors);
            prompt.context_singular_values.clear();
            (format!("box-{number}"), prompt)
        };
        (1..=count).map(of).collect()
    }

    fn far(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
        (a - b).iter().map(|x| x * x).sum::<f32>().sqrt()
    }

    #[test]
    fn the_mean_of_one_prompt_many_times_is_that_prompt_however_its_factors_are_turned() {
        for rank in [1, 2, 3] {
            let mut all = prompts(1, rank);
            let original = all[0].1.delta.matrix();
            // The same change in other factors: columns exchanged, a sign and a length moved.
            let Delta::LowRank(factors) = &all[0].1.delta else {
                unreachable!()
            };
            let turned = Factors {
                u: Array2::from_shape_fn((4, rank), |(row, column)| {
                    -2.0 * factors.u[[row, rank - 1 - column]]
                }),
                v: Array2::from_shape_fn((rank, 32), |(row, column)| {
                    -0.5 * factors.v[[rank - 1 - row, column]]
                }),
            };
            let mut second = all[0].clone();
            second.1.delta = Delta::LowRank(turned);
            all.push(second);
            for mean in [Mean::Contexts, Mean::Factors] {
                let merged = merge(&all, mean).unwrap();
                assert!(
                    far(&merged.delta.matrix(), &original) < 1e-3,
                    "{mean:?}, rank {rank}"
                );
                assert_eq!(merged.delta.rank(), rank);
            }
        }
    }

    #[test]
    fn what_is_merged_is_a_prompt_that_can_be_kept() {
        let merged = merge(&prompts(5, 2), Mean::Contexts).unwrap();
        let again = decode(&encode(&merged).unwrap(), "x").unwrap();
        assert_eq!(again, merged);
        assert_eq!(merged.metrics.holdout_images, 0);
        assert_eq!(merged.metrics.images, 5 * record().metrics.images);
        assert!(merged.calibration.is_some());
    }

    /// A merged prompt lost the class means of nine boxes because a tenth had none.
    #[test]
    fn a_prompt_without_class_means_adds_nothing_and_takes_none_away() {
        let mut all = prompts(4, 1);
        let table = Array2::from_elem((all[0].1.labels.len(), 8), 0.5);
        let of_all = Prototypes::new(table.view(), table.view(), &Array1::zeros(table.nrows()));
        for place in [0, 1, 3] {
            all[place].1.prototypes = Some(of_all.clone());
        }
        let of = |prompt: &Prompt| prompt.prototypes.as_ref().unwrap().weight.table();
        let merged = merge(&all, Mean::Contexts).unwrap();
        let expected = of(&all[0].1) * 0.75;
        assert!(far(&of(&merged), &expected) < 1e-2);
        assert!(merged.calibration.is_none(), "of two kinds");
    }

    /// Where the first had none, class means of two sizes were added up, which panics.
    #[test]
    fn class_means_of_two_sizes_are_refused_whoever_has_them() {
        let mut all = prompts(3, 1);
        for (place, joint) in [(1, 8), (2, 16)] {
            let table = Array2::from_elem((all[0].1.labels.len(), joint), 0.5);
            let bias = Array1::zeros(table.nrows());
            all[place].1.prototypes = Some(Prototypes::new(table.view(), table.view(), &bias));
        }
        let error = merge(&all, Mean::Contexts).unwrap_err().to_string();
        assert!(
            error.contains("box-3 and box-2") && error.contains("sizes"),
            "{error}"
        );
    }

    #[test]
    fn an_ensemble_scores_as_all_of_its_prompts_together() {
        let model = Model::embedded().unwrap();
        let labels = ["mug", "bottle", "plate"].map(|name| Label::new(name, None).unwrap());
        let template = Template::default();
        let layout = model.layout(&template, &labels).unwrap();
        let (tokens, width) = (layout.context.len(), model.text.width());
        let joint = model.text.joint_width();
        let of = |number: u64, with_means: &[u64]| {
            let mut rng = Rng::new(number);
            let mut numbers =
                |shape, size: f32| Array2::from_shape_simple_fn(shape, || size * rng.normal());
            let delta = Delta::LowRank(Factors {
                u: numbers((tokens, 1), 0.7),
                v: numbers((1, width), 0.7),
            });
            let (name, fingerprint) = (&model.name, model.fingerprint.0);
            let mut prompt =
                Prompt::new(name, fingerprint, template.clone(), labels.to_vec(), delta);
            if with_means.contains(&number) {
                let (means, weight) = (numbers((3, joint), 1.0), numbers((3, joint), 0.1));
                let bias = ndarray::array![0.1, -0.2, 0.0];
                prompt.prototypes = Some(Prototypes::new(means.view(), weight.view(), &bias));
            }
            (format!("box-{number}"), prompt)
        };
        let mut rng = Rng::new(9);
        let mut features = Array2::from_shape_simple_fn((5, joint), || rng.normal());
        features /= (joint as f32).sqrt();
        let scores = |prompt: &Prompt| {
            let texts = Classifier::with_prompt(&model, prompt).unwrap();
            let scorer = Scorer::new(texts.texts(), prompt.prototypes.as_ref()).unwrap();
            scorer.scores(features.view())
        };
        // Of prompts without any class means, all labels were taken for ones that nobody had taught.
        for with_means in [&[2, 3][..], &[]] {
            let all: Vec<(String, Prompt)> = (1..=3).map(|of_box| of(of_box, with_means)).collect();
            let merged = ensemble(&model, &all).unwrap();
            let together = all.iter().map(|(_, prompt)| scores(prompt));
            let together = together.reduce(|sum, scores| sum + scores).unwrap() / 3.0;
            assert!(far(&scores(&merged), &together) < 0.01);
            assert!(far(&scores(&merge(&all, Mean::Contexts).unwrap()), &together) > 0.01);
            assert!(merged.new_classes(&labels).is_empty());
            let kept = decode(&encode(&merged).unwrap(), "x").unwrap();
            assert_eq!(kept, merged);
        }
    }

    #[test]
    fn what_cannot_stand_for_the_same_is_refused_with_both_names() {
        assert_eq!(
            merge(&prompts(1, 1), Mean::Contexts),
            Err(MergeError::TooFew)
        );
        let mut all = prompts(2, 1);
        all[1].1.labels.swap(0, 1);
        let error = merge(&all, Mean::Contexts).unwrap_err().to_string();
        assert!(
            error.contains("box-2 and box-1") && error.contains("labels"),
            "{error}"
        );
        let mut all = prompts(2, 1);
        all[1].1.model_fingerprint = [3; 32];
        assert!(
            merge(&all, Mean::Factors)
                .unwrap_err()
                .to_string()
                .contains("models")
        );
    }
}
