//! The training loop: full batches of cached picture features, gradients through the text tower to the
//! factors, and an optimiser that makes much of each. Deterministic from its seed. It must not know where the pictures
//! came from nor whether the result will be kept.

use super::AdaptError;
use super::lbfgs::{Evaluated, Lbfgs};
use super::loss::cross_entropy;
use super::optimizer::{Adam, Schedule};
use crate::clip::{TextTower, TextTowerError};
use crate::prompt::{Delta, Factors, Method, TokenLayout, density};
use crate::rng::Rng;
use ndarray::{Array1, Array2, ArrayView2};
use std::ops::ControlFlow;

/// How the prompt is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Full-batch steps at most: evaluations of the loss and its gradient.
    pub steps: usize,
    /// Starts of the factors. Each is tried for a few of the steps, and the best goes on: with rank 1 the loss has
    /// several basins, which differ much.
    pub starts: usize,
    pub optimizer: Optimizer,
    /// Probability with which an element of the change to the context is dropped in a step.
    pub dropout: f32,
    /// Weight of the pull of the text features towards the template's (KgCoOp, arXiv 2303.13283).
    pub anchor: f32,
    /// Weight of half the squared length of the change, `v` of two factors, in units of the template's root mean square
    /// embedding.
    pub decay: f32,
    /// Seed of the dropout masks.
    pub seed: u64,
}

/// What turns gradients into steps (docs/training.md compares them).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// L-BFGS: a full batch has no noise, and a few hundred numbers have a curvature that can be learnt.
    Lbfgs,
    /// Adam with this peak learning rate, in units of the template's root mean square embedding, so that one value
    /// serves every model. With dropout the loss is another one in every step: no line search, hence Adam.
    Adam { rate: f32 },
}

/// The share of the steps in which L-BFGS tries each start: one in so many.
const TRIAL: usize = 13;
/// The first step of a search, in the units of [`Optimizer::Adam`].
const FIRST_STEP: f32 = 3.0;
/// The length of a start's `u` beside the square root of its tokens.
const START_LENGTH: f32 = 1.0;
/// Adam's peak rate where there is dropout.
const ADAM_RATE: f32 = 0.3;

impl Recipe {
    /// What is used for a method unless a user says otherwise. The pull towards the template belongs to RLP as
    /// we use it; CoOp, the baseline, has none.
    pub fn of(method: Method) -> Recipe {
        Recipe {
            steps: 200,
            starts: 4,
            optimizer: Optimizer::Lbfgs,
            dropout: 0.0,
            anchor: match method {
                Method::Rlp => 1.0,
                Method::Coop => 0.0,
            },
            // The most that costs no accuracy (docs/training.md): without any, a change of little use grows freely.
            decay: match method {
                Method::Rlp => 3e-5,
                Method::Coop => 0.0,
            },
            seed: 0,
        }
    }

    /// The same with `dropout`; above zero it takes Adam, and the 600 steps that Adam takes.
    pub fn with_dropout(self, dropout: f32) -> Recipe {
        match dropout > 0.0 {
            false => Recipe { dropout, ..self },
            true => Recipe {
                dropout,
                optimizer: Optimizer::Adam { rate: ADAM_RATE },
                steps: 600,
                starts: 1,
                ..self
            },
        }
    }

