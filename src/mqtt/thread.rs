//! What the threads that speak to brokers have in common: how they rest, and how they are ended.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// How many reasons why a broker is away are told until it is back.
pub const MOST_TOLD: usize = 16;

/// Waits for `pause`, less where the thread is to end: `closing` is asked whenever `wake` is notified.
pub async fn rest(wake: &Notify, pause: Duration, closing: impl Fn() -> bool) {
    let end = Instant::now() + pause;
    while !closing() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || timeout(left, wake.notified()).await.is_err() {
            break;
        }
    }
}

/// Waits for a thread that has been told to end within so long, and leaves it alone if it does not.
pub fn join(thread: JoinHandle<()>, within: Duration) {
    let end = Instant::now() + within + Duration::from_millis(200);
    while !thread.is_finished() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    if thread.is_finished() {
        // A panic there has been told as what the broker sent.
        let _ = thread.join();
    }
}
