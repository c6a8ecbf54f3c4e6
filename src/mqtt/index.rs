//! What of a site the broker holds, so that what is no longer part of it can be taken away: retained there, for the program
//! that knows it may have been another one, or on another card.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::discovery;
use super::outbox::Message;
use super::site::Plan;

/// All that is retained for a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Index {
    /// The topics of states, attributes and pictures.
    pub topics: BTreeSet<String>,
    /// The devices that Home Assistant was told of, by their topics, with the kinds of their parts.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
}

impl Index {
    /// What `plan` holds, with Home Assistant's `discovery`, if there is one.
    pub fn of(plan: &Plan, discovery: Option<&str>) -> Index {
        let devices = discovery.map(|prefix| discovery::devices(plan, prefix));
        let devices = devices.into_iter().flatten();
        Index {
            topics: plan.topics(),
            devices: devices
                .map(|(topic, device)| (topic, discovery::parts(&device)))
                .collect(),
        }
    }

    /// What is in either.
    fn with(&self, other: &Index) -> Index {
        let mut both = self.clone();
        both.topics.extend(other.topics.iter().cloned());
        for (topic, parts) in &other.devices {
            let known = both.devices.entry(topic.clone()).or_default();
            known.extend(parts.clone());
        }
        both
    }

    /// Less what no index of this root may hold: an index that somebody else has written takes nothing of others away.
    pub fn within(mut self, root: &str, prefix: Option<&str>) -> Index {
        let below = format!("{root}/");
        self.topics.retain(|topic| topic.starts_with(&below));
        let devices = prefix.map(|prefix| format!("{prefix}/device/edge-rlp_"));
        self.devices.retain(|topic, _| {
            devices
                .as_ref()
                .is_some_and(|devices| topic.starts_with(devices) && topic.ends_with("/config"))
        });
        self
    }

    /// What leads from `self` to `plan`, in this order, but for what `plan` itself holds: an index of both at first, so that
    /// nothing is left behind where it ends in between.
    pub fn to(&self, plan: &Plan, discovery: Option<&str>) -> Vec<Message> {
        let new = Index::of(plan, discovery);
        let union = self.with(&new);
        if union == *self && union == new {
            return Vec::new();
        }
        let encoded = serde_json::to_vec(&union).unwrap_or_default();
        let mut messages = vec![Message::retained(plan.root.index(), encoded)];
        let devices = discovery.map(|prefix| discovery::devices(plan, prefix));
        let devices = devices.unwrap_or_default();
        for (topic, parts) in &self.devices {
            let (Some(device), Some(kept)) = (devices.get(topic), new.devices.get(topic)) else {
                messages.push(Message::retained(topic, ""));
                continue;
            };
            let mut gone = parts.clone();
            gone.retain(|part, _| !kept.contains_key(part));
            if !gone.is_empty() {
                let message = discovery::without(device, &gone).to_string();
                messages.push(Message::retained(topic, message));
            }
        }
        // After the devices: nobody listens there any more.
        for topic in self.topics.difference(&new.topics) {
            messages.push(Message::retained(topic, ""));
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::super::discovery::DISCOVERY;
    use super::super::site::Scope;
    use super::super::site::tests::shop;
    use super::*;
    use serde_json::{Value, json};

    fn topics(messages: &[Message]) -> Vec<&str> {
        messages.iter().map(|message| &*message.topic).collect()
    }

    #[test]
    fn a_camera_that_is_gone_is_taken_away_with_all_it_had_and_its_device() {
        let old = Plan::new(shop(Scope::Box)).unwrap();
        let old = Index::of(&old, Some(DISCOVERY));
        let mut site = shop(Scope::Box);
        site.cameras.clear();
        let plan = Plan::new(site).unwrap();
        let messages = old.to(&plan, Some(DISCOVERY));
        let found = topics(&messages);
        assert_eq!(found[0], "edge-rlp/shop/index");
        assert!(found.contains(&"edge-rlp/shop/door/shelf/state"));
        assert!(found.contains(&"homeassistant/device/edge-rlp_shop_door/config"));
        assert!(
            messages[1..]
                .iter()
                .all(|message| message.payload.is_empty())
        );
        let union: Index = serde_json::from_slice(&messages[0].payload).unwrap();
        assert_eq!(union, old, "it names what is still there");
    }

    #[test]
    fn a_region_that_is_gone_is_a_part_that_is_gone() {
        let mut site = shop(Scope::Camera);
        let mut floor = site.cameras[0].regions[0].clone();
        floor.name = "floor".into();
        site.cameras[0].regions.push(floor);
        let old = Index::of(&Plan::new(site).unwrap(), Some(DISCOVERY));
        let plan = Plan::new(shop(Scope::Camera)).unwrap();
        let messages = old.to(&plan, Some(DISCOVERY));
        let at = |message: &&Message| message.topic.starts_with(DISCOVERY);
        let device = messages.iter().find(at).unwrap();
        assert!(
            messages
                .last()
                .unwrap()
                .topic
                .starts_with("edge-rlp/shop/door/floor/")
        );
        let device: Value = serde_json::from_slice(&device.payload).unwrap();
        assert_eq!(
            device["components"]["floor_label"],
            json!({ "platform": "sensor" })
        );
        assert!(device["components"]["shelf_label"]["state_topic"].is_string());
        let same = Index::of(&plan, Some(DISCOVERY));
        assert!(same.to(&plan, Some(DISCOVERY)).is_empty());
    }

    #[test]
    fn an_index_of_another_hand_takes_nothing_of_others_away() {
        let index: Index = serde_json::from_value(json!({
            "topics": ["edge-rlp/shop/door/state", "edge-rlp/shopping/x", "zigbee2mqtt/lamp"],
            "devices": {
                "homeassistant/device/edge-rlp_shop/config": {},
                "homeassistant/device/lamp/config": {},
                "homeassistant/light/edge-rlp_x/config": {},
            },
        }))
        .unwrap();
        let index = index.within("edge-rlp/shop", Some(DISCOVERY));
        assert_eq!(index.topics.len(), 1);
        assert_eq!(index.devices.len(), 1);
    }
}
