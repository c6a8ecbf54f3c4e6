use super::*;
use crate::fleet::{KeyError, Password};
use crate::prompt::record::tests::record;

/// By the `minisign` of Debian; tests/fixtures/fleet/make.sh.
const PUBLIC: &str = include_str!("../../../tests/fixtures/fleet/minisign.pub");
const SECRET: &str = include_str!("../../../tests/fixtures/fleet/minisign.key");
const PUBLISH: &[u8] = include_bytes!("../../../tests/fixtures/fleet/publish.body");
const PUBLISHED: &str = include_str!("../../../tests/fixtures/fleet/publish.minisig");
const WITHDRAW: &[u8] = include_bytes!("../../../tests/fixtures/fleet/withdraw.body");
const WITHDRAWN: &str = include_str!("../../../tests/fixtures/fleet/withdraw.minisig");
const LEGACY: &str = include_str!("../../../tests/fixtures/fleet/legacy.minisig");

fn key() -> SigningKey {
    SigningKey::open(SECRET, &Password::None).unwrap()
}

fn notice(kind: Kind) -> Notice {
    let prompt = (kind != Kind::Withdraw).then(record);
    let group = "shops/north".parse().unwrap();
    Notice {
        restores: (kind == Kind::Rollback).then_some(3),
        ..Notice::new(kind, group, "shelf", 7, prompt).unwrap()
    }
}

#[test]
fn what_minisign_has_signed_is_read() {
    let trusted = [PUBLIC.parse().unwrap()];
    let signed = read(&frame(PUBLISHED.as_bytes(), PUBLISH), &trusted).unwrap();
    assert_eq!(signed.comment, "from the head office");
    assert_eq!(signed.key, "78913B9BD527E15A");
    let Notice {
        generation,
        canary,
        prompt,
        ..
    } = signed.notice;
    assert_eq!((generation, canary.to_string()), (7, "5 %".into()));
    assert_eq!(prompt.unwrap().labels[3].words, "metal washer");
    let signed = read(&frame(WITHDRAWN.as_bytes(), WITHDRAW), &trusted).unwrap();
    assert_eq!(signed.notice.kind, Kind::Withdraw);
}

#[test]
fn what_is_signed_here_is_read_back_as_it_was_and_fits_minisigns_files() {
    for kind in [Kind::Publish, Kind::Rollback, Kind::Withdraw] {
        let mut notice = notice(kind);
        notice.canary = "0.5%".parse().unwrap();
        notice.bundle = (kind == Kind::Publish).then(|| Bundle {
            url: "https://models.example/a.rlpm?sig=1".into(),
            sha256: "0".repeat(64),
            bytes: 1 << 20,
        });
        let bytes = notice.sign(&key()).unwrap();
        let trusted: TrustedKey = key().public().to_file().parse().unwrap();
        assert_eq!(trusted, PUBLIC.parse().unwrap());
        let signed = read(&bytes, &[trusted]).unwrap();
        assert_eq!(signed.notice, notice);
        assert_eq!(signed.comment, notice.in_words());
    }
}

#[test]
fn a_new_key_is_opened_with_its_password_alone() {
    let password = Password::Given("correct horse".into());
    let (key, file) = SigningKey::generate(&password).unwrap();
    let again = SigningKey::open(&file, &password).unwrap();
    assert_eq!(again.public(), key.public());
    let mut damaged: Vec<String> = SECRET.lines().map(str::to_owned).collect();
    let other = if &damaged[1][110..111] == "x" {
        "y"
    } else {
        "x"
    };
    damaged[1].replace_range(110..111, other);
    let damaged = SigningKey::open(&damaged.join("\n"), &Password::None);
    assert!(matches!(damaged, Err(KeyError::Secret { .. })));
    let open = |password| SigningKey::open(&file, &password).err();
    assert!(matches!(open(Password::None), Some(KeyError::Locked)));
    assert!(matches!(
        open(Password::Given("another".into())),
        Some(KeyError::Password)
    ));
    for nonsense in ["", "x", "a\nb", "untrusted comment: x\nRWQ=\n", PUBLIC] {
        let failed = SigningKey::open(nonsense, &Password::None);
        assert!(
            matches!(failed, Err(KeyError::Secret { .. })),
            "{nonsense:?}"
        );
    }
}

