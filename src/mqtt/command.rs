//! What others ask of a box over the broker.

use std::fmt;

use super::discovery::PRESS;
use super::site::Plan;

/// The most bytes of a command.
const MOST_BYTES: usize = 1024;

/// What is asked for, and of which region.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The camera's name.
    pub camera: String,
    /// The region's name.
    pub region: String,
    /// What is to be done.
    pub what: Request,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// Train its prompt on the pictures that were taken.
    Train,
    /// Use the prompt of this name.
    UsePrompt(String),
    /// Answer "unknown" where the best label's probability is lower, in `0..=1`.
    Threshold(f32),
}

impl fmt::Display for Command {
    /// For people: `camera door, region shelf: threshold 45 %`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "camera {}, region {}: ", self.camera, self.region)?;
        match &self.what {
            Request::Train => out.write_str("train"),
            Request::UsePrompt(prompt) => write!(out, "use the prompt {prompt}"),
            Request::Threshold(share) => write!(out, "threshold {:.1} %", 100.0 * share),
        }
    }
}

/// What cannot be done, and why.
pub(super) type Refused = String;

/// The topics on which commands come.
pub(super) fn filters(plan: &Plan) -> Vec<String> {
    let mut filters = Vec::new();
    for (_, region, topics) in plan.regions() {
        if region.controls.is_some() {
            filters.push(topics.train());
            filters.push(format!("{}/set", topics.prompt()));
            filters.push(format!("{}/set", topics.threshold()));
        }
    }
    filters
}

/// The command that has come at `topic`; none where it is no topic of commands.
pub(super) fn parse(plan: &Plan, topic: &str, payload: &[u8]) -> Option<Result<Command, Refused>> {
    let (camera, region, topics) = plan.regions().find(|(_, region, topics)| {
        region.controls.is_some()
            && topic
                .strip_prefix(&topics.0)
                .is_some_and(|rest| rest.starts_with('/'))
    })?;
    let controls = region.controls.as_ref()?;
    let text = std::str::from_utf8(payload).ok();
    let text = text.filter(|text| text.len() <= MOST_BYTES).map(str::trim);
    let refused = |why: String| Some(Err(format!("{topic}: {why}")));
    let what = match topic {
        _ if topic == topics.train() => match text {
            Some(PRESS) => Request::Train,
            _ => return refused(format!("a button takes {PRESS} and nothing else")),
        },
        _ if topic == format!("{}/set", topics.prompt()) => match text {
            Some(name) if controls.prompts.iter().any(|prompt| prompt == name) => {
                Request::UsePrompt(name.to_owned())
            }
            Some(name) => {
                let name: String = name.chars().take(60).collect();
                return refused(format!("there is no prompt {name:?}"));
            }
            None => return refused("that is no prompt's name".into()),
        },
        _ if topic == format!("{}/set", topics.threshold()) => {
            match text.and_then(|text| text.parse::<f32>().ok()) {
                Some(share) if (0.0..=100.0).contains(&share) => Request::Threshold(share / 100.0),
                _ => return refused("a threshold is a number from 0 to 100".into()),
            }
        }
        _ => return None,
    };
    Some(Ok(Command {
        camera: camera.name.clone(),
        region: region.name.clone(),
        what,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::site::Scope;
    use super::super::site::tests::shop;
    use super::*;

    #[test]
    fn commands_are_read_and_what_is_none_is_refused_with_a_sentence() {
        let plan = Plan::new(shop(Scope::Box)).unwrap();
        let parse = |topic: &str, payload: &[u8]| {
            parse(&plan, &format!("edge-rlp/shop/door/shelf/{topic}"), payload)
        };
        let what =
            |topic: &str, payload: &str| parse(topic, payload.as_bytes()).unwrap().unwrap().what;
        assert_eq!(what("train", "PRESS"), Request::Train);
        assert_eq!(
            what("prompt/set", "night"),
            Request::UsePrompt("night".into())
        );
        assert_eq!(what("threshold/set", "25"), Request::Threshold(0.25));
        for (topic, payload, part) in [
            ("train", &b""[..], "PRESS"),
            ("prompt/set", b"day", "no prompt \"day\""),
            ("prompt/set", &[0xff; 3000], "no prompt's name"),
            ("threshold/set", b"101", "from 0 to 100"),
            ("threshold/set", b"NaN", "from 0 to 100"),
            ("threshold/set", b"", "from 0 to 100"),
        ] {
            let refused = parse(topic, payload).unwrap().unwrap_err();
            assert!(refused.contains(part), "{refused}");
            assert!(
                refused.starts_with("edge-rlp/shop/door/shelf/"),
                "{refused}"
            );
        }
        assert_eq!(parse("state", b"x"), None);
        assert_eq!(filters(&plan).len(), 3);
        assert!(filters(&Plan::new(shop(Scope::Camera)).unwrap()).is_empty());
    }
}
