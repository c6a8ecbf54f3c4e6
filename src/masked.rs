//! Addresses as they may be shown: without names, passwords and tokens. Whatever prints an address, in a message, as JSON, to
//! a command or to a log, holds a [`ShownUrl`], from which nothing can be got back.

use std::fmt;

/// What stands for a secret.
const MASK: &str = "***";
/// Values of at least so many letters and digits are taken for tokens, whatever they are called.
const TOKEN: usize = 20;

/// An address without its secrets: the user and password before the host, and the values in its path, query and fragment
/// that are called like a secret or look like one.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownUrl(String);

impl From<&str> for ShownUrl {
    fn from(url: &str) -> ShownUrl {
        ShownUrl(masked(url))
    }
}

impl From<String> for ShownUrl {
    fn from(url: String) -> ShownUrl {
        url.as_str().into()
    }
}

impl From<&String> for ShownUrl {
    fn from(url: &String) -> ShownUrl {
        url.as_str().into()
    }
}

impl fmt::Display for ShownUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for ShownUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.0)
    }
}

/// `url`, or what was meant to be one, without its secrets. What stands before an `@` counts as one even where a sign in it
/// makes the address unreadable.
pub fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // No address: perhaps one whose scheme was left out.
        return match url.rfind('@') {
            Some(at) => format!("{MASK}{}", masked_values(&url[at..])),
            None => masked_values(url),
        };
    };
    let (user, rest) = rest.split_at(end_of_user(rest));
    let user = if user.is_empty() { "" } else { MASK };
    format!("{scheme}://{user}{}", masked_values(rest))
}

/// Whether `url` has a user, or a password, before its host.
pub fn has_user(url: &str) -> bool {
    url.split_once("://")
        .is_some_and(|(_, rest)| end_of_user(rest) > 0)
}

/// Where in what follows `://` the user and the password end: at an `@`, or at the end where they seem to be all there is.
fn end_of_user(rest: &str) -> usize {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let last = rest.rfind('@');
    if let Some(at) = authority.rfind('@') {
        return at;
    }
    // A password with one of those signs in it ends the host too early: what is left of it is no port, or what follows the @
    // is a host.
    let port = match authority.rsplit_once(':') {
        Some((host, port)) if !host.starts_with('[') || host.ends_with(']') => Some(port),
        _ => None,
    };
    match (port, last) {
        (Some(port), _) if !port.bytes().all(|digit| digit.is_ascii_digit()) => {
            last.unwrap_or(authority.len())
        }
        (Some(_), Some(at)) if begins_with_host(&rest[at + 1..]) => at,
        _ => 0,
    }
}

/// Whether `text` begins like a host and what follows one.
fn begins_with_host(text: &str) -> bool {
    let end = text.find(['/', ':', '?']).unwrap_or(text.len());
    let host = &text[..end];
    host.parse::<std::net::Ipv4Addr>().is_ok()
        || host == "localhost"
        || (end < text.len() && host.contains('.'))
}

/// All of `text` that follows a host, with the values of `name=value` masked that are secrets.
fn masked_values(text: &str) -> String {
    let mut shown = String::new();
    for part in text.split_inclusive(['/', '?', '#', '&', ';', ',']) {
        let end = part.trim_end_matches(['/', '?', '#', '&', ';', ',']).len();
        let (part, separator) = part.split_at(end);
        shown += &masked_pairs(part);
        shown += separator;
    }
    shown
}

/// One part between separators: a word, `name=value`, or several of these joined by `_`, as some cameras have them.
fn masked_pairs(part: &str) -> String {
    let Some((name, mut rest)) = part.split_once('=') else {
        return if is_token(part) {
            MASK.into()
        } else {
            part.into()
        };
    };
    let (mut shown, mut name) = (String::new(), name);
    loop {
        // The value ends where the name of the next one begins.
        let next = rest.find('=').and_then(|equals| {
            let begin = rest[..equals].rfind('_')?;
            (begin + 1 < equals).then_some((begin, equals))
        });
        let value = &rest[..next.map_or(rest.len(), |(begin, _)| begin)];
        let secret = !value.is_empty() && (is_secret(name) || is_token(value) || holds_user(value));
        shown += name;
        shown += "=";
        shown += if secret { MASK } else { value };
        match next {
            Some((begin, equals)) => {
                shown += "_";
                name = &rest[begin + 1..equals];
                rest = &rest[equals + 1..];
            }
            None => return shown,
        }
    }
}

/// Whether a value of this name is a secret, or a user's name.
fn is_secret(name: &str) -> bool {
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase();
    const WHOLE: [&str; 7] = ["u", "p", "pw", "pin", "sid", "code", "jwt"];
    const PARTS: [&str; 15] = [
        "pass",
        "pwd",
        "psw",
        "passwd",
        "secret",
        "token",
        "key",
        "auth",
        "sig",
        "credential",
        "session",
        "login",
        "user",
        "usr",
        "hash",
    ];
    WHOLE.contains(&name.as_str()) || PARTS.iter().any(|part| name.contains(part))
}

