//! One encoded picture (a file, or bytes from a stream) to RGB, upright and 8 bits deep.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

/// Pixels a picture may have unless the caller says otherwise: 50 megapixels, 150 MB as RGB.
pub const MAX_PIXELS: u64 = 50_000_000;

/// Why a picture cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    #[error("{}: {problem}", path.display())]
    File {
        path: PathBuf,
        #[source]
        problem: Box<PictureError>,
    },
    #[error("the file cannot be read ({0})")]
    Read(#[from] std::io::Error),
    #[error("the file is empty: take the picture again")]
    Empty,
    #[error(
        "this is not a picture in a format that is known: use JPEG, PNG, WebP, BMP, GIF or PNM"
    )]
    UnknownFormat,
    #[error(
        "the picture has {width} x {height} pixels, more than the {limit} allowed: make it smaller"
    )]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("the file has more than {limit} bytes, too many for a picture: make it smaller")]
    TooManyBytes { limit: u64 },
    #[error("the picture is cut short: copy it again")]
    Truncated,
    #[error("the picture is damaged ({0}): save it again")]
    Damaged(String),
}

/// Reads a picture file as PIL's `ImageOps.exif_transpose(Image.open(path)).convert("RGB")` does.
///
/// Transparency is dropped, not blended. Of 16 bits the upper 8 are kept; for 16-bit greyscale PIL would clip at 255
/// instead. The pixels are counted before they are decoded.
///
/// # Errors
/// [`PictureError::File`] with the path and what is wrong. Bad input never panics.
pub fn read_picture(path: &Path, max_pixels: u64) -> Result<RgbImage, PictureError> {
    let read = || {
        let limit = max_bytes(max_pixels);
        let mut bytes = Vec::new();
        let mut file = File::open(path)?.take(limit + 1);
        file.read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(PictureError::TooManyBytes { limit });
        }
        decode_picture(&bytes, max_pixels)
    };
    read().map_err(|problem| PictureError::File {
        path: path.to_owned(),
        problem: Box::new(problem),
    })
}

/// Decodes the bytes of a picture file, with the same care as [`read_picture`].
///
/// # Errors
/// Says what is wrong with the bytes; never panics.
pub fn decode_picture(bytes: &[u8], max_pixels: u64) -> Result<RgbImage, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    // A mistake of a decoder must not stop a camera.
    catch_unwind(|| decode(bytes, max_pixels))
        .unwrap_or_else(|_| Err(PictureError::Damaged("its decoder gave up".into())))
}

/// The most a picture of `pixels` can take uncompressed (four channels of 16 bits), and its headers.
fn max_bytes(pixels: u64) -> u64 {
    pixels.saturating_mul(8).saturating_add(1 << 20)
}

fn decode(bytes: &[u8], max_pixels: u64) -> Result<RgbImage, PictureError> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    if reader.format().is_none() {
        return Err(PictureError::UnknownFormat);
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_bytes(max_pixels).saturating_mul(2));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(problem)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(PictureError::TooManyPixels {
            width,
            height,
            limit: max_pixels,
        });
    }
    if jpeg_without_end(bytes) {
        return Err(PictureError::Truncated);
    }
    let orientation = decoder.orientation().ok();
    let mut picture = rgb(DynamicImage::from_decoder(decoder).map_err(problem)?);
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok(picture.into_rgb8())
}

/// Three channels of 8 bits.
fn rgb(picture: DynamicImage) -> DynamicImage {
    match picture {
        DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_)
        | DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_) => {
            let wide = picture.into_rgb16();
            let upper = |x, y| image::Rgb(wide.get_pixel(x, y).0.map(|value| (value >> 8) as u8));
            RgbImage::from_fn(wide.width(), wide.height(), upper).into()
        }
        narrow => narrow.into_rgb8().into(),
    }
}

fn problem(error: ImageError) -> PictureError {
    match error {
        ImageError::Unsupported(_) => PictureError::UnknownFormat,
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            PictureError::Truncated
        }
        other => PictureError::Damaged(other.to_string()),
    }
}

