//! Products with a matrix of eight-bit integers: the rows that are multiplied are quantised on the way into the kernel,
//! each with its own scale, and the scales come back in one pass over the integer products. Where this machine has no
//! integer kernel worth it, the same products in f32. It knows neither layers nor gradients.

use std::mem::MaybeUninit;
use std::sync::Arc;

use multiversion::multiversion;
use ndarray::{Array1, Array2, ArrayView2, s};
use tract_core::internal::{Blob, Tensor, ToDim};
use tract_linalg::mmm::{EagerPackedInput, MMMInputFormat, PackedExoticFact};
use tract_linalg::pack::PackedI8K4;

use super::finish::{self, Finish};
use super::float::PackedWeight;
use super::kernel::{self, Kernel};
use super::packed::{Packed, Panels};

/// A matrix in eight bits, symmetric, with a scale for each output channel: `W[o, i] = values[o, i] * scales[o]`.
#[derive(Clone, Debug)]
pub struct QuantisedMatrix<'a> {
    /// `[out, in]`
    pub values: ArrayView2<'a, i8>,
    /// `[out]`
    pub scales: Array1<f32>,
}

impl QuantisedMatrix<'_> {
    /// The matrix in f32, `[out, in]`.
    pub fn dequantised(&self) -> Array2<f32> {
        let mut floats = self.values.mapv(f32::from);
        for (mut row, &scale) in floats.rows_mut().into_iter().zip(&self.scales) {
            row *= scale;
        }
        floats
    }
}

/// A [`QuantisedMatrix`] packed once for `x Wᵀ` or for `x W`.
#[derive(Clone, Debug)]
pub struct QuantisedWeight(Form);

#[derive(Clone, Debug)]
enum Form {
    Integer {
        packed: Packed,
        /// Of the columns of `x`, multiplied in before quantising; `x W` has them.
        inputs: Option<Array1<f32>>,
        /// Of the columns of the product; `x Wᵀ` has them.
        channels: Option<Array1<f32>>,
    },
    Float(PackedWeight),
}

impl QuantisedWeight {
    /// Packs for `x Wᵀ`, as this machine does it fastest. Panics where there is not one scale for each channel.
    pub fn new(matrix: &QuantisedMatrix) -> QuantisedWeight {
        QuantisedWeight::on(kernel::integer(), matrix)
    }

    /// Packs for `x W`, which takes gradients of an output `[rows, out]` to those of the input `[rows, in]`.
    pub fn transposed(matrix: &QuantisedMatrix) -> QuantisedWeight {
        QuantisedWeight::transposed_on(kernel::integer(), matrix)
    }

    /// Packs for `x Wᵀ` on a kernel of [`super::Number::Integer`], or in f32.
    pub fn on(kernel: Option<&Kernel>, matrix: &QuantisedMatrix) -> QuantisedWeight {
        matrix.check();
        let Some(kernel) = kernel else {
            return QuantisedWeight(Form::Float(PackedWeight::on(
                kernel::float(),
                matrix.dequantised().view(),
            )));
        };
        QuantisedWeight(Form::Integer {
            packed: pack_all(kernel, matrix.values),
            inputs: None,
            channels: Some(matrix.scales.clone()),
        })
    }

    /// Packs for `x W` on a kernel of [`super::Number::Integer`], or in f32.
    pub fn transposed_on(kernel: Option<&Kernel>, matrix: &QuantisedMatrix) -> QuantisedWeight {
        matrix.check();
        let Some(kernel) = kernel else {
            return QuantisedWeight(Form::Float(PackedWeight::on(
                kernel::float(),
                matrix.dequantised().t(),
            )));
        };
        QuantisedWeight(Form::Integer {
            packed: pack_all(kernel, matrix.values.t()),
            inputs: Some(matrix.scales.clone()),
            channels: None,
        })
    }

    /// How wide the product is, and how wide `x` must be.
    pub fn dim(&self) -> (usize, usize) {
        match &self.0 {
            Form::Float(weight) => weight.dim(),
            Form::Integer { packed, .. } => packed.dim(),
        }
    }

    /// The product, `[rows, width of x]` to `[rows, width of the product]`; a row that holds something not finite yields
    /// a row of NaN. Panics where sizes differ.
    pub fn multiply(&self, x: ArrayView2<f32>, finish: Finish) -> Array2<f32> {
        let mut y = Array2::uninit((x.nrows(), self.dim().0));
        let numbers = y.as_slice_mut().expect("a fresh array is contiguous");
        self.write(x, finish, numbers);
        // SAFETY: `write` wrote every number.
        unsafe { y.assume_init() }
    }

