//! One prompt of many that were trained for the same labels on different boxes, without a picture leaving any of them.

use ndarray::{Array2, ArrayView2};

use crate::prompt::{
    Calibration, Delta, EightBits, Factors, Metrics, Prompt, Prototypes, Provenance, density,
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
}

/// The mean of `prompts`, each with what it is called. Class means are merged where all have some; calibrations too. What it is
/// worth nobody has measured: it has no accuracy, until a box judges it.
///
/// # Errors
/// If there are fewer than two, or they are for different models, templates, labels or sizes.
pub fn merge(prompts: &[(String, Prompt)], mean: Mean) -> Result<Prompt, MergeError> {
    let [(name, first), others @ ..] = prompts else {
        return Err(MergeError::TooFew);
    };
    if others.is_empty() {
        return Err(MergeError::TooFew);
    }
    for (other, prompt) in others {
        if let Some(reason) = difference(first, prompt) {
            return Err(MergeError::Differ {
                name: other.clone(),
                first: name.clone(),
                reason,
            });
        }
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
    let prototypes: Option<Vec<&Prototypes>> = prompts
        .iter()
        .map(|(_, prompt)| prompt.prototypes.as_ref())
        .collect();
    merged.prototypes = prototypes.map(|all| mean_prototypes(&all));
    let calibrations: Option<Vec<&Calibration>> = prompts
        .iter()
        .map(|(_, prompt)| prompt.calibration.as_ref())
        .collect();
    merged.calibration = calibrations.map(|all| Calibration {
        temperature: average(all.iter().map(|of| of.temperature)),
        unknown_threshold: average(all.iter().map(|of| of.unknown_threshold)),
    });
    merged.provenance = Provenance::default();
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
        let joint = |prompt: &Prompt| prompt.prototypes.as_ref().map(|of| of.means.values.dim());
        let differ = joint(first).zip(joint(other)).is_some_and(|(a, b)| a != b);
        differ.then_some("their class means are of different sizes")
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

/// What is added to scores is averaged, so that the result scores as all of them together do.
fn mean_prototypes(all: &[&Prototypes]) -> Prototypes {
    let table = |of: &dyn Fn(&Prototypes) -> Array2<f32>| {
        let tables: Vec<Array2<f32>> = all.iter().map(|prototypes| of(prototypes)).collect();
        EightBits::of(average_tables(&tables).view())
    };
    let biases = |class: usize| average(all.iter().map(move |prototypes| prototypes.bias[class]));
    Prototypes {
        means: table(&|of| of.means.table()),
        weight: table(&|of| of.weight.table()),
        bias: (0..all[0].bias.len()).map(biases).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::record::tests::record;
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
