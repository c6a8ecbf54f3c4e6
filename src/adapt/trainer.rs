//! The training loop: full batches of cached picture features, gradients through the text tower to the
//! factors, and an optimiser that makes much of each. Deterministic from its seed.

use super::adam::{Adam, Schedule};
use super::lbfgs::{Evaluated, Lbfgs};
use super::loss::{LossReport, cross_entropy};
use super::options::{Optimizer, Options};
use super::regularisers::{Pull, Spectrum};
use super::{AdaptError, Task};
use crate::clip::TextTower;
use crate::prompt::{Delta, Factors, density};
use crate::rng::Rng;
use ndarray::{Array1, Array2, ArrayView2};
use std::ops::ControlFlow;

/// The share of the steps in which L-BFGS tries each start: one in so many.
const TRIAL: usize = 13;
/// The first step of a search, in the units of [`Optimizer::Adam`].
const FIRST_STEP: f32 = 3.0;
/// The length of a start's `u` beside the square root of its tokens.
const START_LENGTH: f32 = 1.0;

/// Pictures ready for training: their features and what they show.
#[derive(Debug, Clone, Copy)]
pub struct Shots<'a> {
    /// L2-normalised image features, `[pictures, joint]`.
    pub features: ArrayView2<'a, f32>,
    /// A class index for each picture.
    pub labels: &'a [usize],
}

/// What is minimised: the loss of `shots` as a function of the context of `task`.
#[derive(Clone, Copy)]
pub struct Objective<'a> {
    /// The model, and the classes to tell apart.
    pub task: Task<'a>,
    /// The context that is changed, `[n, d]`: the template's, unless initialisation is what is studied.
    pub initial: &'a Array2<f32>,
    /// What is learnt from.
    pub shots: Shots<'a>,
}

impl Objective<'_> {
    fn tower(&self) -> &TextTower {
        &self.task.model.text
    }

    /// The tokens after the context, for each class.
    fn suffixes(&self) -> &[Vec<u32>] {
        &self.task.layout.suffixes
    }

    /// Cross-entropy of the shots where `change` is added to the context, in nats.
    ///
    /// # Errors
    /// If the tower refuses the layout.
    pub fn loss_at(&self, change: &Delta) -> Result<f32, AdaptError> {
        let context = self.initial + &change.matrix();
        let texts = self
            .tower()
            .class_features(context.view(), self.suffixes())?;
        Ok(self.loss(texts.view()).loss)
    }

    /// Cross-entropy of the shots against text features, `[classes, joint]`.
    fn loss(&self, texts: ArrayView2<f32>) -> LossReport {
        let Shots { features, labels } = self.shots;
        cross_entropy(features, labels, texts, self.task.model.logit_scale)
    }
}

/// Where training stands after a step.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
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

/// What a training came to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reached {
    /// The change to the context.
    pub delta: Delta,
    /// One report a step.
    pub history: Vec<StepReport>,
    /// Which of the starts it went on from; the full-rank path counts as the first.
    pub start: usize,
}

/// Hears of every training step, and may end the training. Called one at a time, perhaps on several threads.
pub type Progress<'a> = dyn FnMut(&StepReport) -> ControlFlow<()> + Send + 'a;

