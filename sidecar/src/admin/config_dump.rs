//! `/config_dump`: all configuration with versions, secrets left out. Source: `envoy.admin.v3.ConfigDump`.

use std::time::SystemTime;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use http::StatusCode;
use prost::{Message, Name};
use regex::Regex;
use xds::Schema;
use xds::json::{Json, Secrets, print_any};

use super::info::timestamp;
use super::{Admin, Page, json, value};
use crate::assemble::view::{Shown, View};
use crate::config::{is, unpack};

const ADMIN: &str = "type.googleapis.com/envoy.admin.v3.";

/// One list of a dump: its field, its elements' type (`None`: part of no list), and the elements with their names.
struct List {
    field: &'static str,
    kind: &'static str,
    items: Vec<(String, Json)>,
}

/// One kind of configuration: its type and its lists.
struct Section {
    kind: &'static str,
    lists: Vec<List>,
}

pub fn page(admin: &Admin, view: &View, query: Option<&str>) -> Page {
    let name_regex = match value(query, "name_regex").map(|text| Regex::new(&format!("^(?:{text})$"))).transpose() {
        Ok(regex) => regex,
        Err(error) => {
            return super::page(StatusCode::BAD_REQUEST, format!("Error while parsing name_regex from {error}"));
        }
    };
    let masks: Vec<Vec<&str>> = value(query, "mask").map_or(Vec::new(), |mask| {
        mask.split(',').filter(|path| !path.is_empty()).map(|path| path.split('.').collect()).collect()
    });
    let named = |name: &str| name_regex.as_ref().is_none_or(|regex| regex.is_match(name));
    let mut sections = sections(admin, view);
    if super::has(query, "include_eds") {
        sections.push(endpoints(view));
    }
    match value(query, "resource") {
        Some("bootstrap") => super::page(
            StatusCode::BAD_REQUEST,
            "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field",
        ),
        Some(resource) => one_list(sections, resource, &named, &masks),
        None => whole(admin, sections, &named, &masks),
    }
}

fn one_list(sections: Vec<Section>, resource: &str, named: &dyn Fn(&str) -> bool, masks: &[Vec<&str>]) -> Page {
    let Some(list) = sections.into_iter().flat_map(|s| s.lists).find(|list| list.field == resource) else {
        return super::page(StatusCode::NOT_FOUND, format!("{resource} not found in config dump"));
    };
    let items = list.items.into_iter().filter(|(name, _)| named(name));
    let items: Vec<Json> = items.map(|(_, item)| typed(list.kind, masked(item, masks))).collect();
    json(configs(items).pretty())
}

fn whole(admin: &Admin, sections: Vec<Section>, named: &dyn Fn(&str) -> bool, masks: &[Vec<&str>]) -> Page {
    let schema = Schema::shared();
    let bootstrap = admin.bootstrap.encode_to_vec();
    let bootstrap = print_any(&schema, &url::<Bootstrap>(), &bootstrap, Secrets::Redact);
    let bootstrap = Json::Map(vec![("bootstrap".to_owned(), without_type(bootstrap))]);
    let mut all = vec![typed("BootstrapConfigDump", masked(bootstrap, masks))];
    for section in sections {
        let mut fields = Vec::new();
        for list in section.lists {
            let items = list.items.into_iter().filter(|(name, _)| named(name));
            let items: Vec<Json> = items.map(|(_, item)| item).collect();
            if !items.is_empty() {
                fields.push((list.field.to_owned(), Json::List(items)));
            }
        }
        all.push(typed(section.kind, masked(Json::Map(fields), masks)));
    }
    json(configs(all).pretty())
}

fn configs(items: Vec<Json>) -> Json {
    match items.is_empty() {
        true => Json::Map(Vec::new()),
        false => Json::Map(vec![("configs".to_owned(), Json::List(items))]),
    }
}

fn typed(kind: &str, value: Json) -> Json {
    let Json::Map(fields) = value else { return value };
    let mut all = vec![("@type".to_owned(), Json::String(format!("{ADMIN}{kind}")))];
    all.extend(fields);
    Json::Map(all)
}

fn without_type(value: Json) -> Json {
    match value {
        Json::Map(fields) => Json::Map(fields.into_iter().filter(|(name, _)| name != "@type").collect()),
        other => other,
    }
}

/// Keeps only what the masks name; without masks everything.
fn masked(value: Json, masks: &[Vec<&str>]) -> Json {
    if masks.is_empty() {
        return value;
    }
    let paths: Vec<&[&str]> = masks.iter().map(Vec::as_slice).collect();
    keep(value, &paths)
}

