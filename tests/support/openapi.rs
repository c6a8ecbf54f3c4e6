//! Holds answers to the OpenAPI document: each must have a code that the document knows for its route, and a body as it says.

use super::serve::Answer;
use serde_json::Value;
use std::sync::OnceLock;

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        serde_json::from_str(include_str!("../../src/serve/api/openapi.json")).unwrap()
    })
}

/// Checks an answer to `method path`, where the document has that.
#[track_caller]
pub fn check(method: &str, path: &str, answer: &Answer) {
    let bare = path.split('?').next().unwrap();
    let parts: Vec<&str> = bare.split('/').collect();
    let paths = document()["paths"].as_object().unwrap();
    let fits = |template: &str| {
        let of: Vec<&str> = template.split('/').collect();
        of.len() == parts.len()
            && of
                .iter()
                .zip(&parts)
                .all(|(of, part)| of.starts_with('{') || of == part)
    };
    // A route without a variable goes before one with.
    let mut found: Vec<&String> = paths.keys().filter(|template| fits(template)).collect();
    found.sort_by_key(|template| template.matches('{').count());
    let Some(operation) = found
        .first()
        .and_then(|path| paths[*path].get(method.to_lowercase()))
    else {
        return;
    };
    let code = answer.status.to_string();
    let Some(described) = operation["responses"].get(&code) else {
        panic!(
            "{method} {path}: {code} is not documented: {}",
            String::from_utf8_lossy(&answer.body)
        );
    };
    let described = resolved(described);
    let Some(content) = described.get("content") else {
        assert!(
            answer.body.is_empty(),
            "{method} {path}: a body where none is documented"
        );
        return;
    };
    let kind = answer
        .headers
        .get("content-type")
        .map_or("", String::as_str);
    let kind = kind.split(';').next().unwrap();
    let Some(content) = content.get(kind) else {
        panic!("{method} {path}: {kind:?} is not documented for {code}");
    };
    if kind.ends_with("json")
        && let Err(fault) = fault(&content["schema"], &answer.json(), "$")
    {
        panic!("{method} {path}, {code}: {fault}");
    }
}

fn resolved(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => document()
            .pointer(reference.trim_start_matches('#'))
            .unwrap(),
        None => value,
    }
}

/// What about `value` is not as `schema` says.
fn fault(schema: &'static Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = resolved(schema);
    for several in ["oneOf", "anyOf"] {
        if let Some(choices) = schema.get(several).and_then(Value::as_array) {
            let fits = choices
                .iter()
                .any(|choice| fault(choice, value, at).is_ok());
            return if fits {
                Ok(())
            } else {
                Err(format!("{at}: {value} fits none of {choices:?}"))
            };
        }
    }
    if let Some(kinds) = schema.get("type") {
        let kinds = match kinds {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => vec![kind.as_str().unwrap()],
        };
        let is = |kind: &str| match kind {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other}"),
        };
        if !kinds.iter().any(|kind| is(kind)) {
            return Err(format!("{at}: {value} is not {kinds:?}"));
        }
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array)
        && !values.contains(value)
    {
        return Err(format!("{at}: {value} is none of {values:?}"));
    }
    if let (Some(items), Some(all)) = (schema.get("items"), value.as_array()) {
        for (index, item) in all.iter().enumerate() {
            fault(items, item, &format!("{at}[{index}]"))?;
        }
    }
    let Some(fields) = value.as_object() else {
        return Ok(());
    };
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Err(format!("{at}: {name} is missing"));
        }
    }
    let known = schema.get("properties").and_then(Value::as_object);
    for (name, field) in fields {
        match known.and_then(|known| known.get(name)) {
            Some(schema) => fault(schema, field, &format!("{at}.{name}"))?,
            None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                return Err(format!("{at}: {name} is not documented"));
            }
            None => {}
        }
    }
    Ok(())
}
