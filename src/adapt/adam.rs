//! Adam (arXiv 1412.6980) over one flat list of parameters, with a cosine learning rate after a short warm-up.

/// How far a step goes at each point of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f32,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// Steps in all; the rate falls along a cosine to a hundredth of the peak at the last one.
    pub steps: usize,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    pub fn rate(&self, step: usize) -> f32 {
        if step < self.warmup {
            return self.peak * (step + 1) as f32 / self.warmup as f32;
        }
        let span = self.steps.saturating_sub(self.warmup).max(1) as f32;
        let progress = ((step - self.warmup) as f32 / span).min(1.0);
        self.peak * (0.01 + 0.99 * 0.5 * (1.0 + (std::f32::consts::PI * progress).cos()))
    }
}

/// Adam's running moments.
#[derive(Debug, Clone)]
pub struct Adam {
    mean: Vec<f32>,
    variance: Vec<f32>,
    steps: i32,
}

impl Adam {
    const DECAY_MEAN: f32 = 0.9;
    const DECAY_VARIANCE: f32 = 0.99;
    const EPSILON: f32 = 1e-8;

    /// An optimiser of `parameters` numbers.
    pub fn new(parameters: usize) -> Adam {
        Adam {
            mean: vec![0.0; parameters],
            variance: vec![0.0; parameters],
            steps: 0,
        }
    }

    /// Moves `parameters` against `gradient`, both in the order of [`Adam::new`], by one step at learning rate `rate`.
    pub fn step<'a>(
        &mut self,
        parameters: impl IntoIterator<Item = &'a mut f32>,
        gradient: impl IntoIterator<Item = &'a f32>,
        rate: f32,
    ) {
        self.steps += 1;
        let mean_bias = 1.0 - Self::DECAY_MEAN.powi(self.steps);
        let variance_bias = 1.0 - Self::DECAY_VARIANCE.powi(self.steps);
        for (((parameter, &slope), mean), variance) in parameters
            .into_iter()
            .zip(gradient)
            .zip(&mut self.mean)
            .zip(&mut self.variance)
        {
            *mean += (1.0 - Self::DECAY_MEAN) * (slope - *mean);
            *variance += (1.0 - Self::DECAY_VARIANCE) * (slope * slope - *variance);
            *parameter -=
                rate * (*mean / mean_bias) / ((*variance / variance_bias).sqrt() + Self::EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badly_scaled_bowl_is_descended() {
        let mut parameters = [3.0f32, -2.0];
        let mut adam = Adam::new(2);
        let schedule = Schedule {
            peak: 0.2,
            warmup: 5,
            steps: 200,
        };
        for step in 0..schedule.steps {
            let gradient = [2.0 * parameters[0], 200.0 * parameters[1]];
            adam.step(&mut parameters, &gradient, schedule.rate(step));
        }
        assert!(parameters.iter().all(|x| x.abs() < 1e-2), "{parameters:?}");
    }

    #[test]
    fn the_rate_warms_up_then_falls_to_a_hundredth() {
        let schedule = Schedule {
            peak: 1.0,
            warmup: 4,
            steps: 100,
        };
        assert_eq!(schedule.rate(0), 0.25);
        assert_eq!(schedule.rate(4), 1.0);
        assert!((schedule.rate(100) - 0.01).abs() < 1e-6);
        assert!((5..100).all(|step| schedule.rate(step) < schedule.rate(step - 1)));
    }
}
