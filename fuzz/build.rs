//! The H.264 decoder gets its memory as in the program (see `../build.rs`), so that what it is fuzzed with is what runs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for function in ["11WelsMalloczEjPKc", "8WelsFreeEPvPKc"] {
        println!("cargo:rustc-link-arg=-Wl,--wrap=_ZN10WelsCommon12CMemoryAlign{function}");
    }
}
