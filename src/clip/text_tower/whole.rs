//! Texts of which every token sees every other: nothing is shared between them, so each is computed whole, with the
//! padding that it sees and without the padding that it does not.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};

use super::{
    Padding, Pass, Pooling, ROWS_A_PASS, Reading, Tape, TextTower, TextTowerError, passes,
};
use crate::ops::embedding::add_positions;
use crate::ops::{RowLayout, WholeSequence};

impl TextTower {
    /// How many rows a text of `tokens` tokens takes: its own, and the padding that they see.
    pub(super) fn whole_rows(&self, tokens: usize) -> usize {
        match self.reading {
            Reading::Whole {
                padding: Padding::Token(_),
                ..
            } => self.context_length(),
            _ => tokens,
        }
    }

    /// The features of texts after `context`, or of whole texts where there is none.
    pub(super) fn whole_features(
        &self,
        context: Option<ArrayView2<f32>>,
        texts: &[Vec<u32>],
    ) -> Result<Array2<f32>, TextTowerError> {
        let nothing = self.transformer.zero_keys_values(0);
        let mut features = Array2::zeros((texts.len(), self.joint_width));
        for pass in self.whole_passes(context, texts, ROWS_A_PASS)? {
            let (found, _) = self.transformer.features(pass.rows, &pass.layout, &nothing);
            features.slice_mut(s![pass.classes, ..]).assign(&found);
        }
        Ok(features)
    }

    /// [`TextTower::forward`] of such texts.
    pub(super) fn whole_forward(
        &self,
        context: ArrayView2<f32>,
        suffixes: &[Vec<u32>],
        memory: usize,
    ) -> Result<(Array2<f32>, Tape), TextTowerError> {
        let a_row = self.row_memory(context.nrows(), suffixes);
        let passes = self.whole_passes(Some(context), suffixes, memory / a_row)?;
        let nothing = self.transformer.zero_keys_values(0);
        let mut features = Array2::zeros((suffixes.len(), self.joint_width));
        let (last, earlier) = passes.split_last().expect("there is always a first pass");
        for pass in earlier {
            let (rows, to) = (pass.rows.clone(), s![pass.classes.clone(), ..]);
            let (found, _) = self.transformer.features(rows, &pass.layout, &nothing);
            features.slice_mut(to).assign(&found);
        }
        let (rows, layout) = (last.rows.clone(), last.layout.clone());
        let tape = self.transformer.forward(rows, layout, &nothing);
        let to = s![last.classes.clone(), ..];
        features.slice_mut(to).assign(&tape.features());
        let tape = Tape {
            shared: None,
            last: tape,
            context: context.nrows(),
            passes,
        };
        Ok((features, tape))
    }

    /// [`TextTower::backward`] of such texts: the gradient of the context is the sum over them.
    pub(super) fn whole_backward(&self, tape: &Tape, d_features: ArrayView2<f32>) -> Array2<f32> {
        let nothing = self.transformer.zero_keys_values(0);
        let mut d_context = Array2::zeros((tape.context, self.width()));
        for (index, pass) in tape.passes.iter().enumerate() {
            let again;
            let of_pass = if index + 1 == tape.passes.len() {
                &tape.last
            } else {
                let (rows, layout) = (pass.rows.clone(), pass.layout.clone());
                again = self.transformer.forward(rows, layout, &nothing);
                &again
            };
            let d_features = d_features.slice(s![pass.classes.clone(), ..]);
            let (mut none, every) = (self.transformer.zero_keys_values(0), 0..pass.rows.nrows());
            let d = self
                .transformer
                .backward(of_pass, &nothing, &mut none, every, d_features);
            for span in pass.layout.sequences() {
                let from = span.start + self.before(0);
                d_context += &d.slice(s![from..from + tape.context, ..]);
            }
        }
        d_context
    }

    /// The passes over `texts`, of at most `rows` rows or one text.
    fn whole_passes(
        &self,
        context: Option<ArrayView2<f32>>,
        texts: &[Vec<u32>],
        rows: usize,
    ) -> Result<Vec<Pass>, TextTowerError> {
        let before = match context {
            Some(context) => {
                self.check_width(context)?;
                self.before(context.nrows())
            }
            None => 0,
        };
        let context_length = self.context_length();
        for (text, ids) in texts.iter().enumerate() {
            let tokens = before + ids.len();
            if ids.is_empty() {
                return Err(TextTowerError::Empty { text });
            }
            if tokens > context_length {
                return Err(TextTowerError::TooLong {
                    text,
                    tokens,
                    context_length,
                });
            }
        }
        let lengths = texts.iter().map(|ids| self.whole_rows(before + ids.len()));
        let lengths: Vec<usize> = lengths.collect();
        let passes = passes(&lengths, 0, rows).into_iter();
        passes
            .map(|classes| self.whole_pass(context, texts, classes))
            .collect()
    }

    /// The rows of texts number `classes`, which are not too long, with their positions added.
    fn whole_pass(
        &self,
        context: Option<ArrayView2<f32>>,
        texts: &[Vec<u32>],
        classes: Range<usize>,
    ) -> Result<Pass, TextTowerError> {
        let before = context.map_or(0, |context| self.before(context.nrows()));
        let sequences = texts[classes.clone()].iter().map(|ids| {
            let tokens = before + ids.len();
            let rows = self.whole_rows(tokens);
            let at_end = match self.reading {
                Reading::Whole { pooling, .. } => pooling == Pooling::End,
                Reading::Causal => true,
            };
            let read = if at_end { tokens - 1 } else { rows - 1 };
            WholeSequence { rows, read }
        });
        let layout = RowLayout::whole(sequences);
        let mut rows = Array2::zeros((layout.rows(), self.width()));
        for (text, span) in classes.clone().zip(layout.sequences()) {
            let mut at = span.start;
            if let Some(context) = context {
                let start = self.start_token.as_slice();
                let own = at + start.len();
                self.fill(rows.slice_mut(s![at..own, ..]), text, start)?;
                at = own + context.nrows();
                rows.slice_mut(s![own..at, ..]).assign(&context);
            }
            let end = at + texts[text].len();
            self.fill(rows.slice_mut(s![at..end, ..]), text, &texts[text])?;
            if let Reading::Whole {
                padding: Padding::Token(token),
                ..
            } = self.reading
            {
                let padding = vec![token; span.end - end];
                self.fill(rows.slice_mut(s![end..span.end, ..]), text, &padding)?;
            }
        }
        add_positions(&mut rows, self.positions.view(), &layout);
        Ok(Pass {
            classes,
            rows,
            layout,
        })
    }
}
