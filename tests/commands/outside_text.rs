//! Text that comes from outside (names of files, folders, models and nodes, answers of cameras, labels) reaches neither a
//! terminal nor a log as it is: one string with everything that has fooled a program goes through every command.

use crate::support::models::export;
use crate::support::{Directory, Ran};
use edge_rlp::prompt::labels;
use edge_rlp::prompt::{Delta, Template, Tuning};
use edge_rlp::{Model, Prompt, store};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// A line that is forged, a terminal's title and clipboard, a cleared screen, a turned direction of writing, what takes no
/// room, markup, a formula, a field's end.
const NASTY: &str = "=a\nFORGED  mug 99.0 %\r\u{1b}]0;x\u{7}\u{1b}[2J\u{9d}52;c;eA==\u{9c}\u{202e}gpj\u{2066}\u{200b}\u{feff}\u{ad}\u{2028}<script>\"',;b";

/// Whether a terminal, an editor or a reader can be fooled by a character.
fn fools(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Nothing of what was printed fools anybody.
#[track_caller]
fn harmless(ran: &Ran) {
    for (stream, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        for line in text.lines() {
            // Fields of `embed` are separated by tabs.
            let found = line.chars().find(|&letter| fools(letter) && letter != '\t');
            assert!(found.is_none(), "{stream}: {found:?} in {line:?}\n{ran}");
            assert!(!line.starts_with("FORGED"), "{stream}: {ran}");
        }
        assert!(!text.contains('\r'), "{stream}: {ran}");
    }
}

/// Runs a command, which must end with this exit code, and whose output must hold `seen` and fool nobody.
#[track_caller]
fn run(dir: &Directory, words: &[&str], code: i32, seen: &str) -> Ran {
    let ran = dir.command("").args(words).ends(code);
    harmless(&ran);
    let all = format!("{}{}", ran.stdout, ran.stderr);
    assert!(all.contains(seen), "no {seen:?} in {ran}");
    ran
}

/// What the start of [`NASTY`] is written as.
const SEEN: &str = "=a\\nFORGED";

/// A directory with a prompt in its home folder, and pictures in a folder with a nasty name, by nasty names.
fn directory() -> (Directory, String) {
    let dir = Directory::with_pictures(3);
    let folder = dir.path().join(NASTY);
    fs::create_dir(&folder).unwrap();
    fs::copy(
        dir.path().join("pictures/mug/0000.png"),
        folder.join(format!("{NASTY}.png")),
    )
    .unwrap();
    fs::write(folder.join(format!("broken{NASTY}.png")), "nothing").unwrap();
    let name = format!("{NASTY}.rlp");
    fs::write(dir.path().join(&name), store::encode(&prompt()).unwrap()).unwrap();
    (dir, name)
}

/// A prompt for the built-in model that was made by somebody nasty.
fn prompt() -> Prompt {
    let model = Model::embedded().unwrap();
    let labels = labels::parse("mug\nfish\n", "labels.txt").unwrap();
    let change = Delta::init(Tuning::Rlp, 4, model.text.width(), 1, 0).unwrap();
    let fingerprint = model.fingerprint.0;
    Prompt::new(
        &model.name,
        fingerprint,
        Template::default(),
        labels,
        change,
    )
}

#[test]
fn names_of_pictures_and_folders_are_seen_whole() {
    let (dir, prompt) = directory();
    let with = ["--prompt", &prompt];
    let classify = [&["classify", NASTY][..], &with].concat();
    run(&dir, &classify, 3, SEEN).says("\\u{1b}]0;x\\u{7}");
    let ran = run(&dir, &[&classify[..], &["--csv"]].concat(), 3, SEEN);
    assert!(
        ran.stdout.lines().nth(1).unwrap().starts_with("\"'=a\\n"),
        "{ran}"
    );
    let answers = run(&dir, &[&classify[..], &["--json"]].concat(), 3, "").lines();
    let path = answers[0]["source"].as_str().unwrap();
    assert!(
        path.starts_with(NASTY),
        "the same name, once JSON is read: {path:?}"
    );
    let no_folder = format!("dir:{NASTY}/{NASTY}.png");
    let watch = [&["classify", "--camera", &no_folder][..], &with].concat();
    run(&dir, &watch, 1, SEEN);
    run(
        &dir,
        &["classify", &format!("{NASTY}/none"), "--prompt", &prompt],
        1,
        SEEN,
    );
    let picture = format!("{NASTY}/{NASTY}.png");
    run(
        &dir,
        &["embed", "--text", NASTY, "--json"],
        0,
        "\\u001b]0;x",
    );
    run(
        &dir,
        &["embed", "--image", &picture, "--json"],
        0,
        "\\u001b]0;x",
    );
    run(&dir, &["embed", "--text", NASTY], 0, SEEN);
    run(&dir, &["embed", "--image", &picture], 0, SEEN);
    run(
        &dir,
        &["embed", "--image", &format!("{NASTY}/broken{NASTY}.png")],
        3,
        SEEN,
    );
    run(
        &dir,
        &[
            "demo",
            "--out",
            &format!("{NASTY}/new"),
            "--shots",
            "1",
            "--test",
            "1",
        ],
        0,
        SEEN,
    );
    run(
        &dir,
        &["adapt", "--images", &format!("{NASTY}/none")],
        1,
        "",
    );
}

#[test]
fn names_of_folders_are_no_labels_and_reports_show_them_whole() {
    let (dir, prompt) = directory();
    fs::create_dir(dir.path().join("pictures").join(NASTY)).unwrap();
    fs::copy(
        dir.path().join("pictures/mug/0000.png"),
        dir.path().join(format!("pictures/mug/{NASTY}.png")),
    )
    .unwrap();
    run(
        &dir,
        &[
            "adapt",
            "--images",
            "pictures",
            "--steps",
            "2",
            "--force",
            "--out",
            &format!("out{NASTY}.rlp"),
        ],
        0,
        SEEN,
    );
    fs::write(
        dir.path().join(format!("pictures/fish/{NASTY}.png")),
        "nothing",
    )
    .unwrap();
    let report = format!("{NASTY}.html");
    run(
        &dir,
        &[
            "eval", "--images", "pictures", "--prompt", &prompt, "--report", &report,
        ],
        3,
        SEEN,
    );
    let html = fs::read_to_string(dir.path().join(&report)).unwrap();
    assert!(!html.lines().any(|line| line.chars().any(fools)));
    assert!(!html.contains("<script>\"',") && !html.contains("FORGED  mug 99.0 %\r"));
    // By itself, without a label file, each folder would be a label.
    fs::remove_file(dir.path().join("pictures/labels.txt")).unwrap();
    run(&dir, &["adapt", "--images", "pictures"], 1, SEEN);
}

#[test]
fn names_of_prompts_and_labels_are_seen_whole() {
    let (dir, prompt) = directory();
    run(&dir, &["prompt", "show", &prompt], 0, SEEN);
    run(&dir, &["prompt", "show", &prompt, "--json"], 0, "\\n");
    run(&dir, &["prompt", "diff", &prompt, &prompt], 0, "");
    run(&dir, &["prompt", "import", &prompt], 2, SEEN);
    run(
        &dir,
        &["prompt", "import", &prompt, "--name", "shelf"],
        0,
        "shelf",
    );
    for what in ["show", "history", "remove", "rollback"] {
        run(&dir, &["prompt", what, NASTY], 2, SEEN);
    }
    run(
        &dir,
        &["prompt", "export", "shelf", &format!("{NASTY}.json")],
        0,
        SEEN,
    );
    run(
        &dir,
        &["adapt", "--images", "pictures", "--prompt", NASTY],
        2,
        SEEN,
    );
    run(
        &dir,
        &["adapt", "--images", "pictures", "--template", NASTY],
        2,
        "",
    );
    for label in ["a\u{1b}[2J", "cat\u{202e}", "cat\u{200b}"] {
        dir.write("labels.txt", &format!("dog\n{label}\n"));
        run(
            &dir,
            &["classify", "pictures", "--labels", "labels.txt"],
            1,
            "labels.txt, line 2",
        );
    }
    fs::write(dir.home().join("prompts").join(format!("{NASTY}.rlp")), "x").unwrap();
    run(&dir, &["prompt", "list"], 0, "shelf");
}

#[test]
fn names_that_a_shell_puts_in_are_seen_whole_in_wrong_usage() {
    let (dir, _) = directory();
    run(&dir, &["prompt", "list", NASTY], 2, SEEN);
    run(&dir, &[&format!("--x{NASTY}")], 2, "");
    run(&dir, &["classify", "--frames", NASTY, "x"], 2, SEEN);
    run(&dir, &["classify", "--camera", NASTY], 2, SEEN);
    run(
        &dir,
        &["classify", "--camera", &format!("demo:{NASTY}")],
        2,
        SEEN,
    );
    run(
        &dir,
        &["classify", "--camera", &format!("http://{NASTY}/")],
        2,
        "",
    );
    run(&dir, &["bench", "--model", NASTY], 2, SEEN);
    run(&dir, &["cameras"], 0, "");
    let home = dir.path().join(format!("home{NASTY}"));
    let ran = dir.command("doctor").arg("--home").arg(&home).run();
    harmless(&ran);
    assert!(ran.stdout.contains(SEEN), "{ran}");
}

/// `bytes` of a bundle, whose model is called `name`, cut or filled to the length of its name.
fn renamed(mut bytes: Vec<u8>, name: &str) -> Vec<u8> {
    let part = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let table = 96 + part(12) + part(16);
    let about = table + part(20);
    let data = about.next_multiple_of(64);
    let length = usize::from(bytes[table]);
    let mut new = name.to_owned();
    while new.len() > length {
        new.pop();
    }
    let new = format!("{new}{}", "x".repeat(length - new.len()));
    bytes[table + 1..table + 1 + length].copy_from_slice(new.as_bytes());
    let covered = [&bytes[..64], &bytes[table..data]].concat();
    bytes[64..96].copy_from_slice(blake3::hash(&covered).as_bytes());
    bytes
}

#[test]
fn names_of_models_and_nodes_are_seen_whole() {
    let (dir, _) = directory();
    export(&dir, "export", "dynamic-int8");
    dir.ok("model import export --name tower");
    let kept = dir.home().join("models/tower.rlpm");
    let name = "\u{1b}]0;\u{202e}";
    let bundle = renamed(fs::read(&kept).unwrap(), name);
    fs::write(&kept, &bundle).unwrap();
    let file = format!("{NASTY}.rlpm");
    fs::write(dir.path().join(&file), &bundle).unwrap();
    run(&dir, &["model", "list"], 0, "tower");
    run(&dir, &["model", "list", "--json"], 0, "tower");
    run(&dir, &["model", "show", "tower"], 0, "\\u{1b}");
    run(&dir, &["model", "show", &file], 0, SEEN);
    run(&dir, &["model", "verify", &file], 0, "");
    run(&dir, &["doctor"], 0, "");
    run(&dir, &["bench", "--model", &file, "--rounds", "1"], 2, "");
    for what in ["show", "verify", "remove"] {
        run(&dir, &["model", what, NASTY], 2, SEEN);
    }
    run(&dir, &["model", "import", NASTY], 1, SEEN);
    // The nodes of an ONNX file: an operator that nobody knows.
    let tower = dir.path().join("export/textual.onnx");
    let mut onnx = fs::read(&tower).unwrap();
    let at: Vec<usize> = (0..onnx.len() - 6)
        .filter(|&at| &onnx[at..at + 6] == b"MatMul")
        .collect();
    assert!(!at.is_empty());
    for at in at {
        onnx[at..at + 6].copy_from_slice("\u{1b}]\n\u{202e}".as_bytes());
    }
    fs::write(&tower, onnx).unwrap();
    let ran = run(
        &dir,
        &["model", "import", "export", "--name", "other"],
        1,
        "\\u{1b}",
    );
    harmless(&ran);
}

/// Answers each connection in turn with the next of `answers`, and then no more.
fn camera(answers: Vec<Vec<u8>>) -> String {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = server.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer);
        }
    });
    address
}

