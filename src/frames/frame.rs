//! A frame: as a camera hands it over, and as it is looked at.

use std::borrow::Cow;
use std::sync::Arc;

use super::jpeg::mended;
use super::metadata::without_metadata;
use super::planes::Planes;
use super::{MAX_CAMERA_PIXELS, PictureError, decode_picture};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

/// The quality of the JPEGs that frames are kept as, of 100.
const KEPT_QUALITY: u8 = 95;

/// One picture of a stream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Frame {
    /// The picture, 8 bits a channel.
    pub image: RgbImage,
    /// Where it comes from: the camera as given, or the file.
    pub source: String,
    /// Its number in the stream, from 0; frames that were dropped count.
    pub index: u64,
    /// What it shows, where the source knows: demo scenes do.
    pub label: Option<String>,
    /// The JPEG that it was decoded from, as it came, where the camera sends those.
    pub jpeg: Option<Vec<u8>>,
    /// What it was made from, where that takes half the memory and it can be made from it again at once: who keeps the frame
    /// for later keeps this alone.
    pub(crate) planes: Option<Arc<RawFrame>>,
}

impl Frame {
    /// The frame as a JPEG file that says nothing but the picture: what the camera sent, less what it says about where and
    /// with what it was taken; or else, and where that has the picture turned, a new one that loses next to nothing.
    ///
    /// # Errors
    /// If the picture is too large for a JPEG: above 65,535 pixels wide or high.
    pub fn to_jpeg(&self) -> Result<Vec<u8>, PictureError> {
        if let Some(jpeg) = self.jpeg.as_deref().and_then(without_metadata) {
            return Ok(jpeg);
        }
        kept_jpeg(&self.image)
    }
}

/// A JPEG of `image` that loses next to nothing.
///
/// # Errors
/// If it is too large for one: above 65,535 pixels wide or high.
pub fn kept_jpeg(image: &RgbImage) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, KEPT_QUALITY)
        .encode_image(image)
        .map_err(|error| PictureError::Encode(error.to_string()))?;
    Ok(bytes)
}

/// A frame as a camera hands it over; nothing is decoded that nobody looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum RawFrame {
    /// A JPEG picture.
    Jpeg(Vec<u8>),
    /// Two bytes a pixel, Y U Y V, row by row (YUYV, also called YUY2), in the limited range of BT.601 as V4L2 means it.
    Yuyv {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// `2 * width * height` bytes.
        data: Vec<u8>,
    },
    /// Three planes one after the other, Y, then U and V of half the width and height (I420, as video codecs have it).
    Planar {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// All rows, without gaps.
        data: Vec<u8>,
        /// What its samples mean.
        colours: Colours,
    },
}

/// What the samples of a video mean, as far as it says so (ITU-T H.264, annex E).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colours {
    /// How black and white are coded.
    pub range: Range,
    /// How colours are; where it is not said, as in BT.601, and as in BT.709 from 720 rows on.
    pub matrix: Option<Matrix>,
}

/// How black and white are coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Range {
    /// As 16 and 235.
    #[default]
    Limited,
    /// As 0 and 255, as in JPEG.
    Full,
}

/// How red, green and blue make up luma and chroma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// As in television of old, and JPEG.
    Bt601,
    /// As in television of high definition.
    Bt709,
}

impl RawFrame {
    /// Mends a JPEG where that is possible: what is kept of it is read by other programs as well.
    pub(super) fn make_whole(&mut self) {
        if let RawFrame::Jpeg(bytes) = self
            && let Cow::Owned(whole) = mended(bytes)
        {
            *bytes = whole;
        }
    }

    /// The frame that was decoded to `image`, the one of this `index` from the camera `source`.
    pub(super) fn into_frame(self, image: RgbImage, source: &str, index: u64) -> Frame {
        let (jpeg, planes) = match self {
            RawFrame::Jpeg(bytes) => (Some(bytes), None),
            RawFrame::Planar { .. } => (None, Some(Arc::new(self))),
            RawFrame::Yuyv { .. } => (None, None),
        };
        Frame {
            image,
            source: source.to_owned(),
            index,
            label: None,
            jpeg,
            planes,
        }
    }

    /// The picture, 8 bits a channel.
    ///
    /// # Errors
    /// If the bytes are not a picture, or too few.
    pub fn decode(&self) -> Result<RgbImage, PictureError> {
        match self {
            RawFrame::Jpeg(bytes) => decode_picture(bytes, MAX_CAMERA_PIXELS),
            RawFrame::Yuyv {
                width,
                height,
                data,
            } => yuyv(*width, *height, data),
            RawFrame::Planar { width, height, .. } => {
                pixels(*width, *height)?;
                let planes = Planes::of(self).ok_or(PictureError::Truncated)?;
                planes.picture()
            }
        }
    }
}

