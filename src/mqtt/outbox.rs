//! What waits to be sent. It takes a fixed amount of memory however long the broker is away: of what is retained the newest
//! alone counts, and of what happened a fixed number is kept.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// How much of what happened is kept while the broker is away; what is older gives way.
pub(super) const MOST_EVENTS: usize = 256;
/// Events that had to wait for longer are history: they are told with the gap, and no automation takes them for new.
const FRESH: Duration = Duration::from_secs(10);

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
}

impl Message {
    /// One that the broker keeps.
    pub fn retained(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Message {
        Message {
            topic: topic.into(),
            payload: payload.into(),
            retain: true,
        }
    }

    /// One that goes to whoever listens now.
    pub fn passing(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Message {
        Message {
            retain: false,
            ..Message::retained(topic, payload)
        }
    }
}

/// Something that happened, to be told once.
#[derive(Clone, Debug, PartialEq)]
struct Occurrence {
    topic: String,
    what: Value,
    at: SystemTime,
}

/// What happened while the broker was away.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gap {
    /// With their topics, oldest first.
    pub late: Vec<Value>,
    /// Those that there was no room for.
    pub lost: u64,
}

/// The messages that wait, and everything that the broker should hold.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// To be sent before all else, in this order.
    first: VecDeque<Message>,
    /// What the broker should hold, by topic.
    held: BTreeMap<String, Held>,
    /// The topics of what waits, in the order in which they came.
    order: VecDeque<String>,
    events: VecDeque<Occurrence>,
    lost: u64,
}

#[derive(Debug)]
struct Held {
    payload: Vec<u8>,
    waits: bool,
}

impl Outbox {
    /// The broker should hold `payload`; an earlier one that waits is replaced.
    pub fn hold(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        let payload = payload.into();
        if !self.holds(topic, &payload) {
            self.hold_again(topic, payload);
        }
    }

    /// The same, also where the broker holds just that: whoever listens hears that it still is so.
    pub fn hold_again(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        let payload = payload.into();
        match self.held.get_mut(topic) {
            Some(held) => {
                held.payload = payload;
                if !std::mem::replace(&mut held.waits, true) {
                    self.order.push_back(topic.to_owned());
                }
            }
            None => {
                self.order.push_back(topic.to_owned());
                let held = Held {
                    payload,
                    waits: true,
                };
                self.held.insert(topic.to_owned(), held);
            }
        }
    }

    /// What the broker holds there is no longer this one's to say.
    pub fn let_go(&mut self, topic: &str) {
        self.held.remove(topic);
    }

    fn holds(&self, topic: &str, payload: &[u8]) -> bool {
        self.held
            .get(topic)
            .is_some_and(|held| held.payload == payload)
    }

    /// What the broker should hold at `topic`.
    pub fn held(&self, topic: &str) -> Option<&[u8]> {
        self.held.get(topic).map(|held| &*held.payload)
    }

    /// To be sent before what waits.
    pub fn first(&mut self, message: Message) {
        self.first.push_back(message);
    }

    /// Something has happened; of too many the oldest are lost.
    pub fn happened(&mut self, topic: &str, what: Value, at: SystemTime) {
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
            self.lost += 1;
        }
        self.events.push_back(Occurrence {
            topic: topic.to_owned(),
            what,
            at,
        });
    }

    /// A new connection: everything is to be sent once more, after `first`. What happened too long ago comes back as the gap.
    pub fn connected(&mut self, first: Vec<Message>, now: SystemTime) -> Gap {
        self.first = first.into();
        for held in self.held.values_mut() {
            held.waits = true;
        }
        let (last, others): (Vec<_>, Vec<_>) = self
            .held
            .keys()
            .cloned()
            .partition(|topic: &String| is_last(topic));
        self.order = others.into_iter().chain(last).collect();
        let old = self.events.partition_point(|event| {
            now.duration_since(event.at)
                .is_ok_and(|waited| waited > FRESH)
        });
        let late = self.events.drain(..old).map(|event| {
            let mut what = event.what;
            what["topic"] = json!(event.topic);
            what
        });
        Gap {
            late: late.collect(),
            lost: std::mem::take(&mut self.lost),
        }
    }

    /// The next message to send.
    pub fn next(&mut self) -> Option<Message> {
        if let Some(message) = self.first.pop_front() {
            return Some(message);
        }
        while let Some(topic) = self.order.pop_front() {
            let Some(held) = self.held.get_mut(&topic) else {
                continue;
            };
            held.waits = false;
            return Some(Message::retained(topic, held.payload.clone()));
        }
        let event = self.events.pop_front()?;
        Some(Message::passing(event.topic, event.what.to_string()))
    }

    /// A message did not arrive. What happened waits once more; what is retained is sent anew on the next connection anyway.
    pub fn put_back(&mut self, message: Message) {
        if !is_event(&message) {
            return;
        }
        let Ok(what) = serde_json::from_slice(&message.payload) else {
            return;
        };
        if self.events.len() == MOST_EVENTS {
            self.lost += 1;
            return;
        }
        self.events.push_front(Occurrence {
            topic: message.topic,
            what,
            at: SystemTime::now(),
        });
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.order.is_empty() && self.events.is_empty()
    }

    /// The topics of all that the broker should hold.
    #[cfg(test)]
    pub fn topics(&self) -> Vec<&str> {
        self.held.keys().map(String::as_str).collect()
    }
}

