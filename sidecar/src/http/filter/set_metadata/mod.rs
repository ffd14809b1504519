//! Writes fixed dynamic metadata. Source: Envoy's `envoy.filters.http.set_metadata`.

pub mod config;

use serde_json::Value;

use super::{Action, Exchange, FilterRequest, HttpFilter};

pub struct SetMetadata {
    name: String,
    entries: Vec<Entry>,
}

struct Entry {
    namespace: String,
    value: Value,
    /// What is there already is merged with the value; else it stays.
    overwrite: bool,
}

impl HttpFilter for SetMetadata {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, _: &'a mut FilterRequest) -> Action<'a> {
        let mut all = exchange.stream.dynamic_metadata.borrow_mut();
        for entry in &self.entries {
            match all.get_mut(&entry.namespace) {
                None => {
                    all.insert(entry.namespace.clone(), entry.value.clone());
                }
                Some(held) if entry.overwrite => merge(held, &entry.value),
                Some(_) => {}
            }
        }
        Action::Continue
    }
}

/// Objects are merged field by field, lists joined, anything else replaced.
/// Source: Envoy's `StructUtil::update`.
fn merge(held: &mut Value, new: &Value) {
    match (held, new) {
        (Value::Object(held), Value::Object(new)) => {
            for (key, value) in new {
                merge(held.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(held), Value::Array(new)) => held.extend(new.iter().cloned()),
        (held, new) => *held = new.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::merge;
    use serde_json::json;

    #[test]
    fn values_are_merged() {
        let mut held = json!({"a": {"b": 1}, "l": [1], "s": "x"});
        merge(&mut held, &json!({"a": {"c": 2}, "l": [2], "s": "y"}));
        assert_eq!(held, json!({"a": {"b": 1, "c": 2}, "l": [1, 2], "s": "y"}));
    }
}
