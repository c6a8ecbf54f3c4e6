//! A look at a frame that costs little: its greys, as coarse as they come without making a picture of it. A JPEG is read at an
//! eighth of its width and height, and nothing is made of the colours of a video.

use image::RgbImage;

use super::frame::{Range, RawFrame};
use super::jpeg::mended;
pub use super::scan::GreyBlocks;
use super::scan::grey_blocks;
use crate::prompt::Rectangle;

/// The fewest blocks of a JPEG picture, across and down, that a place in it must hold to be compared by them.
const LEAST_BLOCKS: u32 = 8;

/// A frame that nobody has decoded yet.
#[derive(Clone, Copy)]
pub enum Unopened<'a> {
    /// As it came from a camera.
    Raw(&'a RawFrame),
    /// There never was anything to decode.
    Picture(&'a RgbImage),
}

impl<'a> Unopened<'a> {
    /// What differs where the pictures of a sensor do: all that is coded of a picture, without its header, which may hold the
    /// time of day.
    pub fn content(&self) -> &'a [u8] {
        match *self {
            Unopened::Raw(RawFrame::Jpeg(bytes)) => scan_of(bytes).unwrap_or(bytes),
            Unopened::Raw(RawFrame::Yuyv { data, .. } | RawFrame::Planar { data, .. }) => data,
            Unopened::Picture(picture) => picture.as_raw(),
        }
    }

    /// Its greys; none where they are not to be had without decoding it.
    pub fn glance(&self) -> Option<Glance<'a>> {
        let luma = |width: u32, height: u32, data: &'a [u8], (step, range)| {
            let whole = width > 0 && data.len() >= step * width as usize * height as usize;
            whole.then_some(Glance::Luma {
                width,
                height,
                data,
                step,
                range,
            })
        };
        match *self {
            Unopened::Raw(RawFrame::Jpeg(bytes)) => grey_blocks(&mended(bytes)).map(Glance::Blocks),
            Unopened::Raw(RawFrame::Yuyv {
                width,
                height,
                data,
            }) => luma(*width, *height, data, (2, Range::Limited)),
            Unopened::Raw(RawFrame::Planar {
                width,
                height,
                data,
                colours,
            }) => luma(*width, *height, data, (1, colours.range)),
            Unopened::Picture(picture) => Some(Glance::Picture(picture)),
        }
    }
}

