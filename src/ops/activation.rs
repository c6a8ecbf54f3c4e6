//! The activations of CLIP's text towers, each with its derivative.

use std::mem::MaybeUninit;

use multiversion::multiversion;
use ndarray::Array2;

use super::Real;

/// What stands between the two linear layers of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
    /// `x * (1 + erf(x / sqrt 2)) / 2`: the exact GELU of OpenCLIP.
    Gelu,
    /// `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`: SigLIP.
    GeluTanh,
}

impl Activation {
    /// The activation of one number.
    #[inline(always)]
    pub fn value<T: Real>(self, x: T) -> T {
        match self {
            Activation::QuickGelu => quick_gelu(x).0,
            Activation::Gelu => gelu(x).0,
            Activation::GeluTanh => gelu_tanh(x).0,
        }
    }

    /// Replaces every number by its activation and returns the derivatives there, which is all that backward needs:
    /// the gradient of the input is the derivative times that of the output.
    pub fn forward<T: Real>(self, x: &mut Array2<T>) -> Array2<T> {
        let mut derivatives = Array2::uninit(x.dim());
        let to = derivatives
            .as_slice_mut()
            .expect("a fresh array is contiguous");
        match x.as_slice_mut() {
            Some(x) => replace(self, x, to),
            None => {
                let mut straight = x.as_standard_layout().into_owned();
                let from = straight
                    .as_slice_mut()
                    .expect("the standard layout is contiguous");
                replace(self, from, to);
                *x = straight;
            }
        }
        // SAFETY: `replace` wrote as many derivatives as there are numbers.
        unsafe { derivatives.assume_init() }
    }
}

/// Turns `d`, the gradient of what [`Activation::forward`] left, into that of what it was given; `derivatives` are what it
/// returned, of the same shape.
pub fn backward<T: Real>(derivatives: &Array2<T>, d: &mut Array2<T>) {
    assert_eq!(derivatives.dim(), d.dim(), "a gradient of another shape");
    match (derivatives.as_slice(), d.as_slice_mut()) {
        (Some(derivatives), Some(d)) => multiply(derivatives, d),
        _ => *d *= derivatives,
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn multiply<T: Real>(derivatives: &[T], d: &mut [T]) {
    for (d, &derivative) in d.iter_mut().zip(derivatives) {
        *d *= derivative;
    }
}

/// Replaces every number by its activation and writes the derivatives.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma"
))]
fn replace<T: Real>(activation: Activation, x: &mut [T], derivatives: &mut [MaybeUninit<T>]) {
    assert_eq!(x.len(), derivatives.len());
    // One loop for each: a loop that asks which activation it is would not become vector instructions.
    match activation {
        Activation::QuickGelu => each(x, derivatives, |x| quick_gelu(x)),
        Activation::Gelu => each(x, derivatives, |x| gelu(x)),
        Activation::GeluTanh => each(x, derivatives, |x| gelu_tanh(x)),
    }
}

#[inline(always)]
fn each<T: Real>(x: &mut [T], derivatives: &mut [MaybeUninit<T>], function: impl Fn(T) -> (T, T)) {
    for (x, derivative) in x.iter_mut().zip(derivatives) {
        let (value, derivative_at) = function(*x);
        *x = value;
        derivative.write(derivative_at);
    }
}

/// The logistic function of `scale * x` and its derivative there, neither of which loses digits where it is near zero.
#[inline(always)]
fn sigmoid<T: Real>(scale: f64, x: T) -> (T, T) {
    let e = (T::of(-scale * std::f64::consts::LOG2_E) * x).power_of_two();
    let gate = T::one() / (T::one() + e);
    (gate, e * gate * gate)
}

#[inline(always)]
fn quick_gelu<T: Real>(x: T) -> (T, T) {
    const SCALE: f64 = 1.702;
    let (gate, derivative) = sigmoid(SCALE, x);
    (x * gate, gate + T::of(SCALE) * x * derivative)
}

#[inline(always)]
fn gelu<T: Real>(x: T) -> (T, T) {
    let gate = T::of(0.5) * (T::one() + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf());
    let density = T::of(0.398_942_280_401_432_7) * (T::of(-0.5) * x * x).exponential();
    (x * gate, gate + x * density)
}

#[inline(always)]
fn gelu_tanh<T: Real>(x: T) -> (T, T) {
    // (1 + tanh z) / 2 = sigmoid(2 z)
    const SCALE: f64 = 2.0 * 0.797_884_560_802_865_4;
    let cubic = T::of(0.044_715);
    let (gate, derivative) = sigmoid(SCALE, x + cubic * x * x * x);
    let inner = T::of(SCALE) * (T::one() + T::of(3.0) * cubic * x * x);
    (x * gate, gate + x * derivative * inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_product, random};
    use crate::rng::Rng;

    const ALL: [Activation; 3] = [
        Activation::QuickGelu,
        Activation::Gelu,
        Activation::GeluTanh,
    ];

    #[test]
    fn slopes_match_central_differences() {
        let mut rng = Rng::new(5);
        let (x, dy) = (random(&mut rng, (4, 9)) * 2.0, random(&mut rng, (4, 9)));
        for activation in ALL {
            let derivatives = activation.forward(&mut x.clone());
            let forward = |x: &Array2<f64>| {
                let mut y = x.clone();
                activation.forward(&mut y);
                y
            };
            assert_product(forward, &x, &dy, &(&derivatives * &dy));
        }
    }

    #[test]
    fn values_are_the_reference_ones() {
        // torch.nn.functional.gelu, the same with approximate="tanh", and x * sigmoid(1.702 x), at 1 and -2.
        let expected = [
            [0.845_795_765_932_8, -0.064_341_376_855_8],
            [0.841_344_746_068_5, -0.045_500_263_896_4],
            [0.841_191_990_608_3, -0.045_402_305_912_2],
        ];
        for (activation, expected) in ALL.into_iter().zip(expected) {
            let mut x = ndarray::arr2(&[[1.0f64, -2.0]]);
            activation.forward(&mut x);
            let error = (x - ndarray::arr2(&[expected])).mapv(f64::abs);
            assert!(error.iter().all(|&e| e < 1e-9), "{activation:?}: {error}");
        }
    }

    #[test]
    fn f32_stays_close_to_f64_and_finite() {
        for activation in ALL {
            for step in -400..=400 {
                let x = f64::from(step) / 4.0;
                let (mut narrow, mut wide) = (ndarray::arr2(&[[x as f32]]), ndarray::arr2(&[[x]]));
                let derivatives = (
                    activation.forward(&mut narrow),
                    activation.forward(&mut wide),
                );
                let close = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-6 * b.abs().max(1.0);
                assert!(close(narrow[[0, 0]], wide[[0, 0]]), "{activation:?} at {x}");
                assert!(
                    close(derivatives.0[[0, 0]], derivatives.1[[0, 0]]),
                    "{activation:?} at {x}"
                );
            }
        }
    }
}
