//! What the markers of a JPEG picture say before anything is decoded (ITU-T T.81, annex B).

use std::borrow::Cow;

const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// What a decoder will have to do with a JPEG picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JpegHeader {
    /// Colour components: 1, 3 or 4.
    pub components: u8,
    /// Whether one scan after another refines the whole picture, so that its coefficients are held to the end: progressive
    /// pictures, and those with a scan a component.
    pub in_passes: bool,
    /// Whether it is coded in blocks of cosines, not sample by sample, with Huffman's codes and 8 bits.
    pub in_blocks: bool,
    /// Whether the picture data run to the end-of-image marker. Where they do not, a decoder fills the rest with grey, and a
    /// half-grey picture would train a prompt.
    pub ends: bool,
}

impl JpegHeader {
    /// Of a JPEG's bytes; none where they are not those of a JPEG.
    pub fn of(bytes: &[u8]) -> Option<JpegHeader> {
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        let mut header = JpegHeader {
            components: 4,
            in_passes: true,
            in_blocks: false,
            ends: false,
        };
        // Step over the segments before the scan: a thumbnail in one of them has an end marker of its own.
        while let [0xff, marker, high, low, ..] = *rest {
            let length = usize::from(u16::from_be_bytes([high, low]));
            match marker {
                // Start of frame: length, precision, height, width, components.
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    header.components = rest.get(9).copied().unwrap_or(4);
                    header.in_passes = !matches!(marker, 0xc0 | 0xc1);
                    header.in_blocks = matches!(marker, 0xc0..=0xc2) && rest.get(4) == Some(&8);
                }
                // Start of scan: length, components.
                START_OF_SCAN => {
                    header.in_passes |= rest.get(4) != Some(&header.components);
                    break;
                }
                _ => {}
            }
            let segment = if marker == 0xff { 1 } else { 2 + length };
            rest = rest.get(segment..).unwrap_or_default();
        }
        // Inside the scan 0xff is followed by 0 or a restart marker. Nearly all end with the marker.
        let end = [0xff, END_OF_IMAGE];
        header.ends = rest.ends_with(&end) || rest.windows(2).any(|pair| pair == end);
        Some(header)
    }
}

/// The segments of a JPEG before its first scan, each with its marker and where it begins, and that of the scan at last.
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, usize)> + '_ {
    let mut at = if bytes.starts_with(&[0xff, 0xd8]) {
        2
    } else {
        bytes.len()
    };
    std::iter::from_fn(move || {
        while bytes.get(at..at + 2) == Some(&[0xff, 0xff]) {
            at += 1;
        }
        let &[0xff, marker, high, low] = bytes.get(at..at + 4)? else {
            return None;
        };
        let begin = at;
        at = match marker {
            START_OF_SCAN => bytes.len(),
            _ => at + 2 + usize::from(u16::from_be_bytes([high, low])),
        };
        Some((marker, begin))
    })
}

/// The same picture as decoders want it, where cameras write it otherwise: with two start markers, without the codes that the
/// standard has as an example, or with its height only behind the scan.
pub(super) fn mended(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut once = bytes;
    while let Some(rest) = once.strip_prefix(&START_OF_IMAGE)
        && rest.starts_with(&START_OF_IMAGE)
    {
        once = rest;
    }
    let mut mended = with_codes(once);
    if let Some(Lines { at, height, frame }) = lines_behind_the_scan(&mended) {
        let whole = mended.to_mut();
        whole.drain(at..at + LINES);
        if let Some(frame) = frame {
            whole[frame + 5..frame + 7].copy_from_slice(&height);
        }
    }
    mended
}

/// Bytes of the segment behind a scan that says how many lines there are (DNL, B.2.5).
const LINES: usize = 6;

/// Such a segment, which decoders refuse.
struct Lines {
    /// Where it is.
    at: usize,
    height: [u8; 2],
    /// The header of the frame, if it has no height.
    frame: Option<usize>,
}

