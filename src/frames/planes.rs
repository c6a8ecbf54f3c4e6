//! The planes of a video, Y, U and V: to a picture, to a part of one, or to a smaller one, without more of it than that.

use fast_image_resize::Resizer;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;
use image::RgbImage;

use super::frame::{Colours, Matrix, Range, RawFrame, pixels};
use super::lazy::height_at;
use super::{PictureError, reuse};
use crate::prompt::Rectangle;

/// What 219 steps of luma and 224 of chroma come to, in 65,536ths: of Y, V in red, U and V in green, U in blue.
const BT601: [i32; 5] = [76_309, 104_597, 25_675, 53_279, 132_201];
const BT709: [i32; 5] = [76_309, 117_489, 13_975, 34_925, 138_438];
/// The same of 255 steps each.
const FULL_BT601: [i32; 5] = [65_536, 91_881, 22_554, 46_802, 116_130];
const FULL_BT709: [i32; 5] = [65_536, 103_206, 12_276, 30_679, 121_609];

impl Colours {
    /// The shares, and the luma of black, for a picture of so many rows.
    fn shares(self, height: u32) -> ([i32; 5], i32) {
        let usual = match height {
            ..720 => Matrix::Bt601,
            _ => Matrix::Bt709,
        };
        match (self.range, self.matrix.unwrap_or(usual)) {
            (Range::Limited, Matrix::Bt601) => (BT601, 16),
            (Range::Limited, Matrix::Bt709) => (BT709, 16),
            (Range::Full, Matrix::Bt601) => (FULL_BT601, 0),
            (Range::Full, Matrix::Bt709) => (FULL_BT709, 0),
        }
    }
}

/// Three planes, the second and third of half the width and height.
#[derive(Clone, Copy)]
pub struct Planes<'a> {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    luma: &'a [u8],
    chroma: [&'a [u8]; 2],
    colours: Colours,
}

impl<'a> Planes<'a> {
    /// Those of `raw`; none where it has none, has too few bytes for its size, no pixels, or too many.
    pub fn of(raw: &'a RawFrame) -> Option<Planes<'a>> {
        let RawFrame::Planar {
            width,
            height,
            data,
            colours,
        } = raw
        else {
            return None;
        };
        let whole = pixels(*width, *height).ok().filter(|count| *count > 0)?;
        let (luma, chroma) = data.split_at_checked(usize::try_from(whole).ok()?)?;
        let half = (width.div_ceil(2) as usize) * (height.div_ceil(2) as usize);
        let (u, rest) = chroma.split_at_checked(half)?;
        Some(Planes {
            width: *width,
            height: *height,
            luma,
            chroma: [u, rest.get(..half)?],
            colours: *colours,
        })
    }

    /// All of it.
    ///
    /// # Errors
    /// None that can occur.
    pub fn picture(&self) -> Result<RgbImage, PictureError> {
        self.part(Rectangle {
            x: 0,
            y: 0,
            width: self.width,
            height: self.height,
        })
    }

    /// What lies in `place`.
    ///
    /// # Errors
    /// If that reaches beyond it.
    pub fn part(&self, place: Rectangle) -> Result<RgbImage, PictureError> {
        let (left, top) = (place.x as usize, place.y as usize);
        let (wide, high) = (place.width as usize, place.height as usize);
        if left + wide > self.width as usize || top + high > self.height as usize || wide == 0 {
            return Err(PictureError::Truncated);
        }
        let half_width = self.width.div_ceil(2) as usize;
        let colours = Conversion::new(self.colours, self.height);
        let mut rgb = reuse::filled(3 * wide * high);
        for (row, out) in (top..).zip(rgb.chunks_exact_mut(3 * wide)) {
            let luma = &self.luma[row * self.width as usize..][left..left + wide];
            let [u, v] = self.chroma.map(|plane| &plane[row / 2 * half_width..]);
            let pixels = (left..).zip(luma).zip(out.chunks_exact_mut(3));
            for ((column, luma), pixel) in pixels {
                colours.pixel(*luma, u[column / 2], v[column / 2], pixel);
            }
        }
        RgbImage::from_raw(place.width, place.height, rgb).ok_or(PictureError::Truncated)
    }

    /// All of it at a `width` in pixels that is less than it has: each plane is made smaller before its colours are mixed.
    ///
    /// # Errors
    /// If it cannot be resized.
    pub fn narrower(&self, width: u32) -> Result<RgbImage, PictureError> {
        let height = height_at(width, (self.width, self.height));
        let smaller = |plane: &[u8], (from_width, from_height): (u32, u32)| {
            let from = TypedImageRef::<U8>::from_buffer(from_width, from_height, plane).ok()?;
            let mut to = TypedImage::<U8>::new(width, height);
            Resizer::new().resize_typed(&from, &mut to, None).ok()?;
            Some(to)
        };
        let half = (self.width.div_ceil(2), self.height.div_ceil(2));
        let luma = smaller(self.luma, (self.width, self.height));
        let [u, v] = self.chroma.map(|plane| smaller(plane, half));
        let (Some(luma), Some(u), Some(v)) = (luma, u, v) else {
            return Err(PictureError::Truncated);
        };
        let colours = Conversion::new(self.colours, self.height);
        let mut small = RgbImage::new(width, height);
        let chroma = u.pixels().iter().zip(v.pixels());
        let values = luma.pixels().iter().zip(chroma);
        for ((luma, (u, v)), pixel) in values.zip(small.chunks_exact_mut(3)) {
            colours.pixel(luma.0, u.0, v.0, pixel);
        }
        Ok(small)
    }
}

/// From the values of a pixel to its colour.
struct Conversion {
    shares: [i32; 5],
    black: i32,
}

impl Conversion {
    /// For a picture of so many rows.
    fn new(colours: Colours, height: u32) -> Conversion {
        let (shares, black) = colours.shares(height);
        Conversion { shares, black }
    }

