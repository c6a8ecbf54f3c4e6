//! What each fuzz target does with its bytes. The ordinary tests run the same on the seeds and on all that was found
//! (`tests/fuzz_corpora.rs`), so a target's promise is kept without a fuzzer, too.
#![allow(dead_code)]

use edge_rlp::clip::bundle::{Bundle, Header};
use edge_rlp::clip::import::{ImportOptions, import};
use edge_rlp::clip::{Model, Preprocess, Tokenizer, tokenizer};
use edge_rlp::frames::{self, http, mjpeg, reduced};
use edge_rlp::prompt::{Label, LabelsError, labels};
use edge_rlp::store;
use std::path::PathBuf;
use std::sync::LazyLock;

/// A panic of ours is a finding, even where it would be caught; a panic of a library that becomes an error is not.
pub fn only_our_panics_count() {
    std::panic::set_hook(Box::new(|panic| {
        let file = panic.location().map_or("", |place| place.file());
        if !file.contains("/registry/src/") && !file.starts_with("/rustc/") {
            eprintln!("{panic}");
            std::process::abort();
        }
    }));
}

/// A prompt file, as it is and with its frame made right, so that the payload is looked at, too.
pub fn prompt_file(bytes: &[u8]) {
    for file in [bytes.to_vec(), framed(bytes)] {
        if let Ok(record) = store::decode(&file, "x.rlp") {
            let written = store::encode(&record).expect("what was read can be written");
            let again = store::decode(&written, "x.rlp").expect("what was written can be read");
            assert_eq!(written, store::encode(&again).unwrap());
        }
    }
}

/// A prompt as JSON: what is accepted is a prompt, in this form and in that of a file.
pub fn prompt_json(bytes: &[u8]) {
    if let Ok(record) = store::json::decode(bytes, "x.json") {
        let text = store::json::encode(&record).expect("what was read can be written");
        assert_eq!(
            store::json::decode(text.as_bytes(), "x.json").unwrap(),
            record
        );
        let file = store::encode(&record).expect("what was read can be written");
        assert_eq!(store::decode(&file, "x.rlp").unwrap(), record);
    }
}

/// The frame of version 1 around the payload of `bytes`, which has some frame already or none.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let payload = match bytes.starts_with(&store::format::MAGIC) && bytes.len() >= 46 {
        true => &bytes[14..bytes.len() - 32],
        false => bytes,
    };
    let mut file = store::format::MAGIC.to_vec();
    file.extend(store::format::VERSION.to_le_bytes());
    file.extend((payload.len() as u32).to_le_bytes());
    file.extend(payload);
    file.extend(blake3::hash(&file).as_bytes());
    file
}

/// A model bundle, as it is and with its checksums made right; a model that opens is run.
pub fn bundle(bytes: &[u8]) {
    let _ = Header::of(bytes);
    let _ = Bundle::from_bytes(bytes.to_vec());
    let Ok(model) = Model::from_bytes(sealed(bytes)) else {
        return;
    };
    let picture = image::RgbImage::from_fn(31, 17, |x, y| image::Rgb([x as u8, y as u8, 9]));
    let _ = model.encode_image(&picture);
    if let Ok(ids) = model.tokenizer.encode("a photo of a cat.") {
        let _ = model.text.encode(&[model.tokenizer.sequence(ids)]);
    }
}

/// `bytes` with the length, the fingerprint and the checksum that a sound bundle of the same content has.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    if file.len() < 96 {
        return file;
    }
    let length = file.len();
    file[..8].copy_from_slice(b"RLPMODEL");
    let version = if file[8] == 2 { 2u32 } else { 1 };
    file[8..12].copy_from_slice(&version.to_le_bytes());
    file[24..32].copy_from_slice(&(length as u64).to_le_bytes());
    let part = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let table = 96usize.saturating_add(part(12)).saturating_add(part(16));
    let about = table.saturating_add(part(20));
    let data = about.saturating_add(63) / 64 * 64;
    if data > length {
        return file;
    }
    let identity = [&file[96..table], &file[data..]].concat();
    file[32..64].copy_from_slice(blake3::hash(&identity).as_bytes());
    let covered = [&file[..64], &file[table..data]].concat();
    file[64..96].copy_from_slice(blake3::hash(&covered).as_bytes());
    file
}

