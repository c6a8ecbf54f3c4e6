//! Downloads from a real server on loopback, which misbehaves in every way that a server can.
#![cfg(feature = "pull")]

use crate::support::server::{Reply, Server};
use edge_rlp::download::{Client, ClientOptions, DownloadError, Fetched, Request, Sha256, Step};
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// A few buffers' worth of bytes that are nowhere alike.
fn content() -> Vec<u8> {
    (0..300_000u32)
        .flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 8).to_le_bytes())
        .collect()
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256::of(bytes).unwrap()
}

/// Options that make every failure a quick one.
fn quick() -> ClientOptions {
    let mut options = ClientOptions::default();
    options.connect = Duration::from_secs(5);
    options.stall = Duration::from_millis(300);
    options.pause = Duration::from_millis(5);
    options.attempts = 3;
    options
}

/// Serves `body`, but the connection of the first answers breaks after so many bytes each.
fn breaking(body: &[u8], cuts: &[usize]) -> Server {
    let (served, cuts) = (body.to_owned(), cuts.to_owned());
    Server::new(move |request| {
        let reply = Reply::file(request, "v1", &served);
        match cuts.get(request.earlier) {
            Some(&bytes) => reply.cut_after(bytes),
            None => reply,
        }
    })
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::new().unwrap())
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("file")
    }

    fn part(&self) -> Vec<u8> {
        fs::read(self.0.path().join("file.part")).unwrap()
    }

    fn fetch(&self, url: &str) -> Result<Fetched, DownloadError> {
        self.fetch_with(quick(), url, None)
    }

    fn fetch_with(
        &self,
        options: ClientOptions,
        url: &str,
        sha256: Option<Sha256>,
    ) -> Result<Fetched, DownloadError> {
        let target = self.target();
        let wanted = Request {
            url,
            target: &target,
            sha256,
            most: 10 << 20,
        };
        Client::new(options)?.fetch(wanted, &mut |_| ControlFlow::Continue(()))
    }

    /// What arrived, where it did; and that nothing else is left but the note.
    fn arrived(&self) -> Vec<u8> {
        assert!(!self.0.path().join("file.part").exists());
        fs::read(self.target()).unwrap()
    }
}

#[test]
fn a_file_arrives_whole_and_a_second_time_only_its_head_is_asked_for() {
    let body = content();
    let served = body.clone();
    let server = Server::new(move |request| Reply::file(request, "v1", &served));
    let folder = Folder::new();
    let fetched = folder.fetch(&server.url("/f")).unwrap();
    assert_eq!((fetched.bytes, fetched.kept), (body.len() as u64, 0));
    assert_eq!(folder.arrived(), body);
    let again = folder.fetch(&server.url("/f")).unwrap();
    assert_eq!(
        (again.bytes, again.kept),
        (body.len() as u64, body.len() as u64)
    );
    assert_eq!(folder.arrived(), body);
}

#[test]
fn a_file_that_has_changed_is_fetched_anew() {
    let server = Server::new(|request| match request.earlier {
        0 => Reply::file(request, "v1", b"the old file"),
        _ => Reply::file(request, "v2", b"the new file"),
    });
    let folder = Folder::new();
    folder.fetch(&server.url("/f")).unwrap();
    folder.fetch(&server.url("/f")).unwrap();
    assert_eq!(folder.arrived(), b"the new file");
}

#[test]
fn an_interrupted_download_goes_on_where_it_broke() {
    let body = content();
    let server = breaking(&body, &[400_000, 300_000]);
    let folder = Folder::new();
    folder.fetch(&server.url("/f")).unwrap();
    assert_eq!(folder.arrived(), body);
    let asked: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.headers.get("range").cloned())
        .collect();
    let expected = [
        None,
        Some("bytes=400000-".into()),
        Some("bytes=700000-".into()),
    ];
    assert_eq!(asked, expected);
    assert_eq!(server.requests()[1].headers["if-range"], "\"v1\"");
}

