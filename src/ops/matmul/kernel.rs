//! The kernels of tract-linalg that this CPU runs, and which of them is the fastest here: measured, never guessed, as a
//! kernel that the instruction set allows may be a hundred times slower than another. It knows nothing of scales.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tract_core::internal::{DatumType, Tensor};
use tract_linalg::MmmDispatch;
use tract_linalg::mmm::{AsInputValue, FusedSpec, MMMInputFormat, MMMInputValue, MatMatMul, Query};

use super::packed::Panels;

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

/// Which kernels this machine runs fastest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernels {
    /// All that were compared: another machine has others.
    compared: Vec<String>,
    float: String,
    /// Missing where integers are slower than floats.
    integer: Option<String>,
}

static CHOSEN: OnceLock<(Kernels, Kernel, Option<Kernel>)> = OnceLock::new();

impl Kernels {
    /// The choice for this process: the one adopted, or else measured now, once (some ten milliseconds).
    pub fn chosen() -> &'static Kernels {
        &choice().0
    }

    /// The choice, if it has been made: measures nothing.
    pub fn in_force() -> Option<&'static Kernels> {
        CHOSEN.get().map(|choice| &choice.0)
    }

    /// Takes over an earlier measurement, unless it is another machine's or the choice is already made. Tells whether
    /// it is in force.
    pub fn adopt(self) -> bool {
        let (floats, integers) = (Kernel::all(Number::Float), Kernel::all(Number::Integer));
        if self.compared != names(&floats, &integers) {
            return false;
        }
        let find = |name: &str, kernels: Vec<Kernel>| {
            kernels
                .into_iter()
                .find(|kernel| kernel.to_string() == name)
        };
        let Some(float) = find(&self.float, floats) else {
            return false;
        };
        let integer = match &self.integer {
            None => None,
            Some(name) => match find(name, integers) {
                None => return false,
                found => found,
            },
        };
        CHOSEN.set((self, float, integer)).is_ok()
    }

    /// The kernel for f32.
    pub fn float(&self) -> &str {
        &self.float
    }

    /// The kernel for eight-bit integers; none where they are slower than floats on this machine.
    pub fn integer(&self) -> Option<&str> {
        self.integer.as_deref()
    }
}

/// The kernel for f32.
pub(super) fn float() -> &'static Kernel {
    &choice().1
}

/// The kernel for eight-bit integers, where that is faster than f32.
pub(super) fn integer() -> Option<&'static Kernel> {
    choice().2.as_ref()
}

fn choice() -> &'static (Kernels, Kernel, Option<Kernel>) {
    CHOSEN.get_or_init(|| {
        let (floats, integers) = (Kernel::all(Number::Float), Kernel::all(Number::Integer));
        let compared = names(&floats, &integers);
        let (float, float_time) =
            fastest(floats, DatumType::F32).expect("tract-linalg has a portable f32 kernel");
        let integer = fastest(integers, DatumType::I8);
        let integer = integer.filter(|(_, time)| *time < float_time);
        let integer = integer.map(|(kernel, _)| kernel);
        let kernels = Kernels {
            compared,
            float: float.to_string(),
            integer: integer.as_ref().map(ToString::to_string),
        };
        (kernels, float, integer)
    })
}

fn names(floats: &[Kernel], integers: &[Kernel]) -> Vec<String> {
    floats
        .iter()
        .chain(integers)
        .map(ToString::to_string)
        .collect()
}

/// The shape that kernels are compared at, `[rows, in]` and `[out, in]`: 50 rows are a picture of ViT-B/32.
const ROWS: usize = 50;
const INNER: usize = 128;
const OUT: usize = 192;
const ROUNDS: usize = 4;

/// The kernel with the shortest run, and that run.
fn fastest(kernels: Vec<Kernel>, number: DatumType) -> Option<(Kernel, Duration)> {
    let mut best: Option<(Kernel, Duration)> = None;
    for kernel in kernels {
        let mut trial = Trial::new(&kernel, number);
        trial.run();
        let mut time = trial.run();
        // What is far behind already cannot win: the portable kernels would take most of the time.
        let behind = |time: Duration| best.as_ref().is_some_and(|(_, best)| time > *best * 3);
        for _ in 0..ROUNDS {
            if behind(time) {
                break;
            }
            time = time.min(trial.run());
        }
        if best.as_ref().is_none_or(|(_, best)| time < *best) {
            best = Some((kernel, time));
        }
    }
    best
}

struct Trial<'a> {
    kernel: &'a Kernel,
    weight: Panels,
    x: Panels,
    y: Tensor,
}

impl Trial<'_> {
    fn new(kernel: &Kernel, number: DatumType) -> Trial<'_> {
        let pack = |format: &dyn MMMInputFormat, rows| {
            let zeros = Tensor::zero_dt(number, &[rows, INNER]);
            zeros
                .and_then(|zeros| format.prepare_one(&zeros, 1, 0))
                .expect("a kernel packs its own numbers")
        };
        Trial {
            kernel,
            weight: pack(kernel.weight_format(), OUT),
            x: pack(kernel.input_format(), ROWS),
            y: Tensor::zero::<f32>(&[ROWS, OUT]).expect("memory for a product"),
        }
    }

    fn run(&mut self) -> Duration {
        let start = Instant::now();
        self.kernel.run(&*self.weight, &*self.x, &mut self.y);
        start.elapsed()
    }
}
