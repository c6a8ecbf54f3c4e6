//! Where the H.264 decoder gets its memory from: see `src/host/decoder_memory.rs`. The two functions with which it does are
//! C++ ones of a library that has no place to say so, so the linker is told. Where it is not (another system, a program that
//! has this crate as a library), the decoder is as it comes.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let set = |name: &str| std::env::var_os(name).is_some();
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if linux && set("CARGO_FEATURE_RTSP") {
        for function in ["11WelsMalloczEjPKc", "8WelsFreeEPvPKc"] {
            println!("cargo:rustc-link-arg=-Wl,--wrap=_ZN10WelsCommon12CMemoryAlign{function}");
        }
    }
}
