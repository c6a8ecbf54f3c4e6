use super::*;
use crate::frames::decode_picture;

#[test]
fn every_form_of_the_camera_option_is_read_and_shown_again() {
    for text in [
        "0",
        "17",
        "/dev/video0",
        "dir:some/where",
        "file:clip.mjpeg",
        "http://10.0.0.7:8080/video?size=640x480",
        "https://cam.local/video",
        "rtsp://10.0.0.7:554/stream1?unicast=true",
        "-",
        "demo:clear",
        "demo:peephole",
        "demo:clear,squeezed",
    ] {
        assert_eq!(text.parse::<CameraSource>().unwrap().to_string(), text);
    }
    assert_eq!(
        "demo".parse::<CameraSource>().unwrap(),
        CameraSource::Demo(vec![0])
    );
    assert_eq!(
        "dir:a".parse::<CameraSource>().unwrap(),
        CameraSource::Folder("a".into())
    );
}

#[test]
fn nonsense_is_refused_with_the_forms_there_are() {
    for text in ["", "dir:", "file:", "-1", "webcam", "99999999999"] {
        let message = text.parse::<CameraSource>().unwrap_err().to_string();
        assert!(message.contains("demo[:CONDITION]"), "{message}");
    }
    let message = "demo:moonlight"
        .parse::<CameraSource>()
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("moonlight") && message.contains("peephole"),
        "{message}"
    );
}

#[test]
fn an_address_keeps_its_password_to_itself() {
    let camera: CameraSource = "http://admin:secret@cam.local/stream".parse().unwrap();
    assert_eq!(camera.to_string(), "http://cam.local/stream");
    for text in ["ftp://cam.local/", "rtmp://cam.local/", "http://"] {
        let message = text.parse::<CameraSource>().unwrap_err().to_string();
        assert!(
            message.contains("is not the address of a camera"),
            "{message}"
        );
    }
}

#[test]
fn a_device_that_is_not_a_camera_is_refused() {
    let camera: CameraSource = "/dev/null".parse().unwrap();
    let message = camera
        .open(1, &CameraOptions::default())
        .err()
        .unwrap()
        .to_string();
    assert!(
        message.contains("/dev/null") && message.contains("/dev/videoN"),
        "{message}"
    );
}

#[test]
fn a_stream_is_split_until_its_end() {
    let bytes = include_bytes!("../../../tests/fixtures/mjpeg/ffmpeg.mjpeg");
    let live = Live::start(
        Arc::new(|sink: &Sink| split(&bytes[..], Duration::MAX, sink)),
        Timeouts::within(Duration::from_secs(30)),
    );
    let mut frames = Frames::of(Stream::Live {
        live,
        camera: "-".into(),
    });
    let CameraEvent::Frame(frame) = frames.next(&|| false).unwrap() else {
        panic!("the file holds pictures")
    };
    assert_eq!(
        (frame.image.dimensions(), frame.source.as_str()),
        ((64, 48), "-")
    );
    // All but what the encoder said of itself.
    let kept = frame.to_jpeg().unwrap();
    assert!(kept.len() < bytes.len());
    assert_eq!(decode_picture(&kept, 64 * 48).unwrap(), frame.image);
}

#[test]
fn demo_frames_carry_number_source_and_label() {
    let camera: CameraSource = "demo:fog".parse().unwrap();
    let mut camera = camera.open(1, &CameraOptions::default()).unwrap();
    let mut frame = || match camera.next(&|| false).unwrap() {
        CameraEvent::Frame(frame) => *frame,
        _ => panic!("the demo camera never ends"),
    };
    let frames: Vec<Frame> = (0..24).map(|_| frame()).collect();
    for (index, frame) in (0..).zip(&frames) {
        assert_eq!((frame.index, frame.source.as_str()), (index, "demo:fog"));
    }
    for class in demo::CLASSES {
        let shown = frames
            .iter()
            .filter(|frame| frame.label.as_deref() == Some(class))
            .count();
        assert_eq!(shown, 2, "{class}");
    }
}

#[test]
fn problems_are_sentences_that_name_the_camera() {
    let lost = CameraProblem::Lost {
        camera: "/dev/video0".into(),
        reason: "unplugged".into(),
        pause: Duration::from_millis(500),
    };
    assert_eq!(
        lost.to_string(),
        "camera /dev/video0: unplugged; trying again in 0.5 s"
    );
    let frame = decoded(RawFrame::Jpeg(vec![0xff]), "http://cam/", 7);
    let CameraEvent::Problem(problem) = frame else {
        panic!("one byte is not a picture")
    };
    let message = problem.to_string();
    assert!(
        message.starts_with("camera http://cam/, picture 7: "),
        "{message}"
    );
}