fn lines_behind_the_scan(bytes: &[u8]) -> Option<Lines> {
    let (mut frame, mut scan) = (None, None);
    for (marker, at) in segments(bytes) {
        match marker {
            0xc0..=0xc3 if bytes.get(at + 5..at + 7) == Some(&[0, 0]) => frame = Some(at),
            START_OF_SCAN => scan = Some(at),
            _ => {}
        }
    }
    // Where nothing depends on it, it is looked for only where it stands in all usual pictures: before the end marker.
    let from = match frame {
        Some(_) => scan?,
        None => scan?.max(bytes.len().saturating_sub(LINES + 2)),
    };
    let mut behind = bytes[from..].windows(LINES).enumerate();
    behind.find_map(|(at, segment)| match *segment {
        [0xff, 0xdc, 0, 4, high, low] => Some(Lines {
            at: from + at,
            height: [high, low],
            frame,
        }),
        _ => None,
    })
}

/// The same picture with the codes that the standard has as an example (annex K.3), where it has none: cameras on USB leave
/// out what they all have in common.
fn with_codes(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (mut usual, mut scan) = (false, None);
    for (marker, at) in segments(bytes) {
        match marker {
            0xc0 | 0xc1 => usual = true,
            0xc4 => return Cow::Borrowed(bytes),
            START_OF_SCAN => scan = Some(at),
            _ => {}
        }
    }
    match scan {
        Some(at) if usual => Cow::Owned([&bytes[..at], &USUAL_CODES, &bytes[at..]].concat()),
        _ => Cow::Borrowed(bytes),
    }
}

/// What a JPEG is called that is coded as hardly any is, and not decoded here.
pub(super) fn rare(bytes: &[u8]) -> Option<&'static str> {
    segments(bytes).find_map(|(marker, at)| match marker {
        0xc0..=0xc2 if bytes.get(at + 4) != Some(&8) => Some("a JPEG picture of more than 8 bits"),
        0xc3 | 0xc7 | 0xcb | 0xcf => Some("a lossless JPEG picture"),
        0xc5 | 0xc6 => Some("a JPEG picture in several sizes"),
        0xc9 | 0xca | 0xcd | 0xce => Some("a JPEG picture with arithmetic codes"),
        0xf7 => Some("a JPEG-LS picture"),
        _ => None,
    })
}

