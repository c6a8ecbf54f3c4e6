//! Products with eight-bit integers that are left where they are stored, in a file's memory map for instance. The values of
//! a few output channels are brought into the order that the kernel reads just before they are multiplied, while those of
//! the next few are being fetched from memory. Opening a model therefore packs nothing and holds nothing twice. What is
//! multiplied again and again is packed all the same, while it is: a matrix that is stored column by column when it is
//! multiplied for the second time, as reading along its columns takes a fifth of the product, and a process that encodes a
//! single picture never gets there; and those that training needs, of which it takes a fifth, too.
//!
//! The kernels are our own, one for each set of instructions, with finer tiles than tract's: 50 rows, a picture of ViT-B/32,
//! are five tiles of ten here and four of sixteen there. All yield the same sums, to the last bit.

// Without a kernel, nothing reads what kernels are given.
#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    expect(dead_code)
)]

#[cfg(target_arch = "x86_64")]
mod amx;
mod inputs;
mod interleave;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panels;
#[cfg(target_arch = "x86_64")]
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::cell::RefCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::blocking::{Block, Sizes, accumulators_mut, product};
use super::direction::Direction;
use super::quantise::Quantised;
use crate::ops::cells::TileRows;
use crate::ops::matrix::StoredIntegers;
use inputs::Values;
pub(super) use inputs::{Inputs, Line};
use panels::Panels;

/// Output channels in a panel.
const PANEL: usize = 32;
/// Panels that are interleaved together: their channels are a cache line if the matrix is stored input by input.
const PANELS: usize = 2;
/// Output channels in a tile that one thread computes.
const TILE: usize = 2 * PANELS * PANEL;

/// A part of a panel that is aligned as caches are. A panel holds groups of some inputs, each with those weights of all
/// output channels, one after the other: see [`Functions::depth`].
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Vector([u8; 64]);

/// A kernel that this processor can run.
#[derive(Clone, Copy)]
pub struct InPlace(&'static Functions);

/// The functions of a kernel, for one set of instructions.
struct Functions {
    name: &'static str,
    /// Inputs in a group of the panel.
    depth: usize,
    /// Inputs that rows are filled up to with zeros: a multiple of the depth.
    step: usize,
    /// Inputs from one row to the next, for rows that are filled up to so many.
    stride: fn(usize) -> usize,
    /// How often a tile reads its panel: for a few rows or output channels at a time.
    passes: usize,
    /// Whether it reads weights as unsigned, each 128 too large.
    unsigned: bool,
    tiles: Tiles,
    interleave: Interleave,
    interleave_columns: InterleaveColumns,
    /// What follows the tiles of a task on the same thread, if anything. Unsafe: the CPU must have the instructions.
    finish: Option<unsafe fn()>,
}

impl fmt::Display for InPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.name)
    }
}

impl fmt::Debug for InPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl InPlace {
    /// Every kernel that this processor can run.
    pub fn all() -> Vec<InPlace> {
        #[cfg(target_arch = "x86_64")]
        return x86::all();
        #[cfg(target_arch = "aarch64")]
        return neon::all();
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        Vec::new()
    }

    /// Rows and output channels that it computes at once.
    pub fn tile(&self) -> [usize; 2] {
        [self.0.tiles.tallest(), PANELS * PANEL]
    }
}

/// Sums the products of a few rows with a panel. Unsafe: the CPU must have the instructions.
type Tile<V> = unsafe fn(panel: &[Vector], x: TileInputs<V>, y: TileOutputs, prefetch: Prefetch);

/// The tiles of a kernel, indexed by their number of rows, less one, and how they read rows.
enum Tiles {
    Bytes(&'static [Tile<i8>]),
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "NEON multiplies bytes")
    )]
    Words(&'static [Tile<i16>]),
}

impl Tiles {
    /// Rows in the largest tile.
    fn tallest(&self) -> usize {
        match self {
            Tiles::Bytes(tiles) => tiles.len(),
            Tiles::Words(tiles) => tiles.len(),
        }
    }
}