#[test]
fn any_bit_that_changes_on_the_way_is_a_refusal() {
    let bytes = notice(Kind::Publish).sign(&key()).unwrap();
    let trusted = [PUBLIC.parse().unwrap()];
    for at in (0..bytes.len()).step_by(11).chain(0..16) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        // The first comment of a signature is anybody's.
        let untrusted = (16 + 19..16 + 63).contains(&at);
        assert!(untrusted || read(&changed, &trusted).is_err(), "byte {at}");
        assert!(read(&bytes[..at], &trusted).is_err(), "cut at {at}");
    }
    assert!(read(&[bytes, vec![0]].concat(), &trusted).is_err());
}

#[test]
fn each_kind_of_stranger_is_refused_by_name() {
    let (stranger, _) = SigningKey::generate(&Password::None).unwrap();
    let trusted: [TrustedKey; 1] = [PUBLIC.parse().unwrap()];
    let refused = |bytes: &[u8]| read(bytes, &trusted).unwrap_err();
    let of_stranger = notice(Kind::Publish).sign(&stranger).unwrap();
    assert!(matches!(refused(&of_stranger), Refusal::UnknownKey { .. }));
    assert!(matches!(
        read(&of_stranger, &[]),
        Err(Refusal::UnknownKey { .. })
    ));
    assert!(matches!(refused(&frame(b"", PUBLISH)), Refusal::Unsigned));
    assert!(matches!(
        refused(&encode(&record()).unwrap()),
        Refusal::Unsigned
    ));
    let moved = frame(WITHDRAWN.as_bytes(), PUBLISH);
    assert!(matches!(refused(&moved), Refusal::Forged { .. }));
    let forged_comment = PUBLISHED.replace("head office", "other office");
    assert!(matches!(
        refused(&frame(forged_comment.as_bytes(), PUBLISH)),
        Refusal::Forged { .. }
    ));
    let old = frame(LEGACY.as_bytes(), WITHDRAW);
    assert!(refused(&old).to_string().contains("old kind"));
    let large = refused(&vec![0; 10 << 20]);
    assert!(
        matches!(
            large,
            Refusal::TooLarge {
                bytes: 10_485_760,
                ..
            }
        ),
        "{large}"
    );
    let newer = [&MAGIC[..], &[2, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert!(matches!(refused(&newer), Refusal::Newer { version: 2, .. }));
    for nonsense in [&b""[..], b"hello", b"{}", &MAGIC, &[0; 100]] {
        assert!(
            matches!(refused(nonsense), Refusal::Malformed { .. }),
            "{nonsense:?}"
        );
    }
}

#[test]
fn a_key_with_the_number_of_a_trusted_one_is_not_that_one() {
    // Another key whose number is that of the trusted one.
    let trusted: TrustedKey = PUBLIC.parse().unwrap();
    let (stranger, file) = SigningKey::generate(&Password::None).unwrap();
    let bytes = notice(Kind::Publish).sign(&stranger).unwrap();
    let line = file.lines().nth(1).unwrap();
    assert!(!line.is_empty());
    let length = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
    let signature = std::str::from_utf8(&bytes[16..16 + length]).unwrap();
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut lines: Vec<String> = signature.lines().map(str::to_owned).collect();
    let mut of_signature = base64.decode(&lines[1]).unwrap();
    let number = base64.decode(trusted.to_string()).unwrap()[2..10].to_vec();
    of_signature[2..10].copy_from_slice(&number);
    lines[1] = base64.encode(of_signature);
    let forged = frame((lines.join("\n") + "\n").as_bytes(), &bytes[16 + length..]);
    assert!(matches!(
        read(&forged, &[trusted]),
        Err(Refusal::Forged { .. })
    ));
}

#[test]
fn a_body_that_contradicts_itself_is_refused_though_it_is_signed() {
    let text = std::str::from_utf8(WITHDRAW).unwrap();
    let trusted = [PUBLIC.parse().unwrap()];
    let signed = |body: &str| {
        let signature = key().sign(body.as_bytes(), "x").unwrap();
        read(&frame(signature.as_bytes(), body.as_bytes()), &trusted)
    };
    assert!(signed(text).is_ok());
    for (from, to) in [
        ("withdraw", "publish"),
        ("\"withdraw\"", "\"rollback\""),
        ("\"withdraw\"", "\"destroy\""),
        ("shops/north", "shops//north"),
        ("shops/north", "shops/+"),
        ("\"shelf\"", "\"../shelf\""),
        ("8,", "0,"),
        ("8,", "-1,"),
        ("10000", "0"),
        ("10000", "10001"),
        ("\"prompt_bytes\": 0", "\"prompt_bytes\": 1"),
        ("\"prompt_bytes\": 0", "\"prompt_bytes\": 0, \"more\": 1"),
        ("notice 1", "notice 2"),
        ("}\n", "}"),
        ("}\n", "}\nmore"),
    ] {
        let body = text.replacen(from, to, 1);
        assert_ne!(body, text);
        assert!(
            matches!(
                signed(&body),
                Err(Refusal::Malformed { .. } | Refusal::Prompt(_))
            ),
            "{to}"
        );
    }
}

#[test]
fn what_no_box_would_read_is_not_signed() {
    let mut large = notice(Kind::Publish);
    large.prompt.as_mut().unwrap().delta =
        crate::prompt::Delta::Full(ndarray::Array2::zeros((40, 512)));
    large
        .prompt
        .as_mut()
        .unwrap()
        .context_singular_values
        .clear();
    assert!(matches!(
        large.sign(&key()),
        Err(NoticeError::TooLarge { .. })
    ));
    let mut bundle = notice(Kind::Publish);
    for (url, sha256, bytes) in [
        ("ftp://x/y", "0".repeat(64), 1),
        ("http://x/ y", "0".repeat(64), 1),
        ("http://x/y", "0".repeat(63), 1),
        ("http://x/y", "0".repeat(64), 0),
    ] {
        bundle.bundle = Some(Bundle {
            url: url.into(),
            sha256,
            bytes,
        });
        assert!(
            matches!(bundle.sign(&key()), Err(NoticeError::Bundle { .. })),
            "{url}"
        );
    }
    let group: Group = "shops".parse().unwrap();
    assert!(Notice::new(Kind::Withdraw, group.clone(), "a/b", 1, None).is_err());
    assert!(Notice::new(Kind::Withdraw, group, "a", 0, None).is_err());
    for wrong in ["", "/", "a/", "/a", "a//b", "a/#", "a b", "$x"] {
        assert!(wrong.parse::<Group>().is_err(), "{wrong:?}");
    }
    for wrong in ["", "0", "0%", "101%", "5.001%", "x", "-5%", "NaN", "inf"] {
        assert!(wrong.parse::<Canary>().is_err(), "{wrong:?}");
    }
}

#[test]
fn what_is_no_key_is_told_what_one_looks_like() {
    for wrong in ["", "RWQ", "hello", &"A".repeat(56), &"x".repeat(9999)] {
        let error = wrong.parse::<TrustedKey>().unwrap_err().to_string();
        assert!(error.contains("RW") && error.len() < 250, "{error}");
    }
    let line = PUBLIC.lines().nth(1).unwrap();
    assert_eq!(line.parse::<TrustedKey>().unwrap().to_string(), line);
}
