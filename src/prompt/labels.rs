//! Label files: one label a line, checked before anything uses them.

use crate::files;
use crate::visible;
use icu_normalizer::ComposingNormalizer;
use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The most labels of one prompt.
pub const MAX_LABELS: usize = 10_000;
/// The longest label name, and the longest words for one, in bytes.
pub const MAX_LABEL_BYTES: usize = 200;
/// The answer for a picture that shows none of the labels.
pub const UNKNOWN: &str = "unknown";
/// What the name of a label begins with that is never told.
pub const UNTOLD: char = '!';
/// The largest label file that is read: every label at its longest, with room for comments.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// One class: the name that is reported and names folders, and the words the text tower reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// As reported; safe as the name of a folder.
    pub name: String,
    /// As written into the template.
    pub words: String,
}

/// What is wrong with one label.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelFault {
    /// Its name is empty.
    #[error("it has no name")]
    NoName,
    /// There is an equals sign, and no words after it.
    #[error("it has no words for the prompt")]
    NoWords,
    /// It has so many bytes, and [`MAX_LABEL_BYTES`] are allowed.
    #[error("it is {0} bytes long, {MAX_LABEL_BYTES} are allowed")]
    TooLong(usize),
    /// It has a control character, or one that changes the writing direction.
    #[error("it has a control character or an invisible change of writing direction")]
    ControlCharacter,
    /// It has this character, which nobody sees.
    #[error("it has an invisible character, {} (U+{:04X}): type it anew", name_of(*.0), u32::from(*.0))]
    Invisible(char),
    /// It is called [`UNKNOWN`], which is an answer already.
    #[error("\"{UNKNOWN}\" is the answer for none of the labels: call it something else")]
    Unknown,
    /// A command of `--exec`, or whoever else is given the name, would take it for an option.
    #[error(
        "a name must not begin with -, which programs take for an option: write a word before it"
    )]
    LeadingDash,
    /// It cannot name a folder.
    #[error("a name must not begin with a dot or hold / or \\, since it also names a folder")]
    NotAFolderName,
}

/// Why labels cannot be used. Lines count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelsError {
    /// The file cannot be read.
    #[error("cannot read the label file {file}: {source}")]
    Read {
        /// The label file, or where the labels came from.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is larger than any list of labels.
    #[error("the label file {file} is above {} MiB: this is not a list of labels", MAX_FILE_BYTES >> 20)]
    FileTooLarge {
        /// The label file, or where the labels came from.
        file: String,
    },
    /// The file is not UTF-8.
    #[error("{file}, line {line}: this is not UTF-8 text; save the label file as UTF-8")]
    NotText {
        /// The label file, or where the labels came from.
        file: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// A label cannot be used.
    #[error("{file}, line {line}: the label {label:?} cannot be used: {fault}")]
    Fault {
        /// The label file, or where the labels came from.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The label's name.
        label: String,
        /// What is wrong with it.
        fault: LabelFault,
    },
    /// Two lines have the same label.
    #[error(
        "{file}, line {line}: the label {label:?} is already on line {first_line}; remove one of them"
    )]
    Duplicate {
        /// The label file, or where the labels came from.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The earlier line of that label.
        first_line: usize,
        /// The label's name.
        label: String,
    },
    /// Two labels read the same, so that nothing can tell them apart.
    #[error(
        "{file}, line {line}: the label {label:?} reads {words:?} like the one on line {first_line}; give one of them other words, as in \"{label} = some other words\""
    )]
    SameWords {
        /// The label file, or where the labels came from.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The earlier line of those words.
        first_line: usize,
        /// The label's name.
        label: String,
        /// The words of both.
        words: String,
    },
    /// There is no label.
    #[error("{file} holds no label: write one label a line")]
    Empty {
        /// The label file, or where the labels came from.
        file: String,
    },
    /// It is a list of another form than one label a line.
    #[error("{file} looks like {what}: write one label a line, with nothing around it")]
    OtherForm {
        /// The label file, or where the labels came from.
        file: String,
        /// What it looks like.
        what: &'static str,
    },
    /// There is nothing to tell the only label from.
    #[error(
        "{file} gives only one label, {label:?}, and there is nothing to tell it from: write one label a line, at least two"
    )]
    OneLabel {
        /// The label file.
        file: String,
        /// The label's name.
        label: String,
    },
    /// There are more than [`MAX_LABELS`].
    #[error("{file}, line {line}: there are more than {MAX_LABELS} labels; use a shorter list")]
    TooMany {
        /// The label file, or where the labels came from.
        file: String,
        /// The line, counted from 1.
        line: usize,
    },
}

