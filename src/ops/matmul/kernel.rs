//! The kernels of tract-linalg that this CPU runs. It knows nothing of scales.

use std::fmt;

use tract_core::internal::{DatumType, Tensor};
use tract_linalg::MmmDispatch;
use tract_linalg::mmm::{AsInputValue, FusedSpec, MMMInputFormat, MMMInputValue, MatMatMul, Query};

/// What a kernel multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// f32, summed in f32.
    Float,
    /// Eight-bit integers, summed in i32.
    Integer,
}

/// One way to multiply: a kernel, its way to pack, and on which side it has the constant matrix.
#[derive(Clone, Debug)]
pub struct Kernel {
    mmm: Box<dyn MatMatMul>,
    packing: usize,
    /// A kernel stores fast in one direction only: columns of `W xᵀ`, or rows of `x Wᵀ`.
    weight_first: bool,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.weight_first { "left" } else { "right" };
        write!(f, "{}/{}/{side}", self.mmm.name(), self.packing)
    }
}

impl Kernel {
    /// Every way that this CPU has; those that tract prefers come first.
    pub fn all(number: Number) -> Vec<Kernel> {
        let accumulator = match number {
            Number::Float => DatumType::F32,
            Number::Integer => DatumType::I32,
        };
        let query = Query {
            allow_extractor: false,
            ..Query::plain(accumulator, None, None, None)
        };
        let mut suitable = MmmDispatch::native().suitable(&query);
        suitable.retain(|(mmm, _, _)| !mmm.emulated());
        suitable.sort_by_key(|(mmm, packing, _)| {
            std::cmp::Reverse((mmm.arch().is_some(), mmm.preference(), *packing))
        });
        let both = suitable.into_iter().flat_map(|(mmm, packing, _)| {
            [true, false].map(|weight_first| Kernel {
                mmm: mmm.clone(),
                packing,
                weight_first,
            })
        });
        both.collect()
    }

    /// The format of the constant matrix.
    pub(super) fn weight_format(&self) -> &dyn MMMInputFormat {
        let (left, right) = &self.mmm.packings()[self.packing];
        &**if self.weight_first { left } else { right }
    }

    /// The format of the variable operand.
    pub(super) fn input_format(&self) -> &dyn MMMInputFormat {
        let (left, right) = &self.mmm.packings()[self.packing];
        &**if self.weight_first { right } else { left }
    }

    /// How many output channels it computes side by side.
    pub(super) fn channels(&self) -> usize {
        if self.weight_first {
            self.mmm.mr()
        } else {
            self.mmm.nr()
        }
    }

    /// Writes `x Wᵀ [rows, out]` to `y`, as numbers of the accumulator.
    pub(super) fn run(&self, weight: &dyn MMMInputValue, x: &dyn MMMInputValue, y: &mut Tensor) {
        let (size, width) = (size_of::<u32>(), weight.mn());
        assert!(
            weight.k() == x.k()
                && y.shape() == [x.mn(), width]
                && *weight.format() == *self.weight_format()
                && *x.format() == *self.input_format()
                && y.datum_type().size_of() == size
        );
        let (left, right, strides) = if self.weight_first {
            (weight, x, [1, width as isize])
        } else {
            (x, weight, [width as isize, 1])
        };
        let product = FusedSpec::AddMatMul {
            a: AsInputValue::Borrowed(left),
            b: AsInputValue::Borrowed(right),
            packing: self.packing,
        };
        // SAFETY: both operands were packed by this kernel's own formats, and `y` is as large as the product, with numbers
        // as large as the accumulator: all asserted above.
        let result = unsafe {
            let store = self
                .mmm
                .c_from_data_and_strides(size, strides[0], strides[1])
                .wrap(&y.view());
            self.mmm
                .run(left.mn(), right.mn(), &[product, FusedSpec::Store(store)])
        };
        result.expect("a kernel runs what it packed");
    }
}