/// Writes a panel from lines that are output channels; those missing count as anything. Unsafe: as above.
type Interleave = unsafe fn(lines: &[&[i8]], panel: &mut [Vector]);

/// Writes a panel, or some of its groups of inputs, from lines that are inputs: from the first line's `channels`, and
/// those of the lines below. Unsafe: as above.
type InterleaveColumns =
    unsafe fn(lines: &[i8], length: usize, channels: Range<usize>, panel: &mut [Vector]);

/// The rows of a tile.
#[derive(Clone, Copy)]
struct TileInputs<'a, V> {
    /// One after the other.
    values: &'a [V],
    /// Values from one row to the next: no fewer than the kernel's steps read.
    stride: usize,
    /// What each row's sums begin at.
    starts: &'a [i32],
}

/// Where the sums of a tile, or of several panels of all rows, are written.
struct TileOutputs<'a> {
    sums: &'a mut [u32],
    /// Sums from one row to the next.
    stride: usize,
    /// How many channels of the panel or panels are wanted.
    channels: usize,
}

/// What to prefetch meanwhile: an address for each group of inputs and each pass. Any address will do, as it is only a hint.
#[derive(Clone, Copy)]
#[cfg_attr(
    target_arch = "aarch64",
    expect(dead_code, reason = "stable Rust has no prefetch for ARM")
)]
struct Prefetch {
    start: *const i8,
    step: usize,
}

/// A matrix that is multiplied where it is stored.
#[derive(Clone, Debug)]
pub(super) struct UnpackedMatrix {
    kernel: InPlace,
    matrix: StoredIntegers,
    /// Whether a line is an input of the product, and not an output channel.
    lines_are_inputs: bool,
    out: usize,
    inner: usize,
    packed: Arc<PackedPanels>,
}

/// All panels of a matrix, where there are so many products of it that they pay.
#[derive(Debug, Default)]
struct PackedPanels {
    pay: AtomicBool,
    panels: Mutex<Option<Arc<Panels>>>,
}

