//! A JPEG without what it says beside the picture: where and with what it was taken, by whom, and small copies of it. Cameras
//! of phones put positions and serial numbers there, and what is kept here is copied to other boxes.

use image::metadata::Orientation;

const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
/// JFIF: version, density, and the size of a thumbnail that follows.
const APP0: u8 = 0xe0;
/// Exif, with positions and a thumbnail; or XMP.
const APP1: u8 = 0xe1;
/// Adobe: how colours are coded.
const APP14: u8 = 0xee;

/// The same picture, bit for bit, with nothing left but what decoding it takes: no Exif, XMP, IPTC, colour profile, comment or
/// thumbnail, and nothing behind its end.
///
/// None where that is not enough: Exif says that the picture is to be turned, or its segments cannot be followed. Then what
/// was decoded, which is upright, has to be encoded anew.
pub fn without_metadata(jpeg: &[u8]) -> Option<Vec<u8>> {
    let mut kept = START_OF_IMAGE.to_vec();
    let mut rest = jpeg.strip_prefix(&START_OF_IMAGE)?;
    let mut scanned = false;
    loop {
        let marker;
        (marker, rest) = next_marker(rest)?;
        if marker == END_OF_IMAGE {
            kept.extend([0xff, END_OF_IMAGE]);
            return scanned.then_some(kept);
        }
        let (&[high, low], _) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(..length)?;
        let content = segment.get(2..)?;
        rest = &rest[length..];
        match marker {
            APP0 => kept.extend(density_alone(content).into_iter().flatten()),
            APP1 if is_turned(content) => return None,
            // Frames, tables, restart intervals, scans.
            0xc0..=0xcf | 0xda..=0xdf | APP14 => {
                kept.extend([0xff, marker]);
                kept.extend(segment);
            }
            // What applications and people say, and what nobody knows.
            _ => {}
        }
        if marker == START_OF_SCAN {
            let length = scan_length(rest);
            kept.extend(&rest[..length]);
            rest = &rest[length..];
            scanned = true;
        }
    }
}

/// A marker, and what follows it; markers may be filled up with 0xff before.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let filled = bytes.strip_prefix(&[0xff])?;
    let at = filled.iter().position(|&byte| byte != 0xff)?;
    Some((filled[at], &filled[at + 1..]))
}

/// The bytes of a scan up to the next marker, or to the end of the file where the camera was cut off. Inside a scan 0xff is
/// followed by 0, a restart marker, or another 0xff.
fn scan_length(bytes: &[u8]) -> usize {
    let inside = |byte: u8| matches!(byte, 0 | 0xd0..=0xd7 | 0xff);
    let mut pairs = bytes.windows(2);
    let end = pairs.position(|pair| pair[0] == 0xff && !inside(pair[1]));
    end.unwrap_or(bytes.len())
}

/// A JFIF segment without its thumbnail; none where it is of another kind, such as a thumbnail of its own.
fn density_alone(content: &[u8]) -> Option<Vec<u8>> {
    let density = content
        .get(..12)
        .filter(|_| content.starts_with(b"JFIF\0"))?;
    let mut segment = vec![0xff, APP0, 0, 16];
    segment.extend(density);
    segment.extend([0, 0]);
    Some(segment)
}

