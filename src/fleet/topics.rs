//! Where a fleet speaks at a broker. A group may have several levels, so that what follows it in a topic is one level alone, and
//! what is a box's own begins with its name: a broker's rules for who may write where can say so.

use super::{Channel, Group};
use crate::mqtt::{MqttError, level};

/// The first level of all topics.
const PREFIX: &str = "edge-rlp-fleet";

/// Where the notices for `region` lie: those for all boxes of the group, and those for some of them first.
pub fn of_region(group: &Group, region: &str, channel: Channel) -> String {
    let channel = match channel {
        Channel::All => "prompt",
        Channel::Canary => "canary",
    };
    format!("{PREFIX}/{channel}/{group}/{region}")
}

/// Where a box says what became of them.
///
/// # Errors
/// If nothing can be called so.
pub fn report(group: &Group, name: &str) -> Result<String, MqttError> {
    Ok(format!("{PREFIX}/report/{}/{group}", level("box", name)?))
}

/// Where a box says that it is online.
///
/// # Errors
/// If nothing can be called so.
pub fn presence(group: &Group, name: &str) -> Result<String, MqttError> {
    Ok(format!("{PREFIX}/online/{}/{group}", level("box", name)?))
}

/// Where all boxes of a group say so: what they report, and whether they are online.
pub fn of_all(group: &Group) -> [String; 2] {
    ["report", "online"].map(|what| format!("{PREFIX}/{what}/+/{group}"))
}

/// Which box a topic of [`of_all`] is of, and whether it says that the box is online or what it reports.
pub fn origin(topic: &str) -> Option<(Said, &str)> {
    let rest = topic.strip_prefix(PREFIX)?.strip_prefix('/')?;
    let (what, rest) = rest.split_once('/')?;
    let (name, _) = rest.split_once('/')?;
    match what {
        "report" => Some((Said::Report, name)),
        "online" => Some((Said::Presence, name)),
        _ => None,
    }
}

/// What a box says at a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// What became of notices.
    Report,
    /// Whether it is online.
    Presence,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_hears_what_is_said_to_another() {
        let (outer, inner): (Group, Group) =
            ("shops".parse().unwrap(), "shops/north".parse().unwrap());
        assert_ne!(
            of_region(&outer, "north", Channel::All),
            of_region(&inner, "shelf", Channel::All)
        );
        assert_eq!(
            of_region(&inner, "shelf", Channel::Canary),
            "edge-rlp-fleet/canary/shops/north/shelf"
        );
        let topic = report(&inner, "box/1").unwrap();
        assert_eq!(topic, "edge-rlp-fleet/report/box%2F1/shops/north");
        assert_eq!(origin(&topic), Some((Said::Report, "box%2F1")));
        assert_eq!(origin("edge-rlp-fleet/prompt/a/b"), None);
        assert_eq!(origin("edge-rlp/x"), None);
    }
}
