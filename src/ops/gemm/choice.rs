//! Which kernels are the fastest on this machine: measured rather than guessed, because a kernel that the processor can run
//! may be a hundred times slower than another. Only kernels that are exact here are measured.

use std::fmt;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::direction::Direction;
use super::epilogue::Epilogue;
use super::exactness::{self, CHECK, Refusal, Refused, screened};
use super::kernel::{Accumulator, Kernel};
use super::weight::{IntegerKernel, Weight};
use crate::ops::matrix::StoredIntegers;

/// Which kernels this machine runs fastest, of those that are exact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kernels {
    /// The version that checked them, and its check.
    checked_by: String,
    /// All that were compared: another machine has others.
    compared: Vec<String>,
    float: String,
    /// Missing where integers are far slower than floats.
    integer: Option<String>,
    refused: Vec<Refused>,
}

/// A choice, and the kernels that it names.
type Choice = (Kernels, Kernel, Option<IntegerKernel>);

static KEPT: OnceLock<Kernels> = OnceLock::new();
static CHOSEN: OnceLock<Choice> = OnceLock::new();

impl Kernels {
    /// The choice for this process: the one adopted, or else checked and measured now, once (some ten milliseconds).
    pub fn chosen() -> &'static Kernels {
        &choice().0
    }

    /// The choice, if it has been made: measures nothing.
    pub fn in_force() -> Option<&'static Kernels> {
        CHOSEN.get().map(|choice| &choice.0)
    }

    /// Offers an earlier choice. It is adopted when the first product needs a kernel, unless another version or another
    /// machine made it, or one of its kernels is not exact here.
    pub fn adopt(self) {
        // Only the first offer counts.
        let _ = KEPT.set(self);
    }

    /// The kernels that an earlier choice names, if it can be trusted.
    fn believed(&self) -> Option<Choice> {
        let (floats, integers) = (Kernel::all(Accumulator::F32), IntegerKernel::all());
        if self.checked_by != CHECK || self.compared != names(&floats, &integers) {
            return None;
        }
        let float = find(&self.float, floats)?;
        let integer = match &self.integer {
            None => None,
            Some(name) => Some(find(name, integers)?),
        };
        let float_alone = [Candidate::Float(float.clone())];
        let both = float_alone
            .into_iter()
            .chain(integer.clone().map(Candidate::Integer));
        let (_, refused) = screened(both.collect(), Candidate::check);
        refused.is_empty().then(|| (self.clone(), float, integer))
    }

    /// The kernel for f32.
    pub fn float(&self) -> &str {
        &self.float
    }

    /// The kernel for eight-bit integers; none where they are far slower than floats on this machine.
    pub fn integer(&self) -> Option<&str> {
        self.integer.as_deref()
    }

    /// Kernels of this machine that are not used, and why.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }
}

/// The kernel for f32.
pub(super) fn float() -> &'static Kernel {
    &choice().1
}

/// The kernel for eight-bit integers, unless that is far slower than f32.
pub(super) fn integer() -> Option<&'static IntegerKernel> {
    choice().2.as_ref()
}

/// A kernel that may be chosen.
#[derive(Clone)]
enum Candidate {
    Float(Kernel),
    Integer(IntegerKernel),
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Candidate::Float(kernel) => kernel.fmt(f),
            Candidate::Integer(kernel) => kernel.fmt(f),
        }
    }
}

impl Candidate {
    /// Whether it is exact, by products as layers make them.
    fn check(&self) -> Result<(), Refusal> {
        match self {
            Candidate::Float(kernel) => exactness::floats(kernel.tile(), |weight, x| {
                Weight::floats_on(kernel, weight).multiply(x, Epilogue::default())
            }),
            Candidate::Integer(kernel) => {
                exactness::integers(kernel.tile(), |matrix, direction, x| {
                    Weight::integers_on(kernel, matrix, direction).multiply(x, Epilogue::default())
                })
            }
        }
    }
}

fn choice() -> &'static Choice {
    CHOSEN.get_or_init(|| {
        KEPT.get()
            .and_then(Kernels::believed)
            .unwrap_or_else(choose)
    })
}

/// Checks every candidate, and measures those that are exact.
fn choose() -> Choice {
    let (floats, integers) = (Kernel::all(Accumulator::F32), IntegerKernel::all());
    let compared = names(&floats, &integers);
    let mut refused = Kernel::left_out(Accumulator::F32);
    refused.extend(Kernel::left_out(Accumulator::I32));
    let floats = floats.into_iter().map(Candidate::Float);
    let candidates = floats.chain(integers.into_iter().map(Candidate::Integer));
    let (exact, failed) = screened(candidates.collect(), Candidate::check);
    refused.extend(failed);
    let (mut floats, mut integers) = (Vec::new(), Vec::new());
    for candidate in exact {
        match candidate {
            Candidate::Float(kernel) => floats.push(kernel),
            Candidate::Integer(kernel) => integers.push(kernel),
        }
    }
    let (float, float_time) = fastest(floats, float_trial)
        .expect("tract-linalg has a portable f32 kernel, which is exact anywhere");
    let integer = fastest(integers, integer_trial);
    // Weights in f32 are four times as large, and a product of them waits for memory longer than this small one shows.
    let integer = integer.filter(|(_, time)| *time < 2 * float_time);
    let integer = integer.map(|(kernel, _)| kernel);
    let kernels = Kernels {
        checked_by: CHECK.to_owned(),
        compared,
        float: float.to_string(),
        integer: integer.as_ref().map(ToString::to_string),
        refused,
    };
    (kernels, float, integer)
}

