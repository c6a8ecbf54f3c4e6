//! Where work that is parallel in its parts should run. It must not know what the work is.

/// Runs `work` on a thread of rayon's pool, if the pool has several. Every part that is handed to the pool from outside
/// wakes a thread up and sleeps until that is done, which costs a product of a tower about what its parts gain; from
/// within, the thread takes a part itself.
pub fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match rayon::current_num_threads() {
        0 | 1 => work(),
        _ => rayon::scope(|_| work()),
    }
}
