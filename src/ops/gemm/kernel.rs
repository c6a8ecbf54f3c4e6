//! The kernels of tract-linalg that this processor can run.

use std::fmt;

use tract_core::internal::{DatumType, DimLike, Tensor, ToDim};
use tract_linalg::isa::NEVER_PREFERRED;
use tract_linalg::mmm::{AsInputValue, FusedSpec, MMMInputFormat, MMMInputValue, MatMatMul, Query};
use tract_linalg::pack::PackedI8K4;
use tract_linalg::{MmmDispatch, WeightType};

use super::exactness::{Refusal, Refused};

/// What a kernel sums its products in, which says what it multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accumulator {
    /// Products of f32.
    F32,
    /// Products of eight-bit integers.
    I32,
}

/// One way to multiply: a kernel, one of its packings, and the side on which it has the constant matrix.
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
    /// Every kernel of this processor that may be exact, those that tract prefers first.
    pub fn all(accumulator: Accumulator) -> Vec<Kernel> {
        let mut all = offered(MmmDispatch::native(), accumulator);
        all.retain(|(mmm, packing)| unsuitable(&**mmm, *packing).is_none());
        let both = all.into_iter().flat_map(|(mmm, packing)| {
            [true, false].map(|weight_first| Kernel {
                mmm: mmm.clone(),
                packing,
                weight_first,
            })
        });
        both.collect()
    }

    /// The other kernels of this processor, which are excluded without a check, and why.
    pub fn left_out(accumulator: Accumulator) -> Vec<Refused> {
        let all = offered(MmmDispatch::native(), accumulator).into_iter();
        let refused = all.filter_map(|(mmm, packing)| {
            Some(Refused {
                why: unsuitable(&*mmm, packing)?,
                kernel: format!("{}/{packing}", mmm.name()),
            })
        });
        refused.collect()
    }

    /// Rows and output channels of the product that it computes at once.
    pub(super) fn tile(&self) -> [usize; 2] {
        if self.weight_first {
            [self.mmm.nr(), self.mmm.mr()]
        } else {
            [self.mmm.mr(), self.mmm.nr()]
        }
    }

    /// How many numbers of a row it reads at a time, on either side.
    pub(super) fn step(&self) -> usize {
        let (left, right) = &self.mmm.packings()[self.packing];
        left.k_alignment().max(right.k_alignment())
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

    /// How many output channels it computes at a time.
    pub(super) fn channels(&self) -> usize {
        self.tile()[1]
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

/// A kernel and one of its ways to pack.
type Offer = (Box<dyn MatMatMul>, usize);

/// What tract has for a machine, those that it prefers first.
fn offered(machine: &MmmDispatch, accumulator: Accumulator) -> Vec<Offer> {
    let accumulator = match accumulator {
        Accumulator::F32 => DatumType::F32,
        Accumulator::I32 => DatumType::I32,
    };
    let query = Query {
        allow_extractor: false,
        ..Query::plain(accumulator, None, None, None)
    };
    let mut suitable = machine.suitable(&query);
    suitable.retain(|(mmm, _, _)| !mmm.emulated());
    suitable.sort_by_key(|(mmm, packing, _)| {
        std::cmp::Reverse((mmm.arch().is_some(), mmm.preference(), *packing))
    });
    suitable
        .into_iter()
        .map(|(mmm, packing, _)| (mmm, packing))
        .collect()
}

/// Why a kernel is excluded without a check, if it is.
fn unsuitable(mmm: &dyn MatMatMul, packing: usize) -> Option<Refusal> {
    let (left, right) = &mmm.packings()[packing];
    let sides = [&**left, &**right];
    if sides.into_iter().any(narrows) {
        return Some(Refusal::Narrows);
    }
    if mmm.boost() <= NEVER_PREFERRED {
        return Some(Refusal::NeverPreferred);
    }
    // One operand is read in the longer steps of the other, beyond its end. What is there is multiplied by zero, but it may
    // be infinite or not mapped. What we pack ourselves has room for it.
    let step = left.k_alignment().max(right.k_alignment());
    let short = |side: &dyn MMMInputFormat| side.k_alignment() < step && !side.is::<PackedI8K4>();
    sides.into_iter().any(short).then_some(Refusal::ReadsBeyond)
}

/// Whether a format keeps fewer bits than its numbers have.
fn narrows(format: &dyn MMMInputFormat) -> bool {
    let WeightType::Plain(number) = format.precursor() else {
        return true;
    };
    let (rows, inner) = (format.r(), 64);
    let bytes = format.mem_size(inner.to_dim(), rows.to_dim()).to_usize();
    if bytes.is_ok_and(|bytes| bytes < rows * inner * number.size_of()) {
        return true;
    }
    // What tract says itself, about a number that needs every bit.
    let finest = 1.0 + f32::EPSILON;
    number == DatumType::F32
        && !format
            .simulate_precision_loss(Tensor::from(finest))
            .and_then(|kept| kept.cast_to_scalar::<f32>())
            .is_ok_and(|kept| kept == finest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_linalg::isa::{Arch, IsaSet, MAX_LEVEL};

    /// An AMX machine chose a kernel for f32 whose operands are bf16, and 51 tests failed there. Any x86-64 can list what
    /// such a machine would be offered.
    #[test]
    fn of_every_x86_nothing_is_kept_that_narrows_or_that_tract_never_prefers() {
        let mut narrowing = 0;
        for level in 0..=MAX_LEVEL {
            let machine = MmmDispatch::for_isa(IsaSet::ladder(Arch::X86_64, level));
            let offers = offered(&machine, Accumulator::F32);
            for (mmm, packing) in &offers {
                let (name, why) = (mmm.name(), unsuitable(&**mmm, *packing));
                let bf16 = format!("{:?}", mmm.packings()[*packing]).contains("Bf16");
                assert_eq!(
                    bf16,
                    why == Some(Refusal::Narrows),
                    "{name}/{packing}: {why:?}"
                );
                assert!(why.is_some() || mmm.boost() > NEVER_PREFERRED, "{name}");
                narrowing += usize::from(bf16);
            }
            let kept = offers
                .iter()
                .any(|(mmm, packing)| unsuitable(&**mmm, *packing).is_none());
            assert!(kept || offers.is_empty(), "level {level}");
            for (mmm, packing) in offered(&machine, Accumulator::I32) {
                assert_eq!(unsuitable(&*mmm, packing), None, "{}", mmm.name());
            }
        }
        println!("{narrowing} ways to pack as another type");
    }
}
