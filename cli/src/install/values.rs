//! The values of an installation: the chart's own, a profile's, files', and those of `--set`, the last of which win.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Value, json};

use super::{Profile, charts, schema};

/// A value that is none of the chart's, or cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("value {key}: {message}")]
pub(crate) struct BadValue {
    /// As `mtls.mode`.
    pub(crate) key: String,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

pub(super) fn of(profile: Profile, files: &[PathBuf], set: &[String]) -> anyhow::Result<Value> {
    let mut values: Value = serde_saphyr::from_str(charts::VALUES)?;
    merge(&mut values, &of_profile(profile));
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("values file {}", file.display()))?;
        let read: Value = serde_saphyr::from_str(&text).with_context(|| format!("values file {}", file.display()))?;
        match read {
            // Nothing but comments.
            Value::Null => {}
            Value::Object(_) => merge(&mut values, &read),
            _ => anyhow::bail!("values file {}: it is no map of values", file.display()),
        }
    }
    let schema: Value = serde_json::from_str(charts::SCHEMA)?;
    for one in set.iter().flat_map(|one| assignments(one)) {
        let (key, text) = one
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .with_context(|| format!("--set {one}: it must be KEY=VALUE"))?;
        assign(&mut values, key, typed(&schema, key, text))?;
    }
    schema::check(&schema, &schema, "", &values)?;
    Ok(values)
}

/// One or several, as Helm has them: `a=1,b.c=2`. A comma that no `KEY=` follows belongs to the value.
fn assignments(text: &str) -> Vec<String> {
    let begins = |part: &str| {
        let key = part.split_once('=').map_or("", |(key, _)| key);
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
    };
    let mut found: Vec<String> = Vec::new();
    for part in text.split(',') {
        match found.last_mut() {
            Some(last) if !begins(part) => *last = format!("{last},{part}"),
            _ => found.push(part.to_owned()),
        }
    }
    found
}

fn of_profile(profile: Profile) -> Value {
    match profile {
        Profile::Default => json!({}),
        Profile::Demo => json!({"tracing": {"sampling": 100}, "accessLog": {"format": "text"}}),
        Profile::Ha => json!({"pilot": {"replicas": 2, "maxReplicas": 5}}),
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// A text is a text where the schema wants one, a list is as Helm's `{a,b}` or `a,b`, and all else is what it looks like.
fn typed(schema: &Value, key: &str, text: &str) -> Value {
    let wanted = key.split('.').try_fold(schema, |at, part| {
        let at = schema::resolve(schema, at);
        at["properties"].get(part)
    });
    let wants_text = wanted.is_some_and(|wanted| {
        let wanted = schema::resolve(schema, wanted);
        wanted["type"] == "string" || wanted.get("enum").is_some()
    });
    if wants_text {
        return text.into();
    }
    if wanted.is_some_and(|wanted| wanted["type"] == "array") && !text.starts_with('[') {
        let items = text.trim_start_matches('{').trim_end_matches('}').split(',').map(str::trim);
        return items.filter(|item| !item.is_empty()).collect();
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn assign(values: &mut Value, key: &str, value: Value) -> Result<(), BadValue> {
    let mut at = values;
    for part in key.split('.') {
        if !at.is_object() {
            return Err(BadValue { key: key.to_owned(), message: "there is no such value".to_owned() });
        }
        at = &mut at[part];
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad() {
        let with = |set: &str| of(Profile::Ha, &[], &[set.to_owned()]).map_err(|error| format!("{error:#}"));
        assert_eq!(with("tracing.sampling=12.5").unwrap()["tracing"]["sampling"], 12.5);
        assert_eq!(with("image.tag=12").unwrap()["image"]["tag"], "12");
        assert_eq!(with("pilot.external=true").unwrap()["pilot"]["replicas"], 2);
        let both = with("mtls.mode=permissive,tracing.zipkin=http://z/a,b,pilot.replicas=3").unwrap();
        assert_eq!(both["tracing"]["zipkin"], "http://z/a,b");
        assert_eq!((&both["mtls"]["mode"], &both["pilot"]["replicas"]), (&json!("permissive"), &json!(3)));
        for set in ["{istio,osm}", "istio, osm", "[\"istio\",\"osm\"]"] {
            let values = with(&format!("injector.migrateFrom={set}")).unwrap();
            assert_eq!(values["injector"]["migrateFrom"], json!(["istio", "osm"]), "{set}");
        }
        for (set, told) in [
            ("mtls.mode=perhaps", "mtls.mode"),
            ("mtls.mod=strict", "mtls.mod"),
            ("pilot.replicas=none", "pilot.replicas"),
            ("tracing.sampling=101", "tracing.sampling"),
            ("image.tag.x=1", "image.tag.x"),
            ("injector.migrateFrom=consul", "injector.migrateFrom[0]"),
            ("webhook.url=http://a", "webhook.url"),
            ("ca.address=istio-csr", "ca.address"),
            ("ca.rootsConfigMap=Roots", "ca.rootsConfigMap"),
            ("nonsense", "nonsense"),
            ("=x", "=x"),
        ] {
            let said = with(set).unwrap_err();
            assert!(said.contains(told), "{said}");
        }
    }
}
