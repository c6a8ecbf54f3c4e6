//! What a server's answer says: status, headers, where to look next, and whether another attempt is worth it. It must
//! not know files.

use std::time::Duration;

use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Body, Error, Proxy};

use super::resolver::Unreachable;
use super::{DownloadError, Failure, Sha256};

/// The answer at the end of the redirects.
pub struct Answer {
    /// Where it came from.
    pub url: String,
    pub response: Response<Body>,
    /// What the file hashes to, as a hub said on the way.
    pub sha256: Option<Sha256>,
}

/// What headers say of a body.
pub struct Content {
    /// Of the body itself.
    pub length: Option<u64>,
    /// Where in the file a partial body begins.
    pub start: Option<u64>,
    /// Of the whole file, as a partial answer says.
    pub total: Option<u64>,
    /// Tells this version of the file from every other, byte by byte.
    pub validator: Option<String>,
    pub retry_after: Option<Duration>,
}

impl Content {
    pub fn of(response: &Response<Body>) -> Content {
        let headers = response.headers();
        let (start, total) =
            match text(headers, "content-range").and_then(|it| it.strip_prefix("bytes ")) {
                Some(range) => {
                    let (span, total) = range.split_once('/').unwrap_or((range, "*"));
                    let start = span.split('-').next().and_then(|start| start.parse().ok());
                    (start, total.trim().parse().ok())
                }
                None => (None, None),
            };
        let strong = text(headers, "etag").filter(|etag| etag.starts_with('"'));
        Content {
            length: text(headers, "content-length").and_then(|length| length.parse().ok()),
            start,
            total,
            validator: strong
                .or_else(|| text(headers, "last-modified"))
                .map(str::to_owned),
            retry_after: text(headers, "retry-after")
                .and_then(|seconds| seconds.parse().ok())
                .map(Duration::from_secs),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The SHA-256 that Hugging Face's hub gives as the ETag of a large file: on the redirect to where the file lies, or,
/// known by the commit that it names as well, on the file itself. Other servers' ETags mean nothing to us.
pub fn linked_sha256(headers: &HeaderMap) -> Option<Sha256> {
    let hub = headers.contains_key("x-repo-commit");
    let own = || text(headers, "etag").filter(|_| hub);
    let etag = text(headers, "x-linked-etag").or_else(own)?;
    Sha256::from_hex(etag.trim_start_matches("W/").trim_matches('"'))
}

/// The scheme of a URL that can be downloaded from.
pub fn scheme(url: &str) -> Result<&'static str, DownloadError> {
    let bad = |what| DownloadError::Url {
        url: url.into(),
        what,
    };
    let uri: Uri = url
        .parse()
        .map_err(|_| bad("it has characters that cannot be in a URL, or lacks a part"))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("it names no host"));
    }
    match uri.scheme_str() {
        Some("https") => Ok("https"),
        Some("http") => Ok("http"),
        _ => Err(bad("it does not begin with https:// or http://")),
    }
}

/// The host of a URL; nothing where it has none.
pub fn host(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    uri.and_then(|uri| uri.host().map(str::to_owned))
        .unwrap_or_default()
}

/// Where a redirect leads.
pub fn next(url: &str, headers: &HeaderMap) -> Result<String, DownloadError> {
    let bad = |what| DownloadError::Redirect {
        url: url.into(),
        what,
    };
    let location = text(headers, "location").ok_or_else(|| bad("its redirect leads nowhere"))?;
    let location = location.split('#').next().unwrap_or_default();
    let scheme_here = scheme(url)?;
    let absolute = ["http://", "https://"]
        .iter()
        .any(|start| location.to_ascii_lowercase().starts_with(start));
    let rest = &url[scheme_here.len() + 3..];
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = path.split('?').next().unwrap_or_default();
    let joined = if absolute {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme_here}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme_here}://{host}{location}")
    } else {
        let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
        format!("{scheme_here}://{host}{folder}{location}")
    };
    match (scheme_here, scheme(&joined)?) {
        ("https", "http") => Err(bad("its redirect leaves https")),
        _ => Ok(joined),
    }
}

