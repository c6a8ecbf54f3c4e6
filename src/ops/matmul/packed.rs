//! A constant matrix in the panels of one of tract's kernels, in pieces of some output channels each. It knows neither
//! scales nor activations.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;
use tract_core::internal::Tensor;
use tract_linalg::mmm::MMMInputValue;

use super::kernel::Kernel;
use super::pieces::{Block, Sizes, pieces, product};

/// Rows of a matrix as a kernel reads them.
pub(super) type Panels = Box<dyn MMMInputValue>;

/// Output channels in a piece; how many of them a kernel wants side by side may make it more or fewer.
const CHANNELS: usize = 256;

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

    /// Writes `x Wᵀ [rows, out]` to `y`: [`product`] on this kernel.
    pub fn multiply<S: Sync + Send>(
        &self,
        rows: usize,
        pack: impl Fn(&Kernel, Range<usize>) -> (Panels, S) + Sync,
        finish: impl Fn(&Block<Panels, S>, usize, usize, &[u32], &mut [f32]) + Sync,
        y: &mut [MaybeUninit<f32>],
    ) {
        let sizes = Sizes {
            rows,
            out: self.out,
            width: self.width,
        };
        let sum = |x: &Panels, columns: Range<usize>, tile: &mut Tensor| {
            // Kernels leave a sum of nothing as they find it: the tile was filled with zeros for that.
            if self.inner > 0 {
                let piece = &self.pieces[columns.start / self.width];
                self.kernel.run(&**piece, &**x, tile);
            }
        };
        product(sizes, |rows| pack(&self.kernel, rows), sum, finish, y);
    }
}
