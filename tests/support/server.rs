//! An HTTP server on loopback that answers as a test says: well, slowly, only in part, or not at all.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// Names in small letters.
    pub headers: HashMap<String, String>,
    /// How many requests for this path came before.
    pub earlier: usize,
}

/// What it is answered with.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Only so many bytes of the body are sent; then the connection is cut after a while.
    cut: Option<(usize, Duration)>,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
        }
    }

    pub fn ok(body: &[u8]) -> Reply {
        Reply {
            body: body.to_vec(),
            ..Reply::status(200)
        }
    }

    pub fn redirect(status: u16, to: &str) -> Reply {
        Reply::status(status).with("Location", to)
    }

    /// A file as a good server gives it: with its ETag, and from where it is asked for while that is the same.
    pub fn file(request: &Request, etag: &str, body: &[u8]) -> Reply {
        let etag = format!("\"{etag}\"");
        let from = request.headers.get("range").and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        });
        let same = request.headers.get("if-range").is_none_or(|it| *it == etag);
        let total = body.len();
        match from {
            Some(from) if same && from < total => Reply {
                status: 206,
                ..Reply::ok(&body[from..]).with(
                    "Content-Range",
                    &format!("bytes {from}-{}/{total}", total - 1),
                )
            },
            Some(_) if same => {
                Reply::status(416).with("Content-Range", &format!("bytes */{total}"))
            }
            _ => Reply::ok(body),
        }
        .with("ETag", &etag)
    }

    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends the head as if all came, but only the first `bytes` of the body.
    pub fn cut_after(self, bytes: usize) -> Reply {
        self.stalled_after(bytes, Duration::ZERO)
    }

    /// Sends `bytes` of the body, and then nothing for a while.
    pub fn stalled_after(mut self, bytes: usize, time: Duration) -> Reply {
        self.cut = Some((bytes, time));
        self
    }
}

/// The server; it serves until the test program ends.
pub struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn new(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &*answer, &seen));
            }
        });
        Server { address, requests }
    }

    /// A server that gives the files of `files`, by path.
    pub fn of(files: HashMap<String, Vec<u8>>) -> Server {
        Server::new(move |request| match files.get(&request.path) {
            Some(body) => Reply::file(request, "1", body),
            None => Reply::status(404),
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    answer: &(dyn Fn(&Request) -> Reply + Sync),
    seen: &Mutex<Vec<Request>>,
) -> Option<()> {
    let mut lines = BufReader::new(&stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let request = {
        let mut seen = seen.lock().unwrap();
        let earlier = seen.iter().filter(|request| request.path == path).count();
        let request = Request {
            path,
            headers,
            earlier,
        };
        seen.push(request.clone());
        request
    };
    let reply = answer(&request);
    let mut head = format!(
        "HTTP/1.1 {} Whatever\r\nContent-Length: {}\r\nConnection: close\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let (sent, pause) = reply.cut.unwrap_or((reply.body.len(), Duration::ZERO));
    let mut stream = &stream;
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(&reply.body[..sent]).ok()?;
    stream.flush().ok()?;
    std::thread::sleep(pause);
    Some(())
}
