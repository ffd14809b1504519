//! Values against the chart's `values.schema.json`, as far as it uses JSON Schema: types, enums, patterns, bounds,
//! items, properties.

use regex::Regex;
use serde_json::Value;

use super::BadValue;

/// A schema, or what it refers to.
pub(super) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    name.map_or(schema, |name| &root["$defs"][name])
}

/// Checks a value and all that is in it.
///
/// # Errors
/// The first value that is not as it should be.
pub(super) fn check(root: &Value, schema: &Value, key: &str, value: &Value) -> Result<(), BadValue> {
    let schema = resolve(root, schema);
    let bad = |message: String| Err(BadValue { key: key.to_owned(), message });
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        return bad(format!("{value} is none of {}", words.join(", ")));
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    if !fits {
        return bad(format!("{value} is no {}", schema["type"].as_str().unwrap_or("such value")));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
    {
        return bad(format!("`{text}` does not match {pattern}"));
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|least| number < least) {
            return bad(format!("{value} is less than {}", schema["minimum"]));
        }
        if schema["maximum"].as_f64().is_some_and(|most| number > most) {
            return bad(format!("{value} is more than {}", schema["maximum"]));
        }
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        check(root, &schema["items"], &format!("{key}[{at}]"), item)?;
    }
    let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object()) else { return Ok(()) };
    for (name, value) in fields {
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        match properties.get(name) {
            Some(schema) => check(root, schema, &key, value)?,
            None if schema["additionalProperties"] == false => {
                let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                return Err(BadValue {
                    key,
                    message: format!("there is no such value; there are {}", known.join(", ")),
                });
            }
            None => {}
        }
    }
    Ok(())
}
