//! Parse, run, exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    edge_rlp::cli::run(std::env::args_os())
}
