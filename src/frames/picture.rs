//! One encoded picture (a file, or bytes from a stream) to RGB, upright and 8 bits deep, within a budget of pixels and of
//! memory that is kept before anything is decoded.

use std::io::Cursor;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image::error::UnsupportedErrorKind;
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};

use super::folder::advice;
use super::jpeg::{JpegHeader, mended, rare};
use super::reduced::{Reduction, decode_reduced};
use super::scan::share_lost;
use super::webp::exif_is_whole;
use crate::files;
use crate::prompt::RegionError;

/// Pixels a picture may have unless the caller says otherwise: 50 megapixels, 150 MB as RGB.
pub const MAX_PIXELS: u64 = 50_000_000;

/// A picture that is reduced while it is decoded may have so many times the pixels of others: 200 megapixels, for phones.
const REDUCIBLE: u64 = 4;

/// Memory that one picture may take, in bytes, while it is decoded.
static BUDGET: AtomicU64 = AtomicU64::new(512 << 20);

/// Lowers the memory that one picture may take while it is decoded to `bytes`, where they are fewer than they were: for a
/// process whose memory is limited. One of 512 MiB may else be taken.
pub fn limit_memory(bytes: u64) {
    BUDGET.fetch_min(bytes, Ordering::Relaxed);
}

/// Why a picture cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// A picture file cannot be used.
    #[error("{}: {problem}{}", path.display(), problem.advice())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        problem: Box<PictureError>,
    },
    /// The file cannot be read.
    #[error("the file cannot be read ({0})")]
    Read(#[from] std::io::Error),
    /// There is not a byte.
    #[error("the file is empty")]
    Empty,
    /// It begins like no format that is read.
    #[error(
        "this is not a picture in a format that is known: use JPEG, PNG, WebP, TIFF, BMP, GIF or PNM"
    )]
    UnknownFormat,
    /// A kind of file that people take for a picture this program reads.
    #[error("this is {kind}, which is not read: {advice}")]
    NotRead {
        /// What it is.
        kind: &'static str,
        /// How to make it readable.
        advice: &'static str,
    },
    /// It is larger than is allowed.
    #[error("the picture has {width} x {height} pixels, more than the {limit} allowed")]
    TooManyPixels {
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// The most that is allowed.
        limit: u64,
    },
    /// The file is longer than any picture.
    #[error("the file has more than {limit} bytes, too many for a picture")]
    TooManyBytes {
        /// The most that is allowed.
        limit: u64,
    },
    /// Decoding it takes more memory than is allowed; both in bytes.
    #[error(
        "the picture of {width} x {height} pixels takes {} MiB of memory to decode, more than the {} allowed",
        needed.div_ceil(1 << 20),
        limit >> 20
    )]
    TooMuchMemory {
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// What decoding would take.
        needed: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// Its header asks for more than any picture that is read.
    #[error("the picture is far larger than is allowed, or its header is damaged")]
    Outsize,
    /// It ends early.
    #[error("the picture is cut short")]
    Truncated,
    /// It cannot be decoded; this is what the decoder says.
    #[error("the picture is damaged ({0})")]
    Damaged(String),
    /// So much of it is missing, as a share, that it cannot be used.
    #[error("the picture is cut short: {:.0} % of it is missing", 100.0 * .0)]
    Lost(f32),
    /// A part that is to be cut out of it does not lie in it.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// A picture cannot be encoded; this is what the encoder says.
    #[error("the picture cannot be saved as a JPEG ({0})")]
    Encode(String),
}

impl PictureError {
    /// What to do about a file with this problem; nobody can do it to a picture of a camera.
    fn advice(&self) -> &'static str {
        match self {
            PictureError::Empty => ": take the picture again",
            PictureError::TooManyPixels { .. } | PictureError::TooManyBytes { .. } => {
                ": make it smaller"
            }
            PictureError::Outsize => ": make it smaller, or save it again",
            PictureError::TooMuchMemory { .. } => ": make it smaller, or save it as RGB of 8 bits",
            PictureError::Truncated | PictureError::Lost(_) => ": copy it again",
            PictureError::Damaged(_) => ": save it again",
            _ => "",
        }
    }
}

