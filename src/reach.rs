//! Where a redirect may lead: from a server elsewhere never to this machine itself, to its own link, or to the addresses at
//! which clouds tell machines their secrets. Judged is the address that is connected to, not its name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is the address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// This machine.
    Loopback,
    /// A machine on the same link that has no address of its own, or the cloud's metadata.
    Link,
    /// Metadata of a cloud, at an address that does not look like it.
    Metadata,
    /// Everything else.
    Elsewhere,
}

/// The cloud's metadata where they are not at a link-local address: Alibaba, Oracle, Azure; AWS and Google by IPv6.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether a server at the address `from`, which was asked on purpose, may redirect to the address `to`.
pub fn may_redirect(from: IpAddr, to: IpAddr) -> bool {
    let to = place(to);
    to == Place::Elsewhere || to == place(from)
}

/// The same where nothing is known of the server but the host of its URL, and of where it leads neither: the names are looked
/// up by somebody else, a proxy. What is not an address passes, but for names of this machine.
#[cfg(feature = "pull")]
pub fn may_name(from: &str, to: &str) -> bool {
    match (literal(from), literal(to)) {
        (_, None) => true,
        (Some(from), Some(to)) => may_redirect(from, to),
        (None, Some(to)) => place(to) == Place::Elsewhere,
    }
}

/// The address that the host of a URL is, if it is one.
#[cfg(feature = "pull")]
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let bare = bare.trim_end_matches('.').to_ascii_lowercase();
    if bare == "localhost" || bare.ends_with(".localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    // As the system reads addresses: 127.1 and 0x7f.1 are this machine.
    match url::Host::parse(&bare) {
        Ok(url::Host::Ipv4(address)) => Some(address.into()),
        _ => bare.parse().ok(),
    }
}

fn place(address: IpAddr) -> Place {
    if METADATA.contains(&address) {
        return Place::Metadata;
    }
    match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            match address {
                // 0.0.0.0 is this machine to most systems.
                _ if address.is_loopback() || first == 0 => Place::Loopback,
                _ if address.is_link_local() => Place::Link,
                _ => Place::Elsewhere,
            }
        }
        IpAddr::V6(address) => match inner(address) {
            Some(inner) => place(inner.into()),
            None if address.is_loopback() || address.is_unspecified() => Place::Loopback,
            None if address.segments()[0] & 0xffc0 == 0xfe80 => Place::Link,
            None => Place::Elsewhere,
        },
    }
}

/// The IPv4 address within one of IPv6: mapped, compatible, of NAT64 (RFC 6052) or 6to4.
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        (0, 0)
            if (c, d, e) == (0, 0, 0) && (f == 0xffff || (f == 0 && (g, h > 1) != (0, false))) =>
        {
            of(g, h)
        }
        (0x64, 0xff9b) => of(g, h),
        (0x2002, _) => of(b, c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(from: &str, to: &str) -> bool {
        may_redirect(from.parse().unwrap(), to.parse().unwrap())
    }

    const SPECIAL: [&str; 19] = [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.7",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "::1",
        "::",
        "fe80::1",
        "febf::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::1",
    ];

    #[test]
    fn from_elsewhere_nothing_leads_to_this_machine_its_link_or_a_clouds_secrets() {
        for to in SPECIAL {
            for from in [
                "192.168.1.20",
                "10.0.0.7",
                "203.0.113.9",
                "2001:db8::7",
                "fd12::1",
            ] {
                assert!(!may(from, to), "{from} to {to}");
            }
        }
        assert!(!may("127.0.0.1", "169.254.169.254"));
        assert!(!may("169.254.1.1", "127.0.0.1"));
    }

    #[test]
    fn cameras_redirect_on_their_own_network_and_where_they_are() {
        for (from, to) in [
            ("192.168.1.20", "192.168.1.21"),
            ("192.168.1.20", "203.0.113.9"),
            ("203.0.113.9", "10.0.0.7"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "::1"),
            ("169.254.3.3", "169.254.3.4"),
            ("fe80::3", "fe80::4"),
            ("127.0.0.1", "192.168.1.20"),
            ("2001:db8::7", "2001:db8::8"),
        ] {
            assert!(may(from, to), "{from} to {to}");
        }
    }

    #[cfg(feature = "pull")]
    #[test]
    fn hosts_that_a_proxy_looks_up_are_judged_by_what_they_say() {
        for to in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "localhost",
            "x.LOCALHOST.",
            "[::1]",
            "169.254.169.254",
        ] {
            assert!(!may_name("hub.example", to), "{to}");
        }
        assert!(may_name("localhost", "127.0.0.1") && may_name("hub.example", "cdn.example"));
        assert!(may_name("127.0.0.1", "[::1]") && !may_name("127.0.0.1", "169.254.169.254"));
    }
}