impl Label {
    /// Whether it is never told: its name begins with [`UNTOLD`]. A picture of it is answered as none of the labels.
    pub fn is_untold(&self) -> bool {
        self.name.starts_with(UNTOLD)
    }

    /// Whether both stand for the same words in a prompt.
    pub fn reads_as(&self, other: &Label) -> bool {
        self.words == other.words || normal(&self.words) == normal(&other.words)
    }

    /// A label called `name`. Without `words` the name itself is read; in both, underscores read as spaces.
    ///
    /// # Errors
    /// If either is empty, too long or has a control or an invisible character, or the name cannot name a folder or means
    /// none of the labels.
    pub fn new(name: &str, words: Option<&str>) -> Result<Label, LabelFault> {
        let label = Label::of_prompt(name, words)?;
        for text in [&label.name, &label.words] {
            if let Some(c) = visible::first_hidden(text) {
                return Err(LabelFault::Invisible(c));
            }
        }
        if label.name.starts_with('-') {
            return Err(LabelFault::LeadingDash);
        }
        if same_name(label.name.trim_start_matches(UNTOLD), UNKNOWN) {
            return Err(LabelFault::Unknown);
        }
        Ok(label)
    }

    /// The same for what a prompt file holds, which may be older than some of these rules.
    pub(super) fn of_prompt(name: &str, words: Option<&str>) -> Result<Label, LabelFault> {
        let name = name.trim();
        let words = words
            .unwrap_or(name.trim_start_matches(UNTOLD))
            .replace('_', " ");
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if name.is_empty() {
            return Err(LabelFault::NoName);
        }
        if words.is_empty() {
            return Err(LabelFault::NoWords);
        }
        for text in [name, &words] {
            check_length(text)?;
        }
        if name.starts_with('.') || name.contains(['/', '\\']) {
            return Err(LabelFault::NotAFolderName);
        }
        Ok(Label {
            name: name.into(),
            words,
        })
    }
}

/// Reads the label file at `path`: one label a line, blank lines and lines that begin with `#` skipped,
/// optionally `label = words for the prompt`. A byte order mark and any line ends are tolerated.
///
/// # Errors
/// If it cannot be read, is neither UTF-8 nor UTF-16 that begins with its mark, or [`parse`] refuses what it holds.
pub fn read(path: &Path) -> Result<Vec<Label>, LabelsError> {
    let file = || path.display().to_string();
    let bytes = files::read(path, MAX_FILE_BYTES).map_err(|source| LabelsError::Read {
        file: file(),
        source,
    })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(LabelsError::FileTooLarge { file: file() });
    }
    match text_of(&bytes) {
        Ok(text) => {
            let mut labels = parse(&text, &file())?;
            match labels.pop() {
                Some(only) if labels.is_empty() => Err(LabelsError::OneLabel {
                    file: file(),
                    label: only.name,
                }),
                last => {
                    labels.extend(last);
                    Ok(labels)
                }
            }
        }
        Err(valid) => {
            let line = 1 + bytes[..valid].iter().filter(|&&byte| byte == b'\n').count();
            Err(LabelsError::NotText { file: file(), line })
        }
    }
}

/// The text that `bytes` are: UTF-8, or UTF-16 where they begin with the mark that says so, as editors on Windows save it; or how
/// many of them are text.
fn text_of(bytes: &[u8]) -> Result<Cow<'_, str>, usize> {
    let word: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, 0, 0, ..] => return Err(0),
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        // No text has zeros, but UTF-16 without its mark.
        _ if bytes.contains(&0) => return Err(0),
        _ => {
            let text = std::str::from_utf8(bytes).map_err(|error| error.valid_up_to())?;
            return Ok(Cow::Borrowed(text));
        }
    };
    let words = bytes.chunks(2).map(|pair| match *pair {
        [first, second] => word([first, second]),
        _ => 0xdfff,
    });
    let text: Result<String, _> = char::decode_utf16(words).collect();
    text.map(Cow::Owned).map_err(|_| 0)
}

