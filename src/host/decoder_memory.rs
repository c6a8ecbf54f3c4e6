//! The memory of the H.264 decoder, openh264. It allocates for the worst that a stream may be and writes zeros all over it, so
//! that of pictures of 1920 x 1080 pixels a decoder has 27 MB resident, of which most streams use half; and what it needs while
//! it takes a picture apart (6 MB of coefficients, 3 MB of packets) it keeps for itself from one picture to the next. Here
//! zeros are pages that the system has not given yet; of what is of no use between two pictures, coefficients go from decoder
//! to decoder with their pages, for to be given 6 MB anew takes as long as to decode a picture, and packets back to the system.
//!
//! It has no setting for that, so `build.rs` has the linker send two of its functions here. Where that was not done, all of it
//! is unused, and the decoder as it comes.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// What the decoder calls the coefficients of all blocks of a picture, which it zeroes before it reads them.
const COEFFICIENTS: &CStr = c"pCtx->sMb.pScaledTCoeff[]";
/// What it calls the bytes that it decodes.
const PACKETS: &CStr = c"pCtx->sRawData.pHead";
/// What the decoder allocates begins at a multiple of 16 or more.
const CACHE_LINE: u32 = 64;
/// Pieces below this are zeroed as ever.
const LARGE: usize = 64 << 10;

/// So many pieces wait for the next decoder, each of another size.
const MOST_IDLE: usize = 2;

/// Memory of a decoder that holds nothing of use between two pictures.
struct Piece {
    at: usize,
    bytes: usize,
    /// The thread that decodes.
    owner: ThreadId,
    /// Whether it is a mapping of its own, whose pages go from decoder to decoder.
    mapped: bool,
    /// Whether it has pages.
    in_use: bool,
}

/// The pieces of all decoders, and mappings whose pages the next decoder gets: address and bytes, the oldest first.
#[derive(Default)]
struct Memory {
    pieces: Vec<Piece>,
    idle: Vec<(usize, usize)>,
}

static MEMORY: Mutex<Memory> = Mutex::new(Memory {
    pieces: Vec::new(),
    idle: Vec::new(),
});

fn memory() -> MutexGuard<'static, Memory> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" {
    /// `WelsCommon::WelsMalloc(uint32_t, const char*, uint32_t)`: memory that is not zeroed, and begins at a multiple of the last.
    #[link_name = "_ZN10WelsCommon10WelsMallocEjPKcj"]
    fn allocate(size: u32, what: *const c_char, multiple: u32) -> *mut c_void;
    /// `WelsCommon::WelsFree(void*, const char*)`: what that allocated. Neither counts, as `CMemoryAlign` does, which ends the
    /// program where it has not got back what it gave.
    #[link_name = "_ZN10WelsCommon8WelsFreeEPvPKc"]
    fn free(piece: *mut c_void, what: *const c_char);
}

/// In place of `CMemoryAlign::WelsMallocz(uint32_t, const char*)`.
///
/// # Safety
/// To be called by the decoder alone: `what` is null or a string of C.
#[unsafe(export_name = "__wrap__ZN10WelsCommon12CMemoryAlign11WelsMalloczEjPKc")]
unsafe extern "C" fn allocate_zeros(_: *mut c_void, size: u32, what: *const c_char) -> *mut c_void {
    let bytes = size as usize;
    // SAFETY: `what` is a string where it is not null.
    let called = (!what.is_null()).then(|| unsafe { CStr::from_ptr(what) });
    let piece = |at: usize, mapped: bool| Piece {
        at,
        bytes,
        owner: thread::current().id(),
        mapped,
        in_use: mapped,
    };
    if called == Some(COEFFICIENTS)
        && bytes >= LARGE
        && let Some(at) = map(bytes)
    {
        memory().pieces.push(piece(at, true));
        return at as *mut c_void;
    }
    // SAFETY: it is what the function in whose place this one is calls, with another multiple at most.
    let allocated = unsafe { allocate(size, what, CACHE_LINE) };
    if allocated.is_null() {
        return allocated;
    }
    if bytes < LARGE || !discard(allocated as usize, bytes) {
        // SAFETY: the piece has so many bytes.
        unsafe { allocated.write_bytes(0, bytes) };
    } else if called == Some(PACKETS) {
        memory().pieces.push(piece(allocated as usize, false));
    }
    allocated
}

/// In place of `CMemoryAlign::WelsFree(void*, const char*)`.
///
/// # Safety
/// To be called by the decoder alone, with what it allocated or null.
#[unsafe(export_name = "__wrap__ZN10WelsCommon12CMemoryAlign8WelsFreeEPvPKc")]
unsafe extern "C" fn release(_: *mut c_void, piece: *mut c_void, what: *const c_char) {
    let ours = {
        let mut memory = memory();
        let found = (memory.pieces.iter()).position(|of| of.at == piece as usize);
        found.map(|place| memory.pieces.swap_remove(place))
    };
    match ours {
        Some(ours) if ours.mapped => unmap(ours.at, ours.bytes),
        // SAFETY: as above.
        _ => unsafe { free(piece, what) },
    }
}

