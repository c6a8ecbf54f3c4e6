//! The box itself: processor, kernels, memory, heat, power, clock. It reads what Linux says under /proc and /sys; what is
//! missing there is not reported.

use super::Finding;
use crate::cli::cure;
use crate::host::limits;
use crate::host::temperature::{SLOWED, Thermometer, UNDER_VOLTAGE};
use crate::ops::Kernels;
use crate::ops::gemm::Refused;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Below so much free memory, adapting the default model (about 50 MB) may not fit.
const TIGHT_MEMORY: u64 = 96 << 20;
/// A Raspberry Pi slows down from 80 degrees on, and most other boxes not much later.
const HOT: f32 = 80.0;

/// Where the system's files lie: `/`, but for tests.
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    pub fn this() -> Machine {
        Machine::at("/")
    }

    pub fn at(root: impl Into<PathBuf>) -> Machine {
        Machine { root: root.into() }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The text of a small file of the system, without the zero byte and line end that some have.
    fn read(&self, below: impl AsRef<Path>) -> Option<String> {
        let bytes = fs::read(self.root.join(below)).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_matches(['\0', '\n', ' ']).to_owned())
    }

    /// What box it is and what its processor can do.
    pub fn processor(&self) -> Option<Finding> {
        let information = self.read("proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = information.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let name = self
            .read("proc/device-tree/model")
            .or_else(|| field("model name"))
            .or_else(|| field("Hardware"));
        let name = name.unwrap_or_else(|| format!("a {} machine", std::env::consts::ARCH));
        let features = features();
        let can = if features.is_empty() {
            "no vector instructions that edge-rlp asks for".to_owned()
        } else {
            features.join(", ")
        };
        Some(Finding::fine("processor", format!("{name}; {can}")))
    }

    /// Memory that is free, and the limit this process is under.
    pub fn memory(&self) -> Option<Finding> {
        let meminfo = self.read("proc/meminfo")?;
        let kib = |name: &str| -> Option<u64> {
            let line = meminfo.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let (total, mut free) = (kib("MemTotal:")? << 10, kib("MemAvailable:")? << 10);
        let limit = limits::control_groups(&self.root).filter(|limit| *limit < total);
        if let Some(limit) = limit {
            free = free.min(limit);
        }
        let limit = limit.map_or(String::new(), |limit| {
            format!(", and this process may use {}", mebibytes(limit))
        });
        let addresses = limits::addresses().map_or(String::new(), |limit| {
            format!(", {} of addresses", mebibytes(limit))
        });
        let says = format!(
            "{} of {} free{limit}{addresses}",
            mebibytes(free),
            mebibytes(total)
        );
        Some(if free < TIGHT_MEMORY {
            Finding::warning(
                "memory",
                says,
                "stop other programs or add swap; `adapt --memory 64` makes training use less",
            )
        } else {
            Finding::fine("memory", says)
        })
    }

    /// The hottest of the thermal zones.
    pub fn heat(&self) -> Option<Finding> {
        let hottest = Thermometer::at(&self.root).read().hottest?;
        let says = format!("{hottest:.0} °C");
        Some(if hottest < HOT {
            Finding::fine("heat", says)
        } else {
            Finding::warning(
                "heat",
                format!("{says}: the processor slows down to protect itself"),
                "give the box a heat sink, a fan or air; `--threads 1` makes less heat",
            )
        })
    }

    /// What a Raspberry Pi's firmware says of its supply and of slowing down (`vcgencmd get_throttled`).
    pub fn power(&self) -> Option<Finding> {
        let bits = Thermometer::at(&self.root).read().firmware?;
        // The upper half says the same of the time since the box was started.
        let (now, before) = (bits & 0xffff, bits >> 16);
        let supply =
            "use a supply and a cable made for this box: files are lost when the voltage drops";
        Some(if now & UNDER_VOLTAGE != 0 {
            Finding::warning("power", "the supply voltage is too low", supply)
        } else if now & SLOWED != 0 {
            let cure = "give the box a heat sink, a fan or air";
            Finding::warning("power", "the processor is being slowed down", cure)
        } else if before & UNDER_VOLTAGE != 0 {
            let says = "the supply voltage has been too low since the box was started";
            Finding::warning("power", says, supply)
        } else {
            Finding::fine("power", "supply voltage is steady")
        })
    }
}

/// The program itself.
pub fn program() -> Finding {
    let parts = [
        ("cameras", cfg!(feature = "camera")),
        ("downloads", cfg!(feature = "pull")),
    ];
    let without: Vec<&str> = parts.iter().filter(|part| !part.1).map(|p| p.0).collect();
    let without = if without.is_empty() {
        String::new()
    } else {
        format!(", built without {}", without.join(" and "))
    };
    Finding::fine(
        "program",
        format!(
            "edge-rlp {} for {} {}{without}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH,
        ),
    )
}

/// A limit of the system under which the program's commands do not begin.
pub fn limits(threads: usize) -> Option<Finding> {
    let too_low = limits::check(&limits::TRAINING, threads).err()?;
    Some(Finding::problem(
        "limits",
        too_low.to_string(),
        cure(&too_low),
    ))
}

/// Which kernels this machine runs fastest, of those that are exact, and which are not used; checked and measured now
/// where no earlier run has kept it.
pub fn kernels() -> Vec<Finding> {
    let kernels = Kernels::chosen();
    let float = kernels.float();
    let chosen = match kernels.integer() {
        Some(integer) => format!("checked, exact; f32 {float}, int8 {integer}"),
        None => {
            format!(
                "checked, exact; f32 {float}, also for int8 models: integers are slower on this processor"
            )
        }
    };
    let mut findings = vec![Finding::fine("kernels", chosen)];
    findings.extend(kernels.refused().iter().map(refused));
    findings
}

/// A kernel that is not used: nobody has to do anything about it, but one that failed its check should be heard of.
fn refused(refused: &Refused) -> Finding {
    let Refused { kernel, why, .. } = refused;
    if refused.failed() {
        Finding::warning(
            "kernels",
            format!("{kernel} failed its check and is not used: {why}"),
            "nothing has to be done here, but please report it with the lines above",
        )
    } else {
        Finding::fine("kernels", format!("{kernel} is not used: {why}"))
    }
}

/// Cores that this process may use, and does.
pub fn threads(used: usize) -> Finding {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    Finding::fine("threads", format!("{used} of {all} cores in use"))
}

/// When this program's file came to this box, as far as is known.
pub fn program_installed() -> Option<SystemTime> {
    let file = std::env::current_exe().ok()?;
    file.metadata().ok()?.modified().ok()
}

/// Boxes without a battery for their clock start in the past. `installed` is when the program came here, `made` when the
/// newest prompt was made, if that is known.
pub fn clock(now: SystemTime, installed: Option<SystemTime>, made: Option<SystemTime>) -> Finding {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const CURE: &str = "set it (`timedatectl set-ntp true` where there is a network): prompts are kept in order all the same, \
                        but `model pull` may refuse certificates, and times in lists are wrong";
    let behind = |then: Option<SystemTime>| then.is_some_and(|then| now + DAY < then);
    if behind(installed) {
        let says = "the clock is behind the day this program was installed";
        Finding::warning("clock", says, CURE)
    } else if behind(made) {
        let says = "the clock is behind the day a prompt was made, or was wrong on that day";
        Finding::warning("clock", says, CURE)
    } else {
        Finding::fine("clock", "not in the past")
    }
}

/// The instruction sets that tract-linalg has kernels for.
fn features() -> Vec<&'static str> {
    // Asking an ARM processor with 32 bits is not stable in Rust.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(unused_macros)
    )]
    macro_rules! detect {
        ($detected:ident: $($feature:tt)*) => {
            vec![$((std::arch::$detected!($feature), $feature)),*]
        };
    }
    #[cfg(target_arch = "x86_64")]
    let all =
        detect!(is_x86_feature_detected: "avx2" "fma" "f16c" "avx512f" "avx512vnni" "avxvnni");
    #[cfg(target_arch = "aarch64")]
    let all = detect!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all: Vec<(bool, &str)> = Vec::new();
    all.into_iter()
        .filter(|(there, _)| *there)
        .map(|(_, name)| name)
        .collect()
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::ops::gemm::{Refusal, Wrong};

    /// A machine whose system files are `files`.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = Machine::at(dir.path());
        (dir, machine)
    }

    #[test]
    fn a_raspberry_pi_is_called_by_its_name() {
        let files = [("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")];
        let (_dir, machine) = machine(&files);
        let says = machine.processor().unwrap().says;
        assert!(
            says.starts_with("Raspberry Pi 4 Model B Rev 1.4; "),
            "{says}"
        );
    }

    #[test]
    fn a_kernel_that_failed_its_check_is_named_with_how() {
        let failed = |why| {
            refused(&Refused {
                kernel: "amx_mmm/1/left".into(),
                why,
            })
        };
        let wrong = failed(Refusal::Wrong(Wrong {
            rows: 5,
            inner: 9,
            out: 17,
            is: "NaN".into(),
            expected: "0.5".into(),
            only_on_another_thread: true,
        }));
        assert_eq!(wrong.state, State::Warning);
        assert_eq!(
            wrong.says,
            "amx_mmm/1/left failed its check and is not used: a product [5, 9] by [9, 17] has NaN where 0.5 is right, \
             on a second thread"
        );
        let left_out = failed(Refusal::Narrows);
        assert_eq!(left_out.state, State::Fine);
        assert!(
            left_out.says.ends_with("packs its operands in fewer bits"),
            "{}",
            left_out.says
        );
    }

    #[test]
    fn little_memory_and_a_limit_of_the_control_group_are_told() {
        let plenty = "MemTotal:  1000000 kB\nMemFree: 1 kB\nMemAvailable:  900000 kB\n";
        let (_dir, roomy) = machine(&[("proc/meminfo", plenty)]);
        assert_eq!(roomy.memory().unwrap().state, State::Fine);
        let (_dir, limited) = machine(&[
            ("proc/meminfo", plenty),
            ("proc/self/cgroup", "0::/box.slice\n"),
            ("sys/fs/cgroup/box.slice/memory.max", "67108864\n"),
        ]);
        let found = limited.memory().unwrap();
        assert_eq!(found.state, State::Warning);
        assert!(found.says.contains("may use 64 MiB"), "{}", found.says);
        assert!(
            machine(&[]).1.memory().is_none(),
            "nothing known, nothing said"
        );
    }

    #[test]
    fn the_hottest_zone_counts_and_nonsense_does_not() {
        let zones = |temp| {
            machine(&[
                ("sys/class/thermal/thermal_zone0/temp", "41000\n"),
                ("sys/class/thermal/thermal_zone1/temp", temp),
                ("sys/class/thermal/cooling_device0/type", "fan\n"),
            ])
        };
        let (_dir, hot) = zones("85200\n");
        let found = hot.heat().unwrap();
        assert_eq!(found.state, State::Warning);
        assert!(found.says.starts_with("85 °C"), "{}", found.says);
        let (_dir, absurd) = zones("-274000\n");
        assert_eq!(absurd.heat().unwrap().says, "41 °C");
    }

    #[test]
    fn a_weak_supply_is_told_now_and_afterwards() {
        let throttled = |bits| {
            let file = "sys/devices/platform/soc/soc:firmware/get_throttled";
            let (_dir, machine) = machine(&[(file, bits)]);
            machine.power().unwrap()
        };
        assert_eq!(throttled("0\n").state, State::Fine);
        assert!(throttled("50005\n").says.contains("voltage is too low"));
        assert!(throttled("e0008\n").says.contains("slowed down"));
        assert!(throttled("50000\n").says.contains("has been too low"));
    }

    #[test]
    fn a_clock_that_started_in_1970_is_told() {
        let installed = SystemTime::now();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        assert_eq!(clock(start, Some(installed), None).state, State::Warning);
        assert_eq!(clock(installed, Some(installed), None).state, State::Fine);
        assert_eq!(clock(start, None, None).state, State::Fine);
        let made = clock(start, Some(start), Some(installed));
        assert_eq!(made.state, State::Warning);
        assert!(made.says.contains("a prompt was made"), "{}", made.says);
    }
}