fn find<K: ToString>(name: &str, kernels: Vec<K>) -> Option<K> {
    kernels
        .into_iter()
        .find(|kernel| kernel.to_string() == name)
}

/// Sorted, because tract's order depends on a measurement of its own, which varies.
fn names(floats: &[Kernel], integers: &[IntegerKernel]) -> Vec<String> {
    let floats = floats.iter().map(ToString::to_string);
    let integers = integers.iter().map(ToString::to_string);
    let mut names: Vec<String> = floats.chain(integers).collect();
    names.sort();
    names
}

/// The shape that kernels are compared at, `[rows, in]` and `[out, in]`: 50 rows are a picture of ViT-B/32. The output
/// channels are few enough for a product to be one tile and the work of one thread.
const ROWS: usize = 50;
const INNER: usize = 256;
const OUT: usize = 128;
const ROUNDS: usize = 4;

/// One product on a kernel, to be run again and again.
type Trial = Box<dyn Fn()>;

fn float_trial(kernel: &Kernel) -> Trial {
    trial(Weight::floats_on(
        kernel,
        Array2::zeros((OUT, INNER)).view(),
    ))
}

fn integer_trial(kernel: &IntegerKernel) -> Trial {
    let matrix = StoredIntegers::copied(Array2::zeros((OUT, INNER)).view(), vec![1.0; OUT].into());
    trial(Weight::integers_on(kernel, &matrix, Direction::Forward))
}

fn trial(weight: Weight) -> Trial {
    let x = Array2::ones((ROWS, INNER));
    Box::new(move || drop(black_box(weight.multiply(x.view(), Epilogue::default()))))
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
        // On a busy machine one run alone may be interrupted: the cold one counts, too.
        let mut time = run().min(run());
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

    /// tract measures a processor to order its kernels, and on a busy machine the order varies: a start then measured
    /// again and wrote the home folder.
    #[test]
    fn a_start_on_a_busy_machine_does_not_take_it_for_another_one() {
        let (mut floats, mut integers) = (Kernel::all(Accumulator::F32), IntegerKernel::all());
        let usual = names(&floats, &integers);
        floats.reverse();
        integers.reverse();
        assert!(floats.len() > 1, "{usual:?}");
        assert_eq!(names(&floats, &integers), usual);
    }
    /// An older version's choice named a kernel for f32 that computes in bf16.
    #[test]
    fn only_this_versions_choice_of_exact_kernels_of_this_machine_is_believed() {
        let (own, float, _) = choose();
        let believed = own.believed().expect("what was chosen just now");
        assert_eq!(
            (&believed.0, believed.1.to_string()),
            (&own, float.to_string())
        );
        for (changed, why) in [
            (
                Kernels {
                    checked_by: "0.1.0".into(),
                    ..own.clone()
                },
                "another version",
            ),
            (
                Kernels {
                    compared: own.compared[1..].to_vec(),
                    ..own.clone()
                },
                "another machine",
            ),
            (
                Kernels {
                    float: "avx512amx_mmm_f32_16x16/1/left".into(),
                    ..own.clone()
                },
                "no candidate",
            ),
            (
                Kernels {
                    integer: Some(own.float.clone()),
                    ..own.clone()
                },
                "not of integers",
            ),
        ] {
            assert!(changed.believed().is_none(), "{why}");
        }
        let older = r#"{"compared":[],"float":"generic_f32_4x4/0/left","integer":null}"#;
        assert!(
            serde_json::from_str::<Kernels>(older).is_err(),
            "a file of 0.1.0"
        );
        let kept = serde_json::to_string(&own).expect("text and numbers");
        assert_eq!(
            serde_json::from_str::<Kernels>(&kept).expect("what was kept"),
            own
        );
    }

    #[test]
    fn all_candidates_of_this_machine_are_exact() {
        let floats = Kernel::all(Accumulator::F32)
            .into_iter()
            .map(Candidate::Float);
        let integers = IntegerKernel::all().into_iter().map(Candidate::Integer);
        let (exact, refused) = screened(floats.chain(integers).collect(), Candidate::check);
        assert!(!exact.is_empty());
        let told: Vec<String> = refused
            .iter()
            .map(|r| format!("{} {}", r.kernel, r.why))
            .collect();
        assert!(told.is_empty(), "{told:#?}");
    }
}
