//! Bodies and queries that do not fit, as problems: what is wrong and where, in sentences of this program, which the page
//! has in each of its languages; those of the libraries that read them are for programmers.

use std::error::Error;

use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::http::StatusCode;

use super::{MAX_BODY, Problem};

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Problem {
        let said = match &rejection {
            JsonRejection::MissingJsonContentType(_) => {
                "send JSON, and say so with Content-Type: application/json".to_owned()
            }
            JsonRejection::BytesRejection(_) => too_long(rejection.status(), MAX_BODY),
            other => match found::<serde_path_to_error::Error<serde_json::Error>>(other) {
                Some(error) if error.inner().is_data() => {
                    let message = error.inner().to_string();
                    // Where that is in the text, which the place says better.
                    let message = message.split(" at line ").next().unwrap_or_default();
                    misfit("body", &error.path().to_string(), message)
                }
                Some(error) if error.inner().is_eof() => {
                    "the body is cut short: its JSON has no end".to_owned()
                }
                Some(error) => not_json(error.inner()),
                None => found::<serde_json::Error>(other).map_or_else(
                    || "the body is not JSON".to_owned(),
                    // Something follows the end.
                    not_json,
                ),
            },
        };
        Problem::new(rejection.status(), said)
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        type Unread = serde_path_to_error::Error<serde::de::value::Error>;
        let said = match found::<Unread>(&rejection) {
            Some(error) => misfit(
                "query",
                &error.path().to_string(),
                &error.inner().to_string(),
            ),
            None => "the query cannot be read".to_owned(),
        };
        Problem::new(rejection.status(), said)
    }
}

/// A body that is no JSON and was not taken; at most `most` bytes are.
pub fn unread(rejection: &BytesRejection, most: usize) -> Problem {
    Problem::new(rejection.status(), too_long(rejection.status(), most))
}

fn too_long(status: StatusCode, most: usize) -> String {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            format!("what is sent is longer than the {} MiB allowed", most >> 20)
        }
        _ => "what was sent did not arrive whole".to_owned(),
    }
}

fn not_json(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    format!("the body is not JSON from line {line}, column {column} on")
}

/// The cause of `error` that is an `E`.
fn found<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.find_map(|error| error.downcast_ref())
}

/// What does not fit where in a body or query, of which serde says `message`.
fn misfit(what: &str, place: &str, message: &str) -> String {
    let why = reason(message);
    if place == "." {
        format!("the {what} does not fit: {why}")
    } else {
        format!("the {what} does not fit at {place:?}: {why}")
    }
}

/// What serde's own messages say; those that come from this program stay.
pub fn reason(message: &str) -> String {
    if let Some((name, _)) = quoted(message, "missing field ") {
        return format!("{name:?} is missing");
    }
    if let Some((name, _)) = quoted(message, "duplicate field ") {
        return format!("{name:?} stands there twice");
    }
    for kind in ["unknown field ", "unknown variant "] {
        if let Some((name, rest)) = quoted(message, kind) {
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            return format!("{name:?} is none of {}", known.join(", "));
        }
    }
    let wanted = match message.rsplit_once(", expected ") {
        Some((found, wanted)) if found.starts_with("invalid ") => kind(wanted),
        _ if message.starts_with("invalid digit")
            || message.starts_with("cannot parse integer") =>
        {
            "a whole number"
        }
        _ if message.starts_with("number too ") => "a number that is not so large",
        _ if matches!(
            message,
            "invalid float literal" | "cannot parse float from empty string"
        ) =>
        {
            "a number"
        }
        _ if message.starts_with("provided string was not `true`") => "true or false",
        _ => return message.to_owned(),
    };
    format!("it has to be {wanted}")
}

/// What stands between backquotes after `start`, and what follows it.
fn quoted<'a>(message: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    let rest = message.strip_prefix(start)?.strip_prefix('`')?;
    rest.split_once('`')
}