/// Reads a picture file as PIL's `ImageOps.exif_transpose(Image.open(path)).convert("RGB")` does.
///
/// Transparency is dropped, not blended. Of 16 bits the upper 8 are kept; for 16-bit greyscale PIL would clip at 255
/// instead. Pixels and memory are counted before anything is decoded. A JPEG of more than [`MAX_CAMERA_PIXELS`](super::MAX_CAMERA_PIXELS) is decoded at
/// a half, a quarter or an eighth of its width and height, the shorter of which stays above 1024 pixels; before that it may
/// have four times `max_pixels`.
///
/// # Errors
/// [`PictureError::File`] with the path and what is wrong. Bad input never panics.
pub fn read_picture(path: &Path, max_pixels: u64) -> Result<RgbImage, PictureError> {
    let read = || {
        let limit = max_bytes(max_pixels);
        let bytes = files::read(path, limit)?;
        if bytes.len() as u64 > limit {
            return Err(PictureError::TooManyBytes { limit });
        }
        let most = Most {
            pixels: max_pixels,
            reduced: max_pixels.saturating_mul(REDUCIBLE),
        };
        guarded(&bytes, most)
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
    let most = Most {
        pixels: max_pixels,
        reduced: 0,
    };
    guarded(bytes, most)
}

/// How many pixels a picture may have.
#[derive(Clone, Copy)]
struct Most {
    pixels: u64,
    /// Where it is reduced while it is decoded.
    reduced: u64,
}

fn guarded(bytes: &[u8], most: Most) -> Result<RgbImage, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    let bytes = mended(bytes);
    // A mistake of a decoder must not stop a camera.
    catch_unwind(|| decode(&bytes, most))
        .unwrap_or_else(|_| Err(PictureError::Damaged("its decoder gave up".into())))
}

/// The most that a file of `pixels` can have: uncompressed, with four channels of 8 bits, and its headers; and no more than a
/// third of the memory, for what is decoded comes on top.
fn max_bytes(pixels: u64) -> u64 {
    let uncompressed = pixels.saturating_mul(4).saturating_add(1 << 20);
    uncompressed.min(BUDGET.load(Ordering::Relaxed) / 3)
}

fn decode(bytes: &[u8], most: Most) -> Result<RgbImage, PictureError> {
    let budget = BUDGET.load(Ordering::Relaxed);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    if let Some(kind) = not_read(bytes) {
        return Err(kind);
    }
    if let Some(kind) = rare(bytes) {
        let advice = "make it a usual one of 8 bits (baseline), in the camera's settings or by saving it again";
        return Err(PictureError::NotRead { kind, advice });
    }
    let format = reader.format().ok_or(PictureError::UnknownFormat)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(budget);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(problem)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let too_many = |limit| PictureError::TooManyPixels {
        width,
        height,
        limit,
    };
    let jpeg = JpegHeader::of(bytes);
    let reduction = jpeg
        .and_then(|header| Reduction::of(&header, width, height))
        .filter(|_| most.reduced > 0);
    let limit = if reduction.is_some() {
        most.reduced
    } else {
        most.pixels
    };
    if pixels > limit {
        return Err(too_many(limit));
    }
    let upright_already = Orientation::NoTransforms;
    let orientation = match format {
        ImageFormat::WebP if !exif_is_whole(bytes) => upright_already,
        _ => decoder.orientation().unwrap_or(upright_already),
    };
    let plan = Plan {
        format,
        jpeg,
        color: decoder.color_type(),
        turned: orientation != upright_already,
    };
    let file = bytes.len() as u64;
    let afford = |needed| match needed <= budget {
        true => Ok(()),
        false => Err(PictureError::TooMuchMemory {
            width,
            height,
            needed,
            limit: budget,
        }),
    };
    if let Some(share) = jpeg
        .filter(|header| header.ends)
        .and_then(|_| share_lost(bytes))
    {
        return Err(PictureError::Lost(share));
    }
    if let (Some(header), Some(reduction)) = (jpeg, reduction) {
        afford(reduction.bytes(&header, file, width, height))?;
        if !header.ends || !Reduction::may_be_whole(&header, file, width, height) {
            return Err(PictureError::Truncated);
        }
        match decode_reduced(bytes, reduction).map_err(reduced_problem) {
            Ok(picture) => return Ok(upright(picture.into(), orientation)),
            // The other decoder forgives more.
            Err(error) if pixels > most.pixels => return Err(error),
            Err(_) => {}
        }
    }
    afford(plan.bytes(file, width, height))?;
    if jpeg.is_some_and(|header| !header.ends) {
        return Err(PictureError::Truncated);
    }
    let picture = rgb(DynamicImage::from_decoder(decoder).map_err(problem)?);
    Ok(upright(picture.into(), orientation))
}

