//! How much memory this process may have: what `ulimit -v` and its control groups allow, and whether a command can begin
//! with that at all. A C library and a kernel that run out of memory end a program without a word; so it is looked at
//! before threads are started and a model is opened. It must not know what a command does with its memory.

use std::fs;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What a kind of command takes at least, as measured with the default model (`tests/limits.rs` tries it), in bytes.
pub struct Need {
    /// Memory that is really touched, but for the program's own file.
    resident: u64,
    resident_a_thread: u64,
    /// Addresses beyond those that the process has when it begins.
    addresses: u64,
    addresses_a_thread: u64,
}

/// To name pictures, or to look models over.
pub const NAMING: Need = Need {
    resident: 16 << 20,
    resident_a_thread: 1 << 20,
    addresses: 28 << 20,
    addresses_a_thread: 4 << 20,
};

/// To train on pictures.
pub const TRAINING: Need = Need {
    resident: 18 << 20,
    resident_a_thread: 4 << 20,
    addresses: 32 << 20,
    addresses_a_thread: 8 << 20,
};

/// An arena of glibc's heap takes 128 MiB of addresses for a moment, and then 64, whatever is kept in it.
const ARENA: u64 = 128 << 20;

/// A limit that is too low to begin.
#[derive(Debug, Error)]
#[error("{says}: {cure}")]
pub struct TooLow {
    pub says: String,
    pub cure: String,
}

/// Prepares the heap for a limit on addresses, and tells where a limit is too low to begin. `threads` are the processor
/// cores that will be used.
///
/// # Errors
/// With the limit, what is needed, and the cure.
pub fn check(need: &Need, threads: usize) -> Result<(), TooLow> {
    let groups = control_groups(Path::new("/"));
    enough_resident(groups, need, threads)?;
    let Some((limit, taken)) = addresses().zip(addresses_taken()) else {
        return Ok(());
    };
    // Arenas would be mapped first, and leave nothing for what is needed.
    if limit.saturating_sub(taken) < need.of_addresses(threads) + ARENA * threads as u64 {
        crate::memory::one_arena();
    }
    enough_addresses(limit, taken, need, threads)
}

impl Need {
    fn of_addresses(&self, threads: usize) -> u64 {
        self.addresses + self.addresses_a_thread * threads as u64
    }

    fn of_resident(&self, threads: usize) -> u64 {
        self.resident + self.resident_a_thread * threads as u64
    }
}

fn enough_resident(limit: Option<u64>, need: &Need, threads: usize) -> Result<(), TooLow> {
    let Some(limit) = limit.filter(|limit| *limit < need.of_resident(threads)) else {
        return Ok(());
    };
    let cure = match threads > 1 && need.of_resident(1) <= limit {
        true => "use fewer --threads, or ",
        false => "",
    };
    Err(TooLow {
        says: format!(
            "the control group of this process may use {} of memory, and {} needed with {}",
            mebibytes(limit),
            are(need.of_resident(threads)),
            cores(threads),
        ),
        cure: format!("{cure}give it more (MemoryMax= of its unit, --memory of its container)"),
    })
}

fn enough_addresses(limit: u64, taken: u64, need: &Need, threads: usize) -> Result<(), TooLow> {
    let all = |threads| taken + need.of_addresses(threads);
    if limit >= all(threads) {
        return Ok(());
    }
    let cure = match threads > 1 && all(1) <= limit {
        true => "use fewer --threads, or ",
        false => "",
    };
    Err(TooLow {
        says: format!(
            "this process may use {} of addresses (ulimit -v), and {} needed with {}",
            mebibytes(limit),
            are(all(threads)),
            cores(threads),
        ),
        cure: format!(
            "{cure}say `ulimit -v {}` or more; a control group limits what is really used",
            all(threads).div_ceil(1024),
        ),
    })
}

fn cores(threads: usize) -> String {
    match threads {
        1 => "one processor core".into(),
        threads => format!("{threads} processor cores"),
    }
}

fn are(bytes: u64) -> String {
    format!("{} are", mebibytes(bytes))
}

/// Bytes in MiB, rounded up.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// The bytes that a training step may keep unless it is said: `usual`, or half of what the lowest limit leaves above the
/// least that is needed.
pub fn memory_to_keep(usual: usize, threads: usize) -> usize {
    let resident = control_groups(Path::new("/"));
    let left = resident.map(|limit| limit.saturating_sub(TRAINING.of_resident(threads)));
    let addresses = addresses().zip(addresses_taken()).map(|(limit, taken)| {
        // The threads have been started.
        limit.saturating_sub(taken + TRAINING.addresses)
    });
    let lowest = left.into_iter().chain(addresses).min();
    lowest.map_or(usual, |left| share(left, usual))
}

