//! Downloads files: resumed where a connection broke, checked by size and SHA-256, bounded in bytes, redirects, time and
//! attempts. It is the only part of the program that touches the network. It must not know what the files are for, nor
//! read the environment.

mod answer;
mod part;

use crate::store::free_space;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::file_system::Disk;
use answer::Answer;
use part::Part;
use thiserror::Error;

/// How many redirects are followed, one after another.
pub const MAX_REDIRECTS: usize = 5;
/// The longest pause before another attempt, also where a server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An attempt that brought so much more was no failure: the count starts anew.
const WORTHWHILE: u64 = 1 << 20;
/// Free space that is left alone.
const SPARE: u64 = 32 << 20;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Sha256> {
        let text = text.as_bytes();
        if text.len() != 64 || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.chunks(2)) {
            *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Sha256(bytes))
    }

    /// Of everything that can be read.
    pub fn of(mut content: impl Read) -> io::Result<Sha256> {
        use sha2::Digest as _;
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match content.read(&mut buffer)? {
                0 => return Ok(Sha256(hasher.finalize().into())),
                read => hasher.update(&buffer[..read]),
            }
        }
    }
}

impl std::fmt::Display for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sha256({self})")
    }
}

/// Why a file could not be downloaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DownloadError {
    #[error("{url:?} is not a URL that can be downloaded from: {what}")]
    Url { url: String, what: &'static str },
    #[error("the proxy that is set for {scheme} is no proxy's address: correct it, or unset it")]
    Proxy { scheme: &'static str },
    #[error("{url} does not exist (status {status})")]
    NotFound { url: String, status: u16 },
    #[error(
        "the server does not give {url} away (status {status}): it is private, or does not exist"
    )]
    Refused { url: String, status: u16 },
    #[error("the server answers {url} with status {status}, which is of no use")]
    Status { url: String, status: u16 },
    #[error("{url} is not followed: {what}")]
    Redirect { url: String, what: &'static str },
    #[error("{url} cannot be reached: {reason}")]
    Connection { url: String, reason: String },
    #[error("{url} has {} bytes, more than the {most} that are allowed", .bytes.map_or("too many".into(), |n| n.to_string()))]
    TooLarge {
        url: String,
        bytes: Option<u64>,
        most: u64,
    },
    #[error("{} has room for {free} bytes and {url} needs {needed}: make room, or choose another folder with --home", folder.display())]
    DiskFull {
        url: String,
        folder: PathBuf,
        needed: u64,
        free: u64,
    },
    #[error(
        "{url} arrived with another checksum than it should have (SHA-256 {found}, not {expected}); it is thrown away"
    )]
    Checksum {
        url: String,
        expected: Sha256,
        found: Sha256,
    },
    #[error(
        "{url} did not arrive in {attempts} attempts, the last one because {reason}{}",
        if *kept > 0 { format!("; {kept} bytes are kept: run the same command again to go on") } else { String::new() }
    )]
    GaveUp {
        url: String,
        attempts: u32,
        reason: String,
        kept: u64,
    },
    #[error("stopped; {kept} bytes of {url} are kept: run the same command again to go on")]
    Stopped { url: String, kept: u64 },
    #[error("{} is being downloaded by another process: wait for it to end", path.display())]
    Busy { path: PathBuf },
    #[error("cannot write {}: {source}; what has arrived is kept", path.display())]
    Write { path: PathBuf, source: io::Error },
}

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

/// How patient a client is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For a connection to come about, all addresses of a host together.
    pub connect: Duration,
    /// Without a single byte.
    pub stall: Duration,
    /// Before the second attempt; twice as long before each one after that.
    pub pause: Duration,
    /// How often to try without getting on.
    pub attempts: u32,
    pub proxies: Proxies,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
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
pub struct Wanted<'a> {
    pub url: &'a str,
    /// Where it shall lie, in a folder that exists. Until it is whole, `TARGET.part` grows beside it.
    pub target: &'a Path,
    /// What it must hash to; where this is open, what the server says of it.
    pub sha256: Option<Sha256>,
    /// More bytes than this are refused.
    pub most: u64,
}

