//! Under every limit on its addresses the program does what it was asked for, or says in a sentence that it cannot.
//! Only on x86-64: the tests of other processors run in an emulator, whose own addresses would be counted.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use crate::support::{Directory, Ran};

/// In KiB; below it the system's loader fails.
const LOWEST: u32 = 72_000;

fn limited(dir: &Directory, kibibytes: u32, line: &str) -> Ran {
    let script = format!("ulimit -v {kibibytes} && exec \"$0\" \"$@\"");
    let program = ["sh", "-c", &script, env!("CARGO_BIN_EXE_edge-rlp")];
    dir.program(&program)
        .words(line)
        .without("RUST_BACKTRACE")
        .run()
}

#[test]
fn with_few_addresses_commands_work_or_say_how_many_they_need_and_none_is_killed() {
    let dir = Directory::new();
    let commands = [
        "--threads 2 classify --camera demo:fog --frames 2 --labels labels.txt",
        "--threads 8 classify --camera demo:fog --frames 2 --labels labels.txt",
        "--threads 2 adapt --camera demo:fog --views 1 --steps 3 --shots 2 --force --out x.rlp",
        "--threads 4 doctor",
    ];
    dir.write("labels.txt", "mug\nfish\n");
    let (mut worked, mut refused) = (0, 0);
    for limit in [
        LOWEST, 80_000, 85_000, 90_000, 95_000, 100_000, 120_000, 150_000, 200_000, 250_000,
        300_000, 500_000, 1_000_000,
    ] {
        for command in commands {
            let ran = limited(&dir, limit, command);
            match ran.code {
                0 => worked += 1,
                1 if command.ends_with("doctor") => refused += 1,
                1 => {
                    assert!(ran.stderr.contains("ulimit -v"), "{limit}: {ran}");
                    refused += 1;
                }
                _ => panic!("{limit}: {ran}"),
            }
            assert!(limit < 300_000 || ran.code == 0, "{limit}: {ran}");
        }
    }
    println!("{worked} commands worked under a limit, {refused} were refused");
    assert!(worked > 0 && refused > 0);
}

#[test]
fn what_is_said_to_be_enough_is() {
    let dir = Directory::new();
    dir.write("labels.txt", "mug\nfish\n");
    let command = "classify --camera demo:fog --frames 1 --labels labels.txt";
    let told = limited(&dir, LOWEST, command).stderr;
    let enough = told
        .split("ulimit -v ")
        .nth(1)
        .and_then(|rest| rest.split('`').next());
    let enough = enough.and_then(|number| number.parse::<u32>().ok());
    let enough = enough.unwrap_or_else(|| panic!("no number in {told}"));
    // What is taken at the start differs by some pages from run to run.
    let ran = limited(&dir, enough + 1024, command);
    assert_eq!(ran.code, 0, "{enough}: {ran}");
}
