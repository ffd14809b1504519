//! Envoy's runtime: values by which shares and flags of a configuration are turned without changing it. Set from the
//! bootstrap's layers, and by the admin page where there is a layer for it; read where configuration is compiled: a
//! value that changes counts for what is compiled after it.
//! Source: Envoy's "Runtime" page; `bootstrap::runtime` reads the layers.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use serde_json::Value;

/// A layer's values by key.
pub type Values = BTreeMap<String, Value>;

/// One layer of values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    pub name: String,
    /// Operators write here, by the admin page.
    pub admin: bool,
    pub values: Values,
}

static LAYERS: LazyLock<ArcSwap<Vec<Layer>>> = LazyLock::new(ArcSwap::default);

/// Takes all layers, the one that goes in front last.
pub fn set(layers: Vec<Layer>) {
    LAYERS.store(Arc::new(layers));
}

fn get(key: &str) -> Option<Value> {
    LAYERS.load().iter().rev().find_map(|layer| layer.values.get(key).cloned())
}

/// Values as they are shown: of each layer, and the one that counts.
pub type Entries = BTreeMap<String, (Vec<String>, String)>;

/// The layers' names and all entries.
pub fn layers() -> (Vec<String>, Entries) {
    let layers = LAYERS.load();
    let keys = layers.iter().flat_map(|layer| layer.values.keys().cloned());
    let shown = |value: Option<&Value>| match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let entries = keys.map(|key| {
        let values: Vec<String> = layers.iter().map(|layer| shown(layer.values.get(&key))).collect();
        let last = values.iter().rev().find(|value| !value.is_empty()).cloned().unwrap_or_default();
        (key, (values, last))
    });
    (layers.iter().map(|layer| layer.name.clone()).collect(), entries.collect())
}

/// Writes into the operators' layer; an empty value takes the key away. False if there is no such layer.
pub fn modify<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    let mut layers = Vec::clone(&LAYERS.load());
    let Some(layer) = layers.iter_mut().rev().find(|layer| layer.admin) else { return false };
    for (key, value) in pairs {
        if value.is_empty() {
            layer.values.remove(key);
        } else {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            layer.values.insert(key.to_owned(), value);
        }
    }
    set(layers);
    true
}

/// A whole number; `None`: the key is empty, not set, or no number.
pub fn number(key: &str) -> Option<u64> {
    match get(key)? {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().map(|n| n as u64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A flag.
pub fn flag(key: &str) -> Option<bool> {
    match get(key)? {
        Value::Bool(flag) => Some(flag),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A share written as `{numerator, denominator}`.
pub fn share(key: &str) -> Option<(u32, Option<String>)> {
    let value = get(key)?;
    let numerator = value.get("numerator")?.as_u64().unwrap_or(0);
    let denominator = value.get("denominator").and_then(Value::as_str).map(str::to_owned);
    Some((u32::try_from(numerator).ok()?, denominator))
}

/// Adds a layer's tree: nested keys are joined by dots; a share stays whole.
pub fn flatten(prefix: &str, value: Value, into: &mut Values) {
    match value {
        Value::Object(fields) if !fields.contains_key("numerator") => {
            for (name, value) in fields {
                let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                flatten(&key, value, into);
            }
        }
        value => {
            into.insert(prefix.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_become_dotted_keys() {
        let mut values = Values::new();
        let tree = serde_json::json!({"a": {"b": 1, "c": {"numerator": 5}}, "d.e": true});
        flatten("", tree, &mut values);
        let keys: Vec<_> = values.keys().map(String::as_str).collect();
        assert_eq!(keys, ["a.b", "a.c", "d.e"]);
    }
}
