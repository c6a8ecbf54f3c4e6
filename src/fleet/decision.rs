//! What a box does with a notice before it looks at a picture: whether it is for this box, whether it is new, and whether it is
//! among the first.

use serde::{Deserialize, Serialize};

use super::{Canary, Group, Refusal, Signed};

/// How many prompts of the fleet a box knows again as such.
const MOST_PROMPTS: usize = 16;

/// Where a notice came: what all boxes are to have, or what some of them try first. Both are kept by the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// For all boxes.
    All,
    /// For those that try it first.
    Canary,
}

/// Who decides.
#[derive(Clone, Copy, Debug)]
pub struct Following<'a> {
    /// The group that the box follows.
    pub group: &'a Group,
    /// What the box is called.
    pub name: &'a str,
}

/// What a box remembers of a region, for ever: an old notice is an old one also after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// The newest generation that was dealt with.
    pub generation: u64,
    /// The digest of the newest notice that was dealt with of those for all boxes.
    pub all: Option<String>,
    /// Of those for some boxes first.
    pub canary: Option<String>,
    /// The digests of the fleet's prompts that were in use here, newest last.
    pub prompts: Vec<String>,
    /// The generation, in this box's own history, that was in use before the fleet's first.
    pub own: Option<u64>,
    /// What came of the newest.
    pub taken: Option<Taken>,
}

/// What came of a notice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Taken {
    /// What stands now, in one word: `accepted`, `refused`, `unjudged`, `restored`, `withdrawn`.
    pub state: String,
    /// The same in a sentence.
    pub said: String,
    /// The accuracy of what was in use, in `0..=1`, on the box's own pictures.
    pub before: Option<f32>,
    /// Of what came.
    pub after: Option<f32>,
    /// How many pictures judged.
    pub pictures: usize,
    /// When, in seconds since 1970.
    pub at_unix: u64,
}

impl Record {
    fn newest(&self, channel: Channel) -> Option<&String> {
        match channel {
            Channel::All => self.all.as_ref(),
            Channel::Canary => self.canary.as_ref(),
        }
    }

    /// Whether a prompt with this digest came from the fleet.
    pub fn is_of_fleet(&self, prompt: &str) -> bool {
        self.prompts.iter().any(|known| known == prompt)
    }

    /// The same after `signed` was dealt with.
    #[must_use]
    pub fn after(&self, signed: &Signed, channel: Channel, taken: Taken) -> Record {
        let mut record = self.clone();
        record.generation = signed.notice.generation;
        match channel {
            Channel::All => record.all = Some(signed.digest.clone()),
            Channel::Canary => record.canary = Some(signed.digest.clone()),
        }
        record.taken = Some(taken);
        record
    }

    /// Remembers that a prompt with this digest came from the fleet.
    pub(super) fn remember(&mut self, prompt: String) {
        self.prompts.retain(|known| *known != prompt);
        self.prompts.push(prompt);
        let too_many = self.prompts.len().saturating_sub(MOST_PROMPTS);
        self.prompts.drain(..too_many);
    }
}

/// What is to be done with a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it was dealt with. Brokers tell what they keep at every connection.
    Known,
    /// Nothing yet: others try it first.
    Waits,
    /// What it says.
    Follow,
}

/// What the box that is `following` does with a notice that came on `channel` as one for `region`.
///
/// # Errors
/// If it is not for this box, or not newer than what the box has seen.
pub fn decide(
    signed: &Signed,
    (region, channel): (&str, Channel),
    following: Following,
    record: &Record,
) -> Result<Decision, Refusal> {
    let notice = &signed.notice;
    if notice.group != *following.group {
        return Err(Refusal::OtherGroup {
            of: notice.group.to_string(),
            follows: following.group.to_string(),
        });
    }
    if notice.region != region {
        return Err(Refusal::OtherRegion {
            of: notice.region.clone(),
            at: region.into(),
        });
    }
    if record.newest(channel) == Some(&signed.digest) {
        return Ok(Decision::Known);
    }
    if notice.generation < record.generation {
        return Err(Refusal::Older {
            offered: notice.generation,
            seen: record.generation,
        });
    }
    if notice.generation == record.generation {
        let known = [&record.all, &record.canary];
        return if known.contains(&&Some(signed.digest.clone())) {
            Ok(Decision::Known)
        } else {
            Err(Refusal::Conflict {
                generation: notice.generation,
            })
        };
    }
    if !is_canary(following.name, notice.canary) {
        return Ok(Decision::Waits);
    }
    Ok(Decision::Follow)
}

