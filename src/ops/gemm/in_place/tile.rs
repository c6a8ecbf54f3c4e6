//! The loop that all kernels with a vector of output channels share: a few rows are multiplied with a few output
//! channels, while the sums stay in registers. Instructions differ in how many channels a vector has.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::{PANEL, Prefetch, TileInputs, TileOutputs, Vector};

/// Vectors of sums for each row.
pub(super) const WIDE: usize = 2;

/// What one set of instructions does. Unsafe: the CPU must have them, and pointers must be good for what is said.
pub(super) trait Instructions {
    /// A quantised number as rows hold it.
    type Input: Copy;
    type Vector: Copy;

    /// Output channels in a vector.
    const CHANNELS: usize;

    /// What the sums of a row begin at.
    unsafe fn start(start: i32) -> Self::Vector;

    /// Four weights of each channel, from `4 * CHANNELS` bytes of a panel.
    unsafe fn weights(at: *const u8) -> Self::Vector;

    /// Four numbers of a row, for each channel.
    unsafe fn inputs(at: *const Self::Input) -> Self::Vector;

    /// `sum + weights * inputs`
    unsafe fn add(sum: Self::Vector, weights: Self::Vector, inputs: Self::Vector) -> Self::Vector;

    /// Writes the sums of `WIDE * CHANNELS` channels.
    unsafe fn store(sums: [Self::Vector; WIDE], to: *mut u32);
}

/// A [`super::Tile`] of `ROWS` rows, to be inlined where the instructions are enabled.
///
/// # Safety
/// The CPU has the instructions.
#[inline(always)]
pub(super) unsafe fn tile<I: Instructions, const ROWS: usize>(
    panel: &[Vector],
    x: TileInputs<I::Input>,
    y: TileOutputs,
    prefetch: Prefetch,
) {
    let width = WIDE * I::CHANNELS;
    let groups = size_of_val(panel) / (4 * PANEL);
    assert!(
        x.starts.len() == ROWS
            && x.stride == 4 * groups
            && x.values.len() == ROWS * x.stride
            && y.channels <= PANEL
            && PANEL.is_multiple_of(width)
            && y.sums.len() >= (ROWS - 1) * y.stride + y.channels
    );
    let mut ahead = prefetch.start;
    for first in (0..y.channels).step_by(width) {
        // SAFETY: the CPU has the instructions. `group` is below the number of groups in the panel and in each row, and
        // `first` plus the width is at most the panel's channels, as asserted.
        let sums = unsafe {
            let mut sums = [[I::start(0); WIDE]; ROWS];
            for (sums, &start) in sums.iter_mut().zip(x.starts) {
                *sums = [I::start(start); WIDE];
            }
            let panel = panel.as_ptr().cast::<u8>().add(4 * first);
            for group in 0..groups {
                _mm_prefetch::<_MM_HINT_T0>(ahead);
                ahead = ahead.wrapping_add(prefetch.step);
                let at = panel.add(group * 4 * PANEL);
                let weights = [I::weights(at), I::weights(at.add(4 * I::CHANNELS))];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let inputs = I::inputs(x.values.as_ptr().add(row * x.stride + 4 * group));
                    for (sum, &weights) in sums.iter_mut().zip(&weights) {
                        *sum = I::add(*sum, weights, inputs);
                    }
                }
            }
            sums
        };
        let channels = width.min(y.channels - first);
        for (row, sums) in sums.into_iter().enumerate() {
            let to = &mut y.sums[row * y.stride + first..][..channels];
            // SAFETY: there is room for a panel's channels, which are no fewer than the width, or for the width.
            unsafe {
                if channels == width {
                    I::store(sums, to.as_mut_ptr());
                } else {
                    let mut all = [0; PANEL];
                    I::store(sums, all.as_mut_ptr());
                    to.copy_from_slice(&all[..channels]);
                }
            }
        }
    }
}
