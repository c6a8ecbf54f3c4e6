//! How long things took, in buckets of a fixed number, as Prometheus wants them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of the buckets, in seconds.
pub const BUCKETS: [f64; 12] = [
    0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5,
];

/// How often something took how long.
#[derive(Default)]
pub struct Histogram {
    /// Below each upper end, and above the last.
    counts: [AtomicU64; BUCKETS.len() + 1],
    /// Of all, in microseconds.
    total: AtomicU64,
}

impl Histogram {
    /// Counts one more.
    pub fn add(&self, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let bucket = BUCKETS.partition_point(|end| *end < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.total.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many took at most each of [`BUCKETS`], and how many there are.
    pub fn cumulated(&self) -> Vec<u64> {
        let mut sum = 0;
        let counts = self.counts.iter();
        counts
            .map(|count| {
                sum += count.load(Ordering::Relaxed);
                sum
            })
            .collect()
    }

    /// How long all took together, in seconds.
    pub fn total(&self) -> f64 {
        self.total.load(Ordering::Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_counts_all_that_took_no_longer() {
        let histogram = Histogram::default();
        for milliseconds in [1, 2, 3, 40, 9000] {
            histogram.add(Duration::from_millis(milliseconds));
        }
        let cumulated = histogram.cumulated();
        assert_eq!(cumulated.len(), BUCKETS.len() + 1);
        assert_eq!(cumulated[..6], [2, 3, 3, 3, 3, 4]);
        assert_eq!(cumulated[12], 5);
        assert!((histogram.total() - 9.046).abs() < 1e-9);
    }
}