/// Whether the box of this name is among the first: always the same boxes, and those of a smaller share are among those of a
/// greater one.
pub fn is_canary(name: &str, share: Canary) -> bool {
    let key = blake3::derive_key("edge-rlp 2026-11-27 which boxes are first", name.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = key;
    let place = u64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64 / 2f64.powi(64);
    share == Canary::ALL || place < f64::from(share.basis_points()) / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Kind, Notice};

    fn signed(generation: u64, digest: &str) -> Signed {
        let notice = Notice::new(
            Kind::Withdraw,
            "shops/north".parse().unwrap(),
            "shelf",
            generation,
            None,
        );
        Signed {
            notice: notice.unwrap(),
            digest: digest.into(),
            key: "K".into(),
            comment: String::new(),
        }
    }

    fn taken() -> Taken {
        Taken {
            state: "accepted".into(),
            said: "accepted".into(),
            before: None,
            after: None,
            pictures: 0,
            at_unix: 0,
        }
    }

    fn ask(signed: &Signed, at: (&str, Channel), record: &Record) -> Result<Decision, Refusal> {
        let group = "shops/north".parse().unwrap();
        let following = Following {
            group: &group,
            name: "shop-17",
        };
        decide(signed, at, following, record)
    }

    #[test]
    fn what_is_newer_is_followed_once_and_what_is_older_never_again() {
        let at = ("shelf", Channel::All);
        let (fifth, sixth) = (signed(5, "five"), signed(6, "six"));
        let record = Record::default();
        assert_eq!(ask(&fifth, at, &record).unwrap(), Decision::Follow);
        let record = record.after(&fifth, Channel::All, taken());
        assert_eq!(ask(&fifth, at, &record).unwrap(), Decision::Known);
        let record = record.after(&sixth, Channel::All, taken());
        assert!(matches!(
            ask(&fifth, at, &record),
            Err(Refusal::Older {
                offered: 5,
                seen: 6
            })
        ));
        assert!(matches!(
            ask(&signed(6, "other"), at, &record),
            Err(Refusal::Conflict { generation: 6 })
        ));
        assert_eq!(
            ask(&signed(7, "seven"), at, &record).unwrap(),
            Decision::Follow
        );
    }

    #[test]
    fn a_box_that_tries_first_is_told_of_the_older_one_for_all_at_every_connection_and_is_silent() {
        let (all, first) = (signed(4, "four"), signed(5, "five"));
        let record = Record::default().after(&all, Channel::All, taken());
        let record = record.after(&first, Channel::Canary, taken());
        assert_eq!(
            ask(&all, ("shelf", Channel::All), &record).unwrap(),
            Decision::Known
        );
        assert_eq!(
            ask(&first, ("shelf", Channel::Canary), &record).unwrap(),
            Decision::Known
        );
        // The same notice, moved to the other topic by somebody.
        assert_eq!(
            ask(&first, ("shelf", Channel::All), &record).unwrap(),
            Decision::Known
        );
        assert!(ask(&all, ("shelf", Channel::Canary), &record).is_err());
    }

    #[test]
    fn a_notice_for_others_is_refused() {
        let elsewhere = ask(
            &signed(5, "five"),
            ("door", Channel::All),
            &Record::default(),
        );
        assert!(matches!(elsewhere, Err(Refusal::OtherRegion { .. })));
        let group = "shops".parse().unwrap();
        let following = Following {
            group: &group,
            name: "shop-17",
        };
        let other = decide(
            &signed(5, "five"),
            ("shelf", Channel::All),
            following,
            &Record::default(),
        );
        assert!(matches!(other, Err(Refusal::OtherGroup { .. })));
    }

    #[test]
    fn the_first_are_always_the_same_and_about_as_many_as_was_said() {
        let names: Vec<String> = (0..20_000).map(|number| format!("shop-{number}")).collect();
        let first = |share: &str| -> Vec<&String> {
            let share = share.parse().unwrap();
            names.iter().filter(|name| is_canary(name, share)).collect()
        };
        let (five, fifty) = (first("5%"), first("50%"));
        assert!((900..1100).contains(&five.len()), "{}", five.len());
        assert!((9700..10300).contains(&fifty.len()), "{}", fifty.len());
        assert!(five.iter().all(|name| fifty.contains(name)));
        assert_eq!(first("100%").len(), 20_000);
        assert_eq!(five, first("5"));
    }

    #[test]
    fn prompts_of_the_fleet_are_known_again_as_long_as_there_is_room() {
        let mut record = Record::default();
        for number in 0..40 {
            record.remember(number.to_string());
        }
        assert_eq!(record.prompts.len(), MOST_PROMPTS);
        assert!(record.is_of_fleet("39") && !record.is_of_fleet("3"));
    }
}
