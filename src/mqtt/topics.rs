//! What the topics are called: `edge-rlp/BOX/CAMERA/REGION/...`.

use std::fmt::Write as _;

use super::MqttError;

/// The first level of all topics.
pub const PREFIX: &str = "edge-rlp";
/// What a camera's whole picture is called where a region's name stands.
pub const WHOLE: &str = "whole";
/// The most bytes of a name: a topic has 65,535 at most, and people read them.
const MOST_BYTES: usize = 200;

/// One level of a topic: a name, with the signs written out that mean something in a topic.
///
/// # Errors
/// If the name is empty or too long.
pub(crate) fn level(what: &'static str, name: &str) -> Result<String, MqttError> {
    let refused = |reason| MqttError::Name {
        what,
        name: name.chars().take(40).collect(),
        reason,
    };
    let name = name.trim();
    if name.is_empty() {
        return Err(refused("a name is needed"));
    }
    if name.len() > MOST_BYTES {
        return Err(refused("it is longer than 200 bytes"));
    }
    let mut level = String::new();
    for (at, sign) in name.char_indices() {
        let meant = matches!(sign, '/' | '+' | '#' | '%') || sign.is_control();
        // Brokers keep topics that begin so to themselves.
        if meant || (sign == '$' && at == 0) {
            let mut bytes = [0; 4];
            for byte in sign.encode_utf8(&mut bytes).bytes() {
                let _ = write!(level, "%{byte:02X}");
            }
        } else {
            level.push(sign);
        }
    }
    Ok(level)
}

/// A name of letters, digits, `_` and `-` alone, as Home Assistant wants those of things; different for different names.
pub(super) fn slug(names: &[&str]) -> String {
    let whole = names.join("/");
    let plain: String = whole
        .chars()
        .map(|sign| match sign {
            'a'..='z' | '0'..='9' | '-' => sign,
            'A'..='Z' => sign.to_ascii_lowercase(),
            _ => '_',
        })
        .collect();
    // Names that differ only in what was replaced, or in where one ends and the next begins, must not meet.
    let simple = |name: &&&str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    if names.len() == names.iter().filter(simple).count() {
        return plain;
    }
    let hash = blake3::hash(whole.as_bytes()).to_hex();
    format!("{plain}_{}", &hash[..6])
}

/// Where one program reports to: a box with all its cameras (`edge-rlp/BOX`), or one camera (`edge-rlp/BOX/CAMERA`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root(pub String);

impl Root {
    /// Whether it is online; by the last will also after an unclean end.
    pub fn status(&self) -> String {
        format!("{}/status", self.0)
    }

    /// Which program reports there.
    pub fn owner(&self) -> String {
        format!("{}/owner", self.0)
    }

    /// Where a program asks whether another one reports there.
    pub fn claim(&self) -> String {
        format!("{}/claim", self.0)
    }

    /// All that is retained there.
    pub fn index(&self) -> String {
        format!("{}/index", self.0)
    }

    /// What happened while the broker was away.
    pub fn gap(&self) -> String {
        format!("{}/gap", self.0)
    }
}

/// The topics of a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CameraTopics(pub String);

impl CameraTopics {
    /// `ON` where it is down.
    pub fn problem(&self) -> String {
        format!("{}/problem", self.0)
    }

    /// What is wrong with it.
    pub fn problem_attributes(&self) -> String {
        format!("{}/problem/attributes", self.0)
    }

    /// Those of a region.
    pub fn region(&self, region: &str) -> RegionTopics {
        RegionTopics(format!("{}/{region}", self.0))
    }
}

/// The topics of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegionTopics(pub String);

impl RegionTopics {
    /// The label.
    pub fn state(&self) -> String {
        format!("{}/state", self.0)
    }

    /// Score, best labels, prompt and generation.
    pub fn attributes(&self) -> String {
        format!("{}/attributes", self.0)
    }

    /// Changes of the label.
    pub fn event(&self) -> String {
        format!("{}/event", self.0)
    }

    /// The newest picture.
    pub fn image(&self) -> String {
        format!("{}/image", self.0)
    }

    /// The prompt in use.
    pub fn prompt(&self) -> String {
        format!("{}/prompt", self.0)
    }

    /// The threshold, in per cent.
    pub fn threshold(&self) -> String {
        format!("{}/threshold", self.0)
    }

    /// The command that starts a training.
    pub fn train(&self) -> String {
        format!("{}/train", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_that_mean_something_in_a_topic_are_written_out() {
        for (name, expected) in [
            ("door", "door"),
            ("Tür 2", "Tür 2"),
            ("a/b+c#d", "a%2Fb%2Bc%23d"),
            ("$SYS", "%24SYS"),
            ("5$", "5$"),
            ("100%\u{0}", "100%25%00"),
        ] {
            assert_eq!(level("the camera's name", name).unwrap(), expected);
        }
        for name in ["", "  ", &"x".repeat(201)] {
            let error = level("the camera's name", name).unwrap_err().to_string();
            assert!(error.starts_with("the camera's name cannot be"), "{error}");
        }
    }

    #[test]
    fn different_names_are_different_things() {
        let names = [
            vec!["shop", "till 1"],
            vec!["shop", "till_1"],
            vec!["shop", "till-1"],
            vec!["shop", "Till-1"],
            vec!["shop", "till", "1"],
            vec!["shop", "tür"],
            vec!["shop", "tor"],
        ];
        let slugs: Vec<String> = names.iter().map(|names| slug(names)).collect();
        for (index, found) in slugs.iter().enumerate() {
            assert!(!slugs[..index].contains(found), "{found}");
            assert!(
                found
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            );
        }
        assert_eq!(slugs[2], "shop_till-1");
    }
}
