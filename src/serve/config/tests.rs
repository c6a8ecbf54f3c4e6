use super::*;
use crate::frames::{CameraSource, RtspTransport};
use crate::store::faults::{Fault, FaultyDisk, Survival};
use serde_json::json;

const EXAMPLE: &str = r#"# the shop
listen = "127.0.0.1:9000"   # only here

[recent]
keep_for = "2d"

[[camera]]
name = "door"               # in front
source = "http://admin:secret@10.0.0.7/video"
every = "500ms"             # often enough
smooth = "2s"
confirm = 3
motion = 60

[[camera.region]]
name = "mat"
area = "10,20,30,40"
prompt = "mat"

[[camera.region]]
name = "bell"
area = "64,96,192,192px"

# the shelf behind the counter
[[camera]]
name = "shelf"
source = "demo"
prompt = "shelf"
"#;

fn fault(text: &str) -> String {
    let (place, fault) = parse(text).unwrap_err();
    format!("{place}: {fault}")
}

fn fields(value: serde_json::Value) -> Fields {
    value.as_object().unwrap().clone()
}

#[test]
fn a_configuration_is_read_whole() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9000");
    let names: Vec<&str> = config
        .cameras
        .iter()
        .map(|camera| camera.name.as_str())
        .collect();
    assert_eq!(names, ["door", "shelf"]);
    let door = config.camera("door").unwrap();
    assert_eq!(door.every, Some(Duration::from_millis(500)));
    assert_eq!((door.confirm, door.smooth), (3, Duration::from_secs(2)));
    assert!(door.motion.is_some() && door.has_password());
    assert!(!door.source.to_string().contains("secret"));
    assert_eq!(door.region("mat").unwrap().prompt, "mat");
    assert_eq!(door.region("bell").unwrap().prompt, "default");
    let shelf = config.camera("shelf").unwrap();
    assert!(matches!(shelf.source, CameraSource::Demo(_)));
    assert_eq!(shelf.regions[0].name, WHOLE);
    assert_eq!(config.prompts(), ["default", "mat", "shelf"]);
    assert_eq!(config.recent.keep_for, Duration::from_secs(2 * 24 * 3600));
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_column() {
    let camera = "[[camera]]\nname = \"a\"\nsource = \"demo\"\n";
    let with = |line: &str| fault(&format!("{camera}{line}\n"));
    for (found, place, says) in [
        (fault("listen = 8080"), "line 1, column 10", "invalid type"),
        (
            fault("listen = \"box\""),
            "line 1, column 10",
            "0.0.0.0:8080",
        ),
        (
            fault("\n  colour = 1"),
            "line 2, column 3",
            "unknown field `colour`",
        ),
        (
            fault("language = \"en\"\nlanguage = \"de\""),
            "line 2, column 1",
            "language stands here a second time",
        ),
        (
            fault("[[camera]]\nname = \"a\""),
            "line 1",
            "missing field `source`",
        ),
        (fault("language = \"fr\""), "line 1, column 12", "en and de"),
        (with("every = \"soon\""), "line 4", "500ms"),
        (
            with("every = \"1ms\""),
            "line 4, column 9",
            "every is from 20ms",
        ),
        (with("motion = 101"), "line 4, column 10", "from 1"),
        (
            with("at_least = \"1m\""),
            "line 4, column 12",
            "write motion = 50 beside it",
        ),
        (with("confirm = 0"), "line 4, column 11", "from 1 to 1000"),
        (with("format = \"big\""), "line 4, column 10", "640x480@30"),
        (with("fingerprint = \"ab\""), "line 4, column 15", ""),
        (
            with("insecure_tls = \"yes\""),
            "line 4, column 16",
            "invalid type",
        ),
        (
            with("rtsp_transport = \"udp\""),
            "line 4, column 18",
            "source is rtsp://",
        ),
        (
            with("login_file = \"door.conf\""),
            "line 4, column 14",
            "on the network",
        ),
        (
            with("prompt = \"a/b\""),
            "line 4, column 10",
            "cannot name a prompt",
        ),
        (
            with("[[camera.region]]\nname = \"x\"\narea = \"0,0,200%,1\""),
            "line 6, column 8",
            "beyond 100 per cent",
        ),
        (
            with(
                "[[camera.region]]\nname = \"x\"\narea = \"0,0,9,9\"\n[[camera.region]]\nname = \"x\"\narea = \"1,1,9,9\"",
            ),
            "line 7",
            "two regions",
        ),
        (
            with(camera),
            "line 5, column 8",
            "two cameras are called \"a\"",
        ),
        (
            fault("[[camera]]\nname = \"é/é\"\nsource = \"demo\""),
            "line 2, column 8",
            "cannot name a camera",
        ),
        (
            fault("[[camera]]\nname = \"é\"\nsource = \"-\""),
            "line 3, column 10",
            "standard input",
        ),
        (
            fault("[access]\ncertificate = \"c.pem\""),
            "line 2, column 15",
            "needs its key",
        ),
        (
            fault("[access]\nhosts = [\"a b\"]"),
            "line 2, column 10",
            "no host",
        ),
        (fault("[recent]\npictures = -1"), "line 2, column 12", ""),
        (fault("[[camera]\n"), "line 1", ""),
    ] {
        assert!(found.starts_with(place), "{found} is not at {place}");
        assert!(found.contains(says), "{found}");
        assert!(!found.contains('\n'), "{found}");
    }
}

