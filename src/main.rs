//! Parse, run, exit code; nothing else.

use edge_rlp::host::memory::Heap;
use std::process::ExitCode;

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ExitCode {
    edge_rlp::cli::run(std::env::args_os())
}
