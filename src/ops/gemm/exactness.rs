//! Whether a kernel computes what its type promises: f32 to within f32's rounding, integers exactly. Every candidate is
//! checked on the machine that is to run it before it may be chosen, because what a processor's instructions and a
//! library's kernels do there cannot be known elsewhere.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::direction::Direction;
use crate::ops::matrix::StoredIntegers;

/// Changes with what is checked, so that what passed an earlier check is checked again.
pub(super) const CHECK: &str = concat!(env!("CARGO_PKG_VERSION"), ", check 1");

/// Why a kernel is not used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Its operands are packed as numbers of fewer bits.
    Narrows,
    /// The library that it comes from never prefers it.
    NeverPreferred,
    /// It reads beyond what is packed for it.
    ReadsBeyond,
    /// One of its products is wrong.
    Wrong(Wrong),
    /// It panicked.
    Panics,
}

/// A number of a product that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wrong {
    /// Rows, inputs and output channels of the product.
    pub rows: usize,
    pub inner: usize,
    pub out: usize,
    /// Text, as JSON has no number for NaN.
    pub is: String,
    pub expected: String,
    /// Whether it was right on the thread that ran the check.
    pub only_on_another_thread: bool,
}

/// A kernel that is not used, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    pub kernel: String,
    pub why: Refusal,
}

impl Refused {
    /// Whether it failed its check, rather than having been excluded from the start.
    pub fn failed(&self) -> bool {
        matches!(self.why, Refusal::Wrong(_) | Refusal::Panics)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Narrows => f.write_str("packs its operands in fewer bits"),
            Refusal::NeverPreferred => f.write_str("never preferred by tract-linalg itself"),
            Refusal::ReadsBeyond => f.write_str("reads beyond what is packed for it"),
            Refusal::Wrong(wrong) => wrong.fmt(f),
            Refusal::Panics => f.write_str("panics"),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong {
            rows,
            inner,
            out,
            is,
            expected,
            ..
        } = self;
        write!(
            f,
            "a product [{rows}, {inner}] by [{inner}, {out}] has {is} where {expected} is right"
        )?;
        if self.only_on_another_thread {
            f.write_str(", on a second thread")?;
        }
        Ok(())
    }
}

/// The candidates that pass `check`, on this thread and on another one at the same time, and the others with the reason.
pub(super) fn screened<K: Sync + ToString>(
    candidates: Vec<K>,
    check: impl Fn(&K) -> Result<(), Refusal> + Sync,
) -> (Vec<K>, Vec<Refused>) {
    let all = || -> Vec<Result<(), Refusal>> {
        let checked = candidates.iter().map(|candidate| {
            // Whatever a panic leaves in a bad state belongs to the candidate, which is dropped.
            catch_unwind(AssertUnwindSafe(|| check(candidate))).unwrap_or(Err(Refusal::Panics))
        });
        checked.collect()
    };
    let (here, there) = thread::scope(|scope| {
        // A process that may not start a thread has no second thread on which a kernel could be wrong.
        let other = thread::Builder::new()
            .stack_size(1 << 19)
            .spawn_scoped(scope, all);
        (all(), other.ok().and_then(|other| other.join().ok()))
    });
    let there = there.unwrap_or_else(|| here.clone());
    let (mut exact, mut refused) = (Vec::new(), Vec::new());
    for ((candidate, here), there) in candidates
        .iter()
        .map(ToString::to_string)
        .zip(here)
        .zip(there)
    {
        let why = match (here, there) {
            (Ok(()), Ok(())) => None,
            (Err(why), _) => Some(why),
            (Ok(()), Err(Refusal::Wrong(wrong))) => Some(Refusal::Wrong(Wrong {
                only_on_another_thread: true,
                ..wrong
            })),
            (Ok(()), Err(why)) => Some(why),
        };
        refused.push(why.map(|why| Refused {
            kernel: candidate,
            why,
        }));
    }
    for (candidate, refused) in candidates.into_iter().zip(&refused) {
        if refused.is_none() {
            exact.push(candidate);
        }
    }
    (exact, refused.into_iter().flatten().collect())
}

/// Numbers in a row: below and above what kernels read at a time, odd and even, and whole groups of four, which are packed
/// differently.
const INNER: [usize; 6] = [1, 2, RAGGED, 17, WHOLE, 65];
const RAGGED: usize = 9;
const WHOLE: usize = 36;

