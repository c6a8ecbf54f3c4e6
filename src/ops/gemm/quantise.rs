//! Rows quantised to eight bits, each with its own scale, in the layout that a kernel reads.

use std::mem::MaybeUninit;

use multiversion::multiversion;
use ndarray::ArrayView2;

use super::in_place::{Inputs, Line};
use super::kernel::Kernel;
use super::packed::Panels;
use super::packing::PanelWriter;
use super::windows::Windows;

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

/// Writes a window of a picture as a kernel of our own reads it.
pub(super) fn quantise_window_line(windows: &Windows, row: usize, line: Line) -> Quantised {
    match line {
        Line::Bytes(line) => quantise_window(windows, row, line),
        Line::Words(line) => quantise_window(windows, row, line),
    }
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
    let Some([scale, inverse]) = scale(most(x.clone())) else {
        return nothing(integers);
    };
    let sum = multiples(x, inverse, integers);
    Quantised { scale, sum }
}

/// The same of a window of a picture, line by line.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn quantise_window<I: From<i8>>(
    windows: &Windows,
    row: usize,
    integers: &mut [MaybeUninit<I>],
) -> Quantised {
    assert_eq!(windows.inner(), integers.len());
    let lines = windows.lines(row);
    let largest = lines.clone().map(|line| most(line.iter().copied()));
    let Some([scale, inverse]) = scale(largest.fold(0, u32::max)) else {
        return nothing(integers);
    };
    let mut sum = 0;
    for (line, integers) in lines.zip(integers.chunks_exact_mut(windows.length().max(1))) {
        sum += multiples(line.iter().copied(), inverse, integers);
    }
    Quantised { scale, sum }
}

/// The bits of the largest magnitude. Bits of magnitudes are ordered as the magnitudes are, with NaN above all, so that nothing
/// that is not finite is lost.
#[inline(always)]
fn most(x: impl Iterator<Item = f32>) -> u32 {
    x.map(|x| x.to_bits() & 0x7fff_ffff).fold(0, u32::max)
}

/// The scale that makes the largest magnitude 127, and its inverse. None if it is not finite.
#[inline(always)]
fn scale(most: u32) -> Option<[f32; 2]> {
    let most = f32::from_bits(most);
    if !most.is_finite() {
        return None;
    }
    let scale = most / 127.0;
    // Below the smallest normal number a division might overflow; such a row is zero for all that follows.
    let inverse = if scale >= f32::MIN_POSITIVE {
        1.0 / scale
    } else {
        0.0
    };
    Some([scale, inverse])
}

/// Of a row that is not finite.
fn nothing<I: From<i8>>(integers: &mut [MaybeUninit<I>]) -> Quantised {
    for integer in integers {
        integer.write(0.into());
    }
    Quantised {
        scale: f32::NAN,
        sum: 0,
    }
}

/// Writes numbers as multiples of the scale whose inverse this is, and returns their sum.
#[inline(always)]
fn multiples<I: From<i8>>(
    x: impl Iterator<Item = f32>,
    inverse: f32,
    integers: &mut [MaybeUninit<I>],
) -> i32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let mut sum = 0;
    for (integer, x) in integers.iter_mut().zip(x) {
        let bits = (x * inverse + ROUND).to_bits();
        sum += bits.wrapping_sub(ROUND.to_bits()) as i32;
        integer.write((bits as i8).into());
    }
    sum
}