#[test]
fn cameras_on_the_network_have_every_key_that_the_command_line_has_flags_for() {
    let camera = |source: &str, line: &str| {
        format!("[[camera]]\nname = \"a\"\nsource = \"{source}\"\n{line}\n")
    };
    let rtsp = "rtsp://10.0.0.9/stream2";
    let config = parse(&camera(
        rtsp,
        "rtsp_transport = \"udp\"\nlogin_file = \"door.conf\"",
    ));
    let config = config.unwrap();
    let door = config.camera("a").unwrap();
    assert_eq!(door.options.transport, RtspTransport::Udp);
    assert_eq!(door.login_file.as_deref(), Some(Path::new("door.conf")));
    // What comes sooner than it is looked at need not be decoded.
    assert_eq!(door.capture_options().interval, Duration::from_millis(200));
    let rare = parse(&camera(rtsp, "every = \"2s\"")).unwrap();
    let rare = rare.camera("a").unwrap();
    assert_eq!(rare.options.transport, RtspTransport::Tcp);
    assert_eq!(rare.capture_options().interval, Duration::from_secs(2));

    let print = format!("fingerprint = \"{}\"", "ab".repeat(32));
    let both = "the login stands in login_file or here";
    for (source, line, place, says) in [
        (
            rtsp,
            "rtsp_transport = \"quic\"",
            "line 4, column 18",
            "neither tcp nor udp",
        ),
        (
            "rtsp://me:secret@10.0.0.9/a",
            "login_file = \"f\"",
            "line 4, column 14",
            both,
        ),
        (
            "https://10.0.0.9/a",
            "user = \"me\"\nlogin_file = \"f\"",
            "line 5, column 14",
            both,
        ),
        (
            "https://10.0.0.9/a",
            &format!("{print}\ninsecure_tls = true"),
            "line 5, column 16",
            "leave one of them out",
        ),
    ] {
        let found = fault(&camera(source, line));
        assert!(found.starts_with(place) && found.contains(says), "{found}");
    }
    let fine = camera(
        "https://10.0.0.9/a",
        &format!("{print}\ninsecure_tls = false"),
    );
    assert!(parse(&fine).is_ok());
}

fn file(disk: &FaultyDisk, text: &str) -> ConfigFile {
    disk.create_dir("/box".as_ref(), Access::Owner).unwrap();
    disk.write_synced(
        "/box/edge-rlp.toml".as_ref(),
        text.as_bytes(),
        Access::Owner,
    )
    .unwrap();
    ConfigFile::with_files("/box/edge-rlp.toml", Arc::new(disk.clone()))
}

fn content(disk: &FaultyDisk) -> String {
    String::from_utf8(disk.read("/box/edge-rlp.toml".as_ref(), MAX_BYTES).unwrap()).unwrap()
}

#[test]
fn changes_leave_comments_and_everything_else_as_it_is() {
    let disk = FaultyDisk::default();
    let file = file(&disk, EXAMPLE);
    let area = share([0.25, 0.5, 0.25, 0.5]).unwrap();
    file.edit(|document| put_region(document, "door", "mat", area, None))
        .unwrap();
    let expected = EXAMPLE.replace("\"10,20,30,40\"", "\"25,50,25,50%\"");
    assert_eq!(content(&disk), expected);

    let source = "http://admin:secret@10.0.0.7/video";
    let changed = fields(json!({ "source": source, "every": "1s", "smooth": "2s", "motion": 60 }));
    let config = file
        .edit(|document| put_camera(document, "door", &changed))
        .unwrap();
    let door = config.camera("door").unwrap();
    assert_eq!((door.confirm, door.regions.len()), (1, 2));
    let expected = expected
        .replace("\"500ms\" ", "\"1s\" ")
        .replace("confirm = 3\n", "");
    assert_eq!(content(&disk), expected);

    file.edit(|document| remove_camera(document, "door"))
        .unwrap();
    assert!(
        content(&disk).contains("# the shelf behind the counter\n[[camera]]\nname = \"shelf\"")
    );
    let added = fields(json!({ "source": "demo:fog" }));
    file.edit(|document| put_camera(document, "yard", &added))
        .unwrap();
    file.edit(|document| put_region(document, "yard", "gate", area, Some("gate")))
        .unwrap();
    let config = file
        .edit(|document| remove_region(document, "yard", "gate"))
        .unwrap();
    assert_eq!(config.camera("yard").unwrap().regions[0].name, WHOLE);
}

