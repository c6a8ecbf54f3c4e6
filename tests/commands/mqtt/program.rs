//! What the program itself reports with `--mqtt` and `[mqtt]`, where its password comes from, and what is wrong usage.

use super::*;
use crate::support::Directory;

#[test]
fn the_login_arrives_and_a_password_is_nowhere_else() {
    let broker = Broker::new();
    let dir = Directory::new();
    dir.write("labels.txt", "mug\nfish\n");
    let address = broker.url().replace("://", "://me:s3cr3tword@");
    let ran = dir
        .command("classify --labels labels.txt --camera demo --frames 3 --mqtt-box shop -v --json --exec")
        .arg("env >> told")
        .arg("--mqtt")
        .arg(address)
        .env("EDGE_RLP_MQTT_PASSWORD", "0ther-s3cr3tword")
        .ok();
    assert!(
        !format!("{}{}", ran.stdout, ran.stderr).contains("s3cr3t"),
        "{ran}"
    );
    let told = std::fs::read_to_string(dir.path().join("told")).unwrap();
    assert!(!told.contains("s3cr3t"), "{told}");
    let (client, user, password) = broker.logins().pop().unwrap();
    assert!(client.starts_with("rlp-"), "{client}");
    assert_eq!(
        (user.as_deref(), password.as_deref()),
        (Some("me"), Some("s3cr3tword"))
    );
    broker.wait_for("edge-rlp/shop/demo/status", "offline");
    let state = broker.retained("edge-rlp/shop/demo/whole/state");
    let labels = ["mug", "fish", "unknown"];
    assert!(labels.contains(&&*state.unwrap()));
    assert!(
        broker.retained("edge-rlp/shop/demo/whole/image").is_none(),
        "pictures are asked for"
    );
}

#[test]
fn a_password_comes_from_the_environment_or_a_file() {
    let broker = Broker::new();
    let dir = Directory::new();
    dir.write("labels.txt", "mug\nfish\n");
    dir.write("password", "from the file\n");
    let address = broker.url().replace("://", "://me@");
    let line = "classify --labels labels.txt --camera demo --frames 1 --mqtt-snapshots";
    dir.command(line)
        .args(["--mqtt", &address])
        .env("EDGE_RLP_MQTT_PASSWORD", "from outside")
        .ok();
    assert_eq!(
        broker.logins().pop().unwrap().2.as_deref(),
        Some("from outside")
    );
    let image = broker
        .topics()
        .into_iter()
        .find(|topic| topic.ends_with("/image"));
    assert!(image.is_some());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.path().join("password");
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let with_file = || {
            dir.command(line)
                .args(["--mqtt-password-file", "password", "--mqtt", &address])
        };
        mode(0o644);
        with_file().fails(2, "chmod 640");
        mode(0o600);
        with_file().ok();
        assert_eq!(
            broker.logins().pop().unwrap().2.as_deref(),
            Some("from the file")
        );
    }
}

#[test]
fn wrong_settings_are_wrong_usage_and_an_absent_broker_is_a_warning() {
    let dir = Directory::new();
    dir.write("labels.txt", "mug\nfish\n");
    let line = "classify --labels labels.txt --camera demo --frames 2";
    for (flags, part) in [
        ("--mqtt hub", "mqtt://HOST"),
        ("--mqtt http://hub", "mqtt://HOST"),
        ("--mqtt mqtt://hub --mqtt-ca labels.txt", "mqtts://"),
        ("--mqtt mqtts://hub --mqtt-ca nowhere.pem", "nowhere.pem"),
        (
            "--mqtt mqtts://hub --mqtt-ca labels.txt",
            "labels.txt holds no certificate",
        ),
        ("--mqtt mqtt://hub --mqtt-version 4", "--mqtt-version"),
        ("--mqtt mqtt://hub --mqtt-cert labels.txt", "--mqtt-key"),
        ("--mqtt mqtt://hub --mqtt-discovery a/#", "--mqtt-discovery"),
        ("--mqtt-box shop", "--mqtt"),
    ] {
        dir.command(line).words(flags).fails(2, part);
    }
    let empty = dir
        .command(line)
        .args(["--mqtt", "mqtt://hub", "--mqtt-box", " "]);
    empty.fails(2, "the name of a box");
    let away = Broker::away();
    let ran = dir.command(line).args(["--mqtt", &away.url()]).ok();
    ran.says("nothing listens there")
        .says("the newest state is sent once it is back");
}

/// The labels that a device of Home Assistant may show.
#[cfg(all(unix, feature = "serve"))]
fn options(device: &str) -> Vec<String> {
    let device: Value = serde_json::from_str(device).unwrap_or_default();
    let options = device["components"]["whole_label"]["options"].as_array();
    let options = options.into_iter().flatten().filter_map(Value::as_str);
    options.map(str::to_owned).collect()
}

