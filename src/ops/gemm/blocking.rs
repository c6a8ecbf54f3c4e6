//! A product divided into tiles of some rows and some output channels: the unit that one thread works on, small enough
//! that the epilogue finds its sums in the cache.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;
use tract_core::internal::Tensor;

use crate::ops::cells::{Cells, TileRows};

/// Rows of the variable operand that are packed together.
const ROWS: usize = 256;

/// How a product is divided.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub rows: usize,
    pub out: usize,
    /// Output channels of every tile but the last.
    pub width: usize,
}

/// Writes a product `[rows, out]` to `y`, every number of it, and the same for any number of threads. `pack` yields some
/// rows of the variable operand as the kernel reads them, and what `epilogue` needs to know of them; `sum` fills a tile
/// `[rows, columns]` with the sums of these rows and some output channels; `epilogue` computes a tile's part of the product
/// from these sums. Panics if `y` has another size.
pub(super) fn product<P: Sync + Send, S: Sync + Send>(
    sizes: Sizes,
    pack: impl Fn(Range<usize>) -> (P, S) + Sync,
    sum: impl Fn(&P, Range<usize>, &mut Tensor) + Sync,
    epilogue: impl Fn(&Block<P, S>, &[u32], TileRows) + Sync,
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
    let blocks = ranges(rows, ROWS);
    let blocks: Vec<_> = if parallel && blocks.len() > 1 {
        blocks.into_par_iter().map(block).collect()
    } else {
        blocks.into_iter().map(block).collect()
    };
    let cells = Cells::new(y, out);
    let tiles = ranges(out, width);
    let task = |index: usize| {
        let (block, columns) = (&blocks[index / tiles.len()], &tiles[index % tiles.len()]);
        with_tile([block.rows.len(), columns.len()], |tile| {
            sum(&block.packed, columns.clone(), tile);
            // SAFETY: no other task has these columns of these rows.
            let y = unsafe { cells.tile(block.rows.clone(), columns.clone()) };
            epilogue(block, accumulators(tile), y);
        });
    };
    let tasks = blocks.len() * tiles.len();
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
    /// What the epilogue needs to know of these rows.
    pub saved: S,
}

/// `0..length` in ranges of `step`; the last may be shorter.
pub(super) fn ranges(length: usize, step: usize) -> Vec<Range<usize>> {
    (0..length)
        .step_by(step)
        .map(|start| start..length.min(start + step))
        .collect()
}

/// Runs `work` with a matrix for a kernel's accumulators. Every thread keeps one, as allocating it for each product
/// would cost more than the product.
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