/// Checks an f32 product `x Wᵀ` of `x [rows, in]` and `W [out, in]`; `product` is given `W` and `x`. `tile` are the rows
/// and the output channels that are computed at once, which the sizes go beyond by one.
pub(super) fn floats(
    tile: [usize; 2],
    product: impl Fn(ArrayView2<f32>, ArrayView2<f32>) -> Array2<f32>,
) -> Result<(), Refusal> {
    let [rows, out] = tile.map(|count| count + 1);
    for inner in INNER {
        let (weight, x) = (fractions(out, inner, 1), fractions(rows, inner, 2));
        check_floats(&weight, &x, &product(weight.view(), x.view()))?;
    }
    let (weight, x) = (fractions(1, RAGGED, 3), fractions(1, RAGGED, 4));
    check_floats(&weight, &x, &product(weight.view(), x.view()))?;
    // A number that is not finite affects only its row and its channel. These are stored where a kernel that reads beyond
    // the end of the others finds them.
    let (mut weight, mut x) = (fractions(out, RAGGED, 5), fractions(rows, RAGGED, 6));
    weight.row_mut(out - 1).fill(f32::NAN);
    x.row_mut(rows - 1).fill(f32::INFINITY);
    check_floats(&weight, &x, &product(weight.view(), x.view()))
}

/// Whether `y` is `x Wᵀ`, with errors no larger than those of f32 sums of that length in any order.
fn check_floats(weight: &Array2<f32>, x: &Array2<f32>, y: &Array2<f32>) -> Result<(), Refusal> {
    let (weight, x) = (weight.mapv(f64::from), x.mapv(f64::from));
    // Half an epsilon for each product and each sum.
    let share = (x.ncols() + 1) as f64 * 0.5 * f64::from(f32::EPSILON);
    let tolerance = x.mapv(f64::abs).dot(&weight.t().mapv(f64::abs)) * share;
    compare(x.ncols(), y, &x.dot(&weight.t()), &tolerance)
}

/// Compares a product of rows of `inner` numbers with what is expected, to within a tolerance for each number. Where a
/// number is expected not to be finite, it must not be.
fn compare(
    inner: usize,
    y: &Array2<f32>,
    expected: &Array2<f64>,
    tolerance: &Array2<f64>,
) -> Result<(), Refusal> {
    let (rows, out) = expected.dim();
    let wrong = |is: String, expected: String| {
        Refusal::Wrong(Wrong {
            rows,
            inner,
            out,
            is,
            expected,
            only_on_another_thread: false,
        })
    };
    if y.dim() != expected.dim() {
        let [is, expected] = [y.dim(), expected.dim()].map(|dim| format!("{dim:?} numbers"));
        return Err(wrong(is, expected));
    }
    for ((&is, &expected), &tolerance) in y.iter().zip(expected).zip(tolerance) {
        let right = if expected.is_finite() {
            (f64::from(is) - expected).abs() <= tolerance
        } else {
            !is.is_finite()
        };
        if !right {
            return Err(wrong(is.to_string(), expected.to_string()));
        }
    }
    Ok(())
}

/// Checks the sums of integers; `product` is given a matrix, stored for `x Wᵀ` or for `x W`, and `x [rows, in]`, which
/// quantises to itself.
pub(super) fn integers(
    tile: [usize; 2],
    product: impl Fn(&StoredIntegers, Direction, ArrayView2<f32>) -> Array2<f32>,
) -> Result<(), Refusal> {
    let [rows, out] = tile.map(|count| count + 1);
    for inner in INNER {
        // How weights are stored makes no difference to how they are multiplied, so two sizes will do for it.
        let ways = if [RAGGED, WHOLE].contains(&inner) {
            4
        } else {
            1
        };
        check_integers([rows, inner, out], ways, &product)?;
    }
    check_integers([1, RAGGED, 1], 1, &product)
}

