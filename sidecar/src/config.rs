//! What every module's `config.rs` shares: the error that names a field, and readers for the small
//! messages that all of Envoy's configuration is made of.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf;
use prost::{Message, Name};
use xds::Schema;
use xds::typed_struct::TypedStruct;

use crate::net::Address;

/// Why a resource can't be used: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `filter_chains[0].filters[1].typed_config`; empty for the resource as a whole.
    pub path: String,
    pub message: String,
}

impl ConfigError {
    pub fn new(message: impl Into<String>) -> Self {
        ConfigError { path: String::new(), message: message.into() }
    }

    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        ConfigError { path: path.into(), message: message.into() }
    }

    /// The same error seen from the message that holds the field.
    #[must_use]
    pub fn within(mut self, field: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => field.to_owned(),
            path if path.starts_with('[') => format!("{field}{path}"),
            path => format!("{field}.{path}"),
        };
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Adds the field's name to an error's path.
pub trait Within<T> {
    /// # Errors
    /// The same error, further out.
    fn within(self, field: &str) -> Result<T, ConfigError>;
}

impl<T> Within<T> for Result<T, ConfigError> {
    fn within(self, field: &str) -> Result<T, ConfigError> {
        self.map_err(|e| e.within(field))
    }
}

/// Compiles each element, naming the index of the one that fails.
///
/// # Errors
/// The first element's that fails.
pub fn each<T, U>(
    field: &str,
    items: &[T],
    compile: impl Fn(&T) -> Result<U, ConfigError>,
) -> Result<Vec<U>, ConfigError> {
    items.iter().enumerate().map(|(i, item)| compile(item).within(&format!("{field}[{i}]"))).collect()
}

/// The message type's name at the end of a type URL.
pub fn type_name(any: &protobuf::Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or("")
}

/// Is the `Any` a `T`?
pub fn is<T: Name>(any: &protobuf::Any) -> bool {
    type_name(any) == T::full_name()
}

/// An extension of a type that nobody here implements, in Envoy's words.
pub fn unregistered(name: &str, kind: &str) -> ConfigError {
    ConfigError::new(format!("Didn't find a registered implementation for '{name}' with type URL: '{kind}'"))
}

/// The message itself, where it was sent as a `TypedStruct`. Fields that it does not have are left out, as those of other
/// messages that come by xDS. Source: Envoy's `Config::Utility::translateOpaqueConfig`.
///
/// # Errors
/// The struct is none of the type that it names.
pub fn opened(any: &protobuf::Any) -> Result<Cow<'_, protobuf::Any>, ConfigError> {
    if !xds::typed_struct::is_typed_struct(&any.type_url) {
        return Ok(Cow::Borrowed(any));
    }
    let sealed = TypedStruct::decode(any.value.as_slice())
        .map_err(|e| ConfigError::new(format!("Unable to unpack as {}: {e}", TypedStruct::full_name())))?;
    let message = xds::json::open_struct(&Schema::shared(), &sealed).map_err(|e| ConfigError::new(e.to_string()))?;
    Ok(Cow::Owned(message))
}

/// Decodes an `Any` that must be a `T`.
///
/// # Errors
/// Another type, or bytes that are no `T`.
pub fn unpack<T: Message + Name + Default>(any: &protobuf::Any) -> Result<T, ConfigError> {
    if !is::<T>(any) {
        return Err(ConfigError::new(format!("Unable to unpack as {}: {}", T::full_name(), any.type_url)));
    }
    T::decode(any.value.as_slice())
        .map_err(|e| ConfigError::new(format!("Unable to unpack as {}: {e}", T::full_name())))
}

/// A duration; negative and missing ones are `None`.
pub fn duration(value: Option<&protobuf::Duration>) -> Option<Duration> {
    let value = value?;
    let (seconds, nanos) = (u64::try_from(value.seconds).ok()?, u32::try_from(value.nanos).ok()?);
    Some(Duration::new(seconds, nanos.min(999_999_999)))
}

/// A limit in time where 0 means none, and absence means `default`.
pub fn limit(value: Option<&protobuf::Duration>, default: Option<Duration>) -> Option<Duration> {
    match value {
        None => default,
        Some(_) => duration(value).filter(|d| !d.is_zero()),
    }
}