impl PackedPanels {
    /// What another thread left when it panicked is whole.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Panels>>> {
        self.panels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnpackedMatrix {
    /// For `x Wᵀ` (forward) or `x W` (backward).
    pub fn new(kernel: &InPlace, matrix: &StoredIntegers, direction: Direction) -> UnpackedMatrix {
        let transposed = direction == Direction::Backward;
        let (rows, columns) = matrix.dim();
        let (out, inner) = if transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        let lines_are_inputs = matrix.is_transposed() != transposed;
        // A group of inputs must not span two parts.
        let depth = kernel.0.depth;
        let apart = matrix.lines().any(|part| part.nrows() % depth != 0);
        let matrix = if lines_are_inputs && apart && matrix.lines().count() > 1 {
            matrix.with(|m| StoredIntegers::copied(m.values, m.scales.to_owned()))
        } else {
            matrix.clone()
        };
        UnpackedMatrix {
            kernel: *kernel,
            matrix,
            lines_are_inputs,
            out,
            inner,
            packed: Arc::default(),
        }
    }

    pub fn dim(&self) -> (usize, usize) {
        (self.out, self.inner)
    }

    /// So many rows of `x`, each of which `quantise` writes, and their scales.
    pub fn inputs(
        &self,
        rows: usize,
        quantise: &(dyn Fn(usize, Line) -> Quantised + Sync),
    ) -> (Inputs, Vec<f32>) {
        Inputs::new(self.kernel.0, [rows, self.inner], quantise)
    }

    /// Writes the product `[rows, out]` to `y`: [`product`] on this kernel.
    pub fn multiply<S: Sync + Send>(
        &self,
        rows: usize,
        quantise: impl Fn(Range<usize>) -> (Inputs, S) + Sync,
        epilogue: impl Fn(&Block<Inputs, S>, &[u32], TileRows) + Sync,
        y: &mut [MaybeUninit<f32>],
    ) {
        let sizes = Sizes {
            rows,
            out: self.out,
            width: TILE,
        };
        let parts: Vec<&[i8]> = self
            .matrix
            .lines()
            .map(|part| part.to_slice().expect("lines lie one after the other"))
            .collect();
        let packed = self.packed(&parts);
        let packed = packed.as_deref().map(|panels| &**panels);
        let sum = |x: &Inputs, columns: Range<usize>, tile: &mut _| {
            let _finish = Finish(self.kernel.0.finish);
            let width = columns.len();
            let sums = accumulators_mut(tile);
            for first in columns.clone().step_by(PANELS * PANEL) {
                let channels = first..columns.end.min(first + PANELS * PANEL);
                let y = TileOutputs {
                    sums: &mut sums[first - columns.start..],
                    stride: width,
                    channels: channels.len(),
                };
                let prefetch = self.prefetch(packed, &parts, channels.end);
                if let Some(packed) = packed {
                    let start = first / PANEL * self.length();
                    let count = channels.len().div_ceil(PANEL) * self.length();
                    let panels = &packed[start..][..count];
                    self.sum(panels, x, y, prefetch);
                } else {
                    with_panels(PANELS * self.length(), |panels| {
                        self.interleave(&parts, channels.clone(), panels);
                        self.sum(panels, x, y, prefetch);
                    });
                }
            }
        };
        product(sizes, quantise, sum, epilogue, y);
    }

    /// Vectors in a panel.
    fn length(&self) -> usize {
        self.inner.next_multiple_of(self.kernel.0.step) * PANEL / size_of::<Vector>()
    }

    /// All panels, if they pay.
    fn packed(&self, parts: &[&[i8]]) -> Option<Arc<Panels>> {
        let along_columns = self.lines_are_inputs && self.matrix.is_transposed();
        let pay = self.packed.pay.load(Ordering::Relaxed)
            || along_columns && self.packed.pay.swap(true, Ordering::Relaxed);
        if !pay || self.inner == 0 {
            return None;
        }
        let mut packed = self.packed.lock();
        // Another thread may have given them back meanwhile.
        if packed.is_none() && self.packed.pay.load(Ordering::Relaxed) {
            let length = self.out.div_ceil(PANEL) * self.length();
            let write = |panels: &mut [Vector]| self.interleave(parts, 0..self.out, panels);
            match Panels::new(length, write) {
                Some(panels) => {
                    *packed = Some(Arc::new(panels));
                    self.matrix.release();
                }
                None => self.packed.pay.store(false, Ordering::Relaxed),
            }
        }
        packed.clone()
    }

    /// Says that many products follow: the next one packs all panels.
    pub fn pack(&self) {
        self.packed.pay.store(true, Ordering::Relaxed);
    }

    /// Gives back the memory of all panels, if there are any.
    pub fn release(&self) {
        let mut packed = self.packed.lock();
        self.packed.pay.store(false, Ordering::Relaxed);
        *packed = None;
    }

    /// The sums of all rows and a few panels.
    fn sum(
        &self,
        panels: &[Vector],
        x: &Inputs,
        y: TileOutputs,
        mut prefetch: impl Iterator<Item = Prefetch>,
    ) {
        let rows = x.starts.len();
        let tiles = rows.div_ceil(self.kernel.0.tiles.tallest());
        let firsts = (0..y.channels).step_by(PANEL);
        for (first, panel) in firsts.zip(panels.chunks_exact(self.length().max(1))) {
            for tile in 0..tiles {
                let rows = rows * tile / tiles..rows * (tile + 1) / tiles;
                let y = TileOutputs {
                    sums: &mut y.sums[rows.start * y.stride + first..],
                    stride: y.stride,
                    channels: PANEL.min(y.channels - first),
                };
                let prefetch = prefetch.next().unwrap_or(Prefetch {
                    start: panel.as_ptr().cast(),
                    step: 0,
                });
                let tile = rows.len() - 1;
                // SAFETY: whoever has the kernel has its instructions.
                match (&self.kernel.0.tiles, &x.values) {
                    (Tiles::Bytes(tiles), Values::Bytes(values)) => unsafe {
                        tiles[tile](panel, x.tile(values, rows), y, prefetch)
                    },
                    (Tiles::Words(tiles), Values::Words(values)) => unsafe {
                        tiles[tile](panel, x.tile(values, rows), y, prefetch)
                    },
                    _ => unreachable!("rows are made for the kernel that reads them"),
                }
            }
        }
    }

    /// Writes the panels of `channels`.
    fn interleave(&self, parts: &[&[i8]], channels: Range<usize>, panels: &mut [Vector]) {
        let panels = panels.chunks_exact_mut(self.length().max(1));
        for (first, panel) in channels.clone().step_by(PANEL).zip(panels) {
            self.interleave_panel(parts, first..channels.end.min(first + PANEL), panel);
        }
    }

    fn interleave_panel(&self, parts: &[&[i8]], channels: Range<usize>, panel: &mut [Vector]) {
        if self.lines_are_inputs {
            let mut panel = panel;
            let depth = self.kernel.0.depth;
            for part in parts {
                let groups = part.len().div_ceil(depth * self.out);
                let length = groups * depth * PANEL / size_of::<Vector>();
                let (own, rest) = panel.split_at_mut(length);
                // SAFETY: whoever has the kernel has its instructions.
                unsafe {
                    (self.kernel.0.interleave_columns)(part, self.out, channels.clone(), own);
                }
                panel = rest;
            }
            return;
        }
        let mut lines = [&[][..]; PANEL];
        let mut rest = &mut lines[..channels.len()];
        let mut skipped = self.inner * channels.start;
        for part in parts {
            let own = part.get(skipped..).unwrap_or_default();
            skipped -= skipped.min(part.len());
            let mut count = 0;
            for (to, line) in rest.iter_mut().zip(own.chunks_exact(self.inner.max(1))) {
                *to = line;
                count += 1;
            }
            rest = &mut rest[count..];
        }
        // SAFETY: as above.
        unsafe { (self.kernel.0.interleave)(&lines[..channels.len()], panel) };
    }

    /// What the panels that begin at channel `first` are made of, in as many addresses as a tile prefetches.
    fn prefetch(
        &self,
        packed: Option<&[Vector]>,
        parts: &[&[i8]],
        first: usize,
    ) -> impl Iterator<Item = Prefetch> {
        let kernel = self.kernel.0;
        let steps = self.inner.div_ceil(kernel.depth) * kernel.passes;
        // Parts mostly follow each other in memory, and this is only a hint.
        let lines = parts[0].as_ptr();
        let (start, step) = match packed {
            Some(packed) => {
                let panels = packed.as_ptr().wrapping_add(first / PANEL * self.length());
                (panels.cast(), size_of::<Vector>())
            }
            None if self.lines_are_inputs => (lines.wrapping_add(first), self.out),
            None => (lines.wrapping_add(first * self.inner), PANELS * PANEL),
        };
        let count = if first < self.out { self.inner } else { 0 };
        (0..count).step_by(steps.max(1)).map(move |done| Prefetch {
            start: start.wrapping_add(done * step),
            step,
        })
    }
}

/// Runs a kernel's [`Functions::finish`] when dropped, however the task ends.
struct Finish(Option<unsafe fn()>);

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some(finish) = self.0 {
            // SAFETY: whoever has the kernel has its instructions.
            unsafe { finish() };
        }
    }
}

/// Runs `work` with memory for so many vectors. Every thread keeps it.
fn with_panels(count: usize, work: impl FnOnce(&mut [Vector])) {
    thread_local! {
        static MEMORY: RefCell<Vec<Vector>> = const { RefCell::new(Vec::new()) };
    }
    MEMORY.with_borrow_mut(|memory| {
        memory.resize(count, Vector([0; 64]));
        work(memory);
    });
}
