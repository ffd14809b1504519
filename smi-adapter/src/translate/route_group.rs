//! `HTTPRouteGroup`: matches → request matches. A match whose regular expression is none is left out: it accepts nothing.

use std::collections::BTreeSet;

use api::mesh_config::PathRegex;
use api::routing::{HeaderMatch, PathMatch, RequestMatch, TextMatch};
use api::smi::specs::HttpMatch;
use api::smi::split::GroupRef;
use api::smi::{HttpRouteGroup, RouteKind};
use api::{FieldPath, Key, Kind, ObjectRef, Objects, Problem, Reason, check, pattern};

/// The requests that any match of any of `groups` accepts. `object` refers to them, in its field `field`, a list.
#[must_use]
pub fn group_matches(
    groups: &[GroupRef],
    object: &ObjectRef,
    field: &FieldPath,
    objects: &Objects,
    path_regex: PathRegex,
) -> (Vec<RequestMatch>, Vec<Problem>) {
    let mut matches = Vec::new();
    let mut problems = Vec::new();
    for (n, group) in groups.iter().enumerate() {
        let field = || field.clone().index(n);
        if group.kind != RouteKind::HttpRouteGroup {
            let message = format!("only an HTTPRouteGroup can be named here, not a {}", group.kind.as_str());
            problems.push(Problem::new(Reason::InvalidValue, object.clone(), message).at(field().key("kind")));
            continue;
        }
        match objects.http_route_groups.get(&Key::new(object.namespace.clone(), group.name.clone())) {
            Some(found) => matches.extend(all(found, path_regex)),
            None => problems.push(missing(RouteKind::HttpRouteGroup, &group.name, object, field().key("name"))),
        }
    }
    (matches, problems)
}

/// A reference to a route that does not exist.
pub(super) fn missing(kind: RouteKind, name: &str, object: &ObjectRef, field: FieldPath) -> Problem {
    let message = format!("{} `{name}` does not exist in namespace `{}`", kind.as_str(), object.namespace);
    Problem::new(Reason::MissingReference, object.clone(), message).at(field)
}

/// The requests that any match of the group accepts.
pub(super) fn all(group: &HttpRouteGroup, path_regex: PathRegex) -> Vec<RequestMatch> {
    group.spec.matches.iter().filter_map(|one| request_match(one, path_regex)).collect()
}

/// The requests that the group's matches of this name accept; `None` when there is no such match.
pub(super) fn named(group: &HttpRouteGroup, name: &str, path_regex: PathRegex) -> Option<Vec<RequestMatch>> {
    let mut found = group.spec.matches.iter().filter(|one| one.name == name).peekable();
    found.peek()?;
    Some(found.filter_map(|one| request_match(one, path_regex)).collect())
}

/// `None` when a regular expression or a header's name is none.
fn request_match(one: &HttpMatch, path_regex: PathRegex) -> Option<RequestMatch> {
    let path = match &one.path_regex {
        Some(regex) => Some(PathMatch::Regex(whole(regex, path_regex)?)),
        None => None,
    };
    let methods = if one.any_method() { BTreeSet::new() } else { one.methods.iter().cloned().collect() };
    let header = |(name, regex): (&str, &str)| {
        let name = check::header_name(name)?;
        Some(HeaderMatch { name, value: TextMatch::Regex(whole(regex, path_regex)?) })
    };
    let headers = one.headers.iter().map(header).collect::<Option<Vec<_>>>()?;
    Some(RequestMatch { path, methods, headers, query: Vec::new() })
}

/// The regular expression that must match a whole text for `regex` to mean what `reading` says.
fn whole(regex: &str, reading: PathRegex) -> Option<String> {
    pattern::compile(regex).ok()?;
    Some(match reading {
        PathRegex::Full => regex.to_owned(),
        PathRegex::Prefix => format!("(?:{regex}).*"),
    })
}