/// Where training may begin, each a change of exactly zero. The full table has one such start; of the factors `u` is
/// free, and takes left singular vectors of the gradient at the template: along the first the loss falls fastest.
///
/// # Errors
/// If the tower refuses the layout, or the rank does not fit it.
pub fn starts(objective: &Objective, options: &Options) -> Result<Vec<Delta>, AdaptError> {
    let (tokens, width) = objective.initial.dim();
    let rank = options.rank_for(tokens);
    let first = Delta::init(options.tuning, tokens, width, rank, options.seed)?;
    let Delta::LowRank(Factors { v, .. }) = &first else {
        return Ok(vec![first]);
    };
    if tokens > width {
        return Ok(vec![first]);
    }
    let tower = objective.tower();
    let context = objective.initial.view();
    let (texts, tape) = tower.forward(context, objective.suffixes(), options.memory)?;
    let report = objective.loss(texts.view());
    let gradient = tower.backward(&tape, report.text_gradient.view());
    let vectors = density::left_singular_vectors(gradient.view());
    let length = START_LENGTH * (tokens as f32).sqrt();
    // With as many factors as tokens, every choice spans the same.
    let count = if rank < tokens {
        options.recipe.starts.clamp(1, tokens)
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
/// # Errors
/// If the tower refuses the layout, the loss stops being a number, or `progress` ends the training.
///
/// # Panics
/// Without a start.
pub fn train(
    objective: &Objective,
    starts: &[Delta],
    options: &Options,
    progress: &mut Progress,
) -> Result<Reached, AdaptError> {
    let (mut starts, mut history) = (starts.to_vec(), Vec::new());
    let mut inserted = 0;
    if let (Some(Delta::LowRank(factors)), 1..) =
        (starts.first(), options.recipe.density.full_rank_steps)
    {
        let rank = factors.u.ncols();
        let (table, steps) = full_rank_path(objective, options, progress)?;
        starts.insert(0, Delta::LowRank(Factors::nearest(table.view(), rank)));
        inserted = 1;
        history = steps;
    }
    let mut run = Run::new(objective, &starts[0], options, progress)?;
    run.history = history;
    let points = starts.iter().map(|start| run.point_of(start)).collect();
    let (best, start) = run.from(points)?;
    Ok(Reached {
        delta: run.delta_at(&best),
        history: run.history,
        start: start.saturating_sub(inserted),
    })
}

/// The whole table after the first steps: DIP's full-rank path, which the factors then replace.
fn full_rank_path(
    objective: &Objective,
    options: &Options,
    progress: &mut Progress,
) -> Result<(Array2<f32>, Vec<StepReport>), AdaptError> {
    let form = Delta::Full(Array2::zeros(objective.initial.dim()));
    let mut run = Run::new(objective, &form, options, progress)?;
    run.end = options.recipe.density.full_rank_steps.min(run.end);
    let (best, _) = run.from(vec![run.point_of(&form)])?;
    Ok((run.delta_at(&best).matrix(), run.history))
}

/// One training: the loss as a function of a flat list of numbers. `u` has no unit in it; `v` and the full table are in
/// units of embeddings.
struct Run<'a, 'o> {
    objective: &'a Objective<'o>,
    options: &'a Options,
    /// A change of the form that is trained.
    form: &'a Delta,
    /// The root mean square of the template's embeddings.
    unit: f32,
    pull: Option<Pull>,
    spectrum: Option<Spectrum>,
    rng: Rng,
    /// The step that this ends with.
    end: usize,
    history: Vec<StepReport>,
    progress: &'a mut Progress<'a>,
}

impl<'a, 'o> Run<'a, 'o> {
    fn new(
        objective: &'a Objective<'o>,
        form: &'a Delta,
        options: &'a Options,
        progress: &'a mut Progress<'a>,
    ) -> Result<Run<'a, 'o>, AdaptError> {
        let (initial, recipe) = (objective.initial, &options.recipe);
        let pull = || Pull::new(&objective.task, initial, recipe.pull());
        Ok(Run {
            objective,
            options,
            form,
            unit: root_mean_square(initial),
            pull: (recipe.anchor > 0.0).then(pull).transpose()?,
            spectrum: Spectrum::new(recipe.density, initial.view()),
            rng: Rng::with_stream(options.seed, DROPOUT_STREAM),
            end: recipe.steps,
            history: Vec::with_capacity(recipe.steps),
            progress,
        })
    }

    /// The best point that is reached from `starts`, and from which of them.
    fn from(&mut self, starts: Vec<Array1<f32>>) -> Result<(Vec<f32>, usize), AdaptError> {
        match self.options.recipe.optimizer {
            Optimizer::Lbfgs => self.search(starts),
            Optimizer::Adam { rate } => Ok((self.descend(starts, rate)?, 0)),
        }
    }

    /// Tries every start, then goes on with the best until the steps are done or nothing is gained.
    fn search(&mut self, starts: Vec<Array1<f32>>) -> Result<(Vec<f32>, usize), AdaptError> {
        let steps = self.end;
        let trial = match starts.len() {
            1 => steps,
            _ => steps.div_ceil(TRIAL),
        };
        let mut best: Option<(Lbfgs, usize)> = None;
        for (place, start) in starts.into_iter().enumerate() {
            let begun = self.history.len();
            let start = start.to_vec();
            let first = self.evaluate(&start)?;
            let mut search = Lbfgs::new(start, first, FIRST_STEP);
            self.advance(&mut search, begun + trial)?;
            let better = |(best, _): &(Lbfgs, usize)| search.value() < best.value();
            if best.as_ref().is_none_or(better) {
                best = Some((search, place));
            }
        }
        let (mut search, place) = best.expect("there is a start");
        self.advance(&mut search, steps)?;
        Ok((search.point().to_vec(), place))
    }

    /// Goes on until `steps` steps of the whole training are done or nothing is gained.
    fn advance(&mut self, search: &mut Lbfgs, steps: usize) -> Result<(), AdaptError> {
        let steps = steps.min(self.end);
        while self.history.len() < steps {
            let left = steps - self.history.len();
            if !search.iterate(left, &mut |point| self.evaluate(point))? {
                break;
            }
        }
        Ok(())
    }

    /// Adam from the first start: with dropout, a few steps say little about a start.
    fn descend(&mut self, starts: Vec<Array1<f32>>, rate: f32) -> Result<Vec<f32>, AdaptError> {
        let steps = self.end - self.history.len();
        let schedule = Schedule {
            peak: rate,
            warmup: steps.div_ceil(20),
            steps,
        };
        let mut point = starts[0].to_vec();
        let mut optimizer = Adam::new(point.len());
        for step in 0..steps {
            let (_, gradient) = self.evaluate(&point)?;
            optimizer.step(&mut point, &gradient, schedule.rate(step));
        }
        Ok(point)
    }

    /// The loss with the pull, and its gradient, at `point`: one step.
    fn evaluate(&mut self, point: &[f32]) -> Result<Evaluated, AdaptError> {
        let (tower, initial) = (self.objective.tower(), self.objective.initial);
        let Options { memory, recipe, .. } = *self.options;
        let step = self.history.len();
        let delta = self.delta_at(point);
        let mask = dropout_mask(initial.dim(), recipe.dropout, &mut self.rng);
        let context = initial + &(delta.matrix() * &mask);
        let (texts, tape) = tower.forward(context.view(), self.objective.suffixes(), memory)?;
        let mut report = self.objective.loss(texts.view());
        // A line search steps back from what is not a number; a start, or Adam, has nowhere to step back to.
        if !report.loss.is_finite() && (step == 0 || recipe.optimizer != Optimizer::Lbfgs) {
            return Err(AdaptError::Diverged { step });
        }
        let mut value = report.loss;
        if let Some(pull) = &self.pull {
            value += pull.add(texts.view(), &mut report.text_gradient);
        }
        let mut gradient = tower.backward(&tape, report.text_gradient.view());
        if let Some(spectrum) = &self.spectrum {
            let (asked, slope) = spectrum.at(context.view());
            value += asked;
            gradient += &slope;
        }
        gradient *= &mask;
        let mut gradient = self.flat_gradient(&delta, &gradient);
        let from = self.decays_from();
        for (partial, x) in gradient[from..].iter_mut().zip(&point[from..]) {
            *partial += recipe.decay * x;
            value += 0.5 * recipe.decay * x * x;
        }
        let report = StepReport {
            step: step + 1,
            steps: recipe.steps,
            loss: report.loss,
            accuracy: report.accuracy,
        };
        self.history.push(report);
        match (self.progress)(&report) {
            ControlFlow::Continue(()) => Ok((value, gradient)),
            ControlFlow::Break(()) => Err(AdaptError::Stopped),
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
