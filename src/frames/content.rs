//! What bytes are that hold no JPEG picture, as far as their beginning shows.

use std::fmt;

/// What a stream seems to be instead of motion JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// A raw stream of H.264.
    H264,
    /// A raw stream of H.265.
    H265,
    /// MP4, with any codec.
    Mp4,
    /// An MPEG transport stream.
    TransportStream,
    /// Matroska or WebM.
    Matroska,
    /// AVI.
    Avi,
    /// Flash video.
    Flv,
    /// Uncompressed video.
    Uncompressed,
    /// PNG pictures.
    Png,
    /// WebP pictures.
    WebP,
    /// BMP pictures.
    Bmp,
    /// GIF pictures.
    Gif,
    /// Anything, compressed.
    Gzip,
    /// A web page.
    Page,
    /// Other text.
    Text,
}

impl fmt::Display for Content {
    /// A question, and what to do.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Content::H264 => "is it H.264? `rpicam-vid --codec mjpeg` or `ffmpeg ... -f mjpeg -` sends JPEG",
            Content::H265 => "is it H.265? `ffmpeg ... -f mjpeg -` makes JPEG of it",
            Content::Mp4 => "is it MP4? `ffmpeg ... -f mjpeg -` makes JPEG of it",
            Content::TransportStream => {
                "is it an MPEG transport stream? `ffmpeg ... -f mjpeg -` makes JPEG of it"
            }
            Content::Matroska => "is it Matroska or WebM? `ffmpeg ... -f mjpeg -` makes JPEG of it",
            Content::Avi => "is it AVI? `ffmpeg ... -f mjpeg -` makes JPEG of it",
            Content::Flv => "is it Flash video? `ffmpeg ... -f mjpeg -` makes JPEG of it",
            Content::Uncompressed => "is it uncompressed video? `ffmpeg ... -f mjpeg -` makes JPEG of it",
            Content::Png => "are they PNG pictures? set JPEG in the camera's settings",
            Content::WebP => "are they WebP pictures? set JPEG in the camera's settings",
            Content::Bmp => "are they BMP pictures? set JPEG in the camera's settings",
            Content::Gif => "are they GIF pictures? set JPEG in the camera's settings",
            Content::Gzip => "is it compressed (gzip)? have it sent as it is",
            Content::Page => "is it a web page? the stream has an address of its own, which the camera's manual names",
            Content::Text => "is it text? the stream has an address of its own, which the camera's manual names",
        })
    }
}

/// What a stream that begins with `bytes` seems to be.
pub fn guess(bytes: &[u8]) -> Option<Content> {
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let text = text.trim_start();
    Some(match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', ..]
        | [_, _, _, _, b'm', b'o', b'o', b'f' | b'v', ..]
        | [_, _, _, _, b's', b't', b'y', b'p', ..] => Content::Mp4,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', ..] => Content::Avi,
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Content::Matroska,
        [b'F', b'L', b'V', 1, ..] => Content::Flv,
        [0x1f, 0x8b, 8, ..] => Content::Gzip,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Content::Gif,
        // Its reserved bytes are zero.
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Content::Bmp,
        [b'Y', b'U', b'V', b'4', ..] => Content::Uncompressed,
        _ if has(b"\x89PNG\r\n\x1a\n") => Content::Png,
        _ if has(b"WEBPVP8") => Content::WebP,
        _ if bytes.len() > 376 && [0, 188, 376].iter().all(|&at| bytes[at] == 0x47) => {
            Content::TransportStream
        }
        // Start codes and the parameter sets that a stream begins with.
        _ if has(&[0, 0, 1, 0x40, 1]) || has(&[0, 0, 1, 0x42, 1]) => Content::H265,
        _ if has(&[0, 0, 1, 0x67]) || has(&[0, 0, 1, 0x27]) || has(&[0, 0, 1, 0x47]) => {
            Content::H264
        }
        _ if has(&[0, 0, 1, 0x65]) || has(&[0, 0, 1, 0x41]) => Content::H264,
        _ if text.starts_with("<!doctype") || text.starts_with("<html") => Content::Page,
        _ if bytes.len() >= 8
            && bytes
                .iter()
                .all(|b| matches!(b, b'\t' | b'\r' | b'\n' | b' '..=b'~')) =>
        {
            Content::Text
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cameras_send_instead_of_jpeg_is_recognised() {
        for (bytes, content) in [
            (&[0u8, 0, 0, 1, 0x67, 0x64, 0, 0x1f][..], Content::H264),
            (&[0, 0, 0, 1, 0x40, 1, 0x0c], Content::H265),
            (b"\0\0\0\x20ftypisom", Content::Mp4),
            (b"\0\0\0\x20moofABCDEFGH", Content::Mp4),
            (&[0x1f, 0x8b, 8, 0, 0, 0], Content::Gzip),
            (b"<HTML><body>login", Content::Page),
            (b"{\"error\": \"no\"}", Content::Text),
            (
                b"--x\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n",
                Content::Png,
            ),
        ] {
            assert_eq!(guess(bytes), Some(content), "{bytes:?}");
        }
        assert_eq!(guess(&[0xa5; 400]), None);
        assert_eq!(guess(b""), None);
    }
}
