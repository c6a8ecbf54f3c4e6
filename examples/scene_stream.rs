//! Feeds the training of the default model: writes drawn scenes to standard output, for ever or `--count` of them.
//!
//! A record is five little-endian `u32` (class, colour, pattern, background, condition: indices into the lists
//! that `--vocabulary` prints as one JSON object), then `size * size * 3` bytes, RGB, row by row. The picture is
//! drawn at 96 pixels and brought to `--size` by antialiased bicubic (a = -0.5), CLIP's own preprocessing.
//!
//! Record `i` follows from `--seed` and `--start + i` alone, whatever the number of threads. By convention
//! seeds below 1,000,000 are for training and seeds from 1,000,000 on for evaluation; never mix them.
//!
//!     scene_stream [--seed N] [--start INDEX] [--count N] [--size 64] [--threads N]
//!                  [--conditions train|all|NAME] [--reserved skip|only|any] [--vocabulary]

use anyhow::{Context, Result, bail};
use edge_rlp::clip::Preprocess;
use edge_rlp::frames::demo::{self, Choice, Reserved};
use edge_rlp::rng::Rng;
use std::io::{ErrorKind, Write};
use std::sync::mpsc;

/// Records made in one go by one thread.
const BATCH: u64 = 64;

struct Options {
    seed: u64,
    start: u64,
    count: u64,
    size: u32,
    threads: u64,
    conditions: Vec<usize>,
    reserved: Reserved,
}

fn main() -> Result<()> {
    let mut options = Options {
        seed: 0,
        start: 0,
        count: u64::MAX,
        size: 64,
        threads: 1,
        conditions: demo::trained_conditions(),
        reserved: Reserved::Skip,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        if flag == "--vocabulary" {
            println!("{}", vocabulary());
            return Ok(());
        }
        let value = arguments
            .next()
            .with_context(|| format!("{flag} needs a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .with_context(|| format!("{flag} {value}: not a whole number"))
        };
        match flag.as_str() {
            "--seed" => options.seed = number()?,
            "--start" => options.start = number()?,
            "--count" => options.count = number()?,
            "--size" => options.size = u32::try_from(number()?)?.max(1),
            "--threads" => options.threads = number()?.max(1),
            "--conditions" => {
                options.conditions = match value.as_str() {
                    "train" => demo::trained_conditions(),
                    "all" => (0..demo::CONDITIONS.len()).collect(),
                    name => vec![demo::condition_named(name)?],
                }
            }
            "--reserved" => {
                options.reserved = match value.as_str() {
                    "skip" => Reserved::Skip,
                    "only" => Reserved::Only,
                    "any" => Reserved::Any,
                    _ => bail!("--reserved {value}: use skip, only or any"),
                }
            }
            _ => bail!("{flag}: unknown; see the head of examples/scene_stream.rs"),
        }
    }
    write_records(&options)
}

/// The names behind the indices of a record.
fn vocabulary() -> serde_json::Value {
    let conditions: Vec<_> = demo::CONDITIONS
        .iter()
        .map(|condition| serde_json::json!({"name": condition.name, "held_out": condition.held_out, "words": condition.words}))
        .collect();
    let pairs = (0..demo::CLASSES.len())
        .flat_map(|class| (0..demo::COLOURS.len()).map(move |colour| (class, colour)));
    let reserved: Vec<_> = pairs
        .filter(|&(class, colour)| demo::reserved(class, colour))
        .collect();
    serde_json::json!({
        "classes": demo::CLASSES, "colours": demo::COLOURS, "patterns": demo::PATTERNS,
        "backgrounds": demo::BACKGROUNDS, "conditions": conditions, "reserved": reserved,
    })
}

/// Writes records until the count is reached or the reader goes away. Threads take batches in turn.
fn write_records(options: &Options) -> Result<()> {
    let batches = options.count.div_ceil(BATCH);
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..options.threads)
            .map(|lane| {
                let (send, receive) = mpsc::sync_channel(4);
                scope.spawn(move || {
                    for batch in (lane..batches).step_by(options.threads as usize) {
                        if send.send(make_batch(options, batch)).is_err() {
                            break;
                        }
                    }
                });
                receive
            })
            .collect();
        let mut out = std::io::stdout().lock();
        for lane in lanes.iter().cycle() {
            let Ok(batch) = lane.recv() else { break };
            match out.write_all(&batch?) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                written => written?,
            }
        }
        match out.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            flushed => Ok(flushed?),
        }
    })
}

/// The bytes of one batch of records.
fn make_batch(options: &Options, batch: u64) -> Result<Vec<u8>> {
    let classes: Vec<usize> = (0..demo::CLASSES.len()).collect();
    let choice = Choice {
        classes: &classes,
        conditions: &options.conditions,
        reserved: options.reserved,
    };
    let preprocess = Preprocess::clip(options.size);
    let mut bytes = Vec::new();
    let from = batch * BATCH;
    for index in from..(from + BATCH).min(options.count) {
        let spec = demo::sample(
            &mut Rng::with_stream(options.seed, options.start.wrapping_add(index)),
            &choice,
        );
        for attribute in [
            spec.class,
            spec.colour,
            spec.pattern,
            spec.background,
            spec.condition,
        ] {
            bytes.extend_from_slice(&(attribute as u32).to_le_bytes());
        }
        let picture = demo::draw(&spec, demo::SIZE);
        bytes.extend_from_slice(preprocess.square(&picture)?.as_raw());
    }
    Ok(bytes)
}
