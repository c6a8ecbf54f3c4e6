//! `classify --mqtt`: what a camera shows goes to an MQTT broker as well.

use crate::classifier::Classifier;
use crate::cli::camera::{BROKER_PASSWORD, Camera};
use crate::cli::{Context, usage};
use crate::frames::{CameraProblem, CameraSource};
use crate::host::machine;
use crate::mqtt::{
    Broker, BrokerAddress, BrokerSettings, CameraReporter, DISCOVERY, Happening, Identity,
    PromptInUse, Reporter, Scope, Site, SiteCamera, SiteRegion, Version, WHOLE, password_in,
};
use crate::prompt::Region;
use crate::watch::{Event, Liveness, PromptChange};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// The name of a file with it among systemd's credentials.
const CREDENTIAL: &str = "mqtt-password";
/// How long a label holds that was not confirmed.
const EXPIRES: Duration = Duration::from_secs(60);
/// How long the last reports may take.
const LAST: Duration = Duration::from_secs(3);

/// Which broker, and what it is told.
#[derive(clap::Args)]
pub struct BrokerArguments {
    /// Report to an MQTT broker: mqtt://HOST or mqtts://HOST (encrypted), with USER@ before HOST. The password stands in
    /// EDGE_RLP_MQTT_PASSWORD or --mqtt-password-file
    #[arg(long, value_name = "URL", conflicts_with = "paths")]
    mqtt: Option<String>,
    /// What this box is called there [default: this machine's name]
    #[arg(long, value_name = "NAME", requires = "mqtt")]
    mqtt_box: Option<String>,
    /// What the camera is called there [default: after --camera]
    #[arg(long, value_name = "NAME", requires = "mqtt")]
    mqtt_camera: Option<String>,
    /// A file with the broker's password that only its owner and group can read
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    mqtt_password_file: Option<PathBuf>,
    /// Trust the authorities in this PEM file in place of the system's
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    mqtt_ca: Option<PathBuf>,
    /// The PEM file of this client's certificate, where the broker wants one
    #[arg(long, value_name = "FILE", requires_all = ["mqtt", "mqtt_key"])]
    mqtt_cert: Option<PathBuf>,
    /// The PEM file of its private key
    #[arg(long, value_name = "FILE", requires_all = ["mqtt", "mqtt_cert"])]
    mqtt_key: Option<PathBuf>,
    /// The protocol's version: 3 (3.1.1) or 5
    #[arg(long, value_name = "N", requires = "mqtt", default_value = "3", value_parser = ["3", "5"])]
    mqtt_version: String,
    /// Where Home Assistant looks for devices; "off" tells it nothing
    #[arg(long, value_name = "PREFIX", requires = "mqtt", default_value = DISCOVERY)]
    mqtt_discovery: String,
    /// Send pictures as well: who may read the broker's messages sees what the camera sees
    #[arg(long, requires = "mqtt")]
    mqtt_snapshots: bool,
}

/// Reports on a camera, where that was asked for.
pub struct Reporting {
    broker: Broker,
    camera: CameraReporter,
    happenings: Receiver<Happening>,
    address: String,
    prompt: PromptInUse,
}

/// What is watched.
pub struct Watched<'a> {
    pub camera: &'a Camera,
    /// Its parts that are looked at; none for all of it.
    pub regions: &'a [Region],
    pub classifier: &'a Classifier<'a>,
    /// The time between two frames, where one was asked for.
    pub every: Option<Duration>,
    pub prompt: PromptInUse,
}

