//! The stream of an IP camera: motion JPEG over HTTP/1.1 (multipart/x-mixed-replace), or a picture that is asked for
//! again and again. TLS is not supported: cameras on a local network rarely offer it.

mod response;
#[cfg(test)]
mod tests;

use super::frame::RawFrame;
use super::live::Sink;
use super::pace::Paced;
use super::{CameraUrl, FramesError, HttpError};
use base64::Engine as _;
use response::{Reply, Response, read_head};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;
use url::Url;

const MAX_REDIRECTS: usize = 3;
/// The pause before a camera that sends single pictures is asked for the next one.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(500);

/// Captures from `camera` until the sink wants no more. A connection without data for `quiet` has failed.
///
/// # Errors
/// Where the camera cannot be reached, refuses, or breaks off.
pub fn capture(camera: &CameraUrl, quiet: Duration, sink: &Sink) -> Result<(), FramesError> {
    let wanted = || sink.wanted();
    while wanted() {
        let mut response = request(camera, quiet, &wanted)?;
        let put = |picture| sink.put(RawFrame::Jpeg(picture));
        if !response.pictures(put)? {
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
/// Where it is not HTTP, refuses, or breaks off.
pub fn read_answer(stream: impl Read, put: &mut dyn FnMut(Vec<u8>)) -> Result<(), FramesError> {
    let take = |picture| {
        put(picture);
        true
    };
    match read_head(stream)? {
        Reply::Response(mut response) => response.pictures(take)?,
        Reply::Redirect(_) => false,
    };
    Ok(())
}

/// What is read from a camera, as long as it is wanted.
type Wanted<'a> = Paced<'a, TcpStream>;

/// Asks `camera`, and whoever it redirects to.
fn request<'a>(
    camera: &CameraUrl,
    quiet: Duration,
    wanted: &'a dyn Fn() -> bool,
) -> Result<Response<Wanted<'a>>, HttpError> {
    let mut url = camera.url().clone();
    for _ in 0..=MAX_REDIRECTS {
        let place = match ask(&url, quiet, wanted)? {
            Reply::Response(response) => return Ok(response),
            Reply::Redirect(place) => place,
        };
        // A name and a password stay with the camera that they were given for: another address has its own.
        url = match url.join(&place) {
            Ok(next) if next.scheme() == "http" => next,
            Ok(next) => return Err(HttpError::RedirectScheme(next.scheme().to_owned())),
            Err(source) => return Err(HttpError::BadRedirect { place, source }),
        };
    }
    Err(HttpError::RedirectLoop)
}

/// Asks at one address.
fn ask<'a>(
    url: &Url,
    quiet: Duration,
    wanted: &'a dyn Fn() -> bool,
) -> Result<Reply<Wanted<'a>>, HttpError> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let mut stream = connect(host, port, quiet).map_err(|source| HttpError::Unreachable {
        host: host.to_owned(),
        port,
        source,
    })?;
    stream.set_read_timeout(Some(quiet))?;
    stream.set_write_timeout(Some(quiet))?;
    stream.write_all(head(url, host, port).as_bytes())?;
    read_head(Paced::new(stream, wanted))
}

fn connect(host: &str, port: u16, quiet: Duration) -> io::Result<TcpStream> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (bare, port).to_socket_addrs()?;
    let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
    TcpStream::connect_timeout(&address, quiet)
}

/// The head of a request, with a basic login where the address has a user.
fn head(url: &Url, host: &str, port: u16) -> String {
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
    head
}
