//! The methods that are compared, one small file each. Every one is fitted to the same cached features of the shots,
//! and becomes a [`Predictor`].

mod coop;
mod gda;
mod kgcoop;
mod ncm;
mod probe;
mod prompt;
mod rlp;
mod tip;
mod zero_shot;

pub use probe::Probe;
pub use tip::Cache;

use super::{EvaluateError, Part, PartClasses};
use crate::adapt::features::FeatureSet;
use crate::adapt::{Answers, Judged, Options, Progress, StepReport, Task};
use crate::classifier::{Scorer, probabilities, softmax_rows, text_features, with_new_classes};
use crate::clip::Model;
use crate::prompt::{Calibration, Delta, Prompt, Prototypes, TokenLayout, Tuning};
use ndarray::{Array1, Array2, ArrayView2};
use std::cell::OnceCell;
use std::str::FromStr;
use std::time::Instant;

/// A method by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The plain template.
    ZeroShot,
    /// Two low-rank factors: ours.
    Rlp,
    /// The same with a Gaussian of each class beside the prompt.
    RlpGda,
    /// Whichever of both answers held-out shots better.
    Auto,
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

impl Method {
    /// In the order of a table.
    pub const ALL: [Method; 9] = [
        Method::ZeroShot,
        Method::Rlp,
        Method::RlpGda,
        Method::Auto,
        Method::Coop,
        Method::KgCoop,
        Method::Tip,
        Method::Ncm,
        Method::Gda,
    ];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Method::ZeroShot => "zero-shot",
            Method::Rlp => "rlp",
            Method::RlpGda => "rlp+gda",
            Method::Auto => "auto",
            Method::Coop => "coop",
            Method::KgCoop => "kgcoop",
            Method::Tip => "tip",
            Method::Ncm => "ncm",
            Method::Gda => "gda",
        }
    }
}

impl From<&Prompt> for Method {
    fn from(prompt: &Prompt) -> Method {
        match (prompt.tuning(), &prompt.prototypes) {
            (Tuning::Rlp, None) => Method::Rlp,
            (Tuning::Rlp, Some(_)) => Method::RlpGda,
            (Tuning::Coop, _) => Method::Coop,
        }
    }
}

impl FromStr for Method {
    type Err = EvaluateError;

    fn from_str(name: &str) -> Result<Method, EvaluateError> {
        Method::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| EvaluateError::UnknownMethod {
                name: name.to_owned(),
            })
    }
}

/// Choices that a user may make.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct FitOptions {
    /// Rank of RLP's factors; none is [`Options::of`]'s.
    pub rank: Option<usize>,
    /// Training steps of the prompts; none is [`crate::adapt::Recipe::of`]'s.
    pub steps: Option<usize>,
    /// Seed of the training.
    pub seed: u64,
}

impl FitOptions {
    /// `default` with the user's choices.
    fn apply(&self, default: Options) -> Options {
        let mut chosen = Options {
            rank: self.rank.or(default.rank),
            seed: self.seed,
            ..default
        };
        chosen.recipe.steps = self.steps.unwrap_or(chosen.recipe.steps);
        chosen
    }
}

/// A fitted method, ready for pictures.
#[derive(Debug, Clone)]
pub enum Predictor {
    /// The template with this change to its context, or as it is: any classes are read so, as the papers have it.
    Prompt(Option<Delta>),
    /// A prompt as it is kept, and read by [`Classifier`](crate::classifier::Classifier).
    Kept(Box<Kept>),
    /// The plain template beside remembered shots: it reads any classes, and has memories of those it was fitted to.
    Cache(Cache),
    /// Scores `weight [classes, joint] . feature + bias` for the classes it was fitted to alone.
    Linear {
        /// `[classes, joint]`.
        weight: Array2<f32>,
        /// `[classes]`.
        bias: Array1<f32>,
    },
}

/// A prompt as it is kept: new classes are read halfway to the template.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The change to the template's context.
    pub change: Delta,
    /// What is added to the scores of classes that it was fitted to.
    pub prototypes: Option<Prototypes>,
    /// The classes of a [base](PartClasses::Base) part that it was not fitted to all the same, as their indices: a prompt can be
    /// given other labels. None where it was just fitted.
    pub new: Vec<usize>,
}

/// A predictor and what it cost.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Fitted {
    /// The method, ready for pictures.
    pub predictor: Predictor,
    /// How its scores of the classes that it was fitted to are to be read; none as they are.
    pub calibration: Option<Calibration>,
    /// Numbers that it keeps besides the model.
    pub parameters: usize,
    /// One report a training step, where there were any.
    pub history: Vec<StepReport>,
    /// Time to fit it, features excluded.
    pub seconds: f64,
}

impl Fitted {
    /// A predictor that took no training steps; its time is not known yet.
    fn untrained(parameters: usize, predictor: Predictor) -> Fitted {
        Fitted {
            predictor,
            calibration: None,
            parameters,
            history: Vec::new(),
            seconds: 0.0,
        }
    }
}

/// What methods are fitted to.
pub struct Lesson<'a> {
    /// The classes.
    pub task: Task<'a>,
    /// Labelled pictures of them, all of which may be used.
    pub shots: &'a FeatureSet,
    options: FitOptions,
    /// The training that rlp, rlp+gda and auto have in common, and its time.
    judged: OnceCell<(Judged, f64)>,
}