/// Half of `left`, but no more than `usual`, and something at all: with too little, a step does its work piece by piece.
fn share(left: u64, usual: usize) -> usize {
    usize::try_from(left / 2).map_or(usual, |half| half.clamp(1 << 20, usual))
}

/// The lowest memory limit, in bytes, of the control groups that this process is in (version 2 or 1) and of those that
/// hold them. `root` is `/`, but for tests.
pub fn control_groups(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().flat_map(|line| {
        // As in "0::/box.slice", or "4:cpu,memory:/box" in version 1.
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let (mounted, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            some if some.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        lowest_upwards(&root.join(mounted), group, file)
    });
    limits.min()
}

/// The lowest number in `file` of `group` and of the groups above it, below `mounted`. In a container the group may have
/// another name outside than inside; then only the outermost is there.
fn lowest_upwards(mounted: &Path, group: &str, file: &str) -> Option<u64> {
    let group = PathBuf::from(group.trim_start_matches('/'));
    let limits = group.ancestors().filter_map(|above| {
        let text = fs::read_to_string(mounted.join(above).join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    });
    // Version 1 says "none" by the largest number of pages that there is.
    limits.filter(|limit| *limit < 1 << 62).min()
}

/// The limit on this process's addresses (`ulimit -v`), in bytes.
pub fn addresses() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::As).current;
    #[cfg(not(unix))]
    None
}

/// The addresses that this process has now, in bytes, where the system tells (Linux).
fn addresses_taken() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The limit that a system with these files tells.
    fn told(files: &[(&str, &str)]) -> Option<u64> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        control_groups(dir.path())
    }

    #[test]
    fn the_lowest_limit_of_a_control_group_and_those_above_it_holds() {
        let groups = |own, above| {
            told(&[
                ("proc/self/cgroup", "0::/system.slice/rlp.service\n"),
                ("sys/fs/cgroup/system.slice/rlp.service/memory.max", own),
                ("sys/fs/cgroup/system.slice/memory.max", above),
            ])
        };
        assert_eq!(groups("67108864\n", "max\n"), Some(64 * MIB));
        assert_eq!(groups("max\n", "33554432\n"), Some(32 * MIB));
        assert_eq!(groups("67108864\n", "33554432\n"), Some(32 * MIB));
        assert_eq!(groups("max\n", "max\n"), None);
    }

    #[test]
    fn the_first_version_of_control_groups_and_containers_are_understood() {
        let one = |limit| {
            told(&[
                ("proc/self/cgroup", "5:cpu:/\n4:hugetlb,memory:/box\n0::/\n"),
                ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", limit),
            ])
        };
        assert_eq!(one("67108864\n"), Some(64 * MIB));
        assert_eq!(one("9223372036854771712\n"), None);
        let container = [
            ("proc/self/cgroup", "0::/outside/name\n"),
            ("sys/fs/cgroup/memory.max", "67108864\n"),
        ];
        assert_eq!(told(&container), Some(64 * MIB));
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[("proc/self/cgroup", "nonsense\n::\n")]), None);
    }

    #[test]
    fn a_limit_that_is_too_low_is_told_with_what_is_needed_and_the_cure() {
        let told = enough_addresses(100 * MIB, 50 * MIB, &NAMING, 16)
            .unwrap_err()
            .to_string();
        for word in [
            "100 MiB",
            "142 MiB are needed with 16 processor cores",
            "fewer --threads",
            "ulimit -v 145408",
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(enough_addresses(142 * MIB, 50 * MIB, &NAMING, 16).is_ok());
        let alone = enough_addresses(60 * MIB, 50 * MIB, &NAMING, 1)
            .unwrap_err()
            .to_string();
        assert!(!alone.contains("fewer"), "{alone}");

        let told = enough_resident(Some(40 * MIB), &TRAINING, 16)
            .unwrap_err()
            .to_string();
        for word in ["40 MiB", "82 MiB", "fewer --threads", "MemoryMax="] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(enough_resident(Some(82 * MIB), &TRAINING, 16).is_ok());
        assert!(enough_resident(None, &TRAINING, 16).is_ok());
    }

    #[test]
    fn training_keeps_half_of_what_a_limit_leaves_and_never_nothing() {
        let usual = 256 << 20;
        assert_eq!(share(u64::MAX, usual), usual);
        assert_eq!(share(100 * MIB, usual), 50 << 20);
        assert_eq!(share(0, usual), 1 << 20);
    }
}
