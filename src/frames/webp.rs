//! What the chunks of a WebP file say of their sizes. Its decoder allocates what a chunk of metadata says before it reads it,
//! up to 4 GiB for a file of 200 bytes.

/// Bytes of a chunk's name and size, and of the file's own head before the first chunk.
const HEAD: usize = 8;
const FIRST: usize = 12;

/// Whether the chunk of Exif, if there is one, ends within the file. Other bytes that are no whole chunk, as tools leave them
/// behind a picture, are of no concern: nothing behind them is read.
pub(super) fn exif_is_whole(bytes: &[u8]) -> bool {
    let mut at = FIRST;
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<HEAD>()) {
        let [name @ .., s0, s1, s2, s3] = head;
        let size = u32::from_le_bytes([*s0, *s1, *s2, *s3]) as usize;
        let Some(end) = (at + HEAD).checked_add(size) else {
            return false;
        };
        if end > bytes.len() {
            return name != b"EXIF";
        }
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
    fn exif_that_says_more_than_there_is_is_found_wherever_it_is() {
        let whole = file(&[(b"VP8X", 10, 10), (b"VP8L", 5, 6), (b"EXIF", 4, 4)]);
        let trailer = [&whole, &b"made by a tool"[..]].concat();
        for bytes in [&whole, &whole[..FIRST], &trailer] {
            assert!(exif_is_whole(bytes));
        }
        for chunks in [
            &[(b"VP8X", 10, 10), (b"VP8L", 5, 6), (b"EXIF", u32::MAX, 4)][..],
            &[(b"VP8X", 10, 10), (b"EXIF", 5, 4)],
        ] {
            assert!(!exif_is_whole(&file(chunks)), "{chunks:?}");
        }
    }
}
