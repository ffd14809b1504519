//! What becomes of a request.

use api::routing::{Actions, HeaderChanges, PathRewrite, Redirect};
use api::traffic_policy::{Fault, HashOn, Retry, RetryOn};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{DataSource, HeaderValue, HeaderValueOption, data_source};
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HashPolicy, HostRewriteSpecifier, RequestMirrorPolicy, hash_policy,
};
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, RetryPolicy, RouteAction, WeightedCluster, retry_policy, route,
    weighted_cluster,
};
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use envoy_types::pb::google::protobuf::Duration;

use super::{any, matcher, value};
use crate::ir::{Action, Forward, Route, Weighted};

/// How often another host is drawn when the one drawn was tried before. Source: Istio's default.
const HOST_ATTEMPTS: i64 = 5;

pub(super) fn action(made_from: &Route) -> route::Action {
    match &made_from.action {
        Action::Forward(forward) => route::Action::Route(route_action(forward, &made_from.actions)),
        Action::Answer(status, body) => answer(*status, body),
        Action::RefuseEscapedSlash => answer(400, ""),
        Action::Redirect => made_from.actions.redirect.as_ref().map_or_else(|| answer(500, ""), redirect),
    }
}

fn answer(status: u16, body: &str) -> route::Action {
    let body = (!body.is_empty()).then(|| DataSource {
        specifier: Some(data_source::Specifier::InlineString(body.to_owned())),
        ..Default::default()
    });
    route::Action::DirectResponse(DirectResponseAction { status: status.into(), body, ..Default::default() })
}

fn route_action(forward: &Forward, actions: &Actions) -> RouteAction {
    let mut action = RouteAction {
        cluster_specifier: Some(clusters(&forward.clusters)),
        cluster_not_found_response_code: ClusterNotFoundResponseCode::InternalServerError.into(),
        // Envoy's own default would be 15 s.
        timeout: forward.timeout.map_or_else(|| Some(Duration::default()), value::duration),
        idle_timeout: forward.idle_timeout.and_then(value::duration),
        retry_policy: forward.retry.as_ref().map(retry),
        request_mirror_policies: forward.mirrors.iter().map(|(cluster, share)| mirror(cluster, *share)).collect(),
        hash_policy: forward.hash_on.iter().map(hash_policy).collect(),
        host_rewrite_specifier: actions.rewrite_host.clone().map(HostRewriteSpecifier::HostRewriteLiteral),
        ..Default::default()
    };
    match &actions.rewrite_path {
        None => {}
        Some(PathRewrite::Prefix(prefix)) => action.prefix_rewrite.clone_from(prefix),
        Some(PathRewrite::Full(path)) => {
            action.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(matcher::regex("^.*$".to_owned())),
                substitution: path.replace('\\', "\\\\"),
            });
        }
    }
    action
}

fn clusters(clusters: &[(Weighted, Actions)]) -> ClusterSpecifier {
    match clusters {
        [(one, actions)] if actions.is_empty() => ClusterSpecifier::Cluster(one.cluster.clone()),
        many => {
            let clusters = many.iter().map(|(one, actions)| weighted_cluster::ClusterWeight {
                name: one.cluster.clone(),
                weight: value::number(one.weight),
                request_headers_to_add: headers(&actions.request_headers),
                request_headers_to_remove: actions.request_headers.remove.clone(),
                response_headers_to_add: headers(&actions.response_headers),
                response_headers_to_remove: actions.response_headers.remove.clone(),
                host_rewrite_specifier: actions
                    .rewrite_host
                    .clone()
                    .map(weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
                ..Default::default()
            });
            ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: clusters.collect(), ..Default::default() })
        }
    }
}

