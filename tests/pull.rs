//! `edge-rlp model pull` as a person types it, from a hub and other servers on loopback.
#![cfg(feature = "pull")]

mod support;

use edge_rlp::download::Sha256;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::models::{done, export, kept, objects, refused};
use support::server::{Reply, Request, Server};
use support::{Directory, code, stderr, stdout};

/// Flags that make failures quick ones.
const QUICK: [&str; 4] = ["--retry-pause", "5ms", "--stall-timeout", "300ms"];

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

fn pull<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["model", "pull"], arguments, &QUICK].concat()
}

#[test]
fn a_repository_of_the_hub_is_downloaded_checked_and_imported() {
    let server = hub(|_, reply| reply);
    let dir = Directory::new();
    let endpoint = server.url("");
    let arguments = pull(&["someone/tiny-clip", "--endpoint", &endpoint, "--json"]);
    let output = dir.run(&arguments);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = &objects(&stdout(&output))[0];
    assert_eq!(report["model"], "tiny-clip");
    assert_eq!(
        stderr(&output).matches("checksum right").count(),
        2,
        "{}",
        stderr(&output)
    );
    assert_eq!(kept(&dir, "models"), ["tiny-clip.rlpm"]);
    assert!(kept(&dir, "downloads").is_empty(), "nothing waits any more");
    done(&dir, &["model", "verify"]);

    // It is the model that the files make when they are imported by hand.
    export(&dir, "by-hand", "hf-sdpa-ts17");
    let by_hand = done(&dir, &["model", "import", "by-hand", "--json"]);
    assert_eq!(objects(&by_hand)[0]["fingerprint"], report["fingerprint"]);

    let asked = server.requests().len();
    refused(&dir, &arguments, 1, &["tiny-clip", "--force"]);
    assert_eq!(
        server.requests().len(),
        asked,
        "a name that is taken is seen before any request"
    );
    let mirrored = Command::new(env!("CARGO_BIN_EXE_edge-rlp"))
        .args([
            "model",
            "pull",
            "someone/tiny-clip",
            "--force",
            "--precision",
            "f32",
            "--home",
        ])
        .arg(dir.home())
        .env("HF_ENDPOINT", &endpoint)
        .output()
        .unwrap();
    assert_eq!(code(&mirrored), 0, "{}", stderr(&mirrored));
    assert!(stdout(&mirrored).contains("f32"));
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
    let endpoint = server.url("");
    let arguments = pull(&["someone/tiny-clip", "--endpoint", &endpoint]);
    refused(
        &dir,
        &arguments,
        1,
        &[
            "text_model.onnx",
            "6000 bytes are kept",
            "run the same command again",
        ],
    );
    assert!(kept(&dir, "models").is_empty());
    let output = dir.run(&arguments);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let told = stderr(&output);
    assert!(
        told.contains("was there") && told.contains("from before"),
        "{told}"
    );
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
    let endpoint = server.url("");
    refused(
        &dir,
        &pull(&["someone/tiny-clip", "--endpoint", &endpoint]),
        1,
        &["vision_model.onnx", "checksum"],
    );
    assert!(kept(&dir, "models").is_empty());
}

