//! A constant matrix packed into the panels of one of tract's kernels, in chunks of some output channels.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;
use tract_core::internal::Tensor;
use tract_linalg::mmm::MMMInputValue;

use super::blocking::{Block, Sizes, product, ranges};
use super::kernel::Kernel;
use crate::ops::cells::TileRows;

/// Rows of a matrix as a kernel reads them.
pub(super) type Panels = Box<dyn MMMInputValue>;

/// Output channels in a chunk, before rounding to whole panels of the kernel.
const CHANNELS: usize = 256;

/// `W [out, in]`, packed.
#[derive(Clone, Debug)]
pub(super) struct PackedMatrix {
    kernel: Kernel,
    chunks: Vec<Panels>,
    /// Output channels of every chunk but the last.
    width: usize,
    out: usize,
    inner: usize,
}

impl PackedMatrix {
    /// Packs `[out, inner]` for `kernel`; `pack` yields the panels of some of its rows.
    pub fn new(
        kernel: Kernel,
        (out, inner): (usize, usize),
        pack: impl Fn(&Kernel, Range<usize>) -> Panels + Sync,
    ) -> PackedMatrix {
        let width = kernel.channels() * (CHANNELS / kernel.channels()).max(1);
        let ranges = ranges(out, width);
        let chunks = if rayon::current_num_threads() > 1 && ranges.len() > 1 {
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
        PackedMatrix {
            kernel,
            chunks,
            width,
            out,
            inner,
        }
    }

    pub fn dim(&self) -> (usize, usize) {
        (self.out, self.inner)
    }

    /// The chunk that holds output channel `channel`, and its index there.
    pub fn chunk(&self, channel: usize) -> (&Panels, usize) {
        (&self.chunks[channel / self.width], channel % self.width)
    }

    /// Writes `x Wᵀ [rows, out]` to `y`: [`product`] on this kernel.
    pub fn multiply<S: Sync + Send>(
        &self,
        rows: usize,
        pack: impl Fn(&Kernel, Range<usize>) -> (Panels, S) + Sync,
        epilogue: impl Fn(&Block<Panels, S>, &[u32], TileRows) + Sync,
        y: &mut [MaybeUninit<f32>],
    ) {
        let sizes = Sizes {
            rows,
            out: self.out,
            width: self.width,
        };
        let sum = |x: &Panels, columns: Range<usize>, tile: &mut Tensor| {
            // Kernels leave an empty sum as they find it, and the tile holds zeros.
            if self.inner > 0 {
                let chunk = &self.chunks[columns.start / self.width];
                self.kernel.run(&**chunk, &**x, tile);
            }
        };
        product(sizes, |rows| pack(&self.kernel, rows), sum, epilogue, y);
    }
}
