//! The methods that are compared, one small file each. Every one is fitted to the same cached features of the shots,
//! and becomes a [`Classifier`]. It must not know protocols or where pictures came from.

mod coop;
mod gda;
mod kgcoop;
mod ncm;
mod prompt;
mod rlp;
mod tip;
mod zero_shot;

pub use tip::Cache;

use super::EvaluateError;
use crate::adapt::features::FeatureSet;
use crate::adapt::trainer::StepReport;
use crate::classifier::{context_rows, probabilities, softmax_rows};
use crate::clip::TextTower;
use crate::prompt::{Delta, Method, TokenLayout};
use ndarray::{Array1, Array2, ArrayView2};
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Instant;

/// A method by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technique {
    /// The plain template.
    ZeroShot,
    /// Two low-rank factors: ours.
    Rlp,
    /// The full context (arXiv 2109.01134), as trained here.
    Coop,
    /// CoOp pulled towards the template's text features (arXiv 2303.13283).
    KgCoop,
    /// Tip-Adapter's training-free cache (arXiv 2207.09519).
    Tip,
    /// The nearest class mean.
    Ncm,
    /// A Gaussian of each class with a shared covariance, in closed form (arXiv 2402.04087).
    Gda,
}

impl Technique {
    /// In the order of a table.
    pub const ALL: [Technique; 7] = [
        Technique::ZeroShot,
        Technique::Rlp,
        Technique::Coop,
        Technique::KgCoop,
        Technique::Tip,
        Technique::Ncm,
        Technique::Gda,
    ];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Technique::ZeroShot => "zero-shot",
            Technique::Rlp => "rlp",
            Technique::Coop => "coop",
            Technique::KgCoop => "kgcoop",
            Technique::Tip => "tip",
            Technique::Ncm => "ncm",
            Technique::Gda => "gda",
        }
    }

    /// Whether what it learns says something about classes that it has not seen a picture of.
    pub fn names_new_classes(self) -> bool {
        !matches!(self, Technique::Ncm | Technique::Gda)
    }
}

impl From<Method> for Technique {
    fn from(method: Method) -> Technique {
        match method {
            Method::Rlp => Technique::Rlp,
            Method::Coop => Technique::Coop,
        }
    }
}

impl FromStr for Technique {
    type Err = EvaluateError;

    fn from_str(name: &str) -> Result<Technique, EvaluateError> {
        Technique::ALL
            .into_iter()
            .find(|technique| technique.name() == name)
            .ok_or_else(|| EvaluateError::UnknownMethod {
                name: name.to_owned(),
            })
    }
}

/// What a method is fitted to.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub tower: &'a TextTower,
    /// The model's logit scale.
    pub scale: f32,
    /// The names of the classes, for messages.
    pub names: &'a [String],
    /// Their tokens.
    pub layout: &'a TokenLayout,
    /// The labelled pictures, all of which may be used.
    pub shots: &'a FeatureSet,
}

/// Choices that a user may make.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FitOptions {
    /// Rank of RLP's factors; none is [`crate::adapt::Options::of`]'s.
    pub rank: Option<usize>,
    /// Training steps of the prompts; none is [`crate::adapt::trainer::Recipe::of`]'s.
    pub steps: Option<usize>,
    pub seed: u64,
}

/// A fitted method, ready for pictures.
#[derive(Debug, Clone)]
pub enum Classifier {
    /// A context for the text tower, `[n, d]`: it reads any classes. `change` is what was trained of it.
    Prompt {
        context: Array2<f32>,
        change: Option<Delta>,
    },
    /// The plain template beside remembered shots: it reads any classes, and has memories of those it was fitted to.
    Cache { context: Array2<f32>, cache: Cache },
    /// Scores `weight [classes, joint] . feature + bias` for the classes it was fitted to alone.
    Linear {
        weight: Array2<f32>,
        bias: Array1<f32>,
    },
}

/// A classifier and what it cost.
#[derive(Debug, Clone)]
pub struct Fitted {
    pub classifier: Classifier,
    /// Numbers that it keeps besides the model.
    pub parameters: usize,
    /// One report a training step, where there were any.
    pub history: Vec<StepReport>,
    /// Time to fit it, features excluded.
    pub seconds: f64,
}