/// Reads labels from `text`, which came from `file`. At least one label comes back; whether one class is enough
/// is for the caller to say.
///
/// # Errors
/// With file and line: a label that cannot be used, is there twice or reads like another; no label, or too many; text that is
/// a list of another form.
pub fn parse(text: &str, file: &str) -> Result<Vec<Label>, LabelsError> {
    let file = || file.to_owned();
    let text = text.trim_start_matches('\u{feff}');
    // Of any system: those of old Macs end with a carriage return alone.
    let text = &text.replace("\r\n", "\n").replace('\r', "\n");
    if let Some(what) = other_form(text) {
        return Err(LabelsError::OtherForm { file: file(), what });
    }
    let mut labels: Vec<Label> = Vec::new();
    let mut line_of_name = HashMap::new();
    let mut line_of_words = HashMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if labels.len() == MAX_LABELS {
            return Err(LabelsError::TooMany { file: file(), line });
        }
        let (name, words) = match text.split_once('=') {
            Some((name, words)) => (name.trim(), Some(words)),
            None => (text, None),
        };
        let label = Label::new(name, words).map_err(|fault| {
            let shown = if name.is_empty() { text } else { name };
            let label = shown.chars().take(60).collect();
            LabelsError::Fault {
                file: file(),
                line,
                label,
                fault,
            }
        })?;
        if let Some(first_line) = line_of_name.insert(normal(&label.name), line) {
            return Err(LabelsError::Duplicate {
                file: file(),
                line,
                first_line,
                label: label.name,
            });
        }
        if let Some(first_line) = line_of_words.insert(normal(&label.words), line) {
            let Label { name: label, words } = label;
            return Err(LabelsError::SameWords {
                file: file(),
                line,
                first_line,
                label,
                words,
            });
        }
        labels.push(label);
    }
    if labels.is_empty() {
        Err(LabelsError::Empty { file: file() })
    } else {
        Ok(labels)
    }
}

