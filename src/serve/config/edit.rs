//! Changes to the document of `edge-rlp.toml`, which leave everything else in it as it is: order, comments, blank lines.

use serde_json::{Map, Value};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use super::ConfigError;
use crate::prompt::{Area, Rectangle, Region};

/// Keys and values of one table, as JSON has them.
pub type Fields = Map<String, Value>;

/// Makes the camera `name` one of `fields`, which replace all that it has but its regions; adds it where there is none.
///
/// # Errors
/// If a value is none that a configuration can hold.
pub fn put_camera(
    document: &mut DocumentMut,
    name: &str,
    fields: &Fields,
) -> Result<(), ConfigError> {
    let cameras = tables(document.as_table_mut(), "camera")?;
    let at = position(cameras, name);
    if at.is_none() {
        let mut table = Table::new();
        table["name"] = value(name);
        cameras.push(table);
    }
    let last = cameras.len() - 1;
    let Some(table) = cameras.get_mut(at.unwrap_or(last)) else {
        return Ok(());
    };
    put_fields(table, fields, &["name", "region"])
}

/// Removes the camera `name`.
///
/// # Errors
/// If there is none.
pub fn remove_camera(document: &mut DocumentMut, name: &str) -> Result<(), ConfigError> {
    let cameras = tables(document.as_table_mut(), "camera")?;
    let at = position(cameras, name).ok_or_else(|| missing("camera", name))?;
    cameras.remove(at);
    Ok(())
}

/// Makes the region `name` of `camera` lie at `area`, named by `prompt` if that is given; adds it where there is none. Its threshold
/// stays.
///
/// # Errors
/// If there is no such camera.
pub fn put_region(
    document: &mut DocumentMut,
    camera: &str,
    name: &str,
    area: Area,
    prompt: Option<&str>,
) -> Result<(), ConfigError> {
    let regions = tables(camera_table(document, camera)?, "region")?;
    if position(regions, name).is_none() {
        let mut table = Table::new();
        table["name"] = value(name);
        regions.push(table);
    }
    let at = position(regions, name).unwrap_or_default();
    let Some(table) = regions.get_mut(at) else {
        return Ok(());
    };
    let mut fields = Fields::new();
    fields.insert("area".into(), in_words(area).into());
    let Some(prompt) = prompt else {
        return put_fields(table, &fields, &["name", "prompt", "threshold"]);
    };
    fields.insert("prompt".into(), prompt.into());
    put_fields(table, &fields, &["name", "threshold"])
}

/// Sets one key of a region; of the camera, where that is looked at whole. Everything else stays.
///
/// # Errors
/// If there is no such camera or region.
pub fn set_in_region(
    document: &mut DocumentMut,
    camera: &str,
    region: &str,
    (key, new): (&str, toml_edit::Value),
) -> Result<(), ConfigError> {
    let table = camera_table(document, camera)?;
    let table = if table.contains_key("region") {
        let regions = tables(table, "region")?;
        let at = position(regions, region).ok_or_else(|| missing("region", region))?;
        regions
            .get_mut(at)
            .ok_or_else(|| missing("region", region))?
    } else if region == super::WHOLE {
        table
    } else {
        return Err(missing("region", region));
    };
    let mut new = new;
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        *new.decor_mut() = old.decor().clone();
    }
    table[key] = Item::Value(new);
    Ok(())
}

/// Removes the region `name` of `camera`.
///
/// # Errors
/// If there is no such camera or region.
pub fn remove_region(
    document: &mut DocumentMut,
    camera: &str,
    name: &str,
) -> Result<(), ConfigError> {
    let table = camera_table(document, camera)?;
    let regions = tables(table, "region")?;
    let at = position(regions, name).ok_or_else(|| missing("region", name))?;
    regions.remove(at);
    if regions.is_empty() {
        table.remove("region");
    }
    Ok(())
}

fn missing(what: &'static str, name: &str) -> ConfigError {
    ConfigError::Missing {
        what,
        name: name.into(),
    }
}

fn in_words(area: Area) -> String {
    let name = String::new();
    Region { name, area }.to_string()
}

/// A share of a picture as `x, y, width, height` in `0..=1`; none where it is no part of one.
pub fn share(fractions: [f64; 4]) -> Option<Area> {
    let fine = fractions.iter().all(|part| (0.0..=1.0).contains(part));
    let [x, y, width, height] = fractions.map(|part| (part * 1e4).round() as u32);
    // What is rounded up must not reach beyond the picture.
    let rectangle = Rectangle {
        x,
        y,
        width: width.min(10_000 - x.min(10_000)),
        height: height.min(10_000 - y.min(10_000)),
    };
    (fine && rectangle.width > 0 && rectangle.height > 0).then_some(Area::Share(rectangle))
}

fn camera_table<'a>(
    document: &'a mut DocumentMut,
    name: &str,
) -> Result<&'a mut Table, ConfigError> {
    let cameras = tables(document.as_table_mut(), "camera")?;
    let at = position(cameras, name).ok_or_else(|| missing("camera", name))?;
    cameras.get_mut(at).ok_or_else(|| missing("camera", name))
}

/// The tables `[[key]]` of `parent`. Those that were written in one line, as `key = [{...}]`, become tables of their own.
fn tables<'a>(parent: &'a mut Table, key: &str) -> Result<&'a mut ArrayOfTables, ConfigError> {
    let item = parent
        .entry(key)
        .or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    if let Item::Value(inline) = item {
        let inline = std::mem::replace(inline, toml_edit::Value::from(0));
        *item = match Item::Value(inline).into_array_of_tables() {
            Ok(tables) => Item::ArrayOfTables(tables),
            Err(other) => other,
        };
    }
    let fault = || ConfigError::Change(format!("{key} is no list of tables"));
    item.as_array_of_tables_mut().ok_or_else(fault)
}

fn position(tables: &ArrayOfTables, name: &str) -> Option<usize> {
    let has = |table: &Table| table.get("name").and_then(Item::as_str) == Some(name);
    tables.iter().position(has)
}

/// Gives `table` these fields in place of all others but `kept`. The comment behind a value stays.
fn put_fields(table: &mut Table, fields: &Fields, kept: &[&str]) -> Result<(), ConfigError> {
    let gone: Vec<String> = table
        .iter()
        .map(|(key, _)| key.to_owned())
        .filter(|key| !kept.contains(&key.as_str()) && !fields.contains_key(key))
        .collect();
    for key in gone {
        table.remove(&key);
    }
    for (key, field) in fields {
        if kept.contains(&key.as_str()) {
            continue;
        }
        let Some(mut new) = toml_value(field) else {
            if field.is_null() {
                table.remove(key);
                continue;
            }
            let fault = format!("{key}: a text, a number, true or false is expected");
            return Err(ConfigError::Change(fault));
        };
        if let Some(old) = table.get(key).and_then(Item::as_value) {
            *new.decor_mut() = old.decor().clone();
        }
        table[key] = Item::Value(new);
    }
    Ok(())
}

fn toml_value(field: &Value) -> Option<toml_edit::Value> {
    Some(match field {
        Value::String(text) => text.as_str().into(),
        Value::Bool(yes) => (*yes).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64()?.into(),
        },
        Value::Array(items) => {
            let items: Option<Array> = items.iter().map(toml_value).collect();
            items?.into()
        }
        Value::Null | Value::Object(_) => return None,
    })
}
