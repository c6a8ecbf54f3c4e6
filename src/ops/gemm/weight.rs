//! A constant matrix as one kernel reads it, and its products. Rows that meet integers are quantised on their way into the
//! kernel, and the scales come back with the epilogue.

use std::fmt;
use std::mem::MaybeUninit;

use ndarray::{Array1, Array2, ArrayView2, s};

use super::blocking::Block;
use super::direction::Direction;
use super::epilogue::{self, Epilogue, Scales};
use super::in_place::{InPlace, Line, UnpackedMatrix};
use super::kernel::{Accumulator, Kernel};
use super::packed::PackedMatrix;
use super::packing::{pack_floats, pack_integers};
use super::quantise::{quantise_lines, quantise_panels, quantise_window_line};
use super::windows::Windows;
use crate::ops::cells::TileRows;
use crate::ops::matrix::StoredIntegers;

/// One way to multiply integers.
#[derive(Clone, Debug)]
pub enum IntegerKernel {
    /// tract's, on panels that are packed once.
    Panels(Kernel),
    /// Our own, on the values where they are stored.
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
    /// Every kernel that this processor can run, the likely fastest first.
    pub fn all() -> Vec<IntegerKernel> {
        let in_place = InPlace::all().into_iter().map(IntegerKernel::InPlace);
        let panels = Kernel::all(Accumulator::I32).into_iter();
        in_place.chain(panels.map(IntegerKernel::Panels)).collect()
    }

    /// Rows and output channels that it computes at a time.
    pub(super) fn tile(&self) -> [usize; 2] {
        match self {
            IntegerKernel::Panels(kernel) => kernel.tile(),
            IntegerKernel::InPlace(kernel) => kernel.tile(),
        }
    }
}

/// A constant matrix, ready for one of its two products.
#[derive(Clone, Debug)]
pub struct Weight {
    form: Form,
    /// Of the columns of `x`, multiplied in before quantising: `x W` with a scale for each row of `W`.
    input_scales: Option<Array1<f32>>,
    /// Of the columns of the product: `x Wᵀ` with a scale for each row of `W`.
    channel_scales: Option<Array1<f32>>,
}

#[derive(Clone, Debug)]
enum Form {
    Floats(PackedMatrix),
    Integers(PackedMatrix),
    InPlace(UnpackedMatrix),
}

impl Weight {
    /// `matrix [out, in]` for `x Wᵀ`, packed for this kernel.
    pub fn floats_on(kernel: &Kernel, matrix: ArrayView2<f32>) -> Weight {
        let packed = PackedMatrix::new(kernel.clone(), matrix.dim(), |kernel, channels| {
            pack_floats(kernel.weight_format(), matrix.slice(s![channels, ..]))
        });
        Weight {
            form: Form::Floats(packed),
            input_scales: None,
            channel_scales: None,
        }
    }

    /// A matrix of integers for one of its products, on this kernel.
    pub fn integers_on(
        kernel: &IntegerKernel,
        matrix: &StoredIntegers,
        direction: Direction,
    ) -> Weight {
        let form = match kernel {
            IntegerKernel::InPlace(kernel) => {
                Form::InPlace(UnpackedMatrix::new(kernel, matrix, direction))
            }
            IntegerKernel::Panels(kernel) => Form::Integers(matrix.with(|matrix| {
                let values = matrix.values;
                match direction {
                    Direction::Forward => pack_integers(kernel, values),
                    Direction::Backward => pack_integers(kernel, values.t()),
                }
            })),
        };
        let scales = Some(matrix.scales().clone());
        let (input_scales, channel_scales) = match direction {
            Direction::Forward => (None, scales),
            Direction::Backward => (scales, None),
        };
        Weight {
            form,
            input_scales,
            channel_scales,
        }
    }

    /// The width of the product, and the width of `x`.
    pub fn dim(&self) -> (usize, usize) {
        match &self.form {
            Form::Floats(packed) | Form::Integers(packed) => packed.dim(),
            Form::InPlace(unpacked) => unpacked.dim(),
        }
    }

