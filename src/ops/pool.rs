//! Where work that is parallel in its parts should run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::{ThreadPool, Yield};

/// No more threads than this are kept awake: a product has few parts.
const AWAKE: usize = 8;

/// Turns of waiting until all of them are awake: some fifty microseconds.
const WAKING: usize = 1 << 11;

/// After so many turns without work a thread lets others of the system have its core, if they wait for one.
const POLITE: usize = 64;

/// Turns for which other work waits before it comes, some microseconds, so that whoever is awake for what was there alone sees it.
const SEEN: usize = 64;

/// Numbers of rows that several threads go through together: for fewer, it takes longer to share them.
pub(crate) const SHARED: usize = 1 << 14;

/// How many pieces of work are on the pool.
static WORKING: AtomicUsize = AtomicUsize::new(0);

/// Runs `work` on a thread of rayon's pool, if the pool has several. From outside the pool, every parallel part wakes a
/// thread and sleeps until it is done, which costs a product of a tower about as much as its parts gain; from within, the
/// thread works on a part itself. The others stay awake meanwhile: between two products is little time, but enough for them
/// to fall asleep, and waking them takes as long again.
pub fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let threads = rayon::current_num_threads();
    if threads < 2 {
        return work();
    }
    let _here = Working::begin();
    let (ended, to_begin) = (
        AtomicBool::new(false),
        AtomicUsize::new(threads.min(AWAKE) - 1),
    );
    rayon::scope(|scope| {
        for _ in 1..threads.min(AWAKE) {
            scope.spawn(|_| stay_awake(&ended, &to_begin));
        }
        let _end = End(&ended);
        work()
    })
}

/// Runs `work` on so many threads at once, each with a share of the current pool's threads for what it divides. Where there is a
/// thread for each, nothing is divided: pieces of work that do not wait for each other gain more side by side than one after
/// the other, each on all threads.
pub fn side_by_side(workers: usize, work: impl Fn() + Sync) {
    let share = (rayon::current_num_threads() / workers.max(1)).max(1);
    let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(share).build();
    let several = if workers > 1 { workers } else { 0 };
    match (0..several).map(pool).collect::<Result<Vec<_>, _>>() {
        Ok(pools) if !pools.is_empty() => on_each(&pools, &work),
        // Without threads the work is done all the same.
        _ => work(),
    }
}

/// Runs `work` once on each of `pools`.
fn on_each(pools: &[ThreadPool], work: &(impl Fn() + Sync)) {
    if let Some((pool, others)) = pools.split_first() {
        pool.in_place_scope(|scope| {
            scope.spawn(|_| work());
            on_each(others, work);
        });
    }
}

/// Takes part in what there is until `ended`. Once there is other work, this thread is needed there, and might take a piece of
/// it that `ended` would have to wait for.
fn stay_awake(ended: &AtomicBool, to_begin: &AtomicUsize) {
    let goes_on = || !ended.load(Ordering::Relaxed) && WORKING.load(Ordering::Relaxed) == 1;
    to_begin.fetch_sub(1, Ordering::Relaxed);
    // The first to wake would take those that are meant for the others.
    for _ in 0..WAKING {
        if to_begin.load(Ordering::Relaxed) == 0 || !goes_on() {
            break;
        }
        std::hint::spin_loop();
    }
    let mut idle = 0;
    while goes_on() {
        if rayon::yield_now() == Some(Yield::Executed) {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle % POLITE == 0 {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A piece of work is on the pool while this lives.
struct Working;

impl Working {
    fn begin() -> Working {
        if WORKING.fetch_add(1, Ordering::Relaxed) == 1 {
            (0..SEEN).for_each(|_| std::hint::spin_loop());
        }
        Working
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        WORKING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sets its flag, however work ends.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn side_by_side_each_has_its_share_of_the_threads_and_a_panic_is_heard() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build();
        let pool = pool.expect("four threads");
        for (workers, share) in [(0, 4), (1, 4), (2, 2), (3, 1), (4, 1), (9, 1)] {
            let (ran, threads) = (AtomicUsize::new(0), AtomicUsize::new(0));
            pool.install(|| {
                side_by_side(workers, || {
                    ran.fetch_add(1, Ordering::Relaxed);
                    threads.fetch_add(rayon::current_num_threads(), Ordering::Relaxed);
                });
            });
            let ran = ran.into_inner();
            assert_eq!((ran, threads.into_inner()), (workers.max(1), ran * share));
        }
        let panics = || side_by_side(2, || panic!("on purpose"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    }

    #[test]
    fn work_of_several_callers_ends_and_so_does_one_that_panics() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        let pool = pool.expect("three threads");
        let sum = |n: u64| on_pool(|| (0..n).into_par_iter().map(|x| x * x).sum::<u64>());
        let expected = (0..1000).map(|x| x * x).sum::<u64>();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        assert_eq!(pool.install(|| sum(1000)), expected);
                    }
                });
            }
        });
        let panics = || pool.install(|| on_pool(|| panic!("on purpose")));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(pool.install(|| on_pool(|| sum(10))), 285);
        assert_eq!(WORKING.load(Ordering::Relaxed), 0);
    }
}
