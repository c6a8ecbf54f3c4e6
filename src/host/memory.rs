//! Memory that safe Rust cannot have: files seen as memory, and how the C library's heap behaves. All unsafe code that is not
//! in [`crate::ops`] is here.

use memmap2::Mmap;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file in memory, by map.
///
/// # Errors
/// If the system cannot map it, as it cannot an empty one.
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: a map is undefined behaviour only if the file changes under it. None of our commands writes into a file
    // that has a name of its own: each writes a temporary one and renames it, which leaves a mapped file as it was.
    // Should something else write into it all the same, the bytes are only ever
    // read as plain numbers, within bounds that were checked against the length of the map: they are then other
    // numbers. Should something cut it short, or its disk fail, the system sends SIGBUS at the next read behind the
    // end, before anything is made of it: see `explain_lost_maps`.
    let map = unsafe { Mmap::map(file) }?;
    let place = MAPS.iter().find(|map| {
        let free = map
            .0
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed);
        free.is_ok()
    });
    // Beyond so many, what is lost is a sentence.
    if let Some((start, end)) = place {
        let address = map.as_ptr() as usize;
        end.store(address + map.len(), Ordering::Release);
        start.store(address, Ordering::Release);
    }
    Ok(map)
}

/// Where files were mapped: first address and end. Those that are gone stay: what else may lie there sends no SIGBUS.
static MAPS: [(AtomicUsize, AtomicUsize); 64] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; 64];

/// Has a mapped file that was cut short, or cannot be read any more, end the program with a sentence and exit code 1, where
/// the system would end it without a word. Only the program may ask for that: it takes over a signal.
pub fn explain_lost_maps() {
    #[cfg(target_os = "linux")]
    // SAFETY: the action is whole (zeros are no flags and no signals), and `lost` only does what a handler of signals
    // may: it reads memory that is always there, writes and ends.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = lost as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

#[cfg(target_os = "linux")]
extern "C" fn lost(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    const SENTENCE: &[u8] =
        b"error: the file of a model became shorter while it was in use, or its disk failed: \
        `edge-rlp doctor` says which; import it again\n";
    // SAFETY: the system fills `info` for a handler that asked for it.
    let address = unsafe { (*info).si_addr() } as usize;
    let ours = MAPS.iter().any(|(start, end)| {
        (start.load(Ordering::Acquire)..end.load(Ordering::Acquire)).contains(&address)
    });
    if ours {
        end(SENTENCE);
    }
    // SAFETY: this may be called in a handler. The read is tried again then, and meets the system's own action.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// The heap of the program: the system's, but where that has nothing left the program ends with a sentence and exit code 1.
/// Large pieces are another matter: whoever asks for one may do without, so that a picture that is too much is left out.
pub struct Heap;

/// Nobody does without less.
const LARGE: usize = 1 << 20;

impl Heap {
    /// What the system gave, if it gave something.
    fn told(memory: *mut u8, size: usize) -> *mut u8 {
        if memory.is_null() && size < LARGE {
            no_memory();
        }
        memory
    }
}

// SAFETY: every call goes to the system's allocator as it came; one that fails may end the program.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Heap::told(unsafe { System.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Heap::told(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Heap::told(unsafe { System.realloc(memory, layout, size) }, size)
    }
}

#[cold]
fn no_memory() -> ! {
    end(
        b"error: the system has no memory left for this program: use fewer --threads or labels, or give it more\n",
    )
}

/// Ends the program with exit code 1, in a handler of a signal and without memory as well.
fn end(sentence: &[u8]) -> ! {
    #[cfg(target_os = "linux")]
    // SAFETY: both may be called anywhere, and the sentence is there.
    unsafe {
        libc::write(2, sentence.as_ptr().cast(), sentence.len());
        libc::_exit(1)
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::io::Write;
        let _ = io::stderr().write_all(sentence);
        std::process::exit(1)
    }
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

/// Hands freed memory back at once, where it is large, as weights are. Otherwise glibc keeps more and more of it from the first
/// large piece that is freed on: an import of a large model then has all its weights twice, those that it is done with and
/// those that it has made.
pub fn return_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above.
    unsafe {
        // Said once, it is not raised any more.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// For a program that looks at pictures for months: those of some megabytes go back at once, wherever they lay between others,
/// and the rest is kept for the next picture. Otherwise glibc takes both from one heap, from the first that is freed on, and
/// what is freed of it lies idle; or, where it is told the one, hands each page back that the next picture takes again.
pub fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above.
    unsafe {
        // Of 32 bits, older ones take half a megabyte at most.
        if libc::mallopt(libc::M_MMAP_THRESHOLD, 2 << 20) == 0 {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 512 << 10);
        }
        libc::mallopt(libc::M_TRIM_THRESHOLD, 8 << 20);
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

/// Gives what was freed back to the system, after work that took much and is over.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only what is free is given back.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The memory that this process has now, in bytes, where the system says (Linux).
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The most memory that this process ever had, in bytes, where the system says (Linux).
pub fn peak() -> Option<u64> {
    status("VmHWM:")
}

/// A figure of this process, in bytes.
fn status(figure: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// What the test below runs: a map whose file is cut short is read.
    #[test]
    #[ignore = "is run by another test, in a process of its own"]
    fn reads_what_is_gone() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 << 20).unwrap();
        let map = map(&file).unwrap();
        if std::env::var_os("EXPLAINED").is_some() {
            explain_lost_maps();
        }
        file.set_len(100).unwrap();
        println!("read {}", map[2 << 20]);
    }

    #[test]
    fn a_mapped_file_that_is_cut_short_is_a_sentence_and_not_a_signal() {
        let run = |explained: bool| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "host::memory::tests::reads_what_is_gone"]);
            child.args(["--ignored", "--nocapture"]);
            if explained {
                child.env("EXPLAINED", "1");
            }
            child.output().unwrap()
        };
        assert_eq!(run(false).status.signal(), Some(libc::SIGBUS));
        let ended = run(true);
        assert_eq!(ended.status.code(), Some(1));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(
            said.contains("became shorter while it was in use"),
            "{said}"
        );
    }
}
