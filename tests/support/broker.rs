//! A broker of MQTT 3.1.1 on loopback, as small as tests need one: it keeps what is retained, speaks last wills, takes a client
//! over that connects twice, and can be away, slow, forgetful, or say what no broker says. QoS 0 and 1.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How it behaves towards who connects.
#[derive(Clone, Debug, PartialEq)]
pub enum Manner {
    /// As it should.
    Good,
    /// CONNACK with this return code.
    Refusing(u8),
    /// These bytes in place of a CONNACK.
    Saying(Vec<u8>),
    /// No answer at all.
    Silent,
    /// It takes no bytes once a client is connected.
    Stuck,
}

/// A message that was published to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    pub client: String,
}

impl Published {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

#[derive(Default)]
struct State {
    manner: Option<Manner>,
    retained: BTreeMap<String, Vec<u8>>,
    published: Vec<Published>,
    clients: Vec<Client>,
    /// Client, user and password of each CONNECT.
    logins: Vec<(String, Option<String>, Option<String>)>,
    stopped: bool,
    /// How many have connected.
    connections: usize,
}

struct Client {
    number: usize,
    id: String,
    stream: TcpStream,
    filters: Vec<String>,
}

/// The broker; it serves until it is dropped.
pub struct Broker {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Broker {
    pub fn new() -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let broker = Broker {
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
        };
        broker.serve(listener);
        broker
    }

    /// A port on which nothing listens, for now.
    pub fn away() -> Broker {
        let broker = Broker::new();
        broker.stop();
        broker
    }

    fn serve(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if state.lock().unwrap().stopped {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let state = Arc::clone(&state);
                thread::spawn(move || connection(stream, &state));
            }
        });
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn behave(&self, manner: Manner) {
        self.state.lock().unwrap().manner = Some(manner);
    }

    /// Goes away at once, as when the power is gone; what is retained stays.
    pub fn stop(&self) {
        let mut state = self.state.lock().unwrap();
        state.stopped = true;
        for client in state.clients.drain(..) {
            let _ = client.stream.shutdown(Shutdown::Both);
        }
        drop(state);
        // The listener wakes, sees it, and goes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        thread::sleep(Duration::from_millis(50));
    }

