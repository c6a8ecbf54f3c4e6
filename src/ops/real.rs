//! The two kinds of number that the operators work on: f32 in the product, f64 where a test needs central
//! differences.

use ndarray::NdFloat;

/// A floating-point number that operators can be written for.
pub trait Real: NdFloat {
    /// The nearest number to `value`.
    fn of(value: f64) -> Self;

    /// e to the power of `self`, finite and above zero however large `self` is. In f32 a polynomial (relative error
    /// below 2e-7) of plain arithmetic, so that it vectorises and yields the same bits on every machine.
    fn exponential(self) -> Self;

    /// 2 to the power of `self`: a third less arithmetic where what is raised can be had in these units. In f32 within 3e-7 of
    /// the true one, exactly 1 at 0, and otherwise as [`Real::exponential`].
    fn power_of_two(self) -> Self;

    /// The error function. In f32 within 3e-7 of the truth (Abramowitz and Stegun, 7.1.26).
    fn erf(self) -> Self;
}

impl Real for f64 {
    fn of(value: f64) -> f64 {
        value
    }

    fn exponential(self) -> f64 {
        self.clamp(-700.0, 700.0).exp()
    }

    fn power_of_two(self) -> f64 {
        self.clamp(-1000.0, 1000.0).exp2()
    }

    fn erf(self) -> f64 {
        libm::erf(self)
    }
}

impl Real for f32 {
    fn of(value: f64) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn exponential(self) -> f32 {
        // Cephes' expf: 2^n * e^r with |r| <= ln(2) / 2.
        let x = self.clamp(-87.0, 88.0);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let mut p = 1.987_569_1e-4;
        for coefficient in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            0.166_666_65,
            0.5,
        ] {
            p = p * r + coefficient;
        }
        (p * r * r + r + 1.0) * whole_power(shifted)
    }

    #[inline(always)]
    fn power_of_two(self) -> f32 {
        // 2^n * 2^r with |r| <= 1/2; the polynomial's largest relative error is the least that one of its degree can have.
        let x = self.clamp(-125.0, 126.0);
        let shifted = x + ROUND;
        let r = x - (shifted - ROUND);
        let mut p = 1.327_647_2e-3;
        for coefficient in [9.675_541e-3, 5.550_713e-2, 0.240_221_2, 0.693_146_94, 1.0] {
            p = p * r + coefficient;
        }
        p * whole_power(shifted)
    }

    #[inline(always)]
    fn erf(self) -> f32 {
        let x = self.abs();
        let t = 1.0 / (1.0 + 0.327_591_1 * x);
        let mut p = 1.061_405_4;
        for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            p = p * t + coefficient;
        }
        (1.0 - p * t * (-x * x).exponential()).copysign(self)
    }
}

/// Added to a number below 2^22 it rounds it to the nearest integer and leaves that in the low bits.
const ROUND: f32 = 12_582_912.0;

/// 2 to the power of the integer that was rounded to.
#[inline(always)]
fn whole_power(shifted: f32) -> f32 {
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127);
    f32::from_bits(exponent << 23)
}

/// How many partial sums a dot product keeps: enough independent chains for the compiler to use vectors.
const LANES: usize = 16;

/// The dot product of two slices of one length, summed in a fixed order.
#[inline(always)]
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::zero(); LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let tail = tail.fold(T::zero(), |sum, (&x, &y)| sum + x * y);
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().fold(tail, |sum, &lane| sum + lane)
}

/// The sum of a slice, in a fixed order.
#[inline(always)]
pub fn sum<T: Real>(a: &[T]) -> T {
    let mut lanes = [T::zero(); LANES];
    let chunks = a.chunks_exact(LANES);
    let tail = chunks.remainder().iter().fold(T::zero(), |sum, &x| sum + x);
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    lanes.iter().fold(tail, |sum, &lane| sum + lane)
}

/// `y += scale * x`, over slices of one length.
#[inline(always)]
pub fn add_scaled<T: Real>(y: &mut [T], scale: T, x: &[T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_f32_exponential_is_within_2e7_of_the_true_one() {
        for step in -8_600..8_700 {
            let x = step as f32 / 100.0;
            let truth = f64::from(x).exp();
            let error = (f64::from(x.exponential()) / truth - 1.0).abs();
            assert!(error < 2e-7, "e^{x}: {error}");
        }
        assert!((-1000f32).exponential() < 1e-37);
        assert!(1000f32.exponential() > 1e38);
    }

    #[test]
    fn the_f32_power_of_two_is_within_3e7_of_the_true_one() {
        for step in -12_500..=12_600 {
            let x = step as f32 / 100.0;
            let truth = f64::from(x).exp2();
            let error = (f64::from(x.power_of_two()) / truth - 1.0).abs();
            assert!(error < 3e-7, "2^{x}: {error}");
        }
        assert_eq!(0f32.power_of_two(), 1.0);
        assert!(f32::NEG_INFINITY.power_of_two() < 1e-37);
        assert!(1000f32.power_of_two() > 1e37);
        assert!(f32::NAN.power_of_two().is_nan());
    }

    #[test]
    fn the_f32_error_function_is_within_3e7_of_the_true_one() {
        for step in -600..=600 {
            let x = step as f32 / 100.0;
            let error = (f64::from(Real::erf(x)) - libm::erf(f64::from(x))).abs();
            assert!(error < 3e-7, "erf({x}): {error}");
        }
    }

    #[test]
    fn dot_products_and_sums_take_in_the_tail() {
        let a: Vec<f64> = (0..37).map(f64::from).collect();
        assert_eq!(dot(&a, &a), (0..37).map(|x| x * x).sum::<i32>() as f64);
        assert_eq!(sum(&a), 666.0);
    }
}