/// What serde calls a kind of value, as people do.
fn kind(serde: &str) -> &str {
    match serde.split(' ').next().unwrap_or_default() {
        "struct" => "an object",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        _ => match serde {
            "a map" => "an object",
            "a sequence" => "a list",
            "a string" => "text",
            "a boolean" => "true or false",
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::config::ConfigError;
    use axum::Json;
    use axum::extract::Query;
    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[serde(rename = "name")]
        _name: String,
        #[serde(default, rename = "ids")]
        _ids: Vec<u32>,
        #[serde(default, rename = "order")]
        _order: Option<Order>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Newest,
        Oldest,
    }

    #[derive(Debug, Deserialize)]
    struct Sizes {
        #[serde(rename = "width")]
        _width: Option<u32>,
        #[serde(rename = "fps")]
        _fps: Option<f32>,
        #[serde(rename = "burst")]
        _burst: Option<bool>,
    }

    fn body(text: &str) -> String {
        let read = Json::<Asked>::from_bytes(text.as_bytes());
        Problem::from(read.unwrap_err()).detail().to_owned()
    }

    fn query<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        let read = Query::<T>::try_from_uri(&format!("/?{text}").parse().unwrap());
        Problem::from(read.unwrap_err()).detail().to_owned()
    }

    #[test]
    fn what_does_not_fit_is_said_in_words_of_this_program() {
        for (text, said) in [
            ("", "the body is cut short: its JSON has no end"),
            (r#"{"name": "#, "the body is cut short: its JSON has no end"),
            ("{name: 1}", "the body is not JSON from line 1, column 2 on"),
            (
                r#"{"name": "a"} b"#,
                "the body is not JSON from line 1, column 15 on",
            ),
            ("{}", r#"the body does not fit: "name" is missing"#),
            ("7", "the body does not fit: it has to be an object"),
            (
                r#"{"name": 7}"#,
                r#"the body does not fit at "name": it has to be text"#,
            ),
            (
                r#"{"name": "a", "ids": 7}"#,
                r#"the body does not fit at "ids": it has to be a list"#,
            ),
            (
                r#"{"name": "a", "ids": [1, "b"]}"#,
                r#"the body does not fit at "ids[1]": it has to be a whole number"#,
            ),
            (
                r#"{"name": "a", "name": "b"}"#,
                r#"the body does not fit: "name" stands there twice"#,
            ),
            (
                r#"{"name": "a", "order": "best"}"#,
                r#"the body does not fit at "order": "best" is none of newest, oldest"#,
            ),
            (
                r#"{"title": "a"}"#,
                r#"the body does not fit at "title": "title" is none of name, ids, order"#,
            ),
        ] {
            assert_eq!(body(text), said, "{text}");
        }
    }

    #[test]
    fn a_camera_that_no_configuration_can_hold_is_refused_in_words_of_this_program() {
        for (change, said) in [
            (
                "invalid type: integer `7`, expected a string",
                "it has to be text",
            ),
            ("confirm is from 1 to 1000", "confirm is from 1 to 1000"),
        ] {
            let problem = Problem::from(ConfigError::Change(change.into()));
            assert_eq!(problem.detail(), said);
        }
    }

    #[test]
    fn a_query_that_does_not_fit_is_said_in_words_of_this_program() {
        for (text, said) in [
            (
                "width=wide",
                r#"the query does not fit at "width": it has to be a whole number"#,
            ),
            (
                "width=",
                r#"the query does not fit at "width": it has to be a whole number"#,
            ),
            (
                "width=99999999999",
                r#"the query does not fit at "width": it has to be a number that is not so large"#,
            ),
            (
                "fps=fast",
                r#"the query does not fit at "fps": it has to be a number"#,
            ),
            (
                "burst=7",
                r#"the query does not fit at "burst": it has to be true or false"#,
            ),
        ] {
            assert_eq!(query::<Sizes>(text), said, "{text}");
        }
        assert_eq!(
            query::<Asked>("order=newest"),
            r#"the query does not fit: "name" is missing"#
        );
    }
}
