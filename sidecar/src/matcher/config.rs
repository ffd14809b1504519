//! Envoy's matcher messages → matchers.

use envoy_types::pb::envoy::config::core::v3::{CidrRange, RuntimeFractionalPercent};
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use ipnet::IpNet;
use regex::Regex;

use super::{Fraction, HeaderMatcher, JsonMatcher, MetadataMatcher, QueryMatcher, StringMatcher, ValueMatcher};
use crate::config::{ConfigError, Within, each, u32_or};

/// Regexes larger than this when compiled are refused.
const LARGEST_REGEX: usize = 2 << 20;

/// A regex that must match the whole text, as RE2's FullMatch.
///
/// # Errors
/// The pattern is no regex, or a too large one.
pub fn full_regex(pattern: &str) -> Result<Regex, ConfigError> {
    compile(&format!("^(?:{pattern})$"), pattern)
}

/// A regex that is searched for and replaced.
///
/// # Errors
/// As [`full_regex`]; an empty one too.
pub fn search_regex(regex: Option<&matcher::RegexMatcher>) -> Result<Regex, ConfigError> {
    match regex.map_or("", |r| r.regex.as_str()) {
        "" => Err(ConfigError::new("a regex is required")),
        pattern => compile(pattern, pattern),
    }
}

fn compile(full: &str, shown: &str) -> Result<Regex, ConfigError> {
    regex::RegexBuilder::new(full)
        .size_limit(LARGEST_REGEX)
        .build()
        .map_err(|e| ConfigError::new(format!("invalid regex '{shown}': {e}")))
}

/// RE2's `\1` in a substitution becomes this crate's `${1}`.
pub fn substitution(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(d) if d.is_ascii_digit() => out.push_str(&format!("${{{d}}}")),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            '$' => out.push_str("$$"),
            other => out.push(other),
        }
    }
    out
}

/// # Errors
/// No pattern, a bad regex, or a custom matcher.
pub fn string(config: &matcher::StringMatcher) -> Result<StringMatcher, ConfigError> {
    use matcher::string_matcher::MatchPattern;
    let ignore = config.ignore_case;
    match &config.match_pattern {
        Some(MatchPattern::Exact(text)) if ignore => Ok(StringMatcher::ExactIgnoreCase(text.clone())),
        Some(MatchPattern::Exact(text)) => Ok(StringMatcher::Exact(text.clone())),
        Some(MatchPattern::Prefix(text)) => Ok(StringMatcher::Prefix(text.clone(), ignore)),
        Some(MatchPattern::Suffix(text)) => Ok(StringMatcher::Suffix(text.clone(), ignore)),
        Some(MatchPattern::Contains(text)) => Ok(StringMatcher::Contains(text.clone(), ignore)),
        Some(MatchPattern::SafeRegex(regex)) => full_regex(&regex.regex).map(StringMatcher::Regex).within("safe_regex"),
        Some(MatchPattern::Custom(_)) => Err(ConfigError::at("custom", "custom string matchers are not supported")),
        None => Err(ConfigError::new("one of exact, prefix, suffix, safe_regex, contains is required")),
    }
}

/// # Errors
/// A bad matcher inside, or an empty name.
#[allow(deprecated)] // Old configurations still use the forms that string_match replaced.
pub fn header(config: &route::HeaderMatcher) -> Result<HeaderMatcher, ConfigError> {
    use route::header_matcher::HeaderMatchSpecifier as Specifier;
    if config.name.is_empty() {
        return Err(ConfigError::at("name", "value length must be at least 1 characters"));
    }
    let value = match &config.header_match_specifier {
        None => ValueMatcher::Present(true),
        Some(Specifier::PresentMatch(want)) => ValueMatcher::Present(*want),
        Some(Specifier::RangeMatch(range)) => ValueMatcher::Range(range.start, range.end),
        Some(Specifier::ExactMatch(text)) => ValueMatcher::String(StringMatcher::Exact(text.clone())),
        Some(Specifier::PrefixMatch(text)) => ValueMatcher::String(StringMatcher::Prefix(text.clone(), false)),
        Some(Specifier::SuffixMatch(text)) => ValueMatcher::String(StringMatcher::Suffix(text.clone(), false)),
        Some(Specifier::ContainsMatch(text)) => ValueMatcher::String(StringMatcher::Contains(text.clone(), false)),
        Some(Specifier::SafeRegexMatch(regex)) => {
            ValueMatcher::String(StringMatcher::Regex(full_regex(&regex.regex).within("safe_regex_match")?))
        }
        Some(Specifier::StringMatch(matcher)) => ValueMatcher::String(string(matcher).within("string_match")?),
    };
    Ok(HeaderMatcher {
        name: config.name.to_ascii_lowercase(),
        value,
        invert: config.invert_match,
        missing_is_empty: config.treat_missing_header_as_empty,
    })
}

