//! How the C library's heap treats memory that was freed. It must not know who frees it.

/// Keeps freed memory for what is allocated next. A training step frees what it kept for its sweep back and allocates the
/// same again: handing those pages to the system in between, to get them back zeroed, took a third of a step with 100
/// classes. Libraries other than glibc are left as they are.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt changes how later calls work, not what was allocated before.
    unsafe {
        // The largest that glibc takes, 32 MiB: smaller pieces come from the heap, which is then never cut down.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}