/// Whether the bytes are a JPEG whose picture data stop before the end-of-image marker: the decoder would fill the rest
/// with grey, and a half-grey picture would train a prompt. (ITU-T T.81, annex B)
fn jpeg_without_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    let Some(mut rest) = bytes.strip_prefix(&[0xFF, 0xD8]) else {
        return false;
    };
    // Step over the segments before the scan: a thumbnail in one of them has an end marker of its own.
    while let [0xFF, marker, high, low, ..] = *rest {
        let segment = match marker {
            0xFF => 1, // fill byte
            _ => 2 + usize::from(u16::from_be_bytes([high, low])),
        };
        if marker == START_OF_SCAN {
            break;
        }
        rest = rest.get(segment..).unwrap_or_default();
    }
    // Inside the scan 0xFF is followed by 0 or a restart marker.
    !rest.windows(2).any(|pair| pair == [0xFF, 0xD9])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/picture")
            .join(name)
    }

    fn picture(name: &str) -> RgbImage {
        read_picture(&fixture(name), MAX_PIXELS).unwrap()
    }

    /// The names of the fixtures that begin with `prefix` and end with `suffix`, less both.
    fn fixtures(prefix: &str, suffix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(fixture("")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let inner =
            |name: String| Some(name.strip_prefix(prefix)?.strip_suffix(suffix)?.to_owned());
        names.filter_map(inner).collect()
    }

    #[test]
    fn pictures_are_those_of_pil() {
        let names = fixtures("", ".rgb.png");
        assert!(names.len() >= 35, "{} fixtures found", names.len());
        for name in names {
            let (ours, theirs) = (picture(&name), picture(&format!("{name}.rgb.png")));
            assert_eq!(ours.dimensions(), theirs.dimensions(), "{name}");
            let pairs = ours.as_raw().iter().zip(theirs.as_raw());
            let steps: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
            let mean = steps.iter().map(|&step| f64::from(step)).sum::<f64>() / steps.len() as f64;
            println!("{name}: mean {mean:.3}, largest {:?}", steps.iter().max());
            // Lossy decoders may round, and smooth colour across edges, in their own ways.
            let lossy = name.ends_with(".jpg") || name == "rgb.webp";
            assert!(mean <= if lossy { 1.0 } else { 0.0 }, "{name}: {mean}");
        }
    }

    #[test]
    fn broken_files_are_sentences_that_name_them() {
        let names = fixtures("broken.", "");
        assert!(names.len() >= 14, "{} fixtures found", names.len());
        for name in names {
            let path = fixture(&format!("broken.{name}"));
            let error = read_picture(&path, MAX_PIXELS).expect_err(&name);
            assert!(error.to_string().contains(&name), "{error}");
            let PictureError::File { problem, .. } = error else {
                panic!("{name}: no path in {error:?}");
            };
            let kind = name.split('.').next().unwrap();
            let right = match kind {
                "zero" => matches!(*problem, PictureError::Empty),
                "text" => matches!(*problem, PictureError::UnknownFormat),
                "bomb" => matches!(*problem, PictureError::TooManyPixels { width: 10_000, .. }),
                _ => matches!(*problem, PictureError::Truncated | PictureError::Damaged(_)),
            };
            assert!(right, "{name}: {problem}");
        }
    }

    #[test]
    fn limits_are_exact() {
        let path = fixture("rgb.png");
        assert!(read_picture(&path, 34 * 25).is_ok());
        assert!(read_picture(&path, 34 * 25 - 1).is_err());
        let error = read_picture(Path::new("no such file.png"), MAX_PIXELS).unwrap_err();
        assert!(error.to_string().contains("no such file.png"));
    }

    #[test]
    fn no_flipped_or_missing_byte_panics() {
        for name in [
            "rgb420.jpg",
            "palette.png",
            "palette.gif",
            "rgb.webp",
            "palette.bmp",
            "grey.pgm",
        ] {
            let bytes = std::fs::read(fixture(name)).unwrap();
            for at in 0..bytes.len() {
                let _ = decode(&bytes[..at], 1_000_000);
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                let _ = decode(&flipped, 1_000_000);
            }
        }
    }
}