pub fn u32_or(value: Option<&protobuf::UInt32Value>, default: u32) -> u32 {
    value.map_or(default, |v| v.value)
}

pub fn bool_or(value: Option<&protobuf::BoolValue>, default: bool) -> bool {
    value.map_or(default, |v| v.value)
}

/// An address that can be listened on or connected to.
///
/// # Errors
/// Missing, not an IP address, or of a kind that is not supported.
pub fn address(value: Option<&core::Address>) -> Result<Address, ConfigError> {
    use core::address::Address as Kind;
    match value.and_then(|a| a.address.as_ref()) {
        Some(Kind::SocketAddress(socket)) => socket_address(socket).map(Address::Ip).within("socket_address"),
        Some(Kind::Pipe(pipe)) => Ok(Address::Pipe(Arc::new(PathBuf::from(&pipe.path)))),
        Some(Kind::EnvoyInternalAddress(_)) => {
            Err(ConfigError::at("envoy_internal_address", "internal listeners are not supported"))
        }
        None => Err(ConfigError::new("an address is required")),
    }
}

/// An IP address with its numeric port.
///
/// # Errors
/// The address is a name, or the port is no number from 0 to 65535.
pub fn socket_address(value: &core::SocketAddress) -> Result<SocketAddr, ConfigError> {
    let ip: IpAddr = value
        .address
        .parse()
        .map_err(|_| ConfigError::at("address", format!("malformed IP address: {}", value.address)))?;
    Ok(SocketAddr::new(ip, port(value)?))
}

/// The numeric port of a socket address.
///
/// # Errors
/// A named port, or a number over 65535.
pub fn port(value: &core::SocketAddress) -> Result<u16, ConfigError> {
    use core::socket_address::PortSpecifier;
    match &value.port_specifier {
        Some(PortSpecifier::PortValue(port)) => {
            u16::try_from(*port).map_err(|_| ConfigError::at("port_value", format!("{port} is no port")))
        }
        Some(PortSpecifier::NamedPort(name)) => {
            Err(ConfigError::at("named_port", format!("named ports need a resolver: {name}")))
        }
        None => Ok(0),
    }
}

/// Reads a data source now.
///
/// # Errors
/// The file can't be read, or the variable is not set.
pub fn data_source(value: &core::DataSource) -> Result<Vec<u8>, ConfigError> {
    use core::data_source::Specifier;
    match &value.specifier {
        Some(Specifier::Filename(name)) => {
            std::fs::read(name).map_err(|e| ConfigError::at("filename", format!("unable to read file: {name}: {e}")))
        }
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::EnvironmentVariable(name)) => std::env::var(name).map(String::into_bytes).map_err(|_| {
            ConfigError::at("environment_variable", format!("environment variable does not exist: {name}"))
        }),
        None => Err(ConfigError::new("one of filename, inline_bytes, inline_string, environment_variable is required")),
    }
}

/// Metadata as JSON, by filter name.
pub fn metadata(value: Option<&core::Metadata>) -> crate::stream::Metadata {
    let Some(value) = value else { return Default::default() };
    value.filter_metadata.iter().map(|(name, s)| (name.clone(), structure(s))).collect()
}

/// A protobuf Struct as JSON.
pub fn structure(value: &protobuf::Struct) -> serde_json::Value {
    serde_json::Value::Object(value.fields.iter().map(|(k, v)| (k.clone(), json_value(v))).collect())
}

/// A protobuf Value as JSON. Whole numbers print without a fraction.
pub fn json_value(value: &protobuf::Value) -> serde_json::Value {
    use protobuf::value::Kind;
    use serde_json::Value as Json;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(b)) => Json::Bool(*b),
        Some(Kind::StringValue(s)) => Json::String(s.clone()),
        Some(Kind::NumberValue(n)) if n.fract() == 0.0 && n.abs() < 9e15 => Json::from(*n as i64),
        Some(Kind::NumberValue(n)) => serde_json::Number::from_f64(*n).map_or(Json::Null, Json::Number),
        Some(Kind::StructValue(s)) => structure(s),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(json_value).collect()),
    }
}