    /// [`QuantisedWeight::multiply`] into memory that the caller has, every number of it.
    pub fn write(&self, x: ArrayView2<f32>, finish: Finish, y: &mut [MaybeUninit<f32>]) {
        let (packed, inputs, channels) = match &self.0 {
            Form::Float(weight) => return weight.write(x, finish, y),
            Form::Integer {
                packed,
                inputs,
                channels,
            } => (packed, inputs, channels),
        };
        let (rows, inner) = x.dim();
        let (out, expected) = packed.dim();
        assert_eq!(inner, expected, "a product of matrices whose widths differ");
        finish.check(rows, out);
        let inputs = inputs.as_ref().and_then(|scales| scales.as_slice());
        let channels = channels.as_ref().and_then(|scales| scales.as_slice());
        packed.multiply(
            rows,
            |kernel, rows| quantise(kernel.input_format(), x.slice(s![rows, ..]), inputs),
            |block, row, column, products, y| {
                let piece = finish.piece(block.rows.start + row, column, y.len());
                let channels = channels.map(|scales| &scales[column..][..y.len()]);
                finish::integers(products, block.saved[row], channels, piece, y);
            },
            y,
        );
    }
}

impl QuantisedMatrix<'_> {
    fn check(&self) {
        assert_eq!(
            self.values.nrows(),
            self.scales.len(),
            "not one scale for each output channel"
        );
    }
}

fn pack_all(kernel: &Kernel, values: ArrayView2<i8>) -> Packed {
    Packed::new(kernel.clone(), values.dim(), |kernel, channels| {
        let values = values.slice(s![channels, ..]);
        let (rows, inner) = values.dim();
        let mut panels = PanelWriter::new(kernel.weight_format(), rows, inner);
        if panels.write_columns(values) {
            return panels.finish();
        }
        let mut copy = vec![0; inner];
        for (index, row) in values.rows().into_iter().enumerate() {
            match row.to_slice() {
                Some(row) => panels.write(index, row),
                None => {
                    copy.iter_mut().zip(row).for_each(|(to, &from)| *to = from);
                    panels.write(index, &copy);
                }
            }
        }
        panels.finish()
    })
}

/// The rows of `x`, each times `inputs`, in eight bits as the panels of `format`; and the scale of each.
fn quantise(
    format: &dyn MMMInputFormat,
    x: ArrayView2<f32>,
    inputs: Option<&[f32]>,
) -> (Panels, Vec<f32>) {
    let (rows, inner) = x.dim();
    let x = x.as_standard_layout();
    let numbers = x.as_slice().expect("the standard layout is contiguous");
    let mut panels = PanelWriter::new(format, rows, inner);
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
        panels.write(row, &integers);
    }
    (panels.finish(), scales)
}

/// The nearest multiples of the scale that is returned: the largest magnitude becomes 127. The scale is NaN where a
/// number is not finite.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn quantise_row(x: &[f32], integers: &mut [i8]) -> f32 {
    // Bits of magnitudes order as magnitudes do, and those of NaN lie above all: nothing not finite is lost.
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

/// Writes rows of integers, one at a time, where a kernel's format wants them.
enum PanelWriter<'a> {
    /// Four numbers of a row lie together, then four of the next: every kernel with a four-way dot product.
    Fours {
        format: &'a PackedI8K4,
        rows: usize,
        inner: usize,
        blob: Blob,
    },
    /// Any other format is packed from a plain matrix.
    Plain {
        format: &'a dyn MMMInputFormat,
        values: Array2<i8>,
    },
}

