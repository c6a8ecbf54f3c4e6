//! The thread that speaks to the broker: it asks for the root, reports, and begins anew after a pause when the broker is gone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tokio::runtime::Runtime;
use tokio::select;
use tokio::time::{sleep, timeout};

use super::claim::{Claimed, claim, close};
use super::command;
use super::discovery;
use super::index::Index;
use super::link::{Arrived, Hello, KEEP_ALIVE, LinkError, Receiver, Sender, link};
use super::outbox::{Message, Outbox};
use super::owner::Owner;
use super::shared::{Shared, State};
use super::site::Plan;
use super::thread::MOST_TOLD;
use super::{Happening, date};

/// How long Home Assistant is given to take leave of what is gone.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a root that another box has is left alone before it is asked for again.
const TAKEN: Duration = Duration::from_secs(30);

/// What this thread remembers from one connection to the next.
struct Memory {
    /// Since when the broker has been away; none while it is there.
    away: Option<SystemTime>,
    /// What was told of why it is away, or who has the root.
    told: Vec<String>,
    /// How often in a row a message was too large to be taken.
    too_large: u32,
}

/// How a connection ended.
enum End {
    /// All was said.
    Closed,
    /// Another program reports there.
    Taken(Owner),
}

/// Speaks to the broker until it is to end.
pub(super) fn run(shared: &Shared, runtime: &Runtime) {
    let (least, most) = shared.settings.pauses;
    let mut pause = least;
    let mut memory = Memory {
        away: None,
        told: Vec::new(),
        too_large: 0,
    };
    loop {
        // A broker whose packets the client has no answer to must not end the reports.
        let once = AssertUnwindSafe(|| runtime.block_on(once(shared, &mut memory)));
        let ended = catch_unwind(once)
            .unwrap_or_else(|_| Err(LinkError::Refused("it sends what no broker sends".into())));
        let connected = memory.told.is_empty();
        let wait = match ended {
            Ok(End::Closed) => return,
            Ok(End::Taken(by)) => {
                tell_once(&mut memory, &by.host.clone(), || {
                    shared.say(Happening::Taken { host: by.host });
                });
                memory.away.get_or_insert_with(SystemTime::now);
                TAKEN.max(least)
            }
            Err(error) => {
                match error {
                    LinkError::TooLarge(_) => memory.too_large += 1,
                    _ => memory.too_large = memory.too_large.min(1),
                }
                let reason = error.to_string();
                tell_once(&mut memory, &reason.clone(), || {
                    shared.say(Happening::Away { reason });
                });
                memory.away.get_or_insert_with(SystemTime::now);
                pause = if connected {
                    least
                } else {
                    (2 * pause).min(most)
                };
                pause.mul_f64(jitter(&shared.owner.instance))
            }
        };
        if shared.closing().is_some() {
            return;
        }
        runtime.block_on(shared.rest(wait));
        if shared.closing().is_some() {
            return;
        }
    }
}

fn tell_once(memory: &mut Memory, what: &str, tell: impl FnOnce()) {
    if memory.told.len() < MOST_TOLD && !memory.told.iter().any(|told| told == what) {
        memory.told.push(what.to_owned());
        tell();
    }
}

/// Between 0.8 and 1.2, so that a thousand boxes do not come back at the same moment.
pub(super) fn jitter(instance: &str) -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = format!("{instance}{}", now.unwrap_or_default().as_nanos());
    0.8 + 0.4 * f64::from(blake3::hash(seed.as_bytes()).as_bytes()[0]) / 255.0
}

/// One connection: the question, and then the reports.
async fn once(shared: &Shared, memory: &mut Memory) -> Result<End, LinkError> {
    let Claimed { index, before } = match claim(shared, memory.too_large > 0).await? {
        Ok(claimed) => claimed,
        Err(by) => return Ok(End::Taken(by)),
    };
    if let Some(before) = before
        && before.host != shared.owner.host
    {
        shared.say(Happening::TookOver { host: before.host });
    }
    report(shared, index, memory).await
}

/// What was handed over and what has arrived, of one connection.
#[derive(Default)]
struct Flight {
    sent: Cell<u64>,
    acknowledged: Cell<u64>,
    in_hand: RefCell<Option<Message>>,
}

