//! Whoever publishes: which number comes next, what was published before, and whether the broker passes a notice on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{
    Canary, Channel, Group, Notice, NoticeError, Refusal, Report, Signed, SigningKey, TrustedKey,
    read, topics,
};
use crate::mqtt::exchange::{Exchange, Heard, Terms};
use crate::mqtt::{BrokerSettings, MqttError};
use crate::store::{Home, StoreError};

/// How many notices of a region are remembered, to go back to.
const MOST_REMEMBERED: usize = 20;
/// How the names of the files of notices end.
const EXTENSION: &str = ".rlpf";
/// After so long without another message all has come that a broker keeps.
const SILENCE: Duration = Duration::from_millis(700);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Why nothing was published, or nothing is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The settings of the broker cannot be used.
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    /// It was not reached in time.
    #[error("the broker was not reached: {reason}")]
    Away {
        /// Why.
        reason: String,
    },
    /// It does not let this client listen.
    #[error("the broker does not let this user read edge-rlp-fleet/#")]
    Forbidden,
    /// It does not pass on what it is given.
    #[error(
        "the broker does not pass the notice on: its user must be allowed to write edge-rlp-fleet/#"
    )]
    NotPassedOn,
    /// What is there is newer than what is to be published.
    #[error(
        "generation {newest} is published already, and boxes take only what is newer than {generation}"
    )]
    NotNewer {
        /// What is there.
        newest: u64,
        /// What was to be published.
        generation: u64,
    },
    /// There is nothing to go back to.
    #[error(
        "nothing is remembered of {group}:{region} that was published before: a rollback is made where the prompts were published"
    )]
    NothingBefore {
        /// The group.
        group: Group,
        /// The region.
        region: String,
    },
    /// There is no such generation.
    #[error(
        "generation {generation} of {group}:{region} is not remembered here; those that are: {known}"
    )]
    NoGeneration {
        /// The group.
        group: Group,
        /// The region.
        region: String,
        /// Its number.
        generation: u64,
        /// Those that are.
        known: String,
    },
    /// The notice cannot be made.
    #[error(transparent)]
    Notice(#[from] NoticeError),
    /// What is remembered cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A remembered notice cannot be read.
    #[error("{}: {refusal}", path.display())]
    Remembered {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        refusal: Refusal,
    },
}

/// What was published of a region from this home folder: `fleet/published/GROUP/REGION/`.
pub struct Published<'a> {
    home: &'a Home,
    group: &'a Group,
    region: &'a str,
}

impl<'a> Published<'a> {
    /// Of a region of a group.
    pub fn new(home: &'a Home, group: &'a Group, region: &'a str) -> Published<'a> {
        Published {
            home,
            group,
            region,
        }
    }

    fn folder(&self) -> String {
        let group = blake3::hash(self.group.as_str().as_bytes()).to_hex();
        format!("published/{}/{}", &group[..12], self.region)
    }

    fn file(&self, generation: u64) -> String {
        format!("{}/{generation:09}{EXTENSION}", self.folder())
    }

    /// The numbers of those that are remembered, oldest first.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn generations(&self) -> Result<Vec<u64>, StoreError> {
        let names = self.home.fleet_files(&self.folder())?;
        let number = |name: &String| name.strip_suffix(EXTENSION)?.parse().ok();
        let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Remembers the bytes of a notice, before anybody hears of it: no number is given twice.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn remember(&self, generation: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.home.keep_fleet_file(&self.file(generation), bytes)?;
        let known = self.generations()?;
        for old in &known[..known.len().saturating_sub(MOST_REMEMBERED)] {
            self.home.forget_fleet_file(&self.file(*old));
        }
        Ok(())
    }

    /// A notice that was published.
    ///
    /// # Errors
    /// If it is not remembered, or damaged.
    pub fn notice(&self, generation: u64, key: &TrustedKey) -> Result<Notice, PublishError> {
        let name = self.file(generation);
        let Some(bytes) = self.home.fleet_file(&name)? else {
            let known = self.generations()?;
            let known: Vec<String> = known.iter().map(u64::to_string).collect();
            return Err(PublishError::NoGeneration {
                group: self.group.clone(),
                region: self.region.into(),
                generation,
                known: if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                },
            });
        };
        match read(&bytes, std::slice::from_ref(key)) {
            Ok(signed) => Ok(signed.notice),
            Err(refusal) => Err(PublishError::Remembered {
                path: self.home.fleet_path(&name),
                refusal,
            }),
        }
    }

