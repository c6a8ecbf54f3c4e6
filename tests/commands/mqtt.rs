//! Reports to a broker: what is sent, to whom, and what happens when the broker is away, slow, forgetful or hostile. The broker
//! is a small one of the tests' own; scripts/home-test.sh does the same with Mosquitto and Home Assistant.
#![cfg(feature = "mqtt")]

mod program;

use crate::support::broker::{Broker, Manner};
use edge_rlp::mqtt::{
    Broker as Client, BrokerSettings, Controls, Happening, PromptInUse, Reporter, Request, Scope,
    Seen, Site, SiteCamera, SiteRegion,
};
use serde_json::{Value, json};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

const STATE: &str = "edge-rlp/shop/door/shelf/state";
const STATUS: &str = "edge-rlp/shop/status";
const DOOR: &str = "homeassistant/device/edge-rlp_shop_door/config";

fn shop() -> Site {
    let region = SiteRegion {
        name: "shelf".into(),
        labels: vec!["full".into(), "empty".into()],
        controls: Some(Controls {
            prompts: vec!["shelf".into(), "night".into()],
        }),
    };
    Site {
        name: "shop".into(),
        scope: Scope::Box,
        page: Some("http://shop.local/".into()),
        cameras: vec![SiteCamera {
            name: "door".into(),
            expires: Some(Duration::from_secs(60)),
            snapshots: true,
            regions: vec![region],
        }],
    }
}

fn settings(broker: &Broker) -> BrokerSettings {
    let mut settings = BrokerSettings::new(broker.url().parse().unwrap());
    settings.pauses = (Duration::from_millis(50), Duration::from_millis(200));
    settings.patience = Duration::from_millis(400);
    settings
}

fn start_as(broker: &Broker, id: &str, site: Site) -> (Client, Receiver<Happening>) {
    let reporter = Reporter {
        id: id.into(),
        host: format!("host-{id}"),
    };
    Client::start(
        settings(broker),
        site,
        reporter,
        Some("homeassistant".into()),
    )
    .unwrap()
}

fn start(broker: &Broker) -> (Client, Receiver<Happening>) {
    start_as(broker, "a", shop())
}

fn seen(label: &str, score: f32) -> Seen {
    Seen {
        label: label.into(),
        score,
        top: vec![(label.into(), score)],
        prompt: PromptInUse {
            name: Some("shelf".into()),
            generation: Some(3),
        },
    }
}

fn no_picture() -> Option<Vec<u8>> {
    None
}

/// Waits for something to happen; others are passed over.
#[track_caller]
fn happens(happenings: &Receiver<Happening>, wanted: impl Fn(&Happening) -> bool) -> Happening {
    let end = Instant::now() + Duration::from_secs(20);
    let mut others = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match happenings.recv_timeout(left) {
            Ok(happening) if wanted(&happening) => return happening,
            Ok(other) => others.push(other),
            Err(_) => panic!("only {others:?}"),
        }
    }
}

fn json_of(broker: &Broker, topic: &str) -> Value {
    serde_json::from_str(
        &broker
            .retained(topic)
            .unwrap_or_else(|| panic!("nothing at {topic}")),
    )
    .unwrap()
}

#[test]
fn states_attributes_events_pictures_and_devices_arrive_and_the_box_says_goodbye() {
    let broker = Broker::new();
    let (client, happenings) = start(&broker);
    let mut door = client.camera("door");
    door.working();
    door.seen("shelf", seen("full", 0.9), &|| Some(b"jpeg".to_vec()));
    door.changed("shelf", Some("empty"), "full", 0.9);
    client.show_controls("door", "shelf", "night", Some(0.35));
    happens(&happenings, |it| {
        matches!(it, Happening::Connected { away: None, .. })
    });
    broker.wait_for(STATE, "full");
    broker.wait_for("edge-rlp/shop/door/problem", "OFF");
    broker.wait_for("edge-rlp/shop/door/shelf/image", "jpeg");
    broker.wait_for("edge-rlp/shop/door/shelf/prompt", "night");
    broker.wait_for("edge-rlp/shop/door/shelf/threshold", "35");
    broker.wait_for(STATUS, "online");
    let attributes = json_of(&broker, "edge-rlp/shop/door/shelf/attributes");
    assert_eq!(
        attributes,
        json!({ "score": 0.9, "top": [{ "label": "full", "score": 0.9 }], "prompt": "shelf", "generation": 3 })
    );
    let device = json_of(&broker, DOOR);
    assert_eq!(device["components"]["shelf_label"]["state_topic"], STATE);
    assert_eq!(device["device"]["via_device"], "edge-rlp_shop");
    broker.wait("event", |broker| {
        broker.published().iter().any(|sent| {
            let event: Value = serde_json::from_slice(&sent.payload).unwrap_or_default();
            sent.topic == "edge-rlp/shop/door/shelf/event"
                && !sent.retain
                && event["from"] == "empty"
                && event["to"] == "full"
        })
    });
    client.finish(Duration::from_secs(5));
    assert_eq!(broker.retained(STATUS).as_deref(), Some("offline"));
    let last = broker.published().pop().unwrap();
    assert_eq!((&*last.topic, &*last.text()), (STATUS, "offline"));
}

