//! `edge-rlp fleet status`: what each box of a group says became of what was published.

use super::broker::BrokerArguments;
use crate::cli::output::{aligned, date, percent};
use crate::cli::{Context, Exit};
use crate::fleet::topics::{self, Said};
use crate::fleet::{Group, Publisher, Report};
use serde_json::json;
use std::collections::BTreeMap;

#[derive(clap::Args)]
pub struct Arguments {
    /// The boxes, as in shops/north
    #[arg(long, value_name = "GROUP")]
    group: Group,
    #[command(flatten)]
    broker: BrokerArguments,
}

/// What is known of a box.
#[derive(Default)]
struct Known {
    report: Option<Report>,
    online: Option<bool>,
}

pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let settings = arguments.broker.settings()?;
    let topics = topics::of_all(&arguments.group);
    let publisher = Publisher::connect(settings, topics.into(), arguments.broker.timeout())?;
    let boxes = known(publisher.kept());
    for (name, known) in &boxes {
        object(name, known, context)?;
    }
    if boxes.is_empty() {
        context.output.note(format!(
            "no box has said that it follows {}",
            arguments.group
        ));
        return Ok(Exit::NothingAccepted);
    }
    table(&boxes, context);
    Ok(Exit::Done)
}

fn known(kept: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Known> {
    let mut boxes: BTreeMap<String, Known> = BTreeMap::new();
    for (topic, payload) in kept.iter().filter(|(_, payload)| !payload.is_empty()) {
        let Some((said, name)) = topics::origin(topic) else {
            continue;
        };
        let known = boxes.entry(name.to_owned()).or_default();
        match said {
            Said::Report => known.report = Report::parse(payload),
            Said::Presence => known.online = Some(payload == b"online"),
        }
    }
    boxes
}

fn object(name: &str, known: &Known, context: &Context) -> anyhow::Result<()> {
    let report = known.report.as_ref();
    context.output.object(&json!({
        "box": report.map_or(name, |report| &report.name),
        "online": known.online,
        "last_seen_unix": report.map(|report| report.at_unix),
        "program": report.map(|report| &report.program),
        "trusted": report.map(|report| &report.trusted),
        "regions": report.map(|report| &report.regions),
    }))?;
    Ok(())
}

fn table(boxes: &BTreeMap<String, Known>, context: &Context) {
    let head = [
        "box",
        "online",
        "region",
        "generation",
        "before",
        "after",
        "last seen",
        "what became of it",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    let (mut online, mut states) = (0, BTreeMap::<String, usize>::new());
    for (name, known) in boxes {
        let here = match known.online {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        online += usize::from(known.online == Some(true));
        let Some(report) = &known.report else {
            let row = [
                name.as_str(),
                here,
                "",
                "",
                "",
                "",
                "",
                "it has not reported yet",
            ];
            rows.push(row.map(str::to_owned));
            continue;
        };
        for region in &report.regions {
            let share = |share: Option<f32>| share.map_or(String::new(), percent);
            let said = region.trouble.as_ref().unwrap_or(&region.said);
            let state = if region.trouble.is_some() {
                "troubled"
            } else {
                &region.state
            };
            *states.entry(state.to_owned()).or_default() += 1;
            rows.push([
                report.name.clone(),
                here.into(),
                region.region.clone(),
                region.generation.to_string(),
                share(region.before),
                share(region.after),
                date(report.at_unix),
                said.clone(),
            ]);
        }
    }
    for line in aligned(&rows) {
        context.output.line(line);
    }
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    context.output.note(format!(
        "{} boxes, {online} online: {}",
        boxes.len(),
        states.join(", ")
    ));
}
