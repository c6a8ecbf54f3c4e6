//! The memory of the process: how the C library's heap treats what was freed, and how much there was at most. It must not
//! know who uses it.

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

/// Has all threads share one heap. Otherwise each gets addresses of its own, 64 MiB at a time, which a low `ulimit -v` does
/// not leave; it must be called before they are started.
pub fn one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// The most memory that this process ever had, in bytes, where the system tells (Linux).
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}
