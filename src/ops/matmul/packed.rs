//! A constant matrix in the panels of a kernel, cut into pieces of some output channels each: the unit that one thread
//! works on, small enough that its products are finished while they are in the cache. It knows neither scales nor
//! activations.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;
use tract_core::internal::Tensor;
use tract_linalg::mmm::MMMInputValue;

use super::kernel::Kernel;

/// Rows of a matrix as a kernel reads them.
pub(super) type Panels = Box<dyn MMMInputValue>;

/// Output channels in a piece; how many of them a kernel wants side by side may make it more or fewer.
const CHANNELS: usize = 256;
/// Rows of the variable operand that are packed together.
const ROWS: usize = 256;

/// `W [out, in]`, packed.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    kernel: Kernel,
    pieces: Vec<Panels>,
    /// Output channels of every piece but the last.
    width: usize,
    out: usize,
    inner: usize,
}

impl Packed {
    /// Packs `[out, inner]` for `kernel`; `pack` yields the panels of some of its rows.
    pub fn new(
        kernel: Kernel,
        (out, inner): (usize, usize),
        pack: impl Fn(&Kernel, Range<usize>) -> Panels + Sync,
    ) -> Packed {
        let width = kernel.channels() * (CHANNELS / kernel.channels()).max(1);
        let ranges = pieces(out, width);
        let pieces = if rayon::current_num_threads() > 1 && ranges.len() > 1 {
            ranges
                .into_par_iter()
                .map(|range| pack(&kernel, range))
                .collect()
        } else {
            ranges
                .into_iter()
                .map(|range| pack(&kernel, range))
                .collect()
        };
        Packed {
            kernel,
            pieces,
            width,
            out,
            inner,
        }
    }

    pub fn dim(&self) -> (usize, usize) {
        (self.out, self.inner)
    }

    /// The piece that holds output channel `channel`, and where in it.
    pub fn piece(&self, channel: usize) -> (&Panels, usize) {
        (&self.pieces[channel / self.width], channel % self.width)
    }

    /// Writes `x Wᵀ [rows, out]` to `y`, every number of it. `pack` yields the panels of some rows of `x`, and what
    /// `finish` wants to know of them; `finish` makes the numbers of a piece of a row from the kernel's accumulators:
    /// it is given the block of rows, the row within it, and the column that the piece begins at. Equal for any number
    /// of threads. Panics where `y` is of another size.
    pub fn multiply<S: Sync + Send>(
        &self,
        rows: usize,
        pack: impl Fn(&Kernel, Range<usize>) -> (Panels, S) + Sync,
        finish: impl Fn(&Block<S>, usize, usize, &[u32], &mut [f32]) + Sync,
        y: &mut [MaybeUninit<f32>],
    ) {
        assert_eq!(
            y.len(),
            rows * self.out,
            "a product is written to memory of another size"
        );
        if y.is_empty() {
            return;
        }
        let parallel = rayon::current_num_threads() > 1;
        let block = |rows: Range<usize>| {
            let (panels, saved) = pack(&self.kernel, rows.clone());
            Block {
                rows,
                panels,
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
            width: self.out,
        };
        let task = |index: usize| {
            let (block, piece) = (
                &blocks[index / self.pieces.len()],
                index % self.pieces.len(),
            );
            let columns = piece * self.width..self.out.min((piece + 1) * self.width);
            let size = [block.rows.len(), columns.len()];
            with_tile(size, |tile| {
                // Kernels leave a sum of nothing as they find it: the tile was filled with zeros for that.
                if self.inner > 0 {
                    self.kernel.run(&*self.pieces[piece], &*block.panels, tile);
                }
                let products = accumulators(tile).chunks_exact(columns.len());
                for (row, products) in products.enumerate() {
                    // SAFETY: no other task has this piece of this row.
                    let y = unsafe { cells.piece(block.rows.start + row, &columns) };
                    finish(block, row, columns.start, products, y);
                }
            });
        };
        let tasks = blocks.len() * self.pieces.len();
        if parallel && tasks > 1 {
            (0..tasks).into_par_iter().for_each(task);
        } else {
            (0..tasks).for_each(task);
        }
    }
}

/// Rows of the variable operand that were packed together.
pub(super) struct Block<S> {
    pub rows: Range<usize>,
    panels: Panels,
    pub saved: S,
}

fn pieces(length: usize, step: usize) -> Vec<Range<usize>> {
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