    /// Comes back on the same port.
    pub fn start(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)) {
                Ok(listener) => break listener,
                Err(error) if Instant::now() > end => panic!("{error}"),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        self.state.lock().unwrap().stopped = false;
        self.serve(listener);
    }

    /// Forgets what is retained.
    pub fn forget(&self) {
        self.state.lock().unwrap().retained.clear();
    }

    /// Cuts the connection of each client whose name begins so.
    pub fn cut(&self, client: &str) {
        for of in &self.state.lock().unwrap().clients {
            if of.id.starts_with(client) {
                let _ = of.stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Publishes as another client would.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        let message = Published {
            topic: topic.into(),
            payload: payload.to_vec(),
            retain,
            client: String::new(),
        };
        route(&mut self.state.lock().unwrap(), message);
    }

    /// Everything that was published, oldest first.
    pub fn published(&self) -> Vec<Published> {
        self.state.lock().unwrap().published.clone()
    }

    pub fn logins(&self) -> Vec<(String, Option<String>, Option<String>)> {
        self.state.lock().unwrap().logins.clone()
    }

    /// What is retained at `topic`, as text.
    pub fn retained(&self, topic: &str) -> Option<String> {
        let state = self.state.lock().unwrap();
        let payload = state.retained.get(topic)?;
        Some(String::from_utf8_lossy(payload).into_owned())
    }

    pub fn topics(&self) -> Vec<String> {
        self.state
            .lock()
            .unwrap()
            .retained
            .keys()
            .cloned()
            .collect()
    }

    /// Waits until `seen` is true of it.
    #[track_caller]
    pub fn wait(&self, what: &str, seen: impl Fn(&Broker) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !seen(self) {
            assert!(
                Instant::now() < end,
                "no {what}; retained: {:?}; published: {:?}",
                self.topics(),
                self.published()
                    .iter()
                    .map(|p| (&p.topic, p.text().chars().take(60).collect::<String>()))
                    .collect::<Vec<_>>()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until `topic` holds `text`.
    #[track_caller]
    pub fn wait_for(&self, topic: &str, text: &str) {
        self.wait(&format!("{topic} = {text}"), |broker| {
            broker.retained(topic).as_deref() == Some(text)
        });
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn route(state: &mut State, message: Published) {
    let topic = &message.topic;
    if message.retain {
        if message.payload.is_empty() {
            state.retained.remove(topic);
        } else {
            state
                .retained
                .insert(topic.clone(), message.payload.clone());
        }
    }
    for client in &mut state.clients {
        if client.filters.iter().any(|filter| matches(filter, topic)) {
            let _ = client
                .stream
                .write_all(&packet(topic, &message.payload, false));
        }
    }
    state.published.push(message);
}

fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// A PUBLISH of QoS 0.
fn packet(topic: &str, payload: &[u8], retained: bool) -> Vec<u8> {
    let mut bytes = vec![0x30 | u8::from(retained)];
    let mut length = 2 + topic.len() + payload.len();
    loop {
        let more = length >= 128;
        bytes.push((length % 128) as u8 | if more { 128 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    bytes.extend((topic.len() as u16).to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend(payload);
    bytes
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }

    fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
}

fn read_packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let first = byte[0];
    let (mut length, mut shift) = (0usize, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] < 128 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, body))
}

/// Serves one client to its end.
fn connection(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let (first, body) = read_packet(&mut stream)?;
    assert_eq!(first, 0x10, "the first packet is a CONNECT");
    let mut fields = Fields(&body);
    assert_eq!(fields.text()?, "MQTT");
    let (level, flags, _alive) = (fields.byte()?, fields.byte()?, fields.number()?);
    assert_eq!(level, 4, "MQTT 3.1.1");
    let id = fields.text()?;
    let will = (flags & 4 != 0).then(|| (fields.text(), fields.bytes()));
    let user = (flags & 0x80 != 0).then(|| fields.text()).flatten();
    let password = (flags & 0x40 != 0).then(|| fields.text()).flatten();
    let manner = {
        let mut state = state.lock().unwrap();
        state.logins.push((id.clone(), user, password));
        state.manner.clone().unwrap_or(Manner::Good)
    };
    match manner {
        Manner::Good | Manner::Stuck => {}
        Manner::Refusing(code) => {
            stream.write_all(&[0x20, 2, 0, code]).ok()?;
            return None;
        }
        Manner::Saying(bytes) => {
            stream.write_all(&bytes).ok()?;
            thread::sleep(Duration::from_millis(500));
            return None;
        }
        Manner::Silent => {
            thread::sleep(Duration::from_secs(60));
            return None;
        }
    }
    let number = {
        let mut state = state.lock().unwrap();
        state.connections += 1;
        let number = state.connections;
        state.clients.retain(|other| {
            let same = other.id == id;
            if same {
                let _ = other.stream.shutdown(Shutdown::Both);
            }
            !same
        });
        state.clients.push(Client {
            number,
            id: id.clone(),
            stream: stream.try_clone().ok()?,
            filters: Vec::new(),
        });
        stream.write_all(&[0x20, 2, 0, 0]).ok()?;
        number
    };
    let stuck = manner == Manner::Stuck && !id.starts_with("rlp-ask");
    if stuck {
        thread::sleep(Duration::from_secs(60));
    }
    let clean = packets(&mut stream, &id, state).is_some();
    let mut state = state.lock().unwrap();
    state.clients.retain(|client| client.number != number);
    if let (false, false, Some((Some(topic), Some(payload)))) = (clean, state.stopped, will) {
        let message = Published {
            topic,
            payload: payload.to_vec(),
            retain: flags & 0x20 != 0,
            client: id,
        };
        route(&mut state, message);
    }
    Some(())
}

/// What a client says, to its goodbye; none where it ends without.
fn packets(stream: &mut TcpStream, id: &str, state: &Mutex<State>) -> Option<()> {
    loop {
        let (first, body) = read_packet(stream)?;
        let mut fields = Fields(&body);
        match first >> 4 {
            3 => {
                let topic = fields.text()?;
                let number = (first & 6 != 0).then(|| fields.number()).flatten();
                let message = Published {
                    topic,
                    payload: fields.0.to_vec(),
                    retain: first & 1 != 0,
                    client: id.to_owned(),
                };
                let mut state = state.lock().unwrap();
                route(&mut state, message);
                if let Some(number) = number {
                    let [high, low] = number.to_be_bytes();
                    stream.write_all(&[0x40, 2, high, low]).ok()?;
                }
            }
            8 => {
                let number = fields.take(2)?;
                let mut filters = Vec::new();
                while let Some(filter) = fields.text() {
                    fields.byte()?;
                    filters.push(filter);
                }
                let mut state = state.lock().unwrap();
                let mut answer = vec![0x90, 2 + filters.len() as u8];
                answer.extend(number);
                answer.extend(filters.iter().map(|_| 1));
                stream.write_all(&answer).ok()?;
                for (topic, payload) in &state.retained {
                    if filters.iter().any(|filter| matches(filter, topic)) {
                        stream.write_all(&packet(topic, payload, true)).ok()?;
                    }
                }
                let mut clients = state.clients.iter_mut();
                if let Some(client) = clients.find(|client| client.id == id) {
                    client.filters.extend(filters);
                }
            }
            12 => stream.write_all(&[0xd0, 0]).ok()?,
            14 => return Some(()),
            4 => {}
            kind => panic!("a packet of kind {kind}"),
        }
    }
}
