#![no_main]

#[path = "../harness.rs"]
mod harness;
#[path = "../rtsp.rs"]
mod rtsp;

libfuzzer_sys::fuzz_target!(init: harness::only_our_panics_count(), |bytes: &[u8]| rtsp::rtsp(bytes));
