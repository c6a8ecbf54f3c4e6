//! What stands before every route: whether the request was meant for this machine, comes from its own page, and from somebody
//! who may do what it asks for; and what every answer says to browsers. What was changed goes into the log.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY, SET_COOKIE,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use tokio::time::timeout;

use super::{Problem, State};
use crate::serve::access::{Access, Caller, Entry, NOBODY, Scope};
use crate::serve::changes::now;
use crate::store::home::check_name;

/// The cookie of a session: without https, and with it, where it has a name that only https can set.
const COOKIES: [&str; 2] = ["edge_rlp_session", "__Host-edge_rlp_session"];
/// How long a change may take, its body included.
const CHANGE: Duration = Duration::from_secs(180);

/// From where a request comes.
#[derive(Clone, Copy, Debug)]
pub struct From(pub IpAddr);

/// Lets a request through to its route, or says why not.
pub async fn guard(server: State, mut request: Request, next: Next) -> Response {
    let access = Arc::clone(&server.access);
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = connected.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(peer)| peer.ip());
    // A proxy may add a line of its own to those that came with the request.
    let mut forwarded = request.headers().get_all("x-forwarded-for").iter();
    let forwarded = forwarded.next_back().and_then(|line| line.to_str().ok());
    let from = access.origin(peer, forwarded);
    let https = server.has_https();
    let carried = cookie(request.headers(), https).map(str::to_owned);
    let changes = !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let path = request
        .uri()
        .path_and_query()
        .map_or("", |path| path.as_str());
    let did = format!("{} {path}", request.method());
    let (who, mut answer) = match admitted(&access, &request, carried.as_deref()) {
        Err((who, problem)) => (who, problem.into_response()),
        Ok(caller) => {
            let who = caller
                .as_ref()
                .map_or(NOBODY.into(), |caller| caller.who.clone());
            request.extensions_mut().insert(From(from));
            let lasts = caller.as_ref().and_then(|caller| access.renewed(caller));
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let mut answer = if changes {
                let late = || {
                    Problem::new(StatusCode::REQUEST_TIMEOUT, "this took too long").into_response()
                };
                timeout(CHANGE, next.run(request))
                    .await
                    .unwrap_or_else(|_| late())
            } else {
                next.run(request).await
            };
            // A session that is used goes on in the browser, too.
            if let (Some(lasts), Some(carried)) = (lasts, &carried)
                && !answer.headers().contains_key(SET_COOKIE)
            {
                let kept = set_cookie(carried, lasts, https);
                answer.headers_mut().insert(SET_COOKIE, kept);
            }
            (who, answer)
        }
    };
    if changes {
        let status = answer.status().as_u16();
        let access = Arc::clone(&access);
        // The answer waits until the line is on the disk; where it cannot be written, the cameras go on all the same.
        let _ = tokio::task::spawn_blocking(move || {
            let from = from.to_string();
            let entry = Entry {
                at: now(),
                who: &who,
                from,
                did: &did,
                status,
            };
            access.audit.add(&entry)
        })
        .await;
    }
    tell_browsers(answer.headers_mut());
    answer
}

/// Who asks, where that matters.
fn admitted(
    access: &Access,
    request: &Request,
    session: Option<&str>,
) -> Result<Option<Caller>, (String, Problem)> {
    let nobody = |problem| (NOBODY.to_owned(), problem);
    let headers = request.headers();
    let host = text(headers, HOST.as_str())
        .or(request.uri().host())
        .unwrap_or_default();
    if !access.knows_host(host) {
        let said = "this is not the name of this machine: call it by its address, or name it in [access] hosts";
        return Err(nobody(Problem::new(StatusCode::MISDIRECTED_REQUEST, said)));
    }
    let path = request.uri().path();
    of_this_page(headers, host, (request.method(), path)).map_err(nobody)?;
    names(path).map_err(nobody)?;
    let Some(scope) = needed(path, request.method()) else {
        return Ok(None);
    };
    let token = text(headers, AUTHORIZATION.as_str())
        .and_then(|value| value.split_once(' '))
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let Some(caller) = access.caller(session, token) else {
        let said = "a password or a token is needed: sign in at the page, or send Authorization: Bearer TOKEN";
        return Err(nobody(Problem::new(StatusCode::UNAUTHORIZED, said)));
    };
    if !caller.scopes.contains(&scope) {
        let said = format!(
            "{} may not do this: it needs the scope {}",
            caller.who,
            scope.name()
        );
        return Err((caller.who, Problem::new(StatusCode::FORBIDDEN, said)));
    }
    Ok(Some(caller))
}