/// # Errors
/// A bad matcher inside.
pub fn query(config: &route::QueryParameterMatcher) -> Result<QueryMatcher, ConfigError> {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
    let (value, absent) = match &config.query_parameter_match_specifier {
        None | Some(Specifier::PresentMatch(true)) => (None, false),
        Some(Specifier::PresentMatch(false)) => (None, true),
        Some(Specifier::StringMatch(matcher)) => (Some(string(matcher).within("string_match")?), false),
    };
    Ok(QueryMatcher { name: config.name.clone(), value, absent })
}

/// # Errors
/// A bad matcher inside, or none.
pub fn metadata(config: &matcher::MetadataMatcher) -> Result<MetadataMatcher, ConfigError> {
    use matcher::metadata_matcher::path_segment::Segment;
    let path = each("path", &config.path, |step| match &step.segment {
        Some(Segment::Key(key)) => Ok(key.clone()),
        None => Err(ConfigError::at("key", "value is required")),
    })?;
    let value = config.value.as_ref().ok_or_else(|| ConfigError::at("value", "value is required"))?;
    Ok(MetadataMatcher {
        filter: config.filter.clone(),
        path,
        value: value_of(value).within("value")?,
        invert: config.invert,
    })
}

fn value_of(config: &matcher::ValueMatcher) -> Result<JsonMatcher, ConfigError> {
    use matcher::double_matcher::MatchPattern as Number;
    use matcher::list_matcher::MatchPattern as List;
    use matcher::value_matcher::MatchPattern as Kind;
    let required = || ConfigError::new("value is required");
    Ok(match config.match_pattern.as_ref().ok_or_else(required)? {
        Kind::NullMatch(_) => JsonMatcher::Null,
        Kind::DoubleMatch(number) => match number.match_pattern.as_ref().ok_or_else(required)? {
            Number::Range(range) => JsonMatcher::Range(range.start, range.end),
            Number::Exact(exact) => JsonMatcher::Exactly(*exact),
        },
        Kind::StringMatch(text) => JsonMatcher::Text(string(text).within("string_match")?),
        Kind::BoolMatch(want) => JsonMatcher::Bool(*want),
        Kind::PresentMatch(want) => JsonMatcher::Present(*want),
        Kind::ListMatch(list) => match list.match_pattern.as_ref().ok_or_else(required)? {
            List::OneOf(item) => JsonMatcher::OneOf(Box::new(value_of(item).within("list_match.one_of")?)),
        },
        Kind::OrMatch(any) => JsonMatcher::Any(each("or_match.value_matchers", &any.value_matchers, value_of)?),
    })
}

/// Several of which one is enough.
///
/// # Errors
/// A bad matcher inside.
pub fn strings(config: &matcher::ListStringMatcher) -> Result<Vec<StringMatcher>, ConfigError> {
    each("patterns", &config.patterns, string)
}

pub fn fraction(config: &FractionalPercent) -> Fraction {
    let denominator = match config.denominator() {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    };
    Fraction { numerator: config.numerator, denominator }
}

/// A share that a runtime value may change.
pub fn runtime_fraction(config: &RuntimeFractionalPercent) -> Fraction {
    let key = config.runtime_key.as_str();
    if let Some(numerator) = crate::runtime::number(key) {
        return Fraction { numerator: u32::try_from(numerator).unwrap_or(u32::MAX), denominator: 100 };
    }
    if let Some((numerator, denominator)) = crate::runtime::share(key) {
        let kind = denominator.and_then(|d| DenominatorType::from_str_name(&d)).unwrap_or(DenominatorType::Hundred);
        return fraction(&FractionalPercent { numerator, denominator: kind.into() });
    }
    fraction(&config.default_value.unwrap_or_default())
}

/// # Errors
/// No address, or a prefix longer than it.
pub fn cidr(config: &CidrRange) -> Result<IpNet, ConfigError> {
    let address = config
        .address_prefix
        .parse()
        .map_err(|_| ConfigError::at("address_prefix", format!("malformed IP address: {}", config.address_prefix)))?;
    let length = u8::try_from(u32_or(config.prefix_len.as_ref(), 0)).unwrap_or(u8::MAX);
    IpNet::new(address, length).map(|net| net.trunc()).map_err(|e| ConfigError::at("prefix_len", e.to_string()))
}