/// Set, then add; what is removed is a field of its own.
pub(super) fn headers(changes: &HeaderChanges) -> Vec<HeaderValueOption> {
    let option = |(key, value): &(String, String), action: HeaderAppendAction| HeaderValueOption {
        // `%` begins a formatter's operator.
        header: Some(HeaderValue { key: key.clone(), value: value.replace('%', "%%"), ..Default::default() }),
        append_action: action.into(),
        keep_empty_value: true,
        ..Default::default()
    };
    let set = changes.set.iter().map(|pair| option(pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = changes.add.iter().map(|pair| option(pair, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}

fn retry(retry: &Retry) -> RetryPolicy {
    let mut words: Vec<&str> = Vec::new();
    let mut codes = Vec::new();
    for condition in &retry.on {
        match condition {
            RetryOn::Word(word) => words.push(word),
            RetryOn::Status(status) => codes.push(u32::from(*status)),
        }
    }
    if !codes.is_empty() {
        words.push("retriable-status-codes");
    }
    RetryPolicy {
        retry_on: words.join(","),
        num_retries: value::number(retry.attempts),
        per_try_timeout: retry.per_try_timeout.filter(|limit| !limit.is_zero()).and_then(value::duration),
        retriable_status_codes: codes,
        retry_back_off: retry.backoff.map(|backoff| retry_policy::RetryBackOff {
            base_interval: value::duration(backoff.base),
            max_interval: backoff.max.and_then(value::duration),
        }),
        retry_host_predicate: vec![retry_policy::RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(any(
                &PreviousHostsPredicate {},
            ))),
        }],
        host_selection_retry_max_attempts: HOST_ATTEMPTS,
        ..Default::default()
    }
}

/// Copies are no part of the trace.
fn mirror(cluster: &str, per_million: u32) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: cluster.to_owned(),
        runtime_fraction: value::runtime_fraction(per_million),
        trace_sampled: value::flag(false),
        ..Default::default()
    }
}

fn hash_policy(on: &HashOn) -> HashPolicy {
    let specifier = match on {
        HashOn::Header(name) => hash_policy::PolicySpecifier::Header(hash_policy::Header {
            header_name: name.clone(),
            ..Default::default()
        }),
        HashOn::Cookie(cookie) => hash_policy::PolicySpecifier::Cookie(hash_policy::Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.and_then(value::duration),
            path: cookie.ttl.map(|_| "/".to_owned()).unwrap_or_default(),
            ..Default::default()
        }),
        HashOn::Query(name) => {
            hash_policy::PolicySpecifier::QueryParameter(hash_policy::QueryParameter { name: name.clone() })
        }
        HashOn::SourceIp(source_ip) => {
            hash_policy::PolicySpecifier::ConnectionProperties(hash_policy::ConnectionProperties {
                source_ip: *source_ip,
            })
        }
    };
    HashPolicy { policy_specifier: Some(specifier), ..Default::default() }
}

/// `None` where nothing is injected.
pub(super) fn fault(fault: &Fault) -> Option<HttpFault> {
    let delay = fault.delay.map(|delay| FaultDelay {
        percentage: value::fraction(delay.percent.per_million()),
        fault_delay_secifier: value::duration(delay.duration).map(fault_delay::FaultDelaySecifier::FixedDelay),
    });
    let abort = fault.abort.map(|abort| FaultAbort {
        percentage: value::fraction(abort.percent.per_million()),
        error_type: Some(fault_abort::ErrorType::HttpStatus(abort.status.get().into())),
        ..Default::default()
    });
    (delay.is_some() || abort.is_some()).then(|| HttpFault { delay, abort, ..Default::default() })
}

fn redirect(redirect: &Redirect) -> route::Action {
    let code = match redirect.status.get() {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    route::Action::Redirect(RedirectAction {
        host_redirect: redirect.host.clone().unwrap_or_default(),
        port_redirect: redirect.port.map(u32::from).unwrap_or_default(),
        scheme_rewrite_specifier: redirect.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: redirect.path.as_ref().map(|path| match path {
            PathRewrite::Full(path) => PathRewriteSpecifier::PathRedirect(path.clone()),
            PathRewrite::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix.clone()),
        }),
        response_code: code.into(),
        ..Default::default()
    })
}