/// A motion JPEG stream: the pieces that it comes in must not matter.
pub fn mjpeg(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else {
        return;
    };
    let split = |piece: usize| {
        let mut splitter = mjpeg::Splitter::default();
        let pieces = stream.chunks(piece);
        let mut pictures: Vec<Vec<u8>> = pieces.flat_map(|bytes| splitter.push(bytes)).collect();
        pictures.extend(splitter.finish());
        assert!(
            pictures
                .iter()
                .all(|p| p.starts_with(&[0xff, 0xd8]) && p.ends_with(&[0xff, 0xd9]))
        );
        (pictures, splitter.skipped())
    };
    assert_eq!(split(usize::from(piece) + 1), split(stream.len().max(1)));
}

/// A picture file, and a JPEG by the decoder of large ones, too: within a budget of memory, whatever it says of its size.
pub fn picture(bytes: &[u8]) {
    const PIXELS: u64 = 1 << 20;
    frames::limit_memory(64 << 20);
    if let Ok(picture) = frames::decode_picture(bytes, PIXELS) {
        assert!(u64::from(picture.width()) * u64::from(picture.height()) <= PIXELS);
    }
    // The size is checked before a large picture gets to its decoder.
    let small = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format();
    let size = small.map(|reader| reader.into_dimensions());
    if matches!(size, Ok(Ok((width, height))) if u64::from(width) * u64::from(height) <= PIXELS) {
        // A panic of the decoder becomes an error where it is called.
        let _ = std::panic::catch_unwind(|| {
            reduced::decode_reduced(bytes, reduced::Reduction::by_half())
        });
    }
}

/// What a camera answers over HTTP.
pub fn http_answer(bytes: &[u8]) {
    let mut total = 0;
    let _ = http::read_answer(bytes, &mut |picture| total += picture.len());
    // A picture that lacks its end marker gets one; the shortest has 100 bytes.
    assert!(total <= bytes.len() + bytes.len() / 50);
}

/// A label file: what is accepted keeps its promises, and reads the same once it is written down again.
pub fn labels(bytes: &[u8]) {
    let Ok(found) = std::str::from_utf8(bytes).map(|text| labels::parse(text, "labels.txt")) else {
        return;
    };
    let Ok(found) = found else { return };
    assert!((1..=labels::MAX_LABELS).contains(&found.len()));
    for Label { name, words } in &found {
        assert!(!name.contains(['/', '\\']) && !name.starts_with('.') && !words.contains('_'));
        assert_eq!(
            Label::new(name, Some(words))
                .as_ref()
                .map(|label| &label.words),
            Ok(words)
        );
    }
    // A name that begins with # or a byte order mark can only come after a first label of another line.
    let plain = |label: &&Label| !label.name.starts_with(['#', '\u{feff}']);
    let kept: Vec<&Label> = found.iter().filter(plain).collect();
    let line = |label: &&Label| format!("{} = {}\n", label.name, label.words);
    let text: String = kept.iter().map(line).collect();
    if !kept.is_empty() {
        match labels::parse(&text, "labels.txt") {
            Ok(again) => assert!(again.iter().eq(kept.iter().copied())),
            // Without the lines before it, the first label may look like the beginning of something else.
            Err(LabelsError::OtherForm { .. }) if kept.len() < found.len() => {}
            Err(error) => panic!("what was read can be written: {error}"),
        }
    }
}

/// A tokenizer.json, or a text for CLIP's own.
pub fn tokenizer(bytes: &[u8]) {
    static CLIP: LazyLock<Tokenizer> =
        LazyLock::new(|| Tokenizer::clip(tokenizer::CLIP_MERGES, 2000).unwrap());
    if let Ok(found) = Tokenizer::from_json(bytes) {
        for text in ["a photo of a cat.", "", "\u{1f600} <|endoftext|> Ünï 12"] {
            let _ = found.encode(text);
        }
        let written = found.to_json_bytes().expect("what was read can be written");
        Tokenizer::from_json(&written).expect("what was written can be read");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let ids = CLIP.encode(text).expect("every text has tokens");
        assert!(ids.iter().all(|&id| (id as usize) < CLIP.vocabulary_size()));
    }
}

/// An ONNX file as text tower and as image tower, through to a refusal or a model.
pub fn onnx(bytes: &[u8]) {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    static TOKENIZER: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let clip = Tokenizer::clip(tokenizer::CLIP_MERGES, 530).unwrap();
        clip.to_json_bytes().unwrap()
    });
    let file = FOLDER.path().join("model.onnx");
    std::fs::write(&file, bytes).unwrap();
    let options = |image: PathBuf, text: PathBuf| {
        let mut options = ImportOptions::new(image, text, TOKENIZER.clone(), Preprocess::clip(24));
        options.context_length = 12;
        options.force = true;
        options
    };
    let both = import(&options(file.clone(), file.clone()));
    if both.is_err_and(|error| error.to_string().contains("inputs for token ids")) {
        let sound = "../tests/fixtures/import/dynamic-int8/textual.onnx";
        let sound = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(sound);
        let _ = import(&options(file, sound));
    }
}

