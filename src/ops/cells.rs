//! A matrix that several threads write, each some of its rows and columns.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// The numbers of a matrix while they are written.
pub(crate) struct Cells<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    lent: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: threads access it only through `tile`, whose callers ask for disjoint tiles.
unsafe impl Send for Cells<'_> {}
// SAFETY: as above.
unsafe impl Sync for Cells<'_> {}

impl<'a> Cells<'a> {
    /// A matrix of rows of `width` numbers, one after the other.
    pub fn new(numbers: &'a mut [MaybeUninit<f32>], width: usize) -> Cells<'a> {
        Cells {
            start: numbers.as_mut_ptr().cast(),
            rows: numbers.len() / width.max(1),
            width,
            lent: PhantomData,
        }
    }

    /// Some rows and columns. Panics unless the matrix has them.
    ///
    /// # Safety
    /// No one else has any of these numbers, and each is written before it is read.
    pub unsafe fn tile(&self, rows: Range<usize>, columns: Range<usize>) -> TileRows<'_> {
        assert!(
            rows.end <= self.rows && columns.start <= columns.end && columns.end <= self.width,
            "a tile that the matrix does not have"
        );
        TileRows {
            cells: self,
            rows,
            columns,
        }
    }
}

/// Some rows and columns of a matrix, to be written.
pub(crate) struct TileRows<'a> {
    cells: &'a Cells<'a>,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

impl TileRows<'_> {
    /// The numbers of a row of the matrix. Panics if it is not one of the tile's.
    #[inline(always)]
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row), "a row of another tile");
        // SAFETY: whoever has the tile has these numbers, which lie within the matrix.
        unsafe {
            let start = row * self.cells.width + self.columns.start;
            std::slice::from_raw_parts_mut(self.cells.start.add(start), self.columns.len())
        }
    }
}