/// Reports until the connection ends, or all was said.
async fn report(shared: &Shared, index: Index, memory: &mut Memory) -> Result<End, LinkError> {
    let root = shared.lock().plan.root.clone();
    let hello = Hello {
        client_id: shared.client_id.clone(),
        will: Some(Message::retained(root.status(), "offline")),
        // What was too large once would come again.
        keep: memory.too_large == 0,
        keep_alive: KEEP_ALIVE,
    };
    let (sender, mut receiver) = link(&shared.settings, shared.tls.as_ref(), hello);
    let largest = match receiver.next().await? {
        Arrived::Connected { largest } => largest,
        _ => None,
    };
    let changes = shared.lock().changes;
    let feed_with = Feed {
        filters: welcome(shared, &index, memory),
        changes,
        obeys: memory.too_large < 2,
        largest,
    };
    let flight = Flight::default();
    let ended = select! {
        ended = listen(shared, &mut receiver, &flight) => ended,
        () = feed(shared, &sender, feed_with, &flight) => Ok(End::Closed),
    };
    match &ended {
        Err(_) => {
            let mut unsent = receiver.unsent();
            unsent.extend(flight.in_hand.take());
            let mut state = shared.lock();
            for message in unsent.into_iter().rev() {
                state.outbox.put_back(message);
            }
        }
        Ok(_) => close(&sender, &mut receiver).await,
    }
    ended
}

/// Fills the outbox with all that a new connection is told; the topics that are to be heard.
fn welcome(shared: &Shared, index: &Index, memory: &mut Memory) -> Vec<String> {
    let now = SystemTime::now();
    let (filters, gap) = {
        let mut state = shared.lock();
        let State {
            plan,
            outbox,
            closing,
            ..
        } = &mut *state;
        let root = plan.root.clone();
        let commands = command::filters(plan);
        let mut first = vec![Message::retained(root.owner(), shared.owner.encode())];
        if memory.too_large > 0 {
            let cleared = commands.iter().map(|topic| Message::retained(topic, ""));
            first.extend(cleared);
        }
        first.extend(index.to(plan, shared.discovery.as_deref()));
        hold_plan(outbox, plan, shared.discovery.as_deref());
        // A watch of a few frames is over before the broker has answered.
        let status = if closing.is_some() {
            "offline"
        } else {
            "online"
        };
        outbox.hold(&root.status(), status);
        let gap = outbox.connected(first, now);
        if let Some(from) = memory.away {
            let told = json!({
                "from": date(from),
                "until": date(now),
                "late": gap.late,
                "lost": gap.lost,
            });
            outbox.first(Message::passing(root.gap(), told.to_string()));
        }
        let mut filters = vec![root.owner(), root.claim()];
        if let Some(prefix) = &shared.discovery {
            filters.push(format!("{prefix}/status"));
        }
        if memory.too_large < 2 {
            filters.extend(commands);
        } else {
            shared.say(Happening::Ignored {
                reason: "commands are not listened to, for what comes on their topics is too large"
                    .into(),
            });
        }
        (filters, gap)
    };
    shared.say(Happening::Connected {
        away: memory
            .away
            .map(|from| now.duration_since(from).unwrap_or_default()),
        late: gap.late.len(),
        lost: gap.lost,
    });
    memory.away = None;
    memory.told.clear();
    filters
}

/// Has the outbox hold what is known of a site before anything is seen.
pub(super) fn hold_plan(outbox: &mut Outbox, plan: &Plan, prefix: Option<&str>) {
    if let Some(prefix) = prefix {
        for (topic, device) in discovery::devices(plan, prefix) {
            outbox.hold(&topic, device.to_string());
        }
    }
    let index = Index::of(plan, prefix);
    let encoded = serde_json::to_vec(&index).unwrap_or_default();
    outbox.hold(&plan.root.index(), encoded);
}

/// Hears what the broker has to say.
async fn listen(
    shared: &Shared,
    receiver: &mut Receiver,
    flight: &Flight,
) -> Result<End, LinkError> {
    let root = shared.lock().plan.root.clone();
    let birth = shared
        .discovery
        .as_ref()
        .map(|prefix| format!("{prefix}/status"));
    let mut refused = false;
    loop {
        match receiver.next().await? {
            Arrived::Message {
                topic,
                payload,
                retained,
            } => {
                if topic == root.owner() {
                    match Owner::parse(&payload) {
                        Some(owner) if owner.instance != shared.owner.instance && !retained => {
                            return Ok(End::Taken(owner));
                        }
                        _ => {}
                    }
                } else if topic == root.claim() {
                    let other = Owner::parse(&payload);
                    if other.is_some_and(|other| other.instance != shared.owner.instance) {
                        let record = Message::retained(root.owner(), shared.owner.encode());
                        shared.lock().outbox.first(record);
                        shared.wake.notify_one();
                    }
                } else if Some(&topic) == birth.as_ref() {
                    if payload == b"online" && !retained {
                        introduce_again(shared);
                    }
                } else {
                    commanded(shared, &topic, &payload, retained);
                }
            }
            Arrived::Sent => flight.sent.set(flight.sent.get() + 1),
            Arrived::Acknowledged { granted } => {
                flight.acknowledged.set(flight.acknowledged.get() + 1);
                if !granted && !std::mem::replace(&mut refused, true) {
                    shared.say(Happening::Ignored {
                        reason: format!(
                            "the broker drops messages: its user must be allowed to write {}/#",
                            root.0
                        ),
                    });
                }
                if shared.closing().is_some() {
                    shared.wake.notify_one();
                }
            }
            Arrived::Subscribed(false) => shared.say(Happening::Ignored {
                reason: "the broker does not let this client hear commands".into(),
            }),
            Arrived::Closed => return Ok(End::Closed),
            Arrived::Connected { .. } | Arrived::Subscribed(true) | Arrived::Other => {}
        }
    }
}

