//! The training loop: full batches of cached picture features, gradients through the text tower to the
//! factors, Adam. Deterministic from its seed. It must not know where the pictures came from nor whether the
//! result will be kept.

use super::AdaptError;
use super::loss::cross_entropy;
use super::optimizer::{Adam, Schedule};
use crate::clip::TextTower;
use crate::prompt::{Delta, Method, TokenLayout};
use crate::rng::Rng;
use ndarray::{Array2, ArrayView2};
use std::ops::ControlFlow;

/// How the prompt is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Full-batch steps.
    pub steps: usize,
    /// Random starts of the factors; each is tried for a tenth of the steps, and the best goes on. With rank 1
    /// the loss has several basins, which differ much.
    pub starts: usize,
    /// Adam's peak learning rate, in units of the template's root mean square embedding, so that one value
    /// serves every model.
    pub learning_rate: f32,
    /// Probability with which an element of the change to the context is dropped in a step.
    pub dropout: f32,
    /// Weight of the pull of the text features towards the template's (KgCoOp, arXiv 2303.13283).
    pub anchor: f32,
    /// Decoupled weight decay (arXiv 1711.05101): the share of the learning rate by which the change shrinks in a
    /// step.
    pub decay: f32,
    /// Seed of the dropout masks.
    pub seed: u64,
}

impl Recipe {
    /// What is used for a method unless a user says otherwise. The pull towards the template belongs to RLP as
    /// we use it; CoOp, the baseline, has none.
    pub fn of(method: Method) -> Recipe {
        Recipe {
            steps: 600,
            starts: 8,
            learning_rate: 0.3,
            dropout: 0.0,
            anchor: match method {
                Method::Rlp => 1.0,
                Method::Coop => 0.0,
            },
            // Without it the change outgrows the template a hundredfold; docs/evaluation.md has the measurement.
            decay: match method {
                Method::Rlp => 0.03,
                Method::Coop => 0.0,
            },
            seed: 0,
        }
    }
}

/// Pictures ready for training: their features and what they show.
#[derive(Debug, Clone, Copy)]
pub struct Shots<'a> {
    /// L2-normalised image features, `[pictures, joint]`.
    pub features: ArrayView2<'a, f32>,
    /// A class index for each picture.
    pub labels: &'a [usize],
}

/// What is to be learnt: which context of which tower is moved, and towards what.
#[derive(Clone, Copy)]
pub struct Objective<'a> {
    pub tower: &'a TextTower,
    /// The tokens of the labels.
    pub layout: &'a TokenLayout,
    /// The context that is changed, `[n, d]`: the template's token embeddings.
    pub initial: &'a Array2<f32>,
    pub shots: Shots<'a>,
    /// The model's logit scale.
    pub scale: f32,
    /// What a step may keep for the sweep back, in bytes ([`TextTower::forward`]).
    pub memory: usize,
}

/// Where training stands after a step.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct StepReport {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Cross-entropy before the step, in nats.
    pub loss: f32,
    /// Accuracy on the training shots before the step, in `0..=1`.
    pub accuracy: f32,
}

/// What training gives.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The change to the template's context.
    pub delta: Delta,
    /// One report a step.
    pub history: Vec<StepReport>,
    /// False if `progress` ended training early.
    pub finished: bool,
}

/// Trains each of `starts` for a tenth of the recipe's steps; the one of least loss comes back, the first on a tie.
///
/// `progress` sees reports of step 0 and may end the search, which then gives `None`.
///
/// # Errors
/// As for [`train`].
pub fn best_start(
    objective: &Objective,
    starts: Vec<Delta>,
    recipe: &Recipe,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Option<Delta>, AdaptError> {
    let trial = Recipe {
        steps: recipe.steps.div_ceil(10),
        ..*recipe
    };
    let mut report_step_0 = |report: &StepReport| {
        progress(&StepReport {
            step: 0,
            steps: recipe.steps,
            ..*report
        })
    };
    let mut best: Option<(f32, Delta)> = None;
    for start in starts {
        let Trained {
            delta,
            history,
            finished,
        } = train(objective, start, &trial, &mut report_step_0)?;
        if !finished {
            return Ok(None);
        }
        let loss = history.last().map_or(f32::INFINITY, |report| report.loss);
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            best = Some((loss, delta));
        }
    }
    Ok(best.map(|(_, delta)| delta))
}