/// A name as names are compared, of labels and folders alike: canonically composed (Unicode NFC), of one case, with spaces
/// for underscores, and no spaces at its ends or doubled.
pub fn normal(name: &str) -> String {
    let nfc = ComposingNormalizer::new_nfc();
    // Lower case may be another form again, as that of a dotted capital I is.
    let lower = nfc.normalize(name).to_lowercase();
    let lower = nfc.normalize(&lower);
    let words = lower.split(|c: char| c == '_' || c.is_whitespace());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where each of `labels` stands among `own`: the label of the very same name, or else the first that [reads the same](same_name).
pub fn places_among(own: &[Label], labels: &[Label]) -> Vec<Option<usize>> {
    // The first of a name comes last into the map, and stays.
    let places = || own.iter().enumerate().rev();
    let exact: HashMap<&str, usize> = places()
        .map(|(place, label)| (label.name.as_str(), place))
        .collect();
    // Names are mostly the very same: at a start of ten thousand labels none need be read closely.
    let alike: LazyCell<HashMap<String, usize>, _> = LazyCell::new(|| {
        places()
            .map(|(place, label)| (normal(&label.name), place))
            .collect()
    });
    let place = |label: &Label| {
        let exact = exact.get(label.name.as_str());
        exact.or_else(|| alike.get(&normal(&label.name))).copied()
    };
    labels.iter().map(place).collect()
}

/// Whether both lists hold the same labels, in whatever order: names that read the same, with words that do.
pub fn same_labels(own: &[Label], labels: &[Label]) -> bool {
    let places = places_among(own, labels).into_iter().zip(labels);
    let found: HashSet<usize> = places
        .filter_map(|(place, label)| place.filter(|&place| own[place].reads_as(label)))
        .collect();
    found.len() == own.len() && found.len() == labels.len()
}

/// Whether two names mean one label or folder.
pub fn same_name(a: &str, b: &str) -> bool {
    a == b || normal(a) == normal(b)
}

/// Labels as a label file that [`parse`] reads back; those that came from one, or from a folder whose name begins with no
/// `#` and holds no `=`.
pub fn to_text(labels: &[Label]) -> String {
    let line = |Label { name, words }: &Label| match Label::new(name, None) {
        Ok(plain) if plain.words == *words => format!("{name}\n"),
        _ => format!("{name} = {words}\n"),
    };
    labels.iter().map(line).collect()
}

/// Text that people read and tell from other text: not too long, and without what nobody sees.
pub(super) fn check_text(text: &str) -> Result<(), LabelFault> {
    check_length(text)?;
    match visible::first_hidden(text) {
        Some(c) => Err(LabelFault::Invisible(c)),
        None => Ok(()),
    }
}

fn check_length(text: &str) -> Result<(), LabelFault> {
    if text.len() > MAX_LABEL_BYTES {
        return Err(LabelFault::TooLong(text.len()));
    }
    if text
        .chars()
        .any(|c| c.is_control() || is_direction_override(c))
    {
        return Err(LabelFault::ControlCharacter);
    }
    Ok(())
}

/// What lists of labels look like that are not one label a line, if `text` is one of them.
fn other_form(text: &str) -> Option<&'static str> {
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let first = lines.first()?;
    if first.starts_with("{\\rtf") {
        return Some("a document of a word processor");
    }
    if first.starts_with('[') || first.starts_with('{') {
        return Some("JSON");
    }
    let lower = first.to_lowercase();
    if ["<?xml", "<!", "<html"]
        .iter()
        .any(|start| lower.starts_with(start))
    {
        return Some("XML or a page of the web");
    }
    // What a label looks like, not the words behind it: 0 = zero is a label, and so is * = a star.
    let name = |line: &&str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let lines: Vec<String> = lines.iter().map(name).collect();
    let all = |of: &dyn Fn(&str) -> bool| !lines.is_empty() && lines.iter().all(|line| of(line));
    // `names:` above numbers or dashes is what detectors are trained with.
    if *first == "---"
        || (lines.len() > 1 && first.ends_with(':') && !first.contains('='))
        || all(&|line| line.starts_with("- "))
    {
        return Some("YAML");
    }
    if all(&|line| ["* ", "• "].iter().any(|mark| line.starts_with(mark))) {
        return Some("labels with a mark before each");
    }
    if all(&|line| line.len() > 1 && line.starts_with('|') && line.ends_with('|')) {
        return Some("a table");
    }
    let numbered = |(from, separator): (usize, char)| {
        (from..).zip(&lines).all(|(number, line)| {
            let rest = line.strip_prefix(&number.to_string());
            rest.is_some_and(|rest| rest.starts_with(separator))
        })
    };
    // 1 euro and 2 euro are labels.
    let ways = [(0, ' '), (0, ':'), (0, '.'), (1, ':'), (1, '.'), (1, ')')];
    if lines.len() > 1 && ways.into_iter().any(numbered) {
        return Some("labels with their numbers before them");
    }
    if all(&|line| {
        line.len() > 1 && line.starts_with('"') && line.trim_end_matches(',').ends_with('"')
    }) {
        return Some("a list of quoted texts");
    }
    let separated = [
        (',', "labels with commas between them"),
        (';', "labels with semicolons between them"),
        ('\t', "labels with tabs between them"),
        ('|', "labels with bars between them"),
    ];
    // A comma may be a part of a label, but hardly of the only one, nor of each without a space behind it.
    let (_, what) = separated
        .into_iter()
        .find(|&(separator, _)| match &lines[..] {
            [only] => only.contains(separator),
            _ => all(&|line| line.contains(separator) && !line.contains(&format!("{separator} "))),
        })?;
    Some(what)
}

/// What an invisible character is called.
fn name_of(c: char) -> &'static str {
    match c {
        '\u{ad}' => "a soft hyphen",
        '\u{200b}' => "a zero-width space",
        '\u{200c}' => "a zero-width non-joiner",
        '\u{200d}' => "a zero-width joiner",
        '\u{200e}' | '\u{200f}' | '\u{61c}' => "a mark of writing direction",
        '\u{2028}' | '\u{2029}' => "a separator of lines",
        '\u{2060}' => "a word joiner",
        '\u{feff}' => "a zero-width no-break space",
        _ => "one that takes no room",
    }
}

/// Characters that reorder the text around them, with which one label can be made to look like another.
fn is_direction_override(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
