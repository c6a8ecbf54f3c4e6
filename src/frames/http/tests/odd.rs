//! Cameras as people have them: one test for each way in which they were found to differ from what standards say.

use super::*;
use crate::frames::CameraEvent;
use md5::Digest as _;
use std::sync::Mutex;

/// One picture, with its end marker.
const PICTURE: &[u8] = include_bytes!("../../../../tests/fixtures/picture/rgb420.jpg");
/// One with `FF FF 00` in its scan.
const FILL_BYTES: &[u8] = include_bytes!("../../../../tests/fixtures/mjpeg/ffff.jpg");
const PART: &str = "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: ";
const MULTIPART: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n";

/// A camera on loopback that does with each request what `answer` says, and the requests so far.
struct Odd {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

fn odd(answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Odd {
    odd_at("127.0.0.1:0", answer)
}

fn odd_at(
    place: &str,
    answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Odd {
    let listener = TcpListener::bind(place).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2048];
            let count = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            seen.lock().unwrap().push(request.clone());
            let _ = answer(&request, &mut stream);
        }
    });
    Odd { address, requests }
}

impl Odd {
    fn url(&self, login: &str, path: &str) -> CameraUrl {
        CameraUrl::parse(&format!("http://{login}{}{path}", self.address)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// The first pictures of `url`, and the failures before the last of them; or the failures alone where there is no picture.
fn watch(url: CameraUrl, pictures: usize) -> (Vec<RawFrame>, Vec<String>) {
    watch_with(
        url,
        pictures,
        Duration::from_millis(400),
        Trust::Authorities,
    )
}

fn watch_with(
    url: CameraUrl,
    pictures: usize,
    quiet: Duration,
    trust: Trust,
) -> (Vec<RawFrame>, Vec<String>) {
    let timeouts = Timeouts {
        stall: quiet * 3,
        pause: Duration::from_millis(5),
        give_up: quiet * 8,
        fresh: Duration::from_secs(60),
        goodbye: Duration::ZERO,
    };
    let patience = Patience { quiet, trust };
    let mut live = Live::start(
        Arc::new(move |sink: &Sink| capture(&url, patience, sink)),
        timeouts,
    );
    let (mut frames, mut failures) = (Vec::new(), Vec::new());
    while frames.len() < pictures {
        match live.next(&|| false) {
            Ok(Event::Frame(frame, _)) => frames.push(frame),
            Ok(Event::Lost { reason, .. }) => failures.push(reason),
            Ok(Event::End) => panic!("a camera has no end"),
            Err(error) => {
                failures.push(error.to_string());
                break;
            }
        }
    }
    (frames, failures)
}

#[track_caller]
fn shows(camera: &Odd, login: &str, path: &str, pictures: usize) {
    let (frames, failures) = watch(camera.url(login, path), pictures);
    assert_eq!(frames.len(), pictures, "{failures:?}");
    assert!(failures.is_empty(), "{failures:?}");
    for frame in frames {
        frame.decode().unwrap();
    }
}

fn snapshot(out: &mut TcpStream, header: &str) -> io::Result<()> {
    write!(
        out,
        "HTTP/1.1 200 OK\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n",
        PICTURE.len()
    )?;
    out.write_all(PICTURE)
}

fn stream_of(out: &mut TcpStream, picture: &[u8], gap: Duration) -> io::Result<()> {
    out.write_all(MULTIPART.as_bytes())?;
    for _ in 0..40 {
        write!(out, "{PART}{}\r\n\r\n", picture.len())?;
        out.write_all(picture)?;
        out.write_all(b"\r\n")?;
        thread::sleep(gap);
    }
    Ok(())
}

const QUICKLY: Duration = Duration::from_millis(20);

#[test]
fn a_date_without_its_name_in_the_header_is_passed_over() {
    let camera = odd(|_, out| {
        snapshot(
            out,
            "Server: x\r\nTue, 12 Jun 2012 01:56:34 GMT\r\nContent-Type:image/jpeg\r\n",
        )
    });
    shows(&camera, "", "/", 2);
}

#[test]
fn a_blank_before_a_colon_in_the_header_is_passed_over() {
    let camera = odd(|_, out| snapshot(out, "Server : Cam\r\nContent-Type : image/jpeg\r\n"));
    shows(&camera, "", "/", 2);
}

#[test]
fn a_snapshot_is_one_whatever_its_type_says() {
    for header in [
        "Content-Type: application/octet-stream\r\n",
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: multipart/x-mixed-replace; boundary=x\r\n",
    ] {
        let camera = odd(move |_, out| snapshot(out, header));
        shows(&camera, "", "/", 2);
    }
}

#[test]
fn a_body_that_is_compressed_is_told_as_such() {
    for coding in ["br", "GZIP"] {
        let camera = odd(move |_, out| {
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: 300\r\n\r\n"
            )?;
            out.write_all(&[0x5b; 300])
        });
        let (_, failures) = watch(camera.url("", "/"), 1);
        let told = format!("compresses what it sends ({})", coding.to_ascii_lowercase());
        assert!(failures[0].contains(&told), "{failures:?}");
    }
    // Who says so of plain pictures is read all the same.
    let camera = odd(|_, out| snapshot(out, "Content-Encoding: gzip\r\n"));
    shows(&camera, "", "/", 2);
}

#[test]
fn pictures_without_an_end_marker_are_shown() {
    let endless = &PICTURE[..PICTURE.len() - 2];
    // By the length of their parts, before the next one comes.
    let camera = odd(move |_, out| stream_of(out, endless, Duration::from_millis(250)));
    shows(&camera, "", "/", 2);
    // Where there are no lengths, by the boundary before the next one; one after the other; and by the end of the body.
    for between in ["\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n", ""] {
        let camera = odd(move |_, out| {
            out.write_all(MULTIPART.as_bytes())?;
            for _ in 0..40 {
                out.write_all(between.as_bytes())?;
                out.write_all(endless)?;
                thread::sleep(QUICKLY);
            }
            Ok(())
        });
        shows(&camera, "", "/", 2);
    }
    let camera = odd(move |_, out| {
        write!(
            out,
            "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n",
            endless.len()
        )?;
        out.write_all(endless)
    });
    shows(&camera, "", "/", 2);
}

/// The end was waited for, and each picture took as long as a camera that hangs.
#[test]
fn a_snapshot_whose_connection_stays_open_is_shown_at_once() {
    for length in [
        String::new(),
        format!("Content-Length: {}\r\n", PICTURE.len() + 7),
    ] {
        let camera = odd(move |_, out| {
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{length}\r\n"
            )?;
            out.write_all(PICTURE)?;
            let open = out.try_clone()?;
            thread::spawn(move || {
                thread::sleep(Duration::from_secs(60));
                drop(open);
            });
            Ok(())
        });
        let patient = Duration::from_secs(30);
        let (frames, failures) = watch_with(camera.url("", "/"), 3, patient, Trust::Authorities);
        assert_eq!((frames.len(), failures), (3, Vec::new()));
    }
}

#[test]
fn a_body_of_another_length_than_was_said_is_shown() {
    for length in [0, 7, 300, PICTURE.len() - 7, PICTURE.len() + 7] {
        let camera = odd(move |_, out| {
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
            )?;
            out.write_all(PICTURE)
        });
        shows(&camera, "", "/", 2);
    }
    let nothing = odd(|_, out| out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let (_, failures) = watch(nothing.url("", "/"), 1);
    assert!(failures[0].contains("nothing"), "{failures:?}");
}

#[test]
fn a_second_start_marker_before_a_picture_is_passed_over() {
    let twice = [&[0xff, 0xd8][..], PICTURE].concat();
    let camera = odd(move |_, out| stream_of(out, &twice, QUICKLY));
    shows(&camera, "", "/", 2);
}

#[test]
fn fill_bytes_before_a_zero_in_a_scan_are_data() {
    let camera = odd(|_, out| stream_of(out, FILL_BYTES, QUICKLY));
    shows(&camera, "", "/", 2);
}

#[test]
fn a_part_that_lies_about_its_length_costs_no_picture() {
    for length in ["7", "300", "99999999", "-1"] {
        let camera = odd(move |_, out| {
            out.write_all(MULTIPART.as_bytes())?;
            for _ in 0..40 {
                write!(out, "{PART}{length}\r\n\r\n")?;
                out.write_all(PICTURE)?;
                out.write_all(b"\r\n")?;
                thread::sleep(QUICKLY);
            }
            Ok(())
        });
        shows(&camera, "", "/", 2);
    }
}

fn refuse(out: &mut TcpStream, challenges: &[String]) -> io::Result<()> {
    out.write_all(b"HTTP/1.1 401 Unauthorized\r\n")?;
    for challenge in challenges {
        write!(out, "WWW-Authenticate: {challenge}\r\n")?;
    }
    out.write_all(b"Content-Length: 0\r\n\r\n")
}

fn authorization(request: &str) -> &str {
    let mut lines = request.lines();
    lines
        .find_map(|line| line.strip_prefix("Authorization: "))
        .unwrap_or_default()
}

const BASIC: &str = "Basic YWRtaW46czNjcmV0";

/// Whether `request` has the digest of the user admin with the password s3cret (RFC 7616, qop=auth).
fn digest_is_right(request: &str, realm: &str, hash: impl Fn(String) -> String) -> bool {
    let fields = authorization(request).strip_prefix("Digest ");
    let field = |name: &str| {
        let mut fields = fields.unwrap_or_default().split(", ");
        let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    let first = hash(format!("admin:{realm}:s3cret"));
    let second = hash(format!("GET:{}", field("uri")));
    let parts = [
        first,
        field("nonce"),
        field("nc"),
        field("cnonce"),
        "auth".into(),
        second,
    ];
    fields.is_some() && field("response") == hash(parts.join(":"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn md5(text: String) -> String {
    hex(&md5::Md5::digest(text))
}

fn sha256(text: String) -> String {
    use sha2::Digest as _;
    hex(&sha2::Sha256::digest(text))
}

#[test]
fn digest_logins_are_answered_whatever_the_realm_is_called() {
    for realm in ["Basic_Cam", "cam, basic", "x"] {
        for (algorithm, hash) in [
            ("", md5 as fn(String) -> String),
            (", algorithm=MD5", md5),
            (", algorithm=SHA-256", sha256),
        ] {
            let camera = odd(move |request, out| {
                if digest_is_right(request, realm, hash) {
                    return snapshot(out, "Content-Type: image/jpeg\r\n");
                }
                let challenge =
                    format!("Digest realm=\"{realm}\", qop=\"auth\", nonce=\"abc\"{algorithm}");
                refuse(out, &[challenge])
            });
            shows(&camera, "admin:s3cret@", "/digest?realm=x", 2);
            // One refusal, and then the digest goes with each request.
            assert_eq!(camera.requests().len(), 3);
        }
    }
}

#[test]
fn a_digest_that_covers_the_empty_body_of_a_request_is_answered() {
    let camera = odd(|request, out| {
        let body = md5(String::new());
        let with_body = move |text: String| {
            // The second of the parts that are hashed is the request's, and has the body's digest behind it.
            let is_request = text.starts_with("GET:");
            md5(if is_request {
                format!("{text}:{body}")
            } else {
                text.replace(":auth:", ":auth-int:")
            })
        };
        if digest_is_right(request, "cam", with_body) {
            return snapshot(out, "Content-Type: image/jpeg\r\n");
        }
        let challenge = "Digest realm=\"cam\", qop=\"auth-int\", nonce=\"abc\"".to_owned();
        refuse(out, &[challenge])
    });
    shows(&camera, "admin:s3cret@", "/", 2);
}

#[test]
fn success_in_other_words_is_success() {
    let camera = odd(|_, out| {
        let length = PICTURE.len();
        write!(
            out,
            "HTTP/1.1 203 Non-Authoritative Information\r\nContent-Length: {length}\r\n\r\n"
        )?;
        out.write_all(PICTURE)
    });
    shows(&camera, "", "/", 2);
}

#[test]
fn all_challenges_are_read_and_no_password_is_sent_unasked() {
    let camera = odd(|request, out| {
        if authorization(request) == BASIC {
            return stream_of(out, PICTURE, QUICKLY);
        }
        let digest = "Digest realm=\"cam\", qop=\"auth\", nonce=\"abc\"".to_owned();
        refuse(out, &[digest, "Basic realm=\"cam\"".into()])
    });
    shows(&camera, "admin:s3cret@", "/", 2);
    let requests = camera.requests();
    assert_eq!(authorization(&requests[0]), "");
    assert!(authorization(&requests[1]).starts_with("Digest "));
}

#[test]
fn a_missing_login_and_a_wrong_one_are_different_sentences() {
    let camera = odd(|_, out| refuse(out, &["Basic realm=\"cam\"".into()]));
    let (_, failures) = watch(camera.url("", "/"), 1);
    assert!(failures[0].contains("none was given"), "{failures:?}");
    let (_, failures) = watch(camera.url("admin:wrong@", "/"), 1);
    assert!(failures[0].contains("refuses the name"), "{failures:?}");
    assert!(
        failures.iter().all(|failure| !failure.contains("wrong")),
        "{failures:?}"
    );
}

#[test]
fn a_redirect_keeps_the_login_at_the_same_host_and_nowhere_else() {
    let guarded = |request: &str, out: &mut TcpStream| {
        if authorization(request) == BASIC {
            stream_of(out, PICTURE, QUICKLY)
        } else {
            refuse(out, &["Basic realm=\"cam\"".into()])
        }
    };
    let camera = odd(move |request, out| {
        if !request.starts_with("GET /redirect") {
            return guarded(request, out);
        }
        let host = request
            .lines()
            .find_map(|line| line.strip_prefix("Host: "))
            .unwrap();
        write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: http://{host}/basic\r\nContent-Length: 0\r\n\r\n"
        )
    });
    shows(&camera, "admin:s3cret@", "/redirect", 2);

    let thief = odd(|_, out| refuse(out, &["Basic realm=\"cam\"".into()]));
    let elsewhere = thief.address.clone();
    let camera = odd(move |_, out| {
        write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/basic\r\n\r\n"
        )
    });
    let (_, failures) = watch(camera.url("admin:s3cret@", "/"), 1);
    let told = "redirects to 127.0.0.1, which asks for a name";
    assert!(failures[0].contains(told), "{failures:?}");
    assert!(
        thief
            .requests()
            .iter()
            .all(|request| authorization(request).is_empty())
    );
}

#[test]
fn a_slow_camera_is_waited_for_as_long_as_was_said() {
    let pause = Duration::from_millis(700);
    for snapshots in [true, false] {
        let camera = odd(move |_, out| {
            if snapshots {
                thread::sleep(pause);
                snapshot(out, "Content-Type: image/jpeg\r\n")
            } else {
                stream_of(out, PICTURE, pause)
            }
        });
        let (frames, failures) = watch_with(
            camera.url("", "/"),
            2,
            Duration::from_millis(1200),
            Trust::Authorities,
        );
        assert_eq!((frames.len(), failures.len()), (2, 0), "{failures:?}");
    }
}

#[test]
fn bytes_without_a_picture_are_told_with_a_guess() {
    let camera = odd(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")?;
        for _ in 0..200 {
            out.write_all(&b"\0\0\0\x20moofABCDEFGH".repeat(800))?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    let (_, failures) = watch(camera.url("", "/"), 1);
    assert!(
        failures[0].contains("KB without a JPEG picture") || failures[0].contains("MB without"),
        "{failures:?}"
    );
    assert!(failures[0].contains("is it MP4?"), "{failures:?}");
}

#[test]
fn a_name_with_two_addresses_is_tried_at_both() {
    // Where localhost is ::1 first, nobody listens there.
    let camera = odd_at("127.0.0.1:0", |_, out| snapshot(out, ""));
    let port = camera.address.rsplit(':').next().unwrap();
    let url = CameraUrl::parse(&format!("http://localhost:{port}/")).unwrap();
    let (frames, failures) = watch(url, 1);
    assert_eq!((frames.len(), failures.len()), (1, 0), "{failures:?}");
}

#[test]
fn a_picture_without_any_head_is_one() {
    let camera = odd(|_, out| out.write_all(PICTURE));
    shows(&camera, "", "/", 2);
}

#[test]
fn chunks_that_are_announced_and_do_not_come_cost_no_picture() {
    let camera = odd(|_, out| {
        out.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        out.write_all(PICTURE)
    });
    shows(&camera, "", "/", 2);
}

#[test]
fn a_short_patience_with_a_camera_still_says_what_it_sends() {
    let camera = odd(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")?;
        for _ in 0..600 {
            out.write_all(&b"\0\0\0\x20moofABCDEFGH".repeat(800))?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    let source = crate::frames::CameraSource::Http(camera.url("", "/"));
    let options = crate::frames::CameraOptions::within(Duration::from_millis(1500));
    let mut frames = source.open(0, &options).unwrap();
    let mut said = String::new();
    let end = loop {
        match frames.next(&|| false) {
            Ok(CameraEvent::Problem(problem)) => said += &problem.to_string(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        said.contains("is it MP4?") && end.contains("is it MP4?"),
        "{said} {end}"
    );
}
