use super::*;
use crate::frames::{MAX_PIXELS, decode_picture};
use crate::rng::Rng;
use image::{RgbImage, codecs::jpeg::JpegEncoder};

fn jpeg(shade: u8) -> Vec<u8> {
    let picture = RgbImage::from_fn(24, 16, |x, y| {
        image::Rgb([shade, x as u8 * 9, y as u8 * 13])
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 80)
        .encode_image(&picture)
        .unwrap();
    bytes
}

/// A picture with another one inside, as cameras put a thumbnail into an APP1 segment.
fn with_thumbnail() -> Vec<u8> {
    let (mut picture, thumbnail) = (jpeg(1), jpeg(2));
    let mut segment = vec![0xff, 0xe1];
    segment.extend(((thumbnail.len() + 2) as u16).to_be_bytes());
    segment.extend(thumbnail);
    picture.splice(2..2, segment);
    picture
}

fn split(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, u64) {
    let mut splitter = Splitter::default();
    let pictures = stream
        .chunks(piece)
        .flat_map(|bytes| splitter.push(bytes))
        .collect();
    (pictures, splitter.skipped())
}

#[test]
fn pictures_come_out_as_they_went_in_whatever_the_pieces() {
    let pictures = vec![jpeg(0), with_thumbnail(), jpeg(255)];
    let stream = pictures.concat();
    for piece in [1, 2, 3, 7, 64, stream.len()] {
        assert_eq!(
            split(&stream, piece),
            (pictures.clone(), 0),
            "pieces of {piece}"
        );
    }
}

#[test]
fn what_lies_between_pictures_is_skipped_and_counted() {
    let part = b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n";
    let stream = [&part[..], &jpeg(7), part, &jpeg(8), part].concat();
    let (pictures, skipped) = split(&stream, 5);
    assert_eq!(pictures, [jpeg(7), jpeg(8)]);
    assert_eq!(skipped, 3 * part.len() as u64 - 2);
}

#[test]
fn after_a_cut_or_overwritten_picture_the_next_one_is_found() {
    let whole = jpeg(3);
    // A cut within a segment's length may claim the 64 KiB that follow.
    let rest = jpeg(4).repeat((64 << 10) / jpeg(4).len() + 2);
    for cut in (3..20).chain((20..whole.len()).step_by(31)) {
        let stream = [&whole[..cut], &rest, &jpeg(5)].concat();
        let (pictures, _) = split(&stream, 4096);
        assert_eq!(pictures.last(), Some(&jpeg(5)), "cut at {cut}");
    }
}

#[test]
fn files_of_ffmpeg_and_gstreamer_are_read_whole() {
    for (name, stream) in [
        (
            "ffmpeg",
            &include_bytes!("../../../tests/fixtures/mjpeg/ffmpeg.mjpeg")[..],
        ),
        (
            "ffmpeg, multipart",
            include_bytes!("../../../tests/fixtures/mjpeg/ffmpeg-multipart.mjpeg"),
        ),
        (
            "GStreamer",
            include_bytes!("../../../tests/fixtures/mjpeg/gstreamer.mjpeg"),
        ),
        (
            "GStreamer, multipart",
            include_bytes!("../../../tests/fixtures/mjpeg/gstreamer-multipart.mjpeg"),
        ),
    ] {
        let (pictures, _) = split(stream, 1000);
        assert_eq!(pictures.len(), 5, "{name}");
        for picture in pictures {
            let picture = decode_picture(&picture, MAX_PIXELS).unwrap();
            assert_eq!(picture.dimensions(), (64, 48), "{name}");
        }
    }
}

#[test]
fn any_bytes_at_all_leave_a_bounded_buffer_and_no_panic() {
    let mut rng = Rng::new(1);
    let mut splitter = Splitter::default();
    // Mostly bytes that mean something to the walk.
    let likely = [0xff, 0xff, 0xd8, 0xd9, 0xda, 0xe1, 0x00, 0xd0, 0x02];
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..rng.below(300))
            .map(|_| {
                if rng.chance(0.7) {
                    likely[rng.below(likely.len())]
                } else {
                    rng.below(256) as u8
                }
            })
            .collect();
        for picture in splitter.push(&bytes) {
            let _ = decode_picture(&picture, MAX_PIXELS);
        }
        assert!(splitter.buffer.len() <= MAX_FRAME_BYTES + 300);
    }
}

#[test]
fn a_picture_without_end_is_given_up() {
    let mut splitter = Splitter::default();
    let mut start = jpeg(9);
    start.truncate(start.len() - 2);
    assert!(splitter.push(&start).is_empty());
    for _ in 0..=MAX_FRAME_BYTES / (1 << 20) {
        assert!(splitter.push(&[0x55; 1 << 20]).is_empty());
    }
    assert!(splitter.buffer.len() < MAX_FRAME_BYTES);
    assert_eq!(splitter.push(&jpeg(10)), [jpeg(10)]);
}

#[test]
fn the_work_is_linear_whatever_the_bytes() {
    // Each was quadratic: starts without end that are all walked to the same place.
    let segment = |inside: &[u8]| {
        let inside = inside.repeat(65_000 / inside.len());
        let length = (inside.len() + 2) as u16;
        [&[0xff, 0xe1][..], &length.to_be_bytes(), &inside].concat()
    };
    let start = [0xff, 0xd8];
    let scan = [0xff, 0xda, 0, 2];
    let streams = [
        ("false starts", vec![0xff, 0xd8, 0xff, 0]),
        ("starts in segments", segment(&[0xff, 0xd8, 0xff, 0])),
        (
            "starts of segments",
            segment(&[0xff, 0xd8, 0xff, 0xe1, 0xf0, 0]),
        ),
        (
            "short segments",
            vec![0xff, 0xd8, 0xff, 0xe1, 0, 2, 0xff, 0xe1, 0, 8],
        ),
        (
            "fill bytes",
            [
                &start[..],
                &segment(&[0xff, 0xd8, 0xff, 0xff]),
                &[0xff; 9000],
            ]
            .concat(),
        ),
        (
            "scans",
            [
                &start[..],
                &segment(&[0xff, 0xd8, 0xff, 0x01]),
                &scan,
                &[7; 9000],
            ]
            .concat(),
        ),
        ("tiny pictures", vec![0xff, 0xd8, 0xff, 0xd9]),
    ];
    for (name, part) in streams {
        let stream = part.repeat((8 << 20) / part.len());
        let begun = processor_time();
        let mut splitter = Splitter::default();
        let mut pictures = 0;
        for piece in stream.chunks(16 << 10) {
            pictures += splitter.push(piece).len();
            assert!(splitter.buffer.len() <= 2 * MAX_FRAME_BYTES);
        }
        let spent = processor_time().zip(begun).map(|(end, begun)| end - begun);
        println!("{name}: {pictures} pictures, 8 MiB in {spent:?} s of a processor");
        // 1 MiB of the second took 6 s, and 8 MiB would have taken 64 times as long.
        assert!(
            spent.is_none_or(|seconds| seconds < 4.0),
            "{name}: {spent:?}"
        );
    }
}

/// Seconds that this thread has run, whatever else the machine does; nothing where the system does not say (Linux does).
fn processor_time() -> Option<f64> {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = said.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}