/// Trains `delta`, a change to the context of `objective`.
///
/// `progress` is called after every step and may end training; what was reached by then is returned.
///
/// # Errors
/// If the tower refuses the layout, or the loss stops being a number.
pub fn train(
    objective: &Objective,
    mut delta: Delta,
    recipe: &Recipe,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Trained, AdaptError> {
    let Objective {
        tower,
        layout,
        initial,
        shots,
        scale,
        memory,
    } = *objective;
    let unit = root_mean_square(initial);
    let schedule = Schedule {
        peak: recipe.learning_rate,
        warmup: recipe.steps.div_ceil(20),
        steps: recipe.steps,
    };
    let anchor = match recipe.anchor > 0.0 {
        true => Some(tower.class_features(initial.view(), &layout.suffixes)?),
        false => None,
    };
    let mut rng = Rng::with_stream(recipe.seed, DROPOUT_STREAM);
    let mut optimizers = Optimizers::new(&delta, unit);
    let mut history = Vec::with_capacity(recipe.steps);

    for step in 0..recipe.steps {
        let mask = dropout_mask(initial.dim(), recipe.dropout, &mut rng);
        let context = initial + &(delta.matrix() * &mask);
        let (texts, tape) = tower.forward(context.view(), &layout.suffixes, memory)?;
        let mut report = cross_entropy(shots.features, shots.labels, texts.view(), scale);
        if !report.loss.is_finite() {
            return Err(AdaptError::Diverged { step });
        }
        if let Some(anchor) = &anchor {
            report
                .text_gradient
                .scaled_add(-recipe.anchor / texts.nrows() as f32, anchor);
        }
        let context_gradient = tower.backward(&tape, report.text_gradient.view()) * &mask;
        optimizers.step(&mut delta, &context_gradient, schedule.rate(step));
        shrink(&mut delta, 1.0 - schedule.rate(step) * recipe.decay);

        let report = StepReport {
            step: step + 1,
            steps: recipe.steps,
            loss: report.loss,
            accuracy: report.accuracy,
        };
        history.push(report);
        if progress(&report).is_break() {
            return Ok(Trained {
                delta,
                history,
                finished: false,
            });
        }
    }
    Ok(Trained {
        delta,
        history,
        finished: true,
    })
}

/// Shrinks the change; of two factors `v` alone, and their product with it.
fn shrink(delta: &mut Delta, by: f32) {
    match delta {
        Delta::LowRank(factors) => factors.v *= by,
        Delta::Full(table) => *table *= by,
    }
}

/// Keeps the dropout masks apart from other uses of the same seed.
const DROPOUT_STREAM: u64 = 0xd0;

/// Zero with probability `dropout`, else what keeps the mean at one.
fn dropout_mask(shape: (usize, usize), dropout: f32, rng: &mut Rng) -> Array2<f32> {
    if dropout <= 0.0 {
        return Array2::ones(shape);
    }
    let kept = 1.0 / (1.0 - dropout);
    Array2::from_shape_simple_fn(shape, || if rng.chance(dropout) { 0.0 } else { kept })
}

fn root_mean_square(table: &Array2<f32>) -> f32 {
    let mean = table.iter().map(|x| x * x).sum::<f32>() / table.len().max(1) as f32;
    // An all-zero start (the ablation without a template) still needs a scale: that of CLIP's embeddings.
    if mean > 0.0 { mean.sqrt() } else { 0.02 }
}

/// One Adam a trained table. `u` has no unit; `v` and the full table are in units of embeddings.
enum Optimizers {
    LowRank { u: Adam, v: Adam, unit: f32 },
    Full { table: Adam, unit: f32 },
}

impl Optimizers {
    fn new(delta: &Delta, unit: f32) -> Optimizers {
        match delta {
            Delta::LowRank(factors) => Optimizers::LowRank {
                u: Adam::new(factors.u.len()),
                v: Adam::new(factors.v.len()),
                unit,
            },
            Delta::Full(table) => Optimizers::Full {
                table: Adam::new(table.len()),
                unit,
            },
        }
    }

    /// One step against `gradient [n, d]`, the gradient of the loss with respect to `delta.matrix()`.
    fn step(&mut self, delta: &mut Delta, gradient: &Array2<f32>, rate: f32) {
        match (self, delta) {
            (Optimizers::LowRank { u, v, unit }, Delta::LowRank(factors)) => {
                let u_gradient = gradient.dot(&factors.v.t());
                let v_gradient = factors.u.t().dot(gradient);
                u.step(&mut factors.u, &u_gradient, rate);
                v.step(&mut factors.v, &v_gradient, rate * *unit);
            }
            (Optimizers::Full { table, unit }, Delta::Full(matrix)) => {
                table.step(matrix, gradient, rate * *unit)
            }
            _ => unreachable!("optimisers are made from the delta they step"),
        }
    }
}