impl BrokerArguments {
    /// Begins to report; nothing without `--mqtt`.
    ///
    /// # Errors
    /// If the settings cannot be used: wrong usage.
    pub fn start(&self, watched: Watched, context: &Context) -> anyhow::Result<Option<Reporting>> {
        let Some(address) = &self.mqtt else {
            return Ok(None);
        };
        let address: BrokerAddress = address.parse().map_err(usage)?;
        let shown = address.to_string();
        let mut settings = BrokerSettings::new(address)
            .with_login(None, password(self.mqtt_password_file.as_deref())?);
        settings.version = match &*self.mqtt_version {
            "5" => Version::V5,
            _ => Version::V3,
        };
        settings.authorities = self.mqtt_ca.clone();
        settings.identity = match (&self.mqtt_cert, &self.mqtt_key) {
            (Some(certificate), Some(key)) => Some(Identity {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => None,
        };
        let camera = match &self.mqtt_camera {
            Some(name) => name.clone(),
            None => called(&watched.camera.source),
        };
        let labels = watched.classifier.labels().iter();
        let labels = labels.filter(|label| !label.is_untold());
        let labels: Vec<String> = labels.map(|label| label.name.clone()).collect();
        let region = |name: &str| SiteRegion {
            name: region_name(name).into(),
            labels: labels.clone(),
            controls: None,
        };
        let regions = watched.regions.iter().map(|of| region(&of.name));
        let regions = match watched.regions {
            [] => vec![region("")],
            _ => regions.collect(),
        };
        let expires = EXPIRES.max(4 * watched.every.unwrap_or_default());
        let site = Site {
            name: self.mqtt_box.clone().unwrap_or_else(machine::name),
            scope: Scope::Camera,
            page: None,
            cameras: vec![SiteCamera {
                name: camera.clone(),
                // Nobody may put a picture into a folder for days.
                expires: (!matches!(watched.camera.source, CameraSource::Folder(_)))
                    .then_some(expires),
                snapshots: self.mqtt_snapshots,
                regions,
            }],
        };
        let reporter = Reporter {
            id: machine::id(context.home.root()),
            host: machine::name(),
        };
        let discovery = Some(self.mqtt_discovery.trim_matches('/').to_owned());
        let discovery = discovery.filter(|prefix| !prefix.is_empty() && prefix != "off");
        if let Some(sign) = discovery
            .as_ref()
            .and_then(|prefix| prefix.find(['+', '#']))
        {
            return Err(usage(format!(
                "--mqtt-discovery cannot have the sign {:?}",
                &self.mqtt_discovery[sign..=sign]
            )));
        }
        let (broker, happenings) =
            Broker::start(settings, site, reporter, discovery).map_err(usage)?;
        Ok(Some(Reporting {
            camera: broker.camera(&camera),
            broker,
            happenings,
            address: shown,
            prompt: watched.prompt,
        }))
    }
}

/// The password of a broker: that of a file, of systemd's credentials, or of the environment.
///
/// # Errors
/// If a file is named that cannot be used.
pub fn password(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    match file.map(Path::to_owned).or_else(credential) {
        Some(path) => password_in(&path).map(Some).map_err(usage),
        None => Ok(std::env::var(BROKER_PASSWORD)
            .ok()
            .filter(|password| !password.is_empty())),
    }
}

fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}

/// What a region is called that may have no name.
fn region_name(name: &str) -> &str {
    if name.is_empty() { WHOLE } else { name }
}

/// What a camera is called that has no name of its own.
fn called(source: &CameraSource) -> String {
    match source {
        CameraSource::Index(index) => format!("camera-{index}"),
        CameraSource::Stdin => "camera".into(),
        CameraSource::Demo(_) => "demo".into(),
        CameraSource::Device(path) | CameraSource::Folder(path) | CameraSource::File(path) => {
            let name = path.file_stem().map(|name| name.to_string_lossy());
            name.unwrap_or("camera".into()).into_owned()
        }
        other => {
            let shown = other.to_string();
            let rest = shown.split_once("://").map_or(&*shown, |(_, rest)| rest);
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            let host = host.split(['/', '?', '#']).next().unwrap_or_default();
            match host.split(':').next() {
                Some(host) if !host.is_empty() && !host.starts_with('[') => host.into(),
                _ => "camera".into(),
            }
        }
    }
}

impl Reporting {
    /// Reports what happened; to be called before others take it.
    pub fn report(&mut self, event: &Event) {
        match event {
            Event::Named(named) => {
                self.camera
                    .named(region_name(&named.region), named, &self.prompt);
            }
            Event::Still(_) => self.camera.still(),
            Event::Prompt(PromptChange::InUse { sequence }) => {
                self.prompt.generation = Some(*sequence);
            }
            Event::Problem(CameraProblem::Lost { reason, .. }) => self.camera.problem(reason),
            Event::Liveness(liveness @ Liveness::Frozen(_)) => {
                self.camera.problem(&liveness.to_string());
            }
            Event::Liveness(Liveness::Moving(_)) => self.camera.working(),
            Event::Prompt(_) | Event::Problem(_) | Event::Ended => {}
        }
    }

    /// The camera is given up.
    pub fn given_up(&mut self, reason: &str) {
        self.camera.problem(reason);
    }

    /// What is to be said of the broker since the last time.
    pub fn news(&self) -> impl Iterator<Item = (bool, String)> {
        self.happenings.try_iter().map(|happening| {
            let words = format!("broker {}: {happening}", self.address);
            (happening.is_warning(), words)
        })
    }

    /// Says what is left to be said, and that the camera is no longer watched.
    pub fn finish(self) -> Vec<(bool, String)> {
        let Reporting {
            broker,
            happenings,
            address,
            ..
        } = self;
        broker.finish(LAST);
        let said = happenings.try_iter().map(|happening| {
            let words = format!("broker {address}: {happening}");
            (happening.is_warning(), words)
        });
        said.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_without_a_name_is_called_after_its_source_and_never_by_a_login() {
        for (source, name) in [
            ("0", "camera-0"),
            ("demo:clear", "demo"),
            ("-", "camera"),
            ("/dev/video2", "video2"),
            (
                "http://me:s3cret@cam.local:8080/snap?token=s3cret",
                "cam.local",
            ),
        ] {
            let source: CameraSource = source.parse().unwrap();
            assert_eq!(called(&source), name);
        }
    }
}
