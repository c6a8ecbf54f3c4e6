//! What may be chosen about an adaptation: what is trained, how, and how it is judged.

use super::cross_fit::Answers;
use crate::clip::text_tower::DEFAULT_MEMORY;
use crate::prompt::Tuning;

/// What to train and how to judge it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// What of the prompt is tuned.
    pub tuning: Tuning,
    /// Rank of the factors, which only [`Tuning::Rlp`] has; none is [`USUAL_RANK`], or the context's tokens where those are
    /// fewer.
    pub rank: Option<usize>,
    /// What answers pictures in the end.
    pub answers: Answers,
    /// Which pictures judge.
    pub judging: Judging,
    /// Seed of the split, the factors and the dropout masks.
    pub seed: u64,
    /// What a training step may keep for its backward pass, in bytes; it changes time, not results.
    pub memory: usize,
    /// How it is trained.
    pub recipe: Recipe,
}

impl Options {
    /// The prompt alone, by `tuning`, as it is trained unless a user says otherwise; seed 0.
    pub fn of(tuning: Tuning) -> Options {
        Options {
            tuning,
            rank: None,
            answers: Answers::Prompt,
            judging: Judging::CrossFitted { parts: PARTS },
            seed: 0,
            memory: DEFAULT_MEMORY,
            recipe: Recipe::of(tuning),
        }
    }

    /// The same with another seed.
    pub fn with_seed(self, seed: u64) -> Options {
        Options { seed, ..self }
    }

    /// The same with another recipe.
    pub fn with_recipe(self, recipe: Recipe) -> Options {
        Options { recipe, ..self }
    }

    /// The same with other pictures to judge.
    pub fn with_judging(self, judging: Judging) -> Options {
        Options { judging, ..self }
    }

    /// The same with something else that answers.
    pub fn with_answers(self, answers: Answers) -> Options {
        Options { answers, ..self }
    }

    /// The same for so many `pictures` of so many `classes`: where most classes have one picture only, factors are held nearer to
    /// the template. With two and more nothing changes.
    pub(super) fn for_pictures(mut self, pictures: usize, classes: usize) -> Options {
        if self.tuning == Tuning::Rlp && pictures < 2 * classes {
            self.recipe.anchor *= SINGLE;
        }
        self
    }

    /// The rank of factors for a context of `tokens`.
    pub fn rank_for(&self, tokens: usize) -> usize {
        self.rank.unwrap_or(USUAL_RANK.min(tokens))
    }
}

/// The rank of the factors unless a user says otherwise.
pub const USUAL_RANK: usize = 4;
/// How much stronger factors are pulled towards the template where classes have one picture each (docs/results/adaptation.md).
const SINGLE: f32 = 4.0;
/// Parts that the pictures are divided into unless a user says otherwise.
const PARTS: usize = 3;

/// Which pictures say whether a prompt may stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judging {
    /// All: they are divided into so many parts, at least 2, and each part is judged by a prompt that is trained on the
    /// others. The prompt that stays is trained on all.
    CrossFitted {
        /// How many.
        parts: usize,
    },
    /// A share of each class's pictures, in `0..1`, which training never sees; with 0 those that train judge.
    HeldOut {
        /// Of the pictures.
        share: f32,
    },
}

/// How the prompt is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Recipe {
    /// Full-batch steps at most: evaluations of the loss and its gradient.
    pub steps: usize,
    /// Starts of the factors. Each is tried for a few of the steps, and the best goes on: with rank 1 the loss has
    /// several basins, which differ much.
    pub starts: usize,
    /// What turns gradients into steps.
    pub optimizer: Optimizer,
    /// Probability with which an element of the change to the context is dropped in a step.
    pub dropout: f32,
    /// Weight of the pull of the text features towards frozen ones (KgCoOp, arXiv 2303.13283); four times as much for factors
    /// that are trained on one picture a class.
    pub anchor: f32,
    /// What they are pulled towards.
    pub reference: Reference,
    /// Whether the pull counts a shift that is common to all labels.
    pub common_shift: CommonShift,
    /// Weight of half the squared length of the change, `v` of two factors, in units of the template's root mean square
    /// embedding.
    pub decay: f32,
    /// What raises the information density of the context, besides a low rank.
    pub density: Density,
}

/// What text features are pulled towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// Those of the template.
    Template,
    /// The mean of those of the template and of sixteen other sentences.
    Sentences,
}

/// What the pull makes of a shift that all labels have in common. It changes no answer among them, but every answer on
/// names that were not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommonShift {
    /// It is pulled back as any other.
    Held,
    /// It is subtracted first: labels are only held apart as they were.
    Free,
}

/// DIP's ways to raise the information density of the context (arXiv 2312.10813). All zero: none of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Density {
    /// Weight of `1 - ID_1`, the share of the spectrum outside its largest singular value.
    pub gain: f32,
    /// Weight of the singular values by their place: nothing for the first, all for the last, in units of the sum of the
    /// template's.
    pub tail: f32,
    /// Steps at the start in which the whole table is trained; the factors begin with its largest singular values.
    pub full_rank_steps: usize,
}

/// What turns gradients into steps (docs/results/optimiser.md compares them).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// L-BFGS: a full batch has no noise, and a few hundred numbers have a curvature that can be learnt.
    Lbfgs,
    /// Adam with this peak learning rate, in units of the template's root mean square embedding, so that one value
    /// serves every model. With dropout the loss is another one in every step: no line search, hence Adam.
    Adam {
        /// The peak of the learning rate.
        rate: f32,
    },
}

/// Adam's peak rate where there is dropout.
const ADAM_RATE: f32 = 0.3;

impl Recipe {
    /// What is used unless a user says otherwise. The pull towards the template belongs to RLP as we use it; CoOp, the
    /// baseline, has none.
    pub fn of(tuning: Tuning) -> Recipe {
        Recipe {
            steps: 200,
            starts: 4,
            optimizer: Optimizer::Lbfgs,
            dropout: 0.0,
            anchor: match tuning {
                Tuning::Rlp => 1.0,
                Tuning::Coop => 0.0,
            },
            reference: Reference::Template,
            common_shift: CommonShift::Held,
            // The most that costs no accuracy (docs/results/optimiser.md): without any, a change of little use grows freely.
            decay: match tuning {
                Tuning::Rlp => 3e-5,
                Tuning::Coop => 0.0,
            },
            density: Density::default(),
        }
    }

    /// The same with `dropout`; above zero it takes Adam, and the 600 steps that Adam takes.
    pub fn with_dropout(self, dropout: f32) -> Recipe {
        if dropout > 0.0 {
            Recipe {
                dropout,
                optimizer: Optimizer::Adam { rate: ADAM_RATE },
                steps: 600,
                starts: 1,
                ..self
            }
        } else {
            Recipe { dropout, ..self }
        }
    }

    /// What the text features are pulled towards, and how strongly.
    pub(super) fn pull(&self) -> (Reference, CommonShift, f32) {
        (self.reference, self.common_shift, self.anchor)
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