/// Whether a topic says that all others are there.
fn is_last(topic: &str) -> bool {
    topic.ends_with("/status") || topic.ends_with("/index")
}

/// Whether a message tells of something that happened.
fn is_event(message: &Message) -> bool {
    !message.retain && message.topic.ends_with("/event")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(outbox: &mut Outbox) -> Vec<(String, String)> {
        std::iter::from_fn(|| outbox.next())
            .map(|message| {
                let text = String::from_utf8(message.payload).unwrap();
                (message.topic, text)
            })
            .collect()
    }

    #[test]
    fn of_what_is_retained_the_newest_waits_alone() {
        let mut outbox = Outbox::default();
        for index in 0..10_000 {
            outbox.hold("box/cam/state", format!("label {index}"));
            outbox.hold("box/cam/other", "same");
        }
        assert_eq!(outbox.order.len(), 2);
        let all = sent(&mut outbox);
        assert_eq!(all[0], ("box/cam/state".into(), "label 9999".into()));
        assert_eq!(all.len(), 2);
        outbox.hold("box/cam/state", "label 9999");
        assert!(outbox.is_empty(), "the broker holds that already");
        outbox.hold_again("box/cam/state", "label 9999");
        assert_eq!(sent(&mut outbox).len(), 1);
    }

    #[test]
    fn what_happened_is_kept_up_to_a_number_and_the_rest_is_counted() {
        let (mut outbox, now) = (Outbox::default(), SystemTime::now());
        for index in 0..1000 {
            outbox.happened("event", json!({ "index": index }), now);
        }
        let gap = outbox.connected(Vec::new(), now + 2 * FRESH);
        assert_eq!((gap.late.len(), gap.lost), (MOST_EVENTS, 744));
        assert_eq!(gap.late[0], json!({ "index": 744, "topic": "event" }));
        assert!(outbox.is_empty());
        outbox.happened("event", json!({}), now + 2 * FRESH);
        let gap = outbox.connected(Vec::new(), now + 2 * FRESH);
        assert_eq!(gap, Gap::default());
        assert_eq!(sent(&mut outbox).len(), 1, "this is still news");
    }

    #[test]
    fn a_new_connection_is_told_everything_and_its_end_last() {
        let mut outbox = Outbox::default();
        for topic in ["a/status", "b/state", "a/state", "a/index"] {
            outbox.hold(topic, "x");
        }
        outbox.hold("a/gone", "x");
        sent(&mut outbox);
        outbox.hold("a/gone", "y");
        outbox.let_go("a/gone");
        outbox.let_go("a/never");
        let first = vec![Message::retained("a/owner", "me")];
        outbox.connected(first, SystemTime::now());
        let topics: Vec<String> = sent(&mut outbox)
            .into_iter()
            .map(|(topic, _)| topic)
            .collect();
        assert_eq!(
            topics,
            ["a/owner", "a/state", "b/state", "a/index", "a/status"]
        );
    }

    #[test]
    fn what_was_let_go_is_not_sent_though_it_waits() {
        let mut outbox = Outbox::default();
        outbox.hold("a", "x");
        outbox.let_go("a");
        assert_eq!(outbox.next(), None);
        assert!(outbox.topics().is_empty());
    }

    #[test]
    fn an_event_that_did_not_arrive_is_the_next_one() {
        let (mut outbox, now) = (Outbox::default(), SystemTime::now());
        outbox.happened("a/event", json!(1), now);
        outbox.happened("a/event", json!(2), now);
        let first = outbox.next().unwrap();
        outbox.put_back(first);
        outbox.put_back(Message::retained("a/state", "x"));
        outbox.put_back(Message::passing("a/claim", "x"));
        let payloads: Vec<String> = sent(&mut outbox)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(payloads, ["1", "2"]);
    }
}
