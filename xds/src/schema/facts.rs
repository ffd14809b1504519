//! What the options in Envoy's protos say of a message: its validation rules, which fields are
//! secret, which are going away.
//!
//! Source: `validate/validate.proto`, `udpa/annotations/sensitive.proto`,
//! `envoy/annotations/deprecation.proto`.

use std::collections::BTreeMap;

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};

use super::rule::Rule;

/// The options of one message.
#[derive(Debug, Default)]
pub(crate) struct MessageFacts {
    /// `validate.disabled` or `validate.ignored`: no rule of this message counts.
    pub(crate) unchecked: bool,
    /// By field number; fields without any such option are absent.
    pub(crate) fields: BTreeMap<u32, FieldFacts>,
    /// Names of oneofs of which one field must be set.
    pub(crate) required_oneofs: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct FieldFacts {
    pub(crate) rule: Option<Rule>,
    pub(crate) sensitive: bool,
    pub(crate) deprecated: Option<Deprecation>,
    /// Deprecated values of an enum field, by number.
    pub(crate) deprecated_values: BTreeMap<i32, Deprecation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deprecation {
    /// The minor version of Envoy's API that deprecated it, such as `3.0`; may be empty.
    pub(crate) since: String,
    /// Refused unless asked for: Envoy's `disallowed_by_default`.
    pub(crate) disallowed: bool,
}

/// The extensions that are read; an absent one is in no file of the set.
#[derive(Debug)]
pub(super) struct Options {
    rules: Option<ExtensionDescriptor>,
    required: Option<ExtensionDescriptor>,
    disabled: Option<ExtensionDescriptor>,
    ignored: Option<ExtensionDescriptor>,
    sensitive: Option<ExtensionDescriptor>,
    deprecated_since: Option<ExtensionDescriptor>,
    disallowed: Option<ExtensionDescriptor>,
    value_deprecated_since: Option<ExtensionDescriptor>,
    value_disallowed: Option<ExtensionDescriptor>,
}

impl Options {
    pub(super) fn find(pool: &DescriptorPool) -> Self {
        let named = |name: &str| pool.get_extension_by_name(name);
        Self {
            rules: named("validate.rules"),
            required: named("validate.required"),
            disabled: named("validate.disabled"),
            ignored: named("validate.ignored"),
            sensitive: named("udpa.annotations.sensitive"),
            deprecated_since: named("envoy.annotations.deprecated_at_minor_version"),
            disallowed: named("envoy.annotations.disallowed_by_default"),
            value_deprecated_since: named("envoy.annotations.deprecated_at_minor_version_enum"),
            value_disallowed: named("envoy.annotations.disallowed_by_default_enum"),
        }
    }

    pub(super) fn facts(&self, message: &MessageDescriptor) -> MessageFacts {
        let options = message.options();
        MessageFacts {
            unchecked: flag(&options, &self.disabled) || flag(&options, &self.ignored),
            fields: message.fields().filter_map(|field| Some((field.number(), self.field(&field)?))).collect(),
            required_oneofs: message
                .oneofs()
                .filter(|oneof| flag(&oneof.options(), &self.required))
                .map(|oneof| oneof.name().to_owned())
                .collect(),
        }
    }

    fn field(&self, field: &FieldDescriptor) -> Option<FieldFacts> {
        let deprecated_values = self.deprecated_values(field);
        if field.field_descriptor_proto().options.is_none() && deprecated_values.is_empty() {
            return None;
        }
        let options = field.options();
        let deprecated = options.get_field_by_name("deprecated").and_then(|value| value.as_bool()) == Some(true);
        Some(FieldFacts {
            rule: self.rule(&options),
            sensitive: flag(&options, &self.sensitive),
            deprecated: deprecated.then(|| Deprecation {
                since: text(&options, &self.deprecated_since),
                disallowed: flag(&options, &self.disallowed),
            }),
            deprecated_values,
        })
    }

    fn rule(&self, options: &DynamicMessage) -> Option<Rule> {
        let extension = self.rules.as_ref().filter(|extension| options.has_extension(extension))?;
        Some(Rule::compile(&options.get_extension(extension).as_message()?.transcode_to().ok()?))
    }

    fn deprecated_values(&self, field: &FieldDescriptor) -> BTreeMap<i32, Deprecation> {
        let Kind::Enum(kind) = field.kind() else { return BTreeMap::new() };
        let deprecation = |options: DynamicMessage| {
            let deprecated = options.get_field_by_name("deprecated").and_then(|value| value.as_bool()) == Some(true);
            deprecated.then(|| Deprecation {
                since: text(&options, &self.value_deprecated_since),
                disallowed: flag(&options, &self.value_disallowed),
            })
        };
        let with_options = kind.values().filter(|value| value.enum_value_descriptor_proto().options.is_some());
        with_options.filter_map(|value| Some((value.number(), deprecation(value.options())?))).collect()
    }
}

fn flag(options: &DynamicMessage, extension: &Option<ExtensionDescriptor>) -> bool {
    extension.as_ref().is_some_and(|extension| options.get_extension(extension).as_bool() == Some(true))
}

fn text(options: &DynamicMessage, extension: &Option<ExtensionDescriptor>) -> String {
    let value = extension.as_ref().map(|extension| options.get_extension(extension).into_owned());
    value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}
