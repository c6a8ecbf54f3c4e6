//! Which machine this is: its name, and what tells it from others, also from those whose cards were copied from one image.

use std::fs;
use std::path::Path;

/// What the machine is called in its network.
pub fn name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    // A name with its domain is as long as it is because of others.
    let name = name.split('.').next().unwrap_or_default().trim();
    if name.is_empty() { "box" } else { name }.to_owned()
}

/// 32 hexadecimal digits that are the same at every start, and others on another machine or with another `home`. Nothing of
/// the machine can be read from them.
pub fn id(home: &Path) -> String {
    let mut known = Vec::new();
    for file in ["/etc/machine-id", "/proc/device-tree/serial-number"] {
        known.extend(fs::read(file).unwrap_or_default());
        known.push(0);
    }
    // Copied cards have copied numbers; network adapters do not.
    let adapters = fs::read_dir("/sys/class/net").into_iter().flatten();
    let mut addresses: Vec<String> = adapters
        .flatten()
        .filter(|adapter| adapter.path().join("device").exists())
        .filter_map(|adapter| fs::read_to_string(adapter.path().join("address")).ok())
        .collect();
    addresses.sort();
    known.extend(addresses.concat().into_bytes());
    known.push(0);
    let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    known.extend(home.as_os_str().as_encoded_bytes());
    blake3::derive_key("edge-rlp 2026-11-26 which machine this is", &known)[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_the_same_at_every_start_and_another_with_another_home() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(id(a.path()), id(a.path()));
        assert_ne!(id(a.path()), id(b.path()));
        assert_eq!(id(a.path()).len(), 32);
        assert!(!name().is_empty());
    }
}
