//! The stream of an IP camera: motion JPEG over HTTP/1.1 (multipart/x-mixed-replace), or a picture that is asked for
//! again and again. It must not know what is done with a frame; TLS is not spoken, since cameras on a local network
//! rarely do.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use base64::Engine as _;

use super::FramesError;
use super::live::{RawFrame, Sink};
use super::mjpeg::Splitter;

/// The longest head of an answer.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
const MAX_REDIRECTS: usize = 3;
/// The pause before a camera that sends single pictures is asked for the next one.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(500);

/// The address of a camera: `http://[user:password@]host[:port]/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraUrl(url::Url);

impl CameraUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// If it is none, or not one of plain HTTP.
    pub fn parse(text: &str) -> Result<CameraUrl, FramesError> {
        let refused = |reason: String| FramesError::Address {
            address: text.to_owned(),
            reason,
        };
        let url = url::Url::parse(text).map_err(|error| refused(error.to_string()))?;
        match url.scheme() {
            "http" if url.has_host() => Ok(CameraUrl(url)),
            "https" => Err(refused(
                "cameras are read over plain http; use that, or pipe the pictures in with --camera -".into(),
            )),
            other => Err(refused(format!("{other} is not http"))),
        }
    }

    /// The address without its password.
    pub fn shown(&self) -> String {
        let mut url = self.0.clone();
        // Only addresses without a host have no place for these, and those were refused.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        url.to_string()
    }
}

/// Captures from `camera` until the sink wants no more. A connection without data for `quiet` has failed.
///
/// # Errors
/// Where the camera cannot be reached, refuses, or breaks off.
pub fn capture(camera: &CameraUrl, quiet: Duration, sink: &Sink) -> Result<(), FramesError> {
    while sink.wanted() {
        let mut answer = request(camera, quiet)?;
        let put = |picture| sink.put(RawFrame::Jpeg(picture));
        if !answer.pictures(put, || sink.wanted())? {
            return Ok(());
        }
        thread::sleep(SNAPSHOT_PAUSE);
    }
    Ok(())
}

/// Reads one answer of a camera from `stream`, as [`capture`] does, and hands its pictures to `put`. A redirect is not
/// followed.
///
/// # Errors
/// Where it is no HTTP, refuses, or breaks off.
pub fn read_answer(stream: impl Read, put: &mut dyn FnMut(Vec<u8>)) -> Result<(), FramesError> {
    let take = |picture| {
        put(picture);
        true
    };
    match read_head(stream)? {
        Asked::Answer(mut answer) => answer.pictures(take, || true).map(|_| ()),
        Asked::Elsewhere(_) => Ok(()),
    }
}

/// The body of an answer.
struct Answer<S> {
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

impl<S: Read> Answer<S> {
    /// Hands all pictures to `put` until it, or whoever is asked with `wanted`, wants no more: false then, and true
    /// where the camera shall be asked again.
    fn pictures(
        &mut self,
        mut put: impl FnMut(Vec<u8>) -> bool,
        wanted: impl Fn() -> bool,
    ) -> Result<bool, FramesError> {
        let mut splitter = Splitter::default();
        let mut bytes = [0; 16 << 10];
        let mut pictures = 0;
        loop {
            match self.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    for picture in splitter.push(&bytes[..count]) {
                        pictures += 1;
                        if !put(picture) {
                            return Ok(false);
                        }
                    }
                }
                Err(error) => return Err(connection(&error)),
            }
            if !wanted() {
                return Ok(false);
            }
        }
        if pictures == 0 {
            let what = match splitter.skipped() {
                0 => "the camera sent nothing".to_owned(),
                bytes => format!("the camera sent {bytes} bytes that are no JPEG picture"),
            };
            return Err(FramesError::Camera(what));
        }
        if !self.single {
            return Err(FramesError::Camera("the camera ended its stream".into()));
        }
        Ok(true)
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

impl<S: Read> Read for Answer<S> {
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

fn request(camera: &CameraUrl, quiet: Duration) -> Result<Answer<TcpStream>, FramesError> {
    let mut url = camera.0.clone();
    for _ in 0..=MAX_REDIRECTS {
        match ask(&url, quiet)? {
            Asked::Answer(answer) => return Ok(answer),
            Asked::Elsewhere(place) => {
                let next = url.join(&place).map_err(|error| {
                    FramesError::Camera(format!("the camera points to {place:?} ({error})"))
                })?;
                // A name and a password are for the camera that they were given for.
                url = match next.scheme() {
                    "http" => next,
                    other => {
                        let what = format!("the camera wants to be asked over {other}, not http");
                        return Err(FramesError::Camera(what));
                    }
                };
            }
        }
    }
    Err(FramesError::Camera(
        "the camera points from one address to another without end".into(),
    ))
}

enum Asked<S> {
    Answer(Answer<S>),
    Elsewhere(String),
}

fn ask(url: &url::Url, quiet: Duration) -> Result<Asked<TcpStream>, FramesError> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let unreachable =
        |error: io::Error| FramesError::Camera(format!("cannot reach {host}:{port} ({error})"));
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (bare, port).to_socket_addrs().map_err(unreachable)?;
    let address = addresses
        .next()
        .ok_or_else(|| unreachable(io::ErrorKind::NotFound.into()))?;
    let mut stream = TcpStream::connect_timeout(&address, quiet).map_err(unreachable)?;
    let timed = stream
        .set_read_timeout(Some(quiet))
        .and_then(|()| stream.set_write_timeout(Some(quiet)));
    timed.map_err(|error| connection(&error))?;