/// Fits `technique` to the shots of `task`. `progress` may end training early, which is an error.
///
/// # Errors
/// If training fails, is ended, or an option does not fit the model.
pub fn fit(
    technique: Technique,
    task: &Task,
    options: &FitOptions,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Fitted, EvaluateError> {
    let started = Instant::now();
    let fitted = match technique {
        Technique::ZeroShot => zero_shot::fit(task),
        Technique::Rlp => rlp::fit(task, options, progress),
        Technique::Coop => coop::fit(task, options, progress),
        Technique::KgCoop => kgcoop::fit(task, options, progress),
        Technique::Tip => tip::fit(task),
        Technique::Ncm => Ok(ncm::fit(task)),
        Technique::Gda => gda::fit(task),
    }?;
    Ok(Fitted {
        seconds: started.elapsed().as_secs_f64(),
        ..fitted
    })
}

impl Classifier {
    /// The probability of each class of `layout` for each picture, `[pictures, classes]`; `features` are
    /// L2-normalised, `[pictures, joint]`. `fitted` says whether the classes are those it was fitted to, in their
    /// order. None where the classifier has nothing to say about the classes.
    ///
    /// # Errors
    /// If the text tower refuses the layout.
    pub fn probabilities(
        &self,
        tower: &TextTower,
        scale: f32,
        layout: &TokenLayout,
        fitted: bool,
        features: ArrayView2<f32>,
    ) -> Result<Option<Array2<f32>>, EvaluateError> {
        let texts = |context: &Array2<f32>| tower.class_features(context.view(), &layout.suffixes);
        Ok(match self {
            Classifier::Prompt { context, .. } => {
                Some(probabilities(features, texts(context)?.view(), scale))
            }
            Classifier::Cache { context, cache } => {
                let mut scores = features.dot(&texts(context)?.t()) * scale;
                if fitted {
                    scores += &cache.scores(features);
                }
                Some(softmax_rows(scores, 1.0))
            }
            Classifier::Linear { weight, bias } if fitted => {
                Some(softmax_rows(features.dot(&weight.t()) + bias, 1.0))
            }
            Classifier::Linear { .. } => None,
        })
    }
}

/// The mean plain feature of each class, `[classes, joint]`.
fn class_means(shots: &FeatureSet, classes: usize) -> Array2<f32> {
    let (features, labels) = shots.plain();
    let mut means = Array2::zeros((classes, features.ncols()));
    for (class, mut mean) in means.outer_iter_mut().enumerate() {
        let count = labels.iter().filter(|&&label| label == class).count();
        let members = features.outer_iter().zip(&labels);
        for (feature, _) in members.filter(|(_, label)| **label == class) {
            mean.scaled_add(1.0 / count as f32, &feature);
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::fixture;

    /// Shots, test features, and what numpy says about them.
    pub struct Case {
        value: serde_json::Value,
        pub shots: FeatureSet,
        pub test: Array2<f32>,
        pub classes: usize,
    }

    impl Case {
        pub fn read() -> Case {
            let value = fixture("methods.json");
            let table = |name: &str| {
                let rows: Vec<Vec<f32>> = serde_json::from_value(value[name].clone()).unwrap();
                Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j])
            };
            let (shots, test) = (table("shots"), table("test"));
            let labels: Vec<usize> = serde_json::from_value(value["labels"].clone()).unwrap();
            Case {
                classes: 1 + labels.iter().max().unwrap(),
                shots: FeatureSet {
                    features: shots.insert_axis(ndarray::Axis(1)),
                    labels,
                },
                test,
                value,
            }
        }

        pub fn assert_near(&self, found: &Array2<f32>, name: &str) {
            let rows: Vec<Vec<f64>> = serde_json::from_value(self.value[name].clone()).unwrap();
            assert_eq!(found.dim(), (rows.len(), rows[0].len()));
            for (index, found) in found.indexed_iter() {
                let expected = rows[index.0][index.1];
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-4 * expected.abs().max(1.0),
                    "{name} {index:?}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn methods_are_read_by_name() {
        for technique in Technique::ALL {
            assert_eq!(technique.name().parse::<Technique>().unwrap(), technique);
        }
        let message = "magic".parse::<Technique>().unwrap_err().to_string();
        assert!(
            message.contains("magic") && message.contains("kgcoop"),
            "{message}"
        );
    }
}
