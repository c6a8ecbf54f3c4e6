#![no_main]

#[path = "../harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(init: harness::only_our_panics_count(), |bytes: &[u8]| harness::fleet_notice(bytes));
