//! Under which names this machine is asked. A page of somebody else whose name leads to an address of this network (DNS
//! rebinding) asks under its own name, and is refused.

use std::net::IpAddr;

/// The names and addresses that a request may name as its host.
pub struct Hosts {
    loopback: bool,
    names: Vec<String>,
}

impl Hosts {
    /// For an address of loopback alone or not, with `names` beside those of this machine.
    pub fn new(loopback: bool, names: &[String]) -> Hosts {
        let mut all: Vec<String> = names.iter().map(|name| bare(name).to_lowercase()).collect();
        all.push("localhost".into());
        if !loopback {
            all.extend(own_names());
        }
        Hosts {
            loopback,
            names: all,
        }
    }

    /// Whether `host`, with a port or without, is this machine. An address is: nobody else's name can be one.
    pub fn knows(&self, host: &str) -> bool {
        let host = bare(host).trim_end_matches('.').to_lowercase();
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return !self.loopback || address.to_canonical().is_loopback();
        }
        self.names.contains(&host)
    }
}

/// A host without its port. An address of IPv6 has colons of its own, and brackets around it where a port follows.
fn bare(host: &str) -> &str {
    let Some((name, port)) = host.rsplit_once(':') else {
        return host;
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    let ends = name.ends_with(']') || !name.contains(':');
    if is_port && ends { name } else { host }
}

/// What this machine calls itself.
fn own_names() -> Vec<String> {
    #[cfg(unix)]
    {
        let system = rustix::system::uname();
        let name = system.nodename().to_string_lossy().to_lowercase();
        let short = name.split('.').next().unwrap_or_default().to_owned();
        vec![format!("{short}.local"), short, name]
    }
    #[cfg(not(unix))]
    {
        Vec::new()
    }
}