    /// What a rollback goes back to: the newest notice of another prompt from before what is in use was first brought. A second
    /// rollback so goes further back, and not to what the first one took away.
    ///
    /// # Errors
    /// If there is none.
    pub fn before(&self, key: &TrustedKey) -> Result<Notice, PublishError> {
        // The digest of what is in use, and the generation that brought it first.
        let mut in_use = None;
        for generation in self.generations()?.into_iter().rev() {
            // One of another key, or damaged, is none to go back to.
            let Ok(notice) = self.notice(generation, key) else {
                continue;
            };
            let digest = notice.prompt_digest();
            let Some((used, origin)) = &in_use else {
                in_use = Some((digest, self.origin(&notice, key)));
                continue;
            };
            if generation < *origin && digest.is_some() && digest != *used {
                return Ok(notice);
            }
        }
        Err(PublishError::NothingBefore {
            group: self.group.clone(),
            region: self.region.into(),
        })
    }

    /// The generation that brought first what `notice` brings: a rollback may bring back what a rollback brought.
    fn origin(&self, notice: &Notice, key: &TrustedKey) -> u64 {
        let (mut origin, mut restores) = (notice.generation, notice.restores);
        while let Some(earlier) = restores.filter(|&earlier| earlier < origin) {
            origin = earlier;
            restores = self.notice(earlier, key).ok().and_then(|of| of.restores);
        }
        origin
    }
}

/// A broker that is published to.
pub struct Publisher {
    exchange: Exchange,
    heard: Receiver<Heard>,
    until: Instant,
    /// What the broker keeps, by topic.
    kept: BTreeMap<String, Vec<u8>>,
}

impl Publisher {
    /// Connects, and learns what the broker keeps at `topics`; all of it within `patience`. Without a name of its own that others
    /// could guess, each is another client.
    ///
    /// # Errors
    /// If the broker is not reached in time, or does not let this client listen.
    pub fn connect(
        settings: BrokerSettings,
        topics: Vec<String>,
        patience: Duration,
    ) -> Result<Publisher, PublishError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let made_up = format!("{}{}", std::process::id(), now.as_nanos());
        let client = blake3::hash(made_up.as_bytes()).to_hex();
        let terms = Terms {
            client_id: format!("rlpp{}", &client[..16]),
            presence: None,
            topics,
            keep_alive: Duration::from_secs(20),
        };
        let (exchange, heard) = Exchange::start(settings, terms)?;
        let mut publisher = Publisher {
            exchange,
            heard,
            until: Instant::now() + patience,
            kept: BTreeMap::new(),
        };
        publisher.learn()?;
        Ok(publisher)
    }

    /// What the broker keeps, by topic.
    pub fn kept(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.kept
    }

    fn learn(&mut self) -> Result<(), PublishError> {
        let mut reason = "it does not answer".to_owned();
        let mut listening = false;
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let wait = if listening { left.min(SILENCE) } else { left };
            match self.heard.recv_timeout(wait) {
                Ok(Heard::Message { topic, payload }) => drop(self.kept.insert(topic, payload)),
                Ok(Heard::Listening { granted: true }) => listening = true,
                Ok(Heard::Listening { granted: false }) => return Err(PublishError::Forbidden),
                Ok(Heard::Away { reason: why }) => reason = why,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if listening => return Ok(()),
                Err(_) => return Err(PublishError::Away { reason }),
            }
        }
    }

    /// The newest generation of a region that one of `trusted` has signed, of what the broker keeps; 0 where there is none.
    pub fn newest(&self, group: &Group, region: &str, trusted: &[TrustedKey]) -> u64 {
        let signed = |channel| -> Option<Signed> {
            let bytes = self.kept.get(&topics::of_region(group, region, channel))?;
            read(bytes, trusted).ok()
        };
        let both = [Channel::All, Channel::Canary].map(signed);
        both.iter()
            .flatten()
            .map(|signed| signed.notice.generation)
            .max()
            .unwrap_or(0)
    }

    /// Has the broker keep a notice, and hears that it passes it on. One for all boxes takes the place of one for some of them.
    ///
    /// # Errors
    /// If it does not.
    pub fn publish(mut self, notice: &Notice, bytes: &[u8]) -> Result<(), PublishError> {
        let of = |channel| topics::of_region(&notice.group, &notice.region, channel);
        let topic = of(channel_of(notice));
        self.exchange.hold(&topic, bytes);
        if notice.canary == Canary::ALL && self.kept.contains_key(&of(Channel::Canary)) {
            self.exchange.hold(&of(Channel::Canary), "");
        }
        let mut reason = None;
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            match self.heard.recv_timeout(left) {
                Ok(Heard::Message { topic: at, payload }) if at == topic && payload == bytes => {
                    break;
                }
                Ok(Heard::Dropped) => return Err(PublishError::NotPassedOn),
                Ok(Heard::Away { reason: why }) => reason = Some(why),
                Ok(Heard::Connected { .. }) => reason = None,
                Ok(_) => {}
                Err(_) => {
                    return Err(match reason {
                        Some(reason) => PublishError::Away { reason },
                        None => PublishError::NotPassedOn,
                    });
                }
            }
        }
        // Heard again, so it is kept; what is lost now is the goodbye alone.
        self.kept.clear();
        self.exchange.finish(GOODBYE);
        Ok(())
    }
}

