//! `edge-rlp model pull` as a person types it, from a hub and other servers on loopback.
#![cfg(feature = "pull")]

use crate::support::models::{export, kept};
use crate::support::server::{Reply, Request, Server};
use crate::support::{Directory, Invocation, Ran};
use edge_rlp::download::Sha256;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// `model pull`, with flags that make failures quick ones.
fn pull(dir: &Directory, line: &str) -> Invocation {
    dir.command("model pull --retry-pause 5ms --stall-timeout 300ms")
        .words(line)
}

fn shown(dir: &Directory, name: &str) -> serde_json::Value {
    dir.ok(&format!("model show {name} --json")).json()
}

/// The files of an export, by their path below `base`, laid out as transformers.js does.
fn files(base: &str) -> HashMap<String, Vec<u8>> {
    let dir = Directory::new();
    export(&dir, "tiny", "hf-sdpa-ts17");
    let names = [
        ("config.json", "config.json"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("tokenizer.json", "tokenizer.json"),
        ("visual.onnx", "onnx/vision_model.onnx"),
        ("textual.onnx", "onnx/text_model.onnx"),
    ];
    names
        .iter()
        .map(|(file, name)| {
            let bytes = fs::read(dir.path().join("tiny").join(file)).unwrap();
            (format!("{base}/{name}"), bytes)
        })
        .collect()
}

/// A hub that redirects large files to where they lie, and says there what they must hash to.
fn hub(answer: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let files = files("/someone/tiny-clip/resolve/main");
    Server::new(move |request| {
        let path = request.path.trim_start_matches("/cdn");
        let Some(body) = files.get(path) else {
            return Reply::status(404);
        };
        let reply = match path.ends_with(".onnx") && path == request.path {
            true => {
                let sha256 = Sha256::of(&body[..]).unwrap();
                Reply::redirect(302, &format!("/cdn{path}"))
                    .with("X-Linked-ETag", &format!("\"{sha256}\""))
            }
            false => Reply::file(request, "1", body),
        };
        answer(request, reply)
    })
}

#[test]
fn a_repository_of_the_hub_is_downloaded_checked_and_imported() {
    let server = hub(|_, reply| reply);
    let dir = Directory::new();
    let line = format!("someone/tiny-clip --endpoint {} --json", server.url(""));
    let pulled = pull(&dir, &line).ok();
    let report = pulled.json();
    assert_eq!(report["model"], "tiny-clip");
    assert_eq!(
        pulled.stderr.matches("checksum right").count(),
        2,
        "{pulled}"
    );
    assert_eq!(kept(&dir, "models"), ["tiny-clip.rlpm"]);
    assert!(kept(&dir, "downloads").is_empty(), "nothing waits any more");
    dir.ok("model verify");

    // It is the model that the files make when they are imported by hand.
    export(&dir, "by-hand", "hf-sdpa-ts17");
    let by_hand = dir.ok("model import by-hand --json").json();
    assert_eq!(by_hand["fingerprint"], report["fingerprint"]);

    let asked = server.requests().len();
    pull(&dir, &line).fails(1, "tiny-clip ... --force");
    assert_eq!(
        server.requests().len(),
        asked,
        "a name that is taken is seen before any request"
    );
    let mirrored = dir.command("model pull someone/tiny-clip --force --precision f32");
    let mirrored = mirrored.env("HF_ENDPOINT", server.url(""));
    mirrored.ok().prints("f32");
}

#[test]
fn a_pull_that_broke_goes_on_with_what_it_has() {
    // The server dies in the middle of the second tower.
    let server = hub(|request, reply| {
        let dies = request.path == "/cdn/someone/tiny-clip/resolve/main/onnx/text_model.onnx"
            && request.earlier < 6;
        if dies { reply.cut_after(1000) } else { reply }
    });
    let dir = Directory::new();
    let line = format!("someone/tiny-clip --endpoint {}", server.url(""));
    let broken = "text_model.onnx ... 6000 bytes are kept ... run the same command again";
    pull(&dir, &line).fails(1, broken);
    assert!(kept(&dir, "models").is_empty());
    let pulled = pull(&dir, &line).ok();
    pulled.says("was there").says("from before");
    let towers = server.requests();
    let bodies = |name: &str| {
        let of = towers
            .iter()
            .filter(|request| request.path.starts_with("/cdn") && request.path.ends_with(name));
        of.count()
    };
    assert_eq!(
        (bodies("vision_model.onnx"), bodies("text_model.onnx")),
        (2, 7)
    );
    assert!(kept(&dir, "downloads").is_empty());
}

#[test]
fn a_file_that_is_not_what_the_hub_says_is_never_imported() {
    let server = hub(|request, reply| {
        match request.path.ends_with("vision_model.onnx") && request.path.starts_with("/cdn") {
            true => Reply::ok(b"something else"),
            false => reply,
        }
    });
    let dir = Directory::new();
    let line = format!("someone/tiny-clip --endpoint {}", server.url(""));
    pull(&dir, &line).fails(1, "vision_model.onnx ... checksum");
    assert!(kept(&dir, "models").is_empty());
}

#[test]
fn a_folder_of_any_server_is_imported_under_its_own_name() {
    let server = Server::of(files("/exports/tiny"));
    let dir = Directory::new();
    pull(&dir, &server.url("/exports/tiny/")).ok();
    let other = pull(&dir, &server.url("/exports/tiny"));
    other.words("--name other --logit-scale 7").ok();
    assert_eq!(kept(&dir, "models"), ["other.rlpm", "tiny.rlpm"]);
    assert_eq!(shown(&dir, "other")["logit_scale"], 7.0);

    let nothing = pull(&dir, &server.url("/nothing"));
    nothing.fails(1, "nothing ... vision_model.onnx");
    let mut half = files("/half");
    half.remove("/half/onnx/text_model.onnx");
    let server = Server::of(half);
    let half = pull(&dir, &server.url("/half"));
    half.fails(1, "half an export ... text_model.onnx");
}

#[test]
fn what_an_import_refuses_stays_downloaded_for_the_next_try() {
    let mut broken = files("/exports/odd");
    let json = String::from_utf8(broken["/exports/odd/tokenizer.json"].clone()).unwrap();
    let swapped = json
        .replace("<|startoftext|>", "<|x|>")
        .replace("<|endoftext|>", "<|startoftext|>")
        .replace("<|x|>", "<|endoftext|>");
    broken.insert("/exports/odd/tokenizer.json".into(), swapped.into());
    let server = Server::of(broken);
    let dir = Directory::new();
    let url = server.url("/exports/odd");
    let refused = pull(&dir, &url).fails(1, "cosine");
    refused.says("files are kept");
    pull(&dir, &url).words("--force").ok();
    assert!(kept(&dir, "downloads").is_empty());
}

#[test]
fn a_bundle_comes_as_it_is_and_is_checked_by_fingerprint_and_checksum() {
    let bundle =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default/default.rlpm"))
            .unwrap();
    let mut damaged = bundle.clone();
    damaged[1_500_000] ^= 1;
    let digest = Sha256::of(&bundle[..]).unwrap().to_string();
    let files = [
        ("/shelf.rlpm", bundle),
        ("/damaged.rlpm", damaged),
        ("/page.rlpm", b"<html>".to_vec()),
    ];
    let server = Server::of(files.map(|(path, body)| (path.to_owned(), body)).into());
    let dir = Directory::new();
    let from_shelf = |path: &str| pull(&dir, &server.url(path));
    from_shelf(&format!("/shelf.rlpm#sha256={digest}")).ok();
    dir.ok("model verify shelf");
    let door = from_shelf("/shelf.rlpm").words("--name door --sha256");
    door.arg(&digest).ok();
    assert_eq!(kept(&dir, "models"), ["door.rlpm", "shelf.rlpm"]);
    from_shelf("/damaged.rlpm").fails(1, "damaged.rlpm ... fingerprint");
    from_shelf("/page.rlpm").fails(1, "page.rlpm ... RLPMODEL");
    let other = "0".repeat(64);
    let expected = from_shelf("/damaged.rlpm").args(["--sha256", &other]);
    expected.fails(1, &format!("checksum ... {other}"));
    from_shelf("/missing.rlpm").fails(1, "missing.rlpm ... 404");
    let precision = from_shelf("/shelf.rlpm").words("--name f --precision f32");
    precision.fails(2, "--precision");
    assert_eq!(kept(&dir, "models"), ["door.rlpm", "shelf.rlpm"]);
}

#[test]
fn what_cannot_be_pulled_is_told_in_a_sentence() {
    let dir = Directory::new();
    for (line, sentence) in [
        ("no-such-name", "no-such-name ... --list"),
        ("ftp://h.example/x.rlpm", "ftp"),
        ("https://h.example/x.rlpm --sha256 12", "64"),
        ("a/b --endpoint nonsense", "nonsense"),
    ] {
        pull(&dir, line).fails(2, sentence);
    }
    dir.fails("model pull", 2, "NAME|URL");
    let private = Server::new(|_| Reply::status(401));
    let asked = pull(&dir, "a/b --endpoint").arg(private.url(""));
    asked.fails(1, "private ... 401");
    let stalled = Server::new(|request| {
        Reply::file(request, "1", &[0; 9000]).stalled_after(100, Duration::from_secs(60))
    });
    let asked = pull(&dir, "a/b --endpoint").arg(stalled.url(""));
    asked.fails(1, "6 attempts ... nothing came");
    let listed = dir.ok("model pull --list");
    listed.prints("Xenova/clip-vit-base-patch32");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_pull_at_once_and_what_has_arrived_is_gone_on_with() {
    let server = hub(|request, reply| {
        let first = request.path.ends_with("vision_model.onnx") && request.earlier == 0;
        match request.path.starts_with("/cdn") && first {
            true => reply.stalled_after(2000, Duration::from_secs(60)),
            false => reply,
        }
    });
    let dir = Directory::new();
    let line = format!("model pull someone/tiny-clip --endpoint {}", server.url(""));
    let child = dir.command(&line).start();
    while !server
        .requests()
        .iter()
        .any(|request| request.path.starts_with("/cdn"))
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(100));
    let sent = Instant::now();
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let stopped = Ran::of(line.clone(), child.wait_with_output().unwrap());
    assert_eq!(stopped.code, 1, "{stopped}");
    assert!(
        sent.elapsed() < Duration::from_secs(10),
        "far less than the server's minute"
    );
    stopped.says("stopped");
    assert!(kept(&dir, "models").is_empty());
    dir.ok(&line);
    assert_eq!(kept(&dir, "models"), ["tiny-clip.rlpm"]);
}
