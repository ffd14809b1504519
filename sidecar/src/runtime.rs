//! Envoy's runtime: values by which shares and flags of a configuration are turned without changing it. Set once from
//! the bootstrap's layers, read where configuration is compiled: a changed file counts after a restart.
//! Source: Envoy's "Runtime" page; `bootstrap::runtime` reads the layers.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use serde_json::Value;

static VALUES: LazyLock<ArcSwap<BTreeMap<String, Value>>> = LazyLock::new(ArcSwap::default);

/// Takes the values of all layers, the last one's in front.
pub fn set(values: BTreeMap<String, Value>) {
    VALUES.store(Arc::new(values));
}

/// All values by key.
pub fn all() -> Arc<BTreeMap<String, Value>> {
    VALUES.load_full()
}

/// A whole number; `None`: the key is empty, not set, or no number.
pub fn number(key: &str) -> Option<u64> {
    let values = VALUES.load();
    match values.get(key)? {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().map(|n| n as u64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A flag.
pub fn flag(key: &str) -> Option<bool> {
    let values = VALUES.load();
    match values.get(key)? {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A share written as `{numerator, denominator}`.
pub fn share(key: &str) -> Option<(u32, Option<String>)> {
    let values = VALUES.load();
    let value = values.get(key)?.as_object()?;
    let numerator = value.get("numerator").and_then(Value::as_u64).unwrap_or(0);
    let denominator = value.get("denominator").and_then(Value::as_str).map(str::to_owned);
    Some((u32::try_from(numerator).ok()?, denominator))
}

/// Adds a layer's tree: nested keys are joined by dots; a share stays whole.
pub fn flatten(prefix: &str, value: Value, into: &mut BTreeMap<String, Value>) {
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
        let mut values = BTreeMap::new();
        let tree = serde_json::json!({"a": {"b": 1, "c": {"numerator": 5}}, "d.e": true});
        flatten("", tree, &mut values);
        let keys: Vec<_> = values.keys().map(String::as_str).collect();
        assert_eq!(keys, ["a.b", "a.c", "d.e"]);
    }
}