/// A file that is there, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub bytes: u64,
    /// What it was checked against; nothing where neither the caller nor the server knew.
    pub sha256: Option<Sha256>,
    /// How many of the bytes were there before.
    pub kept: u64,
}

/// Told how many bytes are there and, if known, how many there will be; breaking off stops the download.
pub type Progress<'a> = dyn FnMut(u64, Option<u64>) -> ControlFlow<()> + 'a;

/// Downloads files.
pub struct Client {
    http: ureq::Agent,
    https: ureq::Agent,
    settings: Settings,
}

/// How an attempt failed.
enum Failure {
    /// Another one may succeed, not before the time that the server asks for.
    Passing(String, Option<Duration>),
    Final(DownloadError),
}

impl From<DownloadError> for Failure {
    fn from(error: DownloadError) -> Failure {
        Failure::Final(error)
    }
}

impl Client {
    /// A client; nothing is connected yet.
    pub fn new(settings: Settings) -> Result<Client, DownloadError> {
        let agent = |scheme, proxy: &Option<String>| -> Result<ureq::Agent, DownloadError> {
            let proxy = proxy
                .as_deref()
                .map(|address| answer::proxy(address, &settings.proxies.direct))
                .transpose()
                .map_err(|_| DownloadError::Proxy { scheme })?;
            let config = ureq::Agent::config_builder()
                .proxy(proxy)
                .http_status_as_error(false)
                // Followed here, because what is on the way says what the file must hash to.
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("edge-rlp/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(settings.connect))
                .timeout_connect(Some(settings.connect))
                .timeout_per_read(Some(settings.stall))
                .timeout_per_write(Some(settings.stall))
                .build();
            Ok(config.into())
        };
        Ok(Client {
            http: agent("http", &settings.proxies.http)?,
            https: agent("https", &settings.proxies.https)?,
            settings,
        })
    }

    /// Brings a file to its target. What an earlier call left unfinished is gone on with, as far as the file is still
    /// the same; a target that is there and still what the server has is left alone.
    pub fn fetch(&self, wanted: Wanted, progress: &mut Progress) -> Result<Fetched, DownloadError> {
        let mut part = Part::open(&Disk, wanted.target, wanted.url)?;
        let kept = part.length();
        let mut afresh = kept == 0;
        let (mut failures, mut pause) = (0, self.settings.pause);
        loop {
            let before = part.length();
            let failure = match self.attempt(wanted, &mut part, progress) {
                Ok(Some(fetched)) => return Ok(fetched),
                Ok(None) => match self.finish(wanted, &mut part) {
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
                Failure::Final(error) => return Err(error),
                Failure::Passing(reason, asked) => (reason, asked),
            };
            afresh = false;
            if part.length() >= before + WORTHWHILE {
                (failures, pause) = (0, self.settings.pause);
            }
            failures += 1;
            if failures >= self.settings.attempts {
                return Err(DownloadError::GaveUp {
                    url: wanted.url.into(),
                    attempts: failures,
                    reason,
                    kept: part.length(),
                });
            }
            let wait = asked
                .map_or(pause, |asked| asked.max(pause))
                .min(LONGEST_PAUSE);
            wait_for(wait, part.length(), progress).map_err(|()| DownloadError::Stopped {
                url: wanted.url.into(),
                kept: part.length(),
            })?;
            pause *= 2;
        }
    }

    /// One request and what comes of it, appended to the part; something where the target is there already.
    fn attempt(
        &self,
        wanted: Wanted,
        part: &mut Part,
        progress: &mut Progress,
    ) -> Result<Option<Fetched>, Failure> {
        let Answer {
            url,
            response,
            sha256,
        } = self.ask(wanted.url, part)?;
        let found = answer::Content::of(&response);
        let expected = wanted.sha256.or(sha256);
        if let Some(bytes) = part.whole(expected, found.validator.as_deref()) {
            return Ok(Some(Fetched {
                bytes,
                sha256: expected,
                kept: bytes,
            }));
        }
        let total = match response.status().as_u16() {
            200 => {
                part.restart(found.validator, expected)?;
                found.length
            }
            206 if found.start == Some(part.length()) => found.total,
            416 if part.length() > 0 && found.total == Some(part.length()) => {
                part.expect(expected);
                return Ok(None);
            }
            206 | 416 => {
                part.restart(None, None)?;
                return Err(Failure::Passing(
                    "the server has another file now".into(),
                    None,
                ));
            }
            status @ (404 | 410) => Err(DownloadError::NotFound {
                url: wanted.url.into(),
                status,
            })?,
            status @ (401 | 403) => Err(DownloadError::Refused {
                url: wanted.url.into(),
                status,
            })?,
            status @ (408 | 425 | 429 | 500..) => {
                let reason = format!("the server answered with status {status}");
                return Err(Failure::Passing(reason, found.retry_after));
            }
            status => Err(DownloadError::Status {
                url: wanted.url.into(),
                status,
            })?,
        };
        part.expect(expected);
        let too_large = |bytes| DownloadError::TooLarge {
            url: wanted.url.into(),
            bytes,
            most: wanted.most,
        };
        if let Some(total) = total {
            if total > wanted.most {
                return Err(too_large(Some(total)).into());
            }
            check_room(wanted, total.saturating_sub(part.length()))?;
        }

        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            if progress(part.length(), total).is_break() {
                return Err(DownloadError::Stopped {
                    url: wanted.url.into(),
                    kept: part.length(),
                }
                .into());
            }
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => return Err(answer::failure(&url, error.into())),
            };
            if part.length() + read as u64 > wanted.most {
                part.restart(None, None)?;
                return Err(too_large(None).into());
            }
            part.append(&buffer[..read])?;
        }
        match total {
            Some(total) if total != part.length() => {
                let reason = format!("it ended after {} of {total} bytes", part.length());
                Err(Failure::Passing(reason, None))
            }
            _ => Ok(None),
        }
    }

