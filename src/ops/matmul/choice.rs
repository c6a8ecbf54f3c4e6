//! Which kernels are the fastest on this machine: measured, never guessed, as a kernel that the instruction set allows may
//! be a hundred times slower than another. It must not know how they multiply.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::finish::Finish;
use super::float::PackedWeight;
use super::int8::{IntegerKernel, QuantisedWeight};
use super::kernel::{Kernel, Number};
use crate::ops::matrix::StoredIntegers;

/// Which kernels this machine runs fastest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernels {
    /// All that were compared: another machine has others.
    compared: Vec<String>,
    float: String,
    /// Missing where integers are slower than floats.
    integer: Option<String>,
}

static CHOSEN: OnceLock<(Kernels, Kernel, Option<IntegerKernel>)> = OnceLock::new();

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
        let (floats, integers) = (Kernel::all(Number::Float), IntegerKernel::all());
        if self.compared != names(&floats, &integers) {
            return false;
        }
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
pub(super) fn integer() -> Option<&'static IntegerKernel> {
    choice().2.as_ref()
}

fn choice() -> &'static (Kernels, Kernel, Option<IntegerKernel>) {
    CHOSEN.get_or_init(|| {
        let (floats, integers) = (Kernel::all(Number::Float), IntegerKernel::all());
        let compared = names(&floats, &integers);
        let (float, float_time) =
            fastest(floats, float_trial).expect("tract-linalg has a portable f32 kernel");
        let integer = fastest(integers, integer_trial);
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

fn find<K: ToString>(name: &str, kernels: Vec<K>) -> Option<K> {
    kernels
        .into_iter()
        .find(|kernel| kernel.to_string() == name)
}

/// In an order of their own: tract's depends on a measurement of its own, which comes out otherwise now and then.
fn names(floats: &[Kernel], integers: &[IntegerKernel]) -> Vec<String> {
    let floats = floats.iter().map(ToString::to_string);
    let integers = integers.iter().map(ToString::to_string);
    let mut names: Vec<String> = floats.chain(integers).collect();
    names.sort();
    names
}

/// The shape that kernels are compared at, `[rows, in]` and `[out, in]`: 50 rows are a picture of ViT-B/32. The output
/// channels are few enough that a product is one piece and the work of one thread.
const ROWS: usize = 50;
const INNER: usize = 256;
const OUT: usize = 128;
const ROUNDS: usize = 4;

/// One product on a kernel, to be run again and again.
type Trial = Box<dyn Fn()>;

fn float_trial(kernel: &Kernel) -> Trial {
    let weight = PackedWeight::on(kernel, Array2::zeros((OUT, INNER)).view());
    let x = Array2::ones((ROWS, INNER));
    Box::new(move || drop(black_box(weight.multiply(x.view()))))
}

fn integer_trial(kernel: &IntegerKernel) -> Trial {
    let matrix = StoredIntegers::copied(Array2::zeros((OUT, INNER)).view(), vec![1.0; OUT].into());
    let weight = QuantisedWeight::on(Some(kernel), &matrix);
    let x = Array2::ones((ROWS, INNER));
    Box::new(move || drop(black_box(weight.multiply(x.view(), Finish::default()))))
}

/// The kernel with the shortest run, and that run.
fn fastest<K>(kernels: Vec<K>, trial: fn(&K) -> Trial) -> Option<(K, Duration)> {
    let mut best: Option<(K, Duration)> = None;
    for kernel in kernels {
        let trial = trial(&kernel);
        let run = || {
            let start = Instant::now();
            trial();
            start.elapsed()
        };
        run();
        let mut time = run();
        // What is far behind already cannot win: the portable kernels would take most of the time.
        let behind = |time: Duration| best.as_ref().is_some_and(|(_, best)| time > *best * 3);
        for _ in 0..ROUNDS {
            if behind(time) {
                break;
            }
            time = time.min(run());
        }
        if best.as_ref().is_none_or(|(_, best)| time < *best) {
            best = Some((kernel, time));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tract times the multipliers of a CPU to order its kernels, which on a busy machine now and then comes out
    /// otherwise: a start then measured again, and wrote the home folder.
    #[test]
    fn kernels_in_another_order_are_the_same_machine() {
        let (mut floats, mut integers) = (Kernel::all(Number::Float), IntegerKernel::all());
        let usual = names(&floats, &integers);
        floats.reverse();
        integers.reverse();
        assert!(floats.len() > 1, "{usual:?}");
        assert_eq!(names(&floats, &integers), usual);
    }
}
