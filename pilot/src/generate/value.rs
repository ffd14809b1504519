//! Small messages that many others hold.

use std::net::SocketAddr;

use api::GoDuration;
use api::scalar::Percent as Share;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, RuntimeFractionalPercent, SocketAddress, address,
    config_source, socket_address,
};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent, fractional_percent};
use envoy_types::pb::google::protobuf::{BoolValue, Duration, Struct, UInt32Value, Value, value};

/// From the same ADS stream, waited for as long as it takes.
pub(super) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        initial_fetch_timeout: Some(Duration::default()),
        resource_api_version: ApiVersion::V3.into(),
        ..Default::default()
    })
}

pub(super) fn address(at: SocketAddr) -> Option<Address> {
    host_port(&at.ip().to_string(), at.port())
}

pub(super) fn host_port(host: &str, port: u16) -> Option<Address> {
    Some(Address { address: Some(address::Address::SocketAddress(socket_address(host, port))) })
}

pub(super) fn socket_address(host: impl ToString, port: u16) -> SocketAddress {
    SocketAddress {
        address: host.to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    }
}

pub(super) fn duration(d: GoDuration) -> Option<Duration> {
    let d = d.get();
    // Both fit: the type holds at most 292 years.
    Some(Duration {
        seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(d.subsec_nanos()).unwrap_or_default(),
    })
}

#[allow(clippy::unnecessary_wraps)] // the fields are optional
pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

#[allow(clippy::unnecessary_wraps)] // the fields are optional
pub(super) fn flag(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

#[allow(clippy::unnecessary_wraps)] // the fields are optional
pub(super) fn percent(share: Share) -> Option<Percent> {
    Some(Percent { value: share.as_f64() })
}

#[allow(clippy::unnecessary_wraps)] // the fields are optional
pub(super) fn fraction(per_million: u32) -> Option<FractionalPercent> {
    Some(FractionalPercent { numerator: per_million, denominator: fractional_percent::DenominatorType::Million.into() })
}

#[allow(clippy::unnecessary_wraps)] // the fields are optional
pub(super) fn runtime_fraction(per_million: u32) -> Option<RuntimeFractionalPercent> {
    Some(RuntimeFractionalPercent { default_value: fraction(per_million), runtime_key: String::new() })
}

/// A struct of texts.
pub(super) fn texts<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Struct {
    let text = |text: String| Value { kind: Some(value::Kind::StringValue(text)) };
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect() }
}
