//! Memory of large pictures of videos, used again for the next: to be given megabytes anew by the system, page by page, takes
//! as long as to fill them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Frame;

/// From here on it is worth it.
const LEAST: usize = 1 << 20;
/// So many are kept at most, of each size and in all.
const MOST: (usize, usize) = (1, 4);
/// And so many bytes in all: a picture of a folder may have 150 MB, and perhaps nobody takes its buffer.
const MOST_BYTES: usize = 32 << 20;

/// What is free, the oldest first.
static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An empty buffer for `bytes` bytes.
pub fn empty(bytes: usize) -> Vec<u8> {
    let mut buffer = taken(bytes);
    buffer.clear();
    buffer
}

/// `bytes` bytes, each to be written: it may hold another picture.
pub fn filled(bytes: usize) -> Vec<u8> {
    let mut buffer = taken(bytes);
    buffer.resize(bytes, 0);
    buffer
}

fn taken(bytes: usize) -> Vec<u8> {
    let mut free = locked();
    match free.iter().position(|buffer| buffer.capacity() == bytes) {
        Some(place) => free.swap_remove(place),
        None => Vec::with_capacity(bytes),
    }
}

/// Leaves a buffer to whoever next needs one of its size.
pub fn put(buffer: Vec<u8>) {
    let bytes = buffer.capacity();
    if !(LEAST..=MOST_BYTES).contains(&bytes) {
        return;
    }
    let mut free = locked();
    let alike = free.iter().filter(|other| other.capacity() == bytes);
    if alike.count() >= MOST.0 {
        return;
    }
    // Cameras that are gone, or have another size by now, leave theirs to nobody.
    let held = |free: &[Vec<u8>]| free.iter().map(Vec::capacity).sum::<usize>();
    while free.len() >= MOST.1 || held(&free) + bytes > MOST_BYTES {
        free.remove(0);
    }
    free.push(buffer);
}

/// Leaves the picture of a frame that came without a JPEG, if nobody else has it.
pub fn put_frame(frame: Arc<Frame>) {
    if frame.jpeg.is_none()
        && let Some(frame) = Arc::into_inner(frame)
    {
        put(frame.image.into_raw());
    }
}

fn locked() -> MutexGuard<'static, Vec<Vec<u8>>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_buffers_are_kept_and_used_again_empty() {
        // Of sizes that no other test has.
        let mut sizes = (0..20).map(|step| LEAST + 1 + 7 * step);
        for bytes in sizes.clone() {
            for _ in 0..4 {
                put(vec![7; bytes]);
            }
        }
        put(vec![7; MOST_BYTES + 1]);
        let held: usize = locked().iter().map(Vec::capacity).sum();
        assert!(locked().len() <= MOST.1 && held <= MOST_BYTES);
        let last = sizes.next_back().unwrap();
        let buffer = empty(last);
        assert!(buffer.is_empty() && buffer.capacity() == last);
        put(vec![7; 100]);
        assert!(locked().iter().all(|buffer| buffer.capacity() >= LEAST));
    }
}