#[test]
fn a_change_that_would_be_wrong_changes_nothing() {
    let disk = FaultyDisk::default();
    let file = file(&disk, EXAMPLE);
    let refused = |value: serde_json::Value| {
        let fields = fields(value);
        let error = file.edit(|document| put_camera(document, "door", &fields));
        assert_eq!(content(&disk), EXAMPLE);
        error.unwrap_err().to_string()
    };
    assert!(refused(json!({})).contains("missing field `source`"));
    assert!(refused(json!({ "source": "nowhere" })).contains("nowhere"));
    assert!(refused(json!({ "source": "demo", "colour": "red" })).contains("colour"));
    assert!(refused(json!({ "source": { "a": 1 } })).contains("source: a text"));
    let missing = file
        .edit(|document| remove_camera(document, "none"))
        .unwrap_err();
    assert_eq!(missing.to_string(), "there is no camera \"none\"");
    assert!(share([0.5, 0.5, 0.0, 0.1]).is_none() && share([-0.1, 0.0, 0.1, 0.1]).is_none());
    assert!(share([f64::NAN, 0.0, 1.0, 1.0]).is_none());
}

#[test]
fn a_configuration_that_was_written_in_one_line_can_be_changed_too() {
    let disk = FaultyDisk::default();
    let file = file(&disk, "camera = [{ name = \"a\", source = \"demo\" }]\n");
    let area = share([0.0, 0.0, 0.5, 0.5]).unwrap();
    let config = file
        .edit(|document| put_region(document, "a", "b", area, None))
        .unwrap();
    assert_eq!(config.camera("a").unwrap().regions[0].name, "b");
}

/// Every write fails once, or the power goes: the file is the old one or the new one, and a change that was confirmed is there.
#[test]
fn the_configuration_is_whole_wherever_its_writing_is_cut() {
    let changed = fields(json!({ "source": "demo:fog" }));
    let change = |file: &ConfigFile| file.edit(|document| put_camera(document, "new", &changed));
    let whole = FaultyDisk::default();
    let undisturbed = file(&whole, EXAMPLE);
    whole.count_from_here();
    change(&undisturbed).unwrap();
    let new = content(&whole);
    let mut tried = 0;
    for k in 1..=whole.operations() + 1 {
        for survival in Survival::all() {
            for kind in [Fault::PowerCut, Fault::FailOnce, Fault::FailFromThere] {
                let disk = FaultyDisk::default();
                let file = file(&disk, EXAMPLE);
                // What was there was safe before.
                disk.sync_dir("/box".as_ref()).unwrap();
                disk.sync_dir("/".as_ref()).unwrap();
                disk.count_from_here();
                disk.fault_at(k, kind);
                let done = change(&file).is_ok();
                match kind {
                    Fault::PowerCut => disk.restart(survival),
                    _ => disk.heal(),
                }
                let found = content(&disk);
                assert!(
                    found == new || (found == EXAMPLE && !done),
                    "{k} {kind:?}: {found}"
                );
                change(&file).unwrap();
                assert_eq!(content(&disk), new);
                tried += 1;
            }
        }
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn a_file_that_disappears_is_no_wish_to_have_no_cameras() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge-rlp.toml");
    let file = ConfigFile::new(&path);
    assert!(
        file.read().unwrap().cameras.is_empty(),
        "a new box has none"
    );
    let two = "[[camera]]\nname = \"a\"\nsource = \"demo\"\n[[camera]]\nname = \"b\"\nsource = \"demo\"\n";
    std::fs::write(&path, two).unwrap();
    assert_eq!(file.read().unwrap().cameras.len(), 2);
    std::fs::remove_file(&path).unwrap();
    let gone = |error: ConfigError| assert!(error.to_string().ends_with("start anew without it"));
    gone(file.read().unwrap_err());
    let third = |document: &mut DocumentMut| {
        put_camera(document, "third", &fields(json!({ "source": "demo" })))
    };
    gone(file.edit(third).unwrap_err());
    assert!(!path.exists(), "nor are two cameras lost to a third");
}

#[test]
fn a_region_that_is_moved_or_named_by_another_prompt_keeps_its_threshold() {
    let disk = FaultyDisk::default();
    let text = "[[camera]]\nname = \"a\"\nsource = \"demo\"\n[[camera.region]]\nname = \"b\"\narea = \"0,0,50,50%\"\n\
                prompt = \"c\"\nthreshold = 0.9 # ours\n";
    let file = file(&disk, text);
    let area = share([0.0, 0.0, 0.5, 0.25]).unwrap();
    for prompt in [None, Some("d")] {
        let put = |document: &mut DocumentMut| put_region(document, "a", "b", area, prompt);
        let config = file.edit(put).unwrap();
        assert_eq!(config.cameras[0].regions[0].threshold, Some(0.9));
    }
    assert!(content(&disk).contains("threshold = 0.9 # ours"));
}

#[test]
fn files_of_other_programs_beside_the_configuration_are_left_alone() {
    let disk = FaultyDisk::default();
    let file = file(&disk, EXAMPLE);
    let [ours, others] = ["/box/.edge-rlp.toml.1.tmp", "/box/.history-1.tmp"];
    for left in [ours, others] {
        let written = disk.write_synced(left.as_ref(), b"", Access::Owner);
        written.unwrap();
    }
    file.edit(|document| remove_camera(document, "door"))
        .unwrap();
    let there = [ours, others].map(|left| disk.kind(left.as_ref()).is_some());
    assert_eq!(there, [false, true]);
}
