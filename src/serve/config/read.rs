//! From the text of `edge-rlp.toml` to a [`Config`]: what each key may be is checked where it stands, so that an error names
//! its line and column.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{
    AccessConfig, CameraConfig, Config, Fault, Place, RecentConfig, RegionConfig, ShotsConfig,
    TrainingConfig, WHOLE,
};
use crate::frames::{
    CameraOptions, CameraSource, CaptureFormat, Fingerprint, Login, RtspTransport, Trust,
};
use crate::prompt::region::check_regions;
use crate::prompt::{Area, Region};
use crate::store::home::check_name;
use crate::watch::MotionGate;
use crate::watch::motion::Sensitivity;

/// The most cameras of one process.
const MAX_CAMERAS: usize = 64;
/// The languages that the page speaks.
const LANGUAGES: [&str; 2] = ["en", "de"];
/// The prompt of a region that names none.
const DEFAULT_PROMPT: &str = "default";
/// Without motion a region is named at least so often.
const AT_LEAST: Duration = Duration::from_secs(60);
/// How long a camera may send one picture before it counts as frozen.
const FROZEN_AFTER: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Option<Spanned<String>>,
    language: Option<Spanned<String>>,
    model: Option<String>,
    access: Access,
    shots: Shots,
    recent: Recent,
    training: Training,
    #[cfg(feature = "mqtt")]
    mqtt: Option<super::broker::Mqtt>,
    #[cfg(feature = "fleet")]
    fleet: Option<super::fleet::Fleet>,
    camera: Vec<Spanned<Camera>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Access {
    hosts: Vec<Spanned<String>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    #[serde(deserialize_with = "duration")]
    session: Option<Spanned<Duration>>,
    behind_proxy: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Shots {
    #[serde(deserialize_with = "duration")]
    keep_for: Option<Spanned<Duration>>,
    pictures: Option<Spanned<u64>>,
    megabytes: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Recent {
    #[serde(deserialize_with = "duration")]
    keep_for: Option<Spanned<Duration>>,
    pictures: Option<Spanned<u64>>,
    megabytes: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Training {
    nice: Option<Spanned<u64>>,
    views: Option<Spanned<u64>>,
    steps: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Camera {
    name: Spanned<String>,
    source: Spanned<String>,
    user: Option<String>,
    password: Option<String>,
    format: Option<Spanned<String>>,
    login_file: Option<Spanned<PathBuf>>,
    rtsp_transport: Option<Spanned<String>>,
    fingerprint: Option<Spanned<String>>,
    #[serde(default)]
    insecure_tls: Option<Spanned<bool>>,
    #[serde(default, deserialize_with = "duration")]
    timeout: Option<Spanned<Duration>>,
    #[serde(default, deserialize_with = "duration")]
    every: Option<Spanned<Duration>>,
    #[serde(default, deserialize_with = "duration")]
    smooth: Option<Spanned<Duration>>,
    confirm: Option<Spanned<u64>>,
    motion: Option<Spanned<u64>>,
    #[serde(default, deserialize_with = "duration")]
    at_least: Option<Spanned<Duration>>,
    #[serde(default, deserialize_with = "duration")]
    frozen_after: Option<Spanned<Duration>>,
    prompt: Option<Spanned<String>>,
    threshold: Option<Spanned<f32>>,
    #[serde(default)]
    region: Vec<Spanned<RegionTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionTable {
    name: Spanned<String>,
    area: Spanned<String>,
    prompt: Option<Spanned<String>>,
    threshold: Option<Spanned<f32>>,
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Spanned<Duration>>, D::Error> {
    let text = Spanned::<String>::deserialize(from)?;
    let span = text.span();
    match humantime::parse_duration(text.get_ref()) {
        Ok(duration) => Ok(Some(Spanned::new(span, duration))),
        Err(_) => Err(serde::de::Error::custom(
            "write a duration as in \"500ms\", \"2s\", \"10m\" or \"30d\"",
        )),
    }
}

/// Reads the text of a configuration.
///
/// # Errors
/// Where something is wrong, and what.
pub fn parse(text: &str) -> Result<Config, (Place, String)> {
    let at = |offset: usize| Place::of(text, offset);
    let file: File = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        let words: Vec<&str> = error.message().split_whitespace().collect();
        let fault = match text.get(span.clone()) {
            Some(key) if error.message() == "duplicate key" => {
                format!("{key} stands here a second time")
            }
            _ => words.join(" "),
        };
        (at(span.start), fault)
    })?;
    checked(file).map_err(|(span, fault)| (at(span.start), fault))
}

fn checked(file: File) -> Result<Config, Fault> {
    let usual = Config::default();
    let listen = match &file.listen {
        Some(listen) => listen_address(listen)?,
        None => usual.listen,
    };
    let language = match file.language {
        Some(language) if LANGUAGES.contains(&language.get_ref().as_str()) => language.into_inner(),
        Some(language) => {
            let known = LANGUAGES.join(" and ");
            let fault = format!("the page speaks {known}, not {:?}", language.get_ref());
            return Err((language.span(), fault));
        }
        None => usual.language,
    };
    let mut names = BTreeSet::new();
    let mut cameras = Vec::new();
    for camera in file.camera {
        let span = camera.span();
        if cameras.len() == MAX_CAMERAS {
            return Err((span, format!("there are more than {MAX_CAMERAS} cameras")));
        }
        let name = camera.get_ref().name.clone();
        let camera = checked_camera(camera.into_inner())?;
        if !names.insert(camera.name.clone()) {
            let fault = format!("two cameras are called {:?}", camera.name);
            return Err((name.span(), fault));
        }
        cameras.push(camera);
    }
    Ok(Config {
        listen,
        language,
        model: file.model,
        access: checked_access(file.access)?,
        shots: checked_shots(&file.shots)?,
        recent: checked_recent(&file.recent)?,
        training: checked_training(&file.training)?,
        #[cfg(feature = "mqtt")]
        mqtt: file.mqtt.map(super::broker::checked).transpose()?,
        #[cfg(feature = "fleet")]
        fleet: file.fleet.map(super::fleet::checked).transpose()?,
        cameras,
    })
}

fn listen_address(text: &Spanned<String>) -> Result<SocketAddr, Fault> {
    let given = text.get_ref();
    given.parse().map_err(|_| {
        let fault = format!(
            "{given:?} is no address to listen at: write it as in \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\""
        );
        (text.span(), fault)
    })
}

fn checked_access(access: Access) -> Result<AccessConfig, Fault> {
    for host in &access.hosts {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        let given = host.get_ref();
        if given.is_empty() || !given.chars().all(allowed) {
            let fault = format!("{given:?} is no host: write its name alone, as in \"box.local\"");
            return Err((host.span(), fault));
        }
    }
    let tls = match (access.certificate, access.key) {
        (Some(certificate), Some(key)) => Some((certificate.into_inner(), key.into_inner())),
        (None, None) => None,
        (Some(one), None) => {
            return Err((
                one.span(),
                "a certificate needs its key: write key = \"FILE\"".into(),
            ));
        }
        (None, Some(one)) => {
            let fault = "a key needs its certificate: write certificate = \"FILE\"";
            return Err((one.span(), fault.into()));
        }
    };
    Ok(AccessConfig {
        hosts: access.hosts.into_iter().map(Spanned::into_inner).collect(),
        tls,
        session: match access.session {
            Some(session) => Some(within(&session, (DAY / 1440, DAY * 90), "session")?),
            None => None,
        },
        behind_proxy: access.behind_proxy,
    })
}

fn checked_shots(shots: &Shots) -> Result<ShotsConfig, Fault> {
    let usual = ShotsConfig::default();
    Ok(ShotsConfig {
        keep_for: match &shots.keep_for {
            Some(keep) => Some(within(keep, (DAY / 24, DAY * 36500), "keep_for")?),
            None => None,
        },
        pictures: number(&shots.pictures, 1..=1_000_000, "pictures")?
            .map_or(usual.pictures, |pictures| pictures as usize),
        bytes: number(&shots.megabytes, 1..=1 << 20, "megabytes")?
            .map_or(usual.bytes, |megabytes| megabytes << 20),
    })
}

fn checked_recent(recent: &Recent) -> Result<RecentConfig, Fault> {
    let usual = RecentConfig::default();
    Ok(RecentConfig {
        keep_for: match &recent.keep_for {
            Some(keep) => within(keep, (DAY / 1440, DAY * 36500), "keep_for")?,
            None => usual.keep_for,
        },
        pictures: number(&recent.pictures, 0..=100_000, "pictures")?
            .map_or(usual.pictures, |pictures| pictures as usize),
        bytes: number(&recent.megabytes, 0..=1 << 20, "megabytes")?
            .map_or(usual.bytes, |megabytes| megabytes << 20),
    })
}

fn checked_training(training: &Training) -> Result<TrainingConfig, Fault> {
    let usual = TrainingConfig::default();
    let steps = number(&training.steps, 1..=100_000, "steps")?;
    Ok(TrainingConfig {
        nice: number(&training.nice, 0..=19, "nice")?.map_or(usual.nice, |nice| nice as u8),
        views: number(&training.views, 1..=64, "views")?
            .map_or(usual.views, |views| views as usize),
        steps: steps.map(|steps| steps as usize),
    })
}

fn number(
    given: &Option<Spanned<u64>>,
    range: RangeInclusive<u64>,
    key: &str,
) -> Result<Option<u64>, Fault> {
    match given {
        Some(value) if !range.contains(value.get_ref()) => {
            let fault = format!("{key} is from {} to {}", range.start(), range.end());
            Err((value.span(), fault))
        }
        value => Ok(value.as_ref().map(|value| *value.get_ref())),
    }
}

fn within(
    given: &Spanned<Duration>,
    (least, most): (Duration, Duration),
    key: &str,
) -> Result<Duration, Fault> {
    let value = *given.get_ref();
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let [least, most] = [least, most].map(humantime::format_duration);
    Err((given.span(), format!("{key} is from {least} to {most}")))
}

fn checked_camera(camera: Camera) -> Result<CameraConfig, Fault> {
    let fault = |span: Range<usize>| move |error: String| (span.clone(), error);
    let name = camera.name.get_ref().clone();
    check_name(&name, "camera", ".toml")
        .map_err(|error| fault(camera.name.span())(error.to_string()))?;
    let source: CameraSource =
        (camera.source.get_ref().parse()).map_err(|error: crate::frames::FramesError| {
            fault(camera.source.span())(error.to_string())
        })?;
    if source == CameraSource::Stdin {
        let said = "a camera on standard input is for `classify`: `serve` has none to read";
        return Err((camera.source.span(), said.into()));
    }
    check_login_file(&camera, &source)?;
    let login = (camera.user.is_some() || camera.password.is_some()).then(|| Login {
        user: camera.user.clone().unwrap_or_default(),
        password: camera.password.clone().unwrap_or_default(),
    });
    let day = |given: &Option<Spanned<Duration>>, least: Duration, key: &str| match given {
        Some(given) => within(given, (least, DAY), key).map(Some),
        None => Ok(None),
    };
    let second = Duration::from_secs(1);
    if let (None, Some(at_least)) = (&camera.motion, &camera.at_least) {
        let fault = "at_least is how often a picture is named where nothing moves: write motion = 50 beside it, or leave it out";
        return Err((at_least.span(), fault.into()));
    }
    let frozen_after = day(&camera.frozen_after, Duration::ZERO, "frozen_after")?;
    Ok(CameraConfig {
        options: options(&camera, &source)?,
        every: day(&camera.every, Duration::from_millis(20), "every")?,
        smooth: day(&camera.smooth, Duration::ZERO, "smooth")?.unwrap_or_default(),
        confirm: match &camera.confirm {
            Some(confirm) if !(1..=1000).contains(confirm.get_ref()) => {
                return Err((confirm.span(), "confirm is from 1 to 1000".into()));
            }
            confirm => confirm
                .as_ref()
                .map_or(1, |confirm| *confirm.get_ref() as usize),
        },
        motion: match &camera.motion {
            Some(motion) => Some(MotionGate {
                sensitivity: sensitivity(motion)?,
                at_least: day(&camera.at_least, second, "at_least")?.unwrap_or(AT_LEAST),
            }),
            None => None,
        },
        frozen_after: Some(frozen_after.unwrap_or(FROZEN_AFTER)).filter(|after| !after.is_zero()),
        regions: regions(&camera)?,
        address: camera.source.into_inner(),
        login_file: camera.login_file.map(Spanned::into_inner),
        login,
        name,
        source,
    })
}

fn sensitivity(given: &Spanned<u64>) -> Result<Sensitivity, Fault> {
    let value = u8::try_from(*given.get_ref()).ok();
    value.and_then(Sensitivity::new).ok_or_else(|| {
        let fault = "motion is a sensitivity from 1, only large changes, to 100, all but noise";
        (given.span(), fault.into())
    })
}

fn check_login_file(camera: &Camera, source: &CameraSource) -> Result<(), Fault> {
    let Some(file) = &camera.login_file else {
        return Ok(());
    };
    let of_address = match source {
        CameraSource::Http(url) | CameraSource::Rtsp(url) => url.login().is_some(),
        _ => {
            let fault = "login_file is for cameras on the network: http://, https:// and rtsp://";
            return Err((file.span(), fault.into()));
        }
    };
    if of_address || camera.user.is_some() || camera.password.is_some() {
        let fault = "the login stands in login_file or here, not in both";
        return Err((file.span(), fault.into()));
    }
    Ok(())
}

/// Where the key `login_file` of the camera `name` stands in `text`, if that can be read.
pub(super) fn place_of_login_file(text: &str, name: &str) -> Option<Place> {
    let file: File = toml::from_str(text).ok()?;
    let cameras = file.camera.into_iter().map(Spanned::into_inner);
    let mut found = cameras.filter(|camera| camera.name.get_ref() == name);
    let span = found.next()?.login_file?.span();
    Some(Place::of(text, span.start))
}

fn options(camera: &Camera, source: &CameraSource) -> Result<CameraOptions, Fault> {
    let timeout = match &camera.timeout {
        Some(timeout) => within(timeout, (Duration::from_secs(1), DAY), "timeout")?,
        None => CameraOptions::default().timeout,
    };
    let format: Option<CaptureFormat> = match &camera.format {
        Some(format) => Some(read(format)?),
        None => None,
    };
    let fingerprint: Option<Fingerprint> = match &camera.fingerprint {
        Some(fingerprint) => Some(read(fingerprint)?),
        None => None,
    };
    let insecure = camera.insecure_tls.as_ref();
    let trust = match (fingerprint, insecure.filter(|insecure| *insecure.get_ref())) {
        (Some(_), Some(insecure)) => {
            let fault =
                "fingerprint trusts one certificate and insecure_tls all: leave one of them out";
            return Err((insecure.span(), fault.into()));
        }
        (Some(fingerprint), None) => Trust::Fingerprint(fingerprint),
        (None, Some(_)) => Trust::Anyone,
        (None, None) => Trust::Authorities,
    };
    let transport = match &camera.rtsp_transport {
        Some(transport) if !matches!(source, CameraSource::Rtsp(_)) => {
            let fault = "rtsp_transport is for cameras whose source is rtsp://HOST/PATH";
            return Err((transport.span(), fault.into()));
        }
        Some(transport) => read(transport)?,
        None => RtspTransport::default(),
    };
    Ok(CameraOptions::within(timeout)
        .with_format(format)
        .with_trust(trust)
        .with_transport(transport))
}

fn read<T: std::str::FromStr>(given: &Spanned<String>) -> Result<T, Fault>
where
    T::Err: std::fmt::Display,
{
    (given.get_ref().parse()).map_err(|error: T::Err| (given.span(), error.to_string()))
}

fn regions(camera: &Camera) -> Result<Vec<RegionConfig>, Fault> {
    let prompt_of = |given: Option<&Spanned<String>>| match given.or(camera.prompt.as_ref()) {
        Some(prompt) => check_name(prompt.get_ref(), "prompt", ".rlp")
            .map(|()| prompt.get_ref().clone())
            .map_err(|error| (prompt.span(), error.to_string())),
        None => Ok(DEFAULT_PROMPT.to_owned()),
    };
    let threshold_of = |given: Option<&Spanned<f32>>| match given.or(camera.threshold.as_ref()) {
        Some(given) if !(0.0..=1.0).contains(given.get_ref()) => {
            let fault = "threshold is a probability from 0 to 1";
            Err((given.span(), fault.to_owned()))
        }
        given => Ok(given.map(|given| *given.get_ref())),
    };
    if camera.region.is_empty() {
        return Ok(vec![RegionConfig {
            name: WHOLE.into(),
            area: None,
            prompt: prompt_of(None)?,
            threshold: threshold_of(None)?,
        }]);
    }
    let mut found: Vec<Region> = Vec::new();
    let mut configs = Vec::new();
    for table in &camera.region {
        let (span, table) = (table.span(), table.get_ref());
        let area: Area = read::<Region>(&table.area)?.area;
        let region = Region {
            name: table.name.get_ref().clone(),
            area,
        };
        if region.name.is_empty() {
            return Err((table.name.span(), "a region needs a name".into()));
        }
        found.push(region);
        check_regions(&found).map_err(|error| (span, error.to_string()))?;
        configs.push(RegionConfig {
            name: table.name.get_ref().clone(),
            area: Some(area),
            prompt: prompt_of(table.prompt.as_ref())?,
            threshold: threshold_of(table.threshold.as_ref())?,
        });
    }
    Ok(configs)
}