/// A segment with the codes of annex K.3.
const USUAL_CODES: [u8; 420] = [
    0xff, 0xc4, 0x01, 0xa2, 0x00, 0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
    0x0b, 0x10, 0x00, 0x02, 0x01, 0x03, 0x03, 0x02, 0x04, 0x03, 0x05, 0x05, 0x04, 0x04, 0x00, 0x00,
    0x01, 0x7d, 0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51,
    0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52,
    0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26,
    0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47,
    0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67,
    0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
    0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6,
    0xf7, 0xf8, 0xf9, 0xfa, 0x01, 0x00, 0x03, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
    0x0b, 0x11, 0x00, 0x02, 0x01, 0x02, 0x04, 0x04, 0x03, 0x04, 0x07, 0x05, 0x04, 0x04, 0x00, 0x01,
    0x02, 0x77, 0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07,
    0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33,
    0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19,
    0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46,
    0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66,
    0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85,
    0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
    0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8,
    0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6,
    0xf7, 0xf8, 0xf9, 0xfa,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::decode_picture;

    fn header(name: &str) -> JpegHeader {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
        JpegHeader::of(&std::fs::read(format!("{folder}{name}")).unwrap()).unwrap()
    }

    #[test]
    fn markers_say_how_a_picture_is_coded() {
        for (name, components, in_passes, ends) in [
            ("rgb420.jpg", 3, false, true),
            ("progressive.jpg", 3, true, true),
            ("grey.jpg", 1, false, true),
            ("cmyk.jpg", 4, false, true),
            ("broken.cut_two.jpg", 3, false, false),
        ] {
            let expected = JpegHeader {
                components,
                in_passes,
                in_blocks: true,
                ends,
            };
            assert_eq!(header(name), expected, "{name}");
        }
        assert_eq!(JpegHeader::of(b"\x89PNG"), None);
        assert!(JpegHeader::of(b"\xff\xd8\xff").is_some_and(|header| !header.ends));
    }

    /// Of a camera on USB nothing was seen.
    #[test]
    fn a_picture_that_leaves_out_the_usual_codes_is_the_same_with_them() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
        let whole = std::fs::read(format!("{folder}rgb420.jpg")).unwrap();
        let mut without = Vec::new();
        let mut from = 0;
        for (marker, at) in segments(&whole) {
            without.extend(&whole[from..at]);
            from = at;
            if marker == 0xc4 {
                from = at + 2 + usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
            }
        }
        without.extend(&whole[from..]);
        assert!(without.len() < whole.len());
        let decoded = decode_picture(&without, 1 << 20).unwrap();
        assert_eq!(decoded, decode_picture(&whole, 1 << 20).unwrap());
        assert!(matches!(mended(&whole), Cow::Borrowed(_)));
        for cut in 0..without.len() {
            let _ = (mended(&without[..cut]), rare(&without[..cut]));
        }
    }

    fn whole() -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
        std::fs::read(format!("{folder}rgb420.jpg")).unwrap()
    }

    /// Line cameras and scanners do not know the height before the end.
    #[test]
    fn a_height_that_stands_behind_the_scan_is_read() {
        let mut late = whole();
        let (_, frame) = segments(&late).find(|(marker, _)| *marker == 0xc0).unwrap();
        let height = [late[frame + 5], late[frame + 6]];
        late[frame + 5..frame + 7].fill(0);
        let message = decode_picture(&late, 1 << 20).unwrap_err().to_string();
        assert!(message.contains("height"), "{message}");
        let end = late.len() - 2;
        late.splice(end..end, [0xff, 0xdc, 0, 4, height[0], height[1]]);
        let decoded = decode_picture(&late, 1 << 20).unwrap();
        assert_eq!(decoded, decode_picture(&whole(), 1 << 20).unwrap());
        // Said twice, it is right as well.
        late[frame + 5..frame + 7].copy_from_slice(&height);
        assert_eq!(decoded, decode_picture(&late, 1 << 20).unwrap());
        for cut in 0..late.len() {
            let _ = mended(&late[..cut]);
        }
    }

    #[test]
    fn a_second_start_marker_is_passed_over() {
        let twice = [&[0xff, 0xd8, 0xff, 0xd8][..], &whole()].concat();
        let decoded = decode_picture(&twice, 1 << 20).unwrap();
        assert_eq!(decoded, decode_picture(&whole(), 1 << 20).unwrap());
        for length in 0..7 {
            let _ = mended(&twice[..length]);
        }
    }

    #[test]
    fn codings_that_hardly_anybody_uses_are_called_by_their_names() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
        let usual = std::fs::read(format!("{folder}rgb420.jpg")).unwrap();
        assert_eq!(rare(&usual), None);
        let (_, frame) = segments(&usual)
            .find(|(marker, _)| *marker == 0xc0)
            .unwrap();
        for (marker, bits, called) in [
            (0xc0, 12, "more than 8 bits"),
            (0xc3, 8, "lossless"),
            (0xc9, 8, "arithmetic"),
            (0xf7, 8, "JPEG-LS"),
        ] {
            let mut picture = usual.clone();
            (picture[frame + 1], picture[frame + 4]) = (marker, bits);
            let message = decode_picture(&picture, 1 << 20).unwrap_err().to_string();
            assert!(
                message.contains(called) && message.contains("baseline"),
                "{message}"
            );
        }
    }
}
