//! Rows quantised to eight bits, each with its own scale, in the layout that a kernel reads.

use multiversion::multiversion;
use ndarray::ArrayView2;

use super::in_place::Inputs;
use super::kernel::Kernel;
use super::packed::Panels;
use super::packing::PanelWriter;

/// Quantises the rows of `x`, each multiplied by `inputs`, passes each to `write`, and returns their scales.
fn quantise(
    x: ArrayView2<f32>,
    inputs: Option<&[f32]>,
    mut write: impl FnMut(usize, &[i8]),
) -> Vec<f32> {
    let (rows, inner) = x.dim();
    let x = x.as_standard_layout();
    let numbers = x.as_slice().expect("the standard layout is contiguous");
    let mut scales = Vec::with_capacity(rows);
    let (mut scaled, mut integers) = (vec![0.0; inner], vec![0; inner]);
    for row in 0..rows {
        let mut numbers = &numbers[row * inner..][..inner];
        if let Some(inputs) = inputs {
            let pairs = numbers.iter().zip(inputs);
            scaled
                .iter_mut()
                .zip(pairs)
                .for_each(|(to, (x, scale))| *to = x * scale);
            numbers = &scaled;
        }
        scales.push(quantise_row(numbers, &mut integers));
        write(row, &integers);
    }
    scales
}

/// The quantised rows as the panels of `kernel`, and their scales.
pub(super) fn quantise_panels(
    kernel: &Kernel,
    x: ArrayView2<f32>,
    inputs: Option<&[f32]>,
) -> (Panels, Vec<f32>) {
    let (rows, inner) = x.dim();
    let mut panels = PanelWriter::new(kernel.input_format(), kernel.step(), rows, inner);
    let scales = quantise(x, inputs, |row, integers| panels.write(row, integers));
    (panels.finish(), scales)
}

/// The quantised rows added to `lines`, and their scales.
pub(super) fn quantise_lines(
    mut lines: Inputs,
    x: ArrayView2<f32>,
    inputs: Option<&[f32]>,
) -> (Inputs, Vec<f32>) {
    let scales = quantise(x, inputs, |_, integers| lines.push(integers));
    (lines, scales)
}

/// The nearest multiples of the scale that is returned: the largest magnitude becomes 127. The scale is NaN where a
/// number is not finite.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn quantise_row(x: &[f32], integers: &mut [i8]) -> f32 {
    // The bits of magnitudes are ordered as the magnitudes are, with NaN above all, so that nothing that is not finite is lost.
    let most = x
        .iter()
        .fold(0, |most: u32, x| most.max(x.to_bits() & 0x7fff_ffff));
    let most = f32::from_bits(most);
    if !most.is_finite() {
        integers.fill(0);
        return f32::NAN;
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
    for (integer, x) in integers.iter_mut().zip(x) {
        *integer = (x * inverse + ROUND).to_bits() as i8;
    }
    scale
}