/// Before a picture is decoded on this thread: the pages that another decoder is done with, so that the system need not give
/// new ones. Nothing is ever read of what they hold.
pub fn lend_scratch() {
    let (owner, mut memory) = (thread::current().id(), memory());
    let Memory { pieces, idle } = &mut *memory;
    let bare = |piece: &&mut Piece| piece.owner == owner && piece.mapped && !piece.in_use;
    for piece in pieces.iter_mut().filter(bare) {
        piece.in_use = true;
        if let Some(place) = idle.iter().position(|(_, bytes)| *bytes == piece.bytes) {
            let (at, bytes) = idle.remove(place);
            if !move_pages(at, piece.at, bytes, 0) {
                unmap(at, bytes);
            }
        }
    }
}

/// After a picture was decoded on this thread: takes the pages back for the next decoder, or gives them to the system where
/// there are such pages already. How many bytes the decoder has no longer.
pub fn take_scratch_back() -> usize {
    let (owner, mut memory) = (thread::current().id(), memory());
    let Memory { pieces, idle } = &mut *memory;
    let mut taken = 0;
    for piece in pieces.iter_mut().filter(|piece| piece.owner == owner) {
        taken += piece.bytes;
        if !piece.mapped {
            discard(piece.at, piece.bytes);
            continue;
        }
        piece.in_use = false;
        if idle.iter().any(|(_, bytes)| *bytes == piece.bytes) {
            discard(piece.at, piece.bytes);
            continue;
        }
        if idle.len() >= MOST_IDLE {
            let (at, bytes) = idle.remove(0);
            unmap(at, bytes);
        }
        match map(piece.bytes) {
            // Before Linux 5.7 it cannot be done.
            Some(at) if move_pages(piece.at, at, piece.bytes, libc::MREMAP_DONTUNMAP) => {
                idle.push((at, piece.bytes));
            }
            other => {
                if let Some(at) = other {
                    unmap(at, piece.bytes);
                }
                discard(piece.at, piece.bytes);
            }
        }
    }
    taken
}

/// Fresh memory that reads as zeros.
fn map(bytes: usize) -> Option<usize> {
    let (access, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: it is new memory, of nobody else.
    let at = unsafe { libc::mmap(null_mut(), bytes, access, kind, -1, 0) };
    (at != libc::MAP_FAILED).then_some(at as usize)
}

fn unmap(at: usize, bytes: usize) {
    // SAFETY: it was mapped here, and whoever had it has handed it back.
    unsafe { libc::munmap(at as *mut c_void, bytes) };
}

/// Moves the pages of a mapping to another of the same size, in place of those that it has; false where the system does not,
/// and both are as they were.
fn move_pages(from: usize, to: usize, bytes: usize, flags: libc::c_int) -> bool {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | flags;
    // SAFETY: both were mapped here with so many bytes and nobody uses them now: the one is a decoder's between two pictures,
    // the other nobody's. Who moves without MREMAP_DONTUNMAP does not use `from` again.
    let moved =
        unsafe { libc::mremap(from as *mut c_void, bytes, bytes, flags, to as *mut c_void) };
    moved != libc::MAP_FAILED
}

/// Has memory read as zeros from here on, without any of its whole pages being resident; false where the system does not.
fn discard(at: usize, bytes: usize) -> bool {
    // SAFETY: it only says how this system is set up.
    let page =
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(usize::MAX / 2);
    let first = at.checked_next_multiple_of(page).unwrap_or(usize::MAX);
    let end = (at + bytes) / page * page;
    if first >= end {
        return false;
    }
    // SAFETY: the pages lie in one piece that the decoder allocated and does not use now, in memory of this process alone,
    // which the system gives anew, and zeroed, when it is next used.
    let answer = unsafe { libc::madvise(first as *mut c_void, end - first, libc::MADV_DONTNEED) };
    if answer != 0 {
        return false;
    }
    for (from, to) in [(at, first), (end, at + bytes)] {
        // SAFETY: what is left of the piece before its first whole page and after its last.
        unsafe { (from as *mut u8).write_bytes(0, to - from) };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_discarded_reads_as_zeros_and_what_lies_beside_it_stays() {
        let mut memory = vec![7u8; 1 << 20];
        let at = memory.as_mut_ptr() as usize;
        assert!(discard(at + 100, (1 << 20) - 300));
        let (before, rest) = memory.split_at(100);
        let (inside, after) = rest.split_at((1 << 20) - 300);
        assert!(before.iter().chain(after).all(|byte| *byte == 7));
        assert!(inside.iter().all(|byte| *byte == 0));
        assert!(!discard(at, 100), "no whole page");
    }

    #[test]
    fn pages_go_from_one_mapping_to_another_and_the_first_is_empty() {
        let bytes = 300_000;
        let (from, to) = (map(bytes).unwrap(), map(bytes).unwrap());
        // SAFETY: both have so many bytes, and nobody else has them.
        let (first, second) = unsafe {
            (
                std::slice::from_raw_parts_mut(from as *mut u8, bytes),
                std::slice::from_raw_parts_mut(to as *mut u8, bytes),
            )
        };
        first.fill(7);
        second.fill(1);
        if move_pages(from, to, bytes, libc::MREMAP_DONTUNMAP) {
            assert!(second.iter().all(|byte| *byte == 7));
            assert!(first.iter().all(|byte| *byte == 0));
        }
        unmap(from, bytes);
        unmap(to, bytes);
    }
}
