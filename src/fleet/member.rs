//! A box among those of its group: it hears what is published, does it, tries again what did not succeed, and says what became
//! of it. Whoever runs it calls [`Member::attend`] now and then.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::{Follower, Outcome, Tools};
use crate::mqtt::exchange::{Exchange, Heard, Terms};
use crate::mqtt::{BrokerSettings, MqttError};

/// After what silence the connection is looked after: prompts are rare, and a box may pay for each byte.
const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// How long after what could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(300);
/// How often a box says that it still is there.
const STILL_THERE: Duration = Duration::from_secs(3600);

/// What happens, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct News {
    /// The region that it is about, where it is about one.
    pub region: Option<String>,
    /// One word for programs.
    pub code: &'static str,
    /// In a sentence.
    pub said: String,
    /// Whether something is wrong that a person can cure.
    pub is_warning: bool,
}

/// A box that follows a group over a broker.
pub struct Member {
    follower: Follower,
    exchange: Exchange,
    heard: Receiver<Heard>,
    report_topic: String,
    /// Why the newest of a region is not followed.
    troubles: BTreeMap<String, String>,
    /// What is tried again.
    pending: BTreeMap<String, Vec<u8>>,
    again: Instant,
    reported: Option<Instant>,
    listening: bool,
}

impl Member {
    /// Begins to follow. `id` is that of the machine, the same at every start.
    ///
    /// # Errors
    /// If the settings cannot be used, or nothing can be called as this box is.
    pub fn join(
        settings: BrokerSettings,
        follower: Follower,
        id: &str,
    ) -> Result<Member, MqttError> {
        let (presence, report_topic) = follower.own_topics()?;
        let client = blake3::hash(format!("{id}/{presence}").as_bytes()).to_hex();
        let terms = Terms {
            // 23 letters and digits are what every broker takes.
            client_id: format!("rlpf{}", &client[..16]),
            presence: Some(presence),
            topics: follower.topics(),
            keep_alive: KEEP_ALIVE,
        };
        let (exchange, heard) = Exchange::start(settings, terms)?;
        Ok(Member {
            follower,
            exchange,
            heard,
            report_topic,
            troubles: BTreeMap::new(),
            pending: BTreeMap::new(),
            again: Instant::now() + AGAIN,
            reported: None,
            listening: false,
        })
    }

    /// What it follows.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Whether all that the broker keeps was asked for.
    pub fn is_listening(&self) -> bool {
        self.listening
    }

    /// Whether nothing waits to be tried again.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Hears what came, waiting for `patience` at most, and does what it says; `say` is told what happens.
    pub fn attend(&mut self, patience: Duration, tools: &Tools, say: &mut dyn FnMut(News)) {
        let mut changed = false;
        let mut next = self.heard.recv_timeout(patience).ok();
        while let Some(heard) = next {
            changed |= self.hear(heard, tools, say);
            next = self.heard.try_recv().ok();
        }
        if Instant::now() >= self.again {
            self.again = Instant::now() + AGAIN;
            for (topic, payload) in std::mem::take(&mut self.pending) {
                changed |= self.follow(topic, payload, tools, say);
            }
        }
        if changed || self.reported.is_none_or(|at| at.elapsed() >= STILL_THERE) {
            self.reported = Some(Instant::now());
            let report = self
                .follower
                .report(&|region| self.troubles.get(region).cloned());
            self.exchange.hold(&self.report_topic, report.encode());
        }
    }

    /// Says what is left to be said, within so long, and goodbye. Whether the broker has all.
    pub fn leave(self, within: Duration) -> bool {
        self.exchange.finish(within)
    }

    fn hear(&mut self, heard: Heard, tools: &Tools, say: &mut dyn FnMut(News)) -> bool {
        let mut of_broker = |code, said: String, is_warning| {
            say(News {
                region: None,
                code,
                said,
                is_warning,
            });
            false
        };
        match heard {
            Heard::Message { topic, payload } => self.follow(topic, payload, tools, say),
            Heard::Connected { away: None } => {
                of_broker("connected", "the fleet is followed".into(), false)
            }
            Heard::Connected { away: Some(away) } => {
                let away = humantime::format_duration(Duration::from_secs(away.as_secs()));
                of_broker(
                    "connected",
                    format!("the fleet is followed again after {away}"),
                    false,
                )
            }
            Heard::Away { reason } => {
                self.listening = false;
                of_broker(
                    "away",
                    format!("{reason}; what is in use stays in use"),
                    true,
                )
            }
            Heard::Listening { granted: true } => {
                self.listening = true;
                false
            }
            Heard::Listening { granted: false } => {
                let group = &self.follower.subscription().group;
                let said =
                    format!("the broker does not let this box read what is published for {group}");
                of_broker("refused", said, true)
            }
            Heard::Dropped => {
                let said = "the broker does not take what this box reports: its user must be allowed to write there";
                of_broker("dropped", said.into(), true)
            }
            Heard::TooLarge { topic } => {
                let said = format!(
                    "{topic}: something came that is too large for a notice; nothing is heard there for ten minutes"
                );
                let region = self.follower.region_at(&topic).map(str::to_owned);
                if let Some(region) = &region {
                    self.troubles
                        .insert(region.clone(), "what came is too large for a notice".into());
                }
                say(News {
                    region,
                    code: "too-large",
                    said,
                    is_warning: true,
                });
                true
            }
        }
    }

    /// Does what a message says; whether there is something new to report.
    fn follow(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        tools: &Tools,
        say: &mut dyn FnMut(News),
    ) -> bool {
        let Some(region) = self.follower.region_at(&topic).map(str::to_owned) else {
            return false;
        };
        self.pending.remove(&topic);
        let (code, said, is_warning, trouble) = match self.follower.hear(&topic, &payload, tools) {
            Outcome::Known => return false,
            Outcome::Waits(notice) => (
                "waits",
                format!(
                    "generation {} is tried by {} of the boxes first, and this is none of them",
                    notice.generation, notice.canary
                ),
                false,
                None,
            ),
            Outcome::Refused(refusal) => {
                let said = format!("refused: {refusal}");
                (refusal.code(), said.clone(), true, Some(said))
            }
            Outcome::Trouble(trouble) => {
                let said = format!("not done yet: {trouble}");
                self.pending.insert(topic, payload);
                ("trouble", said.clone(), true, Some(said))
            }
            Outcome::Followed(taken) => {
                let refused = taken.state == "refused";
                (code_of(&taken.state), taken.said, refused, None)
            }
        };
        let news = !(code == "waits" && self.troubles.contains_key(&region));
        match trouble {
            Some(trouble) => drop(self.troubles.insert(region.clone(), trouble)),
            None if code != "waits" => drop(self.troubles.remove(&region)),
            None => {}
        }
        say(News {
            region: Some(region),
            code,
            said,
            is_warning,
        });
        news
    }
}

/// The word for what became of a notice, of those that there are.
fn code_of(state: &str) -> &'static str {
    match state {
        "accepted" => "accepted",
        "refused" => "refused",
        "unjudged" => "unjudged",
        "restored" => "restored",
        _ => "withdrawn",
    }
}
