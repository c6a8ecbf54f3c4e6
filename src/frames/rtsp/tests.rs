//! A camera on loopback that speaks RTSP, well and badly.

use super::*;
use crate::frames::frame::RawFrame;
use crate::frames::live::{Event, Live, Timeouts};

#[path = "../../../tests/support/rtsp.rs"]
pub mod camera;

use camera::{BASELINE, Behaviour, Camera, LARGER, Then};

const QUIET: Duration = Duration::from_millis(600);

fn request() -> Request {
    Request {
        transport: RtspTransport::Tcp,
        quiet: QUIET,
        interval: Duration::ZERO,
    }
}

fn url(camera: &Camera, login: &str) -> CameraUrl {
    CameraUrl::parse(&camera.url(login)).unwrap()
}

/// The first pictures of a camera, and the failures before the last of them; or the failures alone, up to the one that it was
/// given up for.
fn watch(url: CameraUrl, request: Request, pictures: usize) -> (Vec<RawFrame>, Vec<String>) {
    let timeouts = Timeouts {
        stall: request.quiet * 2,
        pause: Duration::from_millis(5),
        give_up: request.quiet * 4,
        fresh: Duration::from_secs(60),
        goodbye: Duration::ZERO,
    };
    let capture = move |sink: &Sink| capture(&url, request, sink);
    let mut live = Live::start(Arc::new(capture), timeouts);
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
fn shows(url: CameraUrl, request: Request, pictures: usize) -> Vec<(u32, u32)> {
    let (frames, failures) = watch(url, request, pictures);
    assert_eq!(frames.len(), pictures, "{failures:?}");
    assert!(failures.is_empty(), "{failures:?}");
    let sizes = frames.iter().map(|frame| frame.decode().unwrap());
    sizes.map(|picture| picture.dimensions()).collect()
}

/// The camera is given up, with `sentence`.
#[track_caller]
fn fails(url: CameraUrl, request: Request, sentence: &str) {
    let (_, failures) = watch(url, request, 1000);
    let end = failures.last().unwrap();
    assert!(
        failures[0].contains(sentence) && end.contains(sentence),
        "{failures:?}"
    );
}

#[test]
fn pictures_come_over_tcp_and_udp_and_the_camera_is_told_goodbye() {
    for transport in [RtspTransport::Tcp, RtspTransport::Udp] {
        let camera = Camera::like(Behaviour::good());
        let request = Request {
            transport,
            ..request()
        };
        assert!(shows(url(&camera, ""), request, 12).contains(&(96, 64)));
        let deadline = Instant::now() + Duration::from_secs(5);
        while !camera
            .requests()
            .iter()
            .any(|request| request.starts_with("TEARDOWN"))
        {
            assert!(Instant::now() < deadline, "{:?}", camera.requests());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_digest_login_opens_the_camera_and_the_password_is_never_sent() {
    let camera = Camera::like(Behaviour {
        login: Some(("admin", "s3cret")),
        ..Behaviour::good()
    });
    shows(url(&camera, "admin:s3cret@"), request(), 3);
    let requests = camera.requests();
    assert!(
        requests
            .iter()
            .any(|request| request.contains("Digest username=\"admin\""))
    );
    assert!(
        requests.iter().all(|request| !request.contains("s3cret")),
        "{requests:?}"
    );
    fails(
        url(&camera, "admin:wrong@"),
        request(),
        "refuses the name and the password",
    );
    fails(url(&camera, ""), request(), "none was given");
}

#[test]
fn a_wrong_password_is_not_tried_so_often_that_the_account_is_locked() {
    let camera = Camera::like(Behaviour {
        login: Some(("admin", "s3cret")),
        ..Behaviour::good()
    });
    let (_, failures) = watch(url(&camera, "admin:wrong@"), request(), 1);
    assert!((2..=4).contains(&failures.len()), "{failures:?}");
}

#[test]
fn a_camera_that_breaks_off_or_stalls_is_asked_again() {
    let camera = Camera::new(|connection| match connection {
        0 => Behaviour::then(3, Then::Close),
        1 => Behaviour::then(3, Then::Silence),
        2 => Behaviour::then(0, Then::Bytes(vec![0xa5; 4000])),
        _ => Behaviour::good(),
    });
    let (frames, failures) = watch(url(&camera, ""), request(), 30);
    assert_eq!(frames.len(), 30, "{failures:?}");
    assert_eq!(failures.len(), 3, "{failures:?}");
    assert!(failures[1].contains("gone quiet"), "{failures:?}");
}

#[test]
fn a_camera_that_is_away_and_comes_back_is_found_again() {
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let nobody = CameraUrl::parse(&format!("rtsp://{address}/stream")).unwrap();
    let back = std::thread::spawn(move || {
        std::thread::sleep(QUIET);
        Camera::at(&address.to_string(), |_| Behaviour::good())
    });
    let (frames, failures) = watch(nobody, request(), 3);
    assert_eq!(frames.len(), 3, "{failures:?}");
    assert!(failures[0].contains("cannot reach the camera (Connection refused"));
    back.join().unwrap();
}

#[test]
fn another_size_in_mid_stream_is_taken_as_it_comes() {
    let camera = Camera::like(Behaviour {
        stream: [BASELINE, LARGER].concat(),
        ..Behaviour::good()
    });
    let sizes = shows(url(&camera, ""), request(), 40);
    assert!(
        sizes.contains(&(96, 64)) && sizes.contains(&(128, 96)),
        "{sizes:?}"
    );
}

#[test]
fn lost_datagrams_cost_pictures_and_nothing_else() {
    let camera = Camera::like(Behaviour {
        lost: Some(13),
        ..Behaviour::good()
    });
    let request = Request {
        transport: RtspTransport::Udp,
        ..request()
    };
    shows(url(&camera, ""), request, 40);
}

#[test]
fn a_session_is_kept_alive() {
    let camera = Camera::like(Behaviour::good());
    // The camera forgets a session after two seconds.
    let url = url(&camera, "");
    let live = Live::start(
        Arc::new(move |sink: &Sink| capture(&url, request(), sink)),
        Timeouts::within(Duration::from_secs(30)),
    );
    std::thread::sleep(Duration::from_millis(2500));
    drop(live);
    let requests = camera.requests();
    let kept = |request: &&String| {
        ["OPTIONS", "GET_PARAMETER", "SET_PARAMETER"]
            .iter()
            .any(|method| request.starts_with(method))
    };
    assert!(requests.iter().filter(kept).count() >= 2, "{requests:?}");
}

#[test]
fn key_frames_alone_are_decoded_where_they_come_often_enough() {
    let camera = Camera::like(Behaviour::good());
    let request = Request {
        interval: Duration::from_secs(1),
        ..request()
    };
    let url = url(&camera, "");
    let mut live = Live::start(
        Arc::new(move |sink: &Sink| capture(&url, request, sink)),
        Timeouts::within(Duration::from_secs(30)),
    );
    std::thread::sleep(Duration::from_secs(2));
    assert!(matches!(live.next(&|| false), Ok(Event::Frame(..))));
    // 200 pictures in two seconds, each fifth of them a key frame.
    let captured = live.counts().captured;
    assert!((5..80).contains(&captured), "{captured}");
}

#[test]
fn refusals_and_other_media_are_sentences() {
    let refusing = |method, status| {
        Camera::like(Behaviour {
            refuses: Some((method, status)),
            ..Behaviour::good()
        })
    };
    fails(
        url(&refusing("DESCRIBE", 404), ""),
        request(),
        "no stream of this name",
    );
    fails(
        url(&refusing("SETUP", 461), ""),
        request(),
        "the other of tcp and udp",
    );
    fails(
        url(&refusing("PLAY", 453), ""),
        request(),
        "no more viewers",
    );
    fails(
        url(&refusing("PLAY", 500), ""),
        request(),
        "the camera answers 500",
    );
    let sending = |media: &str| {
        Camera::like(Behaviour {
            media: media.into(),
            ..Behaviour::good()
        })
    };
    fails(
        url(
            &sending("m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"),
            "",
        ),
        request(),
        "no video (only audio)",
    );
    fails(
        url(
            &sending("m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP9/90000\r\na=control:x\r\n"),
            "",
        ),
        request(),
        "the camera sends VP9",
    );
}

#[test]
fn a_firewall_that_eats_datagrams_is_guessed() {
    let camera = Camera::like(Behaviour::then(0, Then::Silence));
    let request = Request {
        transport: RtspTransport::Udp,
        ..request()
    };
    fails(url(&camera, ""), request, "datagrams do not arrive");
}

#[test]
fn no_answer_of_a_camera_does_harm() {
    let describe = |media: &str| Behaviour {
        media: media.to_owned(),
        ..Behaviour::good()
    };
    let payloads = |payloads: &[&[u8]]| {
        Behaviour::then(
            2,
            Then::Payloads(payloads.iter().map(|payload| payload.to_vec()).collect()),
        )
    };
    let odd = [
        describe(""),
        describe("m=video\r\n"),
        describe("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/0\r\n"),
        describe(
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==,,\r\n",
        ),
        describe(&"a=x\r\n".repeat(100_000)),
        payloads(&[b""]),
        payloads(&[b"\x1c\x85", b"\x1c\x45", b"\x1c\x05zz"]),
        payloads(&[b"\x18\0\x01\x67\0\x01\x68\0\x02\x65\x88"]),
        payloads(&[
            b"\x67\xff\xff\xff\xff\xff\xff\xff",
            b"\x68\xff",
            b"\x65\x88\x80\x40",
        ]),
        payloads(&[&[0x65; 1200], &[0xff; 1200], &[0x41; 3]]),
        Behaviour::then(1, Then::Bytes(b"$\0\xff\xff".repeat(3000))),
        Behaviour::then(
            1,
            Then::Bytes(b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()),
        ),
        Behaviour::then(1, Then::Bytes(vec![b'x'; 1 << 20])),
    ];
    for behaviour in odd {
        let camera = Camera::new(move |connection| match connection {
            0 => behaviour.clone(),
            _ => Behaviour {
                refuses: Some(("DESCRIBE", 500)),
                ..Behaviour::good()
            },
        });
        // Some are mended by what follows.
        let (frames, failures) = watch(url(&camera, ""), request(), 50);
        let given_up = |end: &String| end.contains("the camera answers 500");
        assert!(
            frames.len() == 50 || failures.last().is_some_and(given_up),
            "{failures:?}"
        );
        let panicked = |failure: &String| failure.contains("driver");
        assert!(!failures.iter().any(panicked), "{failures:?}");
    }
}

#[test]
fn what_a_camera_sends_is_told() {
    let media = camera::H264.replace("a=framerate:25\r\n", "");
    let media = format!("m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n{media}");
    let camera = Camera::like(Behaviour {
        media,
        pause: Duration::from_millis(40),
        ..Behaviour::good()
    });
    let found = streams(&url(&camera, ""), request(), &|| true).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].media.as_str(), found[0].used), ("audio", false));
    let video = &found[1];
    assert_eq!((video.codec.as_str(), video.used), ("h264", true));
    assert_eq!((video.width, video.height), (Some(96), Some(64)));
    let rate = video.rate.unwrap();
    assert!((24.0..26.0).contains(&rate), "{rate}");
}

/// A camera like a good one but for `change` shows its pictures.
#[track_caller]
fn is_shown(change: impl Fn(&mut Behaviour)) {
    let mut behaviour = Behaviour::good();
    change(&mut behaviour);
    let login = behaviour
        .login
        .map(|(user, word)| format!("{user}:{word}@"));
    let camera = Camera::like(behaviour);
    let url = url(&camera, &login.unwrap_or_default());
    let sizes = shows(url, request(), 6);
    assert!(sizes.iter().all(|size| size.0 >= 96), "{sizes:?}");
}

#[test]
fn a_camera_that_offers_basic_before_digest_is_answered_with_digest() {
    is_shown(|camera| {
        camera.login = Some(("admin", "s3cret"));
        camera.also_asks = Some("WWW-Authenticate: Basic realm=\"camera\"\r\n");
    });
}

#[test]
fn a_description_without_control_lines_or_with_whole_addresses_is_read() {
    is_shown(|camera| camera.media = camera.media.replace("a=control:trackID=0\r\n", ""));
    is_shown(|camera| {
        let whole = "a=control:rtsp://127.0.0.1/stream/trackID=0?x=1\r\n";
        camera.media = camera.media.replace("a=control:trackID=0\r\n", whole);
    });
}

#[test]
fn a_camera_that_chooses_the_channels_is_heard_on_them() {
    is_shown(|camera| camera.channel = 4);
}

#[test]
fn channels_in_an_order_of_their_own_are_a_sentence_and_datagrams_come_all_the_same() {
    for (channel, reports, named) in [(1, -1, "(1-0)"), (1, 1, "(1)"), (0, 0, "(0-0)")] {
        let camera = Camera::like(Behaviour {
            channel,
            reports,
            ..Behaviour::good()
        });
        let address = url(&camera, "");
        fails(address.clone(), request(), named);
        fails(
            address.clone(),
            request(),
            "choose udp, or read it through ffmpeg",
        );
        let request = Request {
            transport: RtspTransport::Udp,
            ..request()
        };
        assert_eq!(shows(address, request, 3).len(), 3);
    }
}

#[test]
fn what_cameras_add_to_the_transport_is_passed_over() {
    is_shown(|camera| {
        camera.transport = ";source=127.0.0.1;server_port=5000-5001;ssrc=12345678;mode=\"PLAY\"";
    });
}

#[test]
fn a_camera_with_an_address_of_ipv6_is_reached() {
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else {
        println!("there is no IPv6 here");
        return;
    };
    drop(listener);
    let camera = Camera::at("[::1]:0", |_| Behaviour::good());
    assert_eq!(shows(url(&camera, ""), request(), 3).len(), 3);
}

#[test]
fn parameter_sets_that_only_the_description_or_only_the_stream_has_do() {
    use base64::Engine as _;
    // The stream alone, as in the other tests; the description alone.
    let is_parameters = |unit: &&[u8]| matches!(unit[0] & 0x1f, 7 | 8);
    let (parameters, slices): (Vec<&[u8]>, Vec<&[u8]>) = camera::units(BASELINE)
        .into_iter()
        .partition(|unit| is_parameters(unit));
    let encode = |unit: &&[u8]| base64::engine::general_purpose::STANDARD.encode(unit);
    let sets: Vec<String> = parameters[..2].iter().map(encode).collect();
    is_shown(|camera| {
        let mode = "packetization-mode=1";
        let said = format!("{mode};sprop-parameter-sets={}", sets.join(","));
        camera.media = camera.media.replace(mode, &said);
        let units = slices.iter().map(|unit| [&[0, 0, 0, 1], *unit].concat());
        camera.stream = units.collect::<Vec<_>>().concat();
    });
}

#[test]
fn pictures_in_slices_and_cut_out_of_whole_blocks_come_whole() {
    is_shown(|camera| {
        camera.stream = include_bytes!("../../../tests/fixtures/rtsp/slices.h264").to_vec();
    });
    let cropped = Camera::like(Behaviour {
        stream: include_bytes!("../../../tests/fixtures/rtsp/cropped.h264").to_vec(),
        ..Behaviour::good()
    });
    assert_eq!(shows(url(&cropped, ""), request(), 3), [(100, 50); 3]);
    is_shown(|camera| {
        camera.stream = include_bytes!("../../../tests/fixtures/rtsp/high.h264").to_vec();
    });
}
