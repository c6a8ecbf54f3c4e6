//! A product cut into pieces of some rows and some output channels each: the unit that one thread works on, small enough
//! that its sums are finished while they are in the cache. It knows neither kernels, scales nor activations.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;
use tract_core::internal::Tensor;

/// Rows of the variable operand that are packed together.
const ROWS: usize = 256;

/// How a product is cut.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub rows: usize,
    pub out: usize,
    /// Output channels of every piece but the last.
    pub width: usize,
}

/// Writes a product `[rows, out]` to `y`, every number of it. `pack` yields some rows of the variable operand as the
/// kernel reads them, and what `finish` wants to know of them; `sum` fills a tile `[rows, columns]` with the sums of
/// these rows and of a piece of the output channels; `finish` makes the numbers of one row of it: it is given the block
/// of rows, the row within it, and the column that the piece begins at. Equal for any number of threads. Panics where
/// `y` is of another size.
pub(super) fn product<P: Sync + Send, S: Sync + Send>(
    sizes: Sizes,
    pack: impl Fn(Range<usize>) -> (P, S) + Sync,
    sum: impl Fn(&P, Range<usize>, &mut Tensor) + Sync,
    finish: impl Fn(&Block<P, S>, usize, usize, &[u32], &mut [f32]) + Sync,
    y: &mut [MaybeUninit<f32>],
) {
    let Sizes { rows, out, width } = sizes;
    assert_eq!(
        y.len(),
        rows * out,
        "a product is written to memory of another size"
    );
    if y.is_empty() {
        return;
    }
    let parallel = rayon::current_num_threads() > 1;
    let block = |rows: Range<usize>| {
        let (packed, saved) = pack(rows.clone());
        Block {
            rows,
            packed,
            saved,
        }
    };
    let blocks = pieces(rows, ROWS);
    let blocks: Vec<_> = if parallel && blocks.len() > 1 {
        blocks.into_par_iter().map(block).collect()
    } else {
        blocks.into_iter().map(block).collect()
    };
    let cells = Cells {
        start: y.as_mut_ptr().cast(),
        width: out,
    };
    let pieces = pieces(out, width);
    let task = |index: usize| {
        let (block, columns) = (&blocks[index / pieces.len()], &pieces[index % pieces.len()]);
        with_tile([block.rows.len(), columns.len()], |tile| {
            sum(&block.packed, columns.clone(), tile);
            let products = accumulators(tile).chunks_exact(columns.len());
            for (row, products) in products.enumerate() {
                // SAFETY: no other task has this piece of this row.
                let y = unsafe { cells.piece(block.rows.start + row, columns) };
                finish(block, row, columns.start, products, y);
            }
        });
    };
    let tasks = blocks.len() * pieces.len();
    if parallel && tasks > 1 {
        (0..tasks).into_par_iter().for_each(task);
    } else {
        (0..tasks).for_each(task);
    }
}

/// Rows of the variable operand that were packed together.
pub(super) struct Block<P, S> {
    pub rows: Range<usize>,
    packed: P,
    pub saved: S,
}

/// `0..length` in ranges of `step`; the last may be shorter.
pub(super) fn pieces(length: usize, step: usize) -> Vec<Range<usize>> {
    (0..length)
        .step_by(step)
        .map(|start| start..length.min(start + step))
        .collect()
}

/// Runs `work` with a matrix for a kernel's accumulators. Every thread keeps one: the memory of a product that is asked
/// of the system anew each time costs more than the product.
fn with_tile([rows, columns]: [usize; 2], work: impl FnOnce(&mut Tensor)) {
    thread_local! {
        static TILE: RefCell<Tensor> = RefCell::default();
    }
    TILE.with_borrow_mut(|tile| {
        if tile.shape() != [rows, columns] {
            *tile = Tensor::zero::<i32>(&[rows, columns]).expect("memory for a tile");
        }
        work(tile);
    });
}

/// The numbers of a tile.
fn accumulators(tile: &Tensor) -> &[u32] {
    let numbers = tile.len();
    // SAFETY: a tile was filled with zeros when it was made, and holds i32 or f32, for both of which any bits of u32
    // are as good.
    unsafe { std::slice::from_raw_parts(tile.as_ptr_unchecked::<i32>().cast(), numbers) }
}

/// The numbers of a tile, to be written.
pub(super) fn accumulators_mut(tile: &mut Tensor) -> &mut [u32] {
    let numbers = tile.len();
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(tile.as_ptr_mut_unchecked::<i32>().cast(), numbers) }
}

/// The numbers of a product while several threads write it.
struct Cells {
    start: *mut f32,
    width: usize,
}

// SAFETY: threads reach it through `piece` alone, whose callers keep to disjoint pieces.
unsafe impl Send for Cells {}
// SAFETY: as above.
unsafe impl Sync for Cells {}

impl Cells {
    /// SAFETY: the piece lies within the product, nobody else has it, and it is written before it is read.
    #[allow(clippy::mut_from_ref)]
    unsafe fn piece(&self, row: usize, columns: &Range<usize>) -> &mut [f32] {
        // SAFETY: promised by the caller.
        unsafe {
            let start = self.start.add(row * self.width + columns.start);
            std::slice::from_raw_parts_mut(start, columns.len())
        }
    }
}
