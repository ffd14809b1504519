//! STRICT_DNS, LOGICAL_DNS and `envoy.clusters.dns` → [`Dns`].

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily;
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::google::protobuf;

use super::{Dns, Name};
use crate::cluster::config::{family, host_of};
use crate::config::{ConfigError, Within, duration, each, unpack};
use crate::upstream::resolve::Family;

const REFRESH: Duration = Duration::from_secs(5);

/// A cluster of one of the two older types.
///
/// # Errors
/// An endpoint without a socket address, or more than one where only one may be.
pub fn dns(config: &pb::Cluster, logical: bool) -> Result<Dns, ConfigError> {
    #[allow(deprecated)] // What most bootstraps still write.
    let failure = config.dns_failure_refresh_rate.as_ref();
    #[allow(deprecated)] // As above.
    let refresh = duration(config.dns_refresh_rate.as_ref()).filter(|d| !d.is_zero()).unwrap_or(REFRESH);
    let failure = failure.map(|rate| (rate.base_interval.as_ref(), rate.max_interval.as_ref()));
    let names = names(config)?;
    check_logical(logical, &names, "LOGICAL_DNS")?;
    Ok(Dns {
        family: family(config.dns_lookup_family()),
        refresh,
        failure: failure_rate(failure, refresh),
        logical,
        names,
    })
}

/// `envoy.clusters.dns`, and the newer forms of the older types.
///
/// # Errors
/// As [`dns`].
pub fn dns_extension(config: &pb::Cluster, any: &protobuf::Any) -> Result<Dns, ConfigError> {
    let typed: DnsCluster = unpack(any).within("typed_config")?;
    let refresh = duration(typed.dns_refresh_rate.as_ref()).filter(|d| !d.is_zero()).unwrap_or(REFRESH);
    let failure = typed.dns_failure_refresh_rate.as_ref();
    let failure = failure.map(|rate| (rate.base_interval.as_ref(), rate.max_interval.as_ref()));
    let names = names(config)?;
    check_logical(typed.all_addresses_in_single_endpoint, &names, "all_addresses_in_single_endpoint")?;
    Ok(Dns {
        family: match typed.dns_lookup_family() {
            DnsLookupFamily::Unspecified | DnsLookupFamily::Auto => Family::V6Preferred,
            DnsLookupFamily::V4Only => Family::V4Only,
            DnsLookupFamily::V6Only => Family::V6Only,
            DnsLookupFamily::V4Preferred => Family::V4Preferred,
            DnsLookupFamily::All => Family::All,
        },
        refresh,
        failure: failure_rate(failure, refresh),
        logical: typed.all_addresses_in_single_endpoint,
        names,
    })
}

fn check_logical(logical: bool, names: &[Name], what: &str) -> Result<(), ConfigError> {
    if logical && names.len() != 1 {
        return Err(ConfigError::at(
            "load_assignment",
            format!("{what} clusters must have a single locality_lb_endpoint and a single lb_endpoint"),
        ));
    }
    Ok(())
}

type Rate<'a> = (Option<&'a protobuf::Duration>, Option<&'a protobuf::Duration>);

/// Without one the usual rate holds after failures too.
fn failure_rate(config: Option<Rate<'_>>, refresh: Duration) -> (Duration, Duration) {
    let Some((base, most)) = config else { return (refresh, refresh) };
    let base = duration(base).unwrap_or(refresh);
    (base, duration(most).unwrap_or(base * 10).max(base))
}

fn names(config: &pb::Cluster) -> Result<Vec<Name>, ConfigError> {
    let assignment = config.load_assignment.clone().unwrap_or_default();
    let localities = each("load_assignment.endpoints", &assignment.endpoints, |locality| {
        each("lb_endpoints", &locality.lb_endpoints, |e| name(e, locality))
    })?;
    Ok(localities.into_iter().flatten().collect())
}

fn name(config: &endpoint::LbEndpoint, locality: &endpoint::LocalityLbEndpoints) -> Result<Name, ConfigError> {
    use endpoint::lb_endpoint::HostIdentifier;
    let Some(HostIdentifier::Endpoint(e)) = &config.host_identifier else {
        return Err(ConfigError::at("endpoint", "value is required"));
    };
    let Some(core::address::Address::SocketAddress(socket)) = e.address.as_ref().and_then(|a| a.address.as_ref())
    else {
        return Err(ConfigError::at("endpoint.address.socket_address", "value is required"));
    };
    let nowhere = crate::net::Address::Ip(([0, 0, 0, 0], 0).into());
    Ok(Name {
        name: socket.address.clone(),
        port: crate::config::port(socket).within("endpoint.address.socket_address")?,
        host: host_of(config, e, locality, nowhere)?,
    })
}
