//! How fast frames are named: their latency over any number of frames, in a fixed amount of memory.

use std::time::Duration;

/// The shortest latency that is distinguished.
const SHORTEST: Duration = Duration::from_micros(10);
/// The ratio of one bin's upper end to its lower: figures are exact to 2 %.
const RATIO: f64 = 1.02;
/// Enough for latencies up to a quarter of an hour.
const BINS: usize = 925;

/// Latencies by their logarithm.
#[derive(Clone)]
pub struct Meter {
    bins: Box<[u64; BINS]>,
    frames: u64,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            bins: Box::new([0; BINS]),
            frames: 0,
        }
    }
}

impl Meter {
    /// Counts one more frame.
    pub fn add(&mut self, latency: Duration) {
        let folds = (latency.as_secs_f64() / SHORTEST.as_secs_f64())
            .max(1.0)
            .ln()
            / RATIO.ln();
        self.bins[(folds as usize).min(BINS - 1)] += 1;
        self.frames += 1;
    }

    /// Frames so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The latency that `share` of the frames did not exceed, to 2 %; zero without frames.
    pub fn quantile(&self, share: f64) -> Duration {
        if self.frames == 0 {
            return Duration::ZERO;
        }
        let rank = (share * self.frames as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bin = self.bins.iter().position(|&count| {
            seen += count;
            seen >= rank
        });
        // The middle of the bin.
        SHORTEST.mul_f64(RATIO.powf(bin.unwrap_or(BINS - 1) as f64 + 0.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_latencies() {
        let mut meter = Meter::default();
        for milliseconds in (1..=1000).rev() {
            meter.add(Duration::from_millis(milliseconds));
        }
        for (share, expected) in [(0.5, 500.0), (0.95, 950.0), (0.0, 1.0), (1.0, 1000.0)] {
            let found = meter.quantile(share).as_secs_f64() * 1e3;
            assert!((found / expected - 1.0).abs() < 0.02, "{share}: {found}");
        }
        assert_eq!(meter.frames(), 1000);
    }

    #[test]
    fn no_frames_and_extreme_latencies_are_fine() {
        let mut meter = Meter::default();
        assert_eq!(meter.quantile(0.5), Duration::ZERO);
        meter.add(Duration::ZERO);
        meter.add(Duration::from_secs(1_000_000));
        assert!(meter.quantile(1.0) > Duration::from_secs(600));
    }
}