/// Whether `value` looks like what a machine made up.
fn is_token(value: &str) -> bool {
    let (mut letters, mut digits) = (0, 0);
    for c in value.chars() {
        match c {
            'a'..='z' | 'A'..='Z' => letters += 1,
            '0'..='9' => digits += 1,
            '+' | '=' | '%' | '~' => {}
            // Words and sizes are joined by these; tokens of some kinds too.
            '-' | '_' | '.' => {}
            _ => return false,
        }
    }
    // A date and time has more digits than letters, a name with a number more letters than digits.
    let longest = value
        .split(['-', '_', '.'])
        .map(str::len)
        .max()
        .unwrap_or(0);
    longest >= TOKEN && letters >= 3 && digits >= 3
}

/// Whether `value` is an address with a user of its own.
fn holds_user(value: &str) -> bool {
    value.contains('@') || value.to_ascii_lowercase().contains("%40")
}

/// `text` with every address in it masked: for what others wrote, and may have put one into.
pub fn mask_urls(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let begin = rest[..at].trim_end_matches(scheme).len();
        let from = &rest[begin..];
        let end = from.find(char::is_whitespace).unwrap_or(from.len());
        let end = from[..end]
            .trim_end_matches(['\'', '"', '.', ',', ';', ':', ')', ']', '>', '`'])
            .len()
            .max(at - begin + 3);
        shown += &rest[..begin];
        shown += &masked(&from[..end]);
        rest = &from[end..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_an_address_is_shown() {
        for (url, shown) in [
            (
                "http://admin:s3cret@cam.local/video",
                "http://***@cam.local/video",
            ),
            (
                "https://admin@cam.local:8443/a?b=c",
                "https://***@cam.local:8443/a?b=c",
            ),
            ("rtsp://a:b@c@10.0.0.7/1", "rtsp://***@10.0.0.7/1"),
            // Signs that should have been written as %23, %2F and %3F.
            ("http://admin:s3#cret@10.0.0.7/x", "http://***@10.0.0.7/x"),
            ("http://admin:s3/cret@10.0.0.7/x", "http://***@10.0.0.7/x"),
            ("http://admin:12/34@10.0.0.7/x", "http://***@10.0.0.7/x"),
            (
                "http://admin:12?34@cam.local:80/x",
                "http://***@cam.local:80/x",
            ),
            ("http://admin:s3cret", "http://***"),
            ("admin:s3cret@10.0.0.7/stream", "***@10.0.0.7/stream"),
            (
                "http://c/snap.cgi?user=admin&pwd=s3cret&size=640x480",
                "http://c/snap.cgi?user=***&pwd=***&size=640x480",
            ),
            (
                "http://c/v?loginuse=admin&loginpas=s3cret;X-Amz-Signature=abc",
                "http://c/v?loginuse=***&loginpas=***;X-Amz-Signature=***",
            ),
            (
                "rtsp://10.0.0.1/user=admin_password=tlJwp_bo6_channel=1_stream=0.sdp?real_stream",
                "rtsp://10.0.0.1/user=***_password=***_channel=1_stream=0.sdp?real_stream",
            ),
            (
                "http://c/api/3f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c/jpg",
                "http://c/api/***/jpg",
            ),
            (
                "http://c/v#access_token=s3cret",
                "http://c/v#access_token=***",
            ),
            (
                "http://c/proxy?src=rtsp%3A%2F%2Fadmin%3As3cret%40cam",
                "http://c/proxy?src=***",
            ),
        ] {
            assert_eq!(masked(url), shown);
            assert_eq!(
                format!("{} {0:?}", ShownUrl::from(url)),
                format!("{shown} {shown:?}")
            );
        }
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for url in [
            "http://10.0.0.7:8080/video?size=640x480&fps=5",
            "http://[fe80::1]:80/axis-cgi/mjpg/video.cgi?resolution=1280x720",
            "http://cam:8080/snap@2x.jpg",
            "http://cam/2026-11-26T17-03-09/front-door-and-garden.jpg",
            "https://huggingface.co/Xenova/clip-vit-base-patch32/resolve/main/onnx/text_model.onnx",
            "demo:clear,squeezed",
            "dir:/var/lib/pictures",
        ] {
            assert_eq!(masked(url), url);
            assert!(!has_user(url), "{url}");
        }
        assert!(has_user("rtsp://a:b@c/") && has_user("http://a:b#c@d/"));
    }

    #[test]
    fn addresses_are_masked_wherever_they_stand_in_a_text() {
        assert_eq!(
            mask_urls("error: unexpected argument 'http://a:b@c/' found; see http://d/?key=x."),
            "error: unexpected argument 'http://***@c/' found; see http://d/?key=***."
        );
        assert_eq!(mask_urls("nothing :// here"), "nothing :// here");
    }
}
