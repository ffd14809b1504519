//! Answers of the metrics API → rows: resources with their figures, and who calls whom. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::figures::Figures;

/// A resource as the API names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Resource {
    pub(super) namespace: String,
    pub(super) kind: String,
    pub(super) name: String,
}

impl Resource {
    fn of(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Self { namespace: text("namespace"), kind: text("kind"), name: text("name") }
    }

    fn json(&self) -> Value {
        json!({"kind": self.kind, "namespace": self.namespace, "name": self.name})
    }

    fn cell(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What is listed of one kind of answer.
#[derive(Debug, PartialEq)]
pub(super) enum Rows {
    /// Resources, the busiest first.
    Top(Vec<(Resource, Figures)>),
    /// Caller, callee, and which side counted.
    Edges(Vec<(Resource, Resource, Side, Figures)>),
}

/// Whose proxy counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// The callee's.
    Server,
    /// The caller's, which knows of what never came through, too.
    Client,
}

impl Side {
    fn word(self) -> &'static str {
        if self == Self::Client { "client" } else { "server" }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// The resources of a list.
pub(super) fn resources(list: &Value) -> Vec<Resource> {
    items(list).map(|item| Resource::of(&item["resource"])).collect()
}

/// Lists of resources.
pub(super) fn top(lists: &[Value]) -> Rows {
    let item = |item: &Value| (Resource::of(&item["resource"]), Figures::of(item));
    let mut rows: Vec<(Resource, Figures)> = lists.iter().flat_map(items).map(item).collect();
    rows.sort_by_key(|(resource, figures)| (Reverse(figures.requests()), resource.clone()));
    Rows::Top(rows)
}

/// Lists of edges. Both ends tell of one that is between two of the mesh: then the caller is believed.
pub(super) fn edges(lists: &[Value]) -> Rows {
    let mut found: BTreeMap<(Resource, Resource), (Side, Figures)> = BTreeMap::new();
    for item in lists.iter().flat_map(items) {
        let (own, peer) = (Resource::of(&item["resource"]), Resource::of(&item["edge"]["resource"]));
        let (edge, side) = match item["edge"]["direction"].as_str() {
            Some("to") => ((own, peer), Side::Client),
            _ => ((peer, own), Side::Server),
        };
        if found.get(&edge).is_none_or(|(known, _)| *known <= side) {
            found.insert(edge, (side, Figures::of(item)));
        }
    }
    Rows::Edges(found.into_iter().map(|((from, to), (side, figures))| (from, to, side, figures)).collect())
}

impl Rows {
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Top(rows) => rows
                .iter()
                .map(|(resource, figures)| json!({"resource": resource.json(), "figures": figures.json()}))
                .collect(),
            Self::Edges(rows) => {
                let row = |(from, to, side, figures): &(Resource, Resource, Side, Figures)| json!({"from": from.json(), "to": to.json(), "side": side.word(), "figures": figures.json()});
                rows.iter().map(row).collect()
            }
        }
    }

    pub(super) fn table(&self) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        match self {
            Self::Top(rows) => {
                table.set_header(["NAMESPACE", "KIND", "NAME"].into_iter().chain(Figures::HEADS));
                for (resource, figures) in rows {
                    let Resource { namespace, kind, name } = resource.clone();
                    table.add_row([namespace, kind, name].into_iter().chain(figures.cells()));
                }
            }
            Self::Edges(rows) => {
                table.set_header(["FROM", "TO", "COUNTED BY"].into_iter().chain(Figures::HEADS));
                for (from, to, side, figures) in rows {
                    table.add_row([from.cell(), to.cell(), side.word().to_owned()].into_iter().chain(figures.cells()));
                }
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, direction: &str, peer: &str, success: u64) -> Value {
        let resource = |name: &str| json!({"kind": "Workload", "namespace": "shop", "name": name});
        json!({
            "resource": resource(name), "edge": {"direction": direction, "resource": resource(peer)}, "window": "30s",
            "metrics": [{"name": "success_count", "value": success.to_string()}],
        })
    }

    #[test]
    fn the_busiest_comes_first() {
        let lists = [
            json!({"items": [item("a", "from", "", 1), item("b", "from", "", 5)]}),
            json!({"items": [item("c", "from", "", 3)]}),
        ];
        let Rows::Top(rows) = top(&lists) else { panic!("no rows") };
        let names: Vec<&str> = rows.iter().map(|(resource, _)| resource.name.as_str()).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }

    #[test]
    fn an_edge_is_told_once() {
        let lists = [
            json!({"items": [item("api", "from", "web", 7)]}),
            json!({"items": [item("web", "to", "api", 8), item("web", "from", "outside", 2)]}),
        ];
        for lists in [lists.clone(), [lists[1].clone(), lists[0].clone()]] {
            let Rows::Edges(rows) = edges(&lists) else { panic!("no edges") };
            let told: Vec<(&str, &str, Side, u64)> = rows
                .iter()
                .map(|(from, to, side, f)| (from.name.as_str(), to.name.as_str(), *side, f.success))
                .collect();
            assert_eq!(told, [("outside", "web", Side::Server, 2), ("web", "api", Side::Client, 8)]);
        }
    }
}