fn keep(value: Json, paths: &[&[&str]]) -> Json {
    let Json::Map(fields) = value else { return value };
    let kept = fields.into_iter().filter_map(|(name, value)| {
        if name == "@type" {
            return Some((name, value));
        }
        let below: Vec<&[&str]> = paths.iter().filter(|p| p.first() == Some(&name.as_str())).map(|p| &p[1..]).collect();
        match below.iter().any(|rest| rest.is_empty()) {
            _ if below.is_empty() => None,
            true => Some((name, value)),
            false => Some((name, keep(value, &below))),
        }
    });
    Json::Map(kept.collect())
}

fn url<T: Name>() -> String {
    format!("type.googleapis.com/{}", T::full_name())
}

fn sections(admin: &Admin, view: &View) -> Vec<Section> {
    let resources = admin.bootstrap.static_resources.clone().unwrap_or_default();
    let clusters = Section {
        kind: "ClustersConfigDump",
        lists: vec![
            fixed(
                "static_clusters",
                "ClustersConfigDump.StaticCluster",
                "cluster",
                &resources.clusters,
                |c: &Cluster| &c.name,
            ),
            dynamic::<Cluster>(
                "dynamic_active_clusters",
                "ClustersConfigDump.DynamicCluster",
                "cluster",
                &view.clusters.active,
            ),
            dynamic::<Cluster>(
                "dynamic_warming_clusters",
                "ClustersConfigDump.DynamicCluster",
                "cluster",
                &view.clusters.warming,
            ),
        ],
    };
    let listeners = Section {
        kind: "ListenersConfigDump",
        lists: vec![
            fixed(
                "static_listeners",
                "ListenersConfigDump.StaticListener",
                "listener",
                &resources.listeners,
                |l: &Listener| &l.name,
            ),
            List {
                field: "dynamic_listeners",
                kind: "ListenersConfigDump.DynamicListener",
                items: dynamic_listeners(view),
            },
        ],
    };
    let scoped = Section {
        kind: "ScopedRoutesConfigDump",
        lists: ["inline_scoped_route_configs", "dynamic_scoped_route_configs"]
            .map(|field| List { field, kind: "ScopedRoutesConfigDump", items: Vec::new() })
            .into(),
    };
    let inline: Vec<RouteConfiguration> = resources.listeners.iter().flat_map(inline_routes).collect();
    let routes = Section {
        kind: "RoutesConfigDump",
        lists: vec![
            fixed(
                "static_route_configs",
                "RoutesConfigDump.StaticRouteConfig",
                "route_config",
                &inline,
                |r: &RouteConfiguration| &r.name,
            ),
            dynamic::<RouteConfiguration>(
                "dynamic_route_configs",
                "RoutesConfigDump.DynamicRouteConfig",
                "route_config",
                &view.routes,
            ),
        ],
    };
    let secrets = Section {
        kind: "SecretsConfigDump",
        lists: vec![
            secrets("static_secrets", "SecretsConfigDump.StaticSecret", &static_secrets(&resources.secrets)),
            secrets("dynamic_active_secrets", "SecretsConfigDump.DynamicSecret", &view.secrets),
            secrets("dynamic_warming_secrets", "SecretsConfigDump.DynamicSecret", &[]),
        ],
    };
    vec![clusters, listeners, scoped, routes, secrets]
}

fn fixed<T: Message + Name>(
    field: &'static str,
    kind: &'static str,
    inner: &str,
    all: &[T],
    name: impl Fn(&T) -> &String,
) -> List {
    let schema = Schema::shared();
    let items = all.iter().map(|resource| {
        let printed = print_any(&schema, &url::<T>(), &resource.encode_to_vec(), Secrets::Redact);
        (name(resource).clone(), Json::Map(vec![(inner.to_owned(), printed), updated(loaded())]))
    });
    List { field, kind, items: items.collect() }
}

/// The bootstrap's resources are as old as the process.
fn loaded() -> SystemTime {
    static LOADED: std::sync::OnceLock<SystemTime> = std::sync::OnceLock::new();
    *LOADED.get_or_init(SystemTime::now)
}

fn updated(at: SystemTime) -> (String, Json) {
    ("last_updated".to_owned(), Json::String(timestamp(at)))
}

