//! Memory that safe Rust cannot have: files seen as memory, and how the C library's heap behaves. All unsafe code that is not
//! in [`crate::ops`] is here.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Range;

/// A file in memory, by map.
///
/// # Errors
/// If the system cannot map it, as it cannot an empty one.
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: a map is undefined behaviour only if the file changes under it. Bundles are never written in place:
    // an import writes a temporary file and renames it, which leaves a mapped file as it was. Should something
    // else write into it all the same, the bytes are only ever read as plain numbers, within bounds that were
    // checked against the length of the map.
    unsafe { Mmap::map(file) }
}

/// Gives the memory of these bytes of a file back: reading them again reads the file again.
#[cfg_attr(not(unix), allow(unused_variables))]
pub fn release(map: &Mmap, bytes: Range<usize>) {
    #[cfg(unix)]
    {
        let advice = memmap2::UncheckedAdvice::DontNeed;
        // SAFETY: the map is of a file and read only, so its pages hold nothing but what the file holds. It is
        // advice: where the system does not take it, only memory is lost.
        let _ = unsafe { map.unchecked_advise_range(advice, bytes.start, bytes.len()) };
    }
}

/// Bytes as signed ones.
pub fn signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: i8 has the size, the alignment and all the values of u8.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

/// Keeps freed memory for what is allocated next. A training step frees what it kept for its backward pass and allocates the
/// same again: handing those pages to the system in between, to get them back zeroed, took a third of a step with 100
/// classes. Libraries other than glibc are left as they are.
pub fn keep_freed() {
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

/// The most memory that this process ever had, in bytes, where the system says (Linux).
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}