/// Home Assistant has started: it is told of the devices once more, for a broker may have forgotten what was retained.
fn introduce_again(shared: &Shared) {
    let Some(prefix) = &shared.discovery else {
        return;
    };
    let mut state = shared.lock();
    let State { plan, outbox, .. } = &mut *state;
    for (topic, device) in discovery::devices(plan, prefix) {
        outbox.hold_again(&topic, device.to_string());
    }
    drop(state);
    shared.wake.notify_one();
}

fn commanded(shared: &Shared, topic: &str, payload: &[u8], retained: bool) {
    if payload.is_empty() {
        // What is said when a retained message is taken away.
        return;
    }
    let parsed = command::parse(&shared.lock().plan, topic, payload);
    let Some(parsed) = parsed else { return };
    if retained {
        // It would be done again at every connection.
        shared.say(Happening::Ignored {
            reason: format!(
                "{topic}: a retained command is not followed; send it without \"retain\""
            ),
        });
        return;
    }
    shared.say(match parsed {
        Ok(command) => Happening::Command(command),
        Err(reason) => Happening::Ignored { reason },
    });
}

/// What a connection begins with, and what it bears.
struct Feed {
    /// The topics that are to be heard.
    filters: Vec<String>,
    /// How often the site had changed when they were written down.
    changes: u64,
    /// Whether commands of regions that come later are to be heard, too.
    obeys: bool,
    /// The most bytes of a message, where the broker has said so.
    largest: Option<usize>,
}

async fn subscribe(sender: &Sender, filters: &[String]) {
    for filters in filters.chunks(32) {
        // Where the connection has ended the other half knows why.
        let _ = sender.subscribe(filters).await;
    }
}

/// Asks for what is to be heard, sends what waits, and ends once all has arrived and it is to end.
async fn feed(shared: &Shared, sender: &Sender, feed: Feed, flight: &Flight) {
    let Feed {
        filters,
        mut changes,
        obeys,
        largest,
    } = feed;
    subscribe(sender, &filters).await;
    let mut heard: BTreeSet<String> = filters.into_iter().collect();
    let mut skipped = false;
    let mut handed = 0;
    let mut introduced = false;
    loop {
        let commands = {
            let state = shared.lock();
            let other = obeys && std::mem::replace(&mut changes, state.changes) != state.changes;
            other.then(|| command::filters(&state.plan))
        };
        if let Some(mut commands) = commands {
            // Home Assistant shows controls of a region that is new: they must do something.
            commands.retain(|topic| !heard.contains(topic));
            subscribe(sender, &commands).await;
            heard.extend(commands);
        }
        let next = shared.lock().outbox.next();
        if let Some(message) = next {
            let bytes = message.payload.len() + message.topic.len() + 16;
            if largest.is_some_and(|largest| bytes > largest) {
                if !std::mem::replace(&mut skipped, true) {
                    shared.say(Happening::Ignored {
                        reason: format!(
                            "{} is not sent: it has {bytes} bytes, and the broker takes {}",
                            message.topic,
                            largest.unwrap_or_default()
                        ),
                    });
                }
                continue;
            }
            if message.topic.ends_with("/config") {
                introduced = true;
            } else if introduced && message.retain && message.payload.is_empty() {
                // Home Assistant was told just now that this is gone, and takes a moment to listen there no more.
                introduced = false;
                sleep(FAREWELL).await;
            }
            *flight.in_hand.borrow_mut() = Some(message.clone());
            if sender.publish(message).await.is_err() {
                // The other half knows why.
                std::future::pending::<()>().await;
            }
            flight.in_hand.take();
            handed += 1;
            continue;
        }
        match shared.closing() {
            None => shared.wake.notified().await,
            Some(_) if flight.acknowledged.get() >= handed => return,
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                // Woken by what is acknowledged.
                let _ = timeout(left, shared.wake.notified()).await;
            }
        }
    }
}