    #[inline]
    fn pixel(&self, luma: u8, u: u8, v: u8, pixel: &mut [u8]) {
        let [y_share, v_red, u_green, v_green, u_blue] = self.shares;
        let y = y_share * (i32::from(luma) - self.black) + (1 << 15);
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let channels = [y + v_red * v, y - u_green * u - v_green * v, y + u_blue * u];
        for (channel, value) in pixel.iter_mut().zip(channels) {
            *channel = (value >> 16).clamp(0, 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::LazyFrame;
    use crate::frames::lazy::narrower;
    use std::sync::Arc;

    /// A drawn picture of odd sides, with colours that change slowly and an edge.
    fn video(width: u32, height: u32) -> RawFrame {
        let (wide, high) = (width as usize, height as usize);
        let (half_wide, half_high) = (wide.div_ceil(2), high.div_ceil(2));
        let luma = (0..wide * high).map(|at| {
            let (x, y) = (at % wide, at / wide);
            let edge = if x > wide / 3 && y > high / 2 { 90 } else { 0 };
            (40 + x * 80 / wide + edge) as u8
        });
        let chroma = |turn: usize| {
            (0..half_wide * half_high).map(move |at| {
                let (x, y) = (at % half_wide, at / half_wide);
                (100 + (x * (2 - turn) + y * turn) * 50 / half_wide.max(half_high)) as u8
            })
        };
        RawFrame::Planar {
            width,
            height,
            data: luma.chain(chroma(0)).chain(chroma(1)).collect(),
            colours: Colours::default(),
        }
    }

    #[test]
    fn a_part_is_what_is_cut_out_of_the_whole() {
        let raw = video(321, 201);
        let planes = Planes::of(&raw).unwrap();
        let whole = raw.decode().unwrap();
        for (x, y, width, height) in [(0, 0, 321, 201), (1, 1, 5, 7), (101, 50, 220, 151)] {
            let place = Rectangle {
                x,
                y,
                width,
                height,
            };
            let part = planes.part(place).unwrap();
            let cut = image::imageops::crop_imm(&whole, x, y, width, height).to_image();
            assert!(part == cut, "{x}, {y}");
        }
        let beyond = Rectangle {
            x: 300,
            y: 0,
            width: 22,
            height: 1,
        };
        assert!(planes.part(beyond).is_err());
    }

    #[test]
    fn a_smaller_picture_is_the_whole_one_made_smaller() {
        let raw = video(641, 363);
        for width in [640, 320, 100] {
            let found = Planes::of(&raw).unwrap().narrower(width).unwrap();
            let expected = narrower(&raw.decode().unwrap(), width);
            assert_eq!(found.dimensions(), expected.dimensions());
            let pairs = found.as_raw().iter().zip(expected.as_raw());
            let apart: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = apart as f64 / found.as_raw().len() as f64;
            assert!(mean < 1.5, "{width}: {mean}");
        }
    }

    #[test]
    fn too_few_bytes_and_sizes_that_are_none_are_no_planes() {
        let raw = |width, height, bytes| RawFrame::Planar {
            width,
            height,
            data: vec![0; bytes],
            colours: Colours::default(),
        };
        assert!(Planes::of(&raw(3, 3, 9 + 8)).is_some());
        assert!(Planes::of(&raw(3, 3, 9 + 7)).is_none());
        assert!(Planes::of(&raw(0, 3, 100)).is_none());
        assert!(Planes::of(&raw(1 << 16, 1 << 16, 100)).is_none());
    }

    #[test]
    fn a_frame_of_planes_is_kept_as_planes_and_made_into_a_picture_while_it_is_in_use() {
        let lazy = LazyFrame::raw(video(64, 48), "door", 3);
        assert!(lazy.opened().is_none() && !lazy.is_jpeg());
        let frame = lazy.open().unwrap();
        assert!(Arc::ptr_eq(&frame, &lazy.open().unwrap()), "made once");
        drop(frame);
        assert!(lazy.opened().is_none(), "and not kept");
        let again = lazy.open().unwrap();
        assert_eq!((again.index, again.source.as_str()), (3, "door"));
        assert!(again.image == video(64, 48).decode().unwrap());
        assert_eq!(lazy.width().unwrap(), 64);
    }
}
