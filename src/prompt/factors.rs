//! The trained numbers: two low-rank factors (RLP, arXiv 2312.10813) or the full context table (CoOp, arXiv
//! 2109.01134), both as a change to the frozen template.

use super::density::{self, Triple};
use crate::rng::Rng;
use ndarray::{Array2, ArrayView2};
use std::fmt;
use std::str::FromStr;

/// Standard deviation of the factor that does not start at zero, about that of CLIP's token embeddings.
pub const INIT_STD: f32 = 1.0;

/// What of the prompt is tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// RLP: two factors of low rank.
    Rlp,
    /// CoOp: the whole context table, the baseline.
    Coop,
}

impl Tuning {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Tuning::Rlp => "rlp",
            Tuning::Coop => "coop",
        }
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Tuning {
    type Err = FactorsError;

    fn from_str(name: &str) -> Result<Tuning, FactorsError> {
        [Tuning::Rlp, Tuning::Coop]
            .into_iter()
            .find(|tuning| tuning.name() == name)
            .ok_or_else(|| FactorsError::UnknownMethod {
                name: name.to_owned(),
            })
    }
}

/// Why factors cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FactorsError {
    /// A rank is 0, or more than the smaller side of the context.
    #[error("rank {rank} does not fit a context of {tokens} tokens of width {width}: choose a rank from 1 to {}", tokens.min(width))]
    Rank {
        /// The rank as it was given.
        rank: usize,
        /// Rows of the context.
        tokens: usize,
        /// Numbers in a row.
        width: usize,
    },
    /// There is no such way of tuning.
    #[error("there is no method {name:?}: choose rlp or coop")]
    UnknownMethod {
        /// The name as it was given.
        name: String,
    },
}

/// The two factors of a change of rank r to an `[n, d]` context.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// `[n, r]`, one row a context token.
    pub u: Array2<f32>,
    /// `[r, d]`, one column a dimension of the text tower.
    pub v: Array2<f32>,
}

impl Factors {
    /// Factors whose product is exactly zero, so that training starts at the zero-shot template: `u` is small
    /// and normal, drawn from `seed`, and `v` is zero. (The other way round, the first step could only move
    /// the context along the random rows of `v`.)
    ///
    /// # Errors
    /// If `rank` is not from 1 to the smaller of `tokens` and `width`.
    pub fn init(
        tokens: usize,
        width: usize,
        rank: usize,
        seed: u64,
    ) -> Result<Factors, FactorsError> {
        if rank == 0 || rank > tokens.min(width) {
            return Err(FactorsError::Rank {
                rank,
                tokens,
                width,
            });
        }
        let mut rng = Rng::new(seed);
        let u = Array2::from_shape_simple_fn((tokens, rank), || INIT_STD * rng.normal());
        Ok(Factors {
            u,
            v: Array2::zeros((rank, width)),
        })
    }

    /// The factors of `rank` whose product is nearest to `table [n, d]`, `n <= d`: `u` is as long as training begins with.
    ///
    /// # Panics
    /// If `rank` is above n.
    pub fn nearest(table: ArrayView2<f32>, rank: usize) -> Factors {
        let (tokens, width) = table.dim();
        let length = (tokens as f64).sqrt();
        let triples = density::singular_triples(table);
        let u = |(token, factor): (usize, usize)| (length * triples[factor].left[token]) as f32;
        let v = |(factor, column): (usize, usize)| {
            let Triple { value, right, .. } = &triples[factor];
            (value / length * right[column]) as f32
        };
        Factors {
            u: Array2::from_shape_fn((tokens, rank), u),
            v: Array2::from_shape_fn((rank, width), v),
        }
    }

    /// `U V`, `[n, d]`.
    pub fn product(&self) -> Array2<f32> {
        self.u.dot(&self.v)
    }

    /// How many numbers are trained: `n r + r d`.
    pub fn parameters(&self) -> usize {
        self.u.len() + self.v.len()
    }
}

