//! `edge-rlp prompt rollback`: an earlier generation of a prompt is brought back, as a new one.

use super::describe::{description, held_out};
use crate::cli::Context;

pub fn run(name: &str, to: Option<u64>, context: &Context) -> anyhow::Result<()> {
    let saved = context.home.rollback(name, to)?;
    let loaded = context.home.load(name)?;
    context.output.object(&description(name, &loaded)?)?;
    let from = loaded.record.provenance.restores.unwrap_or(saved.sequence);
    let metrics = &loaded.record.metrics;
    let accuracy = held_out(metrics, metrics.adapted_accuracy);
    context.output.line(format!(
        "{name} is back at generation {from} (held-out accuracy {accuracy}), kept as generation {}",
        saved.sequence
    ));
    Ok(())
}