/// Whether another attempt may succeed after an error, and what it says.
pub fn failure(url: &str, error: Error) -> Failure {
    let reason = match &error {
        Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            "the connection took too long".to_owned()
        }
        Error::Timeout(_) => "nothing came for too long".to_owned(),
        Error::HostNotFound => "its host was not found".to_owned(),
        Error::ConnectionFailed => "the connection failed".to_owned(),
        Error::ConnectProxyFailed(reason) => format!("the proxy refused: {reason}"),
        Error::Io(error) if Unreachable::is(error) => {
            let what = Unreachable::WORDS;
            return Failure::Permanent(DownloadError::Redirect {
                url: url.into(),
                what,
            });
        }
        Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the connection was cut".to_owned()
        }
        Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            // What TLS says of a certificate does not change by asking again.
            return Failure::Permanent(DownloadError::Connection {
                url: url.into(),
                reason: error.to_string(),
            });
        }
        Error::Io(error) => error.to_string(),
        Error::Protocol(error) => format!("the server does not speak HTTP properly: {error}"),
        error => {
            return Failure::Permanent(DownloadError::Connection {
                url: url.into(),
                reason: error.to_string(),
            });
        }
    };
    Failure::Transient(reason, None)
}

/// The proxy at `address`, not used for the hosts of `direct`.
pub fn proxy(address: &str, direct: &[String]) -> Result<Proxy, Error> {
    let given = Proxy::new(address)?;
    let mut builder = Proxy::builder(given.protocol())
        .host(given.host())
        .port(given.port());
    if let Some(name) = given.username() {
        builder = builder.username(name);
    }
    if let Some(password) = given.password() {
        builder = builder.password(password);
    }
    for host in direct.iter().map(|host| host.trim()) {
        builder = builder.no_proxy(host);
        if !host.starts_with(['.', '*']) {
            builder = builder.no_proxy(&format!(".{host}"));
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirected(url: &str, location: &str) -> Result<String, DownloadError> {
        let mut headers = HeaderMap::new();
        headers.insert("location", location.parse().unwrap());
        next(url, &headers)
    }

    #[test]
    fn redirects_are_joined_as_browsers_do() {
        let from = "https://hub.example:8443/a/b/c?x=1";
        for (location, to) in [
            (
                "https://cdn.example/f?sig=a%2Fb",
                "https://cdn.example/f?sig=a%2Fb",
            ),
            ("//cdn.example/f", "https://cdn.example/f"),
            ("/api/f?y=2#z", "https://hub.example:8443/api/f?y=2"),
            ("d/e", "https://hub.example:8443/a/b/d/e"),
        ] {
            assert_eq!(redirected(from, location).unwrap(), to, "{location}");
        }
        assert_eq!(
            redirected("http://h.example", "x").unwrap(),
            "http://h.example/x"
        );
        assert!(redirected(from, "http://cdn.example/f").is_err());
        assert!(
            redirected(from, "file:///etc/passwd").is_ok_and(|url| url.starts_with("https://hub"))
        );
        assert!(next(from, &HeaderMap::new()).is_err());
    }

    #[test]
    fn only_http_and_https_urls_with_a_host_are_taken() {
        assert_eq!(scheme("http://127.0.0.1:80/x").unwrap(), "http");
        for url in [
            "ftp://h/x",
            "h.example/x",
            "https://",
            "http:///x",
            "https://h/a b",
            "file:///x",
            "",
        ] {
            assert!(scheme(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_checksum_is_believed_from_a_hub_only() {
        let digest = "a".repeat(64);
        let sha = |pairs: &[(&'static str, String)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            linked_sha256(&headers)
        };
        let quoted = format!("\"{digest}\"");
        assert!(sha(&[("x-linked-etag", quoted.clone())]).is_some());
        assert!(sha(&[("etag", quoted.clone())]).is_none());
        assert!(sha(&[("etag", quoted), ("x-repo-commit", "c".into())]).is_some());
        assert!(sha(&[("etag", "\"abc\"".into()), ("x-repo-commit", "c".into())]).is_none());
    }

    #[test]
    fn a_proxy_is_left_out_for_hosts_and_all_below_them() {
        let direct = ["example.com".into(), " .local".into(), "10.0.0.1".into()];
        let proxy = proxy("http://user:p%40ss@proxy.example:3128", &direct).unwrap();
        assert_eq!(
            (proxy.host(), proxy.port(), proxy.password()),
            ("proxy.example", 3128, Some("p@ss"))
        );
        for (url, left_out) in [
            ("https://example.com/", true),
            ("https://a.example.com/", true),
            ("https://notexample.com/", false),
            ("http://box.local/", true),
            ("http://10.0.0.1/", true),
            ("http://10.0.0.2/", false),
        ] {
            assert_eq!(proxy.is_no_proxy(&url.parse().unwrap()), left_out, "{url}");
        }
    }
}