#[test]
fn a_label_is_sent_when_it_changes_and_again_before_it_expires_but_not_with_every_frame() {
    let broker = Broker::new();
    let mut site = shop();
    site.cameras[0].expires = Some(Duration::from_millis(900));
    let (client, _happenings) = start_as(&broker, "a", site);
    let mut door = client.camera("door");
    door.seen("shelf", seen("full", 0.9), &no_picture);
    broker.wait_for(STATE, "full");
    broker.wait_for(STATUS, "online");
    let count = |broker: &Broker| {
        let all = broker.published();
        all.iter().filter(|sent| sent.topic == STATE).count()
    };
    let (before, began) = (count(&broker), Instant::now());
    while began.elapsed() < Duration::from_millis(1300) {
        door.seen("shelf", seen("full", 0.9), &no_picture);
        thread::sleep(Duration::from_millis(5));
    }
    // A loaded machine may be late, and so seldom, but never early.
    let most = began.elapsed().as_millis() as usize / 300 + 1;
    client.finish(Duration::from_secs(5));
    let again = count(&broker) - before;
    assert!(
        (1..=most).contains(&again),
        "{again} times, every 0.3 s, at most {most}"
    );
}

#[test]
fn while_the_broker_is_away_nobody_waits_the_newest_state_wins_and_the_gap_is_told() {
    let broker = Broker::new();
    let (client, happenings) = start(&broker);
    let mut door = client.camera("door");
    door.seen("shelf", seen("full", 0.9), &no_picture);
    broker.wait_for(STATE, "full");
    broker.stop();
    happens(&happenings, |it| matches!(it, Happening::Away { .. }));
    let began = Instant::now();
    for index in 0..10_000 {
        let label = if index % 2 == 0 { "empty" } else { "full" };
        door.seen("shelf", seen(label, 0.5), &no_picture);
        door.changed("shelf", None, label, 0.5);
    }
    door.seen("shelf", seen("empty", 0.5), &no_picture);
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "20,001 reports took {:?}",
        began.elapsed()
    );
    broker.forget();
    broker.start();
    let back = happens(&happenings, |it| matches!(it, Happening::Connected { .. }));
    let Happening::Connected { away, lost, .. } = &back else {
        unreachable!()
    };
    assert!(away.is_some() && *lost >= 10_000 - 256, "{back:?}");
    broker.wait_for(STATE, "empty");
    broker.wait_for(STATUS, "online");
    assert!(
        broker.retained(DOOR).is_some(),
        "Home Assistant is told anew"
    );
    let gap = |broker: &Broker| {
        let all = broker.published();
        all.into_iter()
            .find(|sent| sent.topic == "edge-rlp/shop/gap")
    };
    broker.wait("gap", |broker| gap(broker).is_some());
    let gap: Value = serde_json::from_slice(&gap(&broker).unwrap().payload).unwrap();
    assert!(gap["from"].is_string() && gap["until"].is_string(), "{gap}");
    assert_eq!(gap["lost"], json!(lost));
}

#[test]
fn an_unclean_end_is_told_by_the_last_will() {
    let broker = Broker::new();
    let (client, _happenings) = start(&broker);
    broker.wait_for(STATUS, "online");
    // The connection is gone, and nothing else can be said.
    broker.behave(Manner::Refusing(3));
    broker.cut("rlp-");
    broker.wait_for(STATUS, "offline");
    broker.behave(Manner::Good);
    broker.wait_for(STATUS, "online");
    drop(client);
}