/// Checks a product of one size, with the weights stored in the first `ways` of [`ways_to_store`].
fn check_integers(
    [rows, inner, out]: [usize; 3],
    ways: usize,
    product: impl Fn(&StoredIntegers, Direction, ArrayView2<f32>) -> Array2<f32>,
) -> Result<(), Refusal> {
    let weight = extremes(out, inner, i8::MIN, 7);
    // 127 is the largest magnitude of each row, which thereby keeps its integers.
    let mut x = extremes(rows, inner, -i8::MAX, 8).mapv(f32::from);
    x.column_mut(0).fill(f32::from(i8::MAX));
    // No sum here is beyond what f32 holds exactly.
    let expected = x.dot(&weight.t().mapv(f32::from)).mapv(f64::from);
    let tolerance = Array2::zeros(expected.dim());
    for (stored, direction) in ways_to_store(&weight).into_iter().take(ways) {
        let y = product(&stored, direction, x.view());
        compare(inner, &y, &expected, &tolerance)?;
    }
    Ok(())
}

/// `W [out, in]` for `x Wᵀ`, and its transpose for `x W`, each row by row and column by column, with scales of one.
fn ways_to_store(weight: &Array2<i8>) -> [(StoredIntegers, Direction); 4] {
    let (out, inner) = weight.dim();
    let bytes = |values: ArrayView2<i8>| -> Arc<Vec<u8>> {
        Arc::new(values.iter().map(|&value| value as u8).collect())
    };
    let (rows, columns) = (bytes(weight.view()), bytes(weight.t()));
    let (all, ones) = (0..out * inner, Array1::ones);
    [
        (
            StoredIntegers::new(rows.clone(), all.clone(), inner, ones(out)),
            Direction::Forward,
        ),
        (
            StoredIntegers::transposed(columns.clone(), all.clone(), inner, ones(out)),
            Direction::Forward,
        ),
        (
            StoredIntegers::new(columns, all.clone(), out, ones(inner)),
            Direction::Backward,
        ),
        (
            StoredIntegers::transposed(rows, all, out, ones(inner)),
            Direction::Backward,
        ),
    ]
}

/// Numbers that need all 24 bits of their fraction, between -1 and 1.
fn fractions(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut noise = noise(seed);
    Array2::from_shape_simple_fn((rows, columns), || {
        let odd = ((noise() >> 40) as i32 - (1 << 23)) | 1;
        odd as f32 / (1 << 23) as f32
    })
}

/// A row of `least`, a row of 127, and rows of anything between.
fn extremes(rows: usize, columns: usize, least: i8, seed: u64) -> Array2<i8> {
    let mut noise = noise(seed);
    Array2::from_shape_fn((rows, columns), |(row, _)| match row {
        0 => least,
        1 => i8::MAX,
        _ => ((noise() >> 56) as u8 as i8).max(least),
    })
}

