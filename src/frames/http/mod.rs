//! The stream of an IP camera: motion JPEG over HTTP/1.1 (multipart/x-mixed-replace), plain or encrypted, or a picture that
//! is asked for again and again.

mod connection;
mod head;
mod login;
mod response;
#[cfg(test)]
mod tests;
#[cfg(feature = "https")]
mod tls;

use super::frame::RawFrame;
use super::live::Sink;
use super::pace::Paced;
use super::{CameraUrl, FramesError, HttpError, Trust};
use connection::Connection;
use head::{Head, read_head};
use login::Authentication;
use response::Response;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;
use url::Url;

const MAX_REDIRECTS: usize = 3;
/// Requests that are refused for want of a login, one after another.
const MAX_LOGINS: usize = 4;
/// The pause before a camera that sends single pictures is asked for the next one.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(500);

/// How a camera on the network is waited for and whom to take for it.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A connection without data for so long has failed.
    pub quiet: Duration,
    pub trust: Trust,
}

/// Captures from `camera` until the sink wants no more.
///
/// # Errors
/// Where the camera cannot be reached, refuses, or breaks off.
pub fn capture(camera: &CameraUrl, patience: Patience, sink: &Sink) -> Result<(), FramesError> {
    let wanted = || sink.wanted();
    let mut asking = Asking::new(camera, patience);
    while wanted() {
        let mut response = asking.request(&wanted)?;
        let put = |picture| sink.put(RawFrame::Jpeg(picture));
        if !response.pictures(patience.quiet, put)? {
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
pub fn read_answer(mut stream: impl Read, put: &mut dyn FnMut(Vec<u8>)) -> Result<(), FramesError> {
    let take = |picture| {
        put(picture);
        true
    };
    let (head, rest) = read_head(&mut stream)?;
    if let Answer::Body = Answer::of(&head)? {
        Response::new(&head, stream, rest).pictures(Duration::MAX, take)?;
    }
    Ok(())
}

/// What is read from a camera, as long as it is wanted.
type Wanted<'a> = Paced<'a, Connection>;

/// What an answer means.
enum Answer {
    /// A body follows.
    Body,
    /// The same is to be asked there.
    Redirect(String),
    /// A login is wanted.
    Login,
}

impl Answer {
    fn of(head: &Head) -> Result<Answer, HttpError> {
        match (head.status, &head.location) {
            // Proxies and microcontrollers say success in other words.
            (200..=299, _) => Ok(Answer::Body),
            (301 | 302 | 303 | 307 | 308, Some(place)) => Ok(Answer::Redirect(place.clone())),
            (401, _) => Ok(Answer::Login),
            (status, _) => Err(HttpError::Status {
                status,
                reason: head.reason.clone(),
            }),
        }
    }
}

/// A camera that is asked again and again, and what it has been found to want.
struct Asking<'a> {
    camera: &'a CameraUrl,
    patience: Patience,
    authentication: Authentication,
}

impl<'a> Asking<'a> {
    fn new(camera: &'a CameraUrl, patience: Patience) -> Asking<'a> {
        Asking {
            camera,
            patience,
            authentication: Authentication::new(camera.login()),
        }
    }

    /// Asks the camera, and whoever it redirects to.
    fn request<'w>(
        &mut self,
        wanted: &'w dyn Fn() -> bool,
    ) -> Result<Response<Wanted<'w>>, HttpError> {
        let first = self.camera.without_login();
        let mut url = first.clone();
        let (mut redirects, mut logins) = (0, Vec::new());
        let mut camera = None;
        // A name and a password stay with the camera that they were given for: another address has its own.
        let mut elsewhere: Option<Authentication> = None;
        loop {
            let kept_back = elsewhere.is_some() && self.camera.login().is_some();
            let authentication = elsewhere.as_mut().unwrap_or(&mut self.authentication);
            let Patience { quiet, trust } = self.patience;
            let (mut connection, address) = Connection::open(&url, trust, quiet, camera)?;
            camera.get_or_insert(address);
            let uri = uri(&url);
            connection.write_all(request_head(&url, &uri, authentication).as_bytes())?;
            connection.flush()?;
            let socket = connection.socket();
            let mut stream = Paced::new(connection, wanted);
            let (head, rest) = read_head(&mut stream)?;
            match Answer::of(&head)? {
                Answer::Body => return Ok(Response::new(&head, stream, rest).from(socket)),
                Answer::Login if kept_back => {
                    let host = url.host_str().unwrap_or_default().to_owned();
                    return Err(HttpError::LoginElsewhere(host));
                }
                Answer::Login if logins.len() < MAX_LOGINS => {
                    authentication.challenged(&head.challenges, &mut logins)?;
                }
                Answer::Login => return Err(HttpError::LoginRefused),
                Answer::Redirect(place) => {
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        return Err(HttpError::RedirectLoop);
                    }
                    let next = redirected(&url, place)?;
                    if same_origin(&next, &first) {
                        elsewhere = None;
                    } else {
                        elsewhere = Some(Authentication::new(None));
                    }
                    (url, logins) = (next, Vec::new());
                }
            }
        }
    }
}

/// Where a redirect from `url` to `place` leads.
fn redirected(url: &Url, place: String) -> Result<Url, HttpError> {
    match url.join(&place) {
        Ok(next) if matches!(next.scheme(), "http" | "https") => Ok(without_login(&next)),
        Ok(next) => Err(HttpError::RedirectScheme(next.scheme().to_owned())),
        Err(source) => Err(HttpError::BadRedirect {
            place: place.into(),
            source,
        }),
    }
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

fn without_login(url: &Url) -> Url {
    let mut bare = url.clone();
    // Only addresses without a host have no place for these, and those were refused.
    let _ = bare.set_password(None);
    let _ = bare.set_username("");
    bare
}

/// What is asked for at the host of `url`.
fn uri(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

/// The head of a request, with a login where one is known to be wanted.
fn request_head(url: &Url, uri: &str, authentication: &mut Authentication) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let login = authentication
        .header(uri)
        .map(|login| format!("Authorization: {login}\r\n"))
        .unwrap_or_default();
    format!(
        "GET {uri} HTTP/1.1\r\nHost: {host}{port}\r\n{login}Accept: multipart/x-mixed-replace, image/jpeg\r\n\
         User-Agent: edge-rlp\r\nConnection: close\r\n\r\n"
    )
}