#[test]
fn what_a_camera_answers_is_seen_whole() {
    let (dir, prompt) = directory();
    let wild = "\u{1b}]0;x\u{7}\u{9d}\u{202e}\rFORGED";
    for (answer, seen) in [
        (format!("HTTP/1.1 500 {wild}\r\n\r\n"), ""),
        (
            format!("HTTP/1.1 302 x\r\nLocation: ftp://{wild}/\r\n\r\n"),
            "",
        ),
        (
            format!("HTTP/1.1 302 x\r\nLocation: http://[{wild}\r\n\r\n"),
            "",
        ),
        (format!("{wild}\r\n\r\n"), ""),
        (
            format!(
                "HTTP/1.1 200 ok\r\nContent-Type: {wild}\r\nContent-Length: {wild}\r\n\r\n{wild}"
            ),
            "",
        ),
        (
            format!("HTTP/1.1 401 x\r\nWWW-Authenticate: Digest realm=\"{wild}\"\r\n\r\n"),
            "",
        ),
        (format!("HTTP/1.1 200 ok\r\n{wild}: {wild}\r\n\r\n"), ""),
    ] {
        let address = camera(vec![answer.into_bytes(); 3]);
        run(
            &dir,
            &[
                "classify",
                "--camera",
                &address,
                "--prompt",
                &prompt,
                "--camera-timeout",
                "1s",
            ],
            1,
            seen,
        );
    }
}

#[test]
fn a_log_has_as_many_lines_as_events() {
    let (dir, prompt) = directory();
    let inside: PathBuf = Path::new(NASTY).join(format!("{NASTY}.png"));
    let ran = dir
        .command("classify")
        .arg(&inside)
        .arg("--prompt")
        .arg(&prompt)
        .ok();
    assert_eq!(ran.stdout.lines().count(), 1, "{ran}");
}
