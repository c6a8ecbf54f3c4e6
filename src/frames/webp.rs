//! What the chunks of a WebP file say of their sizes. Its decoder allocates what a chunk of metadata says before it reads it,
//! up to 4 GiB for a file of 200 bytes.

/// Bytes of a chunk's name and size, and of the file's own head before the first chunk.
const HEAD: usize = 8;
const FIRST: usize = 12;

/// Whether every chunk ends within the file.
pub(super) fn chunks_are_whole(bytes: &[u8]) -> bool {
    let mut at = FIRST;
    while let Some(&[_, _, _, _, a, b, c, d]) =
        bytes.get(at..).and_then(|rest| rest.first_chunk::<HEAD>())
    {
        let size = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some(end) = (at + HEAD)
            .checked_add(size)
            .filter(|end| *end <= bytes.len())
        else {
            return false;
        };
        at = end + size % 2;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of chunks: a name, the size that is said, and the bytes that there are.
    fn file(chunks: &[(&[u8; 4], u32, usize)]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WEBP".to_vec();
        for (name, said, there) in chunks {
            bytes.extend(*name);
            bytes.extend(said.to_le_bytes());
            bytes.extend(vec![0; *there]);
        }
        bytes
    }

    #[test]
    fn a_chunk_that_says_more_than_there_is_is_found_wherever_it_is() {
        let whole = file(&[(b"VP8X", 10, 10), (b"VP8L", 5, 6), (b"EXIF", 4, 4)]);
        assert!(chunks_are_whole(&whole));
        assert!(chunks_are_whole(&whole[..FIRST]));
        for chunks in [
            &[(b"VP8X", 10, 10), (b"VP8L", 5, 6), (b"EXIF", u32::MAX, 4)][..],
            &[(b"VP8X", 10, 10), (b"EXIF", 5, 4)],
            &[(b"VP8L", u32::MAX - 7, 6)],
        ] {
            assert!(!chunks_are_whole(&file(chunks)), "{chunks:?}");
        }
    }
}
