//! The kernel for AMX: sixteen rows, sixteen channels and 64 inputs an instruction. The intrinsics are not stable, so the
//! whole tile is assembly. It reads the panels of the other kernels: sixteen groups of four inputs are a tile register.

use std::arch::asm;

use tract_linalg::isa::{self, Isa};

use super::{PANEL, Prefetch, TileInputs, TileOutputs, Vector};

/// Rows in the largest tile: two registers.
pub(super) const TALLEST: usize = 32;
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

/// What the registers hold: the operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// A [`super::Tile`] of at most [`TALLEST`] rows. Registers 0 to 3 are the sums of two times sixteen rows and two times
/// sixteen channels, 4 and 5 the rows, 6 and 7 the panel.
pub(super) unsafe fn tile(panel: &[Vector], x: TileInputs<i8>, y: TileOutputs, prefetch: Prefetch) {
    const GROUP: usize = 4 * PANEL;
    let rows = x.starts.len();
    let steps = size_of_val(panel) / (STEP * PANEL);
    assert!(
        (1..=TALLEST).contains(&rows)
            && x.stride == STEP * steps
            && x.values.len() == rows * x.stride
            && y.channels <= PANEL
            && y.sums.len() >= (rows - 1) * y.stride + y.channels
    );
    let low = rows.min(16);
    let high = rows - low;
    // A register must have a row; the second half of few rows is computed from the first row, and dropped.
    let shape = |index: usize| match index {
        0 | 1 | 4 => low as u8,
        2 | 3 | 5 => high.max(1) as u8,
        6 | 7 => 16,
        _ => 0,
    };
    let mut shapes = Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes: [0; 16],
        rows: std::array::from_fn(shape),
    };
    shapes.bytes[..8].fill(64);
    let mut sums = [[0u32; PANEL]; TALLEST];
    let second = if high > 0 { low * x.stride } else { 0 };
    // SAFETY: the CPU has the instructions and the process may use them. Registers 4 and 5 read `low` and `high` rows of
    // 64 inputs in each of `steps` steps, 6 and 7 sixteen groups of the panel, all within them, as asserted; the sums are
    // written to sixteen rows of 32 numbers each at most. The registers are released at the end.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            "tileloadd tmm6, [{panel} + {group}]",
            "tileloadd tmm4, [{first} + {stride}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{panel} + {group} + 64]",
            "tdpbssd tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{second} + {stride}]",
            "tdpbssd tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            "add {panel}, 2048",
            "add {first}, 64",
            "add {second}, 64",
            // Sixteen addresses a step, as for sixteen groups.
            "mov {count:e}, 16",
            "4:",
            "prefetcht0 [{ahead}]",
            "add {ahead}, {ahead_step}",
            "dec {count:e}",
            "jnz 4b",
            "dec {steps}",
            "jnz 2b",
            "3:",
            "tilestored [{sums} + {group}], tmm0",
            "tilestored [{sums} + {group} + 64], tmm1",
            "add {sums}, 2048",
            "tilestored [{sums} + {group}], tmm2",
            "tilestored [{sums} + {group} + 64], tmm3",
            "tilerelease",
            shapes = in(reg) &raw const shapes,
            steps = inout(reg) steps => _,
            panel = inout(reg) panel.as_ptr() => _,
            group = in(reg) GROUP,
            first = inout(reg) x.values.as_ptr() => _,
            second = inout(reg) x.values.as_ptr().add(second) => _,
            stride = in(reg) x.stride,
            ahead = inout(reg) prefetch.start => _,
            ahead_step = in(reg) prefetch.step,
            count = out(reg) _,
            sums = inout(reg) sums.as_mut_ptr() => _,
            options(nostack),
        );
    }
    // The second register's rows begin at the seventeenth, and there are none unless the first is full.
    for (row, sums) in sums[..rows].iter().enumerate() {
        y.sums[row * y.stride..][..y.channels].copy_from_slice(&sums[..y.channels]);
    }
}