/// A configuration of `serve`: what is read can be changed, what was changed can be read, and what stands beside the change
/// stays. The same bytes are the host that a request names.
#[cfg(feature = "serve")]
pub fn serve_config(bytes: &[u8]) {
    use edge_rlp::serve::access::Hosts;
    use edge_rlp::serve::config::{self, ConfigFile};
    let text = String::from_utf8_lossy(bytes);
    for loopback in [false, true] {
        let _ = Hosts::new(loopback, &["box.local".into()]).knows(&text);
    }
    let Ok(read) = config::parse(&text) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = ConfigFile::new(folder.path().join("edge-rlp.toml"));
    std::fs::write(file.path(), text.as_bytes()).unwrap();
    let area = config::share([0.1, 0.2, 0.3, 0.4]).unwrap();
    for camera in &read.cameras {
        let changed =
            file.edit(|document| config::put_region(document, &camera.name, "fuzz", area, None));
        let Ok(changed) = changed else {
            continue;
        };
        assert_eq!(
            changed,
            config::parse(&std::fs::read_to_string(file.path()).unwrap()).unwrap()
        );
        assert_eq!(changed.cameras.len(), read.cameras.len());
        assert!(
            changed
                .camera(&camera.name)
                .unwrap()
                .region("fuzz")
                .is_some()
        );
    }
}

/// A request to `serve`, whole, with its head and its body: whatever it asks for, it is answered or refused, and no fault of the
/// program.
#[cfg(all(feature = "serve", unix))]
pub fn serve_request(bytes: &[u8]) {
    use edge_rlp::serve::{self, Server, Settings, api};
    use std::sync::Arc;
    use std::time::Duration;
    // Half a head is for the web server alone.
    if !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        config: folder.path().join("edge-rlp.toml"),
        listen: Some(([127, 0, 0, 1], 0).into()),
        home: store::Home::new(folder.path()),
    };
    let server = Arc::new(Server::new(&settings).expect("an empty folder can be served"));
    let routes = api::routes(Arc::clone(&server));
    let answer = serve::answer_to(routes, bytes, Duration::from_millis(300));
    let answer = answer.expect("there are connections");
    server.training.stop();
    server.cameras.stop();
    // Nothing at all where the request was cut.
    if let Some(status) = answer.strip_prefix(b"HTTP/1.1 ") {
        assert!(
            status[0] < b'5',
            "{}",
            String::from_utf8_lossy(&answer[..answer.len().min(400)])
        );
    }
    assert!(std::fs::read_dir(folder.path()).is_ok());
}

/// A notice of a fleet: what is read without a signature is one that can be signed, and reads the same again.
#[cfg(feature = "fleet")]
pub fn fleet_notice(bytes: &[u8]) {
    use edge_rlp::fleet::{Password, SigningKey, read, read_unsigned};
    const SECRET: &str = include_str!("../tests/fixtures/fleet/minisign.key");
    static KEY: LazyLock<SigningKey> =
        LazyLock::new(|| SigningKey::open(SECRET, &Password::None).unwrap());
    let trusted = [KEY.public().clone()];
    let _ = read(bytes, &trusted);
    for bytes in [bytes.to_vec(), notice_framed(bytes)] {
        let Ok(notice) = read_unsigned(&bytes) else {
            continue;
        };
        // What is written anew may be longer: the header that was read may have been without a space.
        if let Ok(signed) = notice.sign(&KEY) {
            assert_eq!(read(&signed, &trusted).unwrap().notice, notice);
        }
    }
}

/// `body` in the frame of a notice, with a signature of the right shape.
#[cfg(feature = "fleet")]
fn notice_framed(body: &[u8]) -> Vec<u8> {
    const SIGNATURE: &[u8] = include_bytes!("../tests/fixtures/fleet/withdraw.minisig");
    let mut bytes = b"\x89RLF\r\n\x1a\n\x01\x00".to_vec();
    bytes.extend((SIGNATURE.len() as u16).to_le_bytes());
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(SIGNATURE);
    bytes.extend(body);
    bytes
}
