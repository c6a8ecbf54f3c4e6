//! Products with a matrix of eight-bit integers: the rows that are multiplied are quantised on the way into the kernel,
//! each with its own scale, and the scales come back in one pass over the integer products. Where this machine has no
//! integer kernel worth it, the same products in f32. It knows neither layers nor gradients.

use std::fmt;
use std::mem::MaybeUninit;

use multiversion::multiversion;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};

use super::choice;
use super::finish::{self, Finish};
use super::float::PackedWeight;
use super::in_place::{InPlace, Inputs, Placed};
use super::kernel::{Kernel, Number};
use super::packed::{Packed, Panels};
use super::panels::{PanelWriter, pack_all};
use super::pieces::Block;
use crate::ops::matrix::StoredIntegers;

/// A matrix in eight bits, symmetric, with a scale for each output channel: `W[o, i] = values[o, i] * scales[o]`.
#[derive(Clone, Debug)]
pub struct QuantisedMatrix<'a> {
    /// `[out, in]`
    pub values: ArrayView2<'a, i8>,
    /// `[out]`
    pub scales: ArrayView1<'a, f32>,
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

/// One way to multiply integers.
#[derive(Clone, Debug)]
pub enum IntegerKernel {
    /// tract's, on panels that are packed once.
    Panels(Kernel),
    /// Ours, on the values where they lie.
    InPlace(InPlace),
}

impl fmt::Display for IntegerKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IntegerKernel::Panels(kernel) => kernel.fmt(f),
            IntegerKernel::InPlace(kernel) => kernel.fmt(f),
        }
    }
}

impl IntegerKernel {
    /// Every way that this CPU has; the likely fastest come first.
    pub fn all() -> Vec<IntegerKernel> {
        let in_place = InPlace::all().into_iter().map(IntegerKernel::InPlace);
        let panels = Kernel::all(Number::Integer).into_iter();
        in_place.chain(panels.map(IntegerKernel::Panels)).collect()
    }

    /// Rows and output channels that it computes at once.
    pub(super) fn tile(&self) -> [usize; 2] {
        match self {
            IntegerKernel::Panels(kernel) => kernel.tile(),
            IntegerKernel::InPlace(kernel) => kernel.tile(),
        }
    }
}

/// A matrix of [`StoredIntegers`], ready for `x Wᵀ` or for `x W`.
#[derive(Clone, Debug)]
pub struct QuantisedWeight {
    form: Form,
    /// Of the columns of `x`, multiplied in before quantising; `x W` has them.
    inputs: Option<Array1<f32>>,
    /// Of the columns of the product; `x Wᵀ` has them.
    channels: Option<Array1<f32>>,
}

#[derive(Clone, Debug)]
enum Form {
    Panels(Packed),
    InPlace(Placed),
    /// The scales are multiplied in.
    Float(PackedWeight),
}

impl QuantisedWeight {
    /// For `x Wᵀ`, as this machine does it fastest.
    pub fn new(matrix: &StoredIntegers) -> QuantisedWeight {
        QuantisedWeight::on(choice::integer(), matrix)
    }

    /// For `x W`, which takes gradients of an output `[rows, out]` to those of the input `[rows, in]`.
    pub fn transposed(matrix: &StoredIntegers) -> QuantisedWeight {
        QuantisedWeight::transposed_on(choice::integer(), matrix)
    }

    /// For `x Wᵀ` on this kernel, or in f32.
    pub fn on(kernel: Option<&IntegerKernel>, matrix: &StoredIntegers) -> QuantisedWeight {
        let form = match kernel {
            Some(IntegerKernel::InPlace(kernel)) => {
                Form::InPlace(Placed::new(kernel, matrix, false))
            }
            Some(IntegerKernel::Panels(kernel)) => {
                Form::Panels(matrix.with(|matrix| pack_all(kernel, matrix.values)))
            }
            None => return QuantisedWeight::float(matrix.floats().view()),
        };
        QuantisedWeight {
            form,
            inputs: None,
            channels: Some(matrix.scales().clone()),
        }
    }

