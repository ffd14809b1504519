//! A JSON Schema as schemars writes it → a structural one, which is all that API servers take and explain: one type a value,
//! no references, no alternatives, no defaults.
//!
//! It knows nothing of kinds. Where a value has several shapes, its type's own `JsonSchema` must already say that any will do.

use serde_json::{Map, Value, json};

/// What is kept; all else is either unknown to API servers or the webhook's business.
const KEPT: [&str; 10] = [
    "additionalProperties",
    "description",
    "items",
    "maximum",
    "minimum",
    "properties",
    "required",
    "type",
    ANY,
    EITHER,
];
const ANY: &str = "x-kubernetes-preserve-unknown-fields";
const EITHER: &str = "x-kubernetes-int-or-string";

/// Source: Kubernetes, "Specifying a structural schema".
pub(super) fn of(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else { return json!({ANY: true}) };
    optional(&mut schema);
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = plain(text);
    }
    words(&mut schema);
    one_of_fields(&mut schema);
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(inner).filter(|inner| inner.is_object()) {
            *inner = of(inner.take());
        }
    }
    object(&mut schema);
    if !schema.contains_key("type") && !schema.contains_key(EITHER) {
        schema.insert(ANY.to_owned(), true.into());
    }
    schema.retain(|key, _| KEPT.contains(&key.as_str()));
    schema.into()
}

/// `T` or null, in either of schemars' ways, becomes `T`; null is allowed by the field's being optional.
fn optional(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get("type") {
        let one = types.iter().find(|one| *one != "null").cloned();
        schema.extend(one.map(|one| ("type".to_owned(), one)));
    }
    let alternatives = schema.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten();
    let inner = alternatives.map(Value::take).find(|one| one["type"] != "null");
    if let Some(Value::Object(inner)) = inner {
        for (key, value) in inner {
            schema.entry(key).or_insert(value);
        }
    }
}

/// A choice of words becomes a text whose description lists them: for a wrong one, the webhook knows what was meant.
fn words(schema: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let line = |choice: &Value| {
        let (word, meaning) = (choice["const"].as_str()?, choice["description"].as_str().unwrap_or_default());
        Some(format!(" - `{word}`: {}", plain(meaning)))
    };
    let Some(lines) = choices.iter().map(line).collect::<Option<Vec<_>>>() else { return };
    let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let text = format!("{about}\n\nPossible values:\n{}", lines.join("\n"));
    schema.insert("type".to_owned(), "string".into());
    schema.insert("description".to_owned(), text.into());
}

/// A choice of objects with one field each becomes an object with any of the fields.
fn one_of_fields(schema: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let mut properties = Map::new();
    for choice in choices {
        for (name, field) in choice["properties"].as_object().into_iter().flatten() {
            let mut field = field.clone();
            field["description"] = choice["description"].clone();
            properties.insert(name.clone(), field);
        }
    }
    if !properties.is_empty() {
        schema.insert("type".to_owned(), "object".into());
        schema.insert("properties".to_owned(), properties.into());
    }
}

/// Fields that are not known pass; fields that need not be there may be null, which readers of ours take for absent.
fn object(schema: &mut Map<String, Value>) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let required = required.as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (name, field) in properties {
        *field = of(field.take());
        if !required.iter().any(|one| one == name) {
            field["nullable"] = true.into();
        }
    }
    schema.remove("additionalProperties");
    schema.insert(ANY.to_owned(), true.into());
}

/// A doc comment for users: without its sources and links, paragraphs as lines of their own.
fn plain(doc: &str) -> String {
    let paragraphs = doc.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    let unsourced = paragraphs.map(|text| text.split("Source: ").next().unwrap_or_default().trim().to_owned());
    let told: Vec<String> = unsourced.filter(|text| !text.is_empty()).collect();
    told.join("\n\n").replace("[`", "`").replace("`]", "`")
}