/// Refuses names in a path that nothing can have, before any route sees them: what is called a prompt must not be read as a
/// file elsewhere.
fn names(path: &str) -> Result<(), Problem> {
    let Some(api) = path.strip_prefix("/api/v1/") else {
        return Ok(());
    };
    let mut parts = Vec::new();
    for part in api.split('/') {
        let unreadable =
            || Problem::new(StatusCode::BAD_REQUEST, "a name in the path cannot be read");
        let part = percent_decode_str(part)
            .decode_utf8()
            .map_err(|_| unreadable())?;
        if part.contains(char::is_control) {
            return Err(unreadable());
        }
        parts.push(part);
    }
    match &parts[..] {
        [first, prompt, ..] if first == "prompts" => Ok(check_name(prompt, "prompt", ".rlp")?),
        _ => Ok(()),
    }
}

/// What a request needs to be allowed; none where everybody may.
fn needed(path: &str, method: &Method) -> Option<Scope> {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let Some(api) = path.strip_prefix("/api/v1") else {
        // The page holds nothing of this box, and says no more of it than that it is there.
        return (path == "/metrics").then_some(Scope::Read);
    };
    match api {
        "/openapi.json" => None,
        "/session" => reads.then_some(Scope::Read),
        _ if api.starts_with("/tokens") => Some(Scope::Admin),
        _ if reads => Some(Scope::Read),
        _ if api.starts_with("/cameras") => Some(Scope::Admin),
        _ => Some(Scope::Label),
    }
}

/// Refuses what the page of somebody else has a browser ask for.
fn of_this_page(
    headers: &HeaderMap,
    host: &str,
    (method, path): (&Method, &str),
) -> Result<(), Problem> {
    let refused = || {
        Problem::new(
            StatusCode::FORBIDDEN,
            "a page of another site asks for this, which only the page of this box may",
        )
    };
    let site = text(headers, "sec-fetch-site");
    // A link to the page may stand anywhere. One to the interface would have a hidden frame do as much work as it likes.
    let follows_link = *method == Method::GET
        && text(headers, "sec-fetch-mode") == Some("navigate")
        && !path.starts_with("/api/");
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) && !follows_link {
        return Err(refused());
    }
    match text(headers, ORIGIN.as_str()) {
        None => Ok(()),
        Some(origin) => {
            let named = origin.split_once("://").map_or("", |(_, host)| host);
            if named.eq_ignore_ascii_case(host) {
                Ok(())
            } else {
                Err(refused())
            }
        }
    }
}

/// The session that a browser carries. With https an older one without it is not looked at.
pub fn cookie(headers: &HeaderMap, https: bool) -> Option<&str> {
    let wanted = cookie_name(https);
    let all = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    all.flat_map(|list| list.split(';')).find_map(|one| {
        let (name, value) = one.trim().split_once('=')?;
        (name == wanted).then_some(value)
    })
}

fn cookie_name(https: bool) -> &'static str {
    COOKIES[usize::from(https)]
}

/// Has a browser carry `value` for so long.
pub fn set_cookie(value: &str, lasts: Duration, https: bool) -> HeaderValue {
    let (name, seconds) = (cookie_name(https), lasts.as_secs());
    let end = if https { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{end}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// The value of a header that stands there once, as text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What every answer says to browsers, unless it says something else.
fn tell_browsers(headers: &mut HeaderMap) {
    let says: [(HeaderName, &'static str); 4] = [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in says {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if headers
        .get("content-type")
        .is_some_and(|kind| kind == "application/json")
    {
        let name = HeaderName::from_static("cache-control");
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static("no-store"));
    }
    headers.remove(WWW_AUTHENTICATE);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Browsers send the older one first, and nobody could sign in after https was turned on.
    #[test]
    fn a_session_from_before_https_does_not_hide_the_one_after() {
        let carried = "other=1; edge_rlp_session=old; __Host-edge_rlp_session=new";
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(carried))]);
        assert_eq!(cookie(&headers, true), Some("new"));
        assert_eq!(cookie(&headers, false), Some("old"));
    }
}
