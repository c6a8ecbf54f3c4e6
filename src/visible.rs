//! Text that comes from outside (names of files, models and nodes, answers of cameras, labels), written so that whoever reads
//! it sees all of it: a line end forges no line, an escape sequence reaches no terminal, and nothing turns the direction of
//! writing or takes no room.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` with everything that cannot be seen written out as Rust writes it: `\n`, `\u{1b}`, `\u{202e}`. What letters of some
/// scripts, and emoji, need between them stays.
pub fn shown(text: &str) -> Cow<'_, str> {
    // What is nearly always the case costs next to nothing.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || first_hidden(text).is_none() {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for_each(text, |letter, hidden| {
        if hidden {
            // Rust writes these as they are.
            match letter {
                '\0' | '\t' | '\n' | '\r' => safe.extend(letter.escape_default()),
                _ => {
                    let _ = write!(safe, "{}", letter.escape_unicode());
                }
            }
        } else {
            safe.push(letter);
        }
    });
    safe.into()
}

/// A field of comma-separated values: what cannot be seen is written out, nothing is taken for a formula by a spreadsheet,
/// and quotes stand where they must (RFC 4180).
pub fn csv_field(text: &str) -> String {
    let mut field = shown(text).into_owned();
    if field.starts_with(['=', '+', '-', '@']) {
        field.insert(0, '\'');
    }
    if field.contains([',', '"', ';']) {
        field = format!("\"{}\"", field.replace('"', "\"\""));
    }
    field
}

/// The first character of `text` that cannot be seen where it stands.
pub fn first_hidden(text: &str) -> Option<char> {
    let mut first = None;
    for_each(text, |letter, hidden| {
        if hidden {
            first = first.or(Some(letter));
        }
    });
    first
}

/// Calls `see` with each character, and whether it cannot be seen where it stands.
fn for_each(text: &str, mut see: impl FnMut(char, bool)) {
    let mut before = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let hidden = match letter {
            // Joiners shape Arabic, Indic and Persian words, and families of emoji.
            '\u{200c}' | '\u{200d}' => !(joins(before) && joins(letters.peek().copied())),
            // One of these chooses how the character before it looks.
            '\u{fe00}'..='\u{fe0f}' => !takes_variation(before),
            _ => is_hidden(letter),
        };
        see(letter, hidden);
        before = Some(letter);
    }
}

fn joins(letter: Option<char>) -> bool {
    letter.is_some_and(|letter| {
        // A variation selector stands between an emoji and a joiner.
        let selector = matches!(letter, '\u{fe0f}');
        !letter.is_ascii() && !letter.is_whitespace() && (selector || !is_hidden(letter))
    })
}

fn takes_variation(letter: Option<char>) -> bool {
    // Digits, # and * become keys.
    letter.is_some_and(|letter| {
        matches!(letter, '0'..='9' | '#' | '*')
            || !letter.is_ascii() && !letter.is_whitespace() && !is_hidden(letter)
    })
}

/// Whether a character controls a terminal, ends a line, turns the direction of writing or takes no room, wherever it
/// stands: the control characters, and those that Unicode says to show nothing for (`Default_Ignorable_Code_Point`) or calls
/// format characters or separators of lines.
pub fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{34f}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{fffe}'..='\u{ffff}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Writes JSON as serde_json does in one line, but with escapes for what cannot be seen: whoever reads the JSON gets the same
/// text, and whoever looks at it on a terminal sees it.
#[derive(Debug, Default)]
pub struct VisibleJson;

impl serde_json::ser::Formatter for VisibleJson {
    fn write_string_fragment<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        let mut from = 0;
        for (at, letter) in fragment
            .char_indices()
            .filter(|(_, letter)| is_hidden(*letter))
        {
            writer.write_all(&fragment.as_bytes()[from..at])?;
            for unit in letter.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            from = at + letter.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[from..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize as _;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        for (text, seen) in [
            ("a b.png", "a b.png"),
            ("a\nb\tc\r\0", "a\\nb\\tc\\r\\u{0}"),
            ("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}"),
            ("\u{9d}52;c;\u{9c}\u{7f}", "\\u{9d}52;c;\\u{9c}\\u{7f}"),
            ("gpj\u{202e}exe", "gpj\\u{202e}exe"),
            ("cat\u{200b}", "cat\\u{200b}"),
            (
                "\u{feff}x\u{ad}y\u{2028}z\u{e0041}",
                "\\u{feff}x\\u{ad}y\\u{2028}z\\u{e0041}",
            ),
            ("a\u{200d}b\u{fe0f}", "a\\u{200d}b\\u{fe0f}"),
            ("猫\u{200d}", "猫\\u{200d}"),
        ] {
            assert_eq!(shown(text), seen, "{text:?}");
            assert_eq!(shown(&shown(text)), seen, "twice is once: {text:?}");
        }
    }

    #[test]
    fn every_script_and_emoji_stay_as_they_are() {
        for text in [
            "消火栓",
            "название",
            "cafe\u{301}",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "1\u{fe0f}\u{20e3}",
            "ทดสอบ",
            "عربى",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn csv_fields_are_quoted_only_where_they_must_be_and_are_no_formulas() {
        assert_eq!(csv_field("a b.png"), "a b.png");
        assert_eq!(csv_field("a,\"b\".png"), "\"a,\"\"b\"\".png\"");
        assert_eq!(csv_field("=1+1"), "'=1+1");
        for start in ['=', '+', '-', '@'] {
            assert!(csv_field(&format!("{start}x")).starts_with('\''));
        }
        assert_eq!(csv_field("a\nb"), "a\\nb");
        assert_eq!(csv_field("\t=x"), "\\t=x");
    }

    #[test]
    fn json_is_the_same_text_and_all_of_it_is_seen() {
        let text = "a\"\\\n\u{1b}\u{9d}\u{202e}\u{200d}猫\u{e0041}\u{7f}é";
        let mut bytes = Vec::new();
        let mut writer = serde_json::Serializer::with_formatter(&mut bytes, VisibleJson);
        text.serialize(&mut writer).unwrap();
        let json = String::from_utf8(bytes).unwrap();
        assert!(!json.chars().any(is_hidden), "{json:?}");
        assert!(
            json.contains("\\udb40\\udc41") && json.contains('猫'),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
