//! The flags that every command with a `--camera` has, and the camera that they name: its address from the command line or a
//! file, and its login from the address, that file, systemd or the environment.

use super::{Context, usage};
use crate::frames::camera_file::{self, CameraFile};
use crate::frames::{
    CameraOptions, CameraSource, CaptureFormat, Fingerprint, Login, RtspTransport, Trust,
};
use crate::masked::{mask_urls, masked};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Where a camera's name and password may stand, so that they are in no list of processes.
const USER: &str = camera_file::USER;
const PASSWORD: &str = camera_file::PASSWORD;
/// Where a broker's password may stand.
pub const BROKER_PASSWORD: &str = "EDGE_RLP_MQTT_PASSWORD";
/// The name of such a file among systemd's credentials.
const CREDENTIAL: &str = "camera.conf";

/// How to read a camera.
#[derive(clap::Args)]
pub struct CameraArguments {
    /// A file with CAMERA=, EDGE_RLP_CAMERA_USER= and EDGE_RLP_CAMERA_PASSWORD= that only its owner and group can read
    /// [default: the variables of these names, and systemd's credential camera.conf]
    #[arg(long, value_name = "FILE")]
    camera_config: Option<PathBuf>,
    /// What to ask a camera for [default: 640x480@30]
    #[arg(long, value_name = "WxH@FPS")]
    format: Option<CaptureFormat>,
    /// The SHA-256 of the certificate that an https camera shows, where it signs its own
    #[arg(long, value_name = "SHA256", conflicts_with = "insecure_tls")]
    fingerprint: Option<Fingerprint>,
    /// Take any certificate of an https camera: whoever is between it and this box can then see and change everything
    #[arg(long)]
    insecure_tls: bool,
    /// How an rtsp camera sends its packets: tcp loses none, and a few cameras can only do udp
    #[arg(
        long,
        value_name = "tcp|udp",
        default_value = "tcp",
        hide_default_value = true
    )]
    rtsp_transport: RtspTransport,
    /// Give a camera up that has sent nothing for so long
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration, default_value = "30s")]
    pub camera_timeout: Duration,
}

/// A camera, and how to read it.
pub struct Camera {
    pub source: CameraSource,
    pub options: CameraOptions,
}

impl CameraArguments {
    /// The camera that is called `named`, or that the file of `--camera-config` names; none where nothing names one.
    ///
    /// # Errors
    /// If the name means no camera, or the file cannot be used: wrong usage.
    pub fn camera(&self, named: Option<&str>) -> anyhow::Result<Option<Camera>> {
        let file = self.camera_config.clone().or_else(credential);
        let config = file.map_or_else(|| Ok(CameraFile::default()), |path| CameraFile::read(&path));
        let config = config.map_err(usage)?;
        let Some(named) = named.or(config.address.as_deref()) else {
            return match &self.camera_config {
                Some(path) => Err(usage(format!(
                    "{} names no camera: write a line CAMERA=SRC into it, or say --camera SRC",
                    path.display()
                ))),
                None => Ok(None),
            };
        };
        let source: CameraSource = named.parse().map_err(usage)?;
        let login = config.login().or_else(login_of_environment);
        let source = match login {
            Some(login) => source.with_login(&login),
            None => source,
        };
        Ok(Some(Camera {
            source,
            options: CameraOptions::within(self.camera_timeout)
                .with_format(self.format)
                .with_trust(self.trust())
                .with_transport(self.rtsp_transport),
        }))
    }
}

impl CameraArguments {
    fn trust(&self) -> Trust {
        match self.fingerprint {
            Some(fingerprint) => Trust::Fingerprint(fingerprint),
            None if self.insecure_tls => Trust::Anyone,
            None => Trust::Authorities,
        }
    }

    /// Says once what is risky.
    pub fn warn(&self, context: &Context) {
        if self.insecure_tls {
            context.output.warn(
                "--insecure-tls: the camera's certificate is not looked at; --fingerprint SHA256 trusts this one and no other",
            );
        }
    }
}

/// The login of the environment, if it has one.
fn login_of_environment() -> Option<Login> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (user, password) = (variable(USER), variable(PASSWORD));
    (user.is_some() || password.is_some()).then(|| Login {
        user: user.unwrap_or_default(),
        password: password.unwrap_or_default(),
    })
}

/// A camera's file among the credentials that systemd hands over, if there is one.
fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}

/// How an argument that holds a password is handed from this process to itself.
const ARGUMENT: &str = "EDGE_RLP_ARGUMENT_";

/// The arguments of this process. Those with a password in them are in the list of processes, which everyone can read: the
/// process then becomes itself once more, with the password in its environment, which only its owner can.
pub fn private(arguments: Vec<OsString>) -> Vec<OsString> {
    let given = |index: usize| std::env::var_os(format!("{ARGUMENT}{index}"));
    let secret = |argument: &OsString| argument.to_str().is_some_and(holds_secret);
    if !arguments.iter().any(secret) {
        let whole = arguments.into_iter().enumerate();
        return whole
            .map(|(index, argument)| match given(index) {
                // Only in place of what was put there for it.
                Some(given) if given.to_str().map(mask_urls).as_deref() == argument.to_str() => {
                    given
                }
                _ => argument,
            })
            .collect();
    }
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        let mut again = std::process::Command::new("/proc/self/exe");
        if let Some(name) = arguments.first() {
            again.arg0(name);
        }
        for (index, argument) in arguments.iter().enumerate().skip(1) {
            match argument.to_str().filter(|text| holds_secret(text)) {
                Some(text) => {
                    again.arg(mask_urls(text));
                    again.env(format!("{ARGUMENT}{index}"), text);
                }
                None => drop(again.arg(argument)),
            }
        }
        // It only returns where it failed; then all goes on as it is.
        let _ = again.exec();
    }
    arguments
}

/// Whether `argument` is, or ends with, an address that is not shown whole.
fn holds_secret(argument: &str) -> bool {
    argument.contains("://") && mask_urls(argument) != argument
}

/// `message` with no address in it whole, nor any of the arguments that were `given` which have a login without a scheme.
pub fn without_logins(message: &str, given: &[OsString]) -> String {
    let mut shown = mask_urls(message);
    let given = given.iter().filter_map(|argument| argument.to_str());
    for login in given.filter(|argument| argument.contains('@') && argument.contains(':')) {
        shown = shown.replace(login, &masked(login));
    }
    shown
}

/// The variables that commands which this one starts have no use for.
pub fn secret_variables() -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    let secret = |name: &OsString| {
        let name = name.to_string_lossy();
        name == PASSWORD || name == BROKER_PASSWORD || name.starts_with(ARGUMENT)
    };
    names.filter(secret).collect()
}