/// Points at the regular expressions that mean something else when only their beginning is anchored, as the specification's
/// text reads. For `outrigger analyze`.
#[must_use]
pub fn reading_hints(objects: &Objects, reading: PathRegex) -> Vec<Problem> {
    let mut hints = Vec::new();
    for (key, group) in &objects.http_route_groups {
        let object = ObjectRef::new(Kind::HttpRouteGroup, key);
        for (n, one) in group.spec.matches.iter().enumerate() {
            let field = || FieldPath::spec().key("matches").index(n);
            let path = one.path_regex.as_deref().map(|regex| (regex, "path", field().key("pathRegex")));
            let headers = one.headers.iter().map(|(name, regex)| (regex, "value", field().key("headers").key(name)));
            let differing = path.into_iter().chain(headers).filter(|(regex, ..)| differs(regex));
            hints.extend(differing.map(|(regex, what, field)| hint(regex, what, reading, object.clone()).at(field)));
        }
    }
    hints
}

fn hint(regex: &str, what: &str, reading: PathRegex, object: ObjectRef) -> Problem {
    let one = if branches(regex).len() > 1 { format!("({regex})") } else { regex.to_owned() };
    let (message, help) = match reading {
        PathRegex::Full => (
            format!("`{regex}` must match the whole {what} here; the specification's text anchors only its beginning"),
            format!("write `{one}.*` if longer {what}s are meant, or set `smi: {{pathRegex: prefix}}` in MeshConfig"),
        ),
        PathRegex::Prefix => (
            format!("`{regex}` matches every {what} that begins so; other meshes ask for the whole {what}"),
            format!("write `{one}$` if only the whole {what} is meant"),
        ),
    };
    Problem::new(Reason::PathRegex, object, message).help(help)
}

/// Whether some text begins with a match of `regex` and yet is not one. Errs on the side of saying so.
fn differs(regex: &str) -> bool {
    pattern::compile(regex).is_ok() && !branches(regex).iter().all(|branch| open_ended(branch))
}

/// Whether whatever follows a match of this branch would be matched too, or nothing can follow.
fn open_ended(branch: &str) -> bool {
    let inner = branch.strip_prefix('(').and_then(|b| b.strip_suffix(')')).filter(|inner| balanced(inner));
    if let Some(inner) = inner {
        let inner = inner.strip_prefix("?:").unwrap_or(inner);
        return branches(inner).iter().all(|branch| open_ended(branch));
    }
    let ending = ["$", ".*", ".+"].into_iter().find_map(|end| branch.strip_suffix(end));
    ending.is_some_and(|before| before.chars().rev().take_while(|c| *c == '\\').count().is_multiple_of(2))
}

/// Whether no parenthesis closes what was opened before.
fn balanced(regex: &str) -> bool {
    let mut depth = 0_i32;
    let mut low = 0;
    walk(regex, |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        low = low.min(depth);
    });
    low == 0 && depth == 0
}

/// The alternatives of a regular expression, at its outermost level.
fn branches(regex: &str) -> Vec<&str> {
    let (mut depth, mut at, mut cuts) = (0_i32, 0, vec![0]);
    walk_indices(regex, |index, c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if c == '|' && depth == 0 {
            cuts.push(index + 1);
        }
    });
    cuts.push(regex.len() + 1);
    let mut found = Vec::new();
    for end in cuts.into_iter().skip(1) {
        found.extend(regex.get(at..end - 1));
        at = end;
    }
    found
}

fn walk(regex: &str, mut see: impl FnMut(char)) {
    walk_indices(regex, |_, c| see(c));
}

/// Every character that is neither escaped nor within a class.
fn walk_indices(regex: &str, mut see: impl FnMut(usize, char)) {
    let (mut escaped, mut class) = (false, false);
    for (index, c) in regex.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            _ if class => {}
            c => see(index, c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_where_the_readings_differ() {
        let same = ["", "/.*", ".*", "/a$", "/a/.+", "/a.*|/b.*", "(/a.*|/b$)", "(?:/a|/b).*"];
        for regex in same.into_iter().skip(1) {
            assert!(!differs(regex), "{regex}");
        }
        for regex in ["/metrics", "/a.*|/b", "(/a.*|/b)", r"/a\.*", "/[a-z]+", "(/a.*)(/b)", "[|].*|x", ""] {
            assert!(differs(regex), "{regex}");
        }
    }
}
