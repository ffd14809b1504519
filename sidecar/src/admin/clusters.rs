//! `/clusters`: each cluster's limits and its hosts, with their health and counts.

use std::sync::Arc;

use http::StatusCode;
use xds::json::Json;

use super::info::address;
use super::{Page, json, value};
use crate::assemble::membership::SHOWN;
use crate::assemble::view::View;
use crate::cluster::{Cluster, Health, Host, HostSet};

pub fn page(view: &View, query: Option<&str>) -> Page {
    if value(query, "format") == Some("json") {
        let statuses = view.hosts.iter().map(|(cluster, hosts, by_api)| status(cluster, hosts, *by_api)).collect();
        return json(Json::Map(vec![("cluster_statuses".to_owned(), Json::List(statuses))]).pretty());
    }
    let mut text = String::new();
    for (cluster, hosts, by_api) in &view.hosts {
        lines(&mut text, cluster, hosts, *by_api);
    }
    super::page(StatusCode::OK, text)
}

fn lines(text: &mut String, cluster: &Cluster, hosts: &HostSet, by_api: bool) {
    let name = &cluster.name;
    let mut line = |rest: String| text.push_str(&format!("{name}::{rest}\n"));
    line(format!("observability_name::{}", cluster.stat_name));
    if cluster.outlier.is_some() {
        line("outlier::success_rate_average::-1".to_owned());
        line("outlier::success_rate_ejection_threshold::-1".to_owned());
        line("outlier::local_origin_success_rate_average::-1".to_owned());
        line("outlier::local_origin_success_rate_ejection_threshold::-1".to_owned());
    }
    for (priority, high) in [("default_priority", false), ("high_priority", true)] {
        let limits = cluster.breakers.thresholds(high);
        line(format!("{priority}::max_connections::{}", limits.max_connections));
        line(format!("{priority}::max_pending_requests::{}", limits.max_pending_requests));
        line(format!("{priority}::max_requests::{}", limits.max_requests));
        line(format!("{priority}::max_retries::{}", limits.max_retries));
    }
    line(["added_via_api", if by_api { "true" } else { "false" }].join("::"));
    for host in &hosts.all {
        for (count, word) in SHOWN {
            line(format!("{}::{word}::{}", host.address, host.stats.sum(count)));
        }
        let place = &host.locality;
        for (word, value) in [
            ("hostname", host.hostname.to_string()),
            ("health_flags", flags(host)),
            ("weight", host.weight.to_string()),
            ("region", place.region.clone()),
            ("zone", place.zone.clone()),
            ("sub_zone", place.sub_zone.clone()),
            ("canary", is_canary(host).to_string()),
            ("priority", host.priority.to_string()),
            ("success_rate", "-1".to_owned()),
            ("local_origin_success_rate", "-1".to_owned()),
        ] {
            line(format!("{}::{word}::{value}", host.address));
        }
    }
}

fn is_canary(host: &Host) -> bool {
    let canary = host.metadata.get("envoy.lb").and_then(|m| m.get("canary"));
    canary.and_then(|value| value.as_bool()).unwrap_or(false)
}

/// Source: Envoy's `HostUtility::healthFlagsToString`.
fn flags(host: &Host) -> String {
    let all = [
        (host.flags.failed_check, "/failed_active_hc"),
        (host.flags.ejected, "/failed_outlier_check"),
        (host.configured == Health::Unhealthy, "/failed_eds_health"),
        (host.flags.degraded_check, "/degraded_active_hc"),
        (host.configured == Health::Degraded, "/degraded_eds_health"),
        (host.flags.pending_check, "/pending_active_hc"),
    ];
    let set: String = all.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    if set.is_empty() { "healthy".to_owned() } else { set }
}

fn map(fields: Vec<(&str, Json)>) -> Json {
    Json::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn text(value: &str) -> Json {
    Json::String(value.to_owned())
}

fn status(cluster: &Arc<Cluster>, hosts: &HostSet, by_api: bool) -> Json {
    let mut fields = vec![("name", text(&cluster.name))];
    if by_api {
        fields.push(("added_via_api", Json::Bool(true)));
    }
    fields.push(("host_statuses", Json::List(hosts.all.iter().map(|host| host_status(host)).collect())));
    let thresholds = [false, true].map(|high| {
        let limits = cluster.breakers.thresholds(high);
        let mut fields = Vec::new();
        if high {
            fields.push(("priority", text("HIGH")));
        }
        fields.push(("max_connections", Json::UInt(limits.max_connections)));
        fields.push(("max_pending_requests", Json::UInt(limits.max_pending_requests)));
        fields.push(("max_requests", Json::UInt(limits.max_requests)));
        fields.push(("max_retries", Json::UInt(limits.max_retries)));
        map(fields)
    });
    fields.push(("circuit_breakers", map(vec![("thresholds", Json::List(thresholds.into()))])));
    fields.push(("observability_name", text(&cluster.stat_name)));
    if let crate::cluster::Discovery::Eds { service_name, .. } = &cluster.discovery {
        fields.push(("eds_service_name", text(service_name)));
    }
    map(fields)
}

fn host_status(host: &Host) -> Json {
    let mut fields = vec![("address", address(&host.address))];
    let stats = SHOWN.iter().map(|(count, word)| {
        let value = host.stats.sum(*count);
        let mut fields = Vec::new();
        let gauge = word.ends_with("_active");
        if gauge {
            fields.push(("type", text("GAUGE")));
        }
        fields.push(("name", text(word)));
        if value > 0 {
            fields.push(("value", text(&value.to_string())));
        }
        map(fields)
    });
    fields.push(("stats", Json::List(stats.collect())));
    fields.push(("health_status", health(host)));
    fields.push(("weight", Json::UInt(host.weight)));
    if !host.hostname.is_empty() {
        fields.push(("hostname", text(&host.hostname)));
    }
    if host.priority > 0 {
        fields.push(("priority", Json::UInt(host.priority)));
    }
    let place = &host.locality;
    let named = [("region", &place.region), ("zone", &place.zone), ("sub_zone", &place.sub_zone)];
    let named = named.into_iter().filter(|(_, value)| !value.is_empty());
    fields.push(("locality", map(named.map(|(name, value)| (name, text(value))).collect())));
    map(fields)
}

fn health(host: &Host) -> Json {
    let configured = match host.configured {
        Health::Healthy => "HEALTHY",
        Health::Degraded => "DEGRADED",
        Health::Unhealthy => "UNHEALTHY",
    };
    let mut fields = Vec::new();
    for (set, name) in [
        (host.flags.failed_check, "failed_active_health_check"),
        (host.flags.ejected, "failed_outlier_check"),
        (host.flags.degraded_check, "failed_active_degraded_check"),
        (host.flags.pending_check, "pending_active_hc"),
    ] {
        if set {
            fields.push((name, Json::Bool(true)));
        }
    }
    fields.push(("eds_health_status", text(configured)));
    map(fields)
}
