//! Downloads files: resumed where a connection broke, checked by size and SHA-256, bounded in bytes, redirects, time and
//! attempts. It must not read the environment: proxies come as options.

mod answer;
mod error;
mod part;
mod progress;
mod resolver;
mod sha256;

use crate::masked::ShownUrl;
use crate::reach;
use crate::store::free_space;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::store::file_system::Disk;
use answer::{Answer, Content};
pub use error::DownloadError;
use part::Part;
use progress::wait_for;
pub use progress::{Progress, Step};
use resolver::{Reachable, Unreachable};
#[doc(hidden)]
pub use sha256::Sha256;
use ureq::unversioned::transport::DefaultConnector;

/// How many redirects are followed, one after another.
pub const MAX_REDIRECTS: usize = 5;
/// The longest pause before another attempt, also where a server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After an attempt that brought this many bytes more, failures are counted from zero again.
const WORTHWHILE: u64 = 1 << 20;
/// Free space that is left alone.
const SPARE: u64 = 32 << 20;

/// Through which proxies to go; none where nothing is set.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For `http://`.
    pub http: Option<String>,
    /// For `https://`.
    pub https: Option<String>,
    /// Hosts that are reached directly, with all below them; `*` for all.
    pub direct: Vec<String>,
}

impl Proxies {
    fn any(&self) -> bool {
        self.http.is_some() || self.https.is_some()
    }
}

/// How long a client waits, how often it tries, and through which proxies it goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The longest wait for a connection, all addresses of a host together; 15 seconds by default.
    pub connect: Duration,
    /// The longest wait for another byte; 60 seconds by default.
    pub stall: Duration,
    /// The wait before the second attempt, twice as long before each one after that; one second by default.
    pub pause: Duration,
    /// How many attempts that bring nothing to make; six by default.
    pub attempts: u32,
    /// None by default.
    pub proxies: Proxies,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(60),
            pause: Duration::from_secs(1),
            attempts: 6,
            proxies: Proxies::default(),
        }
    }
}

/// A file to download.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The address: `http://` or `https://`.
    pub url: &'a str,
    /// Where it is put, in a folder that exists. Until it is whole, `TARGET.part` grows beside it.
    pub target: &'a Path,
    /// What it must hash to; where this is open, what the server says of it.
    pub sha256: Option<Sha256>,
    /// More bytes than this are refused.
    pub most: u64,
}

/// A file that is there, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// Size of the file.
    pub bytes: u64,
    /// What it was checked against; nothing where neither the caller nor the server knew.
    pub sha256: Option<Sha256>,
    /// How many of the bytes were there before.
    pub kept: u64,
}

/// Downloads files.
pub struct Client {
    http: ureq::Agent,
    https: ureq::Agent,
    options: ClientOptions,
}

/// How an attempt failed.
enum Failure {
    /// Another one may succeed, after the pause that the server asks for.
    Transient(String, Option<Duration>),
    Permanent(DownloadError),
}

impl From<DownloadError> for Failure {
    fn from(error: DownloadError) -> Failure {
        Failure::Permanent(error)
    }
}

