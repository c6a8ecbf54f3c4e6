//! The head of a camera's answer. Cameras send heads that no standard allows: lines without a colon, blanks before it, bare
//! line feeds or carriage returns, folded lines. Only what matters here is kept, and everything else is passed over.

use super::HttpError;
use std::io::Read;

/// The longest head of an answer.
const MAX_HEAD: usize = 16 << 10;

/// What matters of a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub reason: String,
    pub kind: String,
    pub length: Option<u64>,
    pub location: Option<String>,
    pub chunked: bool,
    /// What the body is compressed with, where it is, in small letters.
    pub coding: Option<String>,
    /// The values of all WWW-Authenticate lines.
    pub challenges: Vec<String>,
}

/// Reads the head of an answer from `stream`; it, and what was read beyond it.
///
/// # Errors
/// If it is not HTTP, has no end, or breaks off.
pub fn read_head(stream: &mut impl Read) -> Result<(Head, Vec<u8>), HttpError> {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..count]);
        if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            // No head at all, as servers of single pictures on microcontrollers have it.
            let head = Head {
                status: 200,
                ..Head::default()
            };
            return Ok((head, bytes));
        }
        if !is_http(&bytes) {
            let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
            return Err(HttpError::NotHttp(format!("it begins with {begin:?}")));
        }
        match end(&bytes, count == 0) {
            Some((head, rest)) => {
                let head = parse(&bytes[..head]);
                if (100..200).contains(&head.status) {
                    // Only "go on": the answer follows.
                    bytes.drain(..rest);
                    continue;
                }
                return Ok((head, bytes[rest..].to_vec()));
            }
            None if count == 0 && bytes.is_empty() => {
                return Err(HttpError::NoAnswer);
            }
            None if count == 0 => return Err(HttpError::NotHttp("its answer is cut short".into())),
            None if bytes.len() > MAX_HEAD => {
                return Err(HttpError::NotHttp(
                    "the head of its answer has no end".into(),
                ));
            }
            None => {}
        }
    }
}

/// Whether `bytes` begin as an answer does, as far as they have come.
fn is_http(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    [&b"HTTP/"[..], b"ICY "].iter().any(|begin| {
        let length = begin.len().min(bytes.len());
        bytes[..length].eq_ignore_ascii_case(&begin[..length])
    })
}

/// Whether lines end with a carriage return alone: where the first one is followed by neither another nor a line feed. None
/// while that cannot be said.
fn bare_returns(bytes: &[u8]) -> Option<bool> {
    let at = bytes
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let next = bytes[at..].iter().find(|byte| **byte != b'\r')?;
    Some(bytes[at] == b'\r' && *next != b'\n')
}

/// Where the head ends and where what follows it begins, if both have come. `all` says that no more bytes will.
fn end(bytes: &[u8], all: bool) -> Option<(usize, usize)> {
    let begin = bytes.len() - bytes.trim_ascii_start().len();
    let bare = match bare_returns(&bytes[begin..]) {
        Some(bare) => bare,
        None if all => true,
        None => return None,
    };
    let line_end = if bare { b'\r' } else { b'\n' };
    let mut line = begin;
    loop {
        let length = bytes[line..].iter().position(|byte| *byte == line_end)?;
        let end = line + length;
        if bytes[line..end].iter().all(|byte| *byte == b'\r') {
            return Some((line, end + 1));
        }
        line = end + 1;
    }
}

fn parse(bytes: &[u8]) -> Head {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split(['\r', '\n']).filter(|line| !line.is_empty());
    let mut head = Head::default();
    let mut words = lines.next().unwrap_or_default().trim().splitn(3, ' ');
    let status = words.nth(1).unwrap_or_default();
    let digits = status.bytes().take_while(u8::is_ascii_digit).count();
    head.status = status[..digits].parse().unwrap_or_default();
    head.reason = words.next().unwrap_or_default().trim().to_owned();
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = headers.last_mut() {
                *value = format!("{value} {}", line.trim()).trim().to_owned();
            }
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    for (name, value) in headers {
        match name.as_str() {
            "content-type" => head.kind = value.to_ascii_lowercase(),
            "content-length" => head.length = value.parse().ok(),
            "location" => head.location = Some(value),
            "transfer-encoding" => head.chunked = value.to_ascii_lowercase().contains("chunked"),
            "content-encoding" => {
                head.coding =
                    Some(value.to_ascii_lowercase()).filter(|coding| coding != "identity");
            }
            "www-authenticate" => head.challenges.push(value),
            _ => {}
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Head, Vec<u8>) {
        read_head(&mut &bytes[..]).unwrap()
    }

    #[test]
    fn heads_that_no_standard_allows_are_read() {
        let snapshot = |head: Head| (head.status, head.kind, head.length);
        let right = (200, "image/jpeg".to_owned(), Some(3));
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.0 200\nContent-type:image/jpeg\ncontent-length :3\n\n",
            "HTTP/1.0 200 OK\rContent-Type: image/jpeg\rContent-Length: 3\r\r",
            "HTTP/1.0 200 OK\r\r\nContent-Type: image/jpeg\r\r\nContent-Length: 3\r\r\n\r\r\n",
            "\r\nHTTP/1.0 200 OK\r\nContent-Type:\r\n image/jpeg\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTue, 12 Jun 2012 01:56:34 GMT\r\nnonsense\r\nContent-Type: image/jpeg\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 3\r\n\r\n",
            "ICY 200 OK\r\nCONTENT-TYPE: IMAGE/JPEG\r\nCONTENT-LENGTH: 3\r\n\r\n",
        ] {
            let (found, rest) = read(&[head.as_bytes(), b"\r\n\xff"].concat());
            assert_eq!(snapshot(found), right, "{head:?}");
            assert_eq!(rest, b"\r\n\xff", "{head:?}");
        }
    }

    #[test]
    fn all_challenges_are_kept_and_a_picture_without_a_head_is_one() {
        let (head, _) = read(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest a=b\r\nwww-authenticate: Basic c=d\r\n\r\n");
        assert_eq!(head.challenges, ["Digest a=b", "Basic c=d"]);
        let (head, rest) = read(&[0xff, 0xd8, 0xff, 0xe0]);
        assert_eq!((head.status, rest.len()), (200, 4));
    }

    #[test]
    fn what_is_not_http_is_said_to_be_so() {
        for bytes in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"SSH-2.0-x\r\n",
            &[0xa5; 40],
        ] {
            assert!(read_head(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
        let endless = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 2 * MAX_HEAD]].concat();
        let error = read_head(&mut &endless[..]).unwrap_err().to_string();
        assert!(error.contains("no end"), "{error}");
    }
}
