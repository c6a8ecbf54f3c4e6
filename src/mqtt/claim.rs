//! The question that comes before all reports, on a connection of its own: is anybody there already?

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::index::Index;
use super::link::{Arrived, CLOSED, Hello, KEEP_ALIVE, LinkError, Receiver, Sender, link};
use super::outbox::Message;
use super::owner::{Claim, Heard, Owner, Step};
use super::session::Shared;

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
    let root = shared.lock().plan.root.clone();
    let (sender, mut receiver) = link(&shared.settings, shared.tls.as_ref(), hello);
    let mut claim = Claim::new(shared.owner.clone());
    let mut index = Index::default();
    let mut end = Instant::now() + 2 * ECHO;
    let (mut connected, mut asked) = (false, false);
    let answer = loop {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(arrived) = timeout(left, receiver.next()).await else {
            if asked {
                break Ok(());
            }
            return Err(LinkError::Refused(format!(
                "it does not pass messages on: its user must be allowed to read and write {}/#",
                root.0
            )));
        };
        let step = match arrived.map_err(|error| explained(error, connected, shared))? {
            Arrived::Connected { .. } => {
                connected = true;
                end = Instant::now() + ECHO;
                if cleanse {
                    for topic in [root.owner(), root.index(), root.claim()] {
                        let _ = sender.publish(Message::retained(topic, "")).await;
                    }
                }
                let _ = sender
                    .subscribe(&[root.owner(), root.index(), root.claim()])
                    .await;
                Step::Wait
            }
            Arrived::Subscribed(true) => {
                let question = Message::passing(root.claim(), shared.owner.encode());
                let _ = sender.publish(question).await;
                Step::Wait
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
                    claim.hear(Heard::Owner { owner, retained })
                }
                Some(owner) if topic == root.claim() && !retained => {
                    claim.hear(Heard::Claim(owner))
                }
                _ if topic == root.index() => {
                    index = serde_json::from_slice(&payload).unwrap_or_default();
                    Step::Wait
                }
                _ => Step::Wait,
            },
            _ => Step::Wait,
        };
        match step {
            Step::Wait => {}
            Step::Asked { another } => {
                asked = true;
                let patience = shared.settings.patience;
                let wait = if another {
                    patience
                } else {
                    patience.min(MOMENT)
                };
                end = Instant::now() + wait;
            }
            Step::Answer => {
                let record = Message::retained(root.owner(), shared.owner.encode());
                let _ = sender.publish(record).await;
            }
            Step::Taken(by) => break Err(by),
        }
    };
    close(&sender, &mut receiver).await;
    let index = index.within(&root.0, shared.discovery.as_deref());
    Ok(answer.map(|()| Claimed {
        index,
        before: claim.before,
    }))
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
