//! How fast frames are named: their rate and latency over any number of frames, in a fixed amount of memory. It must
//! not know where the figures are shown.

use std::time::Duration;

/// The shortest latency told apart.
const SHORTEST: Duration = Duration::from_micros(10);
/// The ratio of one bin's upper end to its lower: figures are exact to 2 %.
const RATIO: f64 = 1.02;
/// Enough for latencies up to a quarter of an hour.
const BINS: usize = 925;

/// Latencies by their logarithm.
pub struct Meter {
    bins: Box<[u64; BINS]>,
    frames: u64,
}

impl Meter {
    pub fn new() -> Meter {
        Meter {
            bins: Box::new([0; BINS]),
            frames: 0,
        }
    }

    pub fn add(&mut self, latency: Duration) {
        let folds = (latency.as_secs_f64() / SHORTEST.as_secs_f64())
            .max(1.0)
            .ln()
            / RATIO.ln();
        self.bins[(folds as usize).min(BINS - 1)] += 1;
        self.frames += 1;
    }

    /// The latency that `share` of the frames did not exceed; zero without frames.
    fn quantile(&self, share: f64) -> Duration {
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

    /// For people, with the rate over `elapsed`.
    pub fn in_words(&self, elapsed: Duration) -> String {
        let rate = self.frames as f64 / elapsed.as_secs_f64().max(1e-9);
        let milliseconds = |share| self.quantile(share).as_secs_f64() * 1e3;
        format!(
            "{} frames, {rate:.1} a second, latency {:.1} ms (median), {:.1} ms (95 %)",
            self.frames,
            milliseconds(0.5),
            milliseconds(0.95)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_latencies() {
        let mut meter = Meter::new();
        for milliseconds in (1..=1000).rev() {
            meter.add(Duration::from_millis(milliseconds));
        }
        for (share, expected) in [(0.5, 500.0), (0.95, 950.0), (0.0, 1.0), (1.0, 1000.0)] {
            let found = meter.quantile(share).as_secs_f64() * 1e3;
            assert!((found / expected - 1.0).abs() < 0.02, "{share}: {found}");
        }
        assert!(
            meter
                .in_words(Duration::from_secs(100))
                .contains("1000 frames, 10.0 a second")
        );
    }

    #[test]
    fn nothing_and_extremes_are_no_fault() {
        let mut meter = Meter::new();
        assert_eq!(meter.quantile(0.5), Duration::ZERO);
        meter.add(Duration::ZERO);
        meter.add(Duration::from_secs(1_000_000));
        assert!(meter.quantile(1.0) > Duration::from_secs(600));
    }
}