fn versioned(shown: &Shown, inner: &str, printed: Json) -> Json {
    Json::Map(vec![
        ("version_info".to_owned(), Json::String(shown.version.clone())),
        (inner.to_owned(), printed),
        updated(shown.updated),
    ])
}

fn dynamic<T: Name>(field: &'static str, kind: &'static str, inner: &str, all: &[Shown]) -> List {
    let schema = Schema::shared();
    let items = all.iter().map(|shown| {
        let printed = print_any(&schema, &url::<T>(), &shown.encoded, Secrets::Redact);
        (shown.name.clone(), versioned(shown, inner, printed))
    });
    List { field, kind, items: items.collect() }
}

fn dynamic_listeners(view: &View) -> Vec<(String, Json)> {
    let schema = Schema::shared();
    let mut all: Vec<(String, Json)> = Vec::new();
    for (state, shown) in [("active_state", &view.listeners.active), ("warming_state", &view.listeners.warming)] {
        for listener in shown {
            let printed = print_any(&schema, &url::<Listener>(), &listener.encoded, Secrets::Redact);
            let entry = (state.to_owned(), versioned(listener, "listener", printed));
            match all.iter_mut().find(|(name, _)| *name == listener.name) {
                Some((_, Json::Map(fields))) => fields.push(entry),
                _ => {
                    let name = ("name".to_owned(), Json::String(listener.name.clone()));
                    all.push((listener.name.clone(), Json::Map(vec![name, entry])));
                }
            }
        }
    }
    all
}

fn inline_routes(listener: &Listener) -> Vec<RouteConfiguration> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let filters = chains.flat_map(|chain| &chain.filters);
    let managers = filters.filter_map(|filter| match &filter.config_type {
        Some(filter::ConfigType::TypedConfig(any)) if is::<HttpConnectionManager>(any) => {
            unpack::<HttpConnectionManager>(any).ok()
        }
        _ => None,
    });
    let routes = managers.filter_map(|manager| match manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(routes)) => Some(routes),
        _ => None,
    });
    routes.collect()
}

fn static_secrets(all: &[Secret]) -> Vec<Shown> {
    let shown = all.iter().map(|secret| Shown {
        name: secret.name.clone(),
        encoded: secret.encode_to_vec(),
        version: String::new(),
        updated: loaded(),
    });
    shown.collect()
}

fn secrets(field: &'static str, kind: &'static str, all: &[Shown]) -> List {
    let schema = Schema::shared();
    let items = all.iter().map(|shown| {
        let printed = print_any(&schema, &url::<Secret>(), &shown.encoded, Secrets::Redact);
        let mut fields = vec![("name".to_owned(), Json::String(shown.name.clone()))];
        if !shown.version.is_empty() {
            fields.push(("version_info".to_owned(), Json::String(shown.version.clone())));
        }
        fields.extend([updated(shown.updated), ("secret".to_owned(), printed)]);
        (shown.name.clone(), Json::Map(fields))
    });
    List { field, kind, items: items.collect() }
}

fn endpoints(view: &View) -> Section {
    let shown = |by_api: bool| {
        let clusters = view.hosts.iter().filter(|(.., api)| *api == by_api);
        let items = clusters.map(|(cluster, hosts, _)| {
            let endpoints = hosts.all.iter().map(|host| {
                let inner = Json::Map(vec![("address".to_owned(), super::info::address(&host.address))]);
                let weight = ("load_balancing_weight".to_owned(), Json::UInt(host.weight));
                Json::Map(vec![("endpoint".to_owned(), inner), weight])
            });
            let locality = Json::Map(vec![("lb_endpoints".to_owned(), Json::List(endpoints.collect()))]);
            let assignment = Json::Map(vec![
                (
                    "@type".to_owned(),
                    Json::String("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment".to_owned()),
                ),
                ("cluster_name".to_owned(), Json::String(cluster.name.to_string())),
                ("endpoints".to_owned(), Json::List(vec![locality])),
            ]);
            (cluster.name.to_string(), Json::Map(vec![("endpoint_config".to_owned(), assignment)]))
        });
        items.collect::<Vec<_>>()
    };
    Section {
        kind: "EndpointsConfigDump",
        lists: vec![
            List {
                field: "static_endpoint_configs",
                kind: "EndpointsConfigDump.StaticEndpointConfig",
                items: shown(false),
            },
            List {
                field: "dynamic_endpoint_configs",
                kind: "EndpointsConfigDump.DynamicEndpointConfig",
                items: shown(true),
            },
        ],
    }
}
