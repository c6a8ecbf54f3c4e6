//! How hot the box is, and how training goes slower before the box has to slow itself down: between two steps it rests,
//! the longer the hotter, but always goes on.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A bit of a Raspberry Pi's firmware: the supply voltage is too low now.
pub const UNDER_VOLTAGE: u32 = 1;
/// Bits of the same: the processor is slowed down now, for heat or for lack of power.
pub const SLOWED: u32 = 0b1110;

/// Degrees below the point where the system slows the processor down: from here on training rests.
const NEAR: f32 = 5.0;
/// Once it rests, it goes on resting until it is so far below.
const FAR: f32 = 8.0;
/// A zone without such a point has one where it switches off; slowing down begins about so far below.
const BELOW_CRITICAL: f32 = 10.0;
/// Rest after a step at most, in times the step took: training then takes five times as long.
const LONGEST_REST: f32 = 4.0;
/// A rest is never longer, so that a signal is noticed soon.
const REST: Duration = Duration::from_secs(1);
/// The temperature is looked at no more often.
const LOOK: Duration = Duration::from_secs(1);

/// Where the system reports its temperature.
pub struct Thermometer {
    root: PathBuf,
}

/// What the system reports of its temperature.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Reading {
    /// Degrees Celsius of the hottest zone.
    pub hottest: Option<f32>,
    /// Degrees until the first zone slows the processor down; negative beyond.
    pub left: Option<f32>,
    /// The Raspberry Pi's bits, [`UNDER_VOLTAGE`] and [`SLOWED`]; the upper half is about the time since the start.
    pub firmware: Option<u32>,
}

impl Thermometer {
    /// Of the system whose files lie below `root`: `/`, but for tests.
    pub fn at(root: impl Into<PathBuf>) -> Thermometer {
        Thermometer { root: root.into() }
    }

    /// What the system reports now; what it does not report is missing.
    pub fn read(&self) -> Reading {
        let zones = fs::read_dir(self.root.join("sys/class/thermal"));
        let folders = zones
            .into_iter()
            .flatten()
            .flatten()
            .map(|zone| zone.path());
        let zones: Vec<(f32, Option<f32>)> = folders.filter_map(|folder| zone(&folder)).collect();
        let left = zones.iter().filter_map(|(now, trip)| Some((*trip)? - now));
        let file = "sys/devices/platform/soc/soc:firmware/get_throttled";
        let firmware = fs::read_to_string(self.root.join(file)).ok();
        Reading {
            hottest: zones.iter().map(|zone| zone.0).max_by(f32::total_cmp),
            left: left.min_by(f32::total_cmp),
            firmware: firmware.and_then(|text| {
                let text = text.trim_matches(['\0', '\n', ' ']);
                u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
            }),
        }
    }
}

/// The temperature of the zone in `folder`, and where it slows the processor down, if that is known. Nonsense is not
/// believed.
fn zone(folder: &Path) -> Option<(f32, Option<f32>)> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let degrees = |name: &str| {
        let degrees = text(name)?.trim().parse::<i64>().ok()? as f32 / 1000.0;
        (-40.0..200.0).contains(&degrees).then_some(degrees)
    };
    let now = degrees("temp")?;
    // There are a handful; they are numbered without gaps.
    let kinds = (0..16).map_while(|trip| {
        let kind = text(&format!("trip_point_{trip}_type"))?;
        Some((
            kind.trim().to_owned(),
            degrees(&format!("trip_point_{trip}_temp")),
        ))
    });
    let trips: Vec<(String, f32)> = kinds
        .filter_map(|(kind, at)| Some((kind, at.filter(|at| *at > 0.0)?)))
        .collect();
    let lowest = |kind: &str| {
        let of_kind = trips.iter().filter(|trip| trip.0 == kind);
        of_kind.map(|trip| trip.1).min_by(f32::total_cmp)
    };
    let trip = lowest("passive").or_else(|| Some(lowest("critical")? - BELOW_CRITICAL));
    Some((now, trip))
}

/// How long to rest after each step, in times the step took: 0 where it is cool. `resting` says whether it did before.
fn rest(reading: &Reading, resting: bool) -> f32 {
    if reading.firmware.is_some_and(|bits| bits & SLOWED != 0) {
        return LONGEST_REST;
    }
    match reading.left {
        Some(left) if left < NEAR => {
            (LONGEST_REST * (NEAR - left) / NEAR).clamp(0.25, LONGEST_REST)
        }
        Some(left) if resting && left < FAR => 0.25,
        _ => 0.0,
    }
}

/// The rests of one training.
pub struct Pacing {
    thermometer: Thermometer,
    /// When the step in hand began, and when the temperature was last looked at.
    begun: Instant,
    looked: Option<Instant>,
    rest: f32,
}

impl Pacing {
    /// Of this box; the first step begins now.
    pub fn begin() -> Pacing {
        Pacing::with(Thermometer::at("/"), Instant::now())
    }

    fn with(thermometer: Thermometer, now: Instant) -> Pacing {
        Pacing {
            thermometer,
            begun: now,
            looked: None,
            rest: 0.0,
        }
    }

    /// To be called after each step: rests if the box is hot. Something comes back where training goes slower from now on,
    /// or no longer.
    pub fn after_step(&mut self) -> Option<PaceChange> {
        let (pause, change) = self.pause(Instant::now());
        std::thread::sleep(pause);
        self.begun = Instant::now();
        change
    }

