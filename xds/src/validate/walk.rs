//! The walk through a message and everything inside it.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

use super::{Deprecated, Findings, Opaque, Violation, rules};
use crate::json::{self, UnknownFields};
use crate::path::Path;
use crate::schema::{Check, FieldFacts, MessageFacts, Rule, Schema};
use crate::typed_struct;

/// Anys inside Anys are decoded anew, so that prost's own limit does not hold for them.
const MAX_NESTED_ANY: usize = 32;

pub(super) fn inspect(schema: &Schema, message: &DynamicMessage) -> Findings {
    let mut walker = Walker { schema, path: Path::default(), findings: Findings::default(), any_depth: 0 };
    walker.message(message);
    walker.findings
}

struct Walker<'s> {
    schema: &'s Schema,
    path: Path,
    findings: Findings,
    any_depth: usize,
}

impl Walker<'_> {
    fn message(&mut self, message: &DynamicMessage) {
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Any" => return self.any(message),
            // Free-form data: no rules, and any key is a known one.
            "google.protobuf.Struct" => return,
            name if typed_struct::is_typed_struct(name) => return self.typed_struct(message),
            _ => {}
        }
        let facts = self.schema.facts(&descriptor);
        self.unknown_fields(message);
        self.required(message, &descriptor, &facts);
        self.unset_fields(message, &descriptor, &facts);
        for (field, value) in message.fields() {
            self.path.push_field(field.name());
            self.field(&field, value, facts.fields.get(&field.number()), facts.unchecked);
            self.path.pop();
        }
    }

    fn unknown_fields(&mut self, message: &DynamicMessage) {
        for field in message.unknown_fields() {
            if self.findings.unknown_fields.len() < Findings::MAX {
                self.findings.unknown_fields.push(self.path.field(&format!("#{}", field.number())));
            }
        }
    }

    /// Oneofs and messages that must be there and are not.
    fn required(&mut self, message: &DynamicMessage, descriptor: &MessageDescriptor, facts: &MessageFacts) {
        if facts.unchecked {
            return;
        }
        for oneof in descriptor.oneofs().filter(|oneof| facts.required_oneofs.iter().any(|name| name == oneof.name())) {
            if !oneof.fields().any(|field| message.has_field(&field)) {
                self.violation_at(self.path.field(oneof.name()), "value is required".to_owned());
            }
        }
    }

    /// Fields at their default: those without presence are checked all the same.
    fn unset_fields(&mut self, message: &DynamicMessage, descriptor: &MessageDescriptor, facts: &MessageFacts) {
        if facts.unchecked {
            return;
        }
        for (number, field_facts) in &facts.fields {
            let Some(rule) = &field_facts.rule else { continue };
            let Some(field) = descriptor.get_field(*number).filter(|field| !message.has_field(field)) else { continue };
            self.path.push_field(field.name());
            if rule.required && field.containing_oneof().is_none() {
                self.violation("value is required".to_owned());
            } else if !field.supports_presence() {
                self.rule(rule, &field, &message.get_field(&field));
            }
            self.path.pop();
        }
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value, facts: Option<&FieldFacts>, unchecked: bool) {
        let rule = facts.and_then(|facts| facts.rule.as_ref());
        if let Some(facts) = facts {
            self.deprecated(field, value, facts);
        }
        if let Some(rule) = rule.filter(|_| !unchecked) {
            self.rule(rule, field, value);
        }
        if rule.is_some_and(|rule| rule.skip) {
            return;
        }
        match value {
            Value::Message(message) => self.message(message),
            Value::List(items) => self.each(items.iter().enumerate(), |path, index| path.push_index(index)),
            Value::Map(map) => {
                let mut entries: Vec<(&MapKey, &Value)> = map.iter().collect();
                entries.sort_by(|(left, _), (right, _)| left.partial_cmp(right).unwrap_or(std::cmp::Ordering::Equal));
                self.each(entries.into_iter(), |path, key| path.push_key(&rules::key_text(key)));
            }
            _ => {}
        }
    }

    /// The messages among the items of a list or the values of a map.
    fn each<'v, K>(&mut self, items: impl Iterator<Item = (K, &'v Value)>, push: impl Fn(&mut Path, K)) {
        for (place, value) in items {
            if let Value::Message(message) = value {
                push(&mut self.path, place);
                self.message(message);
                self.path.pop();
            }
        }
    }

    fn rule(&mut self, rule: &Rule, field: &FieldDescriptor, value: &Value) {
        let Some(check) = &rule.check else { return };
        // Envoy leaves the well-known pattern of a string that is absent alone; where one is needed,
        // `min_len` stands beside it. An empty item of a list is not absent.
        let without_pattern = match (check, value) {
            (Check::String(rules, Some(_)), Value::String(text)) if text.is_empty() && rules.well_known.is_some() => {
                Some(Check::String(rules.clone(), None))
            }
            _ => None,
        };
        if let Some(reason) = rules::broken(without_pattern.as_ref().unwrap_or(check), value, &field.kind()) {
            self.violation(reason);
        }
        match (check, value) {
            (Check::Repeated { items: Some(rule), .. }, Value::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.push_index(index);
                    self.part(rule, item, &field.kind());
                    self.path.pop();
                }
            }
            (Check::Map { keys, values, .. }, Value::Map(map)) => {
                self.map_rule(field, map, keys.as_deref(), values.as_deref())
            }
            _ => {}
        }
    }

    fn map_rule(
        &mut self,
        field: &FieldDescriptor,
        map: &std::collections::HashMap<MapKey, Value>,
        keys: Option<&Rule>,
        values: Option<&Rule>,
    ) {
        let Kind::Message(entry) = field.kind() else { return };
        for (key, value) in map {
            self.path.push_key(&rules::key_text(key));
            if let Some(rule) = keys {
                self.part(rule, &Value::from(key.clone()), &entry.map_entry_key_field().kind());
            }
            if let Some(rule) = values {
                self.part(rule, value, &entry.map_entry_value_field().kind());
            }
            self.path.pop();
        }
    }

    fn part(&mut self, rule: &Rule, value: &Value, kind: &Kind) {
        if let Some(reason) = rule.check.as_ref().and_then(|check| rules::broken(check, value, kind)) {
            self.violation(reason);
        }
    }

    fn deprecated(&mut self, field: &FieldDescriptor, value: &Value, facts: &FieldFacts) {
        let found = match (&facts.deprecated, value) {
            (Some(deprecation), _) => Some((field.full_name().to_owned(), deprecation)),
            (None, Value::EnumNumber(number)) => facts.deprecated_values.get(number).map(|deprecation| {
                let name = match field.kind() {
                    Kind::Enum(kind) => kind.get_value(*number).map(|value| value.full_name().to_owned()),
                    _ => None,
                };
                (name.unwrap_or_default(), deprecation)
            }),
            _ => None,
        };
        let Some((name, deprecation)) = found else { return };
        if self.findings.deprecated.len() < Findings::MAX {
            self.findings.deprecated.push(Deprecated {
                path: self.path.to_string(),
                name,
                since: deprecation.since.clone(),
                disallowed: deprecation.disallowed,
            });
        }
    }

    fn any(&mut self, any: &DynamicMessage) {
        let (type_url, value) = (any.get_field_by_name("type_url"), any.get_field_by_name("value"));
        let type_url = type_url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let bytes = value.as_deref().and_then(Value::as_bytes).cloned().unwrap_or_default();
        if type_url.is_empty() && bytes.is_empty() {
            return;
        }
        let Some(descriptor) = self.schema.message_of(type_url) else { return self.opaque(type_url, String::new()) };
        if self.any_depth >= MAX_NESTED_ANY {
            return self.violation(format!("more than {MAX_NESTED_ANY} messages of dynamic type inside each other"));
        }
        match DynamicMessage::decode(descriptor, bytes) {
            Ok(message) => {
                self.any_depth += 1;
                self.message(&message);
                self.any_depth -= 1;
            }
            Err(error) => self.opaque(type_url, error.to_string()),
        }
    }

    fn typed_struct(&mut self, message: &DynamicMessage) {
        let type_url = message.get_field_by_name("type_url");
        let type_url = type_url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let Some(descriptor) = self.schema.message_of(type_url) else { return self.opaque(type_url, String::new()) };
        let value = message.get_field_by_name("value");
        let Some(node) = value.as_deref().and_then(Value::as_message).and_then(json::struct_node) else { return };
        self.path.push_field("value");
        match json::read_node(self.schema, &descriptor, &node, UnknownFields::Collect) {
            Ok(parsed) => {
                let unknown = parsed.unknown.iter().map(|problem| self.path.field(&problem.path));
                let room = Findings::MAX.saturating_sub(self.findings.unknown_fields.len());
                self.findings.unknown_fields.extend(unknown.take(room));
                self.any_depth += 1;
                if self.any_depth < MAX_NESTED_ANY {
                    self.message(&parsed.message);
                }
                self.any_depth -= 1;
            }
            Err(error) => self.violation(error.to_string()),
        }
        self.path.pop();
    }

    fn opaque(&mut self, type_url: &str, reason: String) {
        if self.findings.opaque.len() < Findings::MAX {
            self.findings.opaque.push(Opaque { path: self.path.to_string(), type_url: type_url.to_owned(), reason });
        }
    }

    fn violation(&mut self, reason: String) {
        self.violation_at(self.path.to_string(), reason);
    }

    fn violation_at(&mut self, path: String, reason: String) {
        if self.findings.violations.len() < Findings::MAX {
            self.findings.violations.push(Violation { path, reason });
        }
    }
}
