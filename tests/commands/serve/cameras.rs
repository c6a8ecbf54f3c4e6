//! Cameras, their regions and their configuration.

use super::*;

#[test]
fn cameras_are_live_and_are_seen_as_snapshots_and_streams() {
    let dir = Directory::new();
    let served = Served::start(&dir, TWO);
    let cameras = served.until("/api/v1/cameras", |all| {
        all.as_array().unwrap().iter().all(is_live)
    });
    assert_eq!(cameras[0]["name"], "one");
    assert_eq!(cameras[0]["regions"][0]["name"], "whole");
    assert_eq!(cameras[1]["regions"][0]["width"], 0.5);

    let snapshot = served.get("/api/v1/cameras/one/snapshot.jpg?width=50");
    assert_eq!(snapshot.status, 200);
    assert_eq!(snapshot.headers["content-type"], "image/jpeg");
    assert_eq!(snapshot.headers["cache-control"], "no-store");
    let picture = image::load_from_memory(&snapshot.body).unwrap();
    assert_eq!(picture.width(), 50);
    let left = served.get("/api/v1/cameras/two/snapshot.jpg?region=left");
    let left = image::load_from_memory(&left.body).unwrap();
    assert_eq!(
        u64::from(left.width()),
        cameras[1]["width"].as_u64().unwrap() / 2
    );
    let none = served.get("/api/v1/cameras/none/snapshot.jpg");
    assert_eq!(
        (none.status, none.detail().as_str()),
        (404, "there is no camera \"none\"")
    );
    for wrong in ["region=right", "width=1", "width=x", "wide=1"] {
        let answer = served.get(&format!("/api/v1/cameras/two/snapshot.jpg?{wrong}"));
        assert!([400, 404, 422].contains(&answer.status), "{wrong}");
        answer.detail();
    }

    let mut stream = served.open(
        "GET",
        "/api/v1/cameras/one/stream.mjpeg?fps=20&width=64",
        &[],
        b"",
    );
    let mut bytes = vec![0; 64 << 10];
    let mut read = Vec::new();
    while String::from_utf8_lossy(&read)
        .matches("Content-Type: image/jpeg")
        .count()
        < 3
    {
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0);
        read.extend_from_slice(&bytes[..count]);
    }
    assert!(String::from_utf8_lossy(&read).contains("multipart/x-mixed-replace; boundary="));
    assert_eq!(served.end(), Some(0));
}

#[test]
fn cameras_and_regions_are_changed_while_others_go_on() {
    let dir = Directory::new();
    let served = Served::start(&dir, TWO);
    served.until("/api/v1/cameras", |all| {
        all.as_array().unwrap().iter().all(is_live)
    });
    let before = served.get("/api/v1/cameras/one").json()["looked_at"]
        .as_u64()
        .unwrap();
    let body = json!({ "x": 0.1, "y": 0.2, "width": 0.3, "height": 0.4, "prompt": "other" });
    let put = served.send("PUT", "/api/v1/cameras/two/regions/up%20right", &body);
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(put.json()["regions"][1]["name"], "up right");
    let file = std::fs::read_to_string(dir.path().join("edge-rlp.toml")).unwrap();
    assert!(
        file.starts_with("# two cameras\n") && file.contains("\"10,20,30,40%\""),
        "{file}"
    );

    let put = served.send(
        "PUT",
        "/api/v1/cameras/three",
        &json!({ "source": "demo", "every": "1s" }),
    );
    assert_eq!(put.status, 200, "{put:?}");
    served.until("/api/v1/cameras/three", is_live);
    assert_eq!(served.delete("/api/v1/cameras/three").status, 204);
    assert_eq!(served.get("/api/v1/cameras/three").status, 404);
    assert_eq!(served.delete("/api/v1/cameras/three").status, 404);
    let after = served.get("/api/v1/cameras/one").json()["looked_at"]
        .as_u64()
        .unwrap();
    assert!(after >= before, "camera one began anew: {before} {after}");

    let wrong = served.send(
        "PUT",
        "/api/v1/cameras/four",
        &json!({ "source": "nowhere" }),
    );
    assert_eq!(wrong.status, 422);
    assert!(wrong.detail().contains("nowhere"), "{wrong:?}");
    let wrong = served.request(
        "PUT",
        "/api/v1/cameras/four",
        &[("Content-Type", "application/json")],
        b"{",
    );
    assert_eq!(wrong.status, 400);
    wrong.detail();
    assert_eq!(
        served.send("POST", "/api/v1/cameras", &json!({})).status,
        405
    );
    assert_eq!(served.get("/api/v1/nothing").status, 404);
}

