//! Which rows of a matrix belong together: a prefix that every sequence starts with, kept once, then what each
//! sequence adds to it.

use std::ops::Range;

/// The rows of many sequences, causal ones that share a prefix: first the prefix, then each sequence's own rows.
/// With an empty prefix, whole sequences one after the other, causal or not. Of the rows before the prefix, which do not belong to
/// this matrix, only keys and values are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLayout {
    before: usize,
    prefix: usize,
    /// The first own row of the sequence that each row after the prefix belongs to.
    starts: Vec<usize>,
    /// One past the last row that each row after the prefix sees.
    stops: Vec<usize>,
    ends: Vec<usize>,
    spans: Vec<Range<usize>>,
}

/// A sequence of which every row sees every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeSequence {
    /// How many rows it has.
    pub rows: usize,
    /// Where among them its feature is read.
    pub read: usize,
}

impl RowLayout {
    /// A prefix of `prefix` rows, then sequences that add `lengths` rows each.
    pub fn new(prefix: usize, lengths: impl IntoIterator<Item = usize>) -> RowLayout {
        RowLayout::after(0, prefix, lengths)
    }

    /// The same, where `before` rows of another matrix stand before the prefix.
    pub fn after(
        before: usize,
        prefix: usize,
        lengths: impl IntoIterator<Item = usize>,
    ) -> RowLayout {
        let mut layout = RowLayout {
            before,
            prefix,
            starts: Vec::new(),
            stops: Vec::new(),
            ends: Vec::new(),
            spans: Vec::new(),
        };
        for length in lengths {
            let start = layout.rows();
            layout.starts.extend(std::iter::repeat_n(start, length));
            layout.stops.extend(start + 1..=start + length);
            layout.ends.push(layout.rows().saturating_sub(1));
            layout.spans.push(start..start + length);
        }
        layout
    }

    /// Sequences that share nothing, one after the other, in each of which every row sees every other.
    pub fn whole(sequences: impl IntoIterator<Item = WholeSequence>) -> RowLayout {
        let mut layout = RowLayout::new(0, []);
        for WholeSequence { rows, read } in sequences {
            let start = layout.rows();
            layout.starts.extend(std::iter::repeat_n(start, rows));
            layout.stops.extend(std::iter::repeat_n(start + rows, rows));
            layout.ends.push(start + read);
            layout.spans.push(start..start + rows);
        }
        layout
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.prefix + self.starts.len()
    }

    /// How many of them are the shared prefix.
    pub fn prefix(&self) -> usize {
        self.prefix
    }

    /// How many rows of another matrix stand before them; every row sees these.
    pub fn before(&self) -> usize {
        self.before
    }

    /// The row of each sequence where a text's feature is read: CLIP's last one.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// The own rows of each sequence.
    pub fn sequences(&self) -> &[Range<usize>] {
        &self.spans
    }

    /// How many tokens stand before this row in its sequence.
    pub fn position(&self, row: usize) -> usize {
        let within = if row < self.prefix {
            row
        } else {
            self.prefix + row - self.starts[row - self.prefix]
        };
        self.before + within
    }

    /// The rows that a query at `row` sees: those of the prefix, then those of its own sequence.
    pub fn visible(&self, row: usize) -> [Range<usize>; 2] {
        if row < self.prefix {
            [0..row + 1, 0..0]
        } else {
            let own = row - self.prefix;
            [0..self.prefix, self.starts[own]..self.stops[own]]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_sees_the_prefix_and_its_own_past() {
        let layout = RowLayout::new(2, [1, 3]);
        assert_eq!((layout.rows(), layout.ends()), (6, &[2, 5][..]));
        assert_eq!(layout.visible(1), [0..2, 0..0]);
        assert_eq!(layout.visible(2), [0..2, 2..3]);
        assert_eq!(layout.visible(4), [0..2, 3..5]);
        let positions =
            |layout: &RowLayout| -> Vec<usize> { (0..6).map(|row| layout.position(row)).collect() };
        assert_eq!(positions(&layout), [0, 1, 2, 2, 3, 4]);
        let later = RowLayout::after(3, 2, [1, 3]);
        assert_eq!(positions(&later), [3, 4, 5, 5, 6, 7]);
        assert_eq!(later.visible(4), layout.visible(4));
    }

    #[test]
    fn whole_sequences_see_all_of_themselves_and_nothing_else() {
        let sequence = |rows, read| WholeSequence { rows, read };
        let layout = RowLayout::whole([sequence(2, 0), sequence(3, 1)]);
        assert_eq!((layout.rows(), layout.ends()), (5, &[0, 3][..]));
        for row in 0..5 {
            let own = if row < 2 { 0..2 } else { 2..5 };
            assert_eq!(layout.visible(row), [0..0, own]);
        }
        let positions: Vec<usize> = (0..5).map(|row| layout.position(row)).collect();
        assert_eq!(positions, [0, 1, 0, 1, 2]);
        assert_eq!(layout.sequences(), [0..2, 2..5]);
    }
}
