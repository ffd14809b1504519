//! Parts of a cluster's hosts, chosen by what a route says and what the hosts' metadata say (`envoy.lb`). Pure.
//! Source: `Cluster.LbSubsetConfig`, Envoy's `SubsetLoadBalancer`.

pub mod config;

use std::collections::BTreeMap;

use serde_json::Value;

use super::Host;
use crate::observe::stats::Counter;
use crate::stream::Metadata;

const NAMESPACE: &str = "envoy.lb";

/// What happens where no host fits. Source: `LbSubsetFallbackPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    None,
    Any,
    DefaultSubset,
}

/// A set of keys by which hosts are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Sorted.
    pub keys: Vec<String>,
    /// `None`: the cluster's.
    pub fallback: Option<Fallback>,
}

/// A cluster's subsets.
pub struct Subsets {
    pub fallback: Fallback,
    pub default_subset: Criteria,
    pub selectors: Vec<Selector>,
    pub selected: Counter,
    pub fallen_back: Counter,
}

/// What hosts must say of themselves.
pub type Criteria = BTreeMap<String, Value>;

/// The hosts to choose from.
#[derive(Debug, PartialEq)]
pub enum Choice {
    All,
    Of(Criteria),
    Nobody,
}

/// Does the host belong to the subset?
pub fn fits(host: &Host, criteria: &Criteria) -> bool {
    let own = host.metadata.get(NAMESPACE);
    criteria.iter().all(|(key, value)| own.and_then(|own| own.get(key)) == Some(value))
}

impl Subsets {
    /// `wanted` is the route's metadata; `any` says whether a subset has hosts.
    pub fn choose(&self, wanted: Option<&Metadata>, any: impl Fn(&Criteria) -> bool) -> Choice {
        let criteria: Criteria = wanted
            .and_then(|metadata| metadata.get(NAMESPACE)?.as_object())
            .map(|fields| fields.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
            .unwrap_or_default();
        let selector = self.selectors.iter().find(|s| !criteria.is_empty() && s.keys.iter().eq(criteria.keys()));
        if selector.is_some() && any(&criteria) {
            self.selected.inc();
            return Choice::Of(criteria);
        }
        match selector.and_then(|s| s.fallback).unwrap_or(self.fallback) {
            Fallback::None => Choice::Nobody,
            Fallback::Any => {
                self.fallen_back.inc();
                Choice::All
            }
            Fallback::DefaultSubset => {
                self.fallen_back.inc();
                Choice::Of(self.default_subset.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::stats::Scope;
    use serde_json::json;

    #[test]
    fn routes_choose_subsets() {
        let scope = Scope::cluster("subset-test");
        let criteria = |pairs: &[(&str, &str)]| -> Criteria {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
        };
        let mut subsets = Subsets {
            fallback: Fallback::None,
            default_subset: criteria(&[("version", "2")]),
            selectors: vec![Selector { keys: vec!["version".to_owned()], fallback: None }],
            selected: scope.counter("lb_subsets_selected"),
            fallen_back: scope.counter("lb_subsets_fallback"),
        };
        let route = |value: Value| -> Metadata { [(NAMESPACE.to_owned(), value)].into() };
        let check = |subsets: &Subsets, wanted: Value, expected: Choice| {
            let got = subsets.choose(Some(&route(wanted)), |c| c.get("version") != Some(&json!("9")));
            assert_eq!(got, expected);
        };
        check(&subsets, json!({"version": "1"}), Choice::Of(criteria(&[("version", "1")])));
        check(&subsets, json!({"version": "9"}), Choice::Nobody);
        check(&subsets, json!({"stage": "prod"}), Choice::Nobody);
        subsets.fallback = Fallback::DefaultSubset;
        check(&subsets, json!({"version": "9"}), Choice::Of(criteria(&[("version", "2")])));
        subsets.fallback = Fallback::Any;
        check(&subsets, json!({}), Choice::All);
    }
}