    let query = url
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let mut head = format!(
        "GET {}{query} HTTP/1.1\r\nHost: {host}:{port}\r\n",
        url.path()
    );
    if !url.username().is_empty() {
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8_lossy()
                .into_owned()
        };
        let pair = format!(
            "{}:{}",
            decode(url.username()),
            decode(url.password().unwrap_or_default())
        );
        let secret = base64::engine::general_purpose::STANDARD.encode(pair);
        head += &format!("Authorization: Basic {secret}\r\n");
    }
    head += "Accept: multipart/x-mixed-replace, image/jpeg\r\nUser-Agent: edge-rlp\r\nConnection: close\r\n\r\n";
    stream
        .write_all(head.as_bytes())
        .map_err(|error| connection(&error))?;
    read_head(stream)
}

fn read_head<S: Read>(mut stream: S) -> Result<Asked<S>, FramesError> {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = stream
            .read(&mut piece)
            .map_err(|error| connection(&error))?;
        bytes.extend_from_slice(&piece[..count]);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let no_http =
            |what: String| FramesError::Camera(format!("the camera's answer is no HTTP ({what})"));
        let parsed = response
            .parse(&bytes)
            .map_err(|error| no_http(error.to_string()))?;
        let end = match parsed {
            httparse::Status::Complete(end) => end,
            httparse::Status::Partial if count == 0 => {
                return Err(no_http("it is cut short".into()));
            }
            httparse::Status::Partial if bytes.len() > MAX_HEAD => {
                return Err(no_http("its head has no end".into()));
            }
            httparse::Status::Partial => continue,
        };
        let header = |name: &str| {
            let found = response
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
        };
        let status = response.code.unwrap_or_default();
        match (status, header("location")) {
            (200, _) => {}
            (301 | 302 | 303 | 307 | 308, Some(place)) => return Ok(Asked::Elsewhere(place)),
            (401, _) => {
                let basic = header("www-authenticate")
                    .is_none_or(|scheme| scheme.to_lowercase().contains("basic"));
                let what = match basic {
                    true => {
                        "the camera wants another name and password: http://USER:PASSWORD@HOST/PATH"
                    }
                    false => {
                        "the camera wants a digest login, which is not spoken here: allow basic login in its settings"
                    }
                };
                return Err(FramesError::Camera(what.into()));
            }
            (other, _) => {
                let reason = response.reason.unwrap_or_default();
                let what = format!("the camera answers {other} {reason}");
                return Err(FramesError::Camera(what.trim().to_owned()));
            }
        }
        let chunked = header("transfer-encoding")
            .is_some_and(|coding| coding.to_lowercase().contains("chunked"));
        let length = header("content-length").and_then(|length| length.parse().ok());
        let framing = match (chunked, length) {
            (true, _) => Framing::Chunks(0),
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::ToTheEnd,
        };
        let single =
            header("content-type").is_some_and(|kind| kind.to_lowercase().starts_with("image/"));
        return Ok(Asked::Answer(Answer {
            rest: io::Cursor::new(bytes[end..].to_vec()),
            stream,
            framing,
            single,
        }));
    }
}