    /// In words, for the prompt file.
    pub fn in_words(&self) -> String {
        let Recipe {
            steps,
            starts,
            dropout,
            anchor,
            decay,
            ..
        } = self;
        let optimizer = match self.optimizer {
            Optimizer::Lbfgs => "l-bfgs".to_owned(),
            Optimizer::Adam { rate } => format!("adam at rate {rate}"),
        };
        format!(
            "{optimizer}, at most {steps} steps, starts {starts} along singular vectors of the first gradient, dropout \
             {dropout}, anchor {anchor}, decay {decay}"
        )
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

/// Where training may begin, each a change of exactly zero. The full table has one such start; of the factors `u` is
/// free, and takes left singular vectors of the gradient at the template: along the first the loss falls fastest.
///
/// # Errors
/// If the tower refuses the layout, or the rank does not fit it.
pub fn starts(
    objective: &Objective,
    method: Method,
    rank: usize,
    recipe: &Recipe,
) -> Result<Vec<Delta>, AdaptError> {
    let (tokens, width) = objective.initial.dim();
    let first = Delta::init(method, tokens, width, rank, recipe.seed)?;
    let Delta::LowRank(Factors { v, .. }) = &first else {
        return Ok(vec![first]);
    };
    if tokens > width {
        return Ok(vec![first]);
    }
    let (texts, tape) = objective.tower.forward(
        objective.initial.view(),
        &objective.layout.suffixes,
        objective.memory,
    )?;
    let shots = objective.shots;
    let report = cross_entropy(shots.features, shots.labels, texts.view(), objective.scale);
    let gradient = objective.tower.backward(&tape, report.text_gradient.view());
    let vectors = density::left_singular_vectors(gradient.view());
    let length = START_LENGTH * (tokens as f32).sqrt();
    // With as many factors as tokens, every choice spans the same.
    let count = if rank < tokens {
        recipe.starts.clamp(1, tokens)
    } else {
        1
    };
    let start = |from: usize| {
        let u = Array2::from_shape_fn((tokens, rank), |(token, factor)| {
            length * vectors[(from + factor) % tokens][token]
        });
        Delta::LowRank(Factors { u, v: v.clone() })
    };
    Ok((0..count).map(start).collect())
}

/// Trains a change to the context of `objective`, from each of `starts` for a while and from the best of them on.
///
/// `progress` is called after every step and may end training; what was reached by then is returned.
///
/// # Errors
/// If the tower refuses the layout, or the loss stops being a number. Panics without a start.
pub fn train(
    objective: &Objective,
    starts: &[Delta],
    recipe: &Recipe,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Trained, AdaptError> {
    let mut run = Run::new(objective, &starts[0], recipe, progress)?;
    let points: Vec<Array1<f32>> = starts.iter().map(|start| run.point_of(start)).collect();
    let (best, outcome) = match recipe.optimizer {
        Optimizer::Lbfgs => run.search(points),
        Optimizer::Adam { rate } => run.descend(points, rate),
    };
    let finished = match outcome {
        Ok(()) => true,
        Err(Halt::Stopped) => false,
        Err(Halt::Failed(error)) => return Err(error),
    };
    Ok(Trained {
        delta: run.delta_at(&best),
        history: run.history,
        finished,
    })
}

/// Why training ends before its steps are done.
enum Halt {
    Stopped,
    Failed(AdaptError),
}

impl From<TextTowerError> for Halt {
    fn from(error: TextTowerError) -> Halt {
        Halt::Failed(error.into())
    }
}

/// One training: the loss as a function of a flat list of numbers. `u` has no unit in it; `v` and the full table are in
/// units of embeddings.
struct Run<'a, 'o> {
    objective: &'a Objective<'o>,
    recipe: &'a Recipe,
    /// Of the form that is trained.
    form: &'a Delta,
    /// The root mean square of the template's embeddings.
    unit: f32,
    /// The template's features.
    anchor: Option<Array2<f32>>,
    rng: Rng,
    history: Vec<StepReport>,
    progress: &'a mut dyn FnMut(&StepReport) -> ControlFlow<()>,
}

impl<'a, 'o> Run<'a, 'o> {
    fn new(
        objective: &'a Objective<'o>,
        form: &'a Delta,
        recipe: &'a Recipe,
        progress: &'a mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Run<'a, 'o>, TextTowerError> {
        let Objective {
            tower,
            layout,
            initial,
            ..
        } = objective;
        let anchor = match recipe.anchor > 0.0 {
            true => Some(tower.class_features(initial.view(), &layout.suffixes)?),
            false => None,
        };
        Ok(Run {
            objective,
            recipe,
            form,
            unit: root_mean_square(initial),
            anchor,
            rng: Rng::with_stream(recipe.seed, DROPOUT_STREAM),
            history: Vec::with_capacity(recipe.steps),
            progress,
        })
    }

    /// Tries every start, then goes on with the best until the steps are done or nothing is gained.
    fn search(&mut self, starts: Vec<Array1<f32>>) -> (Vec<f32>, Result<(), Halt>) {
        let trial = match starts.len() {
            1 => self.recipe.steps,
            _ => self.recipe.steps.div_ceil(TRIAL),
        };
        let mut best: Option<Lbfgs> = None;
        let fallback = starts[0].to_vec();
        for start in starts {
            let begun = self.history.len();
            let start = start.to_vec();
            let first = self.evaluate(&start);
            let outcome = first.and_then(|first| {
                let mut search = Lbfgs::new(start, first, FIRST_STEP);
                let outcome = self.advance(&mut search, begun + trial);
                if best
                    .as_ref()
                    .is_none_or(|best| search.value() < best.value())
                {
                    best = Some(search);
                }
                outcome
            });
            if let Err(halt) = outcome {
                let reached = best.map_or(fallback, |best| best.point().to_vec());
                return (reached, Err(halt));
            }
        }
        let mut search = best.expect("there is a start");
        let outcome = self.advance(&mut search, self.recipe.steps);
        (search.point().to_vec(), outcome)
    }

    /// Goes on until `steps` steps of the whole training are done or nothing is gained.
    fn advance(&mut self, search: &mut Lbfgs, steps: usize) -> Result<(), Halt> {
        let steps = steps.min(self.recipe.steps);
        while self.history.len() < steps {
            let left = steps - self.history.len();
            if !search.iterate(left, &mut |point| self.evaluate(point))? {
                break;
            }
        }
        Ok(())
    }

    /// Adam from the first start: with dropout, a few steps tell little of a start.
    fn descend(&mut self, starts: Vec<Array1<f32>>, rate: f32) -> (Vec<f32>, Result<(), Halt>) {
        let mut point = starts[0].to_vec();
        let schedule = Schedule {
            peak: rate,
            warmup: self.recipe.steps.div_ceil(20),
            steps: self.recipe.steps,
        };
        let mut optimizer = Adam::new(point.len());
        for step in 0..self.recipe.steps {
            match self.evaluate(&point) {
                Ok((_, gradient)) => {
                    optimizer.step(&mut point, &gradient, schedule.rate(step));
                }
                Err(halt) => return (point, Err(halt)),
            }
        }
        (point, Ok(()))
    }

    /// The loss with the pull, and its gradient, at `point`: one step.
    fn evaluate(&mut self, point: &[f32]) -> Result<Evaluated, Halt> {
        let Objective {
            tower,
            layout,
            initial,
            shots,
            scale,
            memory,
        } = *self.objective;
        let step = self.history.len();
        let delta = self.delta_at(point);
        let mask = dropout_mask(initial.dim(), self.recipe.dropout, &mut self.rng);
        let context = initial + &(delta.matrix() * &mask);
        let (texts, tape) = tower.forward(context.view(), &layout.suffixes, memory)?;
        let mut report = cross_entropy(shots.features, shots.labels, texts.view(), scale);
        // A line search steps back from what is not a number; a start, or Adam, has nowhere to step back to.
        if !report.loss.is_finite() && (step == 0 || self.recipe.optimizer != Optimizer::Lbfgs) {
            return Err(Halt::Failed(AdaptError::Diverged { step }));
        }
        let mut value = report.loss;
        if let Some(anchor) = &self.anchor {
            let weight = self.recipe.anchor / texts.nrows() as f32;
            value += self.recipe.anchor - weight * (&texts * anchor).sum();
            report.text_gradient.scaled_add(-weight, anchor);
        }
        let gradient = tower.backward(&tape, report.text_gradient.view()) * &mask;
        let mut gradient = self.flat_gradient(&delta, &gradient);
        let from = self.decays_from();
        for (slope, x) in gradient[from..].iter_mut().zip(&point[from..]) {
            *slope += self.recipe.decay * x;
            value += 0.5 * self.recipe.decay * x * x;
        }
        let report = StepReport {
            step: step + 1,
            steps: self.recipe.steps,
            loss: report.loss,
            accuracy: report.accuracy,
        };
        self.history.push(report);
        match (self.progress)(&report) {
            ControlFlow::Continue(()) => Ok((value, gradient)),
            ControlFlow::Break(()) => Err(Halt::Stopped),
        }
    }

    /// Where the numbers begin that decay: of two factors `v` alone, and their product with it.
    fn decays_from(&self) -> usize {
        match self.form {
            Delta::LowRank(Factors { u, .. }) => u.len(),
            Delta::Full(_) => 0,
        }
    }

    fn point_of(&self, delta: &Delta) -> Array1<f32> {
        match delta {
            Delta::LowRank(Factors { u, v }) => {
                let v = v.iter().map(|x| x / self.unit);
                u.iter().copied().chain(v).collect()
            }
            Delta::Full(table) => table.iter().map(|x| x / self.unit).collect(),
        }
    }

    fn delta_at(&self, point: &[f32]) -> Delta {
        let matrix = |shape, numbers: &[f32], unit: f32| {
            ArrayView2::from_shape(shape, numbers)
                .expect("a point has the numbers of its form")
                .mapv(|x| x * unit)
        };
        match self.form {
            Delta::LowRank(Factors { u, v }) => {
                let (first, second) = point.split_at(u.len());
                Delta::LowRank(Factors {
                    u: matrix(u.dim(), first, 1.0),
                    v: matrix(v.dim(), second, self.unit),
                })
            }
            Delta::Full(table) => Delta::Full(matrix(table.dim(), point, self.unit)),
        }
    }

    /// From `gradient [n, d]`, the gradient with respect to `delta.matrix()`.
    fn flat_gradient(&self, delta: &Delta, gradient: &Array2<f32>) -> Vec<f32> {
        match delta {
            Delta::LowRank(Factors { u, v }) => {
                let (of_u, of_v) = (gradient.dot(&v.t()), u.t().dot(gradient) * self.unit);
                of_u.iter().chain(&of_v).copied().collect()
            }
            Delta::Full(_) => gradient.iter().map(|x| x * self.unit).collect(),
        }
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