#[test]
fn a_folder_of_any_server_is_imported_under_its_own_name() {
    let server = Server::of(files("/exports/tiny"));
    let dir = Directory::new();
    done(&dir, &pull(&[&server.url("/exports/tiny/")]));
    done(
        &dir,
        &pull(&[
            &server.url("/exports/tiny"),
            "--name",
            "other",
            "--logit-scale",
            "7",
        ]),
    );
    assert_eq!(kept(&dir, "models"), ["other.rlpm", "tiny.rlpm"]);
    let shown = done(&dir, &["model", "show", "other", "--json"]);
    assert_eq!(objects(&shown)[0]["logit_scale"], 7.0);

    refused(
        &dir,
        &pull(&[&server.url("/nothing")]),
        1,
        &["nothing", "vision_model.onnx"],
    );
    let mut half = files("/half");
    half.remove("/half/onnx/text_model.onnx");
    let server = Server::of(half);
    refused(
        &dir,
        &pull(&[&server.url("/half")]),
        1,
        &["half an export", "text_model.onnx"],
    );
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
    let output = dir.run(&pull(&[&url]));
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("cosine") && stderr(&output).contains("files are kept"),
        "{}",
        stderr(&output)
    );
    done(&dir, &pull(&[&url, "--force"]));
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
    done(
        &dir,
        &pull(&[&format!("{}#sha256={digest}", server.url("/shelf.rlpm"))]),
    );
    done(&dir, &["model", "verify", "shelf"]);
    done(
        &dir,
        &pull(&[
            &server.url("/shelf.rlpm"),
            "--name",
            "door",
            "--sha256",
            &digest,
        ]),
    );
    assert_eq!(kept(&dir, "models"), ["door.rlpm", "shelf.rlpm"]);
    refused(
        &dir,
        &pull(&[&server.url("/damaged.rlpm")]),
        1,
        &["damaged.rlpm", "fingerprint"],
    );
    refused(
        &dir,
        &pull(&[&server.url("/page.rlpm")]),
        1,
        &["page.rlpm", "RLPMODEL"],
    );
    let other = "0".repeat(64);
    refused(
        &dir,
        &pull(&[&server.url("/damaged.rlpm"), "--sha256", &other]),
        1,
        &["checksum", &other],
    );
    refused(
        &dir,
        &pull(&[&server.url("/missing.rlpm")]),
        1,
        &["missing.rlpm", "404"],
    );
    refused(
        &dir,
        &pull(&[
            &server.url("/shelf.rlpm"),
            "--name",
            "f",
            "--precision",
            "f32",
        ]),
        2,
        &["--precision"],
    );
    assert_eq!(kept(&dir, "models"), ["door.rlpm", "shelf.rlpm"]);
}

#[test]
fn what_cannot_be_pulled_is_told_in_a_sentence() {
    let dir = Directory::new();
    refused(
        &dir,
        &pull(&["no-such-name"]),
        2,
        &["no-such-name", "--list"],
    );
    refused(&dir, &pull(&["ftp://h.example/x.rlpm"]), 2, &["ftp"]);
    refused(&dir, &["model", "pull"], 2, &["NAME|URL"]);
    refused(
        &dir,
        &pull(&["https://h.example/x.rlpm", "--sha256", "12"]),
        2,
        &["64"],
    );
    let private = Server::new(|_| Reply::status(401));
    refused(
        &dir,
        &pull(&["a/b", "--endpoint", &private.url("")]),
        1,
        &["private", "401"],
    );
    let stalled = Server::new(|request| {
        Reply::file(request, "1", &[0; 9000]).stalled_after(100, Duration::from_secs(60))
    });
    refused(
        &dir,
        &pull(&["a/b", "--endpoint", &stalled.url("")]),
        1,
        &["6 attempts", "nothing came"],
    );
    refused(
        &dir,
        &pull(&["a/b", "--endpoint", "nonsense"]),
        2,
        &["nonsense"],
    );
    let listed = done(&dir, &["model", "pull", "--list"]);
    assert!(listed.contains("Xenova/clip-vit-base-patch32"), "{listed}");
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
    let endpoint = server.url("");
    let arguments = [
        "model",
        "pull",
        "someone/tiny-clip",
        "--endpoint",
        &endpoint,
    ];
    let child = Command::new(env!("CARGO_BIN_EXE_edge-rlp"))
        .args(arguments)
        .env("EDGE_RLP_HOME", dir.home())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
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
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(
        sent.elapsed() < Duration::from_secs(10),
        "far less than the server's minute"
    );
    assert!(stderr(&output).contains("stopped"), "{}", stderr(&output));
    assert!(kept(&dir, "models").is_empty());
    done(&dir, &arguments);
    assert_eq!(kept(&dir, "models"), ["tiny-clip.rlpm"]);
}