#[cfg(all(unix, feature = "serve"))]
#[test]
fn serve_reports_on_all_cameras_and_follows_what_is_asked_for_over_the_broker() {
    use crate::support::serve::Served;
    let broker = Broker::new();
    let dir = Directory::new();
    let config = format!(
        "[mqtt]\nurl = \"{}\"\nbox = \"shop\"\nsnapshots = true # the owner agreed\n\n\
         [[camera]]\nname = \"door\"\nsource = \"demo\"\nevery = \"200ms\"\nprompt = \"things\" # what is sold here\n\n\
         [[camera]]\nname = \"till\"\nsource = \"demo:fog\"\nevery = \"1s\"\n\
         [[camera.region]]\nname = \"left\"\narea = \"0,0,50,100\"\nprompt = \"things\"\n",
        broker.url()
    );
    let served = Served::start(&dir, &config);
    let labels = json!({ "labels": ["mug", "fish"] });
    let put = served.send("PUT", "/api/v1/prompts/things/labels", &labels);
    assert_eq!(put.status, 200, "{put:?}");
    let known = ["mug", "fish", "unknown"];
    for topic in ["door/whole", "till/left"] {
        broker.wait(topic, |broker| {
            let label = broker.retained(&format!("edge-rlp/shop/{topic}/state"));
            label.is_some_and(|label| known.contains(&&*label))
        });
    }
    broker.wait_for("edge-rlp/shop/door/whole/prompt", "things");
    broker.wait_for("edge-rlp/shop/door/whole/threshold", "None");
    broker.wait("a picture", |broker| {
        broker
            .topics()
            .iter()
            .any(|topic| topic == "edge-rlp/shop/till/left/image")
    });
    broker.wait("the labels as options", |broker| {
        let device = broker.retained(DOOR).unwrap_or_default();
        options(&device) == known
    });
    let labels = json!({ "labels": ["key", "bell"] });
    served.send("PUT", "/api/v1/prompts/things/labels", &labels);
    broker.wait("a label of the new ones", |broker| {
        let label = broker.retained("edge-rlp/shop/door/whole/state");
        label.is_some_and(|label| label == "key" || label == "bell")
    });
    // Home Assistant does not take a state that is none of the options it was told.
    let mut told: Vec<String> = Vec::new();
    for message in broker.published() {
        if message.topic == DOOR {
            told = options(&message.text());
        } else if message.topic == "edge-rlp/shop/door/whole/state" {
            assert!(told.contains(&message.text()), "{message:?} {told:?}");
        }
    }

    broker.publish("edge-rlp/shop/door/whole/threshold/set", b"40", false);
    broker.wait_for("edge-rlp/shop/door/whole/threshold", "40");
    broker.publish("edge-rlp/shop/door/whole/prompt/set", b"nowhere", false);
    broker.publish("edge-rlp/shop/till/left/train", b"PRESS", false);
    let training = served.until("/api/v1/prompts/things/training", |it| {
        it["state"] != "idle"
    });
    assert_eq!(training["prompt"], "things", "{training}");
    let file = std::fs::read_to_string(dir.path().join("edge-rlp.toml")).unwrap();
    assert!(
        file.contains("threshold = 0.4") && file.contains("# what is sold here"),
        "{file}"
    );
    broker.wait("the refusal", |_| {
        served.said().contains("there is no prompt \"nowhere\"")
    });

    // A region that comes later obeys, too.
    let area = json!({ "x": 0.5, "y": 0.0, "width": 0.5, "height": 1.0, "prompt": "things" });
    let put = served.send("PUT", "/api/v1/cameras/till/regions/right", &area);
    assert_eq!(put.status, 200, "{put:?}");
    broker.wait_for("edge-rlp/shop/till/right/threshold", "None");
    broker.wait("the command followed", |broker| {
        broker.publish("edge-rlp/shop/till/right/threshold/set", b"55", false);
        let shown = broker.retained("edge-rlp/shop/till/right/threshold");
        shown.as_deref() == Some("55")
    });

    assert_eq!(served.delete("/api/v1/cameras/till").status, 204);
    broker.wait("the till gone", |broker| {
        !broker.topics().iter().any(|topic| topic.contains("till"))
    });
    assert_eq!(served.end(), Some(0));
    assert_eq!(broker.retained(STATUS).as_deref(), Some("offline"));
}

#[cfg(all(unix, feature = "serve"))]
#[test]
fn what_is_wrong_with_the_broker_of_a_configuration_is_told_with_its_line() {
    let dir = Directory::new();
    for (lines, part) in [
        (
            "url = \"hub\"",
            "line 2, column 7: hub is no address of a broker",
        ),
        (
            "url = \"mqtt://hub\"\nversion = 4",
            "line 3, column 11: version is 3",
        ),
        (
            "url = \"mqtt://hub\"\ncertificate = \"a.pem\"",
            "line 3, column 15",
        ),
        ("url = \"mqtt://hub\"\npage = \"box\"", "line 3, column 8"),
        ("url = \"mqtt://hub\"\nhost = \"x\"", "line 3"),
        ("box = \"x\"", "url"),
    ] {
        dir.write("edge-rlp.toml", &format!("[mqtt]\n{lines}\n"));
        dir.fails("serve --config edge-rlp.toml --check", 2, part);
    }
    dir.write(
        "edge-rlp.toml",
        "[mqtt]\nurl = \"mqtt://me:s3cr3tword@hub\"\n",
    );
    let ran = dir.fails("serve --config edge-rlp.toml --check", 2, "chmod 600");
    assert!(!ran.stderr.contains("s3cr3t"), "{ran}");
}