#[test]
fn what_one_run_left_another_run_goes_on_with() {
    let body = content();
    let server = breaking(&body, &[100_000; 3]);
    let folder = Folder::new();
    let error = folder.fetch(&server.url("/f")).unwrap_err();
    assert!(
        matches!(
            error,
            DownloadError::GaveUp {
                attempts: 3,
                kept: 300_000,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("300000 bytes are kept"),
        "{error}"
    );
    assert_eq!(folder.part(), body[..300_000]);
    assert!(!folder.target().exists());
    let fetched = folder.fetch(&server.url("/f")).unwrap();
    assert_eq!(fetched.kept, 300_000);
    assert_eq!(folder.arrived(), body);
}

#[test]
fn the_beginning_of_another_version_or_of_another_url_is_not_gone_on_with() {
    let body = content();
    let served = body.clone();
    let server = Server::new(
        move |request| match (request.path.as_str(), request.earlier) {
            ("/f", 0..3) => Reply::file(request, "v1", &[7; 500_000]).cut_after(100_000),
            _ => Reply::file(request, "v2", &served),
        },
    );
    let folder = Folder::new();
    folder.fetch(&server.url("/f")).unwrap_err();
    folder.fetch(&server.url("/f")).unwrap();
    assert_eq!(folder.arrived(), body);

    let folder = Folder::new();
    let half = Server::new(|request| Reply::file(request, "v2", &[7; 500_000]).cut_after(100_000));
    folder.fetch(&half.url("/f")).unwrap_err();
    let fetched = folder.fetch(&server.url("/g")).unwrap();
    assert_eq!((fetched.kept, folder.arrived()), (0, body));
}

#[test]
fn a_server_that_ignores_ranges_or_names_no_version_is_begun_anew() {
    let body = content();
    for etag in [true, false] {
        let served = body.clone();
        let server = Server::new(move |request| {
            let reply = Reply::ok(&served);
            let reply = if etag {
                reply.with("ETag", "\"v1\"")
            } else {
                reply
            };
            match request.earlier {
                0 => reply.cut_after(400_000),
                _ => reply,
            }
        });
        let folder = Folder::new();
        folder.fetch(&server.url("/f")).unwrap();
        assert_eq!(folder.arrived(), body);
        assert_eq!(server.requests()[1].headers.contains_key("range"), etag);
    }
}

#[test]
fn a_part_that_is_whole_but_for_its_name_is_taken() {
    let body = content();
    // The connection breaks after the last byte, as often as it is asked.
    let server = breaking(&body, &[900_000]);
    let folder = Folder::new();
    let mut options = quick();
    options.attempts = 1;
    folder
        .fetch_with(options, &server.url("/f"), None)
        .unwrap_err();
    // As if the program had been killed before it gave the file its name.
    fs::write(folder.0.path().join("file.part"), &body).unwrap();
    let note = folder.0.path().join("file.download");
    let text = fs::read_to_string(&note).unwrap();
    fs::write(&note, text.replace("900000", &body.len().to_string())).unwrap();
    folder.fetch(&server.url("/f")).unwrap();
    assert_eq!(folder.arrived(), body);
}

#[test]
fn bytes_that_a_power_cut_may_have_lost_are_fetched_again() {
    let body = content();
    let server = breaking(&body, &[500_000]);
    let folder = Folder::new();
    let mut options = quick();
    options.attempts = 1;
    folder
        .fetch_with(options, &server.url("/f"), None)
        .unwrap_err();
    // The file has its length, but what came after the last checkpoint is zeros.
    let mut part = folder.part();
    part.extend([0; 200_000]);
    fs::write(folder.0.path().join("file.part"), part).unwrap();
    folder.fetch(&server.url("/f")).unwrap();
    assert_eq!(folder.arrived(), body);
}

#[test]
fn a_wrong_checksum_throws_the_file_away() {
    let server = Server::new(|request| Reply::file(request, "v1", b"not what was meant"));
    let folder = Folder::new();
    let expected = sha256(b"what was meant");
    let error = folder
        .fetch_with(quick(), &server.url("/f"), Some(expected))
        .unwrap_err();
    assert!(matches!(error, DownloadError::Checksum { .. }), "{error}");
    assert!(error.to_string().contains(&expected.to_string()), "{error}");
    assert!(!folder.target().exists() && folder.part().is_empty());
    assert_eq!(
        server.requests().len(),
        1,
        "what did not break needs no second attempt"
    );
    let right = sha256(b"not what was meant");
    folder
        .fetch_with(quick(), &server.url("/f"), Some(right))
        .unwrap();
    assert_eq!(folder.arrived(), b"not what was meant");
}

#[test]
fn a_resumed_file_with_a_wrong_checksum_gets_one_more_chance_from_the_start() {
    let body = content();
    let served = body.clone();
    let server = Server::new(move |request| match request.earlier {
        0 => Reply::file(request, "v1", &[7; 500_000]).cut_after(100_000),
        _ => Reply::file(request, "v1", &served),
    });
    let folder = Folder::new();
    folder
        .fetch_with(quick(), &server.url("/f"), Some(sha256(&body)))
        .unwrap();
    assert_eq!(folder.arrived(), body);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn the_checksum_that_a_hub_gives_on_its_redirect_is_held_to() {
    let body = content();
    for (linked, right) in [(sha256(&body), true), (sha256(b"other"), false)] {
        let served = body.clone();
        let server = Server::new(move |request| match request.path.as_str() {
            "/hub/f" => {
                Reply::redirect(302, "/cdn/f?sig=x").with("X-Linked-ETag", &format!("\"{linked}\""))
            }
            _ => Reply::file(request, "cdn", &served),
        });
        let folder = Folder::new();
        let result = folder.fetch(&server.url("/hub/f"));
        match right {
            true => assert_eq!(result.unwrap().sha256, Some(linked)),
            false => assert!(matches!(result, Err(DownloadError::Checksum { .. }))),
        }
    }
}

#[test]
fn redirects_are_followed_five_times_and_no_more() {
    let server = Server::new(|request| {
        let left: usize = request.path[1..].parse().unwrap();
        match left {
            0 => Reply::ok(b"here"),
            left => Reply::redirect(307, &(left - 1).to_string()),
        }
    });
    let folder = Folder::new();
    folder.fetch(&server.url("/5")).unwrap();
    assert_eq!(folder.arrived(), b"here");
    let error = Folder::new().fetch(&server.url("/6")).unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
}

#[test]
fn what_will_not_change_is_asked_for_once_and_what_may_pass_again() {
    for (status, requests) in [(404, 1), (401, 1), (418, 1), (503, 3), (429, 3)] {
        let server = Server::new(move |_| Reply::status(status));
        let error = Folder::new()
            .fetch(&server.url("/f"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&status.to_string()), "{error}");
        assert_eq!(server.requests().len(), requests, "{status}");
    }
    let server = Server::new(|request| match request.earlier {
        0 => Reply::status(503).with("Retry-After", "0"),
        _ => Reply::ok(b"at last"),
    });
    let folder = Folder::new();
    let (target, mut told) = (folder.target(), Vec::new());
    let wanted = Request {
        url: &server.url("/f"),
        target: &target,
        sha256: None,
        most: 10 << 20,
    };
    let fetched = Client::new(quick()).unwrap().fetch(wanted, &mut |step| {
        if let Step::Again { reason, .. } = step {
            told.push(reason.to_owned());
        }
        ControlFlow::Continue(())
    });
    fetched.unwrap();
    assert_eq!(folder.arrived(), b"at last");
    assert_eq!(told, ["the server answered with status 503"]);
}

#[test]
fn a_server_that_stalls_is_given_up_in_bounded_time() {
    let stalled = Duration::from_secs(30);
    let server = Server::new(move |request| {
        Reply::file(request, "v1", &[1; 50_000]).stalled_after(10_000, stalled)
    });
    let started = std::time::Instant::now();
    let error = Folder::new()
        .fetch(&server.url("/f"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("nothing came for too long") && error.contains("3 attempts"),
        "{error}"
    );
    assert!(error.contains("30000 bytes are kept"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_answer_that_is_shorter_than_it_says_is_cut_and_not_whole() {
    let server = Server::new(|_| Reply::ok(&[1; 50_000]).cut_after(10_000));
    let folder = Folder::new();
    let error = folder.fetch(&server.url("/f")).unwrap_err().to_string();
    assert!(error.contains("cut"), "{error}");
    assert!(!folder.target().exists());
}

#[test]
fn more_bytes_than_are_allowed_are_refused_before_they_come() {
    let server = Server::new(|_| Reply::status(200).with("X", "y"));
    let folder = Folder::new();
    folder.fetch(&server.url("/f")).unwrap();
    assert!(folder.arrived().is_empty());

    let server = Server::new(|_| Reply::ok(&[0; 11 << 20]));
    let error = Folder::new().fetch(&server.url("/f")).unwrap_err();
    assert!(
        matches!(error, DownloadError::TooLarge { bytes: Some(n), .. } if n == 11 << 20),
        "{error}"
    );
}

#[test]
fn nothing_that_listens_and_no_url_are_sentences() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/f", free.local_addr().unwrap());
    drop(free);
    let error = Folder::new().fetch(&url).unwrap_err().to_string();
    assert!(
        error.contains("refused") && error.contains("3 attempts"),
        "{error}"
    );
    for url in ["", "x", "ftp://h/f", "http://"] {
        let error = Folder::new().fetch(url).unwrap_err();
        assert!(matches!(error, DownloadError::Url { .. }), "{error}");
    }
}

#[test]
fn a_download_that_is_stopped_keeps_what_it_has() {
    let body = content();
    let served = body.clone();
    let server = Server::new(move |request| Reply::file(request, "v1", &served));
    let (folder, url) = (Folder::new(), server.url("/f"));
    let target = folder.target();
    let wanted = Request {
        url: &url,
        target: &target,
        sha256: None,
        most: u64::MAX,
    };
    let client = Client::new(quick()).unwrap();
    let mut stop = |step: Step| match step {
        Step::Bytes { there, .. } if there > 200_000 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let error = client.fetch(wanted, &mut stop).unwrap_err();
    let DownloadError::Stopped { kept, .. } = error else {
        panic!("{error}");
    };
    assert!(kept > 200_000);
    let fetched = folder.fetch(&url).unwrap();
    assert_eq!((fetched.kept, folder.arrived()), (kept, body));
}

#[test]
fn two_processes_do_not_write_one_file() {
    let server = Server::new(|request| {
        Reply::file(request, "v1", &[1; 1000]).stalled_after(10, Duration::from_secs(2))
    });
    let (folder, url) = (Folder::new(), server.url("/f"));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| folder.fetch(&url));
        while server.requests().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let second = folder.fetch(&url).unwrap_err();
        assert!(matches!(second, DownloadError::Busy { .. }), "{second}");
        first.join().unwrap().unwrap_err();
    });
}

#[test]
fn a_proxy_carries_everything_but_what_is_reached_directly() {
    // Whoever asks a proxy for a tunnel says CONNECT; this one grants none.
    let proxy = Server::new(|_| Reply::status(403));
    let server = Server::new(|request| Reply::file(request, "v1", b"direct"));
    let mut options = quick();
    options.proxies.http = Some(proxy.url(""));
    let error = Folder::new()
        .fetch_with(options.clone(), &server.url("/f"), None)
        .unwrap_err();
    assert!(error.to_string().contains("proxy"), "{error}");
    assert!(server.requests().is_empty() && !proxy.requests().is_empty());
    options.proxies.direct = vec!["127.0.0.1".into()];
    Folder::new()
        .fetch_with(options.clone(), &server.url("/f"), None)
        .unwrap();
    options.proxies.http = Some("http://".into());
    let error = Folder::new()
        .fetch_with(options, &server.url("/f"), None)
        .unwrap_err();
    assert!(matches!(error, DownloadError::Proxy { .. }), "{error}");
}
