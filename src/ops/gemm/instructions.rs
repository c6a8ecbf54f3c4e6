//! Holding this process down to some of the processor's instructions, so that one machine tries what others run. It must
//! not know which kernels need which.

use tract_linalg::isa::Isa;
use tract_linalg::knobs::TRACT_CPU_ISA;

/// A set of instructions that this architecture does not have.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is none of the sets of instructions {known}", known = instruction_sets().collect::<Vec<_>>().join(", "))]
pub struct UnknownInstructions(String);

/// A set by name, and what it has beyond the one before it.
type Step = (&'static str, &'static [Isa]);

#[cfg(target_arch = "x86_64")]
const STEPS: &[Step] = &[
    ("sse", &[]),
    (
        "avx2",
        &[
            Isa::X86_64Avx,
            Isa::X86_64Avx2,
            Isa::X86_64Fma,
            Isa::X86_64F16c,
        ],
    ),
    ("avxvnni", &[Isa::X86_64AvxVnni]),
    ("avx512", &[Isa::X86_64Avx512f, Isa::X86_64Avx512Fp16]),
    ("avx512vnni", &[Isa::X86_64Avx512Vnni]),
    ("amx", &[Isa::X86_64AmxInt8, Isa::X86_64AmxBf16]),
];
#[cfg(target_arch = "aarch64")]
const STEPS: &[Step] = &[
    ("neon", &[]),
    ("dotprod", &[Isa::Aarch64Fp16, Isa::Aarch64DotProd]),
    ("sve2", &[Isa::Aarch64Sve2]),
    (
        "sme",
        &[Isa::Aarch64Sme, Isa::Aarch64Sme2, Isa::Aarch64AppleAmx],
    ),
];
#[cfg(target_arch = "arm")]
const STEPS: &[Step] = &[("vfp", &[]), ("neon", &[Isa::ArmNeon])];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm")))]
const STEPS: &[Step] = &[];

/// The sets that [`hold_to`] knows here, each with all of those before it.
pub fn instruction_sets() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|(name, _)| *name)
}

/// Has products in this process do without what `set` does not have. To be called before the first product; what
/// `TRACT_CPU_ISA` already takes away stays away. Element by element the rest of the program is the same arithmetic on
/// any instructions, and is not held down.
pub fn hold_to(set: &str) -> Result<(), UnknownInstructions> {
    let without = beyond(set).ok_or_else(|| UnknownInstructions(set.to_owned()))?;
    let given = TRACT_CPU_ISA.get().into_iter();
    let taken = without.iter().map(|isa| format!("-{isa}"));
    let edits: Vec<String> = given.chain(taken).collect();
    TRACT_CPU_ISA.set(Some(edits.join(",")));
    Ok(())
}

/// What is beyond a set.
fn beyond(set: &str) -> Option<Vec<Isa>> {
    let last = STEPS.iter().position(|(name, _)| *name == set)?;
    Some(
        STEPS[last + 1..]
            .iter()
            .flat_map(|(_, more)| *more)
            .copied()
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_that_kernels_may_need_has_its_place() {
        let Some(arch) = tract_linalg::isa::native().arch() else {
            return;
        };
        let placed: Vec<Isa> = STEPS.iter().flat_map(|(_, isa)| *isa).copied().collect();
        for isa in Isa::ALL {
            let wanted = isa.arch() == arch && !isa.is_arch();
            assert_eq!(placed.contains(&isa), wanted, "{isa}");
        }
    }

    #[test]
    fn a_set_leaves_what_it_is_named_after() {
        let first = STEPS.first().expect("an architecture with kernels").0;
        let everything = STEPS.iter().map(|(_, isa)| isa.len()).sum();
        assert_eq!(beyond(first).map(|isa| isa.len()), Some(everything));
        let last = STEPS.last().expect("an architecture with kernels").0;
        assert_eq!(beyond(last), Some(Vec::new()));
        let error = hold_to("mmx").expect_err("no such set here").to_string();
        assert!(error.contains("mmx") && error.contains(last), "{error}");
    }
}
