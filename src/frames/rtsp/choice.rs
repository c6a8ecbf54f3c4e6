//! Which frames of a stream are decoded: all, or key frames alone where these come as often as pictures are looked at, where
//! something was lost, or where this machine is too slow for the rest.

use retina::codec::VideoFrame;
use std::time::{Duration, Instant};

/// Frames that lie further behind than this are passed over up to the next key frame.
const MAX_LAG: f64 = 1.0;
/// Clocks of cameras drift: the least delay counts for so long.
const WINDOW: Duration = Duration::from_secs(30);
/// A delay that changes by more than this between two frames is a clock that was set.
const CLOCK_SET: f64 = 10.0;

/// Which frames of one stream are decoded.
pub struct Choice {
    interval: Duration,
    /// When the last key frame came, and whether the next ones will do.
    last_key: Option<Instant>,
    key_frames_do: bool,
    /// Something is missing: what follows cannot be decoded before the next key frame.
    waiting: bool,
    lag: Lag,
}

impl Choice {
    /// For pictures that are looked at no more often than once in `interval`.
    pub fn new(interval: Duration) -> Choice {
        Choice {
            interval,
            last_key: None,
            key_frames_do: false,
            waiting: true,
            lag: Lag::default(),
        }
    }

    /// Something could not be used: what follows makes sense from the next key frame on.
    pub fn wait_for_key_frame(&mut self) {
        self.waiting = true;
    }

    /// Whether `frame`, which has just come, is to be decoded.
    pub fn wants(&mut self, frame: &VideoFrame) -> bool {
        let now = Instant::now();
        let late = self.lag.of(frame.timestamp().elapsed_secs(), now) > MAX_LAG;
        let gap = frame.loss() > 0 || late;
        self.choose(frame.is_random_access_point(), gap, now)
    }

    fn choose(&mut self, key: bool, gap: bool, now: Instant) -> bool {
        if key {
            let between = self.last_key.map(|last| now.duration_since(last));
            // Networks deliver a little early and late.
            let allowed = self.interval.mul_f32(1.1);
            self.key_frames_do =
                !allowed.is_zero() && between.is_some_and(|between| between <= allowed);
            self.last_key = Some(now);
            self.waiting = false;
            return true;
        }
        // Decoding goes on in the middle of a group of frames only where all of it was decoded.
        self.waiting |= gap || self.key_frames_do;
        !self.waiting
    }
}

/// How far frames lie behind the camera: what their way takes more than it took at best, lately.
#[derive(Default)]
struct Lag {
    started: Option<Instant>,
    /// The least delays, in seconds from an unknown beginning: of this window and of the one before.
    least: [f64; 2],
    window: Option<Instant>,
}

impl Lag {
    /// The lag in seconds of a frame that was taken at `time`, in seconds of the camera's clock, and comes `now`.
    fn of(&mut self, time: f64, now: Instant) -> f64 {
        let started = *self.started.get_or_insert(now);
        let delay = now.duration_since(started).as_secs_f64() - time;
        let window = *self.window.get_or_insert_with(|| {
            self.least = [delay; 2];
            now
        });
        if (delay - self.least[0].min(self.least[1])).abs() > CLOCK_SET {
            self.least = [delay; 2];
        }
        if now.duration_since(window) > WINDOW {
            self.least = [delay, self.least[0]];
            self.window = Some(now);
        }
        self.least[0] = self.least[0].min(delay);
        delay - self.least[0].min(self.least[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_do_where_they_come_as_often_as_pictures_are_looked_at() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        // A key frame every second, ten frames each.
        let chosen = |interval| {
            let mut choice = Choice::new(interval);
            let frames = (0..50).map(|frame| {
                let now = start + frame * second / 10;
                choice.choose(frame % 10 == 0, false, now)
            });
            frames.filter(|wanted| *wanted).count()
        };
        assert_eq!(chosen(Duration::ZERO), 50);
        assert_eq!(chosen(second / 2), 50);
        // The first group shows how often they come.
        assert_eq!(chosen(second), 10 + 4);
        assert_eq!(chosen(2 * second), 10 + 4);
    }

    #[test]
    fn after_a_loss_the_next_key_frame_is_waited_for() {
        let mut choice = Choice::new(Duration::ZERO);
        let now = Instant::now();
        assert!(!choice.choose(false, false, now), "none has come");
        assert!(choice.choose(true, false, now) && choice.choose(false, false, now));
        assert!(!choice.choose(false, true, now) && !choice.choose(false, false, now));
        assert!(choice.choose(true, false, now) && choice.choose(false, false, now));
    }

    #[test]
    fn a_lag_is_seen_and_neither_a_drift_nor_a_clock_that_is_set_is_one() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        // Ten frames a second, from a clock that is slow by 1 in 1000: for ten hours.
        let mut lag = Lag::default();
        let most = (0..360_000).map(|frame| {
            let now = f64::from(frame) / 10.0;
            lag.of(now * 0.999, at(now))
        });
        assert!(most.fold(0.0, f64::max) < 0.1);
        // From then on each is decoded in twice the time.
        let mut late = 0.0;
        for frame in 0..50 {
            let time = 36_000.0 + f64::from(frame) / 10.0;
            late = lag.of(time * 0.999, at(36_000.0 + f64::from(frame) / 5.0));
        }
        assert!((4.0..6.0).contains(&late), "{late}");
        // The camera's clock is set back by an hour.
        assert_eq!(lag.of(32_400.0, at(36_011.0)), 0.0);
        assert!(lag.of(32_400.1, at(36_011.1)).abs() < 0.01);
    }
}