impl PanelWriter<'_> {
    fn new(format: &dyn MMMInputFormat, rows: usize, inner: usize) -> PanelWriter<'_> {
        let Some(format) = format.downcast_ref::<PackedI8K4>() else {
            let values = Array2::zeros((rows, inner));
            return PanelWriter::Plain { format, values };
        };
        // SAFETY: the alignment is a power of two, and nothing is read before it is written, just below.
        let mut blob =
            unsafe { Blob::new_for_size_and_align(format.len(inner, rows), format.align) };
        // Rows that fill the last panel up, and numbers that fill the last four up, count as zero. All other bytes are
        // written row by row.
        if !rows.is_multiple_of(format.r) || !inner.is_multiple_of(4) {
            blob.fill(0);
        }
        PanelWriter::Fours {
            format,
            rows,
            inner,
            blob,
        }
    }

    fn write(&mut self, row: usize, numbers: &[i8]) {
        match self {
            PanelWriter::Plain { values, .. } => {
                let mut row = values.row_mut(row);
                row.iter_mut()
                    .zip(numbers)
                    .for_each(|(to, &from)| *to = from);
            }
            PanelWriter::Fours {
                format,
                inner,
                blob,
                ..
            } => {
                let panel = format.single_panel_len(*inner);
                let panel = &mut blob[row / format.r * panel..][..panel];
                let fours = panel.as_chunks_mut::<4>().0.iter_mut();
                let mut fours = fours.skip(row % format.r).step_by(format.r);
                let (whole, rest) = numbers.as_chunks::<4>();
                for (from, to) in whole.iter().zip(fours.by_ref()) {
                    *to = from.map(|number| number as u8);
                }
                if let (false, Some(to)) = (rest.is_empty(), fours.next()) {
                    to.iter_mut()
                        .zip(rest)
                        .for_each(|(to, &from)| *to = from as u8);
                }
            }
        }
    }

    /// Writes all rows at once, if they lie side by side in memory and the format has them so, too: row by row that would
    /// miss the cache at every number. Tells whether it did.
    fn write_columns(&mut self, values: ArrayView2<i8>) -> bool {
        let PanelWriter::Fours {
            format,
            rows,
            inner,
            blob,
        } = self
        else {
            return false;
        };
        let (r, panel) = (format.r, format.single_panel_len(*inner));
        if values.strides()[0] != 1 || !inner.is_multiple_of(4) {
            return false;
        }
        for (index, panel) in blob.chunks_exact_mut(panel.max(1)).enumerate() {
            let channels = index * r..(*rows).min((index + 1) * r);
            for (four, to) in panel.chunks_exact_mut(4 * r).enumerate() {
                let column = |k: usize| {
                    let column = values.slice_move(s![channels.clone(), 4 * four + k]);
                    column.to_slice().unwrap_or_default()
                };
                let columns = [column(0), column(1), column(2), column(3)];
                let columns = columns.map(|column| &column[..channels.len()]);
                for (channel, to) in to.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    if channel < channels.len() {
                        *to = columns.map(|column| column[channel] as u8);
                    }
                }
            }
        }
        true
    }

    fn finish(self) -> Panels {
        match self {
            PanelWriter::Plain { format, values } => {
                let numbers = values.as_slice().expect("a fresh array is contiguous");
                Tensor::from_shape(values.shape(), numbers)
                    .and_then(|tensor| format.prepare_one(&tensor, 1, 0))
                    .expect("a kernel's own format packs any matrix of its integers")
            }
            PanelWriter::Fours {
                format,
                rows,
                inner,
                blob,
            } => Box::new(EagerPackedInput {
                fact: PackedExoticFact {
                    format: Box::new(format.clone()),
                    mn: rows.to_dim(),
                    k: inner,
                },
                packed: Arc::new(blob),
                panel_bytes: format.single_panel_len(inner),
                mn: rows,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Activation;
    use crate::ops::check::{random, relative_error};
    use crate::ops::matmul::Number;
    use crate::rng::Rng;

    fn integers(rng: &mut Rng, shape: (usize, usize)) -> Array2<i8> {
        Array2::from_shape_simple_fn(shape, || rng.range(-128.0, 128.0).floor() as i8)
    }

    const SIZES: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (3, 7, 5),
        (17, 33, 129),
        (50, 64, 48),
        (2, 130, 300),
        (300, 5, 20),
        (0, 4, 4),
        (2, 0, 3),
        (2, 3, 0),
    ];

    #[test]
    fn every_kernel_of_this_cpu_sums_exactly() {
        let mut rng = Rng::new(13);
        let kernels = Kernel::all(Number::Integer);
        assert!(!kernels.is_empty());
        for (rows, inner, out) in SIZES {
            let values = integers(&mut rng, (out, inner));
            // A row whose largest magnitude is 127 keeps its integers, with a scale of one.
            let mut x = integers(&mut rng, (rows, inner)).mapv(|x| f32::from(x.max(-127)));
            x.rows_mut()
                .into_iter()
                .for_each(|mut row| row.iter_mut().take(1).for_each(|x| *x = 127.0));
            let expected = x.mapv(f64::from).dot(&values.mapv(f64::from).t());
            let scales = Array1::from_shape_fn(out, |o| [1.0, 0.5, 2.0][o % 3]);
            let matrix = QuantisedMatrix {
                values: values.view(),
                scales: scales.clone(),
            };
            let expected = expected * scales.mapv(f64::from);
            for kernel in &kernels {
                println!("{kernel}: {rows} x {inner} x {out}");
                let product = QuantisedWeight::on(Some(kernel), &matrix);
                let product = product.multiply(x.view(), Finish::default());
                assert_eq!(product.mapv(f64::from), expected);
            }
            let floats = QuantisedWeight::on(None, &matrix).multiply(x.view(), Finish::default());
            assert_eq!(floats.mapv(f64::from), expected);
        }
    }

    #[test]
    fn quantised_rows_lose_little_and_every_path_agrees_on_both_products() {
        let mut rng = Rng::new(14);
        let values = integers(&mut rng, (96, 200));
        let scales = random(&mut rng, (1, 96)).mapv(|x| x.abs() as f32 + 0.1);
        let matrix = QuantisedMatrix {
            values: values.view(),
            scales: scales.row(0).to_owned(),
        };
        let floats = matrix.dequantised().mapv(f64::from);
        let (x, dy) = (random(&mut rng, (50, 200)), random(&mut rng, (50, 96)));
        let (forward, backward) = (x.dot(&floats.t()), dy.dot(&floats));
        let (x, dy) = (x.mapv(|x| x as f32), dy.mapv(|x| x as f32));
        let paths = Kernel::all(Number::Integer).into_iter().map(Some);
        for kernel in paths.chain([None]) {
            let kernel = kernel.as_ref();
            let limit = if kernel.is_some() { 0.02 } else { 1e-6 };
            let y = QuantisedWeight::on(kernel, &matrix).multiply(x.view(), Finish::default());
            let error = relative_error(&y.mapv(f64::from), &forward);
            assert!(error < limit, "{kernel:?}: x Wᵀ errs by {error}");
            let product = QuantisedWeight::transposed_on(kernel, &matrix);
            let dx = product.multiply(dy.view(), Finish::default());
            let error = relative_error(&dx.mapv(f64::from), &backward);
            assert!(error < limit, "{kernel:?}: x W errs by {error}");
        }
    }

    #[test]
    fn products_are_finished_as_the_parts_say() {
        let mut rng = Rng::new(15);
        let values = integers(&mut rng, (300, 31));
        let matrix = QuantisedMatrix {
            values: values.view(),
            scales: Array1::from_elem(300, 0.01),
        };
        let x = random(&mut rng, (7, 31)).mapv(|x| x as f32);
        let bias = random(&mut rng, (1, 300)).mapv(|x| x as f32);
        let residual = random(&mut rng, (7, 300)).mapv(|x| x as f32);
        for kernel in [Kernel::all(Number::Integer).first(), None] {
            let weight = QuantisedWeight::on(kernel, &matrix);
            let plain = weight.multiply(x.view(), Finish::default());
            for activation in [
                None,
                Some(Activation::QuickGelu),
                Some(Activation::Gelu),
                Some(Activation::GeluTanh),
            ] {
                let finish = Finish {
                    bias: bias.as_slice(),
                    activation,
                    residual: Some(residual.view()),
                };
                let activate = |x| activation.map_or(x, |activation| activation.value(x));
                let expected = (&plain + &bias).mapv(activate) + &residual;
                let error = (weight.multiply(x.view(), finish) - expected).mapv(f32::abs);
                assert!(error.iter().all(|&e| e < 1e-6), "{kernel:?} {activation:?}");
            }
        }
    }

    #[test]
    fn a_row_that_is_not_finite_spoils_itself_alone() {
        let values = Array2::<i8>::ones((4, 8));
        let matrix = QuantisedMatrix {
            values: values.view(),
            scales: Array1::ones(4),
        };
        let mut x = Array2::<f32>::ones((4, 8));
        x[[1, 3]] = f32::NAN;
        x[[2, 0]] = f32::NEG_INFINITY;
        x.row_mut(3).fill(1e-42);
        for kernel in Kernel::all(Number::Integer) {
            let product = QuantisedWeight::on(Some(&kernel), &matrix);
            let y = product.multiply(x.view(), Finish::default());
            assert!(y.row(0).iter().all(|y| (y - 8.0).abs() < 1e-6), "{kernel}");
            assert!(y.slice(s![1..3, ..]).iter().all(|y| y.is_nan()), "{kernel}");
            assert!(y.row(3).iter().all(|y| y.abs() < 1e-38), "{kernel}");
        }
    }
}