    /// For `x W` on this kernel, or in f32.
    pub fn transposed_on(
        kernel: Option<&IntegerKernel>,
        matrix: &StoredIntegers,
    ) -> QuantisedWeight {
        let form = match kernel {
            Some(IntegerKernel::InPlace(kernel)) => {
                Form::InPlace(Placed::new(kernel, matrix, true))
            }
            Some(IntegerKernel::Panels(kernel)) => {
                Form::Panels(matrix.with(|matrix| pack_all(kernel, matrix.values.t())))
            }
            None => return QuantisedWeight::float(matrix.floats().t()),
        };
        QuantisedWeight {
            form,
            inputs: Some(matrix.scales().clone()),
            channels: None,
        }
    }

    fn float(matrix: ArrayView2<f32>) -> QuantisedWeight {
        QuantisedWeight {
            form: Form::Float(PackedWeight::new(matrix)),
            inputs: None,
            channels: None,
        }
    }

    /// How wide the product is, and how wide `x` must be.
    pub fn dim(&self) -> (usize, usize) {
        match &self.form {
            Form::Float(weight) => weight.dim(),
            Form::Panels(packed) => packed.dim(),
            Form::InPlace(placed) => placed.dim(),
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
        if let Form::Float(weight) = &self.form {
            return weight.write(x, finish, y);
        }
        let (rows, inner) = x.dim();
        let (out, expected) = self.dim();
        assert_eq!(inner, expected, "a product of matrices whose widths differ");
        finish.check(rows, out);
        let inputs = self.inputs.as_ref().and_then(|scales| scales.as_slice());
        let channels = self.channels.as_ref().and_then(|scales| scales.as_slice());
        let finished = |row, scale, column, products: &[u32], y: &mut [f32]| {
            let piece = finish.piece(row, column, y.len());
            let channels = channels.map(|scales| &scales[column..][..y.len()]);
            finish::integers(products, scale, channels, piece, y);
        };
        match &self.form {
            Form::Float(_) => unreachable!("returned above"),
            Form::Panels(packed) => packed.multiply(
                rows,
                |kernel, rows| quantise_panels(kernel, x.slice(s![rows, ..]), inputs),
                |block: &Block<_, Vec<f32>>, row, column, products, y| {
                    let scale = block.saved[row];
                    finished(block.rows.start + row, scale, column, products, y)
                },
                y,
            ),
            Form::InPlace(placed) => placed.multiply(
                rows,
                |rows| quantise_lines(x.slice(s![rows, ..]), inputs),
                |block: &Block<_, Vec<f32>>, row, column, products, y| {
                    let scale = block.saved[row];
                    finished(block.rows.start + row, scale, column, products, y)
                },
                y,
            ),
        }
    }
}

/// Quantises the rows of `x`, each times `inputs`, hands each to `write`, and yields their scales.
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
fn quantise_panels(
    kernel: &Kernel,
    x: ArrayView2<f32>,
    inputs: Option<&[f32]>,
) -> (Panels, Vec<f32>) {
    let (rows, inner) = x.dim();
    let mut panels = PanelWriter::new(kernel.input_format(), kernel.step(), rows, inner);
    let scales = quantise(x, inputs, |row, integers| panels.write(row, integers));
    (panels.finish(), scales)
}

/// The quantised rows one after the other, and their scales.
fn quantise_lines(x: ArrayView2<f32>, inputs: Option<&[f32]>) -> (Inputs, Vec<f32>) {
    let mut lines = Inputs::new(x.nrows(), x.ncols());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{random, relative_error};
    use crate::ops::{Activation, Matrix};
    use crate::rng::Rng;
    use std::sync::Arc;

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
        let kernels = IntegerKernel::all();
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
            let matrix = StoredIntegers::copied(values.view(), scales.clone());
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
        let matrix = StoredIntegers::copied(values.view(), scales.row(0).to_owned());
        let floats = matrix.floats::<f64>();
        let (x, dy) = (random(&mut rng, (50, 200)), random(&mut rng, (50, 96)));
        let (forward, backward) = (x.dot(&floats.t()), dy.dot(&floats));
        let (x, dy) = (x.mapv(|x| x as f32), dy.mapv(|x| x as f32));
        let paths = IntegerKernel::all().into_iter().map(Some);
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
    fn values_may_lie_as_rows_as_columns_and_in_several_places() {
        let mut rng = Rng::new(16);
        for (rows, inner, heights) in [(3, 20, [40, 44, 12]), (13, 7, [5, 1, 30])] {
            let out = heights.iter().sum();
            let values = integers(&mut rng, (out, inner));
            let x = random(&mut rng, (rows, inner)).mapv(|x| x as f32);
            let dy = random(&mut rng, (rows, out)).mapv(|x| x as f32);
            let bytes = |values: ArrayView2<i8>| -> Arc<Vec<u8>> {
                Arc::new(values.iter().map(|&value| value as u8).collect())
            };
            let scales = Array1::from_shape_fn(out, |o| 0.01 * (o + 1) as f32);
            let whole = StoredIntegers::copied(values.view(), scales.clone());
            let columns = bytes(values.t());
            let columns =
                StoredIntegers::transposed(columns, 0..out * inner, inner, scales.clone());
            let mut from = 0;
            let parts = heights.map(|height| {
                let part = s![from..from + height, ..];
                let scales = scales.slice(s![from..from + height]).to_owned();
                from += height;
                Matrix::<f32>::Integers(StoredIntegers::copied(values.slice(part), scales))
            });
            let Matrix::Integers(stack) = Matrix::stack(&[&parts[0], &parts[1], &parts[2]]) else {
                panic!("a stack of integers is floats")
            };
            for kernel in IntegerKernel::all() {
                let both = |matrix: &StoredIntegers| {
                    let forward = QuantisedWeight::on(Some(&kernel), matrix);
                    let backward = QuantisedWeight::transposed_on(Some(&kernel), matrix);
                    (
                        forward.multiply(x.view(), Finish::default()),
                        backward.multiply(dy.view(), Finish::default()),
                    )
                };
                let expected = both(&whole);
                assert_eq!(both(&columns), expected, "{kernel}");
                assert_eq!(both(&stack), expected, "{kernel}");
            }
        }
    }

    #[test]
    fn products_are_finished_as_the_parts_say() {
        let mut rng = Rng::new(15);
        let values = integers(&mut rng, (300, 31));
        let matrix = StoredIntegers::copied(values.view(), Array1::from_elem(300, 0.01));
        let x = random(&mut rng, (7, 31)).mapv(|x| x as f32);
        let bias = random(&mut rng, (1, 300)).mapv(|x| x as f32);
        let residual = random(&mut rng, (7, 300)).mapv(|x| x as f32);
        for kernel in [
            IntegerKernel::all().first(),
            IntegerKernel::all().last(),
            None,
        ] {
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
        let matrix = StoredIntegers::copied(values.view(), Array1::ones(4));
        let mut x = Array2::<f32>::ones((4, 8));
        x[[1, 3]] = f32::NAN;
        x[[2, 0]] = f32::NEG_INFINITY;
        x.row_mut(3).fill(1e-42);
        for kernel in IntegerKernel::all() {
            let product = QuantisedWeight::on(Some(&kernel), &matrix);
            let y = product.multiply(x.view(), Finish::default());
            assert!(y.row(0).iter().all(|y| (y - 8.0).abs() < 1e-6), "{kernel}");
            assert!(y.slice(s![1..3, ..]).iter().all(|y| y.is_nan()), "{kernel}");
            assert!(y.row(3).iter().all(|y| y.abs() < 1e-38), "{kernel}");
        }
    }
}