#[test]
fn a_second_box_of_the_same_name_is_refused_and_disturbs_nothing() {
    let broker = Broker::new();
    let (first, first_says) = start(&broker);
    first
        .camera("door")
        .seen("shelf", seen("full", 0.9), &no_picture);
    happens(&first_says, |it| matches!(it, Happening::Connected { .. }));
    broker.wait_for(STATE, "full");
    let (second, second_says) = start_as(&broker, "b", shop());
    second
        .camera("door")
        .seen("shelf", seen("empty", 0.9), &no_picture);
    let taken = happens(&second_says, |it| matches!(it, Happening::Taken { .. }));
    assert!(taken.to_string().contains("host-a"), "{taken}");
    thread::sleep(Duration::from_millis(600));
    assert_eq!(broker.retained(STATE).as_deref(), Some("full"));
    drop(second);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(
        broker.retained(STATUS).as_deref(),
        Some("online"),
        "its end is not the first one's"
    );
    // A copy of the first one's card: the same identity.
    let (copy, copy_says) = start(&broker);
    happens(&copy_says, |it| matches!(it, Happening::Taken { .. }));
    drop(copy);
    assert!(
        first_says
            .try_iter()
            .all(|it| !matches!(it, Happening::Taken { .. }))
    );
}

#[test]
fn a_box_that_replaces_one_that_died_takes_its_place() {
    let broker = Broker::new();
    let (old, says) = start(&broker);
    happens(&says, |it| matches!(it, Happening::Connected { .. }));
    broker.wait_for(STATUS, "online");
    old.finish(Duration::from_secs(5));
    // As if its will had never been spoken.
    broker.publish(STATUS, b"online", true);
    let (new, says) = start_as(&broker, "b", shop());
    let told = happens(&says, |it| matches!(it, Happening::TookOver { .. }));
    assert!(told.to_string().contains("host-a"), "{told}");
    new.camera("door")
        .seen("shelf", seen("empty", 0.9), &no_picture);
    broker.wait_for(STATE, "empty");
}

#[test]
fn what_is_no_longer_there_disappears_at_once_and_at_the_next_start() {
    let broker = Broker::new();
    let mut site = shop();
    let mut till = site.cameras[0].clone();
    till.name = "till".into();
    site.cameras.push(till);
    let mut floor = site.cameras[0].regions[0].clone();
    floor.name = "floor".into();
    site.cameras[0].regions.push(floor);
    let (client, _says) = start_as(&broker, "a", site.clone());
    let mut door = client.camera("door");
    door.seen("floor", seen("full", 0.9), &no_picture);
    door.seen("shelf", seen("full", 0.9), &no_picture);
    client
        .camera("till")
        .seen("shelf", seen("full", 0.9), &no_picture);
    broker.wait_for(STATUS, "online");
    let till = "homeassistant/device/edge-rlp_shop_till/config";
    assert!(broker.retained(till).is_some());
    broker.wait_for("edge-rlp/shop/door/floor/state", "full");

    // While it runs: a region goes, and a label has another name.
    site.cameras[0].regions.pop();
    site.cameras[0].regions[0].labels = vec!["stocked".into(), "empty".into()];
    client.change(site.clone()).unwrap();
    broker.wait("the floor gone", |broker| {
        broker.retained("edge-rlp/shop/door/floor/state").is_none()
    });
    broker.wait("the new label", |broker| {
        broker
            .retained(DOOR)
            .is_some_and(|device| device.contains("stocked") && !device.contains("floor_label"))
    });
    let removed = broker.published().into_iter().any(|sent| {
        let device: Value = serde_json::from_slice(&sent.payload).unwrap_or_default();
        sent.topic == DOOR && device["components"]["floor_label"] == json!({ "platform": "sensor" })
    });
    assert!(removed, "Home Assistant is told that the part is gone");
    client.finish(Duration::from_secs(5));

    // At the next start: a camera is gone.
    site.cameras.pop();
    let (_client, _says) = start_as(&broker, "a", site);
    broker.wait("the till gone", |broker| {
        broker.retained(till).is_none()
            && !broker.topics().iter().any(|topic| topic.contains("/till/"))
    });
    broker.wait("the index", |broker| {
        !broker
            .retained("edge-rlp/shop/index")
            .unwrap_or_default()
            .contains("till")
    });
}

