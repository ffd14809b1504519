//! Matches a value inside metadata: where it is found, and what it must be. Whose metadata that is, the caller decides.
//! Source: `envoy.type.matcher.v3.MetadataMatcher`, Envoy's `MetadataMatcher::match`.

use serde_json::Value;

use super::StringMatcher;
use crate::stream::Metadata;

/// What a value must be.
#[derive(Clone, Debug)]
pub enum JsonMatcher {
    Null,
    Exactly(f64),
    /// From the first up to, not including, the second.
    Range(f64, f64),
    Text(StringMatcher),
    Bool(bool),
    /// It is there, and not null; or not.
    Present(bool),
    /// One item of a list.
    OneOf(Box<JsonMatcher>),
    Any(Vec<JsonMatcher>),
}

#[derive(Clone, Debug)]
pub struct MetadataMatcher {
    /// The namespace.
    pub filter: String,
    pub path: Vec<String>,
    pub value: JsonMatcher,
    pub invert: bool,
}

impl MetadataMatcher {
    /// Is there a value to match?
    pub fn finds(&self, metadata: &Metadata) -> bool {
        !self.find(metadata).is_null()
    }

    fn find<'a>(&self, metadata: &'a Metadata) -> &'a Value {
        let found = self.path.iter().try_fold(metadata.get(&self.filter), |value, key| Some(value?.get(key)));
        found.flatten().unwrap_or(&Value::Null)
    }

    pub fn matches(&self, metadata: &Metadata) -> bool {
        self.value.matches(self.find(metadata)) != self.invert
    }
}

impl JsonMatcher {
    fn matches(&self, value: &Value) -> bool {
        match self {
            JsonMatcher::Null => value.is_null(),
            JsonMatcher::Exactly(want) => value.as_f64().is_some_and(|n| n == *want),
            JsonMatcher::Range(low, high) => value.as_f64().is_some_and(|n| *low <= n && n < *high),
            JsonMatcher::Text(matcher) => value.as_str().is_some_and(|text| matcher.matches(text)),
            JsonMatcher::Bool(want) => value.as_bool() == Some(*want),
            JsonMatcher::Present(want) => value.is_null() != *want,
            JsonMatcher::OneOf(item) => value.as_array().is_some_and(|all| all.iter().any(|v| item.matches(v))),
            JsonMatcher::Any(several) => several.iter().any(|matcher| matcher.matches(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let all = Metadata::from([(
            "f".to_owned(),
            serde_json::json!({"n": 3, "t": "on", "l": ["a", "b"], "o": {"b": true}}),
        )]);
        let text = |want: &str| JsonMatcher::Text(StringMatcher::Exact(want.to_owned()));
        for (path, value, invert, expected) in [
            (&["n"][..], JsonMatcher::Exactly(3.0), false, true),
            (&["n"], JsonMatcher::Range(1.0, 3.0), false, false),
            (&["t"], text("on"), false, true),
            (&["t"], text("on"), true, false),
            (&["l"], JsonMatcher::OneOf(Box::new(text("b"))), false, true),
            (&["o", "b"], JsonMatcher::Bool(true), false, true),
            (&["o", "b"], JsonMatcher::Present(true), false, true),
            (&["none", "b"], JsonMatcher::Present(true), false, false),
            (&["none"], JsonMatcher::Present(false), false, true),
            (&["none"], JsonMatcher::Null, false, true),
            (&["t"], JsonMatcher::Any(vec![JsonMatcher::Null, text("on")]), false, true),
        ] {
            let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
            let matcher = MetadataMatcher { filter: "f".to_owned(), path, value, invert };
            assert_eq!(matcher.matches(&all), expected, "{matcher:?}");
            assert_eq!(matcher.finds(&all), matcher.path[0] != "none", "{matcher:?}");
        }
    }
}
