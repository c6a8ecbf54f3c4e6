//! Looks up where to connect to, and refuses where a redirect must not lead.

use crate::reach;
use std::cell::RefCell;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::IpAddr;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// What is asked by this thread: an agent looks up names where it is called.
#[derive(Default)]
struct Hops {
    redirected: bool,
    /// Where the server is that was asked first.
    first: Vec<IpAddr>,
}

thread_local! {
    static HOPS: RefCell<Hops> = RefCell::default();
}

/// What is asked from here on, by this thread, is what the user asked for.
pub fn begin() {
    HOPS.with_borrow_mut(|hops| *hops = Hops::default());
}

/// What is asked from here on, by this thread, is what a server redirected to.
pub fn redirected() {
    HOPS.with_borrow_mut(|hops| hops.redirected = true);
}

/// The system's, but that redirects lead to no address where they must not.
#[derive(Debug, Default)]
pub struct Reachable(DefaultResolver);

/// The address of a host is one that redirects must not lead to.
#[derive(Debug)]
pub struct Unreachable;

impl fmt::Display for Unreachable {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(Unreachable::WORDS)
    }
}

impl StdError for Unreachable {}

impl Unreachable {
    pub const WORDS: &str =
        "it redirects to an address of this machine, of its own link or of a cloud's metadata";

    /// Whether an error is this one.
    pub fn is(error: &io::Error) -> bool {
        error
            .get_ref()
            .is_some_and(|inner| inner.is::<Unreachable>())
    }
}

impl Resolver for Reachable {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        // The user chose the proxy, wherever it is.
        if config
            .proxy()
            .is_some_and(|proxy| Some(proxy.host()) == uri.host() && !proxy.is_no_proxy(uri))
        {
            return Ok(found);
        }
        HOPS.with_borrow_mut(|hops| {
            if !hops.redirected {
                hops.first.extend(found.iter().map(|address| address.ip()));
                return Ok(found);
            }
            let may = |to: IpAddr| match hops.first.as_slice() {
                // A proxy had looked it up.
                [] => reach::may_redirect(ELSEWHERE, to),
                first => first.iter().all(|from| reach::may_redirect(*from, to)),
            };
            let mut reachable = self.empty();
            for address in found.iter().filter(|address| may(address.ip())) {
                reachable.push(*address);
            }
            if reachable.is_empty() {
                return Err(Error::Io(io::Error::other(Unreachable)));
            }
            Ok(reachable)
        })
    }
}

/// An address like most (RFC 5737).
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));
