//! What a camera answers: a head, and a body of pictures in any of HTTP's framings.

use super::HttpError;
use crate::frames::mjpeg::Splitter;
use std::io::{self, Read};

/// The longest head of an answer.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// What the head of an answer says.
pub enum Reply<S> {
    /// A body follows.
    Response(Response<S>),
    /// The same is to be asked there.
    Redirect(String),
}

/// The body of an answer.
pub struct Response<S> {
    stream: S,
    /// What was read beyond the head.
    rest: io::Cursor<Vec<u8>>,
    framing: Framing,
    /// One picture, not a stream of them.
    single: bool,
}

/// How much of the body is left.
enum Framing {
    /// All that comes.
    ToTheEnd,
    /// So many bytes.
    Length(u64),
    /// Chunks, of the present one so many bytes; 0 before the first and after each.
    Chunks(u64),
}

/// Reads the head of an answer from `stream`.
///
/// # Errors
/// If it is not HTTP, says neither "here" nor "elsewhere", or breaks off.
pub fn read_head<S: Read>(mut stream: S) -> Result<Reply<S>, HttpError> {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..count]);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head
            .parse(&bytes)
            .map_err(|error| HttpError::NotHttp(error.to_string()))?;
        match parsed {
            httparse::Status::Complete(end) => {
                let meaning = Head::of(&head)?;
                let rest = io::Cursor::new(bytes[end..].to_vec());
                return Ok(meaning.reply(stream, rest));
            }
            httparse::Status::Partial if count == 0 => {
                return Err(HttpError::NotHttp("it is cut short".into()));
            }
            httparse::Status::Partial if bytes.len() > MAX_HEAD => {
                return Err(HttpError::NotHttp("its head has no end".into()));
            }
            httparse::Status::Partial => {}
        }
    }
}

/// What a whole head means.
enum Head {
    Body { framing: Framing, single: bool },
    Redirect(String),
}

impl Head {
    fn of(head: &httparse::Response) -> Result<Head, HttpError> {
        let header = |name: &str| {
            let mut headers = head.headers.iter();
            let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
        };
        let has = |name: &str, part: &str| {
            header(name).is_some_and(|value| value.to_lowercase().contains(part))
        };
        match (head.code.unwrap_or_default(), header("location")) {
            (200, _) => {}
            (301 | 302 | 303 | 307 | 308, Some(place)) => return Ok(Head::Redirect(place)),
            (401, _)
                if header("www-authenticate").is_none() || has("www-authenticate", "basic") =>
            {
                return Err(HttpError::Login);
            }
            (401, _) => return Err(HttpError::DigestLogin),
            (status, _) => {
                let reason = head.reason.unwrap_or_default().to_owned();
                return Err(HttpError::Status { status, reason });
            }
        }
        let length = header("content-length").and_then(|length| length.parse().ok());
        Ok(Head::Body {
            framing: match length {
                _ if has("transfer-encoding", "chunked") => Framing::Chunks(0),
                Some(length) => Framing::Length(length),
                None => Framing::ToTheEnd,
            },
            single: header("content-type")
                .is_some_and(|kind| kind.to_lowercase().starts_with("image/")),
        })
    }

    fn reply<S>(self, stream: S, rest: io::Cursor<Vec<u8>>) -> Reply<S> {
        match self {
            Head::Body { framing, single } => Reply::Response(Response {
                stream,
                rest,
                framing,
                single,
            }),
            Head::Redirect(place) => Reply::Redirect(place),
        }
    }
}

impl<S: Read> Response<S> {
    /// Hands all pictures to `put` until it wants no more: false then, and true where the camera is to be asked again.
    pub fn pictures(&mut self, mut put: impl FnMut(Vec<u8>) -> bool) -> Result<bool, HttpError> {
        let mut splitter = Splitter::default();
        let mut bytes = [0; 16 << 10];
        let mut pictures = 0;
        loop {
            let count = self.read(&mut bytes)?;
            if count == 0 {
                break;
            }
            for picture in splitter.push(&bytes[..count]) {
                pictures += 1;
                if !put(picture) {
                    return Ok(false);
                }
            }
        }
        match (pictures, splitter.skipped()) {
            (0, 0) => Err(HttpError::Nothing),
            (0, bytes) => Err(HttpError::NoPicture { bytes }),
            _ if self.single => Ok(true),
            _ => Err(HttpError::Ended),
        }
    }

    fn raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.rest.read(buffer)? {
            0 => self.stream.read(buffer),
            count => Ok(count),
        }
    }

    /// The next line of the chunks' own framing, without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.raw(&mut byte)? == 1 {
            match byte[0] {
                b'\n' => break,
                _ if line.len() >= 256 => return Err(io::ErrorKind::InvalidData.into()),
                other => line.push(other),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }

    fn limited(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        match self.raw(&mut buffer[..most])? {
            0 if most > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

impl<S: Read> Read for Response<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.framing {
            Framing::ToTheEnd => self.raw(buffer),
            Framing::Length(0) => Ok(0),
            Framing::Length(left) => {
                let count = self.limited(buffer, left)?;
                self.framing = Framing::Length(left - count as u64);
                Ok(count)
            }
            Framing::Chunks(0) => {
                let mut line = self.line()?;
                if line.is_empty() {
                    // The end of the chunk before.
                    line = self.line()?;
                }
                let digits = line.split(';').next().unwrap_or_default().trim();
                match u64::from_str_radix(digits, 16) {
                    Ok(0) => {
                        self.framing = Framing::Length(0);
                        Ok(0)
                    }
                    Ok(size) => {
                        self.framing = Framing::Chunks(size);
                        self.read(buffer)
                    }
                    Err(_) => Err(io::ErrorKind::InvalidData.into()),
                }
            }
            Framing::Chunks(left) => {
                let count = self.limited(buffer, left)?;
                self.framing = Framing::Chunks(left - count as u64);
                Ok(count)
            }
        }
    }
}
