//! The question that comes before all reports, on a connection of its own: is anybody there already?

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::index::Index;
use super::link::{Arrived, CLOSED, Hello, KEEP_ALIVE, LinkError, Receiver, Sender, link};
use super::outbox::Message;
use super::owner::{Claim, Heard, Owner, Step};
use super::shared::Shared;
use super::topics::Root;

/// How long a broker may take to send an answer to a question back to who asked.
const ECHO: Duration = Duration::from_secs(20);
/// How long others that ask at the same moment are waited for.
const MOMENT: Duration = Duration::from_millis(300);

/// A root that is this program's.
pub(super) struct Claimed {
    /// What the broker holds there.
    pub index: Index,
    /// The owner before, where that was another one.
    pub before: Option<Owner>,
}

/// Asks for the root. Nothing is said there yet, and there is no last will that could speak for another box.
pub(super) async fn claim(
    shared: &Shared,
    cleanse: bool,
) -> Result<Result<Claimed, Owner>, LinkError> {
    let hello = Hello {
        client_id: format!("rlp-ask-{}", &shared.owner.instance[..12]),
        will: None,
        keep: false,
        keep_alive: KEEP_ALIVE,
    };
    let (sender, mut receiver) = link(&shared.settings, shared.tls.as_ref(), hello);
    let mut inquiry = Inquiry {
        shared,
        sender,
        root: shared.lock().plan.root.clone(),
        cleanse,
        claim: Claim::new(shared.owner.clone()),
        index: Index::default(),
        connected: false,
        asked: false,
        end: Instant::now() + 2 * ECHO,
    };
    let answer = loop {
        let left = inquiry.end.saturating_duration_since(Instant::now());
        let Ok(arrived) = timeout(left, receiver.next()).await else {
            if inquiry.asked {
                break Ok(());
            }
            return Err(LinkError::Refused(format!(
                "it does not pass messages on: its user must be allowed to read and write {}/#",
                inquiry.root.0
            )));
        };
        let arrived = arrived.map_err(|error| explained(error, inquiry.connected, shared))?;
        let step = inquiry.hear(arrived).await?;
        if let Some(by) = inquiry.act(step).await {
            break Err(by);
        }
    };
    close(&inquiry.sender, &mut receiver).await;
    let (root, discovery) = (&inquiry.root.0, shared.discovery.as_deref());
    Ok(answer.map(|()| Claimed {
        index: inquiry.index.within(root, discovery),
        before: inquiry.claim.before,
    }))
}

/// What is known while the question is asked.
struct Inquiry<'a> {
    shared: &'a Shared,
    sender: Sender,
    root: Root,
    /// Whether what the broker holds there is removed first.
    cleanse: bool,
    claim: Claim,
    index: Index,
    connected: bool,
    /// Whether our own question came back, so that others hear it too.
    asked: bool,
    /// When what is waited for is overdue.
    end: Instant,
}

impl Inquiry<'_> {
    /// What follows from what arrived.
    async fn hear(&mut self, arrived: Arrived) -> Result<Step, LinkError> {
        let root = &self.root;
        // What cannot be sent is missed by the broker, which then does not answer in time.
        match arrived {
            Arrived::Connected { .. } => {
                self.connected = true;
                self.end = Instant::now() + ECHO;
                let topics = [root.owner(), root.index(), root.claim()];
                if self.cleanse {
                    for topic in topics.clone() {
                        let _ = self.sender.publish(Message::retained(topic, "")).await;
                    }
                }
                let _ = self.sender.subscribe(&topics).await;
            }
            Arrived::Subscribed(true) => {
                let question = Message::passing(root.claim(), self.shared.owner.encode());
                let _ = self.sender.publish(question).await;
            }
            Arrived::Subscribed(false) => {
                return Err(LinkError::Refused(format!(
                    "it does not let this client read {}/#",
                    root.0
                )));
            }
            Arrived::Message {
                topic,
                payload,
                retained,
            } => match Owner::parse(&payload) {
                Some(owner) if topic == root.owner() => {
                    return Ok(self.claim.hear(Heard::Owner { owner, retained }));
                }
                Some(owner) if topic == root.claim() && !retained => {
                    return Ok(self.claim.hear(Heard::Claim(owner)));
                }
                _ if topic == root.index() => {
                    self.index = serde_json::from_slice(&payload).unwrap_or_default();
                }
                _ => {}
            },
            _ => {}
        }
        Ok(Step::Wait)
    }

    /// Does what a step asks for; the owner, where the root is another's.
    async fn act(&mut self, step: Step) -> Option<Owner> {
        match step {
            Step::Wait => {}
            Step::Asked { another } => {
                self.asked = true;
                let patience = self.shared.settings.patience;
                let wait = if another {
                    patience
                } else {
                    patience.min(MOMENT)
                };
                self.end = Instant::now() + wait;
            }
            Step::Answer => {
                let owner = self.shared.owner.encode();
                let record = Message::retained(self.root.owner(), owner);
                let _ = self.sender.publish(record).await;
            }
            Step::Taken(by) => return Some(by),
        }
        None
    }
}

/// What a connection may lack that was closed before anything was said.
fn explained(error: LinkError, connected: bool, shared: &Shared) -> LinkError {
    match error {
        LinkError::Lost(reason)
            if reason == CLOSED && !connected && !shared.settings.address.is_encrypted() =>
        {
            LinkError::Lost(format!(
                "{reason} before anything was said: perhaps it wants an encrypted one (mqtts://)"
            ))
        }
        other => other,
    }
}

/// Says goodbye.
pub(super) async fn close(sender: &Sender, receiver: &mut Receiver) {
    let goodbye = async {
        if sender.close().await.is_ok() {
            while let Ok(arrived) = receiver.next().await {
                if arrived == Arrived::Closed {
                    break;
                }
            }
        }
    };
    // A broker that does not listen finds out by itself.
    let _ = timeout(Duration::from_secs(2), goodbye).await;
}