/// Whether an APP1 segment is Exif that has the picture turned before it is looked at.
pub(super) fn is_turned(content: &[u8]) -> bool {
    let exif = content.strip_prefix(b"Exif\0\0");
    let turn = exif.and_then(Orientation::from_exif_chunk);
    turn.is_some_and(|turn| turn != Orientation::NoTransforms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{MAX_CAMERA_PIXELS, decode_picture};

    fn fixture(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
        std::fs::read(format!("{folder}{name}")).unwrap()
    }

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() + 2) as u16;
        [&[0xff, marker], &length.to_be_bytes()[..], content].concat()
    }

    /// Exif with an orientation and, as if it were a position, the words `SECRET`.
    fn exif(orientation: u8) -> Vec<u8> {
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        exif.extend(b"SECRET");
        segment(APP1, &exif)
    }

    /// `jpeg` with segments behind its first marker.
    fn with(jpeg: &[u8], segments: &[Vec<u8>]) -> Vec<u8> {
        [&jpeg[..2], &segments.concat(), &jpeg[2..]].concat()
    }

    fn holds(bytes: &[u8], what: &[u8]) -> bool {
        bytes.windows(what.len()).any(|window| window == what)
    }

    #[test]
    fn positions_thumbnails_and_comments_are_gone_and_the_picture_is_the_same_to_the_bit() {
        for name in ["rgb420.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg"] {
            let plain = fixture(name);
            let small = [b"JFXX\0\x10SECRET", &plain[..]].concat();
            let segments = [
                exif(1),
                segment(APP0, &small[..small.len().min(9000)]),
                segment(APP1, b"http://ns.adobe.com/xap/1.0/\0SECRET"),
                segment(0xe2, b"MPF\0SECRET"),
                segment(0xed, b"Photoshop 3.0\0SECRET"),
                segment(0xfe, b"SECRET"),
            ];
            let mut told = with(&plain, &segments);
            told.extend(b"SECRET behind the end");
            assert!(holds(&told, b"SECRET"));
            let kept = without_metadata(&told).unwrap();
            assert!(!holds(&kept, b"SECRET"), "{name}");
            assert_eq!(without_metadata(&kept).unwrap(), kept, "{name}");
            let decoded = |bytes: &[u8]| decode_picture(bytes, MAX_CAMERA_PIXELS).unwrap();
            assert_eq!(decoded(&kept), decoded(&plain), "{name}");
        }
    }

    #[test]
    fn a_thumbnail_in_the_first_segment_goes_and_its_density_stays() {
        let mut jfif = b"JFIF\0\x01\x02\x01\0\x48\0\x48\x01\x01".to_vec();
        jfif.extend(b"SEC");
        let plain = without_metadata(&fixture("rgb420.jpg")).unwrap();
        assert_eq!(plain[2..6], [0xff, APP0, 0, 16]);
        let told = [&plain[..2], &segment(APP0, &jfif), &plain[20..]].concat();
        let kept = without_metadata(&told).unwrap();
        assert_eq!(kept[6..20], *b"JFIF\0\x01\x02\x01\0\x48\0\x48\0\0");
        assert_eq!(kept[20..], plain[20..]);
    }

    #[test]
    fn a_picture_that_is_to_be_turned_or_cannot_be_followed_has_to_be_encoded_anew() {
        let plain = fixture("rgb420.jpg");
        for orientation in 2..=8 {
            assert_eq!(without_metadata(&with(&plain, &[exif(orientation)])), None);
        }
        assert_eq!(without_metadata(b"\x89PNG"), None);
        assert_eq!(without_metadata(b"\xff\xd8\xff\xd9"), None);
        for length in 0..plain.len() {
            if let Some(kept) = without_metadata(&plain[..length]) {
                assert!(kept.len() <= length, "{length}");
            }
        }
    }

    #[test]
    fn work_and_memory_are_those_of_the_bytes() {
        // A marker at every second byte, and one long run of fill bytes.
        let started = std::time::Instant::now();
        for block in [
            &b"\xff\xd0"[..],
            b"\xff\xff",
            b"\xff\xfe\0\x02",
            b"\xff\xda\0\x02",
        ] {
            let hostile = [&START_OF_IMAGE[..], &block.repeat((1 << 20) / block.len())].concat();
            let kept = without_metadata(&hostile);
            assert!(kept.is_none_or(|kept| kept.len() <= hostile.len() + 2));
        }
        assert!(started.elapsed().as_secs() < 4, "{:?}", started.elapsed());
    }
}
