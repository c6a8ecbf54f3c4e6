//! What a download tells of itself, and that it waits.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How far a download is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// So many bytes are there and, if that is known, so many there will be.
    Bytes {
        /// Those that are there.
        there: u64,
        /// All of them.
        total: Option<u64>,
    },
    /// An attempt failed, and another one will be made.
    Again {
        /// Why it failed.
        reason: &'a str,
        /// How long it is until then.
        pause: Duration,
    },
}

/// Is called with each step; a break stops the download.
pub type Progress<'a> = dyn FnMut(Step) -> ControlFlow<()> + 'a;

/// Sleeps, unless `progress` stops it.
pub(super) fn wait_for(time: Duration, length: u64, progress: &mut Progress) -> Result<(), ()> {
    let end = Instant::now() + time;
    loop {
        let step = Step::Bytes {
            there: length,
            total: None,
        };
        if progress(step).is_break() {
            return Err(());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}
