//! A camera on loopback that speaks RTSP: H.264 within the connection or as datagrams, behind a digest login, and what such
//! cameras do wrong. The unit tests of `frames::rtsp` use it, too.
#![allow(dead_code)]

use md5::Digest as _;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub const BASELINE: &[u8] = include_bytes!("../fixtures/rtsp/baseline.h264");
pub const LARGER: &[u8] = include_bytes!("../fixtures/rtsp/larger.h264");
pub const H264: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n\
    a=framerate:25\r\na=control:trackID=0\r\n";
const NONCE: &str = "b29efa4a6cb8";

/// What a camera does with one connection.
#[derive(Clone)]
pub struct Behaviour {
    /// The user and the password that it wants.
    pub login: Option<(&'static str, &'static str)>,
    /// What it says that it sends: the lines of the SDP from the first `m=` on.
    pub media: String,
    /// Annex B: sent again and again.
    pub stream: Vec<u8>,
    /// Between two pictures.
    pub pause: Duration,
    /// One of so many packets is lost.
    pub lost: Option<usize>,
    /// How many pictures are sent, and what comes then.
    pub pictures: usize,
    pub then: Then,
    /// The status of requests of a method that is refused.
    pub refuses: Option<(&'static str, u16)>,
    /// Another challenge than the usual one comes first, as a line of its own.
    pub also_asks: Option<&'static str>,
    /// The channel within the connection on which pictures come, whatever was asked for.
    pub channel: u8,
    /// How far behind it the channel is said to be on which reports come.
    pub reports: i16,
    /// What stands behind the transport.
    pub transport: &'static str,
}

/// What comes after the pictures.
#[derive(Clone)]
pub enum Then {
    /// The end of the connection.
    Close,
    /// Nothing, in a connection that stays.
    Silence,
    /// These bytes, as they are.
    Bytes(Vec<u8>),
    /// RTP packets with these payloads, again and again.
    Payloads(Vec<Vec<u8>>),
}

impl Behaviour {
    /// Shows [`BASELINE`] at 100 pictures a second, for ever.
    pub fn good() -> Behaviour {
        Behaviour {
            login: None,
            media: H264.into(),
            stream: BASELINE.to_vec(),
            pause: Duration::from_millis(10),
            lost: None,
            pictures: usize::MAX,
            then: Then::Close,
            refuses: None,
            also_asks: None,
            channel: 0,
            reports: 1,
            transport: "",
        }
    }

    /// Only so many pictures, and then something else.
    pub fn then(pictures: usize, then: Then) -> Behaviour {
        Behaviour {
            pictures,
            then,
            ..Behaviour::good()
        }
    }
}

/// The camera; it serves until the test program ends.
pub struct Camera {
    pub address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Camera {
    /// One that always behaves like this.
    pub fn like(behaviour: Behaviour) -> Camera {
        Camera::new(move |_| behaviour.clone())
    }

    /// One whose behaviour depends on how many connections came before.
    pub fn new(behaviour: impl Fn(usize) -> Behaviour + Send + 'static) -> Camera {
        Camera::at("127.0.0.1:0", behaviour)
    }

    /// The same at a place of its own.
    pub fn at(place: &str, behaviour: impl Fn(usize) -> Behaviour + Send + 'static) -> Camera {
        let listener = TcpListener::bind(place).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for (index, stream) in listener.incoming().flatten().enumerate() {
                let (behaviour, seen) = (behaviour(index), Arc::clone(&seen));
                // A client that leaves is an error here, and none of the test.
                thread::spawn(move || serve(&stream, &behaviour, &seen));
            }
        });
        Camera { address, requests }
    }

    /// Its address, with `login` (`user:password@`) before the host.
    pub fn url(&self, login: &str) -> String {
        format!("rtsp://{login}{}/stream", self.address)
    }

