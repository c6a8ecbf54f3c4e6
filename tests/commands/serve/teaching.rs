//! Labels, shots, training, and what is said of them.

use super::*;

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
    dir.write("edge-rlp.toml", TAUGHT);
    let program = dir.path().join("edge-rlp");
    std::fs::copy(env!("CARGO_BIN_EXE_edge-rlp"), &program).unwrap();
    let serve = [
        &program.to_string_lossy(),
        "serve",
        "--config",
        "edge-rlp.toml",
    ];
    let served = Served::started(dir.program(&serve).words("--listen 127.0.0.1:0"));
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
    // A rollback at the command line is told as one on the page is.
    let mut events = BufReader::new(served.open("GET", "/api/v1/events?kinds=prompt", &[], b""));
    dir.ok("prompt rollback things --to 1");
    event(&mut events, "prompt", |told| {
        told["prompt"] == "things" && told["what"] == "replaced" && told["generation"] == 3
    });
    // An update replaces the program while it runs.
    std::fs::remove_file(&program).unwrap();
    let report = served.get(&path("report"));
    assert_eq!(
        report.status,
        200,
        "{}",
        String::from_utf8_lossy(&report.body)
    );
    assert!(String::from_utf8_lossy(&report.body).contains("<svg"));
    assert!(report.headers["content-security-policy"].contains("sandbox"));
    let german = served.get(&path("report?language=de"));
    let german = String::from_utf8_lossy(&german.body).into_owned();
    assert!(german.contains("Was wofür gehalten wird"), "{german}");
    let other = served.get(&path("report?language=fr"));
    assert_eq!(
        (other.status, other.detail().as_str()),
        (
            400,
            r#"the query does not fit at "language": "fr" is none of en, de"#
        )
    );
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
