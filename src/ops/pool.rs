//! Where work that is parallel in its parts should run.

/// Runs `work` on a thread of rayon's pool, if the pool has several. From outside the pool, every parallel part wakes a
/// thread and sleeps until it is done, which costs a product of a tower about as much as its parts gain; from within, the
/// thread works on a part itself.
pub fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match rayon::current_num_threads() {
        0 | 1 => work(),
        _ => rayon::scope(|_| work()),
    }
}
