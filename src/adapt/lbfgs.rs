//! L-BFGS (Nocedal, "Updating quasi-Newton matrices with limited storage", 1980; Nocedal and Wright, "Numerical
//! Optimization", algorithms 7.4 and 3.5) for a few hundred numbers and a function that costs far more than its own
//! arithmetic. Deterministic.

use std::collections::VecDeque;

/// Pairs of steps and gradient changes that stand for the curvature.
const PAIRS: usize = 20;
/// A step is taken if the value falls by at least this share of what the slope promises (Armijo's condition) ...
const SUFFICIENT_DECREASE: f64 = 1e-4;
/// ... and if the slope along it has come down to this share (Wolfe's curvature condition).
const CURVATURE: f64 = 0.9;
/// Points that a line search tries at most.
const TRIES: usize = 8;
/// The search has settled when this many iterations together ...
const SETTLED_ITERATIONS: usize = 10;
/// ... gain less than this share of the value, or of this number where the value is smaller.
const SETTLED_GAIN: f32 = 1e-3;

/// A search for a minimum, one iteration at a time.
#[derive(Debug, Clone)]
pub struct Lbfgs {
    point: Vec<f32>,
    value: f32,
    gradient: Vec<f32>,
    pairs: VecDeque<Pair>,
    /// Length of the first step, and of the first after the curvature was forgotten.
    first_step: f64,
    /// The values after the last iterations.
    values: VecDeque<f32>,
}

/// A step, and how the gradient changed along it.
#[derive(Debug, Clone)]
struct Pair {
    step: Vec<f32>,
    change: Vec<f32>,
    /// The inner product of both.
    product: f64,
}

/// A value and its gradient.
pub type Evaluated = (f32, Vec<f32>);

impl Lbfgs {
    /// Starts at `point`, where the function has `evaluated`.
    pub fn new(point: Vec<f32>, (value, gradient): Evaluated, first_step: f32) -> Lbfgs {
        Lbfgs {
            point,
            value,
            gradient,
            pairs: VecDeque::with_capacity(PAIRS),
            first_step: f64::from(first_step),
            values: VecDeque::from([value]),
        }
    }

    /// The best point so far.
    pub fn point(&self) -> &[f32] {
        &self.point
    }

    /// The value there.
    pub fn value(&self) -> f32 {
        self.value
    }

    /// One line search of at most `evaluations` calls of `evaluate`. False when there is nothing more to gain.
    ///
    /// # Errors
    /// Those of `evaluate`; the search stays where it was.
    pub fn iterate<E>(
        &mut self,
        evaluations: usize,
        evaluate: &mut dyn FnMut(&[f32]) -> Result<Evaluated, E>,
    ) -> Result<bool, E> {
        let mut direction = self.direction();
        let mut slope = dot(&direction, &self.gradient);
        if slope >= 0.0 {
            self.pairs.clear();
            direction = self.direction();
            slope = dot(&direction, &self.gradient);
        }
        if slope == 0.0 || !slope.is_finite() {
            return Ok(false);
        }
        let first = self.first_step / dot(&direction, &direction).sqrt();
        let mut length = if self.pairs.is_empty() { first } else { 1.0 };
        let (mut short, mut long) = (0.0, f64::INFINITY);
        let mut best: Option<(Vec<f32>, Evaluated)> = None;
        for _ in 0..evaluations.min(TRIES) {
            let mut point = self.point.clone();
            add(&mut point, length, &direction);
            let (value, gradient) = evaluate(&point)?;
            let change = f64::from(value) - f64::from(self.value);
            let slope_there = dot(&gradient, &direction);
            // NaN does not count as a decrease.
            let falls = change <= SUFFICIENT_DECREASE * length * slope;
            if falls && best.as_ref().is_none_or(|(_, (least, _))| value < *least) {
                best = Some((point, (value, gradient)));
            }
            if !falls {
                long = length;
                // The lowest point of the parabola through what is known, kept away from both ends.
                let lowest = -slope * length * length / (2.0 * (change - slope * length));
                length = if lowest.is_finite() {
                    lowest.clamp(0.9 * short + 0.1 * long, 0.5 * (short + long))
                } else {
                    0.5 * (short + long)
                };
            } else if slope_there < CURVATURE * slope {
                short = length;
                length = if long.is_finite() {
                    0.5 * (short + long)
                } else {
                    2.5 * length
                };
            } else {
                break;
            }
        }
        let Some((point, evaluated)) = best else {
            // Without curvature the direction was the steepest: nothing falls from here.
            let again = !self.pairs.is_empty();
            self.pairs.clear();
            return Ok(again);
        };
        self.move_to(point, evaluated);
        Ok(!self.settled())
    }

