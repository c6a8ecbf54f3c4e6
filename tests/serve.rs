//! `edge-rlp serve`: the daemon, its API and its configuration, as a client and an administrator meet them.
#![cfg(all(unix, feature = "serve"))]

mod support;

#[cfg(feature = "rtsp")]
#[path = "support/rtsp.rs"]
mod camera;

use serde_json::{Value, json};
use std::io::{BufReader, Read};
use support::Directory;
use support::serve::{Served, event};

const TWO: &str = r#"# two cameras
[[camera]]
name = "one"
source = "demo"
every = "100ms"
prompt = "things"

[[camera]]
name = "two"
source = "demo:fog"
every = "100ms"

[[camera.region]]
name = "left"
area = "0,0,50,100"
prompt = "things"
"#;

fn is_live(camera: &Value) -> bool {
    camera["state"] == "live" && camera["width"] != 0
}

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

#[cfg(feature = "rtsp")]
#[test]
fn a_login_that_stands_in_a_file_is_checked_used_and_out_of_reach_of_the_api() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Directory::new();
    let guarded = camera::Camera::like(camera::Behaviour {
        login: Some(("admin", "s3cr3tword")),
        ..camera::Behaviour::good()
    });
    let config = format!(
        "[[camera]]\nname = \"door\"\nsource = \"{}\"\nrtsp_transport = \"udp\"\nlogin_file = \"door.conf\"\n",
        guarded.url("")
    );
    dir.write("edge-rlp.toml", &config);
    let check = |says: &str| {
        let place = format!("edge-rlp.toml, line 5, column 14: door.conf {says}");
        dir.fails("serve --check --config edge-rlp.toml", 2, &place);
    };
    check("cannot be read");
    dir.write(
        "door.conf",
        "EDGE_RLP_CAMERA_USER=admin\nEDGE_RLP_CAMERA_PASSWORD=s3cr3tword\n",
    );
    let file = dir.path().join("door.conf");
    let close = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    close(0o644);
    check("may hold a password ... chmod 640");
    close(0o600);
    dir.ok("serve --check --config edge-rlp.toml");
    let served = Served::start(&dir, &config);
    served.until("/api/v1/cameras/door", is_live);
    assert!(
        guarded
            .requests()
            .iter()
            .any(|request| request.contains("RTP/AVP") && !request.contains("RTP/AVP/TCP")),
        "it was not asked for datagrams"
    );
    // Whoever changes something else keeps it; nobody makes the box read a file of their choice.
    let change = |value: Value| served.send("PUT", "/api/v1/cameras/door", &value);
    let kept = change(json!({ "source": guarded.url(""), "every": "1s" }));
    assert_eq!(kept.status, 200, "{kept:?}");
    let text = || std::fs::read_to_string(dir.path().join("edge-rlp.toml")).unwrap();
    assert!(text().contains("login_file = \"door.conf\""), "{}", text());
    let refused = change(json!({ "source": guarded.url(""), "login_file": "/etc/passwd" }));
    assert!(refused.detail().contains("names a file of the box"));
    assert_eq!(change(json!({ "source": "demo" })).status, 200);
    assert!(!text().contains("login_file"), "{}", text());
    assert!(!served.said().contains("s3cr3t"));
}

#[cfg(feature = "rtsp")]
#[test]
fn a_camera_that_hangs_says_so_is_opened_again_and_the_others_go_on() {
    let dir = Directory::new();
    let hangs = camera::Camera::new(|connection| match connection {
        0 => camera::Behaviour::then(5, camera::Then::Silence),
        _ => camera::Behaviour::good(),
    });
    let config = format!(
        "{TWO}\n[[camera]]\nname = \"hangs\"\nsource = \"{}\"\ntimeout = \"2s\"\nfrozen_after = \"0s\"\n",
        hangs.url("")
    );
    let served = Served::start(&dir, &config);
    let hung = served.until("/api/v1/cameras/hangs", |camera| {
        camera["error"].is_string()
    });
    assert!(
        ["stalled", "failed"].contains(&hung["state"].as_str().unwrap()),
        "{hung}"
    );
    let looked_at = || served.get("/api/v1/cameras/one").json()["looked_at"].as_u64();
    let before = looked_at();
    served.until("/api/v1/cameras/one", |one| {
        is_live(one) && one["looked_at"].as_u64() > before
    });
    let again = served.until("/api/v1/cameras/hangs", is_live);
    assert!(again["error"].is_null(), "{again}");
}

