//! Windows of a picture as the rows of a product, read where they lie: neighbours share most of their numbers, and a table of
//! all windows would be nine times as large as the picture.

use ndarray::Array2;

/// Rows that consist of lines of equal length.
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    numbers: &'a [f32],
    /// Windows across.
    across: usize,
    /// All windows.
    rows: usize,
    /// Numbers from one window to that below it, and to that beside it.
    steps: [usize; 2],
    lines: Lines,
}

/// The lines of a window.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    pub count: usize,
    /// Numbers of each.
    pub length: usize,
    /// Numbers from one to the next.
    pub stride: usize,
}

impl<'a> Windows<'a> {
    /// So many windows down and across in `numbers`. Panics if one of them reaches beyond.
    pub fn new(
        numbers: &'a [f32],
        [down, across]: [usize; 2],
        steps: [usize; 2],
        lines: Lines,
    ) -> Windows<'a> {
        let windows = Windows {
            numbers,
            across,
            rows: down * across,
            steps,
            lines,
        };
        if let Some(last) = windows.rows.checked_sub(1) {
            assert!(lines.count > 0 && windows.lines(last).all(|line| line.len() == lines.length));
        }
        windows
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a window.
    pub fn inner(&self) -> usize {
        self.lines.count * self.lines.length
    }

    /// Numbers of a line.
    pub(super) fn length(&self) -> usize {
        self.lines.length
    }

    /// The lines of a window.
    #[inline(always)]
    pub(super) fn lines(&self, row: usize) -> impl Iterator<Item = &'a [f32]> + Clone {
        let Lines {
            count,
            length,
            stride,
        } = self.lines;
        let start = row / self.across * self.steps[0] + row % self.across * self.steps[1];
        let window = &self.numbers[start..];
        (0..count).map(move |line| &window[line * stride..][..length])
    }

    /// A table of all windows.
    pub(super) fn gathered(&self) -> Array2<f32> {
        let mut all = Vec::with_capacity(self.rows * self.inner());
        for line in (0..self.rows).flat_map(|row| self.lines(row)) {
            all.extend_from_slice(line);
        }
        Array2::from_shape_vec((self.rows, self.inner()), all).expect("all windows were written")
    }
}