    /// The product, `[rows, width of x]` to `[rows, width of the product]`. A row of `x` that is not finite yields a row of
    /// NaN where it is multiplied by integers. Panics if sizes differ.
    pub fn multiply(&self, x: ArrayView2<f32>, epilogue: Epilogue) -> Array2<f32> {
        let mut y = Array2::uninit((x.nrows(), self.dim().0));
        let numbers = y.as_slice_mut().expect("a fresh array is contiguous");
        self.write(x, epilogue, numbers);
        // SAFETY: `write` wrote every number.
        unsafe { y.assume_init() }
    }

    /// [`Weight::multiply`] into memory that the caller provides; writes every number of it.
    pub fn write(&self, x: ArrayView2<f32>, epilogue: Epilogue, y: &mut [MaybeUninit<f32>]) {
        let (rows, inner) = x.dim();
        let (out, expected) = self.dim();
        assert_eq!(inner, expected, "a product of matrices whose widths differ");
        epilogue.check(rows, out);
        let inputs = self.input_scales.as_ref().and_then(|s| s.as_slice());
        let channels = self.channel_scales.as_ref().and_then(|s| s.as_slice());
        let scaled = |rows: &[f32], sums: &[u32], y: TileRows| {
            epilogue::integers(sums, Scales { rows, channels }, &epilogue, y);
        };
        match &self.form {
            Form::Floats(packed) => packed.multiply(
                rows,
                |kernel, rows| {
                    let x = x.slice(s![rows, ..]);
                    (pack_floats(kernel.input_format(), x), ())
                },
                |_, sums, y| epilogue::floats(sums, &epilogue, y),
                y,
            ),
            Form::Integers(packed) => packed.multiply(
                rows,
                |kernel, rows| quantise_panels(kernel, x.slice(s![rows, ..]), inputs),
                |block: &Block<_, Vec<f32>>, sums, y| scaled(&block.saved, sums, y),
                y,
            ),
            Form::InPlace(unpacked) => unpacked.multiply(
                rows,
                |rows| {
                    let x = x.slice(s![rows.clone(), ..]);
                    quantise_lines(x, inputs, |quantise| unpacked.inputs(rows.len(), quantise))
                },
                |block: &Block<_, Vec<f32>>, sums, y| scaled(&block.saved, sums, y),
                y,
            ),
        }
    }

    /// [`Weight::write`] for the windows of a picture. Numbers that meet integers of our own kernels are quantised where they lie.
    pub fn write_windows(&self, x: &Windows, epilogue: Epilogue, y: &mut [MaybeUninit<f32>]) {
        let (Form::InPlace(unpacked), None) = (&self.form, &self.input_scales) else {
            return self.write(x.gathered().view(), epilogue, y);
        };
        let (out, expected) = self.dim();
        assert_eq!(
            x.inner(),
            expected,
            "a product of matrices whose widths differ"
        );
        epilogue.check(x.rows(), out);
        let channels = self.channel_scales.as_ref().and_then(|s| s.as_slice());
        unpacked.multiply(
            x.rows(),
            |rows| {
                let window = |row, line: Line| quantise_window_line(x, rows.start + row, line);
                unpacked.inputs(rows.len(), &window)
            },
            |block: &Block<_, Vec<f32>>, sums, y| {
                let rows = &block.saved;
                epilogue::integers(sums, Scales { rows, channels }, &epilogue, y);
            },
            y,
        );
    }

    /// Says that many products follow, so that memory pays that makes them faster.
    pub fn pack(&self) {
        if let Form::InPlace(unpacked) = &self.form {
            unpacked.pack();
        }
    }

    /// Gives back memory that only makes later products faster.
    pub fn release(&self) {
        if let Form::InPlace(unpacked) = &self.form {
            unpacked.release();
        }
    }

    /// The matrix again, `[out, in]`; none if it holds integers, which are packed anew from where they are stored.
    pub fn floats(&self) -> Option<Array2<f32>> {
        let Form::Floats(packed) = &self.form else {
            return None;
        };
        let mut matrix = Array2::zeros(packed.dim());
        for (channel, mut row) in matrix.rows_mut().into_iter().enumerate() {
            let row = row.as_slice_mut().expect("a fresh array is contiguous");
            let (panels, index) = packed.chunk(channel);
            panels
                .extract_at_mn_f32(index, row)
                .expect("the panels hold f32 rows");
        }
        Some(matrix)
    }
}
