//! What Home Assistant is told, so that it shows a box, its cameras and what they see without being set up: one message a
//! device (`homeassistant/device/ID/config`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::site::{Plan, PlannedCamera, Scope, SiteCamera, SiteRegion};
use super::topics::{RegionTopics, slug};

/// Where Home Assistant looks for devices unless it was told otherwise.
pub const DISCOVERY: &str = "homeassistant";
/// The most bytes of labels that are listed as options; longer lists make messages that no one wants to keep.
const MOST_OPTIONS: usize = 16 << 10;
/// What a picture shows that shows none of the labels.
pub(super) const UNKNOWN: &str = "unknown";
/// What presses the button.
pub(super) const PRESS: &str = "PRESS";
/// The kind of event that a change of the label is.
pub(super) const CHANGED: &str = "changed";

/// The devices of a site: what to say of each, by its topic.
pub(super) fn devices(plan: &Plan, prefix: &str) -> BTreeMap<String, Value> {
    let mut devices = BTreeMap::new();
    let topic = |id: &str| format!("{prefix}/device/{id}/config");
    let of_box = format!("edge-rlp_{}", slug(&[&plan.site.name]));
    if plan.site.scope == Scope::Box {
        devices.insert(topic(&of_box), the_box(plan, &of_box));
    }
    for (camera, planned) in plan.cameras() {
        let id = format!("edge-rlp_{}", slug(&[&plan.site.name, &camera.name]));
        let via = (plan.site.scope == Scope::Box).then_some(&*of_box);
        devices.insert(topic(&id), device(plan, &id, via, camera, planned));
    }
    devices
}

/// A device's parts, and of which kind each is: what must be known to remove one.
pub(super) fn parts(device: &Value) -> BTreeMap<String, String> {
    let parts = device["components"].as_object().into_iter().flatten();
    parts
        .map(|(id, part)| {
            let kind = part["platform"].as_str().unwrap_or_default();
            (id.clone(), kind.to_owned())
        })
        .collect()
}

/// The message that removes those of `gone` from `device`: a part of which nothing is said but its kind goes away.
pub(super) fn without(device: &Value, gone: &BTreeMap<String, String>) -> Value {
    let mut device = device.clone();
    if let Some(parts) = device["components"].as_object_mut() {
        for (id, kind) in gone {
            parts.insert(id.clone(), json!({ "platform": kind }));
        }
    }
    device
}

fn origin() -> Value {
    json!({ "name": "edge-rlp", "sw_version": env!("CARGO_PKG_VERSION") })
}

fn the_box(plan: &Plan, id: &str) -> Value {
    let mut device = json!({
        "identifiers": [id],
        "name": plan.site.name,
        "manufacturer": "edge-rlp",
        "model": "box",
        "sw_version": env!("CARGO_PKG_VERSION"),
    });
    if let Some(page) = &plan.site.page {
        device["configuration_url"] = json!(page);
    }
    json!({
        "device": device,
        "origin": origin(),
        "qos": 1,
        "components": {
            "connection": {
                "platform": "binary_sensor",
                "name": "Connection",
                "unique_id": format!("{id}_connection"),
                "device_class": "connectivity",
                "entity_category": "diagnostic",
                "state_topic": plan.root.status(),
                "payload_on": "online",
                "payload_off": "offline",
            },
        },
    })
}

fn device(
    plan: &Plan,
    id: &str,
    via: Option<&str>,
    camera: &SiteCamera,
    planned: &PlannedCamera,
) -> Value {
    let mut device = json!({
        "identifiers": [id],
        "name": format!("{} {}", plan.site.name, camera.name),
        "manufacturer": "edge-rlp",
        "model": "camera",
        "sw_version": env!("CARGO_PKG_VERSION"),
    });
    if let Some(page) = &plan.site.page {
        device["configuration_url"] = json!(page);
    }
    if let Some(via) = via {
        device["via_device"] = json!(via);
    }
    let problem = planned.topics.problem();
    let online = json!([{ "topic": plan.root.status() }]);
    let seeing = json!([
        { "topic": plan.root.status() },
        { "topic": problem, "payload_available": "OFF", "payload_not_available": "ON" },
    ]);
    let mut parts = Map::new();
    let mut add = |part: &str, value: Value| {
        parts.insert(part.to_owned(), value);
    };
    add(
        "problem",
        json!({
            "platform": "binary_sensor",
            "name": "Problem",
            "unique_id": format!("{id}_problem"),
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": problem,
            "json_attributes_topic": planned.topics.problem_attributes(),
            "availability": online,
        }),
    );
    for (region, topics) in camera.regions.iter().zip(&planned.regions) {
        for (part, mut value) in of_region(camera, region, topics) {
            let name = format!("{}_{part}", slug(&[&region.name]));
            value["unique_id"] = json!(format!("{id}_{name}"));
            let commanded = value.get("command_topic").is_some();
            value["availability"] = if commanded { &online } else { &seeing }.clone();
            value["availability_mode"] = json!("all");
            add(&name, value);
        }
    }
    json!({ "device": device, "origin": origin(), "qos": 1, "components": parts })
}