/// `serve` could start no ffmpeg: it gives up running programs before it reads pictures.
#[cfg(all(feature = "rtsp", target_os = "linux"))]
#[test]
fn ffmpeg_can_be_started_for_h265_and_nothing_else() {
    let dir = Directory::new();
    let ffmpeg = dir.path().join("tools/ffmpeg");
    std::fs::create_dir(ffmpeg.parent().unwrap()).unwrap();
    let picture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/picture/rgb444.jpg"
    );
    // It tells whether it could write elsewhere or start a program, and then shows one picture again and again.
    let source = format!(
        "use std::io::{{Read, Write}};
        fn main() {{
            let ran = std::process::Command::new(\"/bin/sh\").args([\"-c\", \"true\"]).status().is_ok();
            let wrote = std::fs::write(\"elsewhere/x\", \"x\").is_ok();
            std::fs::write(\"home/told\", format!(\"ran {{ran}} wrote {{wrote}}\")).unwrap();
            std::io::stdin().read(&mut [0; 9]).unwrap();
            while std::io::stdout().write_all(include_bytes!({picture:?})).is_ok() {{
                std::thread::sleep(std::time::Duration::from_millis(20));
            }}
        }}"
    );
    dir.write("ffmpeg.rs", &source);
    for folder in [dir.path().join("elsewhere"), dir.home()] {
        std::fs::create_dir(folder).unwrap();
    }
    let compiled = std::process::Command::new("rustc")
        .args(["--edition", "2021", "-o"])
        .args([&ffmpeg, &dir.path().join("ffmpeg.rs")])
        .status();
    assert!(compiled.is_ok_and(|status| status.success()));
    let sends = camera::Camera::like(camera::Behaviour {
        media: "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=fmtp:96 sprop-vps=QAEMAf//AWAAAAMAkAAAAwAAAwA/LAwAAgAAAwAoAAIAAgACgA==;sprop-sps=QgEBAWAAAAMAkAAAAwAAAwA/oAUCAXFlLkkyS7I=;sprop-pps=RAHA8vAzJA==\r\na=control:trackID=0\r\n".into(),
        // A key frame's head, and nothing that only a decoder would look at.
        ..camera::Behaviour::then(
            0,
            camera::Then::Payloads(vec![[&[0x26, 0x01, 0xaf][..], &[7; 40]].concat()]),
        )
    });
    let config = format!(
        "[[camera]]\nname = \"h265\"\nsource = \"{}\"\n",
        sends.url("")
    );
    std::fs::create_dir(dir.path().join("box")).unwrap();
    dir.write("box/edge-rlp.toml", &config);
    let path = std::env::join_paths([ffmpeg.parent().unwrap(), "/usr/bin".as_ref()]).unwrap();
    let serving = dir
        .command("serve --config box/edge-rlp.toml --listen 127.0.0.1:0")
        .env("PATH", path);
    let served = Served::started(serving);
    served.until("/api/v1/cameras/h265", is_live);
    let told = std::fs::read_to_string(dir.home().join("told")).unwrap();
    println!("the stand-in: {told}");
    // Where the kernel has no Landlock, neither is held to.
    assert!(["ran false wrote false", "ran true wrote true"].contains(&told.as_str()));
}

const TAUGHT: &str = r#"
[training]
nice = 0
steps = 10
views = 1

[recent]
pictures = 5

[[camera]]
name = "one"
source = "demo"
every = "200ms"
prompt = "things"
"#;

fn labels(served: &Served, prompt: &str) -> Value {
    let prompts = served.get("/api/v1/prompts").json();
    let found = prompts
        .as_array()
        .unwrap()
        .iter()
        .find(|of| of["name"] == prompt);
    found.unwrap()["labels"].clone()
}

#[test]
fn a_prompt_is_taught_trained_accepted_and_rolled_back() {
    let dir = Directory::with_pictures(4);
    let served = Served::start(&dir, TAUGHT);
    let prompt = "/api/v1/prompts/things";
    let path = |end: &str| format!("{prompt}/{end}");
    let training = served.get(&path("training")).json();
    assert_eq!(training["state"], "idle");
    let none = served.request(
        "POST",
        &path("shots?label=mug"),
        &[("Content-Type", "image/png")],
        b"x",
    );
    assert_eq!(none.status, 422, "no picture, and no label: {none:?}");
    let put = served.send(
        "PUT",
        &path("labels"),
        &json!({ "labels": ["mug", { "label": "fish", "words": "a big fish" }] }),
    );
    assert_eq!(put.status, 200, "{put:?}");
    // Labels alone are enough to name pictures by the plain template.
    served.until("/api/v1/cameras/one", |camera| {
        camera["regions"][0]["label"].is_string()
    });

    for label in ["mug", "fish"] {
        for shot in 0..4 {
            let file = dir.path().join(format!("pictures/{label}/{shot:04}.png"));
            let picture = std::fs::read(file).unwrap();
            let sent = served.request(
                "POST",
                &path(&format!("shots?label={label}")),
                &[("Content-Type", "image/png")],
                &picture,
            );
            assert_eq!(sent.status, 201, "{sent:?}");
        }
    }
    let wrong = served.request(
        "POST",
        &path("shots?label=mug"),
        &[("Content-Type", "text/plain")],
        b"hello",
    );
    assert_eq!(wrong.status, 415);
    let wrong = served.request(
        "POST",
        &path("shots?label=mug"),
        &[("Content-Type", "image/jpeg")],
        b"hello",
    );
    assert!(wrong.detail().contains("not a picture"), "{wrong:?}");
    let large = served.request(
        "POST",
        &path("shots?label=mug"),
        &[("Content-Type", "image/jpeg")],
        &vec![0; 33 << 20],
    );
    assert_eq!(large.status, 413);
    assert_eq!(
        labels(&served, "things")[1],
        json!({ "label": "fish", "words": "a big fish", "shots": 4 })
    );

    let suspicious = served.get(&path("shots?order=suspicious")).json();
    assert_eq!(suspicious.as_array().unwrap().len(), 8);
    assert!(suspicious[0]["suspicion"].as_f64() >= suspicious[7]["suspicion"].as_f64());
    let first = suspicious[0]["id"].as_str().unwrap();
    let picture = served.get(&path(&format!("shots/{first}.jpg")));
    assert_eq!(picture.headers["content-type"], "image/jpeg");

    let began = served.request("POST", &path("training"), &[], b"");
    assert_eq!(began.status, 202, "{began:?}");
    let busy = served.request("POST", "/api/v1/prompts/default/training", &[], b"");
    assert_eq!(busy.status, 409);
    let judged = served.until(&path("training"), |state| state["state"] != "running");
    assert_eq!(judged["state"], "judged", "{judged}");
    assert_eq!(judged["labels"], json!(["mug", "fish"]));
    let sum: u64 = judged["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(Some(sum), judged["judged_by"].as_u64());
    assert_eq!(
        served.get(&path("history")).status,
        404,
        "nothing is kept before it is accepted"
    );
    let accepted = served.request("POST", &path("training/accept"), &[], b"");
    assert_eq!(
        (accepted.status, &accepted.json()["generation"]),
        (200, &json!(1))
    );
    assert_eq!(
        served
            .request("POST", &path("training/accept"), &[], b"")
            .status,
        409
    );
    served.until("/api/v1/cameras/one", |camera| {
        camera["regions"][0]["generation"] == 1
    });

    served.request("POST", &path("training"), &[], b"");
    assert_eq!(served.delete(&path("training")).status, 202);
    served.until(&path("training"), |state| state["state"] != "running");
    served.request("POST", &path("training"), &[], b"");
    served.until(&path("training"), |state| state["state"] == "judged");
    assert_eq!(
        served
            .request("POST", &path("training/reject"), &[], b"")
            .status,
        204
    );
    let history = served.get(&path("history")).json();
    assert_eq!(history.as_array().unwrap().len(), 1);
    let back = served.send("POST", &path("rollback"), &json!({ "generation": 1 }));
    assert_eq!(back.json()["generation"], 2);
    let diff = served.get(&path("diff?from=1&to=2"));
    assert_eq!(
        (diff.status, diff.json()["distance"].as_f64()),
        (200, Some(0.0))
    );
    assert_eq!(served.get(&path("diff?from=1&to=7")).status, 404);
    let why = served.get(&path(&format!("why?shot={first}")));
    assert_eq!(why.status, 200, "{why:?}");
    let why = why.json();
    assert_eq!(why["scores"].as_array().unwrap().len(), 2);
    assert!(why["scores"][0]["after"].is_number());
    let near = why["nearest"].as_array().unwrap();
    assert!(
        near.len() == 7 && near.iter().all(|shot| shot["id"] != first),
        "{near:?}"
    );
    assert_eq!(served.get(&path("why")).status, 422);
    let enough = served.get(&path("enough")).json();
    assert!(!enough["advice"].as_array().unwrap().is_empty(), "{enough}");
    let report = served.get(&path("report"));
    assert_eq!(
        report.status,
        200,
        "{}",
        String::from_utf8_lossy(&report.body)
    );
    assert!(String::from_utf8_lossy(&report.body).contains("<svg"));
    assert!(report.headers["content-security-policy"].contains("sandbox"));
    assert_eq!(served.get("/api/v1/prompts/none/report").status, 404);
    // What the daemon made is what the commands know.
    dir.ok("prompt list").prints("things");
    dir.ok("shots list things").prints("fish");
    assert_eq!(served.end(), Some(0));
}

#[test]
fn shots_are_taken_from_a_camera_moved_merged_taken_back_and_removed() {
    let dir = Directory::new();
    let served = Served::start(&dir, TAUGHT);
    served.until("/api/v1/cameras/one", is_live);
    let path = |end: &str| format!("/api/v1/prompts/things/{end}");
    let capture = |label: &str| {
        let body = json!({ "camera": "one", "region": "whole", "label": label });
        served.send("POST", &path("shots/capture"), &body)
    };
    let unknown = capture("mug");
    assert_eq!(unknown.status, 422);
    assert!(unknown.detail().contains("add it first"), "{unknown:?}");
    served.send(
        "PUT",
        &path("labels"),
        &json!({ "labels": ["mug", "cup", "fish"] }),
    );
    let mut kept = Vec::new();
    while kept.len() < 4 {
        let answer = capture(["mug", "cup"][kept.len() % 2]);
        match answer.status {
            201 => kept.push(answer.json()["shots"][0]["id"].as_str().unwrap().to_owned()),
            // The camera has not sent another picture yet.
            409 => std::thread::sleep(std::time::Duration::from_millis(50)),
            _ => panic!("{answer:?}"),
        }
    }
    let renamed = served.send(
        "POST",
        &path("labels/rename"),
        &json!({ "from": "cup", "to": "mug" }),
    );
    assert_eq!(renamed.status, 200, "{renamed:?}");
    assert_eq!(
        labels(&served, "things")[0],
        json!({ "label": "mug", "words": "mug", "shots": 4 })
    );
    let moved = served.send(
        "PATCH",
        &path(&format!("shots/{}", kept[0])),
        &json!({ "label": "fish" }),
    );
    assert_eq!(moved.status, 200, "{moved:?}");
    let moved = served.send(
        "PATCH",
        &path("shots"),
        &json!({ "ids": [kept[1]], "label": "fish" }),
    );
    assert_eq!(moved.json()["moved"], 1);
    assert_eq!(
        served.request("POST", &path("shots/undo"), &[], b"").json()["id"],
        json!(kept[3])
    );
    assert_eq!(
        served.delete(&path(&format!("shots/{}", kept[2]))).status,
        204
    );
    assert_eq!(
        served.get(&path(&format!("shots/{}.jpg", kept[2]))).status,
        404
    );
    assert_eq!(
        served.delete(&path("shots?label=fish")).json()["removed"],
        2
    );
    assert_eq!(served.get(&path("shots")).json(), json!([]));
    assert_eq!(
        served.request("POST", &path("shots/undo"), &[], b"").status,
        409
    );
    for wrong in [
        json!({ "labels": ["a/b"] }),
        json!({ "labels": ["mug", "MUG"] }),
        json!({ "labels": ["a=b"] }),
    ] {
        assert_eq!(
            served.send("PUT", &path("labels"), &wrong).status,
            422,
            "{wrong}"
        );
    }
    assert_eq!(
        served
            .send(
                "PUT",
                "/api/v1/prompts/a%2Fb/labels",
                &json!({ "labels": ["x"] })
            )
            .status,
        422
    );
}

#[test]
fn pictures_that_are_worth_labelling_become_shots() {
    let dir = Directory::new();
    let served = Served::start(&dir, TAUGHT);
    let labels = json!({ "labels": ["mug", "fish", "key", "tree"] });
    served.send("PUT", "/api/v1/prompts/things/labels", &labels);
    let recent = served.until("/api/v1/recent?camera=one", |all| {
        !all.as_array().unwrap().is_empty()
    });
    assert_eq!(recent[0]["prompt"], "things");
    assert!(["uncertain", "changed"].contains(&recent[0]["reason"].as_str().unwrap()));
    let id = recent[0]["id"].as_str().unwrap();
    let picture = served.get(&format!("/api/v1/recent/{id}.jpg"));
    assert_eq!(picture.headers["content-type"], "image/jpeg");
    let labelled = served.send(
        "POST",
        "/api/v1/recent/label",
        &json!({ "ids": [id, "one~999999"], "label": "mug" }),
    );
    assert_eq!(labelled.json()["shots"][0]["label"], "mug", "{labelled:?}");
    assert_eq!(labelled.json()["missing"], json!(["one~999999"]));
    assert_eq!(served.get(&format!("/api/v1/recent/{id}.jpg")).status, 404);
    assert_eq!(served.delete("/api/v1/recent/..%2F..%2Fx").status, 404);
    assert_eq!(served.delete("/api/v1/recent?camera=one").status, 200);
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &str| {
        dir.home()
            .join(path)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (
            mode("recent"),
            mode("shots"),
            mode("shots/things/mug/000001.jpg")
        ),
        (0o700, 0o700, 0o600)
    );
}

/// From a reachable address, but for the network: nothing is open without a password.
#[test]
fn other_addresses_take_a_password_or_a_token() {
    let dir = Directory::new();
    dir.write("edge-rlp.toml", TAUGHT);
    let mut served = Served::with(&dir, "serve --config edge-rlp.toml --listen 0.0.0.0:0");
    served.host = served.host.replace("0.0.0.0", "127.0.0.1");
    let said = served.said();
    let (_, rest) = said
        .split_once("the password for other machines is ")
        .unwrap();
    let password = rest.split(':').next().unwrap().to_owned();
    assert!(said.contains("cross the network readable"), "{said}");
    assert_eq!(served.get("/").status, 200);
    assert_eq!(served.get("/healthz").status, 200);
    for closed in [
        "/api/v1/cameras",
        "/api/v1/session",
        "/metrics",
        "/api/v1/events",
        "/api/v1/cameras/one/snapshot.jpg",
    ] {
        assert_eq!(served.get(closed).status, 401, "{closed}");
    }
    let wrong = served.send("POST", "/api/v1/session", &json!({ "password": "guess" }));
    assert_eq!(wrong.status, 401);
    let right = served.send("POST", "/api/v1/session", &json!({ "password": password }));
    assert_eq!(right.status, 200, "{right:?}");
    let cookie = &right.headers["set-cookie"];
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    served.headers = vec![("Cookie".into(), cookie)];
    assert_eq!(
        served.get("/api/v1/session").json()["scopes"],
        json!(["read", "label", "admin"])
    );
    let made = served.send(
        "POST",
        "/api/v1/tokens",
        &json!({ "name": "ha", "scopes": ["read"] }),
    );
    let token = made.json()["token"].as_str().unwrap().to_owned();

    let bearer = |token: &str| vec![("Authorization".to_owned(), format!("Bearer {token}"))];
    let session = std::mem::replace(&mut served.headers, bearer(&token));
    assert_eq!(served.get("/api/v1/cameras").status, 200);
    let forbidden = served.send(
        "PUT",
        "/api/v1/prompts/things/labels",
        &json!({ "labels": ["a", "b"] }),
    );
    assert_eq!(forbidden.status, 403);
    assert!(
        forbidden.detail().contains("ha may not do this"),
        "{forbidden:?}"
    );
    assert_eq!(served.get("/api/v1/tokens").status, 403);
    // One that another process makes is known after SIGHUP.
    let ran = dir.ok("serve --new-token lab --scopes read,label --json");
    let other = ran.json()["token"].as_str().unwrap().to_owned();
    served.headers = bearer(&other);
    served.signal("HUP");
    served.until("/api/v1/session", |session| session["who"] == "lab");
    served.headers = session;
    assert_eq!(served.delete("/api/v1/tokens/ha").status, 204);
    assert_eq!(served.delete("/api/v1/session").status, 204);
    assert_eq!(served.get("/api/v1/cameras").status, 401);
    served.headers = Vec::new();
    for _ in 0..5 {
        served.send("POST", "/api/v1/session", &json!({ "password": "guess" }));
    }
    let waits = served.send("POST", "/api/v1/session", &json!({ "password": password }));
    assert_eq!(waits.status, 429);
    assert!(waits.headers.contains_key("retry-after"));

    let log = std::fs::read_to_string(dir.home().join("serve/audit.log")).unwrap();
    assert!(
        log.contains(
            "\"who\":\"page\",\"from\":\"127.0.0.1\",\"did\":\"POST /api/v1/tokens\",\"status\":201"
        ),
        "{log}"
    );
    assert!(log.contains("\"who\":\"ha\"") && log.contains("403"));
    assert!(!log.contains(&password));
    let kept = std::fs::read_to_string(dir.home().join("serve/password")).unwrap();
    assert!(kept.starts_with("$argon2id$"));
    dir.command("serve --set-password")
        .input(b"short\n")
        .fails(2, "fewer than 10 characters");
    dir.command("serve --set-password")
        .input(b"a much longer one\n")
        .ok();
}

#[test]
fn metrics_health_and_readiness_are_for_machines() {
    let dir = Directory::new();
    let served = Served::start(&dir, TWO);
    served.until("/api/v1/cameras", |all| {
        all.as_array().unwrap().iter().all(is_live)
    });
    served.until("/readyz", |ready| ready["ready"] == true);
    assert_eq!(served.get("/healthz").body, b"ok\n");
    let metrics = String::from_utf8(served.get("/metrics").body).unwrap();
    for line in [
        "# TYPE edge_rlp_naming_seconds histogram",
        "edge_rlp_camera_state{camera=\"one\",state=\"live\"} 1",
        "edge_rlp_naming_seconds_bucket{camera=\"two\",le=\"+Inf\"}",
        "edge_rlp_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let document = served.get("/api/v1/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
}

/// kill -9 while shots are kept: every one that was confirmed is there.
#[test]
fn every_shot_that_was_confirmed_outlives_a_kill() {
    let dir = Directory::with_pictures(1);
    let served = Served::start(&dir, TAUGHT);
    served.send(
        "PUT",
        "/api/v1/prompts/things/labels",
        &json!({ "labels": ["mug", "fish"] }),
    );
    let picture = std::fs::read(dir.path().join("pictures/mug/0000.png")).unwrap();
    let host = served.host.clone();
    let sender = std::thread::spawn(move || {
        let mut confirmed = Vec::new();
        loop {
            let head = format!(
                "POST /api/v1/prompts/things/shots?label=mug HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n",
                picture.len()
            );
            let mut bytes = Vec::new();
            let sent = std::net::TcpStream::connect(&host).and_then(|mut stream| {
                use std::io::Write;
                stream.write_all(head.as_bytes())?;
                stream.write_all(&picture)?;
                stream.read_to_end(&mut bytes)
            });
            let text = String::from_utf8_lossy(&bytes);
            match text
                .split("\"id\":\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
            {
                Some(id) if sent.is_ok() => confirmed.push(id.to_owned()),
                _ => return confirmed,
            }
        }
    });
    std::thread::sleep(std::time::Duration::from_secs(3));
    served.signal("KILL");
    let confirmed = sender.join().unwrap();
    assert!(!confirmed.is_empty());
    let again = Served::start(&dir, TAUGHT);
    let there = again.get("/api/v1/prompts/things/shots").json();
    for id in confirmed {
        assert!(
            there
                .as_array()
                .unwrap()
                .iter()
                .any(|shot| shot["id"] == id.as_str()),
            "{id} is gone"
        );
        assert_eq!(
            again
                .get(&format!("/api/v1/prompts/things/shots/{id}.jpg"))
                .status,
            200
        );
    }
}

/// A prompt's name with a slash was read as a file anywhere.
#[test]
fn a_name_in_a_path_that_is_a_path_reads_nothing_elsewhere() {
    let dir = Directory::new();
    let served = Served::start(&dir, "");
    for end in [
        "history",
        "training",
        "shots",
        "shots/1.jpg",
        "enough",
        "why?shot=1",
        "report",
        "diff?from=1&to=2",
    ] {
        for name in ["..%2F..%2Fx", "%2Fetc%2Fpasswd", "a.rlp", "..", "a%5Cb"] {
            let answer = served.get(&format!("/api/v1/prompts/{name}/{end}"));
            assert_eq!(answer.status, 422, "{name} {end}: {answer:?}");
            assert!(answer.detail().contains("cannot name a prompt"));
        }
        for name in ["%FF", "a%0D%0AX:%20y", "%00"] {
            let answer = served.get(&format!("/api/v1/prompts/{name}/{end}"));
            assert_eq!(answer.status, 400, "{name} {end}");
            answer.detail();
        }
    }
    for name in ["%FF", "%00"] {
        served.get(&format!("/api/v1/cameras/{name}")).detail();
    }
}
