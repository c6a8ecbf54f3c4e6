use super::*;
use crate::serve::Settings;
use crate::store::Home;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, Response};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

fn server(dir: &std::path::Path) -> Arc<Server> {
    let settings = Settings {
        config: dir.join("edge-rlp.toml"),
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        home: Home::new(dir),
    };
    Arc::new(Server::new(&settings).unwrap())
}

fn ask(routes: &Router, method: &Method, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer = SocketAddr::from(([127, 0, 0, 1], 9));
    request.extensions_mut().insert(ConnectInfo(peer));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let service = TowerToHyperService::new(routes.clone());
    runtime.block_on(service.call(request)).unwrap()
}

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

const METHODS: [&str; 5] = ["delete", "get", "patch", "post", "put"];

#[test]
fn the_document_names_every_route_and_every_method_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let routes = routes(server(dir.path()));
    let document = document();
    let mut documented: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let named = METHODS
            .into_iter()
            .filter(|method| methods.get(method).is_some());
        documented.insert(path.clone(), named.collect());
    }
    let served = paths()
        .into_iter()
        .map(|(path, _)| format!("/api/v1{path}"));
    let others = ["/metrics", "/healthz", "/readyz"].map(str::to_owned);
    let served: BTreeSet<String> = served.chain(others).collect();
    let named: BTreeSet<String> = documented.keys().cloned().collect();
    assert_eq!(named, served);
    for (path, methods) in documented {
        let path = path.replace(['{', '}'], "");
        // No route has this method: the answer says which it has.
        let answer = ask(&routes, &Method::TRACE, &path, &[]);
        assert_eq!(answer.status(), 405, "{path}");
        let allowed = answer.headers()["allow"].to_str().unwrap().to_lowercase();
        let allowed: BTreeSet<&str> = allowed
            .split(',')
            .filter(|method| *method != "head")
            .collect();
        assert_eq!(allowed, methods, "{path}");
    }
}

#[test]
fn each_method_says_what_it_answers_and_each_reference_leads_somewhere() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            let Some(operation) = methods.get(method) else {
                continue;
            };
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap()),
                "{path}"
            );
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|code| code.starts_with('2')), "{path}");
        }
    }
    let mut references = 0;
    each(&document, &mut |value| {
        if let Some(reference) = value.get("$ref") {
            let pointer = reference.as_str().unwrap().trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            references += 1;
        }
    });
    assert!(references > 100);
}

fn each(value: &Value, act: &mut impl FnMut(&Value)) {
    act(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, act)),
        Value::Object(fields) => fields.values().for_each(|field| each(field, act)),
        _ => {}
    }
}

/// What a page of somebody else has a browser ask for, and names that lead here from elsewhere.
#[test]
fn pages_of_others_and_other_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let routes = routes(server(dir.path()));
    let path = "/api/v1/prompts/a/training";
    let status = |method: Method, headers: &[(&str, &str)]| {
        ask(&routes, &method, path, headers).status().as_u16()
    };
    assert_eq!(status(Method::GET, &[]), 200);
    assert_eq!(status(Method::DELETE, &[]), 409);
    assert_eq!(
        status(Method::DELETE, &[("origin", "http://localhost")]),
        409
    );
    for origin in ["http://evil.example", "http://localhost:1", "null", ""] {
        assert_eq!(
            status(Method::DELETE, &[("origin", origin)]),
            403,
            "{origin}"
        );
    }
    assert_eq!(
        status(Method::GET, &[("sec-fetch-site", "cross-site")]),
        403
    );
    assert_eq!(
        status(Method::GET, &[("sec-fetch-site", "same-origin")]),
        200
    );
    let other = Request::builder()
        .uri(path)
        .header("host", "evil.example")
        .body(Body::empty());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let service = TowerToHyperService::new(routes.clone());
    let answer = runtime.block_on(service.call(other.unwrap())).unwrap();
    assert_eq!(answer.status(), 421);
    let page = ask(
        &routes,
        &Method::GET,
        "/",
        &[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ],
    );
    assert_eq!(page.status(), 200, "a link may lead to the page");
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"));
    for header in [
        "x-content-type-options",
        "referrer-policy",
        "cross-origin-resource-policy",
    ] {
        assert!(page.headers().contains_key(header), "{header}");
    }
}

/// Reports that were asked for again and again had every thread, and stopping waited for them too.
#[test]
fn what_takes_long_leaves_threads_to_everything_else() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let turns = Arc::new(tokio::sync::Semaphore::new(1));
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(wait));
    runtime.block_on(async {
        let mut long = Vec::new();
        for _ in 0..9 {
            let (turns, wait) = (Arc::clone(&turns), Arc::clone(&wait));
            long.push(tokio::spawn(async move {
                let work = move || {
                    wait.lock().unwrap().recv().unwrap();
                    Ok(())
                };
                in_turn(&turns, work).await.unwrap();
            }));
        }
        tokio::task::yield_now().await;
        let other = blocking(|| Ok(()));
        let patience = std::time::Duration::from_secs(60);
        let done = tokio::time::timeout(patience, other).await;
        let done = done.map(|done| done.is_ok());
        (0..9).for_each(|_| go.send(()).unwrap());
        for one in long {
            one.await.unwrap();
        }
        assert_eq!(done, Ok(true));
    });
}

#[test]
fn a_frame_of_another_site_has_the_interface_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let routes = routes(server(dir.path()));
    let link = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
    ];
    let status = |path: &str, headers: &[(&str, &str)]| {
        ask(&routes, &Method::GET, path, headers).status().as_u16()
    };
    assert_eq!(status("/", &link), 200, "a link to the page");
    assert_eq!(status("/api/v1/cameras", &link), 403);
    assert_eq!(status("/api/v1/cameras", &[]), 200);
    let head = ask(&routes, &Method::HEAD, "/api/v1/session", &[]);
    assert_eq!(head.status(), 200);
}
