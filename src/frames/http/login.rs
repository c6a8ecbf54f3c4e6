//! Logins by name and password, as a camera's challenges ask for them: digest (MD5, SHA-256, SHA-512/256) before basic, and
//! basic after a digest that was refused. A password is sent to nobody who has not asked for it.

use super::HttpError;
use crate::frames::Login;
use base64::Engine as _;
use digest_auth::{AuthContext, Qop, WwwAuthenticateHeader};
use std::borrow::Cow;

/// How a camera is logged in to, from one request to the next.
#[derive(Default)]
pub struct Authentication {
    login: Option<Login>,
    /// What the camera took last.
    accepted: Option<Kind>,
}

/// A kind of login.
enum Kind {
    Basic,
    Digest(Box<WwwAuthenticateHeader>),
}

impl Authentication {
    pub fn new(login: Option<Login>) -> Authentication {
        Authentication {
            login,
            accepted: None,
        }
    }

    /// The value of an Authorization line for a request of `uri`, once it is known what is wanted there.
    pub fn header(&mut self, uri: &str) -> Option<String> {
        let login = self.login.as_ref()?;
        match self.accepted.as_mut()? {
            Kind::Basic => {
                let pair = format!("{}:{}", login.user, login.password);
                let secret = base64::engine::general_purpose::STANDARD.encode(pair);
                Some(format!("Basic {secret}"))
            }
            Kind::Digest(challenge) => {
                let mut context = AuthContext::new(&login.user, &login.password, uri);
                let qop = challenge.qop.as_deref().unwrap_or_default();
                if qop.contains(&Qop::AUTH_INT) && !qop.contains(&Qop::AUTH) {
                    // The digest of the body as well, and that of a GET is empty.
                    context.body = Some(Cow::Borrowed(&[]));
                }
                let answer = challenge.respond(&context).ok()?;
                Some(answer.to_header_string())
            }
        }
    }

    /// Takes in what a refusal asks for. `tried` are the kinds of login that this request was refused with.
    ///
    /// # Errors
    /// If there is nothing left to try.
    pub fn challenged(
        &mut self,
        challenges: &[String],
        tried: &mut Vec<String>,
    ) -> Result<(), HttpError> {
        if self.login.is_none() {
            return Err(HttpError::LoginMissing);
        }
        let asked: Vec<(String, String)> = challenges.iter().flat_map(|line| split(line)).collect();
        let mut kinds: Vec<Kind> = asked.iter().filter_map(kind).collect();
        if asked.is_empty() {
            // Some refuse without a word; then it is what most cameras want.
            kinds.push(Kind::Basic);
        }
        // Digest before basic.
        kinds.sort_by_key(|kind| matches!(kind, Kind::Basic));
        if kinds.is_empty() {
            let schemes: Vec<String> = asked.into_iter().map(|(scheme, _)| scheme).collect();
            return Err(HttpError::LoginKind(schemes.join(", ")));
        }
        let next = kinds.into_iter().find(|kind| !tried.contains(&name(kind)));
        let next = next.ok_or(HttpError::LoginRefused)?;
        tried.push(name(&next));
        self.accepted = Some(next);
        Ok(())
    }
}