/// A JPEG from its first scan on.
fn scan_of(jpeg: &[u8]) -> Option<&[u8]> {
    let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
    while let [0xff, marker, high, low, ..] = *rest {
        if marker == 0xda {
            return Some(rest);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(if marker == 0xff { 1 } else { 2 + length }..)?;
    }
    None
}

/// The greys of a frame.
#[derive(Clone)]
pub enum Glance<'a> {
    /// A picture that was decoded.
    Picture(&'a RgbImage),
    /// The luma of a video.
    Luma {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// Row by row.
        data: &'a [u8],
        /// Bytes from one pixel to the next.
        step: usize,
        /// How black and white are coded.
        range: Range,
    },
    /// Means of the blocks of a JPEG.
    Blocks(GreyBlocks),
}

impl Glance<'_> {
    /// Width and height of the frame in pixels.
    pub fn size(&self) -> (u32, u32) {
        match self {
            Glance::Picture(picture) => picture.dimensions(),
            Glance::Luma { width, height, .. } => (*width, *height),
            Glance::Blocks(blocks) => (blocks.width, blocks.height),
        }
    }

    /// Where `place`, which is in pixels, lies among the greys: blocks that lie in it as a whole, and those at the picture's
    /// edge. None where it holds too few of them.
    pub fn greys_of(&self, place: Rectangle) -> Option<Rectangle> {
        let Glance::Blocks(blocks) = self else {
            return Some(place);
        };
        let side = |from: u32, length: u32, whole: u32| {
            let end = from + length;
            let last = if end >= whole {
                whole.div_ceil(8)
            } else {
                end / 8
            };
            let first = from.div_ceil(8);
            Some((first, last.checked_sub(first)?)).filter(|(_, count)| *count >= LEAST_BLOCKS)
        };
        let (x, width) = side(place.x, place.width, blocks.width)?;
        let (y, height) = side(place.y, place.height, blocks.height)?;
        Some(Rectangle {
            x,
            y,
            width,
            height,
        })
    }

    /// The grey in a column and row, black at 0 and white at 255 · 8; none beyond the picture.
    pub fn at(&self, x: u32, y: u32) -> Option<u32> {
        let (x, y) = (x as usize, y as usize);
        match self {
            Glance::Picture(picture) => {
                let at = 3 * (y * picture.width() as usize + x);
                let pixel = picture.as_raw().get(at..at + 3)?;
                let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
                Some(2 * red + 5 * green + blue)
            }
            Glance::Luma {
                width,
                data,
                step,
                range,
                ..
            } => {
                let luma = u32::from(*data.get(step * (y * *width as usize + x))?);
                Some(match range {
                    // Of 219 steps.
                    Range::Limited => ((luma.saturating_sub(16) * 9539) >> 10).min(255 * 8),
                    Range::Full => 8 * luma,
                })
            }
            Glance::Blocks(blocks) => {
                let columns = blocks.width.div_ceil(8) as usize;
                Some(8 * u32::from(*blocks.means.get(y * columns + x)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::demo::{self, Purpose};
    use crate::frames::frame::Colours;
    use image::codecs::jpeg::JpegEncoder;
    use image::imageops::{self, FilterType};

    fn drawn(width: u32, height: u32) -> RgbImage {
        let scene = demo::draw(&demo::scene(Purpose::Live, 0, 3, 4), demo::SIZE);
        imageops::resize(&scene, width, height, FilterType::Triangle)
    }

    fn jpeg(picture: &RgbImage) -> RawFrame {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
        encoder.encode_image(picture).unwrap();
        RawFrame::Jpeg(bytes)
    }

    /// The mean difference of `frame`'s greys from those of what it is decoded to.
    fn apart(frame: &RawFrame) -> f64 {
        let whole = frame.decode().unwrap();
        let glance = Unopened::Raw(frame).glance().expect("greys");
        assert_eq!(glance.size(), whole.dimensions());
        let (width, height) = whole.dimensions();
        let place = Rectangle {
            x: 0,
            y: 0,
            width,
            height,
        };
        let greys = glance.greys_of(place).expect("a large place");
        let small = imageops::thumbnail(&whole, greys.width, greys.height);
        let expected = Glance::Picture(&small);
        let mut sum = 0.0;
        for (x, y) in (0..greys.width).flat_map(|x| (0..greys.height).map(move |y| (x, y))) {
            let found = glance.at(x, y).unwrap();
            sum += f64::from(found.abs_diff(expected.at(x, y).unwrap())) / 8.0;
        }
        sum / f64::from(greys.width * greys.height)
    }

    #[test]
    fn greys_are_those_of_the_decoded_picture() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/lost/");
        for name in ["whole.jpg", "restarts.jpg", "progressive.jpg"] {
            let bytes = std::fs::read(format!("{folder}{name}")).unwrap();
            let apart = apart(&RawFrame::Jpeg(bytes));
            println!("{name}: {apart:.2}");
            assert!(apart < 2.0, "{name}: {apart}");
        }
        for (width, height) in [(320, 240), (328, 200)] {
            let apart = apart(&jpeg(&drawn(width, height)));
            assert!(apart < 3.0, "{width} x {height}: {apart}");
        }
        let planes = |luma: &dyn Fn(usize) -> u8| RawFrame::Planar {
            width: 64,
            height: 48,
            data: (0..64 * 48)
                .map(luma)
                .chain(vec![128; 2 * 32 * 24])
                .collect(),
            colours: Colours::default(),
        };
        assert!(apart(&planes(&|at| 16 + (at % 220) as u8)) < 1.5);
        let yuyv = RawFrame::Yuyv {
            width: 64,
            height: 48,
            data: (0..2 * 64 * 48)
                .map(|at| {
                    if at % 2 == 0 {
                        16 + (at % 220) as u8
                    } else {
                        128
                    }
                })
                .collect(),
        };
        assert!(apart(&yuyv) < 1.5);
    }

    #[test]
    fn pictures_that_are_not_as_most_are_have_no_greys() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/picture/");
        let read = |name: &str| RawFrame::Jpeg(std::fs::read(format!("{folder}{name}")).unwrap());
        for name in ["exif6.jpg", "cmyk.jpg", "lost/tail.jpg"] {
            assert!(Unopened::Raw(&read(name)).glance().is_none(), "{name}");
        }
        assert!(Unopened::Raw(&read("exif1.jpg")).glance().is_some());
        let RawFrame::Jpeg(mut bytes) = jpeg(&drawn(320, 240)) else {
            unreachable!()
        };
        let no_picture = RawFrame::Jpeg(b"\xff\xd8\xff".to_vec());
        assert!(Unopened::Raw(&no_picture).glance().is_none());
        // Red, green and blue, as Adobe's marker says.
        let adobe = *b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0\0";
        bytes.splice(2..2, adobe);
        assert!(Unopened::Raw(&RawFrame::Jpeg(bytes)).glance().is_none());
    }

    #[test]
    fn a_place_of_blocks_has_nothing_of_what_lies_beside_it() {
        let picture = jpeg(&drawn(324, 240));
        let glance = Unopened::Raw(&picture).glance().unwrap();
        let place = |x, y, width, height| {
            let place = Rectangle {
                x,
                y,
                width,
                height,
            };
            let found = glance.greys_of(place)?;
            Some((found.x, found.y, found.width, found.height))
        };
        assert_eq!(place(0, 0, 324, 240), Some((0, 0, 41, 30)));
        assert_eq!(place(9, 8, 100, 100), Some((2, 1, 11, 12)));
        assert_eq!(place(200, 100, 124, 140), Some((25, 13, 16, 17)));
        assert_eq!(place(0, 0, 70, 60), None);
    }

    #[test]
    fn the_time_of_day_in_a_header_is_no_content() {
        let RawFrame::Jpeg(bytes) = jpeg(&drawn(64, 48)) else {
            unreachable!()
        };
        let commented = |words: &[u8]| {
            let length = (words.len() + 2) as u16;
            let comment = [&[0xff, 0xfe], &length.to_be_bytes()[..], words].concat();
            RawFrame::Jpeg([&bytes[..2], &comment, &bytes[2..]].concat())
        };
        let (first, second) = (commented(b"12:00:01"), commented(b"12:00:02"));
        assert_ne!(first, second);
        let content = Unopened::Raw(&first).content();
        assert_eq!(content, Unopened::Raw(&second).content());
        assert!(content.starts_with(&[0xff, 0xda]) && content.len() > 100);
    }
}
