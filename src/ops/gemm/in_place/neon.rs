//! The kernels for aarch64. With the dot product of ARMv8.2, four products are summed at a time, and one number of a row is
//! a lane of a vector. Without it, sixteen products of a row and a channel are summed in pairs of sixteen bits: no sum of
//! two is beyond them, as rows have no -128.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};
use std::ops::Range;

use tract_linalg::isa::{self, Isa};

use super::{
    Functions, InPlace, PANEL, Prefetch, TileInputs, TileOutputs, Tiles, Vector, interleave,
};

/// The kernels of this CPU, the likely fastest first.
pub(super) fn all() -> Vec<InPlace> {
    // tract can be told to do without, and then this does, too.
    let dot = isa::native().has(Isa::Aarch64DotProd) && is_aarch64_feature_detected!("dotprod");
    let kernels = [(&DOT, dot), (&NEON, true)];
    let here = kernels.into_iter().filter(|(_, here)| *here);
    here.map(|(kernel, _)| InPlace(kernel)).collect()
}

static DOT: Functions = Functions {
    name: "neondot_in_place_5x16",
    depth: 4,
    step: 16,
    stride: |filled| filled,
    passes: PANEL / 16,
    unsigned: false,
    tiles: Tiles::Bytes(&[
        dot_tile::<1>,
        dot_tile::<2>,
        dot_tile::<3>,
        dot_tile::<4>,
        dot_tile::<5>,
    ]),
    interleave: lines::<4>,
    interleave_columns: columns::<4>,
    finish: None,
};

static NEON: Functions = Functions {
    name: "neon_in_place_5x4",
    depth: 16,
    step: 16,
    stride: |filled| filled,
    passes: PANEL / 4,
    unsigned: false,
    tiles: Tiles::Bytes(&[tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>]),
    interleave: lines::<16>,
    interleave_columns: columns::<16>,
    finish: None,
};

fn lines<const DEPTH: usize>(lines: &[&[i8]], panel: &mut [Vector]) {
    interleave::lines::<DEPTH>(lines, panel, 0);
}

fn columns<const DEPTH: usize>(
    lines: &[i8],
    length: usize,
    channels: Range<usize>,
    panel: &mut [Vector],
) {
    interleave::columns::<DEPTH>(lines, length, channels, panel, 0);
}

/// Panics unless rows, panel and sums have the sizes that a tile of `rows` rows reads and writes; returns how many times
/// sixteen inputs there are.
fn sixteens(panel: &[Vector], x: &TileInputs<i8>, y: &TileOutputs, rows: usize) -> usize {
    let count = size_of_val(panel) / (16 * PANEL);
    assert!(
        x.starts.len() == rows
            && x.stride == 16 * count
            && x.values.len() == rows * x.stride
            && y.channels <= PANEL
            && y.sums.len() >= (rows - 1) * y.stride + y.channels
    );
    count
}

/// Writes as many of `sums` as there is room for.
fn store(sums: int32x4_t, to: &mut [u32]) {
    let mut four = [0; 4];
    // SAFETY: there is room for four numbers.
    unsafe { vst1q_s32(four.as_mut_ptr(), sums) };
    to.iter_mut()
        .zip(four)
        .for_each(|(to, sum)| *to = sum as u32);
}

fn tile<const ROWS: usize>(
    panel: &[Vector],
    x: TileInputs<i8>,
    mut y: TileOutputs,
    _prefetch: Prefetch,
) {
    const CHANNELS: usize = 4;
    let count = sixteens(panel, &x, &y, ROWS);
    for first in (0..y.channels).step_by(CHANNELS) {
        // SAFETY: `group` is below the number of groups in the panel and in each row, as asserted, and four channels from
        // `first` on lie within the panel.
        let sums = unsafe {
            let mut sums = [[vdupq_n_s32(0); CHANNELS]; ROWS];
            let panel = panel.as_ptr().cast::<i8>().add(16 * first);
            let row = |row| x.values.as_ptr().wrapping_add(row * x.stride);
            let mut rows: [*const i8; ROWS] = std::array::from_fn(row);
            for group in 0..count {
                let at = panel.add(group * 16 * PANEL);
                let weights = [
                    vld1q_s8(at),
                    vld1q_s8(at.add(16)),
                    vld1q_s8(at.add(32)),
                    vld1q_s8(at.add(48)),
                ];
                for (sums, inputs) in sums.iter_mut().zip(&mut rows) {
                    add_products(sums, &weights, inputs);
                }
            }
            sums.map(|[a, b, c, d]| vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)))
        };
        write(&mut y, first, &sums.map(|sums| [sums]));
    }
}