/// What there is of a region, by its name.
fn of_region(
    camera: &SiteCamera,
    region: &SiteRegion,
    topics: &RegionTopics,
) -> Vec<(&'static str, Value)> {
    let name = &region.name;
    let mut label = json!({
        "platform": "sensor",
        "name": name,
        "icon": "mdi:tag-outline",
        "state_topic": topics.state(),
        "json_attributes_topic": topics.attributes(),
    });
    if let Some(options) = options(&region.labels) {
        label["device_class"] = json!("enum");
        label["options"] = json!(options);
    }
    if let Some(expires) = camera.expires {
        label["expire_after"] = json!(expires.as_secs().max(1));
    }
    let change = json!({
        "platform": "event",
        "name": format!("{name} change"),
        "icon": "mdi:tag-arrow-right-outline",
        "event_types": [CHANGED],
        "state_topic": topics.event(),
    });
    let mut parts = vec![("label", label), ("change", change)];
    if camera.snapshots {
        let image = json!({
            "platform": "image",
            "name": format!("{name} picture"),
            "content_type": "image/jpeg",
            "image_topic": topics.image(),
        });
        parts.push(("image", image));
    }
    let Some(controls) = &region.controls else {
        return parts;
    };
    let prompt = json!({
        "platform": "select",
        "name": format!("{name} prompt"),
        "icon": "mdi:text-box-outline",
        "entity_category": "config",
        "state_topic": topics.prompt(),
        "command_topic": format!("{}/set", topics.prompt()),
        "options": controls.prompts,
    });
    let threshold = json!({
        "platform": "number",
        "name": format!("{name} threshold"),
        "icon": "mdi:gauge",
        "entity_category": "config",
        "state_topic": topics.threshold(),
        "command_topic": format!("{}/set", topics.threshold()),
        "min": 0,
        "max": 100,
        "step": 1,
        "unit_of_measurement": "%",
        "mode": "box",
    });
    let train = json!({
        "platform": "button",
        "name": format!("{name} train"),
        "icon": "mdi:school-outline",
        "entity_category": "config",
        "command_topic": topics.train(),
        "payload_press": PRESS,
    });
    if !controls.prompts.is_empty() {
        parts.push(("prompt", prompt));
    }
    parts.extend([("threshold", threshold), ("train", train)]);
    parts
}

/// The labels and "unknown", each once; none where they are too many to be listed.
fn options(labels: &[String]) -> Option<Vec<&str>> {
    let bytes: usize = labels.iter().map(String::len).sum();
    if bytes > MOST_OPTIONS {
        return None;
    }
    let mut seen = BTreeSet::new();
    let all = labels.iter().map(String::as_str).chain([UNKNOWN]);
    Some(all.filter(|label| seen.insert(*label)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::site::tests::shop;
    use super::*;

    fn of(scope: Scope) -> BTreeMap<String, Value> {
        devices(&Plan::new(shop(scope)).unwrap(), DISCOVERY)
    }

    #[test]
    fn a_camera_is_a_device_of_its_box_with_all_that_can_be_seen_and_set() {
        let devices = of(Scope::Box);
        let topics: Vec<&String> = devices.keys().collect();
        assert_eq!(
            topics,
            [
                "homeassistant/device/edge-rlp_shop/config",
                "homeassistant/device/edge-rlp_shop_door/config"
            ]
        );
        let door = &devices[topics[1]];
        assert_eq!(door["device"]["via_device"], "edge-rlp_shop");
        assert_eq!(
            door["device"]["configuration_url"],
            "http://shop.local:8080/"
        );
        let label = &door["components"]["shelf_label"];
        assert_eq!(label["device_class"], "enum");
        assert_eq!(label["options"], json!(["full", "empty", "unknown"]));
        assert_eq!(label["expire_after"], 60);
        assert_eq!(label["availability"].as_array().unwrap().len(), 2);
        let kinds = parts(door);
        let mut kinds: Vec<&str> = kinds.values().map(String::as_str).collect();
        kinds.sort_unstable();
        let expected = [
            "binary_sensor",
            "button",
            "event",
            "image",
            "number",
            "select",
            "sensor",
        ];
        assert_eq!(kinds, expected);
        let ids = door["components"].as_object().unwrap().values();
        let mut ids: Vec<&str> = ids
            .map(|part| part["unique_id"].as_str().unwrap())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), expected.len());
    }

    #[test]
    fn a_camera_by_itself_has_no_box_and_nothing_to_set() {
        let devices = of(Scope::Camera);
        let (topic, door) = devices.first_key_value().unwrap();
        assert_eq!(devices.len(), 1);
        assert_eq!(topic, "homeassistant/device/edge-rlp_shop_door/config");
        assert!(door["device"].get("via_device").is_none());
        assert!(!parts(door).values().any(|kind| kind == "button"));
    }

    #[test]
    fn a_part_that_is_gone_is_named_by_its_kind_alone() {
        let devices = of(Scope::Camera);
        let door = devices.values().next().unwrap();
        let gone = BTreeMap::from([("floor_label".to_owned(), "sensor".to_owned())]);
        let message = without(door, &gone);
        assert_eq!(
            message["components"]["floor_label"],
            json!({ "platform": "sensor" })
        );
        assert_eq!(
            message["components"]["shelf_label"],
            door["components"]["shelf_label"]
        );
    }

    #[test]
    fn ten_thousand_labels_are_no_list_of_options() {
        let labels: Vec<String> = (0..10_000).map(|index| format!("label {index}")).collect();
        assert_eq!(options(&labels), None);
        let few = ["a", "unknown", "a"].map(str::to_owned);
        assert_eq!(options(&few).unwrap(), ["a", "unknown"]);
    }
}
