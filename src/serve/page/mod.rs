//! The files of the page, inside the program. There is no build step: these are what a browser gets.

/// What a browser takes a module of the page for.
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and content of each file.
pub const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("style.css"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    (
        "/texts.json",
        "application/json",
        include_str!("texts.json"),
    ),
    ("/app.js", SCRIPT, include_str!("app.js")),
    ("/state.js", SCRIPT, include_str!("state.js")),
    ("/api.js", SCRIPT, include_str!("api.js")),
    ("/dom.js", SCRIPT, include_str!("dom.js")),
    ("/live.js", SCRIPT, include_str!("live.js")),
    ("/regions.js", SCRIPT, include_str!("regions.js")),
    ("/teach.js", SCRIPT, include_str!("teach.js")),
    ("/gallery.js", SCRIPT, include_str!("gallery.js")),
    ("/train.js", SCRIPT, include_str!("train.js")),
    ("/advice.js", SCRIPT, include_str!("advice.js")),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    fn texts() -> BTreeMap<String, BTreeMap<String, Value>> {
        serde_json::from_str(include_str!("texts.json")).unwrap()
    }

    #[test]
    fn every_language_has_every_text() {
        let texts = texts();
        let english: Vec<&String> = texts["en"].keys().collect();
        for (language, texts) in &texts {
            assert_eq!(texts.keys().collect::<Vec<_>>(), english, "{language}");
        }
    }

    /// What all files of the program say, as one line: their strings may go on in the next one.
    fn written(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                written(&path, all);
            } else if path.extension().is_some_and(|of| of == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().map(|line| line.trim().trim_end_matches('\\'));
                all.extend(lines);
                all.push('\n');
            }
        }
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn what_is_translated_of_the_operating_system_is_what_it_says() {
        let codes = 1..=133;
        let says: Vec<String> = codes
            .map(|code| std::io::Error::from_raw_os_error(code).to_string())
            .collect();
        let texts = texts();
        let translated = texts["de"]["system"].as_object().unwrap().keys();
        let translated: Vec<&String> = translated
            .filter(|said| said.contains("os error"))
            .collect();
        assert!(translated.len() > 10);
        for said in translated {
            assert!(says.contains(said), "{said}");
        }
    }

    #[test]
    fn a_sentence_that_is_translated_is_one_that_the_program_writes() {
        let mut all = String::new();
        written(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        let all = all.replace("\\\"", "\"").replace("\\\\", "\\");
        let texts = texts();
        let sentences = texts["de"]["said"].as_object().unwrap();
        assert!(sentences.len() > 50);
        for sentence in sentences.keys() {
            let mut parts = sentence.split(['{', '}']).step_by(2);
            // The quotes around a place are those of `{:?}`.
            let missing = parts.find(|part| !all.contains(part.trim_matches('"')));
            assert_eq!(missing, None, "{sentence}");
        }
    }
}