/// The challenges of one line, each with its scheme: a comma separates challenges as well as their parameters, and a scheme
/// is a word without an equals sign before a blank.
fn split(line: &str) -> Vec<(String, String)> {
    let (mut pieces, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in line.chars() {
        match c {
            ',' if !quoted => {
                pieces.push(String::new());
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    let mut challenges: Vec<(String, String)> = Vec::new();
    for piece in pieces
        .iter()
        .map(|piece| piece.trim())
        .filter(|piece| !piece.is_empty())
    {
        let word = piece.split(' ').next().unwrap_or_default();
        match challenges.last_mut() {
            Some((_, parameters))
                if word.contains('=') || piece[word.len()..].trim_start().starts_with('=') =>
            {
                if !parameters.is_empty() {
                    *parameters += ", ";
                }
                *parameters += &parameter(piece);
            }
            _ => challenges.push((word.to_owned(), parameter(&piece[word.len()..]))),
        }
    }
    challenges
}

/// A parameter with its name in small letters, as whoever reads it expects.
fn parameter(piece: &str) -> String {
    match piece.split_once('=') {
        Some((name, value)) => format!("{}={}", name.trim().to_ascii_lowercase(), value.trim()),
        None => piece.trim().to_owned(),
    }
}

fn kind((scheme, parameters): &(String, String)) -> Option<Kind> {
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Kind::Basic);
    }
    if !scheme.eq_ignore_ascii_case("digest") {
        return None;
    }
    let challenge = digest_auth::parse(&format!("Digest {parameters}")).ok()?;
    Some(Kind::Digest(Box::new(challenge)))
}

/// What makes two logins of one request the same: another nonce that is not stale changes nothing.
fn name(kind: &Kind) -> String {
    match kind {
        Kind::Digest(digest) => {
            format!(
                "digest {:?} {} {}",
                digest.algorithm, digest.realm, digest.stale
            )
        }
        Kind::Basic => "basic".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authentication() -> Authentication {
        Authentication::new(Some(Login {
            user: "admin".into(),
            password: "s3cret".into(),
        }))
    }

    fn header(challenges: &[&str]) -> Result<String, HttpError> {
        let mut authentication = authentication();
        let challenges: Vec<String> = challenges.iter().map(|line| (*line).into()).collect();
        authentication.challenged(&challenges, &mut Vec::new())?;
        Ok(authentication.header("/x?y=1").unwrap())
    }

    #[test]
    fn the_scheme_is_compared_as_a_scheme_and_digest_comes_first() {
        let digest = "Digest realm=\"Basic_Cam\", qop=\"auth\", nonce=\"abc\"";
        for challenges in [
            &[digest][..],
            &["Basic realm=\"cam\"", digest],
            &[
                "NTLM",
                "Basic realm=\"x\", Digest realm=\"y\", qop=\"auth\", nonce=\"abc\", algorithm=SHA-256",
            ],
        ] {
            let header = header(challenges).unwrap();
            assert!(
                header.starts_with("Digest ") && header.contains("uri=\"/x?y=1\""),
                "{header}"
            );
        }
        for challenges in [
            &["basic realm=Digest"][..],
            &["BASIC"],
            &["Basic realm=\"a, Digest b\""],
            &[],
        ] {
            assert_eq!(
                header(challenges).unwrap(),
                "Basic YWRtaW46czNjcmV0",
                "{challenges:?}"
            );
        }
        // Names of parameters in large letters, and blanks around the sign.
        let large = header(&["digest REALM=\"c\", QOP = \"auth\", Nonce=\"n\""]).unwrap();
        assert!(
            large.contains("realm=\"c\"") && large.contains("qop=auth"),
            "{large}"
        );
        let error = header(&["NTLM", "Negotiate"]).unwrap_err().to_string();
        assert!(error.contains("NTLM, Negotiate"), "{error}");
    }

    #[test]
    fn after_a_refused_digest_basic_is_tried_and_then_it_is_given_up() {
        let mut authentication = authentication();
        let challenges = [
            "Digest realm=\"c\", qop=\"auth\", nonce=\"1\"".into(),
            "Basic realm=\"c\"".into(),
        ];
        let mut tried = Vec::new();
        for begin in ["Digest ", "Basic "] {
            authentication.challenged(&challenges, &mut tried).unwrap();
            assert!(authentication.header("/").unwrap().starts_with(begin));
        }
        let refused = authentication
            .challenged(&challenges, &mut tried)
            .unwrap_err();
        assert!(matches!(refused, HttpError::LoginRefused));
        let missing = Authentication::new(None).challenged(&challenges, &mut Vec::new());
        assert!(matches!(missing.unwrap_err(), HttpError::LoginMissing));
    }
}