/// The trained change to the context: `P = P_init + delta.matrix()`.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// RLP: the product of two factors.
    LowRank(Factors),
    /// CoOp: any `[n, d]` table.
    Full(Array2<f32>),
}

impl Delta {
    /// A change of exactly zero, ready to be trained. `rank` and `seed` matter to [`Tuning::Rlp`] only.
    ///
    /// # Errors
    /// As [`Factors::init`].
    pub fn init(
        tuning: Tuning,
        tokens: usize,
        width: usize,
        rank: usize,
        seed: u64,
    ) -> Result<Delta, FactorsError> {
        match tuning {
            Tuning::Rlp => Factors::init(tokens, width, rank, seed).map(Delta::LowRank),
            Tuning::Coop => Ok(Delta::Full(Array2::zeros((tokens, width)))),
        }
    }

    /// The change as a table, `[n, d]`.
    pub fn matrix(&self) -> Array2<f32> {
        match self {
            Delta::LowRank(factors) => factors.product(),
            Delta::Full(table) => table.clone(),
        }
    }

    /// `(n, d)`: context tokens and width.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Delta::LowRank(factors) => (factors.u.nrows(), factors.v.ncols()),
            Delta::Full(table) => table.dim(),
        }
    }

    /// The greatest rank the change can have.
    pub fn rank(&self) -> usize {
        match self {
            Delta::LowRank(factors) => factors.u.ncols(),
            Delta::Full(table) => table.nrows().min(table.ncols()),
        }
    }

    /// How many numbers were trained.
    pub fn parameters(&self) -> usize {
        match self {
            Delta::LowRank(factors) => factors.parameters(),
            Delta::Full(table) => table.len(),
        }
    }

    /// Which tuning this form belongs to.
    pub fn tuning(&self) -> Tuning {
        match self {
            Delta::LowRank(_) => Tuning::Rlp,
            Delta::Full(_) => Tuning::Coop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_starts_at_the_template_with_something_to_move() {
        let factors = Factors::init(4, 512, 1, 7).unwrap();
        assert_eq!(factors.product(), Array2::<f32>::zeros((4, 512)));
        assert!(factors.u.iter().all(|x| *x != 0.0));
        assert_eq!(factors.parameters(), 516);
        assert_eq!(
            Delta::init(Tuning::Coop, 4, 512, 1, 7)
                .unwrap()
                .parameters(),
            2048
        );
    }

    #[test]
    fn the_nearest_factors_leave_what_the_smaller_singular_values_hold() {
        let mut rng = Rng::new(8);
        let table = Array2::from_shape_simple_fn((4, 7), || rng.normal());
        let values = density::singular_values(table.view());
        for rank in 1..=4 {
            let left = &table - &Factors::nearest(table.view(), rank).product();
            let expected: f32 = values[rank..].iter().map(|value| value * value).sum();
            let found: f32 = left.iter().map(|x| x * x).sum();
            assert!(
                (found - expected).abs() < 1e-4,
                "{rank}: {found} {expected}"
            );
        }
    }

    #[test]
    fn a_seed_gives_the_same_factors_every_time() {
        assert_eq!(Factors::init(4, 16, 2, 3), Factors::init(4, 16, 2, 3));
        assert_ne!(Factors::init(4, 16, 2, 3), Factors::init(4, 16, 2, 4));
    }

    #[test]
    fn a_rank_above_the_context_is_refused_in_a_sentence() {
        let message = Factors::init(4, 512, 5, 0).unwrap_err().to_string();
        assert_eq!(
            message,
            "rank 5 does not fit a context of 4 tokens of width 512: choose a rank from 1 to 4"
        );
        assert!(Factors::init(4, 512, 0, 0).is_err());
        assert!(Factors::init(4, 512, 4, 0).is_ok());
    }

    #[test]
    fn methods_are_read_by_name() {
        assert_eq!("coop".parse(), Ok(Tuning::Coop));
        assert_eq!("rlp".parse(), Ok(Tuning::Rlp));
        assert!(
            "RLP2"
                .parse::<Tuning>()
                .unwrap_err()
                .to_string()
                .contains("RLP2")
        );
    }
}
