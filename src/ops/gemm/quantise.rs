//! Rows quantised to eight bits, each with its own scale, in the layout that a kernel reads.

use std::mem::MaybeUninit;

use multiversion::multiversion;
use ndarray::ArrayView2;

use super::in_place::{Inputs, Line};
use super::kernel::Kernel;
use super::packed::Panels;
use super::packing::PanelWriter;

/// The quantised rows as the panels of `kernel`, and their scales. Rows are multiplied by `inputs` first.
pub(super) fn quantise_panels(
    kernel: &Kernel,
    x: ArrayView2<f32>,
    inputs: Option<&[f32]>,
) -> (Panels, Vec<f32>) {
    let (rows, inner) = x.dim();
    let x = x.as_standard_layout();
    let numbers = x.as_slice().expect("the standard layout is contiguous");
    let mut panels = PanelWriter::new(kernel.input_format(), kernel.step(), rows, inner);
    let mut integers = vec![MaybeUninit::new(0); inner];
    let mut row = |row| {
        let quantised = quantise(&numbers[row * inner..][..inner], inputs, &mut integers);
        // SAFETY: all of them were written when they were made.
        panels.write(row, unsafe { integers.assume_init_ref() });
        quantised.scale
    };
    let scales = (0..rows).map(&mut row).collect();
    (panels.finish(), scales)
}

/// The same as a kernel of our own reads them; `lines` makes them of what writes a row.
pub(super) fn quantise_lines(
    x: ArrayView2<f32>,
    inputs: Option<&[f32]>,
    lines: impl FnOnce(&(dyn Fn(usize, Line) -> Quantised + Sync)) -> (Inputs, Vec<f32>),
) -> (Inputs, Vec<f32>) {
    let inner = x.ncols();
    let x = x.as_standard_layout();
    let numbers = x.as_slice().expect("the standard layout is contiguous");
    lines(&|row, line| {
        let numbers = &numbers[row * inner..][..inner];
        match line {
            Line::Bytes(line) => quantise(numbers, inputs, line),
            Line::Words(line) => quantise(numbers, inputs, line),
        }
    })
}

/// A quantised row.
#[derive(Clone, Copy, Default)]
pub(super) struct Quantised {
    /// What its integers are multiples of. NaN where a number is not finite.
    pub scale: f32,
    /// Of its integers.
    pub sum: i32,
}

/// Writes the nearest multiples of the scale, which makes the largest magnitude 127, of numbers that are multiplied by
/// `inputs` first. Writes all of `integers`, which are as many.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn quantise<I: From<i8>>(
    x: &[f32],
    inputs: Option<&[f32]>,
    integers: &mut [MaybeUninit<I>],
) -> Quantised {
    assert!(x.len() == integers.len() && inputs.is_none_or(|inputs| inputs.len() == x.len()));
    match inputs {
        None => nearest(x.iter().copied(), integers),
        Some(inputs) => nearest(x.iter().zip(inputs).map(|(x, scale)| x * scale), integers),
    }
}

#[inline(always)]
fn nearest<I: From<i8>>(
    x: impl Iterator<Item = f32> + Clone,
    integers: &mut [MaybeUninit<I>],
) -> Quantised {
    // The bits of magnitudes are ordered as the magnitudes are, with NaN above all, so that nothing that is not finite is lost.
    let magnitudes = x.clone().map(|x| x.to_bits() & 0x7fff_ffff);
    let most = f32::from_bits(magnitudes.fold(0, u32::max));
    if !most.is_finite() {
        for integer in integers {
            integer.write(0.into());
        }
        return Quantised {
            scale: f32::NAN,
            sum: 0,
        };
    }
    let scale = most / 127.0;
    // Below the smallest normal number a division might overflow; such a row is zero for all that follows.
    let inverse = if scale >= f32::MIN_POSITIVE {
        1.0 / scale
    } else {
        0.0
    };
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let mut sum = 0;
    for (integer, x) in integers.iter_mut().zip(x) {
        let nearest = (x * inverse + ROUND).to_bits() as i8;
        sum += i32::from(nearest);
        integer.write(nearest.into());
    }
    Quantised { scale, sum }
}