    fn move_to(&mut self, point: Vec<f32>, (value, gradient): Evaluated) {
        let difference = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let step: Vec<f32> = difference(&point, &self.point);
        let change: Vec<f32> = difference(&gradient, &self.gradient);
        let product = dot(&step, &change);
        if product > 1e-10 * dot(&change, &change) {
            if self.pairs.len() == PAIRS {
                self.pairs.pop_front();
            }
            self.pairs.push_back(Pair {
                step,
                change,
                product,
            });
        }
        (self.point, self.value, self.gradient) = (point, value, gradient);
        if self.values.len() > SETTLED_ITERATIONS {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    fn settled(&self) -> bool {
        let gain = self.values[0] - self.value;
        self.values.len() > SETTLED_ITERATIONS
            && gain < SETTLED_GAIN * self.value.abs().max(SETTLED_GAIN)
    }

    /// Against the gradient, through the inverse curvature that the pairs stand for (the two-loop recursion).
    fn direction(&self) -> Vec<f32> {
        let mut direction: Vec<f32> = self.gradient.iter().map(|x| -x).collect();
        let mut alphas = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let alpha = dot(&pair.step, &direction) / pair.product;
            add(&mut direction, -alpha, &pair.change);
            alphas.push(alpha);
        }
        if let Some(last) = self.pairs.back() {
            let scale = (last.product / dot(&last.change, &last.change)) as f32;
            direction.iter_mut().for_each(|x| *x *= scale);
        }
        for (pair, alpha) in self.pairs.iter().zip(alphas.into_iter().rev()) {
            let beta = dot(&pair.change, &direction) / pair.product;
            add(&mut direction, alpha - beta, &pair.step);
        }
        direction
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

fn add(to: &mut [f32], scale: f64, from: &[f32]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to += (scale * f64::from(from)) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn minimise(start: Vec<f32>, mut function: impl FnMut(&[f32]) -> Evaluated) -> (Lbfgs, usize) {
        let mut calls = 1;
        let first = function(&start);
        let mut search = Lbfgs::new(start, first, 0.1);
        let mut evaluate = |x: &[f32]| {
            calls += 1;
            Ok::<_, Infallible>(function(x))
        };
        while search.iterate(TRIES, &mut evaluate).unwrap() {}
        (search, calls)
    }

    /// Rosenbrock's valley, a bent one with steep walls.
    fn valley(x: &[f32]) -> Evaluated {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        let gradient = vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b];
        (a * a + 100.0 * b * b, gradient)
    }

    #[test]
    fn a_bent_valley_is_followed_to_its_end() {
        let (search, calls) = minimise(vec![-1.2, 1.0], valley);
        assert!(search.value() < 1e-4, "{search:?}");
        assert!(search.point().iter().all(|x| (x - 1.0).abs() < 1e-2));
        assert!(calls < 80, "{calls} evaluations");
    }

    #[test]
    fn a_badly_scaled_bowl_takes_few_evaluations() {
        let bowl = |x: &[f32]| {
            let scales = (0..30).map(|i| 10f32.powf(i as f32 / 10.0));
            let terms: Vec<f32> = x.iter().zip(scales).map(|(x, s)| s * x).collect();
            let value = x.iter().zip(&terms).map(|(x, t)| x * t).sum();
            (value, terms.iter().map(|t| 2.0 * t).collect())
        };
        let (search, calls) = minimise(vec![1.0; 30], bowl);
        assert!(
            search.value() < 1e-3 && calls < 200,
            "{} in {calls}",
            search.value()
        );
    }

    #[test]
    fn the_value_never_rises_and_walls_of_nan_are_kept_away_from() {
        let wall = |x: &[f32]| {
            if x[0] < 2.0 {
                ((x[0] - 1.9).powi(2), vec![2.0 * (x[0] - 1.9)])
            } else {
                (f32::NAN, vec![f32::NAN])
            }
        };
        let (search, _) = minimise(vec![-3.0], wall);
        assert!((search.point()[0] - 1.9).abs() < 1e-2);
        let mut search = Lbfgs::new(vec![-1.2, 1.0], valley(&[-1.2, 1.0]), 1.0);
        for _ in 0..30 {
            let before = search.value();
            let _ = search.iterate::<Infallible>(TRIES, &mut |x| Ok(valley(x)));
            assert!(search.value() <= before);
        }
    }

    #[test]
    fn a_budget_of_evaluations_is_kept_and_an_error_leaves_the_point() {
        let mut search = Lbfgs::new(vec![-1.2, 1.0], valley(&[-1.2, 1.0]), 1e3);
        let mut calls = 0;
        let _ = search.iterate::<Infallible>(2, &mut |x| {
            calls += 1;
            Ok(valley(x))
        });
        assert!(calls <= 2);
        let before = search.clone();
        assert_eq!(search.iterate(TRIES, &mut |_| Err("stop")), Err("stop"));
        assert_eq!(search.point(), before.point());
    }

    #[test]
    fn a_minimum_has_nothing_to_gain() {
        let (search, calls) = minimise(vec![0.0, 0.0], |_| (1.0, vec![0.0, 0.0]));
        assert_eq!((search.value(), calls), (1.0, 1));
    }
}
