//! Who may come in, and what machines ask for.

use super::*;

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
    // What is open ends with what it was opened by.
    served.headers = bearer(&token);
    let path = "/api/v1/cameras/one/stream.mjpeg?fps=20&width=64";
    let mut stream = served.open("GET", path, &[], b"");
    served.headers = session;
    assert_eq!(served.delete("/api/v1/tokens/ha").status, 204);
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).unwrap();
    assert!(seen.starts_with(b"HTTP/1.1 200"));
    assert_eq!(served.delete("/api/v1/session").status, 204);
    assert_eq!(served.get("/api/v1/cameras").status, 401);
    served.headers = Vec::new();
    for _ in 0..5 {
        served.send("POST", "/api/v1/session", &json!({ "password": "guess" }));
    }
    let waits = served.send("POST", "/api/v1/session", &json!({ "password": password }));
    assert_eq!(waits.status, 429);
    assert!(waits.headers.contains_key("retry-after"));

    let log = |name: &str| std::fs::read_to_string(dir.home().join("serve").join(name)).unwrap();
    let refused = log("refused.log");
    assert!(refused.contains("POST /api/v1/session") && refused.contains("429"));
    let log = log("audit.log");
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

#[test]
fn a_configuration_that_was_named_and_is_not_there_is_told() {
    let dir = Directory::new();
    // A new box has none at its usual place, and nothing is wrong.
    let served = Served::with(&dir, "serve --listen 127.0.0.1:0");
    assert!(!served.said().contains("no such file"), "{}", served.said());
    drop(served);
    let served = Served::with(&dir, "serve --config shop.toml --listen 127.0.0.1:0");
    let said = served.said();
    assert!(
        said.contains("warning: shop.toml: there is no such file, so there is no camera yet"),
        "{said}"
    );
    let camera = json!({ "source": "demo" });
    let put = served.send("PUT", "/api/v1/cameras/one", &camera);
    assert_eq!(put.status, 200, "{put:?}");
    let written = std::fs::read_to_string(dir.path().join("shop.toml")).unwrap();
    assert!(written.contains("name = \"one\""), "{written}");
    // Nor does a file that disappears take the cameras with it.
    std::fs::remove_file(dir.path().join("shop.toml")).unwrap();
    served.signal("HUP");
    let begun = std::time::Instant::now();
    while !served.said().contains("what was in use stays in use") {
        assert!(begun.elapsed().as_secs() < 60, "{}", served.said());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(served.get("/api/v1/cameras").json()[0]["name"], "one");

    let nowhere = "serve --config no/such/shop.toml --listen 127.0.0.1:0";
    dir.fails(nowhere, 2, "no/such/shop.toml ... no folder no/such");
}

/// A service is started from anywhere: what the file names lies beside it.
#[test]
fn files_that_the_configuration_names_lie_beside_it() {
    let dir = Directory::new();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    let tls = "[access]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n";
    dir.write("etc/edge-rlp.toml", tls);
    dir.fails(
        "serve --check --config etc/edge-rlp.toml",
        2,
        "etc/cert.pem",
    );
    let camera =
        "[[camera]]\nname = \"a\"\nsource = \"http://127.0.0.1:9/\"\nlogin_file = \"door.conf\"\n";
    dir.write("etc/edge-rlp.toml", camera);
    dir.fails(
        "serve --check --config etc/edge-rlp.toml",
        2,
        "etc/door.conf",
    );
}
