//! The kernel for AMX: sixteen rows, sixteen channels and 64 inputs an instruction. The intrinsics are not stable, so the
//! whole tile is assembly. It reads the panels of the other kernels: sixteen groups of four inputs are a tile register.

use std::arch::asm;
use std::cell::Cell;
use std::mem::MaybeUninit;

use tract_linalg::isa::{self, Isa};

use super::{PANEL, Prefetch, TileInputs, TileOutputs, Vector};

/// Rows in the largest tile: two passes over the panel, each with two registers of sixteen rows.
pub(super) const TALLEST: usize = 64;
/// Rows of a pass.
pub(super) const PASS: usize = 32;
/// Inputs in a register.
pub(super) const STEP: usize = 64;

/// Whether this CPU has the instructions and this process may use them.
pub(super) fn here() -> bool {
    // tract can be told to do without; it asks the system, too.
    isa::native().has(Isa::X86_64AmxInt8) && permitted()
}

/// Asks the system for the tile registers, which it reserves room for in every thread's state only then.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes numbers, and changes nothing but what this process may do.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn permitted() -> bool {
    false
}

/// An odd number of cache lines, so that the sixteen rows of a register do not fall on a few of the cache's sets.
pub(super) fn stride(filled: usize) -> usize {
    filled + STEP * usize::from((filled / STEP).is_multiple_of(2))
}

/// What the registers hold: the operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

thread_local! {
    /// The rows of the two registers of sums, while they have shapes: giving them some takes as long as a few steps.
    static SHAPES: Cell<Option<[usize; 2]>> = const { Cell::new(None) };
}

/// Gives the registers their shapes: sums and rows of `low` and of `high` rows, and sixteen groups of a panel.
#[inline(always)]
unsafe fn shape([low, high]: [usize; 2]) {
    if SHAPES.replace(Some([low, high])) == Some([low, high]) {
        return;
    }
    let rows = |register: usize| match register {
        0 | 1 | 4 => low as u8,
        2 | 3 | 5 => high as u8,
        6 | 7 => 16,
        _ => 0,
    };
    let mut shapes = Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes: [0; 16],
        rows: std::array::from_fn(rows),
    };
    shapes.bytes[..8].fill(64);
    // SAFETY: the CPU has the instruction and the process may use it.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack)) };
}

/// Gives the registers back: what follows, tract's kernels included, finds none in use.
pub(super) unsafe fn release() {
    if SHAPES.take().is_some() {
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack)) };
    }
}

/// A [`super::Tile`] of at most [`TALLEST`] rows; [`release`] follows. Registers 0 to 3 are the sums of two times sixteen
/// rows and two times sixteen channels, 4 and 5 the rows, 6 and 7 the panel. Both passes have the same height: the second
/// takes in some of the first's rows again if need be.
pub(super) unsafe fn tile(panel: &[Vector], x: TileInputs<i8>, y: TileOutputs, prefetch: Prefetch) {
    const GROUP: usize = 4 * PANEL;
    let rows = x.starts.len();
    let steps = size_of_val(panel) / (STEP * PANEL);
    assert!(
        (1..=TALLEST).contains(&rows)
            && x.stride >= STEP * steps
            && x.values.len() == rows * x.stride
            && y.channels <= PANEL
            && y.sums.len() >= (rows - 1) * y.stride + y.channels
    );
    let passes = rows.div_ceil(PASS);
    let height = rows.div_ceil(passes);
    let low = height.min(16);
    // A register must have a row; where a pass has no more than sixteen, the second registers repeat the first row.
    let (second, high) = match height - low {
        0 => (0, 1),
        high => (low, high),
    };
    let whole = y.channels == PANEL;
    // Not filled with zeros: that would take as long as a step.
    let mut some = MaybeUninit::<[[u32; PANEL]; TALLEST]>::uninit();
    let (to, stride) = if whole {
        (y.sums.as_mut_ptr(), y.stride)
    } else {
        (some.as_mut_ptr().cast(), PANEL)
    };
    let mut ahead = prefetch.start;
    // Addresses a step: one for each of sixteen groups and each pass of the largest tile.
    let each = 16 * TALLEST / PASS / passes;
    // SAFETY: the CPU has the instructions and the process may use them.
    unsafe { shape([low, high]) };
    for first in [0, rows - height].into_iter().take(passes) {
        // SAFETY: as above. Registers 4 and 5 read `low` and `high` rows of 64 inputs in each of `steps` steps, 6 and 7
        // sixteen groups of the panel, all within them, as asserted; sums are written to rows of 32 numbers, each a row of
        // the product or of `some`.
        unsafe {
            let x_first = x.values.as_ptr().add(first * x.stride);
            let to = to.add(first * stride);
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "test {steps}, {steps}",
                "jz 3f",
                "2:",
                "tileloadd tmm6, [{panel} + {group}]",
                "tileloadd tmm4, [{first} + {stride}]",
                "tileloadd tmm7, [{panel} + {group} + 64]",
                "tileloadd tmm5, [{second} + {stride}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tdpbssd tmm1, tmm4, tmm7",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "add {panel}, 2048",
                "add {first}, 64",
                "add {second}, 64",
                "mov {count:e}, {each:e}",
                "4:",
                "prefetcht1 [{ahead}]",
                "add {ahead}, {ahead_step}",
                "dec {count:e}",
                "jnz 4b",
                "dec {steps}",
                "jnz 2b",
                "3:",
                "tilestored [{low} + {sums}], tmm0",
                "tilestored [{low} + {sums} + 64], tmm1",
                "tilestored [{high} + {sums}], tmm2",
                "tilestored [{high} + {sums} + 64], tmm3",
                steps = inout(reg) steps => _,
                panel = inout(reg) panel.as_ptr() => _,
                group = in(reg) GROUP,
                first = inout(reg) x_first => _,
                second = inout(reg) x_first.add(second * x.stride) => _,
                stride = in(reg) x.stride,
                ahead = inout(reg) ahead,
                ahead_step = in(reg) prefetch.step,
                each = in(reg) each,
                count = out(reg) _,
                low = in(reg) to,
                high = in(reg) to.add(second * stride),
                sums = in(reg) size_of::<u32>() * stride,
                options(nostack),
            );
        }
    }
    if !whole {
        for row in 0..rows {
            // SAFETY: the passes wrote 32 sums of each row.
            let sums: &[u32; PANEL] = unsafe { &*some.as_ptr().cast::<[u32; PANEL]>().add(row) };
            y.sums[row * y.stride..][..y.channels].copy_from_slice(&sums[..y.channels]);
        }
    }
}