impl<'a> Lesson<'a> {
    /// To be learnt as `options` say.
    pub fn new(task: Task<'a>, shots: &'a FeatureSet, options: FitOptions) -> Lesson<'a> {
        Lesson {
            task,
            shots,
            options,
            judged: OnceCell::new(),
        }
    }

    /// Two factors, trained and judged as `adapt` does it, and the seconds that took.
    fn judged(&self, progress: &mut Progress) -> Result<&(Judged, f64), EvaluateError> {
        if self.judged.get().is_none() {
            let started = Instant::now();
            let options = self.options.apply(Options::of(Tuning::Rlp));
            let judged = Judged::train(&self.task, self.shots, &options, progress)?;
            let _ = self.judged.set((judged, started.elapsed().as_secs_f64()));
        }
        Ok(self.judged.get().expect("it was trained"))
    }
}

/// Fits `method`. `progress` may end training early, which is an error.
///
/// # Errors
/// If training fails, is ended, or an option does not fit the model.
pub fn fit(
    method: Method,
    lesson: &Lesson,
    progress: &mut Progress,
) -> Result<Fitted, EvaluateError> {
    let started = Instant::now();
    let Lesson {
        task,
        shots,
        options,
        ..
    } = lesson;
    let fitted = match method {
        Method::ZeroShot => zero_shot::fit(),
        Method::Rlp | Method::RlpGda | Method::Auto => {
            let answers = match method {
                Method::RlpGda => Answers::WithPrototypes,
                Method::Auto => Answers::Best,
                _ => Answers::Prompt,
            };
            let (judged, seconds) = lesson.judged(progress)?;
            return Ok(Fitted {
                seconds: *seconds,
                ..rlp::fit(judged, answers)
            });
        }
        Method::Coop => coop::fit(task, shots, options, progress)?,
        Method::KgCoop => kgcoop::fit(task, shots, options, progress)?,
        Method::Tip => tip::fit(task, shots),
        Method::Ncm => ncm::fit(task, shots),
        Method::Gda => gda::fit(task, shots)?,
    };
    Ok(Fitted {
        seconds: started.elapsed().as_secs_f64(),
        ..fitted
    })
}

impl Predictor {
    /// The probability of each class of `part` for each of its pictures as it is, `[pictures, classes]`, with scores divided by
    /// `temperature`. None where the predictor has nothing to say about the classes.
    ///
    /// # Errors
    /// If the text tower refuses the layout.
    pub fn probabilities(
        &self,
        model: &Model,
        part: &Part,
        temperature: f32,
    ) -> Result<Option<Array2<f32>>, EvaluateError> {
        let scale = model.logit_scale / temperature;
        let (features, _) = part.pictures.plain();
        let texts = |change: Option<&Delta>| text_features(&model.text, part.layout, change);
        let fitted = part.classes == PartClasses::Base;
        Ok(match self {
            Predictor::Prompt(change) => {
                let texts = texts(change.as_ref())?;
                Some(probabilities(features.view(), texts.view(), scale))
            }
            Predictor::Kept(kept) => {
                let new = match fitted {
                    true => kept.new.clone(),
                    false => (0..part.layout.suffixes.len()).collect(),
                };
                let texts = with_new_classes(&model.text, part.layout, &kept.change, &new)?;
                let prototypes = kept.prototypes.as_ref().filter(|_| fitted);
                let scorer = Scorer::new(texts.view(), prototypes)?;
                Some(softmax_rows(scorer.scores(features.view()), scale))
            }
            Predictor::Cache(cache) => {
                let mut scores = features.dot(&texts(None)?.t()) * model.logit_scale;
                if fitted {
                    scores += &cache.scores(features.view());
                }
                Some(softmax_rows(scores, 1.0))
            }
            Predictor::Linear { weight, bias } if fitted => {
                Some(softmax_rows(features.dot(&weight.t()) + bias, 1.0))
            }
            Predictor::Linear { .. } => None,
        })
    }

    /// How near each of `features [pictures, joint]` is to the classes of `layout`, which are those that this was fitted to. None
    /// where the predictor does not measure it.
    ///
    /// # Errors
    /// If the text tower refuses the layout.
    pub fn similarities(
        &self,
        model: &Model,
        layout: &TokenLayout,
        features: ArrayView2<f32>,
    ) -> Result<Option<Vec<f32>>, EvaluateError> {
        let (texts, prototypes) = match self {
            Predictor::Prompt(change) => {
                (text_features(&model.text, layout, change.as_ref())?, None)
            }
            Predictor::Kept(kept) => (
                with_new_classes(&model.text, layout, &kept.change, &kept.new)?,
                kept.prototypes.as_ref(),
            ),
            Predictor::Cache(_) | Predictor::Linear { .. } => return Ok(None),
        };
        let scorer = Scorer::new(texts.view(), prototypes)?;
        let scores = scorer.scores(features);
        let rows = features.outer_iter().zip(scores.outer_iter());
        let similarity = |(feature, scores)| scorer.similarity(texts.view(), feature, scores);
        Ok(Some(rows.map(similarity).collect()))
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
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
        }
        let message = "magic".parse::<Method>().unwrap_err().to_string();
        assert!(
            message.contains("magic") && message.contains("kgcoop"),
            "{message}"
        );
    }
}
