//! Memory for packed panels. Products read all panels of a tower from one end to the other, more than caches hold, so that
//! pages count: with pages of two megabytes, which Linux gives to whoever asks, a picture of a ViT-B/32 takes a tenth less
//! time. A matrix is smaller than such a page, so matrices share pieces of memory; a piece goes when its last matrix does.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::MmapMut;

use super::Vector;

/// Of a large page.
const PAGE: usize = 2 << 20;
/// Of a piece that several matrices share. It takes memory only where it is written, page by page.
const PIECE: usize = 8 * PAGE;

/// The panels of a matrix.
#[derive(Debug)]
pub(super) struct Panels {
    piece: Arc<Piece>,
    /// Vectors of the piece.
    start: usize,
    length: usize,
}

/// Memory that is written once, matrix by matrix.
#[derive(Debug)]
struct Piece {
    map: MmapMut,
    /// Bytes before the first page.
    skipped: usize,
}

/// The piece that was begun last, and how many of its vectors have a matrix.
static CURRENT: Mutex<(Weak<Piece>, usize)> = Mutex::new((Weak::new(), 0));

impl Panels {
    /// Of `length` vectors, which `write` turns from zeros into what they are to be. None if the system has no memory.
    pub fn new(length: usize, write: impl FnOnce(&mut [Vector])) -> Option<Panels> {
        let (piece, start) = reserve(length)?;
        // SAFETY: the vectors are within the piece and aligned as pages are, no one else was given them, and a map begins
        // with zeros, which are vectors.
        write(unsafe { std::slice::from_raw_parts_mut(piece.vectors().add(start), length) });
        Some(Panels {
            piece,
            start,
            length,
        })
    }
}

impl Deref for Panels {
    type Target = [Vector];

    fn deref(&self) -> &[Vector] {
        // SAFETY: as above, and since they were written nothing writes them.
        unsafe { std::slice::from_raw_parts(self.piece.vectors().add(self.start), self.length) }
    }
}

/// A place for so many vectors that nobody else gets.
fn reserve(length: usize) -> Option<(Arc<Piece>, usize)> {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let (piece, used) = &mut *current;
    if let Some(piece) = piece.upgrade()
        && *used + length <= piece.length()
    {
        let start = *used;
        *used += length;
        return Some((piece, start));
    }
    let fresh = Arc::new(Piece::new(length * size_of::<Vector>())?);
    *current = (Arc::downgrade(&fresh), length);
    Some((fresh, 0))
}

impl Piece {
    /// Of at least so many bytes.
    fn new(least: usize) -> Option<Piece> {
        let map = MmapMut::map_anon(least.max(PIECE).checked_add(PAGE)?).ok()?;
        // A wish: where it is not granted, pages are small.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let skipped = map.as_ptr().align_offset(PAGE);
        Some(Piece { map, skipped })
    }

    /// How many vectors there are.
    fn length(&self) -> usize {
        (self.map.len() - self.skipped) / size_of::<Vector>()
    }

    fn vectors(&self) -> *mut Vector {
        self.map
            .as_ptr()
            .wrapping_add(self.skipped)
            .cast_mut()
            .cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panels(length: usize, value: u8) -> Panels {
        Panels::new(length, |panels| {
            assert!(panels.iter().all(|vector| vector.0 == [0; 64]));
            panels.fill(Vector([value; 64]));
        })
        .expect("memory")
    }

    #[test]
    fn matrices_share_pieces_and_nothing_else() {
        let lengths = [0, 1, 1000, PIECE / 64 - 100, 7, 2 * PIECE / 64, 5, 60_000];
        let all: Vec<Panels> = (1..).zip(lengths).map(|(n, l)| panels(l, n)).collect();
        for (value, panels) in (1..).zip(&all) {
            assert!(panels.iter().all(|vector| vector.0 == [value; 64]));
        }
        drop(all);
        assert_eq!(panels(3, 9).len(), 3);
    }
}
