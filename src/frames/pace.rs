//! How fast bytes of a camera are taken: no faster than any camera sends them, so that a hostile one cannot keep a core busy.

use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes a second: 30 pictures of 3840 x 2160 pixels, hardly compressed.
const USUAL_RATE: u64 = 64 << 20;

/// A stream that is read at a limited rate, and only as long as somebody wants it.
pub(super) struct Paced<'a, S> {
    stream: S,
    wanted: &'a dyn Fn() -> bool,
    rate: u64,
    /// Bytes that may be taken at once: those of a second at most.
    allowed: u64,
    since: Instant,
}

impl<'a, S> Paced<'a, S> {
    /// `stream`, as long as `wanted` says so.
    pub fn new(stream: S, wanted: &'a dyn Fn() -> bool) -> Paced<'a, S> {
        Paced::with_rate(stream, wanted, USUAL_RATE)
    }

    fn with_rate(stream: S, wanted: &'a dyn Fn() -> bool, rate: u64) -> Paced<'a, S> {
        Paced {
            stream,
            wanted,
            rate,
            allowed: rate,
            since: Instant::now(),
        }
    }

    /// Waits until `bytes` more may have been taken.
    fn spend(&mut self, bytes: u64) {
        let passed = self.since.elapsed();
        self.since += passed;
        let earned = passed.as_micros().saturating_mul(self.rate.into()) / 1_000_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        self.allowed = self.allowed.saturating_add(earned).min(self.rate);
        let missing = bytes.saturating_sub(self.allowed);
        self.allowed = self.allowed.saturating_sub(bytes);
        if missing > 0 {
            let pause = Duration::from_secs_f64(missing as f64 / self.rate as f64);
            thread::sleep(pause);
            // What is earned while sleeping was spent before.
            self.since += pause;
        }
    }
}

impl<S: Read> Read for Paced<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !(self.wanted)() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let count = self.stream.read(buffer)?;
        self.spend(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_second_is_free_and_what_comes_after_takes_its_time() {
        let wanted = || true;
        let rate = 1 << 20;
        let mut stream = Paced::with_rate(io::repeat(7), &wanted, rate);
        let mut buffer = vec![0; 64 << 10];
        let started = Instant::now();
        let mut taken = 0;
        while taken < rate + rate / 4 {
            taken += stream.read(&mut buffer).unwrap() as u64;
        }
        let spent = started.elapsed();
        assert!(spent >= Duration::from_millis(180), "{spent:?}");
    }

    #[test]
    fn a_stream_that_nobody_wants_any_more_ends() {
        let left = Cell::new(3);
        let wanted = || {
            left.set(left.get() - 1);
            left.get() > 0
        };
        let mut stream = Paced::new(io::repeat(7), &wanted);
        let mut buffer = [0; 10];
        assert!(stream.read(&mut buffer).is_ok() && stream.read(&mut buffer).is_ok());
        assert!(stream.read(&mut buffer).is_err());
    }
}
