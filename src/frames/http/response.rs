//! The body of a camera's answer: pictures in any of HTTP's framings.

use super::HttpError;
use super::head::Head;
use crate::frames::mjpeg::Splitter;
use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes that may come between two pictures without being told: heads of parts, and what cameras put there.
const USUAL_GAP: u64 = 16 << 10;

/// So soon after a snapshot more has to come where it is one of many.
const SOON: Duration = Duration::from_millis(300);

/// The body of an answer.
pub struct Response<S> {
    stream: S,
    /// What was read beyond the head.
    rest: io::Cursor<Vec<u8>>,
    framing: Framing,
    /// One picture, not a stream of them.
    single: bool,
    /// What it is compressed with, if it is.
    coding: Option<String>,
    /// What it comes from, where it can be waited for less patiently.
    socket: Option<TcpStream>,
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

impl<S: Read> Response<S> {
    /// The body that `head` announces: `rest`, and what comes from `stream`.
    pub fn new(head: &Head, stream: S, rest: Vec<u8>) -> Response<S> {
        Response {
            stream,
            rest: io::Cursor::new(rest),
            framing: match head.length {
                _ if head.chunked => Framing::Chunks(0),
                // Nothing would be no picture: those who say so send one all the same, and end the connection.
                Some(0) | None => Framing::ToTheEnd,
                Some(length) => Framing::Length(length),
            },
            single: head.kind.starts_with("image/"),
            coding: head.coding.clone(),
            socket: None,
        }
    }

    /// The same, which comes from `socket`.
    pub fn from(self, socket: Option<TcpStream>) -> Response<S> {
        Response { socket, ..self }
    }

    /// Has the socket wait for so long.
    fn wait(&self, patience: Duration) -> bool {
        let socket = self.socket.as_ref();
        socket.is_some_and(|socket| socket.set_read_timeout(Some(patience)).is_ok())
    }

    /// Hands all pictures to `put` until it wants no more: false then, and true where the camera is to be asked again, since
    /// it sends one picture at a time, whatever it calls that. Where bytes come but no picture for as long as `quiet`, the
    /// camera sends something else.
    pub fn pictures(
        &mut self,
        quiet: Duration,
        mut put: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<bool, HttpError> {
        let mut splitter = Splitter::default();
        let mut bytes = [0; 16 << 10];
        let (mut pictures, mut longer) = (0, false);
        let (mut last, mut skipped) = (Instant::now(), 0);
        let mut hurried = false;
        loop {
            let count = match self.read(&mut bytes) {
                // The body is longer than was said.
                Ok(0) if pictures == 0 && !longer && splitter.lacks_more() => {
                    (self.framing, longer) = (Framing::ToTheEnd, true);
                    continue;
                }
                Ok(0) => break,
                Ok(count) => count,
                // The body is shorter than was said, and what was wanted of it has come.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && pictures == 1 => {
                    return Ok(true);
                }
                Err(_) if longer && pictures == 0 => break,
                // Some leave the connection open, said that more would come, or reset the connection.
                Err(_) if hurried => return Ok(true),
                Err(error) => return Err(error.into()),
            };
            for picture in splitter.push(&bytes[..count]) {
                pictures += 1;
                (last, skipped) = (Instant::now(), splitter.skipped());
                if !put(picture) {
                    return Ok(false);
                }
            }
            // One that is a stream all the same sends the next soon.
            match pictures {
                1 if self.single && !hurried => hurried = self.wait(SOON),
                2.. if hurried => hurried = !self.wait(quiet),
                _ => {}
            }
            if splitter.skipped() - skipped > USUAL_GAP && last.elapsed() >= quiet {
                return Err(self.no_picture(&splitter));
            }
        }
        // A picture that lacks its end marker ends with the body.
        if let Some(picture) = splitter.finish() {
            pictures += 1;
            if !put(picture) {
                return Ok(false);
            }
        }
        match pictures {
            0 if splitter.skipped() == 0 => Err(HttpError::Nothing),
            0 => Err(self.no_picture(&splitter)),
            1 => Ok(true),
            _ if self.single => Ok(true),
            _ => Err(HttpError::Ended),
        }
    }

    /// Why there was none in what came.
    fn no_picture(&self, splitter: &Splitter) -> HttpError {
        match &self.coding {
            Some(coding) => HttpError::Compressed(coding.clone()),
            None => HttpError::NoPicture {
                bytes: splitter.skipped(),
                guess: splitter.guess(),
            },
        }
    }

    fn raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.rest.read(buffer)? {
            0 => self.stream.read(buffer),
            count => Ok(count),
        }
    }

    /// The next line of the chunks' own framing, with its end, or as much as a line has at most.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < 256 && line.last() != Some(&b'\n') && self.raw(&mut byte)? == 1 {
            line.push(byte[0]);
        }
        Ok(line)
    }

    /// The size of the next chunk; none where the camera only says that it sends chunks, and what came is to be read again.
    fn chunk(&mut self) -> io::Result<Option<u64>> {
        let mut line = self.line()?;
        if line.trim_ascii().is_empty() {
            // The end of the chunk before.
            line.extend(self.line()?);
        }
        let text = String::from_utf8_lossy(&line);
        let digits = text.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).ok();
        if size.is_none() {
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let at = self.rest.position() as usize;
            line.extend(&self.rest.get_ref()[at..]);
            self.rest = io::Cursor::new(line);
        }
        Ok(size)
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
                self.framing = match self.chunk()? {
                    Some(0) => Framing::Length(0),
                    Some(size) => Framing::Chunks(size),
                    None => Framing::ToTheEnd,
                };
                self.read(buffer)
            }
            Framing::Chunks(left) => {
                let count = self.limited(buffer, left)?;
                self.framing = Framing::Chunks(left - count as u64);
                Ok(count)
            }
        }
    }
}
