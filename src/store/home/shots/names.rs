//! Labels as names of folders, and back.

use super::{LABELS_FILE, REGIONS_FILE};

/// Names that mean devices on Windows, with any extension.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// The name of a label's folder on any file system, memory cards included: what some of them refuse, or what means
/// something else here, is written as its bytes, `%3F` for a question mark.
pub(super) fn folder_name(label: &str) -> String {
    let lower = label.to_lowercase();
    let stem = lower.split('.').next().unwrap_or_default();
    let taken = [LABELS_FILE, REGIONS_FILE].contains(&&*lower) || DEVICES.contains(&stem);
    let last = label.chars().count().saturating_sub(1);
    let mut name = String::with_capacity(label.len());
    for (place, c) in label.chars().enumerate() {
        let refused = c.is_control() || "<>:\"/\\|?*%".contains(c);
        let at_an_end = (place == 0 && (c == '.' || taken)) || (place == last && ". ".contains(c));
        if refused || at_an_end {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        } else {
            name.push(c);
        }
    }
    name
}

/// The label of a folder; one that [`folder_name`] did not make means what it says.
pub(crate) fn label_of(folder: &str) -> String {
    let mut bytes = Vec::with_capacity(folder.len());
    let mut rest = folder.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%');
        let decoded = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = match decoded {
            Some(_) => &after[2..],
            None => after,
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| folder.to_owned())
}
