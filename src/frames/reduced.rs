//! Large JPEG pictures at a half, a quarter or an eighth of their width and height, straight from their coefficients: no
//! model looks at more, and memory and time are those of the small picture.

use std::io::Cursor;

use image::RgbImage;
use jpeg_decoder::{Decoder, Error, PixelFormat, UnsupportedFeature};

use super::jpeg::JpegHeader;
use super::options::MAX_CAMERA_PIXELS;

/// Only larger pictures are reduced: what all smaller ones become stays the same, to the bit.
const MORE_THAN: u64 = MAX_CAMERA_PIXELS;
/// The shorter side of a reduced picture has at least so many pixels: twice what the largest image towers take.
const LEAST_SIDE: u32 = 1024;

/// By what width and height of a picture are divided: 2, 4 or 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction(u32);

impl Reduction {
    /// The largest that leaves enough of a picture of `width` x `height` pixels; none where it is not too large, or its
    /// coding does not allow it.
    pub(super) fn of(header: &JpegHeader, width: u32, height: u32) -> Option<Reduction> {
        let large = u64::from(width) * u64::from(height) > MORE_THAN;
        let possible = large && header.in_blocks && matches!(header.components, 1 | 3);
        let leaves_enough = |by: &u32| width.min(height) / by >= LEAST_SIDE;
        let by = [8, 4, 2].into_iter().find(leaves_enough);
        by.filter(|_| possible).map(Reduction)
    }

    /// Of any picture, for tests.
    #[doc(hidden)]
    pub fn by_half() -> Reduction {
        Reduction(2)
    }

    /// Whether `file` bytes can hold all blocks of a picture: two codes each, of a bit at least, where there is one scan.
    pub(super) fn may_be_whole(header: &JpegHeader, file: u64, width: u32, height: u32) -> bool {
        let blocks = u64::from(width.div_ceil(8)) * u64::from(height.div_ceil(8));
        header.in_passes || 8 * file >= 2 * blocks
    }

    /// Pixels of a side that has `side` of them, reduced.
    pub(super) fn side(self, side: u32) -> u32 {
        side.div_ceil(self.0)
    }

    /// The most bytes that are held at one time for a picture of `width` x `height` pixels in `file` bytes.
    pub(super) fn bytes(self, header: &JpegHeader, file: u64, width: u32, height: u32) -> u64 {
        // Blocks are whole, 32 pixels wide and high at most.
        let pixels = |side: u32| u64::from(side).next_multiple_of(32);
        let whole = pixels(width) * pixels(height);
        let reduced = pixels(self.side(width)) * pixels(self.side(height));
        let components = u64::from(header.components);
        // Coefficients of 16 bits: those of all components and, on their way into samples, those of one.
        let coefficients = if header.in_passes {
            2 * (components + 1) * whole
        } else {
            0
        };
        // Planes, the picture, and the same turned.
        let samples = (components + 3 + 3) * reduced;
        coefficients + samples + 2 * file + (1 << 20)
    }
}

/// Decodes a JPEG picture, reduced.
///
/// # Errors
/// Says what is wrong with the bytes, or that they cannot be decoded in this way.
pub fn decode_reduced(bytes: &[u8], reduction: Reduction) -> Result<RgbImage, Error> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.read_info()?;
    let whole = decoder.info().ok_or_else(truncated)?;
    let asked = |side: u16| u16::try_from(reduction.side(side.into())).unwrap_or(side);
    let (width, height) = decoder.scale(asked(whole.width), asked(whole.height))?;
    let samples = decoder.decode()?;
    let rgb = match decoder.info().map(|info| info.pixel_format) {
        Some(PixelFormat::RGB24) => samples,
        Some(PixelFormat::L8) => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
        _ => return Err(Error::Unsupported(UnsupportedFeature::ComponentCount(4))),
    };
    RgbImage::from_raw(width.into(), height.into(), rgb).ok_or_else(truncated)
}

fn truncated() -> Error {
    Error::Io(std::io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{MAX_PIXELS, decode_picture};
    use image::codecs::jpeg::JpegEncoder;
    use image::imageops::{self, FilterType};

    fn header(components: u8) -> JpegHeader {
        JpegHeader {
            components,
            in_passes: false,
            in_blocks: true,
            ends: true,
        }
    }

    #[test]
    fn only_pictures_that_are_too_large_are_reduced_and_enough_is_left() {
        let by = |width, height| Reduction::of(&header(3), width, height).map(|found| found.0);
        for (width, height, reduction) in [
            (640, 480, None),
            (4032, 3024, None),
            (6000, 4000, Some(2)),
            (8160, 6144, Some(4)),
            (12_000, 9000, Some(8)),
            (16_320, 12_240, Some(8)),
            (20_000, 1500, None),
        ] {
            assert_eq!(by(width, height), reduction, "{width} x {height}");
        }
        assert_eq!(Reduction::of(&header(4), 8160, 6144), None);
        let lossless = JpegHeader {
            in_blocks: false,
            ..header(3)
        };
        assert_eq!(Reduction::of(&lossless, 8160, 6144), None);
    }

    #[test]
    fn a_few_bytes_are_no_large_picture() {
        let whole = |file| Reduction::may_be_whole(&header(3), file, 10_000, 10_000);
        assert!(whole(1 << 20) && !whole(300 << 10));
    }

    /// A picture as a camera takes it: smooth, with edges and colours.
    fn drawn(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let wave = (f64::from(x) / 23.0).sin() + (f64::from(y) / 31.0).cos();
            let inside = (x / 97 + y / 61) % 2 == 0;
            let shade = (wave * 40.0 + 128.0) as u8;
            image::Rgb([
                shade,
                if inside { 200 } else { shade },
                (x * 255 / width) as u8,
            ])
        })
    }

    #[test]
    fn a_reduced_picture_looks_like_the_whole_one_made_smaller() {
        for (width, height) in [(1203, 801), (640, 480)] {
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, 92)
                .encode_image(&drawn(width, height))
                .unwrap();
            let whole = decode_picture(&bytes, MAX_PIXELS).unwrap();
            for by in [2, 4, 8] {
                let reduced = decode_reduced(&bytes, Reduction(by)).unwrap();
                let (w, h) = (width.div_ceil(by), height.div_ceil(by));
                assert_eq!(reduced.dimensions(), (w, h));
                let expected = imageops::resize(&whole, w, h, FilterType::Triangle);
                let pairs = reduced.as_raw().iter().zip(expected.as_raw());
                let apart: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
                let mean = apart as f64 / reduced.as_raw().len() as f64;
                println!("1/{by} of {width} x {height}: mean difference {mean:.2}");
                assert!(mean < 4.0, "1/{by}: {mean}");
            }
        }
    }
}