/// What the boxes of a group have reported, as far as this user may hear it.
///
/// # Errors
/// As [`Publisher::connect`].
pub fn reports(
    settings: BrokerSettings,
    group: &Group,
    patience: Duration,
) -> Result<Vec<Report>, PublishError> {
    let [reported, _] = topics::of_all(group);
    let publisher = Publisher::connect(settings, vec![reported], patience)?;
    let kept = publisher.kept.values();
    Ok(kept.filter_map(|payload| Report::parse(payload)).collect())
}

/// Where a notice belongs.
fn channel_of(notice: &Notice) -> Channel {
    if notice.canary == Canary::ALL {
        Channel::All
    } else {
        Channel::Canary
    }
}

/// Signs a notice with the number after all that are known, remembers it, and publishes it. `asked` is a number in its place.
///
/// # Errors
/// If it cannot be made, or the broker does not keep it. It is remembered all the same: its number is used up.
pub fn publish(
    home: &Home,
    publisher: Publisher,
    mut notice: Notice,
    (key, trusted): (&SigningKey, &[TrustedKey]),
    asked: Option<u64>,
) -> Result<Notice, PublishError> {
    let (group, region) = (notice.group.clone(), notice.region.clone());
    let published = Published::new(home, &group, &region);
    let known = published.generations()?.last().copied().unwrap_or(0);
    let newest = publisher.newest(&group, &region, trusted).max(known);
    notice.generation = asked.unwrap_or(newest + 1);
    if notice.generation <= newest {
        return Err(PublishError::NotNewer {
            newest,
            generation: notice.generation,
        });
    }
    let bytes = notice.sign(key)?;
    published.remember(notice.generation, &bytes)?;
    publisher.publish(&notice, &bytes)?;
    Ok(notice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Model;
    use crate::fleet::{Kind, Password, SigningKey};
    use crate::prompt::{Delta, Label, Prompt, Template, Tuning};

    /// The second rollback brought back what the first one took away.
    #[test]
    fn each_rollback_goes_further_back() {
        let dir = tempfile::tempdir().unwrap();
        let (home, group) = (Home::new(dir.path()), "shops".parse().unwrap());
        let key = SigningKey::generate(&Password::None).unwrap().0;
        let published = Published::new(&home, &group, "shelf");
        let model = Model::embedded().unwrap();
        let prompt = |seed: u64| {
            let labels = ["mug", "key"].map(|name| Label::new(name, None).unwrap());
            let change = Delta::init(Tuning::Rlp, 4, model.text.width(), 1, seed).unwrap();
            let fingerprint = model.fingerprint.0;
            let template = Template::default();
            let prompt = Prompt::new(&model.name, fingerprint, template, labels.into(), change);
            Prompt { seed, ..prompt }
        };
        let tell = |generation: u64, restores: Option<u64>, prompt: Prompt| {
            let kind = restores.map_or(Kind::Publish, |_| Kind::Rollback);
            let notice = Notice::new(kind, group.clone(), "shelf", generation, Some(prompt));
            let notice = Notice {
                restores,
                ..notice.unwrap()
            };
            let bytes = notice.sign(&key).unwrap();
            published.remember(generation, &bytes).unwrap();
        };
        (1..=3).for_each(|generation| tell(generation, None, prompt(generation)));
        for (generation, expected) in [(4, 2), (5, 1)] {
            let before = published.before(key.public()).unwrap();
            assert_eq!(before.generation, expected);
            tell(generation, Some(expected), before.prompt.unwrap());
        }
        let none = published.before(key.public());
        assert!(matches!(none, Err(PublishError::NothingBefore { .. })));
        // One that brings back what a rollback brought is of the generation that brought it first.
        tell(6, Some(4), prompt(2));
        assert_eq!(published.before(key.public()).unwrap().generation, 1);
        // What was gone back from before something else was published stays behind.
        tell(7, None, prompt(7));
        let before = published.before(key.public()).unwrap();
        assert_eq!(before.prompt.unwrap().seed, 2);
    }
}