/// What `error` of the decoder that reduces says of a picture.
fn reduced_problem(error: jpeg_decoder::Error) -> PictureError {
    match error {
        jpeg_decoder::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            PictureError::Truncated
        }
        jpeg_decoder::Error::Unsupported(_) => PictureError::UnknownFormat,
        other => PictureError::Damaged(other.to_string()),
    }
}

fn upright(mut picture: DynamicImage, orientation: Orientation) -> RgbImage {
    picture.apply_orientation(orientation);
    picture.into_rgb8()
}

/// What decoding a picture will hold in memory.
struct Plan {
    format: ImageFormat,
    jpeg: Option<JpegHeader>,
    /// What the decoder hands over.
    color: ColorType,
    turned: bool,
}

impl Plan {
    /// The most bytes that are held at one time for a file of `file` bytes, its own included.
    fn bytes(&self, file: u64, width: u32, height: u32) -> u64 {
        let decoded = u64::from(self.color.bytes_per_pixel());
        let inside = match (self.format, self.jpeg) {
            // Coefficients of all components, 16 bits each.
            (_, Some(header)) if header.in_passes => 2 * u64::from(header.components),
            // YUV planes, or RGBA where there is no alpha, and trees for blocks of pixels.
            (ImageFormat::WebP, _) => 5,
            // Indices, and a frame that is laid over the picture.
            (ImageFormat::Gif, _) => 5,
            // A strip or tile, which may be all of the picture, before it is put in its place.
            (ImageFormat::Tiff, _) => decoded,
            _ => 0,
        };
        let converting = if self.color == ColorType::Rgb8 { 0 } else { 3 };
        let turning = if self.turned { 6 } else { 0 };
        let a_pixel = (decoded + inside).max(decoded + converting).max(turning);
        // Blocks of a JPEG are whole, 32 pixels wide and high at most.
        let whole = |side: u32| u64::from(side).next_multiple_of(32);
        let copies = if self.jpeg.is_some() { 2 } else { 1 };
        whole(width) * whole(height) * a_pixel + copies * file + (1 << 20)
    }
}

/// Three channels of 8 bits.
fn rgb(picture: DynamicImage) -> RgbImage {
    let upper = |value: u16| (value >> 8) as u8;
    let (width, height) = (picture.width(), picture.height());
    let of = |pixel: &dyn Fn(u32, u32) -> [u16; 3]| {
        RgbImage::from_fn(width, height, |x, y| image::Rgb(pixel(x, y).map(upper)))
    };
    match &picture {
        DynamicImage::ImageLuma16(wide) => of(&|x, y| [wide.get_pixel(x, y).0[0]; 3]),
        DynamicImage::ImageLumaA16(wide) => of(&|x, y| [wide.get_pixel(x, y).0[0]; 3]),
        DynamicImage::ImageRgb16(wide) => of(&|x, y| wide.get_pixel(x, y).0),
        DynamicImage::ImageRgba16(wide) => of(&|x, y| {
            let [red, green, blue, _] = wide.get_pixel(x, y).0;
            [red, green, blue]
        }),
        _ => picture.into_rgb8(),
    }
}

/// Pictures and films in the containers of ISO/IEC 14496-12, by the brand that they begin with.
fn not_read(bytes: &[u8]) -> Option<PictureError> {
    let brand = bytes
        .get(8..12)
        .filter(|_| bytes.get(4..8) == Some(b"ftyp"))?;
    let (kind, extension) = match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
            ("a HEIC picture", "heic")
        }
        b"avif" | b"avis" => ("an AVIF picture", "avif"),
        _ => ("a film", "mp4"),
    };
    let advice = advice(extension)?;
    Some(PictureError::NotRead { kind, advice })
}

fn problem(error: ImageError) -> PictureError {
    match error {
        ImageError::Unsupported(error) => match error.kind() {
            UnsupportedErrorKind::Format(_) => PictureError::UnknownFormat,
            _ => PictureError::NotRead {
                kind: "a picture of a rare form",
                advice: "save it as JPEG or PNG",
            },
        },
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            PictureError::Truncated
        }
        ImageError::Limits(_) => PictureError::Outsize,
        other => damaged(&other.to_string()),
    }
}