    /// All requests so far, whole.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(stream: &TcpStream, behaviour: &Behaviour, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut datagrams = None;
    loop {
        let request = read_request(&mut reader)?;
        seen.lock().unwrap().push(request.clone());
        let method = request.split(' ').next().unwrap_or_default().to_owned();
        let headers = headers(&request);
        let sequence = headers.get("cseq").cloned().unwrap_or_default();
        let answer = |status: u16, more: &str, body: &str| {
            let mut out = stream;
            write!(
                out,
                "RTSP/1.0 {status} Whatever\r\nCSeq: {sequence}\r\n{more}Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        if let Some((refused, status)) = behaviour.refuses
            && refused == method
        {
            answer(status, "", "")?;
            continue;
        }
        if let Some(login) = behaviour.login
            && !may_enter(&method, headers.get("authorization"), login)
        {
            let also = behaviour.also_asks.unwrap_or_default();
            let wanted =
                format!("{also}WWW-Authenticate: Digest realm=\"camera\", nonce=\"{NONCE}\"\r\n");
            answer(401, &wanted, "")?;
            continue;
        }
        match method.as_str() {
            "DESCRIBE" => {
                let body = format!(
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\na=control:*\r\n{}",
                    behaviour.media
                );
                answer(200, "Content-Type: application/sdp\r\n", &body)?;
            }
            "SETUP" => {
                let wanted = headers.get("transport").cloned().unwrap_or_default();
                let transport = match wanted.split_once("client_port=") {
                    Some((_, ports)) => {
                        let (socket, transport) = datagram_socket(ports)?;
                        datagrams = Some(socket);
                        transport
                    }
                    None => {
                        let channel = behaviour.channel;
                        let reports = i16::from(channel) + behaviour.reports;
                        format!("RTP/AVP/TCP;unicast;interleaved={channel}-{reports}")
                    }
                };
                let behind = behaviour.transport;
                let more = format!("Transport: {transport}{behind}\r\nSession: 7;timeout=2\r\n");
                answer(200, &more, "")?;
            }
            "PLAY" => {
                answer(200, "Session: 7\r\n", "")?;
                let (out, behaviour) = (stream.try_clone()?, behaviour.clone());
                let datagrams = datagrams.take();
                thread::spawn(move || {
                    let sender = Sender {
                        out,
                        datagrams,
                        lost: behaviour.lost,
                        channel: behaviour.channel,
                        sequence: 0,
                        time: 0,
                    };
                    let _ = sender.send(&behaviour);
                });
            }
            _ => answer(200, "Session: 7\r\n", "")?,
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> io::Result<String> {
    let mut request = String::new();
    loop {
        if request.is_empty() && reader.fill_buf()?.first() == Some(&b'$') {
            // A report of the client's.
            let mut head = [0; 4];
            reader.read_exact(&mut head)?;
            let length = u16::from_be_bytes([head[2], head[3]]);
            io::copy(&mut reader.by_ref().take(length.into()), &mut io::sink())?;
            continue;
        }
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request += &line;
        if line.trim().is_empty() {
            return Ok(request);
        }
    }
}

/// Names in small letters.
fn headers(request: &str) -> HashMap<String, String> {
    let lines = request.lines().skip(1);
    let pairs = lines.filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}

/// Whether what a request says of itself is the answer to the challenge (RFC 2617, without qop).
fn may_enter(method: &str, said: Option<&String>, (user, password): (&str, &str)) -> bool {
    let Some(said) = said.and_then(|said| said.strip_prefix("Digest ")) else {
        return false;
    };
    let field = |name: &str| {
        let (_, rest) = said.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    let (Some(uri), Some(response)) = (field(" uri"), field("response")) else {
        return false;
    };
    let secret = md5(format!("{user}:camera:{password}"));
    let asked = md5(format!("{method}:{uri}"));
    field("username") == Some(user) && response == md5(format!("{secret}:{NONCE}:{asked}"))
}

pub fn md5(text: impl AsRef<[u8]>) -> String {
    let digest = md5::Md5::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn datagram_socket(ports: &str) -> io::Result<(UdpSocket, String)> {
    let digits = ports.split(|c: char| !c.is_ascii_digit()).next();
    let port: u16 = digits.unwrap_or_default().parse().unwrap_or_default();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", port))?;
    let own = socket.local_addr()?.port();
    let transport = format!(
        "RTP/AVP/UDP;unicast;client_port={port}-{};server_port={own}-{}",
        port + 1,
        own + 1
    );
    Ok((socket, transport))
}

struct Sender {
    out: TcpStream,
    datagrams: Option<UdpSocket>,
    lost: Option<usize>,
    channel: u8,
    sequence: u16,
    time: u32,
}

impl Sender {
    fn send(mut self, behaviour: &Behaviour) -> io::Result<()> {
        let units = units(&behaviour.stream);
        let mut left = behaviour.pictures;
        while left > 0 {
            for (index, unit) in units.iter().enumerate() {
                // The last slice of its picture: none of the same one follows.
                let is_slice = |unit: &&[u8]| matches!(unit[0] & 0x1f, 1 | 5);
                let next = units.get(index + 1).filter(|unit| is_slice(unit));
                let goes_on = next.is_some_and(|unit| unit[1] & 0x80 == 0);
                let last = is_slice(unit) && !goes_on;
                self.unit(unit, last)?;
                if last {
                    thread::sleep(behaviour.pause);
                    self.time = self.time.wrapping_add(3600);
                    left -= 1;
                    if left == 0 {
                        break;
                    }
                }
            }
        }
        match &behaviour.then {
            Then::Close => self.out.shutdown(std::net::Shutdown::Both),
            Then::Silence => Ok(()),
            Then::Bytes(bytes) => self.out.write_all(bytes),
            Then::Payloads(payloads) => loop {
                for payload in payloads {
                    self.packet(payload, true)?;
                    self.time = self.time.wrapping_add(3600);
                    thread::sleep(behaviour.pause);
                }
            },
        }
    }

    /// One unit of H.264, in pieces where it is long (RFC 6184).
    fn unit(&mut self, unit: &[u8], last: bool) -> io::Result<()> {
        const PIECE: usize = 600;
        if unit.len() <= PIECE {
            return self.packet(unit, last);
        }
        let (indicator, kind) = (unit[0] & 0x60 | 28, unit[0] & 0x1f);
        let pieces = unit[1..].chunks(PIECE);
        let count = pieces.len();
        for (index, piece) in pieces.enumerate() {
            let (begins, ends) = (index == 0, index + 1 == count);
            let head = kind | u8::from(begins) << 7 | u8::from(ends) << 6;
            self.packet(&[&[indicator, head][..], piece].concat(), last && ends)?;
        }
        Ok(())
    }

    fn packet(&mut self, payload: &[u8], marked: bool) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(lost) = self.lost
            && usize::from(self.sequence).is_multiple_of(lost)
        {
            return Ok(());
        }
        let mut packet = vec![0x80, 96 | u8::from(marked) << 7];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.time.to_be_bytes());
        packet.extend(0x1234_5678u32.to_be_bytes());
        packet.extend(payload);
        match &self.datagrams {
            Some(socket) => socket.send(&packet).map(|_| ()),
            None => {
                let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
                self.out
                    .write_all(&[&[b'$', self.channel][..], &length, &packet].concat())
            }
        }
    }
}

/// The units of a stream in the form of annex B.
pub fn units(stream: &[u8]) -> Vec<&[u8]> {
    let mut begins = Vec::new();
    for at in 0..stream.len().saturating_sub(3) {
        if stream[at..].starts_with(&[0, 0, 1]) {
            begins.push(at + 3);
        }
    }
    let ends = begins.iter().skip(1).map(|next| next - 3);
    let ends = ends.chain([stream.len()]);
    begins
        .iter()
        .zip(ends)
        .map(|(&begin, end)| {
            let unit = &stream[begin..end];
            let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
            &unit[..unit.len() - zeros]
        })
        .filter(|unit| !unit.is_empty())
        .collect()
}
