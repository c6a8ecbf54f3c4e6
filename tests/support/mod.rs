//! A directory with a home folder of its own, and the program run in it. Each test program uses a part.
#![allow(dead_code)]

pub mod models;
pub mod server;

use edge_rlp::frames::demo::{self, CLASSES, Purpose};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub struct Directory(TempDir);

impl Directory {
    pub fn new() -> Directory {
        Directory(TempDir::new().unwrap())
    }

    /// A directory with `pictures/mug` and `pictures/fish`, `shots` drawn pictures each, and `pictures/labels.txt`.
    pub fn with_pictures(shots: usize) -> Directory {
        let dir = Directory::new();
        for label in ["mug", "fish"] {
            let class = CLASSES.iter().position(|name| *name == label).unwrap();
            fs::create_dir_all(dir.path().join("pictures").join(label)).unwrap();
            for shot in 0..shots {
                let scene =
                    demo::scene(Purpose::Train, 0, 9, (shot * CLASSES.len() + class) as u64);
                let path = dir.path().join(format!("pictures/{label}/{shot:04}.png"));
                demo::draw(&scene, demo::SIZE).save(path).unwrap();
            }
        }
        dir.write("pictures/labels.txt", "mug\nfish\n");
        dir
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// Runs the program here, with a home folder of its own and nothing of this machine's settings.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_edge-rlp"))
            .args(arguments)
            .current_dir(self.path())
            .env("EDGE_RLP_HOME", self.home())
            .env_remove("HF_ENDPOINT")
            .env_remove("http_proxy")
            .env_remove("HTTP_PROXY")
            .env_remove("all_proxy")
            .env_remove("ALL_PROXY")
            .output()
            .unwrap()
    }
}

/// Share of `frames` live demo frames that `classify` with these flags names as they were drawn.
pub fn live_accuracy(dir: &Directory, condition: &str, flags: &[&str]) -> f64 {
    let watch = [
        "classify", "--camera", condition, "--frames", "240", "--json",
    ];
    let output = dir.run(&[&watch[..], flags].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    share_right(&output)
}

/// Share of the lines of `classify --json` whose label is the right one.
pub fn share_right(output: &Output) -> f64 {
    let lines: Vec<Value> = stdout(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let right = lines
        .iter()
        .filter(|line| line["label"] == line["truth"])
        .count();
    right as f64 / lines.len() as f64
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by a signal")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The first bytes of a PNG of `width * height` pixels: enough to be refused for its size, not enough to decode.
pub fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let mut checksum = !0u32;
    for &byte in &chunk {
        checksum ^= u32::from(byte);
        for _ in 0..8 {
            checksum = (checksum >> 1) ^ (0xedb8_8320 & (checksum & 1).wrapping_neg());
        }
    }
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\r".to_vec();
    png.extend(&chunk);
    png.extend((!checksum).to_be_bytes());
    png
}
