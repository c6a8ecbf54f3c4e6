//! How often a password may be guessed: a few times freely, then after pauses that grow, for each address and for all
//! together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong guesses of one address before it has to wait.
const FREE: u32 = 5;
/// The first wait, and the longest.
const WAIT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15 * 60));
/// Wrong guesses of all addresses in a minute.
const TOGETHER: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// After so long an address begins anew.
const FORGET: Duration = Duration::from_secs(60 * 60);
/// Addresses that are remembered at most.
const MOST: usize = 4096;

/// How long to wait before the next guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Duration);

/// Wrong guesses so far.
#[derive(Default)]
pub struct Attempts {
    of: HashMap<IpAddr, (u32, Instant)>,
    recent: Vec<Instant>,
}

impl Attempts {
    /// Whether `from` may guess now.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn may(&mut self, from: IpAddr, now: Instant) -> Result<(), Wait> {
        self.recent
            .retain(|at| now.saturating_duration_since(*at) < MINUTE);
        if self.recent.len() >= TOGETHER {
            return Err(Wait(MINUTE));
        }
        self.of
            .retain(|_, (_, at)| now.saturating_duration_since(*at) < FORGET);
        let Some((wrong, at)) = self.of.get(&network(from)) else {
            return Ok(());
        };
        let Some(beyond) = wrong.checked_sub(FREE) else {
            return Ok(());
        };
        let wait = WAIT.0.saturating_mul(1 << beyond.min(10)).min(WAIT.1);
        match (*at + wait).saturating_duration_since(now) {
            Duration::ZERO => Ok(()),
            left => Err(Wait(left)),
        }
    }

    /// A guess of `from` was wrong.
    pub fn failed(&mut self, from: IpAddr, now: Instant) {
        self.recent.push(now);
        if self.of.len() < MOST || self.of.contains_key(&network(from)) {
            let (wrong, at) = self.of.entry(network(from)).or_insert((0, now));
            (*wrong, *at) = (*wrong + 1, now);
        }
    }

    /// A guess of `from` was right.
    pub fn succeeded(&mut self, from: IpAddr) {
        self.of.remove(&network(from));
    }
}

/// An address of IPv6 stands for its network: a machine has as many as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(of) => {
            let [a, b, c, d, ..] = of.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}
