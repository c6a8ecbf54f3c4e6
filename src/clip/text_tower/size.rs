//! What a training step takes, before it is taken.

use super::{Reading, TextTower};

impl TextTower {
    /// How many rows a training step of texts with these suffixes computes after a context of `context` rows.
    pub fn rows(&self, context: usize, suffixes: &[Vec<u32>]) -> usize {
        let own = |suffix: &Vec<u32>| match self.reading {
            Reading::Causal => suffix.len(),
            Reading::Whole { .. } => self.whole_rows(self.before(context) + suffix.len()),
        };
        let shared = match self.reading {
            Reading::Causal => self.before(context),
            Reading::Whole { .. } => 0,
        };
        shared + suffixes.iter().map(own).sum::<usize>()
    }

    /// The bytes that a training step of texts with these suffixes keeps and needs at most, in one pass.
    pub fn step_memory(&self, context: usize, suffixes: &[Vec<u32>]) -> usize {
        let rows = self.rows(context, suffixes);
        self.row_memory(context, suffixes).saturating_mul(rows)
    }

    /// The bytes that such a step keeps and needs at most for each of its rows.
    pub(super) fn row_memory(&self, context: usize, suffixes: &[Vec<u32>]) -> usize {
        let longest = suffixes.iter().map(Vec::len).max().unwrap_or(0);
        let seen = self.whole_rows(self.before(context) + longest);
        size_of::<f32>() * self.transformer.tape_numbers(1, seen)
    }
}
