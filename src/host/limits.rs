//! How much memory this process may have: what the limit on its addresses and its control groups allow, and whether work
//! can begin with that at all. A C library and a kernel that run out of memory end a program without a word; so it is
//! checked before threads are started and a model is opened.

use std::fs;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What a kind of command takes at least, as measured with the default model (`tests/commands/limits.rs` tries it), in bytes.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TooLow {
    /// Memory that is really used, limited by a control group.
    #[error(
        "the control group of this process may use {} of memory, and {} are needed with {}",
        mebibytes(.0.limit), mebibytes(.0.needed), cores(.0.threads)
    )]
    Resident(Shortage),
    /// Addresses, limited by `ulimit -v`.
    #[error(
        "this process may use {} of addresses (ulimit -v), and {} are needed with {}",
        mebibytes(.0.limit), mebibytes(.0.needed), cores(.0.threads)
    )]
    Addresses(Shortage),
}

/// How much there is and how much is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortage {
    /// In bytes.
    pub limit: u64,
    /// In bytes.
    pub needed: u64,
    /// The threads it was reckoned with.
    pub threads: usize,
    /// Whether one thread could do with what there is.
    pub enough_for_one_thread: bool,
}

/// Prepares the heap for a limit on addresses, and says where a limit is too low to begin. `threads` are the processor
/// cores that will be used.
///
/// # Errors
/// With the limit and what is needed.
pub fn check(need: &Need, threads: usize) -> Result<(), TooLow> {
    let groups = control_groups(Path::new("/"));
    enough_resident(groups, need, threads)?;
    let Some((limit, taken)) = addresses().zip(addresses_taken()) else {
        return Ok(());
    };
    // Arenas would be mapped first, and leave nothing for what is needed.
    if limit.saturating_sub(taken) < need.of_addresses(threads) + ARENA * threads as u64 {
        crate::host::memory::one_arena();
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
    let needed = |threads| need.of_resident(threads);
    limit.map_or(Ok(()), |limit| {
        enough(limit, needed, threads).map_err(TooLow::Resident)
    })
}

fn enough_addresses(limit: u64, taken: u64, need: &Need, threads: usize) -> Result<(), TooLow> {
    let needed = |threads| taken + need.of_addresses(threads);
    enough(limit, needed, threads).map_err(TooLow::Addresses)
}

/// Whether `limit` is what `threads` need.
fn enough(limit: u64, needed: impl Fn(usize) -> u64, threads: usize) -> Result<(), Shortage> {
    if limit >= needed(threads) {
        return Ok(());
    }
    Err(Shortage {
        limit,
        needed: needed(threads),
        threads,
        enough_for_one_thread: needed(1) <= limit,
    })
}

fn cores(threads: usize) -> String {
    match threads {
        1 => "one processor core".into(),
        threads => format!("{threads} processor cores"),
    }
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

/// The addresses that this process has now, in bytes, where the system says (Linux).
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

    /// The limit of a system with these files.
    fn limit_of(files: &[(&str, &str)]) -> Option<u64> {
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
            limit_of(&[
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
            limit_of(&[
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
        assert_eq!(limit_of(&container), Some(64 * MIB));
        assert_eq!(limit_of(&[]), None);
        assert_eq!(limit_of(&[("proc/self/cgroup", "nonsense\n::\n")]), None);
    }

    #[test]
    fn a_limit_that_is_too_low_is_an_error_with_what_is_needed() {
        let short = enough_addresses(100 * MIB, 50 * MIB, &NAMING, 16).unwrap_err();
        assert_eq!(
            short.to_string(),
            "this process may use 100 MiB of addresses (ulimit -v), and 142 MiB are needed with 16 processor cores"
        );
        assert!(matches!(short, TooLow::Addresses(short) if short.enough_for_one_thread));
        assert!(enough_addresses(142 * MIB, 50 * MIB, &NAMING, 16).is_ok());
        let alone = enough_addresses(60 * MIB, 50 * MIB, &NAMING, 1).unwrap_err();
        assert!(matches!(alone, TooLow::Addresses(alone) if !alone.enough_for_one_thread));

        let short = enough_resident(Some(40 * MIB), &TRAINING, 16).unwrap_err();
        assert_eq!(
            short.to_string(),
            "the control group of this process may use 40 MiB of memory, and 82 MiB are needed with 16 processor cores"
        );
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
