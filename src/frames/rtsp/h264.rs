//! H.264 to pictures, by Cisco's decoder, which is built with this program.

use super::turns::Turn;
use crate::frames::frame::{Colours, Matrix, Range, RawFrame};
use crate::frames::reuse;
#[cfg(target_os = "linux")]
use crate::host::decoder_memory;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};
use openh264::formats::YUVSource;
use std::marker::PhantomData;

/// Units of an access unit: slices, of a key frame or not, and what the sequence is like.
const SLICE: u8 = 1;
const KEY_SLICE: u8 = 5;
const SEQUENCE: u8 = 7;

/// Decodes one stream. After an error it begins afresh, and needs a key frame.
pub struct Decoder {
    decoder: Option<openh264::decoder::Decoder>,
    /// As the last parameter set says, which the decoder does not tell.
    colours: Colours,
    /// What it needs for a picture is given back on the thread that it was allocated on.
    _here: PhantomData<*const ()>,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder {
            decoder: None,
            colours: Colours::default(),
            _here: PhantomData,
        }
    }

    /// Takes in a frame in the form of annex B; the picture that it completes.
    ///
    /// # Errors
    /// Says why it cannot be decoded.
    pub fn decode(&mut self, frame: &[u8]) -> Result<Option<RawFrame>, String> {
        self.colours = colours(frame).unwrap_or(self.colours);
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            empty => {
                let fresh = openh264::decoder::Decoder::new().map_err(|error| error.to_string())?;
                empty.insert(fresh)
            }
        };
        let _turn = Turn::take();
        #[cfg(target_os = "linux")]
        decoder_memory::lend_scratch();
        match decoder.decode(frame) {
            Ok(None) => Ok(None),
            Ok(Some(picture)) => {
                let planes = planes(&picture, self.colours);
                // All that came is decoded.
                #[cfg(target_os = "linux")]
                decoder_memory::take_scratch_back();
                Ok(planes)
            }
            Err(error) => {
                self.decoder = None;
                Err(error.to_string())
            }
        }
    }
}

/// What the samples of the pictures from `frame` on mean, where a parameter set in it says so.
fn colours(frame: &[u8]) -> Option<Colours> {
    let mut rest = frame;
    loop {
        let begin = rest.windows(3).position(|code| code == [0, 0, 1])?;
        rest = &rest[begin + 3..];
        match rest.first()? & 0x1f {
            SEQUENCE => break,
            // Parameter sets come before pictures.
            SLICE | KEY_SLICE => return None,
            _ => {}
        }
    }
    let end = rest
        .windows(3)
        .position(|code| matches!(code, [0, 0, 0 | 1]));
    let unit = &rest[..end.unwrap_or(rest.len())];
    let sequence = SeqParameterSet::from_bits(RefNal::new(unit, &[], true).rbsp_bits()).ok()?;
    let signal = sequence
        .vui_parameters
        .and_then(|vui| vui.video_signal_type);
    let Some(signal) = signal else {
        return Some(Colours::default());
    };
    Some(Colours {
        range: match signal.video_full_range_flag {
            true => Range::Full,
            false => Range::Limited,
        },
        matrix: signal
            .colour_description
            .and_then(|of| match of.matrix_coefficients {
                1 => Some(Matrix::Bt709),
                5 | 6 => Some(Matrix::Bt601),
                _ => None,
            }),
    })
}

