use super::*;

fn refusal(text: &str) -> String {
    parse(text, "labels.txt").unwrap_err().to_string()
}

#[test]
fn a_label_that_is_never_told_reads_as_any_other() {
    let labels = parse("mug\n!empty_shelf\n!other = something else\n", "x").unwrap();
    let words: Vec<&str> = labels.iter().map(|label| label.words.as_str()).collect();
    assert_eq!(words, ["mug", "empty shelf", "something else"]);
    let untold: Vec<bool> = labels.iter().map(Label::is_untold).collect();
    assert_eq!(untold, [false, true, true]);
    assert_eq!(labels[1].name, "!empty_shelf");
    assert!(Label::new("!", None).is_err() && Label::new("!unknown", None).is_err());
    assert!(parse("mug\n!mug\n", "x").is_err());
}

#[test]
fn comments_words_underscores_and_windows_files_are_understood() {
    let text =
        "\u{feff}# shelf 3\r\n\r\n  fire_extinguisher\r\nok = a closed_door \r\nschraube\r\n";
    let labels = parse(text, "labels.txt").unwrap();
    let pairs: Vec<_> = labels
        .iter()
        .map(|label| (label.name.as_str(), label.words.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("fire_extinguisher", "fire extinguisher"),
            ("ok", "a closed door"),
            ("schraube", "schraube")
        ]
    );
}

#[test]
fn labels_written_out_are_read_back() {
    let text = "fire_extinguisher\nok = a closed door\n";
    let labels = parse(text, "labels.txt").unwrap();
    assert_eq!(to_text(&labels), text);
    assert_eq!(parse(&to_text(&labels), "labels.txt").unwrap(), labels);
}

#[test]
fn one_class_is_returned_and_none_is_refused() {
    assert_eq!(parse("猫", "labels.txt").unwrap().len(), 1);
    assert_eq!(
        refusal("# nothing\n\n"),
        "labels.txt holds no label: write one label a line"
    );
}

#[test]
fn duplicates_name_both_lines() {
    assert!(
        refusal("cat\ndog\ncat\n")
            .starts_with("labels.txt, line 3: the label \"cat\" is already on line 1")
    );
    let message = refusal("red_cup\n# again\nRed cup\n");
    assert!(
        message.starts_with("labels.txt, line 3") && message.contains("line 1"),
        "{message}"
    );
}

#[test]
fn labels_that_would_escape_a_folder_or_a_line_are_refused() {
    for bad in [
        "../etc",
        ".hidden",
        "a/b",
        "a\\b",
        "a\u{1b}[2J",
        "a\u{202e}b",
        "-rf",
        "--help",
        "cat\u{200b}",
        "a\u{200d}b",
        "= words",
        "a =",
        "___",
    ] {
        assert!(
            refusal(&format!("cat\n{bad}\n")).starts_with("labels.txt, line 2"),
            "{bad:?}"
        );
    }
    assert!(parse("a.b\nc..d\nС кириллицей", "labels.txt").is_ok());
}

/// It was shown as the label "".
#[test]
fn a_line_without_a_name_is_shown_whole() {
    let message = refusal("cat\n=1+1\n");
    assert!(message.contains("\"=1+1\""), "{message}");
}

#[test]
fn lists_of_other_forms_are_told_what_they_look_like() {
    for (text, what) in [
        ("mug, bottle, key\n", "commas"),
        ("mug,bottle,key", "commas"),
        ("mug;bottle", "semicolons"),
        ("0,mug\n1,bottle\n", "commas"),
        ("mug\tbottle\tkey", "tabs"),
        ("[\"mug\",\"bottle\"]", "JSON"),
        ("{\n  \"labels\": []\n}", "JSON"),
        ("- mug\n- bottle\n", "YAML"),
        ("names:\n  0: mug\n  1: bottle\n", "YAML"),
        ("# coco\nnames:\n- mug\n", "YAML"),
        ("0 mug\n1 bottle\n2 key\n", "numbers before them"),
        ("0: mug\n1: bottle\n", "numbers before them"),
        ("1. mug\n2. bottle\n", "numbers before them"),
        ("1) mug\n2) bottle\n", "numbers before them"),
        ("\"mug\",\n\"bottle\"\n", "quoted"),
        ("<html>", "XML"),
        ("{\\rtf1\\ansi mug\\par key}", "a word processor"),
        ("* mug\n* key\n", "a mark before each"),
        ("| label |\n|---|\n| mug |\n", "a table"),
    ] {
        let message = refusal(text);
        assert!(
            message.contains("looks like") && message.contains(what),
            "{text:?}: {message}"
        );
        assert!(message.contains("one label a line"), "{message}");
    }
    for fine in [
        "screw, M4\nnut\n",
        "1 euro\n2 euro\n",
        "0 mm\n5 mm\n",
        "ok = a closed, red door\nnot ok = an open, red door",
    ] {
        assert_eq!(parse(fine, "labels.txt").unwrap().len(), 2, "{fine}");
    }
}

