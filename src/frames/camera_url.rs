//! The address of a camera on the network, and the login that goes with it. Neither can be shown whole.

use super::FramesError;
use crate::masked::masked;
use std::fmt;
use url::Url;

/// The address of a camera: `SCHEME://[user:password@]host[:port]/path`. Shown, it is without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct CameraUrl(Url);

/// A name and a password. Shown, it is without either.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Login(***)")
    }
}

/// The schemes that cameras are read by.
const SCHEMES: [&str; 3] = ["http", "https", "rtsp"];

impl CameraUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// If it is none, or not one that cameras are read by.
    pub fn parse(text: &str) -> Result<CameraUrl, FramesError> {
        let refused = |reason: String| FramesError::Address {
            address: text.into(),
            reason,
        };
        let url = Url::parse(text).map_err(|error| refused(unreadable(text, &error)))?;
        if !SCHEMES.contains(&url.scheme()) {
            let known = SCHEMES.join(", ");
            return Err(refused(format!("{} is none of {known}", url.scheme())));
        }
        if !url.has_host() {
            return Err(refused("it names no host".into()));
        }
        if url.fragment().is_some() {
            return Err(refused(format!(
                "no camera needs a # and what follows it{ENCODE}"
            )));
        }
        Ok(CameraUrl(url))
    }

    /// The address without its login.
    pub(super) fn without_login(&self) -> Url {
        let mut url = self.0.clone();
        // Only addresses without a host have no place for these, and those were refused.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        url
    }

    /// Whether it is one of RTSP.
    pub(super) fn is_rtsp(&self) -> bool {
        self.0.scheme() == "rtsp"
    }

    /// The login that it holds.
    pub fn login(&self) -> Option<Login> {
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8_lossy()
                .into_owned()
        };
        let (user, password) = (self.0.username(), self.0.password());
        (!user.is_empty() || password.is_some()).then(|| Login {
            user: decoded(user),
            password: decoded(password.unwrap_or_default()),
        })
    }

    /// The same address with `login`; what of a login the address has already is kept.
    pub fn with_login(&self, login: &Login) -> CameraUrl {
        let mut url = self.0.clone();
        // Only addresses without a host have no place for these, and those were refused. A % must be written as %25 here:
        // what follows it would else be taken for a code.
        let encoded = |text: &str| text.replace('%', "%25");
        if url.username().is_empty() {
            let _ = url.set_username(&encoded(&login.user));
        }
        if url.password().is_none() && !login.password.is_empty() {
            let _ = url.set_password(Some(&encoded(&login.password)));
        }
        CameraUrl(url)
    }
}

/// What to do about signs of a password that end the host.
const ENCODE: &str =
    "; in a name or a password write # as %23, / as %2F, ? as %3F, @ as %40 and : as %3A";

fn unreadable(text: &str, error: &url::ParseError) -> String {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let user = rest.rfind('@').map_or("", |at| &rest[..at]);
    let hint =
        if user.contains(['#', '/', '?', '@']) || matches!(error, url::ParseError::InvalidPort) {
            ENCODE
        } else {
            ""
        };
    format!("{error}{hint}")
}

impl fmt::Display for CameraUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&masked(self.without_login().as_str()))
    }
}

impl fmt::Debug for CameraUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CameraUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let camera =
            CameraUrl::parse("http://admin:s3cret@cam.local/v?size=1x1&pwd=s3cret").unwrap();
        assert_eq!(camera.to_string(), "http://cam.local/v?size=1x1&pwd=***");
        assert!(!format!("{camera:?} {:?}", camera.login()).contains("s3cret"));
    }

    #[test]
    fn a_login_is_added_where_there_is_none_and_comes_out_as_it_went_in() {
        let login = Login {
            user: "me@home".into(),
            password: "a#b/c?d:e%41 ü".into(),
        };
        let bare = CameraUrl::parse("http://cam.local/v").unwrap();
        assert_eq!(bare.login(), None);
        assert_eq!(bare.with_login(&login).login(), Some(login.clone()));
        let named = CameraUrl::parse("http://you@cam.local/v").unwrap();
        assert_eq!(named.with_login(&login).login().unwrap().user, "you");
        assert_eq!(
            named.with_login(&login).login().unwrap().password,
            login.password
        );
        let whole = CameraUrl::parse("http://you:p%40ss@cam.local/v").unwrap();
        assert_eq!(whole.with_login(&login).login().unwrap().password, "p@ss");
    }

    #[test]
    fn a_sign_in_a_password_that_ends_the_host_is_told_how_to_write_it() {
        for text in [
            "http://admin:s3#cret@10.0.0.7/x",
            "http://admin:s3/cret@10.0.0.7/x",
            "http://admin:s3?cret@10.0.0.7/x",
            "http://admin:12#34@10.0.0.7/x",
        ] {
            let message = CameraUrl::parse(text).unwrap_err().to_string();
            assert!(message.contains("write # as %23"), "{message}");
            assert!(
                !message.contains("s3") && !message.contains("34@"),
                "{message}"
            );
        }
        let message = CameraUrl::parse("gopher://admin:s3cret@cam/")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("gopher") && !message.contains("s3cret"),
            "{message}"
        );
    }
}