/// Numbers without a pattern (splitmix64), the same at every start.
fn noise(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::ThreadId;

    /// Rows and output channels of the pretended kernels.
    const TILE: [usize; 2] = [4, 8];

    /// A kernel by name, and how it is wrong: it is given the right product and the length of a row.
    type Fake = (&'static str, fn(&mut Array2<f32>, usize, ThreadId));

    static TESTED_BY: std::sync::OnceLock<ThreadId> = std::sync::OnceLock::new();

    fn refusals(
        fakes: &[Fake],
        check: impl Fn(&Fake) -> Result<(), Refusal> + Sync,
    ) -> Vec<String> {
        struct Named<'a>(&'a Fake);
        impl fmt::Display for Named<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.0)
            }
        }
        let (exact, refused) = screened(fakes.iter().map(Named).collect(), |fake| check(fake.0));
        assert_eq!(exact.len() + refused.len(), fakes.len());
        assert!(exact.iter().all(|fake| fake.0.0 == "right"));
        assert!(refused.iter().all(Refused::failed));
        let told = refused
            .iter()
            .map(|refused| format!("{} {}", refused.kernel, refused.why));
        told.collect()
    }

    fn float(fake: &Fake) -> Result<(), Refusal> {
        floats(TILE, |weight, x| {
            // As accurate as f32 can be.
            let mut y = x
                .mapv(f64::from)
                .dot(&weight.t().mapv(f64::from))
                .mapv(|y| y as f32);
            fake.1(&mut y, x.ncols(), thread::current().id());
            y
        })
    }

    fn integer(fake: &Fake) -> Result<(), Refusal> {
        integers(TILE, |weight, direction, x| {
            let weight = weight.floats::<f32>();
            let mut y = match direction {
                Direction::Forward => x.dot(&weight.t()),
                Direction::Backward => x.dot(&weight),
            };
            fake.1(&mut y, x.ncols(), thread::current().id());
            y
        })
    }

    #[test]
    fn a_wrong_kernel_is_refused_and_told_and_a_right_one_is_kept() {
        TESTED_BY.get_or_init(|| thread::current().id());
        let fakes: [Fake; 6] = [
            ("right", |_, _, _| {}),
            ("off-by-one", |y, _, _| {
                *y.last_mut().expect("a product") += 1.0
            }),
            ("odd", |y, inner, _| {
                if inner == 17 {
                    y.fill(f32::NAN);
                }
            }),
            ("threaded", |y, _, thread| {
                if TESTED_BY.get() != Some(&thread) {
                    y[[0, 0]] = 1e9;
                }
            }),
            ("narrow", |y, _, _| {
                *y = y.slice(ndarray::s![.., 1..]).to_owned()
            }),
            ("panics", |_, inner, _| {
                assert!(inner != 65, "a kernel's own bug")
            }),
        ];
        for told in [refusals(&fakes, float), refusals(&fakes, integer)] {
            let [one, odd, threaded, narrow, panics] = told.as_slice() else {
                panic!("{told:?}");
            };
            assert!(
                one.starts_with("off-by-one a product [5, 1] by [1, 9] has "),
                "{one}"
            );
            assert!(
                odd.starts_with("odd a product [5, 17] by [17, 9] has NaN where "),
                "{odd}"
            );
            assert!(threaded.contains(" 1000000000 where "), "{threaded}");
            assert!(
                threaded.ends_with("is right, on a second thread"),
                "{threaded}"
            );
            assert!(
                narrow.contains("(5, 8) numbers where (5, 9) numbers is right"),
                "{narrow}"
            );
            assert_eq!(panics, "panics panics");
        }
    }

    #[test]
    fn f32_by_way_of_bf16_or_tf32_is_not_f32() {
        for kept in [7, 10] {
            let narrowed = |x: ArrayView2<f32>| {
                x.mapv(|x| f64::from(f32::from_bits(x.to_bits() & (u32::MAX << (23 - kept)))))
            };
            let checked = floats(TILE, |weight, x| {
                narrowed(x).dot(&narrowed(weight).t()).mapv(|y| y as f32)
            });
            assert!(
                matches!(checked, Err(Refusal::Wrong(_))),
                "{kept} bits: {checked:?}"
            );
        }
    }

    #[test]
    fn reading_beyond_a_row_is_seen_where_it_meets_what_is_not_finite() {
        let checked = floats(TILE, |weight, x| {
            let mut y = x.dot(&weight.t());
            // A zero times the first numbers of the next panel.
            for channel in 0..weight.nrows().saturating_sub(TILE[1]) {
                let beyond = 0.0 * weight[[channel + TILE[1], 0]];
                y.column_mut(channel).iter_mut().for_each(|y| *y += beyond);
            }
            y
        });
        assert!(matches!(checked, Err(Refusal::Wrong(_))), "{checked:?}");
    }

    #[test]
    fn sums_that_saturate_or_lose_the_sign_are_seen() {
        let saturates = integers(TILE, |weight, direction, x| {
            let weight = weight.floats::<f32>();
            let weight = match direction {
                Direction::Forward => weight.t().to_owned(),
                Direction::Backward => weight,
            };
            // Pairs summed in sixteen bits, the weights without a sign: AVX2's `vpmaddubsw`.
            Array2::from_shape_fn((x.nrows(), weight.ncols()), |(row, channel)| {
                let (x, weight) = (x.row(row), weight.column(channel));
                let products: Vec<f32> = x
                    .iter()
                    .zip(weight)
                    .map(|(x, weight)| x * (weight + 128.0))
                    .collect();
                let pairs = products.chunks(2).map(|pair| pair.iter().sum::<f32>());
                let sum: f32 = pairs.map(|pair| pair.clamp(-32768.0, 32767.0)).sum();
                sum - 128.0 * x.sum()
            })
        });
        assert!(matches!(saturates, Err(Refusal::Wrong(_))), "{saturates:?}");
        let wraps = integers(TILE, |weight, direction, x| {
            let weight = weight
                .floats::<f32>()
                .mapv(|w| if w == -128.0 { 128.0 } else { w });
            match direction {
                Direction::Forward => x.dot(&weight.t()),
                Direction::Backward => x.dot(&weight),
            }
        });
        assert!(matches!(wraps, Err(Refusal::Wrong(_))), "{wraps:?}");
    }
}
