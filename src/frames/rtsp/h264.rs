//! H.264 to pictures, by Cisco's decoder, which is built with this program.

use crate::frames::frame::RawFrame;
use openh264::formats::YUVSource;

/// Decodes one stream. After an error it begins afresh, and needs a key frame.
pub struct Decoder(Option<openh264::decoder::Decoder>);

impl Decoder {
    pub fn new() -> Decoder {
        Decoder(None)
    }

    /// Takes in a frame in the form of annex B; the picture that it completes.
    ///
    /// # Errors
    /// Says why it cannot be decoded.
    pub fn decode(&mut self, frame: &[u8]) -> Result<Option<RawFrame>, String> {
        let decoder = match &mut self.0 {
            Some(decoder) => decoder,
            empty => {
                let fresh = openh264::decoder::Decoder::new().map_err(|error| error.to_string())?;
                empty.insert(fresh)
            }
        };
        match decoder.decode(frame) {
            Ok(picture) => Ok(picture.and_then(|picture| planes(&picture))),
            Err(error) => {
                self.0 = None;
                Err(error.to_string())
            }
        }
    }
}

/// The three planes of a picture without what the decoder leaves between their rows; none of a size that is none.
fn planes(picture: &impl YUVSource) -> Option<RawFrame> {
    let (width, height) = picture.dimensions();
    let (y, u, v) = picture.strides();
    let mut data = Vec::with_capacity(width * height * 3 / 2 + width + height);
    let half = (width.div_ceil(2), height.div_ceil(2));
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::rtsp::tests::camera;

    /// The MD5 of each picture of `stream`, given one access unit at a time.
    fn hashes(stream: &[u8]) -> Vec<String> {
        let mut decoder = Decoder::new();
        let (mut found, mut unit) = (Vec::new(), Vec::new());
        for part in camera::units(stream) {
            unit.extend([0, 0, 0, 1]);
            unit.extend(part);
            if matches!(part[0] & 0x1f, 1 | 5) {
                let picture = decoder.decode(&unit).unwrap();
                if let Some(RawFrame::Planar { data, .. }) = picture {
                    found.push(camera::md5(data));
                }
                unit.clear();
            }
        }
        found
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
        // Another size in mid-stream.
        let both = [camera::BASELINE, camera::LARGER].concat();
        assert_eq!(hashes(&both), [baseline, larger].concat());
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