#[test]
fn sighup_reads_the_configuration_again_and_keeps_the_old_one_where_it_is_wrong() {
    let dir = Directory::new();
    let served = Served::start(&dir, TWO);
    served.until("/api/v1/cameras/two", is_live);
    dir.write("edge-rlp.toml", "[[camera]]\nname = 1\n");
    served.signal("HUP");
    let begun = std::time::Instant::now();
    while !served.said().contains("line 2, column 8") {
        assert!(begun.elapsed().as_secs() < 20, "{}", served.said());
    }
    assert_eq!(
        served
            .get("/api/v1/cameras")
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let changed = served.send("PUT", "/api/v1/cameras/new", &json!({ "source": "demo" }));
    assert_eq!(changed.status, 409, "somebody is changing it by hand");
    dir.write("edge-rlp.toml", &TWO.replace("\"two\"", "\"other\""));
    served.signal("HUP");
    served.until("/api/v1/cameras", |all| all[1]["name"] == "other");
    assert!(
        !served.said().contains("takes a new start"),
        "{}",
        served.said()
    );

    // What was given with the command, here the address, is not the file's to change.
    let moved = "listen = \"127.0.0.1:9\"\n[access]\nhosts = [\"box.local\"]\nsession = \"1h\"\n";
    dir.write("edge-rlp.toml", &format!("{moved}{TWO}"));
    served.signal("HUP");
    let begun = std::time::Instant::now();
    while !served
        .said()
        .contains("what it says now of hosts, session takes a new start")
    {
        assert!(begun.elapsed().as_secs() < 20, "{}", served.said());
    }
    assert_eq!(served.end(), Some(0));
}

#[test]
fn events_say_what_happens() {
    let dir = Directory::new();
    let served = Served::start(&dir, TWO);
    let stream = served.open("GET", "/api/v1/events?kinds=camera", &[], b"");
    let mut stream = BufReader::new(stream);
    served.send("PUT", "/api/v1/cameras/new", &json!({ "source": "demo" }));
    event(&mut stream, "camera", |camera| {
        camera["name"] == "new" && is_live(camera)
    });
    served.delete("/api/v1/cameras/new");
    event(&mut stream, "camera", |camera| {
        camera["camera"] == "new" && camera["gone"] == true
    });
    assert_eq!(served.get("/api/v1/events?kinds=weather").status, 422);
}

#[test]
fn a_camera_that_cannot_be_opened_says_so_and_the_others_go_on() {
    let dir = Directory::new();
    let config = format!("{TWO}\n[[camera]]\nname = \"bad\"\nsource = \"dir:/nowhere/at/all\"\n");
    let served = Served::start(&dir, &config);
    let bad = served.until("/api/v1/cameras/bad", |camera| camera["state"] == "failed");
    assert!(
        bad["error"].as_str().unwrap().contains("/nowhere/at/all"),
        "{bad}"
    );
    served.until("/api/v1/cameras/one", is_live);
}

#[test]
fn check_says_what_is_wrong_and_nothing_is_started() {
    let dir = Directory::new();
    dir.write("good.toml", TWO);
    dir.ok("serve --config good.toml --check")
        .prints("2 cameras, nothing is wrong");
    dir.write("lost.toml", "model = \"nope\"\n");
    dir.fails(
        "serve --config lost.toml --check",
        2,
        "lost.toml: there is no model \"nope\"",
    );
    dir.write(
        "bad.toml",
        "[[camera]]\nname = \"a\"\nsource = \"demo\"\nevery = 3\n",
    );
    dir.fails(
        "serve --config bad.toml --check",
        2,
        "bad.toml, line 4, column 9: invalid type",
    );
    dir.fails("serve --config bad.toml", 2, "line 4, column 9");
    dir.fails(
        "serve --config none.toml --check",
        2,
        "none.toml: there is no such file",
    );
}

/// A picture that was shown over and over looked live on a dashboard, and took a seat for ever.
#[test]
fn a_moving_picture_goes_on_with_the_camera_that_replaces_its_own_and_ends_with_the_last() {
    let dir = Directory::new();
    let served = Served::start(&dir, TWO);
    served.until("/api/v1/cameras/one", is_live);
    let path = "/api/v1/cameras/one/stream.mjpeg?fps=20&width=64";
    let mut stream = served.open("GET", path, &[], b"");
    let mut pictures = |count: usize| {
        let (mut bytes, mut read) = (vec![0; 64 << 10], Vec::new());
        let seen = |read: &[u8]| {
            let text = String::from_utf8_lossy(read);
            text.matches("Content-Type: image/jpeg").count()
        };
        while seen(&read) < count {
            let more = stream.read(&mut bytes).unwrap();
            if more == 0 {
                return false;
            }
            read.extend_from_slice(&bytes[..more]);
        }
        true
    };
    assert!(pictures(3));
    let other = json!({ "source": "demo:fog", "every": "50ms", "prompt": "things" });
    let put = served.send("PUT", "/api/v1/cameras/one", &other);
    assert_eq!(put.status, 200, "{put:?}");
    assert!(
        pictures(20),
        "the stream ended with the camera that was replaced"
    );
    assert_eq!(served.delete("/api/v1/cameras/one").status, 204);
    assert!(!pictures(usize::MAX));
    assert_eq!(served.end(), Some(0));
}