/// How many pixels a camera's picture has, where they are not too many.
pub(super) fn pixels(width: u32, height: u32) -> Result<u64, PictureError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_CAMERA_PIXELS {
        let limit = MAX_CAMERA_PIXELS;
        return Err(PictureError::TooManyPixels {
            width,
            height,
            limit,
        });
    }
    Ok(pixels)
}

fn yuyv(width: u32, height: u32, data: &[u8]) -> Result<RgbImage, PictureError> {
    let pixels = pixels(width, height)?;
    if width % 2 == 1 || pixels == 0 || (data.len() as u64) < 2 * pixels {
        return Err(PictureError::Truncated);
    }
    let pairs = data.chunks_exact(4).take(pixels as usize / 2);
    let rgb = pairs.flat_map(|pair| {
        let [first, u, second, v] = [pair[0], pair[1], pair[2], pair[3]].map(f32::from);
        let (u, v) = (u - 128.0, v - 128.0);
        [first, second].into_iter().flat_map(move |y| {
            let y = 1.164_383 * (y - 16.0);
            [
                y + 1.596_027 * v,
                y - 0.391_762 * u - 0.812_968 * v,
                y + 2.017_232 * u,
            ]
            .map(|channel| channel.round().clamp(0.0, 255.0) as u8)
        })
    });
    RgbImage::from_raw(width, height, rgb.collect()).ok_or(PictureError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::demo;

    #[test]
    fn a_frame_that_was_not_a_jpeg_is_kept_as_one_that_looks_the_same() {
        let frame = demo::stream(vec![0], 1).next().unwrap();
        let kept = frame.to_jpeg().unwrap();
        let again = decode_picture(&kept, 1 << 20).unwrap();
        let pairs = again.as_raw().iter().zip(frame.image.as_raw());
        let apart: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = apart as f64 / again.as_raw().len() as f64;
        assert!(mean < 2.0, "{mean}");
    }

    #[test]
    fn what_a_phone_says_about_a_picture_is_not_kept_and_it_stands_upright() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
        for orientation in 1..=8 {
            let sent = std::fs::read(format!("{folder}exif{orientation}.jpg")).unwrap();
            assert!(sent.windows(4).any(|window| window == b"Exif"));
            let frame = Frame {
                image: decode_picture(&sent, MAX_CAMERA_PIXELS).unwrap(),
                source: "phone".into(),
                index: 0,
                label: None,
                jpeg: Some(sent),
                planes: None,
            };
            let kept = frame.to_jpeg().unwrap();
            assert!(!kept.windows(4).any(|window| window == b"Exif"));
            let again = decode_picture(&kept, MAX_CAMERA_PIXELS).unwrap();
            assert_eq!(again.dimensions(), frame.image.dimensions());
            let pairs = again.as_raw().iter().zip(frame.image.as_raw());
            let apart: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = apart as f64 / again.as_raw().len() as f64;
            assert!(mean < 3.0, "{orientation}: {mean}");
        }
    }

    #[test]
    fn planes_are_bt601_and_too_few_bytes_are_an_error() {
        // White and black over pure red, whose chroma they share: grey levels alone are looked at there.
        let data = vec![235, 16, 81, 81, 128, 128];
        let raw = |data| RawFrame::Planar {
            width: 2,
            height: 2,
            data,
            colours: Colours::default(),
        };
        let picture = raw(data.clone()).decode().unwrap();
        assert_eq!(picture.get_pixel(0, 0).0, [255; 3]);
        assert_eq!(picture.get_pixel(1, 0).0, [0; 3]);
        let red = raw(vec![81, 81, 81, 81, 90, 240]).decode().unwrap();
        let [r, g, b] = red.get_pixel(1, 1).0;
        assert!(r >= 254 && g <= 1 && b <= 1, "{:?}", red.get_pixel(1, 1));
        assert!(raw(data[..5].to_vec()).decode().is_err());
    }

    #[test]
    fn yuyv_is_bt601_and_too_few_bytes_are_an_error() {
        // White, black; then pure red (ITU-R BT.601: Y 81, Cb 90, Cr 240).
        let data = vec![235, 128, 16, 128, 81, 90, 81, 240, 0, 0];
        let raw = |data| RawFrame::Yuyv {
            width: 2,
            height: 2,
            data,
        };
        let picture = raw(data.clone()).decode().unwrap();
        let pixels: Vec<[u8; 3]> = picture.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(pixels[..2], [[255; 3], [0; 3]]);
        assert!(
            pixels[2][0] >= 254 && pixels[2][1] <= 1 && pixels[2][2] <= 1,
            "{pixels:?}"
        );
        assert!(matches!(
            raw(data[..7].to_vec()).decode(),
            Err(PictureError::Truncated)
        ));
    }
}