#[test]
fn commands_are_followed_once_and_what_is_none_is_told() {
    let broker = Broker::new();
    broker.publish("edge-rlp/shop/door/shelf/train", b"PRESS", true);
    let (_client, says) = start(&broker);
    let ignored = happens(&says, |it| matches!(it, Happening::Ignored { .. }));
    assert!(ignored.to_string().contains("retained"), "{ignored}");
    broker.wait_for(STATUS, "online");
    broker.publish("edge-rlp/shop/door/shelf/threshold/set", b"140", false);
    let ignored = happens(&says, |it| matches!(it, Happening::Ignored { .. }));
    assert!(ignored.to_string().contains("from 0 to 100"), "{ignored}");
    broker.publish("edge-rlp/shop/door/shelf/train", b"PRESS", false);
    broker.publish("edge-rlp/shop/door/shelf/prompt/set", b"night", false);
    for wanted in [Request::Train, Request::UsePrompt("night".into())] {
        let command = happens(&says, |it| matches!(it, Happening::Command(_)));
        let Happening::Command(command) = command else {
            unreachable!()
        };
        assert_eq!((&*command.camera, &*command.region), ("door", "shelf"));
        assert_eq!(command.what, wanted);
    }
}

#[test]
fn home_assistant_is_told_anew_when_it_starts() {
    let broker = Broker::new();
    let (_client, _says) = start(&broker);
    broker.wait_for(STATUS, "online");
    let count = |broker: &Broker| {
        let all = broker.published();
        all.iter().filter(|sent| sent.topic == DOOR).count()
    };
    let before = count(&broker);
    broker.publish("homeassistant/status", b"online", false);
    broker.wait("one more", |broker| count(broker) == before + 1);
}

#[test]
fn a_message_of_10_mb_is_refused_and_reports_go_on() {
    let broker = Broker::new();
    let (client, says) = start(&broker);
    broker.wait_for(STATUS, "online");
    broker.publish(
        "edge-rlp/shop/door/shelf/train",
        &vec![b'x'; 10 << 20],
        true,
    );
    let away = happens(&says, |it| matches!(it, Happening::Away { .. }));
    assert!(away.to_string().contains("10485"), "{away}");
    happens(&says, |it| matches!(it, Happening::Connected { .. }));
    client
        .camera("door")
        .seen("shelf", seen("full", 0.9), &no_picture);
    broker.wait_for(STATE, "full");
    let train = "edge-rlp/shop/door/shelf/train";
    broker.wait("the huge message gone", |broker| {
        broker.retained(train).is_none()
    });
    // Where every start reads it first, too.
    drop(client);
    broker.publish("edge-rlp/shop/owner", &vec![b'x'; 10 << 20], true);
    let (client, says) = start(&broker);
    happens(&says, |it| matches!(it, Happening::Away { .. }));
    happens(&says, |it| matches!(it, Happening::Connected { .. }));
    drop(client);
}

#[test]
fn a_broker_that_refuses_or_talks_nonsense_is_told_in_a_sentence_and_tried_again() {
    for (manner, part) in [
        (Manner::Refusing(4), "the user or the password"),
        (Manner::Refusing(5), "does not let this client in"),
        (Manner::Refusing(1), "MQTT 3.1.1"),
        (
            Manner::Saying(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            "MQTT",
        ),
        (Manner::Saying(vec![0xff; 64]), "MQTT"),
        (Manner::Saying(vec![0x20, 2, 0]), "closed the connection"),
        (
            Manner::Saying(Vec::new()),
            "perhaps it wants an encrypted one",
        ),
        (Manner::Saying(vec![0x30, 3, 0, 9, b'x']), "MQTT"),
    ] {
        let broker = Broker::new();
        broker.behave(manner.clone());
        let (client, says) = start(&broker);
        let away = happens(&says, |it| matches!(it, Happening::Away { .. }));
        assert!(away.to_string().contains(part), "{manner:?}: {away}");
        assert!(away.is_warning());
        broker.behave(Manner::Good);
        happens(&says, |it| matches!(it, Happening::Connected { .. }));
        broker.wait_for(STATUS, "online");
        drop(client);
    }
}

#[test]
fn a_broker_that_takes_no_bytes_slows_nobody() {
    let broker = Broker::new();
    broker.behave(Manner::Stuck);
    let (client, _says) = start(&broker);
    let mut door = client.camera("door");
    let picture = vec![0; 200 << 10];
    let began = Instant::now();
    for index in 0..5000 {
        let label = if index % 2 == 0 { "empty" } else { "full" };
        door.seen("shelf", seen(label, 0.5), &|| Some(picture.clone()));
        door.changed("shelf", None, label, 0.5);
        if index == 2500 {
            thread::sleep(Duration::from_millis(500));
        }
    }
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    let began = Instant::now();
    client.finish(Duration::from_millis(500));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "its end waits for no one"
    );
}