impl Client {
    /// A client; nothing is connected yet.
    pub fn new(options: ClientOptions) -> Result<Client, DownloadError> {
        let agent = |scheme, proxy: &Option<String>| -> Result<ureq::Agent, DownloadError> {
            let proxy = proxy
                .as_deref()
                .map(|address| answer::proxy(address, &options.proxies.direct))
                .transpose()
                .map_err(|_| DownloadError::Proxy { scheme })?;
            let config = ureq::Agent::config_builder()
                .proxy(proxy)
                .http_status_as_error(false)
                // Followed here, because what is on the way says what the file must hash to.
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("edge-rlp/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(options.connect))
                .timeout_connect(Some(options.connect))
                .timeout_per_read(Some(options.stall))
                .timeout_per_write(Some(options.stall))
                .build();
            let connector = DefaultConnector::default();
            Ok(ureq::Agent::with_parts(
                config,
                connector,
                Reachable::default(),
            ))
        };
        Ok(Client {
            http: agent("http", &options.proxies.http)?,
            https: agent("https", &options.proxies.https)?,
            options,
        })
    }

    /// Downloads a file to its target. An unfinished download is resumed if the server still has the same file; a target
    /// that is complete and still what the server has is left alone.
    ///
    /// # Errors
    /// A server that cannot be reached or refuses, a file that is too large, does not fit the disk or has another checksum,
    /// and a stop by `progress`.
    pub fn fetch(
        &self,
        request: Request,
        progress: &mut Progress,
    ) -> Result<Fetched, DownloadError> {
        let mut part = Part::open(&Disk, request.target, request.url)?;
        let kept = part.length();
        let mut afresh = kept == 0;
        let (mut failures, mut pause) = (0, self.options.pause);
        loop {
            let before = part.length();
            let failure = match self.attempt(request, &mut part, progress) {
                Ok(Some(fetched)) => return Ok(fetched),
                Ok(None) => match self.finish(request, &mut part) {
                    // What was resumed may have been another file's beginning.
                    Err(DownloadError::Checksum { .. }) if !afresh => {
                        afresh = true;
                        continue;
                    }
                    result => return result.map(|fetched| Fetched { kept, ..fetched }),
                },
                Err(failure) => failure,
            };
            part.checkpoint()?;
            let (reason, asked) = match failure {
                Failure::Permanent(error) => return Err(error),
                Failure::Transient(reason, asked) => (reason, asked),
            };
            afresh = false;
            if part.length() >= before + WORTHWHILE {
                (failures, pause) = (0, self.options.pause);
            }
            failures += 1;
            if failures >= self.options.attempts {
                return Err(DownloadError::GaveUp {
                    url: request.url.into(),
                    attempts: failures,
                    reason,
                    kept: part.length(),
                });
            }
            let wait = asked
                .map_or(pause, |asked| asked.max(pause))
                .min(LONGEST_PAUSE);
            let again = Step::Again {
                reason: &reason,
                pause: wait,
            };
            let stopped = progress(again).is_break();
            if stopped || wait_for(wait, part.length(), progress).is_err() {
                return Err(DownloadError::Stopped {
                    url: request.url.into(),
                    kept: part.length(),
                });
            }
            pause *= 2;
        }
    }

    /// One request and what comes of it, appended to the part; something where the target is there already.
    fn attempt(
        &self,
        request: Request,
        part: &mut Part,
        progress: &mut Progress,
    ) -> Result<Option<Fetched>, Failure> {
        let answer = self.ask(request.url, part)?;
        let content = Content::of(&answer.response);
        let expected = request.sha256.or(answer.sha256);
        if let Some(bytes) = part.whole(expected, content.validator.as_deref()) {
            return Ok(Some(Fetched {
                bytes,
                sha256: expected,
                kept: bytes,
            }));
        }
        let status = answer.response.status().as_u16();
        let rest = rest(request, part, status, content, expected)?;
        part.expect(expected);
        match rest {
            Rest::Nothing => {}
            Rest::Bytes { total } => {
                check_size(request, part, total)?;
                receive(request, part, answer, total, progress)?;
            }
        }
        Ok(None)
    }

    /// Asks for what the part lacks, following redirects.
    fn ask(&self, url: &str, part: &Part) -> Result<Answer, Failure> {
        let mut url = url.to_owned();
        let mut sha256 = None;
        let first = answer::host(&url);
        resolver::begin();
        for _ in 0..=MAX_REDIRECTS {
            let agent = match answer::scheme(&url)? {
                "https" => &self.https,
                _ => &self.http,
            };
            let mut get = agent.get(&url).header("Accept-Encoding", "identity");
            if let Some((from, validator)) = part.resumable() {
                get = get
                    .header("Range", format!("bytes={from}-"))
                    .header("If-Range", validator);
            }
            let response = get.call().map_err(|error| answer::failure(&url, error))?;
            sha256 = answer::linked_sha256(response.headers()).or(sha256);
            if !response.status().is_redirection() {
                return Ok(Answer {
                    url,
                    response,
                    sha256,
                });
            }
            let next = answer::next(&url, response.headers())?;
            // A proxy looks names up by itself; else the address is judged that is connected to.
            if self.options.proxies.any() && !reach::may_name(&first, &answer::host(&next)) {
                let what = Unreachable::WORDS;
                return Err(DownloadError::Redirect {
                    url: url.into(),
                    what,
                }
                .into());
            }
            resolver::redirected();
            url = next;
        }
        Err(DownloadError::Redirect {
            url: url.into(),
            what: "there are too many redirects",
        }
        .into())
    }

    /// Checks what has arrived and puts it at its target.
    fn finish(&self, request: Request, part: &mut Part) -> Result<Fetched, DownloadError> {
        if let Some(expected) = part.expected() {
            let found = part.sha256()?;
            if found != expected {
                part.restart(None, None)?;
                return Err(DownloadError::Checksum {
                    url: request.url.into(),
                    expected,
                    found,
                });
            }
        }
        part.finish()?;
        Ok(Fetched {
            bytes: part.length(),
            sha256: part.expected(),
            kept: 0,
        })
    }
}

/// What a server still sends of a file.
enum Rest {
    Nothing,
    Bytes {
        /// Of the whole file, where the server says so.
        total: Option<u64>,
    },
}

/// What an answer with `status` brings; the part is cut to where that begins.
fn rest(
    request: Request,
    part: &mut Part,
    status: u16,
    content: Content,
    expected: Option<Sha256>,
) -> Result<Rest, Failure> {
    let url = || ShownUrl::from(request.url);
    let refused = match status {
        200 => {
            part.restart(content.validator, expected)?;
            let total = content.length;
            return Ok(Rest::Bytes { total });
        }
        206 if content.start == Some(part.length()) => {
            let total = content.total;
            return Ok(Rest::Bytes { total });
        }
        416 if part.length() > 0 && content.total == Some(part.length()) => {
            return Ok(Rest::Nothing);
        }
        206 | 416 => {
            part.restart(None, None)?;
            let reason = "the server has another file now".into();
            return Err(Failure::Transient(reason, None));
        }
        408 | 425 | 429 | 500.. => {
            let reason = format!("the server answered with status {status}");
            return Err(Failure::Transient(reason, content.retry_after));
        }
        404 | 410 => DownloadError::NotFound { url: url(), status },
        401 | 403 => DownloadError::Refused { url: url(), status },
        _ => DownloadError::Status { url: url(), status },
    };
    Err(refused.into())
}

fn too_large(request: Request, bytes: Option<u64>) -> DownloadError {
    DownloadError::TooLarge {
        url: request.url.into(),
        bytes,
        most: request.most,
    }
}

/// Refuses a file of `total` bytes that is too large for the caller or for the disk.
fn check_size(request: Request, part: &Part, total: Option<u64>) -> Result<(), DownloadError> {
    let Some(total) = total else { return Ok(()) };
    if total > request.most {
        return Err(too_large(request, Some(total)));
    }
    check_room(request, total.saturating_sub(part.length()))
}

/// Appends the body of an answer to the part.
fn receive(
    request: Request,
    part: &mut Part,
    answer: Answer,
    total: Option<u64>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut body = answer.response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let there = part.length();
        if progress(Step::Bytes { there, total }).is_break() {
            return Err(DownloadError::Stopped {
                url: request.url.into(),
                kept: part.length(),
            }
            .into());
        }
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => return Err(answer::failure(&answer.url, error.into())),
        };
        if part.length() + read as u64 > request.most {
            part.restart(None, None)?;
            return Err(too_large(request, None).into());
        }
        part.append(&buffer[..read])?;
    }
    match total {
        Some(total) if total != part.length() => {
            let reason = format!("it ended after {} of {total} bytes", part.length());
            Err(Failure::Transient(reason, None))
        }
        _ => Ok(()),
    }
}

/// Refuses a file that the disk has no room for, as far as the system says.
fn check_room(request: Request, needed: u64) -> Result<(), DownloadError> {
    let folder = request.target.parent().unwrap_or(Path::new("."));
    match free_space(folder) {
        Some(free) if free < needed.saturating_add(SPARE) => Err(DownloadError::DiskFull {
            url: request.url.into(),
            folder: folder.into(),
            needed: needed.saturating_add(SPARE),
            free,
        }),
        _ => Ok(()),
    }
}
