//! `edge-rlp eval` and `edge-rlp prompt diff` as a person types them.

use crate::support::Directory;
use edge_rlp::frames::demo::{self, CLASSES, Purpose};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageEncoder, RgbImage};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Few views and few steps: seconds instead of minutes.
const QUICK: &str = "--views 1 --steps 15 --seeds 2";

/// What a command answers with `--json`.
#[track_caller]
fn json(dir: &Directory, line: &str) -> Value {
    dir.command(line).words("--json -q").ok().json()
}

/// A directory with `pictures/train`, `pictures/test` and `pictures/labels.txt`, drawn.
fn with_demo(condition: &str, shots: u32, test: u32) -> Directory {
    let dir = Directory::new();
    dir.ok(&format!(
        "demo --out pictures --condition {condition} --shots {shots} --test {test}"
    ));
    dir
}

#[test]
fn all_methods_are_compared_on_base_and_new_classes() {
    let dir = with_demo("squeezed", 4, 3);
    let command = format!("eval --images pictures --protocol base-to-new {QUICK}");
    let report = json(&dir, &command);
    assert_eq!(report["protocol"], "base-to-new");
    let methods = report["methods"].as_array().unwrap();
    let names: Vec<&str> = methods
        .iter()
        .map(|method| method["method"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "zero-shot",
            "rlp",
            "rlp+gda",
            "auto",
            "coop",
            "kgcoop",
            "tip",
            "ncm",
            "gda"
        ]
    );
    for method in methods {
        let name = &method["method"];
        for key in ["accuracy", "base", "seconds"] {
            assert!(method[key].is_f64(), "{name} has no {key}");
        }
        assert_eq!(method["accuracy"], method["base"], "{name}");
        assert_eq!(method["runs"].as_array().unwrap().len(), 2, "{name}");
        let (base, new) = (method["base"].as_f64().unwrap(), method["new"].as_f64());
        match (name.as_str().unwrap(), new) {
            ("ncm" | "gda", None) => assert!(method["harmonic_mean"].is_null()),
            (_, Some(new)) => {
                let harmonic = method["harmonic_mean"].as_f64().unwrap();
                assert!((harmonic * (base + new) - 2.0 * base * new).abs() < 1e-9);
            }
            (name, None) => panic!("{name} has no accuracy on new classes"),
        }
    }
    assert_eq!(methods[0]["parameters"], 0);
    assert_eq!(methods[1]["parameters"], 784);
    assert_eq!(methods[4]["parameters"], 768);
    // Halves by label in alphabetical order.
    let labels: Vec<&str> = report["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|label| label.as_str().unwrap())
        .collect();
    assert!(labels.is_sorted() && labels.len() == 6, "{labels:?}");
    assert_eq!(report["parts"][1]["pictures"], 18);
}

#[test]
fn more_shots_and_another_data_set_are_protocols_too() {
    let dir = with_demo("infrared", 4, 2);
    let few = "eval --images pictures --protocol few-shot --methods rlp,ncm --shots 1,4";
    let report = json(&dir, &format!("{few} {QUICK}"));
    assert_eq!(report["shots"], serde_json::json!([1, 4]));
    assert_eq!(report["methods"][1]["runs"].as_array().unwrap().len(), 4);
    assert_eq!(report["methods"][0]["method"], "zero-shot");
    // Of both seeds together, by shots: zero-shot answers alike each time, so it is as for one seed.
    let by_shots = report["methods"][0]["calibration_error_by_shots"].clone();
    assert_eq!(by_shots.as_array().unwrap().len(), 2);
    for found in by_shots.as_array().unwrap() {
        let of = |value: &Value| value.as_f64().unwrap();
        let once = (of(&found["mean"]), of(&found["mean_by_chance"]));
        let together = &found["together"];
        assert!((of(&together["error"]) - once.0).abs() < 1e-6, "{found}");
        assert!(
            (of(&together["by_chance"]) - once.1).abs() < 1e-6,
            "{found}"
        );
    }
    let table = dir.ok(&format!("{few} {QUICK}"));
    table.prints("by chance");
    table.prints("calib. error, all seeds (by chance)");

    dir.ok("demo --out other --shots 1 --test 2");
    let cross = "eval --images pictures --protocol cross --target other --methods rlp,gda";
    let report = json(&dir, &format!("{cross} {QUICK}"));
    assert_eq!(report["parts"][1]["name"], "other");
    assert_eq!(report["parts"][1]["pictures"], 24);
    assert!(report["methods"][1]["accuracy"].is_f64());
    assert!(
        report["methods"][2]["accuracy"].is_null(),
        "gda knows its own classes only"
    );
}

#[test]
fn a_prompt_is_judged_beside_zero_shot_on_the_test_pictures() {
    let dir = with_demo("squeezed", 4, 3);
    dir.ok("adapt --images pictures --method rlp+gda --views 1 --steps 20 --force -q");
    let report = json(&dir, "eval --images pictures --prompt default");
    let methods = report["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 2);
    assert_eq!(
        (&methods[1]["method"], &methods[1]["prompt"]),
        (&"rlp+gda".into(), &"default".into())
    );
    assert_eq!(report["parts"][0]["pictures"], 36);

    // The same pictures, the same answers as `classify`, which here names those that look unknown, too: `eval` does.
    let classified = dir
        .command("classify pictures/test --threshold 0 --json -q")
        .run();
    assert_eq!(classified.stdout.lines().count(), 36);
    let accuracy = methods[1]["accuracy"].as_f64().unwrap();
    assert!((accuracy - classified.share_right()).abs() < 1e-9);
    let trace: u64 = (0..12)
        .map(|class| {
            methods[1]["parts"][0]["confusion"][class][class]
                .as_u64()
                .unwrap()
        })
        .sum();
    assert_eq!(trace, (36.0 * classified.share_right()).round() as u64);
}

#[test]
fn a_split_file_of_coop_is_read_directly() {
    let dir = with_demo("clear", 2, 1);
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::rename(
        dir.path().join("pictures/train"),
        dir.path().join("data/images"),
    )
    .unwrap();
    let item = |class: &str, shot: usize, number: usize, name: &str| {
        serde_json::json!([format!("{class}/{shot:04}.png"), number, name])
    };
    let list = |shot| {
        serde_json::json!([
            item("mug", shot, 0, "coffee_mug"),
            item("fish", shot, 1, "fish/trout"),
            item("key", shot, 2, "key"),
            item("bottle", shot, 3, "bottle"),
        ])
    };
    let split = serde_json::json!({ "train": list(0), "val": [], "test": list(1) });
    dir.write("data/split_zhou_Things.json", &split.to_string());
    let command = "eval --images data --protocol base-to-new --methods ncm";
    let report = json(&dir, &format!("{command} {QUICK}"));
    assert_eq!(
        report["labels"],
        serde_json::json!(["coffee_mug", "fish-trout"])
    );
    assert_eq!(
        report["parts"][1]["labels"],
        serde_json::json!(["key", "bottle"])
    );

    // Labels that are named are those that are judged.
    dir.write("two.txt", "bottle = a bottle of water\nfish-trout\n");
    let of_two = format!("eval --images data --labels two.txt --methods ncm {QUICK}");
    let report = json(&dir, &of_two);
    assert_eq!(
        report["labels"],
        serde_json::json!(["bottle", "fish-trout"])
    );
    dir.write("two.txt", "bottle\nzebra\n");
    dir.fails(
        &of_two,
        1,
        "split_zhou_Things.json: it has no class \"zebra\"",
    );
}

#[test]
fn a_method_that_is_named_twice_is_tried_once() {
    let dir = with_demo("clear", 2, 1);
    let line =
        "eval --images pictures --shots 2,1,2 --views 1 --steps 2 --seeds 2 --protocol few-shot";
    let methods = |given: &str| {
        let report = json(&dir, &format!("{line} --methods {given}"));
        report["methods"].as_array().unwrap().len()
    };
    assert_eq!(methods("ncm,gda,ncm"), 3);
    assert!(methods("ncm,all") > 5);
}

#[test]
fn what_cannot_be_evaluated_is_a_sentence() {
    let dir = Directory::with_pictures(3);
    for (flags, code, sentence) in [
        ("--protocol cross", 2, "--target"),
        ("--methods magic", 2, "kgcoop"),
        ("--shots 1,2", 2, "few-shot"),
        ("--holdout 1", 2, "--holdout 1"),
        ("--protocol base-to-new", 2, "two labels in each half"),
        ("--rank 9 --methods rlp", 2, "rank 9"),
        ("--prompt nobody", 1, "nobody"),
        ("--split nowhere.json", 1, "nowhere.json"),
    ] {
        let eval = dir.command("eval --images pictures").words(flags);
        eval.fails(code, sentence);
    }
    dir.write("pictures/mug/broken.jpg", "no picture");
    let judged = dir.command("eval --images pictures --methods zero-shot");
    judged.ends(3).says("broken.jpg").prints("zero-shot");
}

#[test]
fn the_report_is_one_page_that_needs_nothing_and_takes_no_orders_from_names() {
    let dir = Directory::with_pictures(4);
    let hostile = "<script>\"it's\" & <b>";
    let pictures = dir.path().join("pictures");
    fs::rename(pictures.join("mug"), pictures.join(hostile)).unwrap();
    dir.write("pictures/labels.txt", &format!("{hostile} = mug\nfish\n"));
    let report = "eval --images pictures --methods rlp,ncm --report out.html";
    json(&dir, &format!("{report} {QUICK}"));
    let page = fs::read_to_string(dir.path().join("out.html")).unwrap();
    for part in [
        "name=\"viewport\"",
        "What is taken for what",
        "How sure it is",
        "Label by label",
        "Loss by training step",
        "Information density",
        "Worst mistakes",
        "prefers-color-scheme:dark",
        "&lt;script&gt;&quot;it&#39;s&quot; &amp; &lt;b&gt;",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    for part in [
        "<script", "<b>\"", "http://", "https://", "url(", "NaN", "@import",
    ] {
        assert!(!page.contains(part), "{part} is in the page");
    }
    assert!(page.matches("<svg").count() >= 5);
    // Whoever gets the page gets the pictures in it: none unless that is asked for.
    assert!(!page.contains("<img") && !page.contains("data:image/jpeg"));
    for fish in fs::read_dir(pictures.join("fish")).unwrap() {
        let fish = fish.unwrap();
        let wrong = format!("{hostile}/wrong-{}", fish.file_name().display());
        fs::copy(fish.path(), pictures.join(wrong)).unwrap();
    }
    let report = "eval --images pictures --methods zero-shot --report out.html";
    json(&dir, &format!("{report} --thumbnails"));
    let page = fs::read_to_string(dir.path().join("out.html")).unwrap();
    assert!(page.contains("<img src=\"data:image/jpeg;base64,"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let found = fs::metadata(dir.path().join("out.html")).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
    }

    let report = "eval --images pictures --methods zero-shot --report no/such/out.html";
    dir.fails(report, 1, "no/such/out.html");
}

/// What a page shows and what it says to those who do not see it, without its style and its markup; the tags alone.
fn text_and_tags(page: &str) -> (String, Vec<String>) {
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, rest) = rest.split_once("</style>").unwrap();
    let (mut text, mut tags) = (String::new(), Vec::new());
    for part in format!("{head}{rest}").split('<').skip(1) {
        let (tag, between) = part.split_once('>').unwrap();
        tags.push(tag.split([' ', '\n']).next().unwrap().to_owned());
        for said in ["aria-label=\"", "alt=\"", "title=\""] {
            let said = tag
                .split_once(said)
                .map(|(_, rest)| rest.split('"').next().unwrap());
            text.extend([said.unwrap_or_default(), "\n"]);
        }
        text.extend([between, "\n"]);
    }
    (text, tags)
}

#[test]
fn a_report_in_german_says_the_same_and_nothing_in_english() {
    let dir = Directory::new();
    dir.ok("demo --out bilder --condition squeezed --shots 2 --test 1");
    // Four labels are enough, and quick.
    dir.write("bilder/labels.txt", "mug\nfish\nkey\nbottle\n");
    for protocol in ["base-to-new", "few-shot"] {
        let command = format!(
            "eval --images bilder --protocol {protocol} --methods rlp,ncm --views 1 --steps 2 --seeds 1 -q"
        );
        let written = |flags: &str| {
            let line = format!("{command} --report out.html {flags}");
            let printed = dir.command(&line).ok().stdout;
            let page = fs::read_to_string(dir.path().join("out.html")).unwrap();
            (printed, page)
        };
        let (printed, english) = written("");
        let (same, german) = written("--language de");
        // What is printed is English, whatever the page is written in.
        for line in [&printed, &same] {
            assert!(line.starts_with("method "), "{line}");
        }
        assert!(english.contains("<html lang=\"en\">") && german.contains("<html lang=\"de\">"));
        let ((english, tags), (german, same)) = (text_and_tags(&english), text_and_tags(&german));
        assert_eq!(tags, same);
        assert!(
            german.contains("Was wofür gehalten wird") && german.contains("Die größten Fehler")
        );
        // The template is what the prompt was trained with.
        let german = german.replace("a photo of a {}.", "");
        let words = |text: &str| -> Vec<String> {
            let words = text.split(|letter: char| !letter.is_alphabetic());
            words.map(str::to_lowercase).collect()
        };
        for word in [
            "the",
            "of",
            "with",
            "is",
            "and",
            "to",
            "on",
            "how",
            "by",
            "are",
            "pictures",
            "picture",
            "named",
            "label",
            "labels",
            "accuracy",
            "confidence",
            "method",
            "shots",
            "seeds",
            "value",
            "loss",
            "classes",
            "error",
            "recall",
        ] {
            assert!(
                !words(&german).contains(&word.to_owned()),
                "{word} in {german}"
            );
        }
        assert!(words(&english).contains(&"pictures".to_owned()));
        let dotted = |text: &str| {
            let numbers = text.split_whitespace();
            let of = numbers.filter(|word| word.contains('.') && word.parse::<f64>().is_ok());
            of.count()
        };
        assert!(dotted(&english) > 10);
        assert_eq!(dotted(&german), 0, "{german}");
    }
    let without = "eval --images bilder --methods zero-shot --language de";
    dir.fails(without, 2, "--report");
    let other = "eval --images bilder --methods zero-shot --report out.html --language fr";
    dir.fails(other, 2, "'fr' ... en, de");
}

#[test]
fn two_prompts_are_compared_in_numbers_and_on_pictures() {
    let dir = with_demo("peephole", 4, 3);
    for (name, steps) in [("short", "2"), ("long", "60")] {
        dir.ok(&format!(
            "adapt --images pictures --views 1 --steps {steps} --force -q --prompt {name}"
        ));
    }
    let same = json(&dir, "prompt diff long long --images pictures/test");
    assert_eq!(same["distance"], 0.0);
    assert!((same["cosine"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    assert_eq!(same["pictures"], 36);
    assert_eq!(same["changed"].as_array().unwrap().len(), 0);

    let other = json(&dir, "prompt diff short long --images pictures/test");
    assert!(other["distance"].as_f64().unwrap() > 0.0);
    assert!(other["text_cosine"].as_f64().unwrap() < 1.0);
    assert_eq!(other["a"]["singular_values"].as_array().unwrap().len(), 4);
    let changed = other["changed"].as_array().unwrap();
    assert!(!changed.is_empty());
    assert!(
        changed
            .iter()
            .all(|picture| picture["a"]["label"] != picture["b"]["label"])
    );
    assert!(changed[0]["truth"].is_string());

    let compared = dir.command("prompt diff short long").run();
    compared.prints("distance").prints("information density");
    dir.fails("prompt diff short nobody", 1, "nobody");
}

/// Saves a drawn scene as a camera would: photograph-shaped, JPEG, and with `orientation` (EXIF tag 0x0112) the pixels
/// lie as the sensor saw them and the tag says how to turn them back.
fn photograph(path: &Path, class: usize, shot: usize, orientation: u8) {
    let scene = demo::scene(Purpose::Test, 0, 31, (shot * CLASSES.len() + class) as u64);
    let drawn = DynamicImage::from(demo::draw(&scene, 480));
    let mut picture = RgbImage::from_pixel(640, 480, image::Rgb([120, 120, 120]));
    image::imageops::overlay(&mut picture, &drawn.into_rgb8(), 80, 0);
    let stored = match orientation {
        3 => image::imageops::rotate180(&picture),
        6 => image::imageops::rotate270(&picture),
        8 => image::imageops::rotate90(&picture),
        _ => picture,
    };
    let exif = [
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(),
        &[orientation, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.encode_image(&stored).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn ordinary_photographs_are_read_upright_whatever_their_tags_and_names() {
    let dir = Directory::new();
    for (class, label) in CLASSES.iter().enumerate().take(3) {
        for folder in ["plain", "tagged"] {
            let folder = dir.path().join(folder).join(label);
            fs::create_dir_all(&folder).unwrap();
            for (shot, orientation) in [1, 3, 6, 8].into_iter().enumerate() {
                let tagged = folder.parent().unwrap().ends_with("tagged");
                let name = format!("IMG {shot} é.JPG");
                let orientation = if tagged { orientation } else { 1 };
                photograph(&folder.join(name), class, shot, orientation);
            }
        }
    }
    let judged = |folder: &str| {
        let report = json(&dir, &format!("eval --images {folder} --methods zero-shot"));
        report["methods"][0].clone()
    };
    let (plain, tagged) = (judged("plain"), judged("tagged"));
    assert_eq!(plain["parts"][0]["pictures"], 12);
    assert_eq!(
        plain["parts"][0]["confusion"],
        tagged["parts"][0]["confusion"]
    );
    assert!(plain["accuracy"].as_f64().unwrap() >= 0.75, "{plain}");
}

/// Each picture below `from` in `to`, with one of another label to the right of it.
fn beside_others(dir: &Directory, from: &str, to: &str) {
    let labels: Vec<_> = fs::read_dir(dir.path().join(from)).unwrap().collect();
    let mut folders: Vec<_> = labels.into_iter().map(|entry| entry.unwrap()).collect();
    folders.sort_by_key(fs::DirEntry::file_name);
    let pictures: Vec<Vec<RgbImage>> = folders
        .iter()
        .map(|folder| {
            let mut paths: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
            paths.sort_by_key(|path| path.as_ref().unwrap().file_name());
            let open = |path: fs::DirEntry| image::open(path.path()).unwrap().into_rgb8();
            paths.into_iter().map(|path| open(path.unwrap())).collect()
        })
        .collect();
    for (label, folder) in folders.iter().enumerate() {
        let to = dir.path().join(to).join(folder.file_name());
        fs::create_dir_all(&to).unwrap();
        for (number, picture) in pictures[label].iter().enumerate() {
            let other = &pictures[(label + 1) % pictures.len()][number];
            let (width, height) = picture.dimensions();
            let both = RgbImage::from_fn(2 * width, height, |x, y| match x < width {
                true => *picture.get_pixel(x, y),
                false => *other.get_pixel(x - width, y),
            });
            both.save(to.join(format!("{number}.png"))).unwrap();
        }
    }
}

/// `--region` was in `eval` and in no test of it.
#[test]
fn a_region_is_all_that_is_judged_and_another_than_was_learnt_is_told() {
    let dir = with_demo("clear", 3, 2);
    for part in ["train", "test"] {
        beside_others(&dir, &format!("pictures/{part}"), &format!("wide/{part}"));
    }
    let judged = |images: &str, regions: &str| {
        json(
            &dir,
            &format!("eval --images {images} --methods zero-shot {regions}"),
        )
    };
    let accuracy = |report: &Value| report["methods"][0]["accuracy"].as_f64().unwrap();
    let cut = judged("pictures", "");
    let left = judged("wide", "--region 0,0,50,100");
    let right = judged("wide", "--region 50,0,50,100");
    assert_eq!(accuracy(&left), accuracy(&cut));
    assert_eq!(left["parts"][0]["pictures"], cut["parts"][0]["pictures"]);
    assert!(accuracy(&left) > accuracy(&right) + 0.2, "{left} {right}");
    let both = judged("wide", "--region own=0,0,50,100 --region other=50,0,50,100");
    assert_eq!(both["parts"][0]["pictures"], 48);
    assert!((accuracy(&both) - (accuracy(&left) + accuracy(&right)) / 2.0).abs() < 1e-9);
    let outside = "eval --images wide --methods zero-shot --region 100,0,100,90px";
    dir.fails(outside, 1, "100,0,100,90px ... 192 x 96");

    dir.ok("adapt --images wide --region 0,0,50,100 --views 1 --steps 20 --force -q");
    let told = "warning: the prompt was trained on 0,0,50,100%, and is used on";
    dir.ok("eval --images wide --prompt default --region 50,0,50,100")
        .says(&format!("{told} 50,0,50,100%"));
    dir.ok("classify wide/test --region 50,0,50,100")
        .says(&format!("{told} 50,0,50,100%"));
    dir.ok("classify wide/test").says(&format!("{told} "));
    let same = dir.ok("classify wide/test --region 0,0,50,100");
    assert!(!same.stderr.contains("warning"), "{same}");
}
