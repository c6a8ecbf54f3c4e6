//! As many pictures are decoded at a time as there are processors: more would not be done sooner, and each takes memory while
//! it is decoded.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The longest time that a turn is waited for: a decoder that hangs holds up no other camera.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many decode now.
static BUSY: Mutex<usize> = Mutex::new(0);
static DONE: Condvar = Condvar::new();

/// The turn of one decoder, until it is dropped.
pub struct Turn(());

impl Turn {
    /// Waits for one.
    pub fn take() -> Turn {
        let waited = DONE.wait_timeout_while(busy(), PATIENCE, |busy| *busy >= at_a_time());
        *waited.unwrap_or_else(PoisonError::into_inner).0 += 1;
        Turn(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *busy() -= 1;
        DONE.notify_one();
    }
}

/// How many pictures are decoded at a time.
pub fn at_a_time() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn busy() -> MutexGuard<'static, usize> {
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_decode_at_a_time_than_there_are_turns_and_one_that_hangs_holds_up_none_for_long() {
        let turns: Vec<Turn> = (0..at_a_time()).map(|_| Turn::take()).collect();
        let begun = std::time::Instant::now();
        let late = Turn::take();
        assert!(begun.elapsed() >= PATIENCE.mul_f32(0.9));
        drop((turns, late));
    }
}
