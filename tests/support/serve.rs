//! `edge-rlp serve` as a process, and a client of its API.

use super::{Directory, Invocation};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A process that serves; it ends with this value.
pub struct Served {
    child: Child,
    pub host: String,
    said: Arc<Mutex<String>>,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in small letters.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What a problem says.
    #[track_caller]
    pub fn detail(&self) -> String {
        let kind = self.headers.get("content-type").map(String::as_str);
        assert_eq!(kind, Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Served {
    /// Serves `config` from a free port of loopback.
    pub fn start(dir: &Directory, config: &str) -> Served {
        dir.write("edge-rlp.toml", config);
        Served::with(dir, "serve --config edge-rlp.toml --listen 127.0.0.1:0")
    }

    /// Runs `edge-rlp LINE` and waits until it serves.
    #[track_caller]
    pub fn with(dir: &Directory, line: &str) -> Served {
        Served::started(dir.command(line))
    }

    /// Runs `serving` and waits until it serves.
    #[track_caller]
    pub fn started(mut serving: Invocation) -> Served {
        let mut child = serving.start();
        let said = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        let heard = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        let begun = Instant::now();
        let host = loop {
            let text = said.lock().unwrap().clone();
            if let Some((_, rest)) = text.split_once("the page is at http://") {
                break rest.split('/').next().unwrap().to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{text}");
            thread::sleep(Duration::from_millis(20));
        };
        Served {
            child,
            host,
            said,
            headers: Vec::new(),
        }
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, &[], b"")
    }

    pub fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let kind = [("Content-Type", "application/json")];
        self.request(method, path, &kind, body.to_string().as_bytes())
    }

    /// Sends a request, and reads the answer to its end.
    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = self.open(method, path, headers, body);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let answer = answer(&bytes);
        super::openapi::check(method, path, &answer);
        answer
    }

    /// Sends a request; what comes back is read by the caller.
    pub fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream
            // What is changed waits for the disk, which other programs may keep busy for a minute.
            .set_read_timeout(Some(Duration::from_secs(300)))
            .unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<(&str, &str)> = own.chain(headers.iter().copied()).collect();
        if !all
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head += &format!("Host: {}\r\n", self.host);
        }
        for (name, value) in all {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method != "GET" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        // It may refuse before it has read everything.
        let _ = stream.write_all(body);
        stream
    }

    /// Asks for `path` again and again until `is` holds of the answer.
    #[track_caller]
    pub fn until(&self, path: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let found = self.get(path).json();
            if is(&found) {
                return found;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(300),
                "{path}: {found:#} {}",
                self.said()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends it a signal, as `kill -NAME` does.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Asks it to end, and waits; its exit code.
    pub fn end(mut self) -> Option<i32> {
        self.signal("TERM");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end: {}", self.said());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &bytes[end + 4..];
    let chunked = headers
        .get("transfer-encoding")
        .is_some_and(|of| of == "chunked");
    Answer {
        status,
        body: if chunked {
            dechunked(body)
        } else {
            body.to_vec()
        },
        headers,
    }
}

fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&bytes[at + 2..at + 2 + size]);
        bytes = &bytes[at + 4 + size..];
    }
    whole
}

/// Reads server-sent events until one of `kind` comes of which `is` holds.
#[track_caller]
pub fn event(stream: &mut impl BufRead, kind: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut of = String::new();
    loop {
        let mut line = String::new();
        assert!(
            stream.read_line(&mut line).unwrap() > 0,
            "the stream has ended"
        );
        if let Some(name) = line.strip_prefix("event: ") {
            of = name.trim().to_owned();
        }
        if let Some(data) = line.strip_prefix("data: ").filter(|_| of == kind) {
            let found: Value = serde_json::from_str(data).unwrap();
            if is(&found) {
                return found;
            }
        }
    }
}
