//! A connection to a broker that is kept up, for other things than reports on cameras: what is held there is sent, anew after
//! every break, and what comes at some topics is handed on. It is a thread of its own, as [`Broker`](super::Broker) is.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustls::ClientConfig;
use tokio::runtime::Runtime;
use tokio::select;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::claim::close;
use super::link::{Arrived, Hello, LinkError, Receiver as Incoming, Sender, link};
use super::outbox::{Message, Outbox};
use super::session::jitter;
use super::thread::{self, MOST_TOLD};
use super::{BrokerSettings, MqttError, tls};

/// What waits to be looked at; more waits at the broker.
const MOST_HEARD: usize = 1024;
/// How long a topic is left alone at which something came that is too large to be taken.
const LEFT_ALONE: Duration = Duration::from_secs(600);
/// How long after one topic the next is asked for, where one of them holds something that is too large.
const PROBE: Duration = Duration::from_millis(700);

/// Who speaks, and of what.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The same at every start, and no other's.
    pub client_id: String,
    /// Where it says that it is online, and the broker that it is not.
    pub presence: Option<String>,
    /// Where it listens.
    pub topics: Vec<String>,
    /// After what silence the connection is looked after.
    pub keep_alive: Duration,
}

/// What comes of a broker.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Heard {
    /// It is there.
    Connected {
        /// How long it was away; none at the start.
        away: Option<Duration>,
    },
    /// It is away, or does not want this client; it is tried again and again.
    Away {
        /// Why.
        reason: String,
    },
    /// All topics are listened to, or some of them are not this client's.
    Listening {
        /// Whether all of them are.
        granted: bool,
    },
    /// A message.
    Message {
        /// Where.
        topic: String,
        /// What.
        payload: Vec<u8>,
    },
    /// Something came that is too large to be taken, and nothing is listened to there for a while.
    TooLarge {
        /// Where.
        topic: String,
    },
    /// The broker does not keep what it is given: this client may not write there.
    Dropped,
}

/// A connection that is kept up.
pub struct Exchange {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    settings: BrokerSettings,
    tls: Option<Arc<ClientConfig>>,
    terms: Terms,
    state: Mutex<State>,
    wake: Notify,
    heard: mpsc::SyncSender<Heard>,
}

#[derive(Default)]
struct State {
    outbox: Outbox,
    /// Messages that were handed to the connection there is, and those that the broker has.
    handed: u64,
    acknowledged: u64,
    closing: Option<Instant>,
    /// Whether the broker has all.
    delivered: bool,
}

/// What the thread remembers from one connection to the next.
#[derive(Default)]
struct Memory {
    away: Option<SystemTime>,
    told: Vec<String>,
    /// Whether topics are asked for one by one.
    careful: bool,
    /// Topics that are left alone, and until when.
    alone: Vec<(String, Instant)>,
}

/// The topic that was asked for last, where they are asked for one by one.
type Asked = RefCell<Option<String>>;