/// What a decoder that gave up says, in words that are for people.
fn damaged(said: &str) -> PictureError {
    const ENDS: [&str; 3] = [
        "unexpected end of file",
        "not enough bytes",
        "unexpected eof",
    ];
    let lower = said.to_lowercase();
    if ENDS.iter().any(|end| lower.contains(end)) {
        return PictureError::Truncated;
    }
    // The fields of a value of the decoder, as Rust prints them.
    let mut words = said.to_owned();
    while let Some((from, to)) = words.find('{').zip(words.find('}')) {
        words.replace_range(from.min(to)..=to.max(from), " ");
    }
    let words: Vec<&str> = words.split_whitespace().collect();
    PictureError::Damaged(words.join(" "))
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
            let read = read_picture(&path, MAX_PIXELS).map(|picture| picture.dimensions());
            let error = read.expect_err(&name);
            assert!(error.to_string().contains(&name), "{error}");
            let PictureError::File { problem, .. } = error else {
                panic!("{name}: no path in {error:?}");
            };
            let kind = name.split('.').next().unwrap();
            let right = match kind {
                "zero" => matches!(*problem, PictureError::Empty),
                "text" => matches!(*problem, PictureError::UnknownFormat),
                "bomb" if name.ends_with("jpg") => matches!(*problem, PictureError::Lost(_)),
                "bomb" => matches!(*problem, PictureError::TooManyPixels { width: 10_000, .. }),
                _ => matches!(*problem, PictureError::Truncated | PictureError::Damaged(_)),
            };
            assert!(right, "{name}: {problem}");
        }
    }

    #[test]
    fn what_a_decoder_says_is_told_in_words_for_people() {
        let png = std::fs::read(fixture("rgb.png")).unwrap();
        let said = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = png.clone();
            change(&mut bytes);
            decode_picture(&bytes, MAX_PIXELS).unwrap_err().to_string()
        };
        // The sum behind the header, then a width and a height without end and the sum that is right for them.
        let wrong_sum = said(&|bytes| bytes[29] ^= 1);
        assert!(wrong_sum.contains("CRC"), "{wrong_sum}");
        assert!(!wrong_sum.contains(['{', '}', '\n']), "{wrong_sum}");
        let sum = b"\x9b\xab\x9c\x31";
        let endless = said(&|bytes| {
            bytes[16..24].fill(0xff);
            (bytes[16], bytes[20]) = (0x7f, 0x7f);
            bytes[24..29].copy_from_slice(&[8, 2, 0, 0, 0]);
            bytes[29..33].copy_from_slice(sum);
        });
        assert!(endless.contains("far larger"), "{endless}");
        let cut = damaged("Format error decoding Jpeg: Not enough bytes, expected 162\n");
        assert!(matches!(cut, PictureError::Truncated));
    }

    #[test]
    fn pictures_of_phones_that_are_not_read_say_how_to_convert_them() {
        for (brand, words) in [
            ("heic", "a HEIC picture ... heif-convert"),
            ("mif1", "a HEIC picture ... JPEG"),
            ("avif", "an AVIF picture ... avifdec"),
            ("isom", "a film ... ffmpeg"),
        ] {
            let bytes = [b"\0\0\0\x20ftyp", brand.as_bytes(), &[0; 100]].concat();
            let message = decode_picture(&bytes, MAX_PIXELS).unwrap_err().to_string();
            let found = words.split(" ... ").all(|part| message.contains(part));
            assert!(found, "{message}");
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

    const MOST: Most = Most {
        pixels: 1_000_000,
        reduced: 0,
    };

    #[test]
    fn no_flipped_or_missing_byte_panics() {
        for name in [
            "rgb420.jpg",
            "palette.png",
            "palette.gif",
            "rgb.webp",
            "palette.bmp",
            "grey.pgm",
            "rgb.tif",
        ] {
            let bytes = std::fs::read(fixture(name)).unwrap();
            for at in 0..bytes.len() {
                let _ = decode(&bytes[..at], MOST);
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                let _ = decode(&flipped, MOST);
                let _ = catch_unwind(|| decode_reduced(&flipped, Reduction::by_half()));
            }
        }
    }
}