    /// Asks for what the part lacks, following redirects.
    fn ask(&self, url: &str, part: &Part) -> Result<Answer, Failure> {
        let mut url = url.to_owned();
        let mut sha256 = None;
        for _ in 0..=MAX_REDIRECTS {
            let agent = match answer::scheme(&url)? {
                "https" => &self.https,
                _ => &self.http,
            };
            let mut request = agent.get(&url).header("Accept-Encoding", "identity");
            if let Some((from, validator)) = part.resumable() {
                request = request
                    .header("Range", format!("bytes={from}-"))
                    .header("If-Range", validator);
            }
            let response = request
                .call()
                .map_err(|error| answer::failure(&url, error))?;
            sha256 = answer::linked_sha256(response.headers()).or(sha256);
            if !response.status().is_redirection() {
                return Ok(Answer {
                    url,
                    response,
                    sha256,
                });
            }
            url = answer::next(&url, response.headers())?;
        }
        Err(DownloadError::Redirect {
            url,
            what: "there are too many redirects",
        }
        .into())
    }

    /// Checks what has arrived and puts it at its target.
    fn finish(&self, wanted: Wanted, part: &mut Part) -> Result<Fetched, DownloadError> {
        if let Some(expected) = part.expected() {
            let found = part.sha256()?;
            if found != expected {
                part.restart(None, None)?;
                return Err(DownloadError::Checksum {
                    url: wanted.url.into(),
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

/// Sleeps, but not longer than progress goes on.
fn wait_for(time: Duration, length: u64, progress: &mut Progress) -> Result<(), ()> {
    let end = std::time::Instant::now() + time;
    loop {
        if progress(length, None).is_break() {
            return Err(());
        }
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// Whether the disk has room for `needed` bytes more, as far as the system tells.
fn check_room(wanted: Wanted, needed: u64) -> Result<(), DownloadError> {
    let folder = wanted.target.parent().unwrap_or(Path::new("."));
    match free_space(folder) {
        Some(free) if free < needed.saturating_add(SPARE) => Err(DownloadError::DiskFull {
            url: wanted.url.into(),
            folder: folder.into(),
            needed: needed.saturating_add(SPARE),
            free,
        }),
        _ => Ok(()),
    }
}