/// The three planes of a picture without what the decoder leaves between their rows; none of a size that is none.
fn planes(picture: &impl YUVSource, colours: Colours) -> Option<RawFrame> {
    let (width, height) = picture.dimensions();
    let (y, u, v) = picture.strides();
    let half = (width.div_ceil(2), height.div_ceil(2));
    let mut data = reuse::empty(width * height + 2 * half.0 * half.1);
    for (plane, stride, (width, height)) in [
        (picture.y(), y, (width, height)),
        (picture.u(), u, half),
        (picture.v(), v, half),
    ] {
        for row in 0..height {
            let from = row * stride;
            data.extend_from_slice(plane.get(from..from + width)?);
        }
    }
    Some(RawFrame::Planar {
        width: u32::try_from(width).ok()?,
        height: u32::try_from(height).ok()?,
        data,
        colours,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::rtsp::tests::camera;

    /// The MD5 of each picture of `stream`, given one access unit at a time.
    fn hashes(stream: &[u8]) -> Vec<String> {
        let mut decoder = Decoder::new();
        let (mut found, mut unit, mut has_slice) = (Vec::new(), Vec::new(), false);
        for part in camera::units(stream) {
            // Another picture begins with its first block, or with its parameter sets.
            let begins = !is_slice(part) || part[1] & 0x80 != 0;
            if begins && has_slice {
                found.extend(picture(&mut decoder, &unit));
                unit.clear();
            }
            has_slice = is_slice(part);
            unit.extend([0, 0, 0, 1]);
            unit.extend(part);
        }
        found.extend(picture(&mut decoder, &unit));
        found
    }

    fn is_slice(unit: &[u8]) -> bool {
        matches!(unit[0] & 0x1f, SLICE | KEY_SLICE)
    }

    fn picture(decoder: &mut Decoder, unit: &[u8]) -> Option<String> {
        match decoder.decode(unit).unwrap()? {
            RawFrame::Planar { data, .. } => Some(camera::md5(data)),
            other => panic!("{other:?}"),
        }
    }

    fn expected(hashes: &str) -> Vec<&str> {
        hashes.lines().collect()
    }

    #[test]
    fn every_bit_is_what_ffmpeg_decodes_of_the_same_stream() {
        let baseline = expected(include_str!("../../../tests/fixtures/rtsp/baseline.md5"));
        assert_eq!(hashes(camera::BASELINE), baseline);
        let larger = expected(include_str!("../../../tests/fixtures/rtsp/larger.md5"));
        assert_eq!(hashes(camera::LARGER), larger);
        let slices = include_bytes!("../../../tests/fixtures/rtsp/slices.h264");
        let expected_of_slices = expected(include_str!("../../../tests/fixtures/rtsp/slices.md5"));
        assert_eq!(hashes(slices), expected_of_slices);
        // Whole blocks, of which the lower and the right end are cut off.
        let cropped = include_bytes!("../../../tests/fixtures/rtsp/cropped.h264");
        let expected_of_cropped =
            expected(include_str!("../../../tests/fixtures/rtsp/cropped.md5"));
        assert_eq!(hashes(cropped), expected_of_cropped);
        // Another size in mid-stream.
        let both = [camera::BASELINE, camera::LARGER].concat();
        assert_eq!(hashes(&both), [baseline, larger].concat());
    }

    /// Black and white were taken for a dark and a light grey.
    #[test]
    fn a_stream_that_says_how_its_colours_are_coded_is_shown_as_ffmpeg_shows_it() {
        let stream = include_bytes!("../../../tests/fixtures/rtsp/full.h264");
        let units = camera::units(stream);
        let first = units.iter().position(|unit| is_slice(unit)).unwrap();
        let parts = units[..=first].iter();
        let unit: Vec<u8> = parts
            .flat_map(|unit| [&[0, 0, 0, 1], *unit].concat())
            .collect();
        let colours = Colours {
            range: Range::Full,
            matrix: Some(Matrix::Bt709),
        };
        assert_eq!(super::colours(&unit), Some(colours));
        let picture = Decoder::new().decode(&unit).unwrap().unwrap();
        let shown = picture.decode().unwrap();
        let reference = include_bytes!("../../../tests/fixtures/rtsp/full.png");
        let reference = image::load_from_memory(reference).unwrap().into_rgb8();
        assert_eq!(shown.dimensions(), reference.dimensions());
        let pairs = shown.as_raw().iter().zip(reference.as_raw());
        let apart: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = apart as f64 / reference.as_raw().len() as f64;
        println!("{mean:.2}");
        assert!(mean < 3.0, "{mean}");
        assert_eq!(super::colours(camera::BASELINE), Some(Colours::default()));
        assert_eq!(super::colours(&unit[unit.len() / 2..]), None);
    }

    #[test]
    fn frames_that_are_sent_before_those_they_are_shown_after_are_decoded() {
        let stream = include_bytes!("../../../tests/fixtures/rtsp/high.h264");
        let expected = expected(include_str!("../../../tests/fixtures/rtsp/high.md5"));
        let found = hashes(stream);
        assert!(found.iter().all(|hash| expected.contains(&hash.as_str())));
        assert!(found.len() >= 7, "{}", found.len());
    }

    #[test]
    fn what_is_of_no_use_between_two_pictures_is_not_kept_by_the_decoder() {
        let stream = include_bytes!("../../../tests/fixtures/rtsp/testsrc.h264");
        let mut decoder = Decoder::new();
        decoder.decode(stream).unwrap().unwrap();
        #[cfg(target_os = "linux")]
        {
            // Packets alone are 3 MiB: build.rs has told the linker of the decoder's functions.
            assert!(decoder_memory::take_scratch_back() >= 3 << 20);
            drop(decoder);
            assert_eq!(decoder_memory::take_scratch_back(), 0);
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error_and_the_next_key_frame_is_decoded() {
        let stream = include_bytes!("../../../tests/fixtures/rtsp/testsrc.h264");
        let mut decoder = Decoder::new();
        for damaged in [
            &b"\0\0\0\x01\x65garbage"[..],
            &stream[..200],
            b"",
            &[0xa5; 900],
        ] {
            let _ = decoder.decode(damaged);
        }
        let picture = decoder.decode(stream).unwrap().unwrap();
        let picture = picture.decode().unwrap();
        let reference = include_bytes!("../../../tests/fixtures/rtsp/testsrc.png");
        let reference = image::load_from_memory(reference).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), reference.dimensions());
        let pairs = picture.as_raw().iter().zip(reference.as_raw());
        let apart: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = apart as f64 / reference.as_raw().len() as f64;
        assert!(mean < 3.0, "{mean}");
    }
}
