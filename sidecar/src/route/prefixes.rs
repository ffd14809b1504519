//! First-match order at a cost that does not grow with the table: a tree over the plain prefixes and
//! paths gives the few routes that a path can match, lowest index first.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{PathMatch, Route};

/// A virtual host's routes, findable by path.
pub struct RouteIndex {
    routes: Vec<Arc<Route>>,
    root: Node,
    /// Routes that no prefix narrows down: regexes, CONNECT, case-insensitive ones. Ascending.
    anywhere: Vec<usize>,
}

/// A node of a radix tree; the edge to it is in its parent.
#[derive(Default)]
struct Node {
    /// Routes whose prefix or path ends here. Ascending.
    routes: Vec<usize>,
    /// By the first byte of the edge: the whole edge, and where it leads.
    children: BTreeMap<u8, (Vec<u8>, Node)>,
}

type Lists<'a> = SmallVec<[&'a [usize]; 8]>;

impl RouteIndex {
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let mut index = RouteIndex { routes: Vec::new(), root: Node::default(), anywhere: Vec::new() };
        for (i, route) in routes.iter().enumerate() {
            match &route.path {
                PathMatch::Prefix(path) | PathMatch::Exact(path) | PathMatch::SeparatedPrefix(path)
                    if route.case_sensitive =>
                {
                    index.root.insert(path.as_bytes(), i);
                }
                _ => index.anywhere.push(i),
            }
        }
        index.routes = routes;
        index
    }

    /// The first route in order that `matches`.
    pub fn first(&self, path: &str, matches: impl Fn(&Route) -> bool) -> Option<&Arc<Route>> {
        let mut lists = Lists::new();
        if !self.anywhere.is_empty() {
            lists.push(&self.anywhere);
        }
        self.root.walk(path.as_bytes(), &mut lists);
        loop {
            let (index, at) = lists.iter().enumerate().filter_map(|(at, list)| Some((*list.first()?, at))).min()?;
            let route = self.routes.get(index)?;
            if matches(route) {
                return Some(route);
            }
            let list = lists.get_mut(at)?;
            *list = list.get(1..)?;
        }
    }
}

impl Node {
    fn insert(&mut self, key: &[u8], route: usize) {
        let Some(first) = key.first() else {
            self.routes.push(route);
            return;
        };
        let (edge, child) = self.children.entry(*first).or_insert_with(|| (key.to_vec(), Node::default()));
        let common = edge.iter().zip(key).take_while(|(a, b)| a == b).count();
        if common < edge.len() {
            let rest = edge.split_off(common);
            let below = std::mem::take(child);
            if let Some(byte) = rest.first().copied() {
                child.children.insert(byte, (rest, below));
            }
        }
        child.insert(key.get(common..).unwrap_or_default(), route);
    }

    fn walk<'a>(&'a self, path: &[u8], lists: &mut Lists<'a>) {
        let (mut node, mut rest) = (self, path);
        loop {
            if !node.routes.is_empty() {
                lists.push(&node.routes);
            }
            let Some((edge, child)) = rest.first().and_then(|byte| node.children.get(byte)) else { return };
            let Some(below) = rest.strip_prefix(edge.as_slice()) else { return };
            (node, rest) = (child, below);
        }
    }
}