fn connection(error: &io::Error) -> FramesError {
    let what = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "the camera has gone quiet".to_owned()
        }
        io::ErrorKind::UnexpectedEof => {
            "the camera broke off in the middle of a picture".to_owned()
        }
        _ => format!("the connection to the camera failed ({error})"),
    };
    FramesError::Camera(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::live::{Event, Live, Patience};
    use std::net::TcpListener;
    use std::sync::Arc;

    const STREAM: &[u8] = include_bytes!("../../tests/fixtures/mjpeg/ffmpeg-multipart.mjpeg");
    const PICTURES: &[u8] = include_bytes!("../../tests/fixtures/mjpeg/ffmpeg.mjpeg");
    const QUICK: Patience = Patience {
        stall: Duration::from_millis(150),
        pause: Duration::from_millis(5),
        give_up: Duration::from_millis(1500),
    };

    /// What a camera does with one connection.
    type Reply = fn(&mut TcpStream) -> io::Result<()>;

    /// A camera on loopback that answers its connections as `replies` say, the last one again and again. Returns its
    /// address.
    fn camera(replies: &'static [Reply]) -> CameraUrl {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut request = [0; 2048];
                let _ = stream.read(&mut request);
                // A client that has left is what some of these tests are about.
                let _ = replies[index.min(replies.len() - 1)](&mut stream);
            }
        });
        CameraUrl::parse(&format!("http://{address}/video?x=1")).unwrap()
    }

    /// Watches until a picture comes, and returns what was told before it; or the error in which it ends.
    fn first_picture(camera: CameraUrl) -> (Result<RawFrame, FramesError>, Vec<String>) {
        let capture = move |sink: &Sink| capture(&camera, QUICK.stall / 2, sink);
        let mut live = Live::start(Arc::new(capture), QUICK);
        let mut told = Vec::new();
        loop {
            match live.next(&|| false) {
                Ok(Event::Frame(frame, _)) => return (Ok(frame), told),
                Ok(Event::Trouble(sentence)) => told.push(sentence),
                Ok(Event::End) => panic!("a camera has no end: {told:?}"),
                Err(error) => return (Err(error), told),
            }
        }
    }

    fn assert_picture(replies: &'static [Reply]) -> Vec<String> {
        let (frame, told) = first_picture(camera(replies));
        let picture = frame.unwrap().decode().unwrap();
        assert_eq!(picture.dimensions(), (64, 48));
        told
    }

    fn assert_told(replies: &'static [Reply], expected: &str) {
        let (frame, told) = first_picture(camera(replies));
        let error = frame.unwrap_err().to_string();
        assert!(
            told[0].contains(expected) && error.contains(expected),
            "{told:?}; {error}"
        );
    }

    fn stream(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=ffmpeg\r\n\r\n",
        )?;
        out.write_all(STREAM)
    }

    fn stall(_: &mut TcpStream) -> io::Result<()> {
        thread::sleep(Duration::from_millis(110));
        Ok(())
    }

    fn garbage(out: &mut TcpStream) -> io::Result<()> {
        out.write_all(&[0xa5; 4000])
    }

    #[test]
    fn a_multipart_stream_is_read() {
        assert!(assert_picture(&[stream]).is_empty());
    }

    #[test]
    fn chunks_may_fall_anywhere() {
        fn chunked(out: &mut TcpStream) -> io::Result<()> {
            out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in PICTURES.chunks(97) {
                write!(out, "{:x}; why=not\r\n", piece.len())?;
                out.write_all(piece)?;
                out.write_all(b"\r\n")?;
            }
            out.write_all(b"0\r\n\r\n")
        }
        assert!(assert_picture(&[chunked]).is_empty());
    }

    #[test]
    fn a_camera_of_single_pictures_is_asked_again() {
        fn single(out: &mut TcpStream) -> io::Result<()> {
            let length = PICTURES.len() / 5 * 2;
            write!(
                out,
                "HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
            )?;
            out.write_all(&PICTURES[..length])
        }
        let url = camera(&[single]);
        let capture = move |sink: &Sink| capture(&url, Duration::from_secs(2), sink);
        let mut live = Live::start(Arc::new(capture), Patience::default());
        for _ in 0..2 {
            assert!(matches!(live.next(&|| false).unwrap(), Event::Frame(..)));
        }
    }

    #[test]
    fn a_camera_that_stalls_resets_or_talks_nonsense_is_asked_again() {
        fn reset(out: &mut TcpStream) -> io::Result<()> {
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n\xff\xd8\xff")
        }
        let told = assert_picture(&[stall, reset, garbage, stream]);
        assert_eq!(told.len(), 3, "{told:?}");
        for (sentence, expected) in told.iter().zip(["quiet", "broke off", "no HTTP"]) {
            assert!(sentence.contains(expected), "{sentence}");
        }
    }

    #[test]
    fn a_camera_that_moved_is_followed_but_not_without_end() {
        fn moved(out: &mut TcpStream) -> io::Result<()> {
            out.write_all(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n")
        }
        assert!(assert_picture(&[moved, stream]).is_empty());
        assert_told(&[moved], "without end");
    }

    #[test]
    fn refusals_say_what_to_do() {
        fn login(out: &mut TcpStream) -> io::Result<()> {
            out.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\n\r\n")
        }
        fn missing(out: &mut TcpStream) -> io::Result<()> {
            out.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n")
        }
        fn page(out: &mut TcpStream) -> io::Result<()> {
            out.write_all(b"HTTP/1.1 200 OK\r\n\r\n<html>no picture</html>")
        }
        assert_told(&[login], "http://USER:PASSWORD@HOST/PATH");
        assert_told(&[missing], "404 Not Found");
        assert_told(&[page], "no JPEG picture");
        assert_told(&[garbage], "no HTTP");
        let nobody = CameraUrl::parse("http://127.0.0.1:1/").unwrap();
        let (frame, told) = first_picture(nobody);
        assert!(
            frame.is_err() && told[0].contains("cannot reach 127.0.0.1:1"),
            "{told:?}"
        );
    }

    #[test]
    fn a_name_and_password_are_sent_decoded() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let url = CameraUrl::parse(&format!("http://me:p%40ss@{address}/")).unwrap();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 2048];
            let count = stream.read(&mut request).unwrap();
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        assert!(request(&url, QUICK.stall).is_err());
        // "me:p@ss" in base 64.
        assert!(
            server
                .join()
                .unwrap()
                .contains("Authorization: Basic bWU6cEBzcw==\r\n")
        );
    }
}
