//! What the markers of a JPEG picture say before anything is decoded (ITU-T T.81, annex B).

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
        // Inside the scan 0xff is followed by 0 or a restart marker.
        header.ends = rest.windows(2).any(|pair| pair == [0xff, END_OF_IMAGE]);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