    /// How long to rest after the step that ended `now`.
    fn pause(&mut self, now: Instant) -> (Duration, Option<PaceChange>) {
        let mut change = None;
        if self.looked.is_none_or(|at| now.duration_since(at) >= LOOK) {
            self.looked = Some(now);
            let reading = self.thermometer.read();
            let before = self.rest;
            self.rest = rest(&reading, before > 0.0);
            change = match (before > 0.0, self.rest > 0.0) {
                (false, true) => Some(PaceChange::Slower(reading)),
                (true, false) => Some(PaceChange::FullSpeed),
                _ => None,
            };
        }
        let step = now.duration_since(self.begun);
        (step.mul_f32(self.rest).min(REST), change)
    }
}

/// A change of how fast training goes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PaceChange {
    /// The box is hot, as this reading says.
    Slower(Reading),
    /// It has cooled.
    FullSpeed,
}

impl fmt::Display for PaceChange {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            PaceChange::FullSpeed => {
                formatter.write_str("the box has cooled: training goes on at full speed")
            }
            PaceChange::Slower(reading) => {
                match (reading.hottest, reading.left) {
                    (Some(degrees), Some(left)) if left < NEAR => write!(
                        formatter,
                        "the box is at {degrees:.0} °C, {:.0} below where it slows itself down",
                        left.max(0.0)
                    ),
                    _ => formatter.write_str("the box is slowing its processor down"),
                }?;
                formatter.write_str(": training goes slower until it has cooled")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: &str = "sys/class/thermal/thermal_zone0";
    const FIRMWARE: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";

    fn box_at(degrees: i64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        write(&dir, &format!("{ZONE}/temp"), &format!("{degrees}000\n"));
        for (trip, (kind, at)) in [("active", 50), ("passive", 80), ("critical", 110)]
            .iter()
            .enumerate()
        {
            write(
                &dir,
                &format!("{ZONE}/trip_point_{trip}_type"),
                &format!("{kind}\n"),
            );
            write(
                &dir,
                &format!("{ZONE}/trip_point_{trip}_temp"),
                &format!("{at}000\n"),
            );
        }
        dir
    }

    fn write(dir: &tempfile::TempDir, name: &str, text: &str) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_way_to_the_passive_trip_is_read_and_without_one_that_to_the_critical() {
        let dir = box_at(71);
        let read = || Thermometer::at(dir.path()).read();
        assert_eq!((read().hottest, read().left), (Some(71.0), Some(9.0)));
        write(&dir, &format!("{ZONE}/trip_point_1_type"), "hot\n");
        assert_eq!(read().left, Some(110.0 - BELOW_CRITICAL - 71.0));
        // A trip that is switched off.
        write(&dir, &format!("{ZONE}/trip_point_1_type"), "passive\n");
        write(&dir, &format!("{ZONE}/trip_point_1_temp"), "-274000\n");
        assert_eq!(read().left, Some(110.0 - BELOW_CRITICAL - 71.0));
        assert_eq!(Thermometer::at("no/such/root").read(), Reading::default());
    }

    #[test]
    fn the_nearer_to_the_trip_the_longer_the_rest_and_it_never_stops_for_good() {
        let at = |left, resting| {
            let left = Some(left);
            rest(
                &Reading {
                    left,
                    ..Reading::default()
                },
                resting,
            )
        };
        assert_eq!([at(20.0, false), at(5.0, false), at(20.0, true)], [0.0; 3]);
        assert!(0.0 < at(4.0, false) && at(4.0, false) < at(1.0, false));
        assert_eq!(at(-30.0, true), LONGEST_REST);
        // Once it rests, not every degree changes its mind.
        assert!(at(6.0, true) > 0.0 && at(6.0, false) == 0.0);
        let firmware = |bits| Reading {
            firmware: Some(bits),
            ..Reading::default()
        };
        assert_eq!(rest(&firmware(0b0100), false), LONGEST_REST);
        // It was, or only the voltage is low.
        assert_eq!(rest(&firmware(0x5_0001), false), 0.0);
    }

    #[test]
    fn training_slows_down_while_the_box_is_hot_and_says_so_once_each_way() {
        let dir = box_at(60);
        let start = Instant::now();
        let mut pacing = Pacing::with(Thermometer::at(dir.path()), start);
        let step = Duration::from_millis(100);
        let mut now = start;
        let mut steps = |pacing: &mut Pacing, count: usize| {
            let (mut rested, mut messages) = (Duration::ZERO, Vec::new());
            for _ in 0..count {
                now += step;
                let (pause, change) = pacing.pause(now);
                now += pause;
                pacing.begun = now;
                rested += pause;
                messages.extend(change.map(|change| change.to_string()));
            }
            (rested, messages)
        };
        assert_eq!(steps(&mut pacing, 20), (Duration::ZERO, vec![]));

        write(&dir, &format!("{ZONE}/temp"), "79000\n");
        let (rested, messages) = steps(&mut pacing, 40);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].contains("79 °C, 1 below"), "{messages:?}");
        assert!(rested > 20 * step && rested < 160 * step, "{rested:?}");

        write(&dir, &format!("{ZONE}/temp"), "60000\n");
        let (_, messages) = steps(&mut pacing, 40);
        assert_eq!(
            messages,
            ["the box has cooled: training goes on at full speed"]
        );
        assert_eq!(steps(&mut pacing, 20), (Duration::ZERO, vec![]));

        write(&dir, FIRMWARE, "4\n");
        let (_, messages) = steps(&mut pacing, 40);
        assert!(
            messages[0].starts_with("the box is slowing"),
            "{messages:?}"
        );
    }

    #[test]
    fn a_rest_after_a_long_step_ends_soon() {
        let dir = box_at(99);
        let start = Instant::now();
        let mut pacing = Pacing::with(Thermometer::at(dir.path()), start);
        assert_eq!(pacing.pause(start + Duration::from_secs(60)).0, REST);
    }
}