/// Adds the products of sixteen inputs and the weights of four channels, and goes on to the next inputs. The intrinsics would do,
/// but are scheduled so far apart that the sums of five rows no longer fit the registers.
///
/// # Safety
/// There are sixteen inputs.
#[inline(always)]
unsafe fn add_products(
    sums: &mut [int32x4_t; 4],
    weights: &[int8x16_t; 4],
    inputs: &mut *const i8,
) {
    let [a, b, c, d] = sums;
    // SAFETY: arithmetic that every aarch64 has, and a load of what the caller promises.
    unsafe {
        asm!(
            "ldr {x:q}, [{inputs}], #16",
            "smull {e:v}.8h, {x:v}.8b, {p:v}.8b",
            "smull {f:v}.8h, {x:v}.8b, {q:v}.8b",
            "smull {g:v}.8h, {x:v}.8b, {r:v}.8b",
            "smull {h:v}.8h, {x:v}.8b, {s:v}.8b",
            "smlal2 {e:v}.8h, {x:v}.16b, {p:v}.16b",
            "smlal2 {f:v}.8h, {x:v}.16b, {q:v}.16b",
            "smlal2 {g:v}.8h, {x:v}.16b, {r:v}.16b",
            "smlal2 {h:v}.8h, {x:v}.16b, {s:v}.16b",
            "sadalp {a:v}.4s, {e:v}.8h",
            "sadalp {b:v}.4s, {f:v}.8h",
            "sadalp {c:v}.4s, {g:v}.8h",
            "sadalp {d:v}.4s, {h:v}.8h",
            a = inout(vreg) *a,
            b = inout(vreg) *b,
            c = inout(vreg) *c,
            d = inout(vreg) *d,
            e = out(vreg) _,
            f = out(vreg) _,
            g = out(vreg) _,
            h = out(vreg) _,
            p = in(vreg) weights[0],
            q = in(vreg) weights[1],
            r = in(vreg) weights[2],
            s = in(vreg) weights[3],
            x = out(vreg) _,
            inputs = inout(reg) *inputs,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
}

fn dot_tile<const ROWS: usize>(
    panel: &[Vector],
    x: TileInputs<i8>,
    mut y: TileOutputs,
    _prefetch: Prefetch,
) {
    const WIDE: usize = 4;
    let count = sixteens(panel, &x, &y, ROWS);
    for first in (0..y.channels).step_by(4 * WIDE) {
        // SAFETY: as above, for sixteen channels; whoever has the kernel has its instructions.
        let sums = unsafe {
            let mut sums = [[vdupq_n_s32(0); WIDE]; ROWS];
            let panel = panel.as_ptr().cast::<i8>().add(4 * first);
            for group in 0..count {
                let mut inputs = [vdupq_n_s8(0); ROWS];
                for (row, inputs) in inputs.iter_mut().enumerate() {
                    *inputs = vld1q_s8(x.values.as_ptr().add(row * x.stride + 16 * group));
                }
                let at = panel.add(group * 16 * PANEL);
                dots::<0, ROWS, WIDE>(&mut sums, at, &inputs);
                dots::<1, ROWS, WIDE>(&mut sums, at, &inputs);
                dots::<2, ROWS, WIDE>(&mut sums, at, &inputs);
                dots::<3, ROWS, WIDE>(&mut sums, at, &inputs);
            }
            sums
        };
        write(&mut y, first, &sums);
    }
}

/// Adds the products of four inputs, the `GROUP`th of four groups from `at` on.
///
/// # Safety
/// The CPU has the dot product, and there are four groups at `at`.
#[inline(always)]
unsafe fn dots<const GROUP: usize, const ROWS: usize, const WIDE: usize>(
    sums: &mut [[int32x4_t; WIDE]; ROWS],
    at: *const i8,
    inputs: &[int8x16_t; ROWS],
) {
    for wide in 0..WIDE {
        // SAFETY: promised by the caller.
        let weights = unsafe { vld1q_s8(at.add(GROUP * 4 * PANEL + 16 * wide)) };
        for (sums, &inputs) in sums.iter_mut().zip(inputs) {
            // SAFETY: promised by the caller. The intrinsic is not stable.
            unsafe {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {sum:v}.4s, {weights:v}.16b, {inputs:v}.4b[{lane}]",
                    sum = inout(vreg) sums[wide],
                    weights = in(vreg) weights,
                    inputs = in(vreg) inputs,
                    lane = const GROUP,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        }
    }
}

/// Writes the sums of each row from channel `first` on.
fn write<const WIDE: usize>(y: &mut TileOutputs, first: usize, sums: &[[int32x4_t; WIDE]]) {
    for (row, sums) in sums.iter().enumerate() {
        let to = &mut y.sums[row * y.stride + first..];
        let room = to.len().min(y.channels - first);
        for (to, &sums) in to[..room].chunks_mut(4).zip(sums) {
            store(sums, to);
        }
    }
}
