//! The flags that every command with a `--camera` has, and the camera that they name: its address from the command line or a
//! file, and its login from the address, that file, systemd or the environment.

use super::{Context, usage};
use crate::files;
use crate::frames::{
    CameraOptions, CameraSource, CaptureFormat, Fingerprint, Login, RtspTransport, Trust,
};
use crate::masked::{mask_urls, masked};
use anyhow::Context as _;
use std::ffi::OsString;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a camera's name and password may stand, so that they are in no list of processes.
pub const USER: &str = "EDGE_RLP_CAMERA_USER";
pub const PASSWORD: &str = "EDGE_RLP_CAMERA_PASSWORD";
/// Where a broker's password may stand.
pub const BROKER_PASSWORD: &str = "EDGE_RLP_MQTT_PASSWORD";
/// What a camera's file calls its address, and the options of the service that reads the same file.
const ADDRESS: &str = "CAMERA";
const OPTIONS: &str = "OPTIONS";
/// The name of such a file among systemd's credentials.
const CREDENTIAL: &str = "camera.conf";
const MAX_CONFIG: u64 = 64 << 10;

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
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "30s")]
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
        let config = file.map_or_else(|| Ok(Config::default()), |path| Config::read(&path));
        let config = config.map_err(usage)?;
        let Some(named) = named.or(config.address.as_deref()) else {
            return match &self.camera_config {
                Some(path) => Err(usage(format!(
                    "{} names no camera: write a line {ADDRESS}=SRC into it, or say --camera SRC",
                    path.display()
                ))),
                None => Ok(None),
            };
        };
        let source: CameraSource = named.parse().map_err(usage)?;
        let login = config.login().or_else(|| Config::environment().login());
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

/// What a camera's file says.
#[derive(Default)]
struct Config {
    address: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

impl Config {
    fn read(path: &Path) -> anyhow::Result<Config> {
        let shown = path.display();
        let file = files::open(path).with_context(|| format!("{shown} cannot be read"))?;
        closed_to_others(path, &file.metadata()?)?;
        let bytes =
            files::read(path, MAX_CONFIG).with_context(|| format!("{shown} cannot be read"))?;
        anyhow::ensure!(
            bytes.len() as u64 <= MAX_CONFIG,
            "{shown} has more than {MAX_CONFIG} bytes: it names one camera"
        );
        let text = String::from_utf8(bytes)
            .map_err(|_| anyhow::anyhow!("{shown} is not text in UTF-8"))?;
        Config::parse(&text).with_context(|| shown.to_string())
    }

    /// Lines `NAME=VALUE` as systemd's EnvironmentFile= has them. A line is never repeated in an error: it may be a password.
    fn parse(text: &str) -> anyhow::Result<Config> {
        let mut config = Config::default();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let known = format!("{ADDRESS}, {USER}, {PASSWORD} and {OPTIONS}");
            let (name, value) = line.split_once('=').with_context(|| {
                format!("line {number} is no NAME=VALUE; the names are {known}")
            })?;
            let value = Some(unquoted(value.trim()));
            match name.trim() {
                ADDRESS => config.address = value,
                USER => config.user = value,
                PASSWORD => config.password = value,
                // For the service alone.
                OPTIONS => {}
                _ => anyhow::bail!("line {number} has none of the names {known}"),
            }
        }
        Ok(config)
    }

    fn environment() -> Config {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Config {
            address: None,
            user: variable(USER),
            password: variable(PASSWORD),
        }
    }

    fn login(&self) -> Option<Login> {
        (self.user.is_some() || self.password.is_some()).then(|| Login {
            user: self.user.clone().unwrap_or_default(),
            password: self.password.clone().unwrap_or_default(),
        })
    }
}

/// A value without the quotes around it, and without the backslashes that double ones need.
fn unquoted(value: &str) -> String {
    let within = |quote| {
        let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
        (value.len() >= 2).then_some(inner)
    };
    if let Some(inner) = within('\'') {
        return inner.into();
    }
    let Some(inner) = within('"') else {
        return value.into();
    };
    let (mut plain, mut escaped) = (String::new(), false);
    for c in inner.chars() {
        match (escaped, c) {
            (false, '\\') => escaped = true,
            (true, '"' | '\\' | '$' | '`') | (false, _) => {
                plain.push(c);
                escaped = false;
            }
            (true, _) => {
                plain.extend(['\\', c]);
                escaped = false;
            }
        }
    }
    plain
}

/// A camera's file among the credentials that systemd hands over, if there is one.
fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}

#[cfg(unix)]
fn closed_to_others(path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    anyhow::ensure!(
        mode & 0o027 == 0,
        "{} may hold a password, and has mode {mode:03o}, which lets others at it: `chmod 640` it",
        path.display()
    );
    Ok(())
}

#[cfg(not(unix))]
fn closed_to_others(_: &Path, _: &Metadata) -> anyhow::Result<()> {
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_systemd_reads_it() {
        let text = "# front door\n\nCAMERA = http://cam/v\r\nEDGE_RLP_CAMERA_USER=admin\nEDGE_RLP_CAMERA_PASSWORD=\"a\\\"b#c \\\\d\"\nOPTIONS=\"--every 1s\"\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.address.as_deref(), Some("http://cam/v"));
        let login = config.login().unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.as_str()),
            ("admin", "a\"b#c \\d")
        );
        let single = Config::parse("EDGE_RLP_CAMERA_PASSWORD='x'").unwrap();
        assert_eq!(single.login().unwrap().password, "x");
        assert!(Config::parse("").unwrap().login().is_none());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_not_repeated() {
        for text in ["CAMERA=1\ns3cret", "CAMERA=1\nPASSWORD=s3cret"] {
            let error = Config::parse(text).err().unwrap().to_string();
            assert!(
                error.contains("line 2") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "CAMERA=0\n").unwrap();
        for (mode, fine) in [
            (0o600, true),
            (0o640, true),
            (0o400, true),
            (0o644, false),
            (0o660, false),
        ] {
            std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
            let read = Config::read(file.path());
            assert_eq!(read.is_ok(), fine, "{mode:o}");
            if let Err(error) = read {
                assert!(error.to_string().contains("chmod 640"), "{error}");
            }
        }
    }
}
