//! The validation rules of one field, made ready to check: numbers of one width, patterns compiled.
//!
//! Source: `validate/validate.proto` of protoc-gen-validate. What Envoy's protos do not use (e-mail
//! addresses, UUIDs, `gt_now`, …) is left out.

use envoy_types::pb::google::protobuf::Duration;
use envoy_types::pb::validate::field_rules::Type;
use envoy_types::pb::validate::{FieldRules, KnownRegex, StringRules, string_rules::WellKnown};
use regex::Regex;

#[derive(Debug)]
pub(crate) struct Rule {
    /// The field must be set.
    pub(crate) required: bool,
    /// What is inside the field is not looked at.
    pub(crate) skip: bool,
    pub(crate) check: Option<Check>,
}

/// What a value must be.
#[derive(Debug)]
pub(crate) enum Check {
    Int(Bounds<i128>),
    Float(Bounds<f64>),
    /// In nanoseconds.
    Duration(Bounds<i128>),
    Bool(bool),
    String(Box<StringRules>, Option<Regex>),
    Bytes {
        min: Option<u64>,
        max: Option<u64>,
        ignore_empty: bool,
    },
    Enum {
        defined_only: bool,
        equal: Option<i32>,
        among: Vec<i32>,
        not_among: Vec<i32>,
    },
    Repeated {
        min: Option<u64>,
        max: Option<u64>,
        unique: bool,
        ignore_empty: bool,
        items: Option<Box<Rule>>,
    },
    Map {
        min: Option<u64>,
        max: Option<u64>,
        ignore_empty: bool,
        keys: Option<Box<Rule>>,
        values: Option<Box<Rule>>,
    },
    /// Type URLs.
    Any {
        among: Vec<String>,
        not_among: Vec<String>,
    },
}

/// Limits of a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bounds<N> {
    pub(crate) equal: Option<N>,
    pub(crate) lt: Option<N>,
    pub(crate) lte: Option<N>,
    pub(crate) gt: Option<N>,
    pub(crate) gte: Option<N>,
    pub(crate) among: Vec<N>,
    pub(crate) not_among: Vec<N>,
    pub(crate) ignore_empty: bool,
}

/// The number rules all have the same fields.
macro_rules! bounds {
    ($rules:expr, $convert:expr) => {{
        let convert = $convert;
        Bounds {
            equal: $rules.r#const.map(convert),
            lt: $rules.lt.map(convert),
            lte: $rules.lte.map(convert),
            gt: $rules.gt.map(convert),
            gte: $rules.gte.map(convert),
            among: $rules.r#in.iter().copied().map(convert).collect(),
            not_among: $rules.not_in.iter().copied().map(convert).collect(),
            ignore_empty: $rules.ignore_empty.unwrap_or_default(),
        }
    }};
}

impl Rule {
    pub(super) fn compile(rules: &FieldRules) -> Self {
        let message = rules.message.unwrap_or_default();
        let required_by_type = match &rules.r#type {
            Some(Type::Duration(rules)) => rules.required,
            Some(Type::Timestamp(rules)) => rules.required,
            Some(Type::Any(rules)) => rules.required,
            _ => None,
        };
        Self {
            required: message.required.or(required_by_type).unwrap_or_default(),
            skip: message.skip.unwrap_or_default(),
            check: rules.r#type.as_ref().and_then(check),
        }
    }
}

fn check(rules: &Type) -> Option<Check> {
    Some(match rules {
        Type::Float(rules) => Check::Float(bounds!(rules, f64::from)),
        Type::Double(rules) => Check::Float(bounds!(rules, f64::from)),
        Type::Int32(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Int64(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Uint32(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Uint64(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Sint32(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Sint64(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Fixed32(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Fixed64(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Sfixed32(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Sfixed64(rules) => Check::Int(bounds!(rules, i128::from)),
        Type::Duration(rules) => Check::Duration(Bounds {
            equal: rules.r#const.as_ref().map(nanos),
            lt: rules.lt.as_ref().map(nanos),
            lte: rules.lte.as_ref().map(nanos),
            gt: rules.gt.as_ref().map(nanos),
            gte: rules.gte.as_ref().map(nanos),
            among: rules.r#in.iter().map(nanos).collect(),
            not_among: rules.not_in.iter().map(nanos).collect(),
            ignore_empty: false,
        }),
        Type::Bool(rules) => Check::Bool(rules.r#const?),
        Type::String(rules) => Check::String(Box::new(rules.clone()), string_pattern(rules)),
        Type::Bytes(rules) => Check::Bytes {
            min: rules.min_len.or(rules.len),
            max: rules.max_len.or(rules.len),
            ignore_empty: rules.ignore_empty.unwrap_or_default(),
        },
        Type::Enum(rules) => Check::Enum {
            defined_only: rules.defined_only.unwrap_or_default(),
            equal: rules.r#const,
            among: rules.r#in.clone(),
            not_among: rules.not_in.clone(),
        },
        Type::Repeated(rules) => Check::Repeated {
            min: rules.min_items,
            max: rules.max_items,
            unique: rules.unique.unwrap_or_default(),
            ignore_empty: rules.ignore_empty.unwrap_or_default(),
            items: part(&rules.items),
        },
        Type::Map(rules) => Check::Map {
            min: rules.min_pairs,
            max: rules.max_pairs,
            ignore_empty: rules.ignore_empty.unwrap_or_default(),
            keys: part(&rules.keys),
            values: part(&rules.values),
        },
        Type::Any(rules) => Check::Any { among: rules.r#in.clone(), not_among: rules.not_in.clone() },
        Type::Timestamp(_) => return None,
    })
}

fn part(rules: &Option<Box<FieldRules>>) -> Option<Box<Rule>> {
    rules.as_deref().map(|rules| Box::new(Rule::compile(rules)))
}

fn nanos(duration: &Duration) -> i128 {
    i128::from(duration.seconds) * 1_000_000_000 + i128::from(duration.nanos)
}

/// `pattern`, or the one that `well_known_regex` names.
///
/// Source: the constants in protoc-gen-validate's `templates/shared/well_known.go`.
fn string_pattern(rules: &StringRules) -> Option<Regex> {
    let strict = rules.strict.unwrap_or(true);
    let known = match rules.well_known {
        Some(WellKnown::WellKnownRegex(known)) => KnownRegex::try_from(known).ok()?,
        _ => KnownRegex::Unknown,
    };
    let pattern = match (known, strict) {
        (KnownRegex::HttpHeaderName, true) => "^:?[0-9a-zA-Z!#$%&'*+-.^_|~\x60]+$",
        (KnownRegex::HttpHeaderName, false) => "^[^\u{0}\n\r]+$",
        (KnownRegex::HttpHeaderValue, true) => "^[^\u{0}-\u{8}\n-\u{1f}\u{7f}]*$",
        (KnownRegex::HttpHeaderValue, false) => "^[^\u{0}\n\r]*$",
        (KnownRegex::Unknown, _) => rules.pattern.as_deref()?,
    };
    Regex::new(pattern).ok()
}
