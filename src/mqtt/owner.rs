//! Which program reports as a box. Two boxes of one name would overwrite each other's states, so before anything is sent a
//! program asks for its root, and one that is there already answers: the second is refused. An owner that is gone, whatever it
//! left at the broker, does not answer, and its root is free.

use serde::{Deserialize, Serialize};

/// A program that reports, or wants to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Owner {
    /// Different for each program and each of its starts.
    pub instance: String,
    /// The machine, for people.
    pub host: String,
    /// When it began, in milliseconds since 1970; of two that ask at once the elder has it.
    pub since: u64,
}

impl Owner {
    /// From a message; none where it is no owner's.
    pub fn parse(payload: &[u8]) -> Option<Owner> {
        let owner: Owner = serde_json::from_slice(payload).ok()?;
        (!owner.instance.is_empty() && owner.host.len() < 300).then_some(owner)
    }

    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn is_before(&self, other: &Owner) -> bool {
        (self.since, &self.instance) < (other.since, &other.instance)
    }
}

/// A message that matters while asking for a root.
#[derive(Debug)]
pub(super) enum Heard {
    /// An owner's record; `retained` where the broker had kept it.
    Owner { owner: Owner, retained: bool },
    /// Somebody asks.
    Claim(Owner),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Go on waiting.
    Wait,
    /// Everything that was retained has come; others may still answer: for long where there is an owner, who may be alive.
    Asked { another: bool },
    /// Say that this is the owner.
    Answer,
    /// Another program has it.
    Taken(Owner),
}

/// A program that asks.
#[derive(Debug)]
pub(super) struct Claim {
    own: Owner,
    /// The retained owner, where that is another one.
    pub before: Option<Owner>,
}

impl Claim {
    pub fn new(own: Owner) -> Claim {
        Claim { own, before: None }
    }

    pub fn hear(&mut self, heard: Heard) -> Step {
        match heard {
            Heard::Owner { owner, .. } if owner.instance == self.own.instance => Step::Wait,
            Heard::Owner {
                owner,
                retained: true,
            } => {
                self.before = Some(owner);
                Step::Wait
            }
            Heard::Owner { owner, .. } => Step::Taken(owner),
            Heard::Claim(other) if other.instance == self.own.instance => Step::Asked {
                another: self.before.is_some(),
            },
            Heard::Claim(other) if other.is_before(&self.own) => Step::Taken(other),
            Heard::Claim(_) => Step::Answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(instance: &str, since: u64) -> Owner {
        Owner {
            instance: instance.into(),
            host: "pi".into(),
            since,
        }
    }

    fn live(owner: Owner) -> Heard {
        Heard::Owner {
            owner,
            retained: false,
        }
    }

    #[test]
    fn an_owner_that_answers_has_it_and_one_that_is_gone_does_not() {
        let mut claim = Claim::new(owner("b", 2));
        let old = Heard::Owner {
            owner: owner("a", 1),
            retained: true,
        };
        assert_eq!(claim.hear(old), Step::Wait);
        let echo = claim.hear(Heard::Claim(owner("b", 2)));
        assert_eq!(echo, Step::Asked { another: true });
        assert_eq!(claim.before, Some(owner("a", 1)));
        assert_eq!(claim.hear(live(owner("a", 1))), Step::Taken(owner("a", 1)));
        assert_eq!(
            claim.hear(live(owner("b", 2))),
            Step::Wait,
            "that is this one"
        );
    }

    #[test]
    fn of_two_that_ask_at_once_exactly_one_has_it() {
        let (mut a, mut b) = (Claim::new(owner("a", 1)), Claim::new(owner("b", 2)));
        assert_eq!(a.hear(Heard::Claim(owner("b", 2))), Step::Answer);
        assert_eq!(
            b.hear(Heard::Claim(owner("a", 1))),
            Step::Taken(owner("a", 1))
        );
        let (mut c, mut d) = (Claim::new(owner("c", 1)), Claim::new(owner("d", 1)));
        assert_eq!(c.hear(Heard::Claim(owner("d", 1))), Step::Answer);
        assert_eq!(
            d.hear(Heard::Claim(owner("c", 1))),
            Step::Taken(owner("c", 1))
        );
    }

    #[test]
    fn what_is_no_owner_is_nobody() {
        for payload in [
            &b""[..],
            b"{}",
            b"\xff",
            br#"{"instance":"","host":"","since":1}"#,
        ] {
            assert_eq!(Owner::parse(payload), None);
        }
        let whole = owner("a", 1);
        assert_eq!(Owner::parse(&whole.encode()), Some(whole));
    }
}
