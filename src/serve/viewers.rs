//! How many moving pictures and streams of events are open: each takes a connection for long, so there is an end to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most at once.
const MOST: usize = 96;

/// Those that are open.
#[derive(Clone, Default)]
pub struct Viewers {
    open: Arc<AtomicUsize>,
}

/// One that is open; it is closed where this is dropped.
pub struct Viewing {
    open: Arc<AtomicUsize>,
}

impl Viewers {
    /// One more; none where there are too many.
    pub fn enter(&self) -> Option<Viewing> {
        let more = |open: usize| (open < MOST).then_some(open + 1);
        let entered = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.ok().map(|_| Viewing {
            open: Arc::clone(&self.open),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_end_to_viewers_and_room_where_one_goes() {
        let viewers = Viewers::default();
        let mut inside: Vec<Viewing> = (0..MOST).filter_map(|_| viewers.enter()).collect();
        assert_eq!((inside.len(), viewers.count()), (MOST, MOST));
        assert!(viewers.enter().is_none());
        inside.pop();
        assert!(viewers.enter().is_some());
    }
}