#[test]
fn carriage_returns_alone_end_lines() {
    let labels = parse("mug\rbottle\rkey", "labels.txt").unwrap();
    assert_eq!(labels.len(), 3);
    assert_eq!(
        (labels[0].name.as_str(), labels[2].words.as_str()),
        ("mug", "key")
    );
    assert!(refusal("mug\r\rmug\r").contains("line 3"));
}

#[test]
fn names_that_look_the_same_are_one_name() {
    // Composed and decomposed, as Macs write the names of folders.
    assert!(same_name("caf\u{e9}", "Cafe\u{301}"));
    assert!(same_name("fire_extinguisher", "Fire  Extinguisher"));
    assert!(!same_name("cup", "cups"));
    assert!(refusal("caf\u{e9}\ncafe\u{301}\n").contains("already on line 1"));
    assert!(refusal("mug\nMug\n").contains("already on line 1"));
    assert_eq!(normal("\u{130}"), normal("i\u{307}"));
}

#[test]
fn invisible_characters_and_the_answer_for_none_are_no_labels() {
    for (label, words) in [
        ("mu\u{200b}g", "a zero-width space (U+200B)"),
        ("mug\u{feff}x", "a zero-width no-break space"),
        ("mu\u{ad}g", "a soft hyphen"),
        ("Unknown", "none of the labels"),
        ("unknown = something else", "none of the labels"),
    ] {
        let message = refusal(&format!("key\n{label}\n"));
        assert!(
            message.contains("line 2") && message.contains(words),
            "{message}"
        );
    }
    // Prompts that are older than the rule are still read.
    assert!(Label::of_prompt("unknown", None).is_ok());
    assert!(Label::of_prompt("a\u{200d}b", None).is_ok());
}

#[test]
fn limits_hold_at_their_edge() {
    let longest = "x".repeat(MAX_LABEL_BYTES);
    assert!(parse(&longest, "labels.txt").is_ok());
    assert!(refusal(&format!("{longest}x")).contains("201 bytes"));
    let many: String = (0..MAX_LABELS).map(|i| format!("label {i}\n")).collect();
    assert_eq!(parse(&many, "labels.txt").unwrap().len(), MAX_LABELS);
    assert!(refusal(&(many + "one more")).contains("line 10001"));
}

#[test]
fn files_that_cannot_be_read_say_where_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.txt");
    assert!(read(&path).unwrap_err().to_string().contains("labels.txt"));
    std::fs::write(&path, b"cat\n\xff\xfe\n").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("line 2"));
    std::fs::write(&path, vec![b'#'; MAX_FILE_BYTES as usize + 1]).unwrap();
    assert!(matches!(read(&path), Err(LabelsError::FileTooLarge { .. })));
    std::fs::write(&path, "cat\n").unwrap();
    let message = read(&path).unwrap_err().to_string();
    assert!(message.contains("one label, \"cat\""), "{message}");
    std::fs::write(&path, "cat\ndog\n").unwrap();
    assert_eq!(read(&path).unwrap().len(), 2);
}

/// What editors on Windows call Unicode was refused.
#[test]
fn a_file_in_utf_16_with_its_mark_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels.txt");
    let text = "\u{feff}Schl\u{fc}ssel\r\nmug = a \u{1f600} mug\r\n";
    let of = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    for bytes in [of(u16::to_le_bytes), of(u16::to_be_bytes)] {
        std::fs::write(&path, &bytes).unwrap();
        let labels = read(&path).unwrap();
        assert_eq!(labels[0].name, "Schl\u{fc}ssel");
        assert_eq!(labels[1].words, "a \u{1f600} mug");
        // Half a character, no mark, and four bytes each.
        let wide = text
            .chars()
            .flat_map(|letter| u32::from(letter).to_le_bytes());
        for bad in [
            &bytes[..bytes.len() - 1],
            &bytes[2..],
            &wide.collect::<Vec<u8>>(),
        ] {
            std::fs::write(&path, bad).unwrap();
            let message = read(&path).unwrap_err().to_string();
            assert!(
                message.contains("save the label file as UTF-8"),
                "{message}"
            );
        }
    }
}

/// Found by fuzzing: such a file was not read again once it had been written down.
#[test]
fn a_mark_may_be_a_label_itself() {
    let found = parse("*\n", "labels.txt").unwrap();
    let again = parse("* = *\n", "labels.txt").unwrap();
    assert_eq!(found, again);
    for text in [
        "* = a star\n• = a dot\n",
        "0 = zero\n1 = one\n",
        "note = a note:\nbook\n",
        "\"a = b\"\n",
    ] {
        assert!(parse(text, "labels.txt").is_ok(), "{text}");
    }
}