impl Exchange {
    /// Begins; whether the broker is there shows in what is heard.
    ///
    /// # Errors
    /// If the settings cannot be used, or the system gives no thread.
    pub fn start(
        settings: BrokerSettings,
        terms: Terms,
    ) -> Result<(Exchange, Receiver<Heard>), MqttError> {
        let (sender, heard) = mpsc::sync_channel(MOST_HEARD);
        let shared = Arc::new(Shared {
            tls: tls::config(&settings)?,
            settings,
            terms,
            state: Mutex::default(),
            wake: Notify::new(),
            heard: sender,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(MqttError::Thread)?;
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("exchange".into())
            .spawn(move || run(&of_thread, &runtime))
            .map_err(MqttError::Thread)?;
        let thread = Some(thread);
        Ok((Exchange { shared, thread }, heard))
    }

    /// The broker should keep `payload` at `topic`; nothing takes away what it keeps.
    pub fn hold(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.shared.lock().outbox.hold(topic, payload);
        self.shared.wake.notify_one();
    }

    /// Says what is left to be said, within so long, and goodbye. Whether the broker has all.
    pub fn finish(mut self, within: Duration) -> bool {
        self.end(within);
        self.shared.lock().delivered
    }

    fn end(&mut self, within: Duration) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        {
            let mut state = self.shared.lock();
            if let Some(topic) = &self.shared.terms.presence {
                state.outbox.hold(topic, "offline");
            }
            state.closing = Some(Instant::now() + within);
        }
        self.shared.wake.notify_one();
        thread::join(thread, within);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end(Duration::from_secs(1));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits where nobody keeps up with what comes: the broker then waits, too.
    fn say(&self, heard: Heard) {
        // Nobody may listen any more.
        let _ = self.heard.send(heard);
    }

    fn closing(&self) -> Option<Instant> {
        self.lock().closing
    }

    async fn rest(&self, pause: Duration) {
        thread::rest(&self.wake, pause, || self.closing().is_some()).await;
    }
}

fn run(shared: &Shared, runtime: &Runtime) {
    let (least, most) = shared.settings.pauses;
    let mut pause = least;
    let mut memory = Memory::default();
    loop {
        let asked = Asked::default();
        // A broker whose packets the client has no answer to must not end it.
        let once = AssertUnwindSafe(|| runtime.block_on(once(shared, &mut memory, &asked)));
        let ended = catch_unwind(once)
            .unwrap_or_else(|_| Err(LinkError::Refused("it sends what no broker sends".into())));
        let Err(error) = ended else {
            shared.lock().delivered = true;
            return;
        };
        let connected = memory.told.is_empty();
        memory.away.get_or_insert_with(SystemTime::now);
        if matches!(error, LinkError::TooLarge(_)) {
            memory.careful = true;
            if let Some(topic) = asked.take() {
                memory
                    .alone
                    .push((topic.clone(), Instant::now() + LEFT_ALONE));
                shared.say(Heard::TooLarge { topic });
            }
        } else {
            memory.careful = false;
        }
        let reason = error.to_string();
        if memory.told.len() < MOST_TOLD && !memory.told.contains(&reason) {
            memory.told.push(reason.clone());
            shared.say(Heard::Away { reason });
        }
        pause = if connected {
            least
        } else {
            (2 * pause).min(most)
        };
        if shared.closing().is_some() {
            return;
        }
        runtime.block_on(shared.rest(pause.mul_f64(jitter(&shared.terms.client_id))));
        if shared.closing().is_some() {
            return;
        }
    }
}

/// One connection, until it breaks or all was said.
async fn once(shared: &Shared, memory: &mut Memory, asked: &Asked) -> Result<(), LinkError> {
    let Terms {
        client_id,
        presence,
        keep_alive,
        ..
    } = &shared.terms;
    let offline = |topic: &String| Message::retained(topic.clone(), "offline");
    let hello = Hello {
        client_id: client_id.clone(),
        will: presence.as_ref().map(offline),
        keep: false,
        keep_alive: *keep_alive,
    };
    let (sender, mut receiver) = link(&shared.settings, shared.tls.as_ref(), hello);
    receiver.next().await?;
    {
        let mut state = shared.lock();
        if let Some(topic) = presence.as_ref().filter(|_| state.closing.is_none()) {
            state.outbox.hold(topic, "online");
        }
        state.outbox.connected(Vec::new(), SystemTime::now());
        (state.handed, state.acknowledged) = (0, 0);
    }
    let since = |from: SystemTime| SystemTime::now().duration_since(from).unwrap_or_default();
    shared.say(Heard::Connected {
        away: memory.away.take().map(since),
    });
    memory.told.clear();
    let subscriptions = shared.terms.topics.len();
    let ended = select! {
        ended = listen(shared, &mut receiver, subscriptions) => ended,
        () = feed(shared, &sender, memory, asked) => Ok(()),
    };
    if ended.is_ok() {
        close(&sender, &mut receiver).await;
    }
    ended
}

/// Hands on what comes.
async fn listen(shared: &Shared, receiver: &mut Incoming, topics: usize) -> Result<(), LinkError> {
    let mut answers = 0;
    let mut dropped = false;
    loop {
        match receiver.next().await? {
            Arrived::Message { topic, payload, .. } => {
                shared.say(Heard::Message { topic, payload })
            }
            Arrived::Subscribed(granted) => {
                answers += 1;
                if !granted || answers >= topics {
                    shared.say(Heard::Listening { granted });
                }
            }
            Arrived::Acknowledged { granted } => {
                shared.lock().acknowledged += 1;
                shared.wake.notify_one();
                if !granted && !std::mem::replace(&mut dropped, true) {
                    shared.say(Heard::Dropped);
                }
            }
            Arrived::Closed => return Ok(()),
            Arrived::Connected { .. } | Arrived::Sent | Arrived::Other => {}
        }
    }
}

/// Asks for what is to be heard, sends what waits, and ends once all has arrived and it is to end.
async fn feed(shared: &Shared, sender: &Sender, memory: &mut Memory, asked: &Asked) {
    for topic in &shared.terms.topics {
        let now = Instant::now();
        memory.alone.retain(|(_, until)| *until > now);
        if memory.alone.iter().any(|(of, _)| of == topic) {
            continue;
        }
        ask(sender, topic, memory.careful.then_some(asked)).await;
    }
    loop {
        let next = shared.lock().outbox.next();
        if let Some(message) = next {
            if sender.publish(message).await.is_err() {
                // The other half knows why.
                std::future::pending::<()>().await;
            }
            shared.lock().handed += 1;
            continue;
        }
        let until = match shared.closing() {
            Some(until) => {
                let all = {
                    let state = shared.lock();
                    state.acknowledged >= state.handed
                };
                if all || until <= Instant::now() {
                    return;
                }
                Some(until)
            }
            None => memory.alone.iter().map(|(_, until)| *until).min(),
        };
        let Some(until) = until else {
            shared.wake.notified().await;
            continue;
        };
        let left = until.saturating_duration_since(Instant::now());
        if timeout(left, shared.wake.notified()).await.is_err() && shared.closing().is_none() {
            let now = Instant::now();
            let (again, alone) = memory.alone.drain(..).partition(|(_, until)| *until <= now);
            memory.alone = alone;
            let again: Vec<(String, Instant)> = again;
            for (topic, _) in again {
                ask(sender, &topic, Some(asked)).await;
            }
        }
    }
}

/// Asks for a topic; one of which is not known whether it holds something that is too large, on its own.
async fn ask(sender: &Sender, topic: &String, asked: Option<&Asked>) {
    if let Some(asked) = asked {
        *asked.borrow_mut() = Some(topic.clone());
    }
    let _ = sender.subscribe(std::slice::from_ref(topic)).await;
    if let Some(asked) = asked {
        sleep(PROBE).await;
        asked.take();
    }
}
